package vfs

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

const (
	// mountFlags are the MS_* flags that each mount has for itself, superFlags those of the file system.
	mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME |
		unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_NOSYMFOLLOW
	superFlags = unix.MS_RDONLY | unix.MS_SYNCHRONOUS | unix.MS_MANDLOCK | unix.MS_DIRSYNC | unix.MS_LAZYTIME

	maxMounts = 100000 // per name space, as /proc/sys/fs/mount-max
)

// mountMu guards the shape of all mount trees: parent, point, kids, ns of all mounts and the lists of all name spaces.
var mountMu sync.RWMutex

var nextMountID, nextNamespace atomic.Int64

// Mount is a mounted file system, or a part of one, at one place.
type Mount struct {
	id     int    // immutable
	sb     *super // immutable
	root   *Dentry
	source string
	flags  atomic.Uint64 // MS_* of mountFlags
	// refs counts the paths that lead into the mount; it is deadRefs when the mount is gone.
	refs atomic.Int64
	// writers counts files open for writing through it.
	writers atomic.Int32
	// bind marks a bind mount; set before it is mounted.
	bind bool
	// expiring is set by MNT_EXPIRE and cleared by use.
	expiring atomic.Bool

	// Guarded by mountMu.
	parent *Mount
	point  *Dentry
	kids   map[*Dentry]*Mount
	ns     *Namespace // nil after umount
	// Propagation: the group of a shared mount, and the group of whose events a slave hears.
	group, master *peerGroup
	unbindable    bool
}

// Super is the mounted file system.
func (m *Mount) Super() SuperBlock { return m.sb.sb }

// Flags are the mount's MS_* flags, those of the file system included.
func (m *Mount) Flags() uint64 { return m.flags.Load() | m.sb.allFlags() }

// ID is the mount's number in mountinfo and statx.
func (m *Mount) ID() int { return m.id }

// Readonly reports whether nothing can be written through the mount.
func (m *Mount) Readonly() bool { return m.Flags()&unix.MS_RDONLY != 0 }

// mountCost is about what a mount takes, in bytes.
const mountCost = 1 << 10

// newMount makes a mount of a part of a file system; it takes over a hold of sb.
func newMount(sb *super, root *Dentry, source string, flags uint64) *Mount {
	kmem.Add(mountCost)
	m := &Mount{id: int(nextMountID.Add(1)), sb: sb, root: root.get(), source: source}
	m.flags.Store(flags & mountFlags)
	return m
}

// finish releases what a mount holds after it has died.
func (m *Mount) finish() {
	kmem.Add(-mountCost)
	m.root.put()
	m.sb.release()
}

func (m *Mount) tryGet() bool {
	if m.refs.Add(1) > 0 {
		return true
	}
	m.refs.Add(-1)
	return false
}

func (m *Mount) put() {
	if m.refs.Add(-1) != 0 {
		return
	}
	mountMu.RLock()
	attached := m.ns != nil
	mountMu.RUnlock()
	if !attached && m.refs.CompareAndSwap(0, deadRefs) {
		m.finish()
	}
}

// Path is a place in the tree: a dentry seen through a mount.
type Path struct {
	Mount  *Mount
	Dentry *Dentry
}

// tryGet takes references unless the place has gone away meanwhile.
func (p Path) tryGet() bool {
	if p.Mount != nil && !p.Mount.tryGet() {
		return false
	}
	if !p.Dentry.tryGet() {
		if p.Mount != nil {
			p.Mount.put()
		}
		return false
	}
	return true
}

// Get takes a reference to a path that the caller holds already.
func (p Path) Get() Path {
	if p.Mount != nil {
		p.Mount.refs.Add(1)
	}
	if p.Dentry != nil {
		p.Dentry.get()
	}
	return p
}

// Put drops a reference that Get or Lookup took.
func (p Path) Put() {
	if p.Dentry != nil {
		p.Dentry.put()
	}
	if p.Mount != nil {
		p.Mount.put()
	}
}

