package vfs

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// Shared subtrees (mount_namespaces(7)): what is mounted or unmounted on a shared mount happens on all of its peers, and on
// the slaves of their group, too. All of this is guarded by mountMu.

// peerGroup is the mounts that share events. Its slaves get them without giving any back.
type peerGroup struct {
	id     int64
	peers  []*Mount
	slaves []*Mount
}

// share makes the mount shared, alone in its group unless it is shared already.
func (m *Mount) share() {
	if m.group == nil {
		(&peerGroup{id: takeGroupID()}).join(m)
	}
}

// groupIDs are the numbers in use; none below groupIDFree is free. New groups get the lowest free one, as on Linux.
var (
	groupIDs    = map[int64]bool{}
	groupIDFree = int64(1)
)

func takeGroupID() int64 {
	for groupIDs[groupIDFree] {
		groupIDFree++
	}
	groupIDs[groupIDFree] = true
	return groupIDFree
}

func dropGroupID(id int64) {
	delete(groupIDs, id)
	groupIDFree = min(groupIDFree, id)
}

func (g *peerGroup) join(m *Mount) {
	m.group = g
	g.peers = append(g.peers, m)
}

func without(list []*Mount, m *Mount) []*Mount {
	return slices.DeleteFunc(list, func(x *Mount) bool { return x == m })
}

// enslave makes the mount a slave of g, or of nothing.
func (m *Mount) enslave(g *peerGroup) {
	if m.master != nil {
		m.master.slaves = without(m.master.slaves, m)
	}
	if m.master = g; g != nil {
		g.slaves = append(g.slaves, m)
	}
}

// unshare takes the mount out of its group and makes it a slave of it. The slaves of a group without peers go to
// the group's own master.
func (m *Mount) unshare() {
	g := m.group
	if g == nil {
		return
	}
	m.group = nil
	if g.peers = without(g.peers, m); len(g.peers) > 0 {
		m.enslave(g)
		return
	}
	for _, s := range slices.Clone(g.slaves) {
		s.enslave(m.master)
	}
	dropGroupID(g.id)
}

// isolate makes the mount private.
func (m *Mount) isolate() {
	m.unshare()
	m.enslave(nil)
}

// like gives a new mount the relations of the one that it is a copy of.
func (m *Mount) like(o *Mount) {
	if o.group != nil {
		o.group.join(m)
	}
	m.enslave(o.master)
}

// propagation is the mount's relations as mountinfo tells them.
func (m *Mount) propagation() string {
	var tags []string
	if m.group != nil {
		tags = append(tags, "shared:"+strconv.FormatInt(m.group.id, 10))
	}
	if m.master != nil {
		tags = append(tags, "master:"+strconv.FormatInt(m.master.id, 10))
	}
	if m.unbindable {
		tags = append(tags, "unbindable")
	}
	return strings.Join(tags, " ")
}

// receivers are all mounts, besides m, on which happens what happens on m.
func (m *Mount) receivers() (list []*Mount) {
	seen := map[*peerGroup]bool{}
	var visit func(g *peerGroup)
	visit = func(g *peerGroup) {
		if g == nil || seen[g] {
			return
		}
		seen[g] = true
		for _, p := range g.peers {
			if p != m {
				list = append(list, p)
			}
		}
		for _, s := range g.slaves {
			if s.group == nil {
				list = append(list, s)
			} else {
				visit(s.group)
			}
		}
	}
	visit(m.group)
	return list
}

// copied is a copy of a tree of mounts that is to be mounted at a place.
type copied struct {
	top *Mount
	at  Path
}

// propagate makes the copies of the tree m that go elsewhere when it is mounted at p: none unless that is shared. m then
// becomes shared, too. ENOSPC if a name space would have too many mounts, ENOMEM if the kernel may not hold more; the list is
// of those that were made before.
func (m *Mount) propagate(p Path) (list []copied, err error) {
	tree := m.subtree()
	more := map[*Namespace]int{p.Mount.ns: len(tree)} // what comes to each
	full := func(n *Namespace) error {
		switch {
		case len(n.mounts)+more[n] > maxMounts:
			return unix.ENOSPC
		case kmem.Full():
			return unix.ENOMEM
		}
		return nil
	}
	if err := full(p.Mount.ns); err != nil || p.Mount.group == nil {
		return nil, err
	}
	for _, k := range tree {
		k.share()
	}
	// visit copies src, which is mounted on a peer of g or stands for what would be, for all peers but one and all slaves.
	var visit func(g *peerGroup, src, but *Mount)
	add := func(t, src *Mount, relate func(c, o *Mount)) *Mount {
		if err != nil || t.ns == nil || !t.root.isAncestor(p.Dentry) {
			return nil
		}
		c, copies := src.copyTree(src.root, copyBindable)
		more[t.ns] += len(copies)
		err = full(t.ns)
		for o, n := range copies {
			relate(n, o)
		}
		list = append(list, copied{c, Path{t, p.Dentry}})
		return c
	}
	visit = func(g *peerGroup, src, but *Mount) {
		for _, t := range slices.Clone(g.peers) {
			if t != but {
				add(t, src, (*Mount).like)
			}
		}
		done := map[*peerGroup]bool{}
		for _, t := range slices.Clone(g.slaves) {
			h := t.group
			switch {
			case h == nil:
				add(t, src, func(c, o *Mount) { c.enslave(o.group) })
			case !done[h]:
				if c := add(t, src, func(c, o *Mount) { c.enslave(o.group); c.share() }); c != nil {
					done[h] = true
					visit(h, c, t)
				}
			}
		}
	}
	visit(p.Mount.group, m, p.Mount)
	return list, err
}

// beneath mounts m at p. What is mounted there already comes on top of it.
func (m *Mount) beneath(p Path) (drop *Dentry) {
	top := p.Mount.kids[p.Dentry]
	if top != nil {
		drop = top.detach()
	}
	m.attach(p)
	if top != nil {
		top.attach(Path{m, m.root})
	}
	return drop
}

// counterparts are the mounts that go when m, which is mounted, is unmounted: those that came with it by propagation, unless
// something else is mounted on them meanwhile that gone does not have.
func (m *Mount) counterparts(gone map[*Mount]bool) (list []*Mount) {
	if m.parent == nil {
		return nil
	}
	for _, t := range m.parent.receivers() {
		k := t.kids[m.point]
		if k == nil || k.sb != m.sb || k.root != m.root || gone[k] {
			continue
		}
		busy := false
		for d, x := range k.kids {
			busy = busy || d != k.root && !gone[x]
		}
		if !busy {
			list = append(list, k)
		}
	}
	return list
}

// setKind is mount(2) with one of MS_SHARED, MS_PRIVATE, MS_SLAVE and MS_UNBINDABLE.
func (m *Mount) setKind(kind uint64) {
	m.unbindable = kind == unix.MS_UNBINDABLE
	switch kind {
	case unix.MS_SHARED:
		m.share()
	case unix.MS_SLAVE:
		m.unshare()
	default:
		m.isolate()
	}
}