// Inode is the file at the path.
func (p Path) Inode() Inode { return p.Dentry.inode }

// over goes from a place to the root of what is mounted on it.
func (p Path) over() Path {
	for p.Dentry.mounts.Load() > 0 {
		mountMu.RLock()
		m := p.Mount.kids[p.Dentry]
		mountMu.RUnlock()
		if m == nil {
			break
		}
		p = Path{m, m.root}
	}
	return p
}

// under goes from the root of a mount to the place that it is mounted on.
func (p Path) under() (Path, bool) {
	mountMu.RLock()
	defer mountMu.RUnlock()
	if p.Mount.parent == nil {
		return p, false
	}
	return Path{p.Mount.parent, p.Mount.point}, true
}

// Attr is what stat(2) tells about the file at the path.
func (p Path) Attr() Attr {
	a := p.Dentry.inode.Attr()
	a.Dev = p.Dentry.sb.sb.Dev()
	return a
}

// Namespace is a mount name space: a tree of mounts.
type Namespace struct {
	id     int64
	copied bool
	// Changed is notified when the tree changes, for poll on /proc/<pid>/mounts.
	Changed wait.Queue
	seq     atomic.Uint64

	// Guarded by mountMu.
	root   *Mount
	mounts []*Mount // in the order of mounting

	usersMu sync.Mutex
	users   map[*FSContext]struct{}
}

// NewNamespace makes a name space with sb as its root. flags are MS_*.
func NewNamespace(sb SuperBlock, source string, flags uint64) *Namespace {
	if flags&unix.MS_NOATIME == 0 {
		flags |= unix.MS_RELATIME
	}
	s := holdSuper(sb, flags)
	n := &Namespace{id: nextNamespace.Add(1), users: make(map[*FSContext]struct{})}
	m := newMount(s, s.root, source, flags)
	mountMu.Lock()
	n.root = m
	n.add(m)
	mountMu.Unlock()
	return n
}

// Root is the root of the tree, without a reference. What is mounted on it comes first.
func (n *Namespace) Root() Path {
	mountMu.RLock()
	p := Path{n.root, n.root.root}
	mountMu.RUnlock()
	return p.over()
}

// Seq changes whenever the tree changes.
func (n *Namespace) Seq() uint64 { return n.seq.Load() }

// ID is the inode number of /proc/<pid>/ns/mnt, counted from 1.
func (n *Namespace) ID() int64 { return n.id }

// add puts m on the list. The caller holds mountMu.
func (n *Namespace) add(m *Mount) {
	m.ns = n
	n.mounts = append(n.mounts, m)
	n.changed()
}

func (n *Namespace) remove(m *Mount) {
	if i := slices.Index(n.mounts, m); i >= 0 {
		n.mounts = slices.Delete(n.mounts, i, i+1)
	}
	m.ns = nil
	m.isolate()
	n.changed()
}

func (n *Namespace) changed() {
	n.seq.Add(1)
	renameSeq.Add(1)
	n.Changed.Notify(wait.Pri | wait.Err)
}

// attach mounts m on p, which is not mounted on. The caller holds mountMu.
func (m *Mount) attach(p Path) {
	m.parent, m.point = p.Mount, p.Dentry.get()
	if p.Mount.kids == nil {
		p.Mount.kids = make(map[*Dentry]*Mount)
	}
	p.Mount.kids[p.Dentry] = m
	p.Dentry.mounts.Add(1)
	p.Dentry.pin()
}

// detach takes m from the place that it is mounted on and returns the dentry to put. The caller holds mountMu.
func (m *Mount) detach() *Dentry {
	d := m.point
	if m.parent != nil {
		delete(m.parent.kids, d)
		if d.mounts.Add(-1) == 0 {
			d.unpin()
		}
	}
	m.parent, m.point = nil, nil
	return d
}

// pin keeps a dentry of a NoDcache file system findable while something is mounted on it.
func (d *Dentry) pin() {
	for p := d.parent.Load(); d.has(dUncached) && p != d; d, p = p, p.parent.Load() {
		p.hash(d)
	}
}

func (d *Dentry) unpin() {
	for p := d.parent.Load(); d.has(dUncached) && p != d; d, p = p, p.parent.Load() {
		d.kidsMu.RLock()
		busy := len(d.kids) > 0
		d.kidsMu.RUnlock()
		if busy || d.mounts.Load() > 0 {
			return
		}
		p.unhash(d)
	}
}

// subtree lists m and everything mounted below it, parents first. The caller holds mountMu.
func (m *Mount) subtree() []*Mount {
	all := []*Mount{m}
	for i := 0; i < len(all); i++ {
		kids := make([]*Mount, 0, len(all[i].kids))
		for _, k := range all[i].kids {
			kids = append(kids, k)
		}
		slices.SortFunc(kids, func(a, b *Mount) int { return a.id - b.id })
		all = append(all, kids...)
	}
	return all
}

// How much copyTree copies.
type copyMode int

const (
	copyOne      copyMode = iota // the mount only
	copyBindable                 // what is below, too, unless it is unbindable
	copyAll                      // everything below
)

// copyTree copies m from root on, with what is mounted below as mode says. The copies belong to no name space and no peer
// group yet; the map tells which is which. The caller holds mountMu.
func (m *Mount) copyTree(root *Dentry, mode copyMode) (*Mount, map[*Mount]*Mount) {
	one := func(o *Mount, root *Dentry) *Mount {
		o.sb.hold()
		return newMount(o.sb, root, o.source, o.flags.Load())
	}
	top := one(m, root)
	copies := map[*Mount]*Mount{m: top}
	if mode == copyOne {
		return top, copies
	}
	for _, o := range m.subtree()[1:] {
		parent := copies[o.parent]
		if parent == nil || o.parent == m && !root.isAncestor(o.point) || o.unbindable && mode == copyBindable {
			continue
		}
		n := one(o, o.root)
		n.attach(Path{parent, o.point})
		copies[o] = n
	}
	return top, copies
}

// Clone copies the name space for CLONE_NEWNS; fs, which belongs to the new process alone, moves into it.
func (n *Namespace) Clone(fs *FSContext) *Namespace {
	nn := &Namespace{id: nextNamespace.Add(1), copied: true, users: make(map[*FSContext]struct{})}
	mountMu.Lock()
	root, copies := n.root.copyTree(n.root.root, copyAll)
	nn.root = root
	for o, c := range copies {
		c.like(o)
		c.unbindable = o.unbindable
	}
	for _, m := range root.subtree() {
		nn.add(m)
	}
	mountMu.Unlock()
	if fs != nil {
		fs.enter(nn, copies)
	}
	return nn
}

// Copied tells whether it is not the first one but a copy of another (CLONE_NEWNS).
func (n *Namespace) Copied() bool { return n.copied }

// Release ends a name space that no process uses: everything is unmounted.
func (n *Namespace) Release() {
	mountMu.Lock()
	gone := n.dissolve(n.root)
	mountMu.Unlock()
	gone.finish()
}

// dissolved is what is left to be released without the lock.
type dissolved struct {
	mounts []*Mount
	points []*Dentry
}

// dissolve takes a tree of mounts apart. The caller holds mountMu.
func (n *Namespace) dissolve(m *Mount) dissolved {
	var g dissolved
	all := m.subtree()
	slices.Reverse(all)
	for _, k := range all {
		if d := k.detach(); d != nil {
			g.points = append(g.points, d)
		}
		if k.ns != nil {
			n.remove(k)
		}
		g.bury(k)
	}
	return g
}

// bury takes a mount that is detached and that nobody uses; one that is used goes when it is put.
func (g *dissolved) bury(m *Mount) {
	if m.refs.CompareAndSwap(0, deadRefs) {
		g.mounts = append(g.mounts, m)
	}
}

// take takes a mount out of its tree. What is mounted on its root comes to its place; nothing else is mounted on it.
func (g *dissolved) take(m *Mount) {
	at := Path{m.parent, m.point}
	top := m.kids[m.root]
	if top != nil {
		g.points = append(g.points, top.detach())
	}
	g.points = append(g.points, m.detach())
	if top != nil {
		top.attach(at)
	}
	if m.ns != nil {
		m.ns.remove(m)
	}
	g.bury(m)
}

// discard gives up copies that were never mounted. The caller holds mountMu.
func (g *dissolved) discard(top *Mount) {
	for _, k := range top.subtree() {
		if d := k.detach(); d != nil {
			g.points = append(g.points, d)
		}
		k.isolate()
		g.mounts = append(g.mounts, k)
	}
}

func (g *dissolved) finish() {
	for _, d := range g.points {
		d.put()
	}
	for _, m := range g.mounts {
		m.finish()
	}
}

// MountInfo is a line of /proc/<pid>/mountinfo and mounts, not escaped.
type MountInfo struct {
	ID, ParentID int
	Dev          uint64
	Root, Point  string
	// Options are the mount's ("rw,nosuid,relatime"), SuperOptions the file system's ("rw,size=64k").
	Options, SuperOptions string
	Type, Source          string
	Propagation           string // "shared:1 master:2", "unbindable", or ""
}

// Mounts lists the mounts that can be seen from root, in the order of mounting.
func (n *Namespace) Mounts(root Path) []MountInfo {
	mountMu.RLock()
	list := slices.Clone(n.mounts)
	parents := make([]int, len(list))
	relations := make([]string, len(list))
	for i, m := range list {
		parents[i], relations[i] = m.id, m.propagation()
		if m.parent != nil {
			parents[i] = m.parent.id
		}
	}
	mountMu.RUnlock()
	var out []MountInfo
	for i, m := range list {
		point, reach := pathString(root, Path{m, m.root}, true)
		if reach != pathReachable {
			continue
		}
		inRoot, _ := pathString(Path{}, Path{nil, m.root}, true)
		info := MountInfo{
			ID: m.id, ParentID: parents[i], Dev: m.sb.sb.Dev(), Root: inRoot, Point: point,
			Options: mountOptions(m.flags.Load()), SuperOptions: superOptions(m.sb.allFlags()) + m.sb.sb.Options(),
			Type: m.sb.sb.Type().Name, Source: m.source, Propagation: relations[i],
		}
		if info.Source == "" {
			info.Source = "none"
		}
		out = append(out, info)
	}
	return out
}

// AllOptions is the options column of /proc/mounts.
func (m *MountInfo) AllOptions() string {
	mo, so := m.Options[2:], m.SuperOptions[2:]
	rw := "rw"
	if m.Options[:2] == "ro" || m.SuperOptions[:2] == "ro" {
		rw = "ro"
	}
	// Flags of the super block come before those of the mount, its other options after.
	return rw + superFlagPrefix(so) + mo + so[len(superFlagPrefix(so)):]
}

func superFlagPrefix(so string) string {
	n := 0
	for _, f := range []string{",sync", ",dirsync", ",mand", ",lazytime"} {
		if rest := so[n:]; strings.HasPrefix(rest, f) && (len(rest) == len(f) || rest[len(f)] == ',') {
			n += len(f)
		}
	}
	return so[:n]
}

type flagName struct {
	flag uint64
	name string
}

func flagString(fl uint64, names []flagName) string {
	s := "rw"
	if fl&unix.MS_RDONLY != 0 {
		s = "ro"
	}
	for _, n := range names {
		if fl&n.flag != 0 {
			s += "," + n.name
		}
	}
	return s
}

func mountOptions(fl uint64) string {
	return flagString(fl, []flagName{{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
		{unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"},
		{unix.MS_NOSYMFOLLOW, "nosymfollow"}})
}

func superOptions(fl uint64) string {
	return flagString(fl, []flagName{{unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_DIRSYNC, "dirsync"},
		{unix.MS_MANDLOCK, "mand"}, {unix.MS_LAZYTIME, "lazytime"}})
}
