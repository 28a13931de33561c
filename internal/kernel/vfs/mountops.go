package vfs

import (
	"slices"

	"golang.org/x/sys/unix"
)

const (
	msMgcVal = 0xC0ED0000
	msMgcMsk = 0xffff0000

	propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE
)

// DoMount is mount(2).
func DoMount(c Caller, source, target, fstype string, flags uint64, data string) error {
	if flags&msMgcMsk == msMgcVal {
		flags &^= msMgcMsk
	}
	p, err := Lookup(c, nil, target, 0)
	if err != nil {
		return err
	}
	defer p.Put()
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	mf := flags & mountFlags
	if flags&unix.MS_NOATIME == 0 {
		mf |= unix.MS_RELATIME
	}
	if flags&unix.MS_STRICTATIME != 0 {
		mf &^= unix.MS_RELATIME | unix.MS_NOATIME
	}
	switch {
	case flags&unix.MS_REMOUNT != 0:
		return remount(c, p, flags, mf, data)
	case flags&unix.MS_BIND != 0:
		return bind(c, p, source, flags&unix.MS_REC != 0)
	case flags&propagation != 0:
		return setPropagation(p, flags)
	case flags&unix.MS_MOVE != 0:
		return moveMount(c, p, source)
	}
	t := FindFilesystem(fstype)
	if fstype == "" {
		return unix.EINVAL
	}
	if t == nil {
		return unix.ENODEV
	}
	sb, err := t.Mount(c, source, flags, data)
	if err != nil {
		return err
	}
	return MountSuper(c.FS().Namespace(), p, sb, source, flags&superFlags|mf)
}

// MountSuper mounts a file system at p. It always takes over sb: on error sb is released.
func MountSuper(ns *Namespace, p Path, sb SuperBlock, source string, flags uint64) error {
	s := holdSuper(sb, flags)
	m := newMount(s, s.root, source, flags)
	if err := ns.graft(m, p); err != nil {
		m.finish()
		return err
	}
	return nil
}

// graft mounts m, and what is mounted below it, at p.
func (n *Namespace) graft(m *Mount, p Path) error {
	if m.root.isDir() != p.Dentry.isDir() {
		return unix.ENOTDIR
	}
	var left dissolved
	defer left.finish()
	mountMu.Lock()
	defer mountMu.Unlock()
	if p.Mount == nil || p.Mount.ns != n {
		return unix.EINVAL
	}
	if p.Dentry.has(dDeleted) {
		return unix.ENOENT
	}
	// Somebody may have mounted there since the walk.
	for {
		top := p.Mount.kids[p.Dentry]
		if top == nil {
			break
		}
		p = Path{top, top.root}
	}
	if p.Dentry == p.Mount.root && p.Mount.sb == m.sb && p.Mount.root == m.root && m.ns == nil && len(m.kids) == 0 &&
		!m.cloned() {
		return unix.EBUSY
	}
	return n.plant(m, p, &left)
}

// plant attaches m, and what is mounted below it, at p, which is not mounted on, and copies of it where p's mount has its peers
// and slaves. The caller holds mountMu and finishes left without it.
func (n *Namespace) plant(m *Mount, p Path, left *dissolved) error {
	if p.Mount.group != nil && slices.ContainsFunc(m.subtree(), func(k *Mount) bool { return k.unbindable }) {
		return unix.EINVAL
	}
	copies, err := m.propagate(p)
	if err != nil {
		for _, c := range copies {
			left.discard(c.top)
		}
		return err
	}
	m.attach(p)
	n.addTree(m)
	for _, c := range copies {
		if d := c.top.beneath(c.at); d != nil {
			left.points = append(left.points, d)
		}
		c.at.Mount.ns.addTree(c.top)
	}
	return nil
}

// addTree puts what is not there yet on the list.
func (n *Namespace) addTree(m *Mount) {
	for _, k := range m.subtree() {
		if k.ns == nil {
			n.add(k)
		}
	}
	n.changed()
}

// cloned reports whether the mount is a bind mount that is not mounted yet: it may go on top of its own root.
func (m *Mount) cloned() bool { return m.bind }

// remount changes a file system's options, or with MS_BIND only those of a mount.
func remount(c Caller, p Path, flags, mf uint64, data string) error {
	m := p.Mount
	if m == nil || p.Dentry != m.root {
		return unix.EINVAL
	}
	if flags&unix.MS_BIND != 0 {
		if mf&unix.MS_RDONLY != 0 && m.flags.Load()&unix.MS_RDONLY == 0 && m.writers.Load() > 0 {
			return unix.EBUSY
		}
		m.setFlags(flags, mf)
		return nil
	}
	old := m.sb.allFlags()
	if flags&unix.MS_RDONLY != 0 && old&unix.MS_RDONLY == 0 && m.sb.busyWriters() {
		return unix.EBUSY
	}
	if err := m.sb.sb.Remount(c, flags, data); err != nil {
		return err
	}
	m.sb.flags.Store(flags & superFlags)
	m.setFlags(flags, mf)
	return nil
}

// setFlags changes the flags of a mount; the atime flags stay if none is given.
func (m *Mount) setFlags(flags, mf uint64) {
	const atime = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	if flags&(atime|unix.MS_STRICTATIME) == 0 {
		mf = mf&^atime | m.flags.Load()&atime
	}
	m.flags.Store(mf)
	mountMu.Lock()
	if m.ns != nil {
		m.ns.changed()
	}
	mountMu.Unlock()
}

// busyWriters reports whether a file of s is open for writing in any mount.
func (s *super) busyWriters() bool {
	return s.writers.Load() > 0
}

// bind mounts a part of the tree at another place.
func bind(c Caller, p Path, source string, rec bool) error {
	if source == "" {
		return unix.EINVAL
	}
	from, err := Lookup(c, nil, source, 0)
	if err != nil {
		return err
	}
	defer from.Put()
	if from.Mount == nil {
		return unix.EINVAL
	}
	ns := c.FS().Namespace()
	mountMu.Lock()
	if from.Mount.ns != ns && from.Dentry.sb.sb.Type().Name != "nsfs" {
		mountMu.Unlock()
		return unix.EINVAL
	}
	if from.Mount.unbindable {
		mountMu.Unlock()
		return unix.EINVAL
	}
	mode := copyOne
	if rec {
		mode = copyBindable
	}
	m, copies := from.Mount.copyTree(from.Dentry, mode)
	for o, c := range copies {
		c.like(o)
	}
	mountMu.Unlock()
	m.bind = true
	if err := ns.graft(m, p); err != nil {
		var g dissolved
		mountMu.Lock()
		g.discard(m)
		mountMu.Unlock()
		g.finish()
		return err
	}
	return nil
}

// setPropagation is mount(2) with MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE.
func setPropagation(p Path, flags uint64) error {
	kind := flags & propagation
	if kind&(kind-1) != 0 || flags&^(propagation|unix.MS_REC|unix.MS_SILENT) != 0 {
		return unix.EINVAL
	}
	if p.Mount == nil || p.Dentry != p.Mount.root {
		return unix.EINVAL
	}
	mountMu.Lock()
	defer mountMu.Unlock()
	list := []*Mount{p.Mount}
	if flags&unix.MS_REC != 0 {
		list = p.Mount.subtree()
	}
	for _, m := range list {
		m.setKind(kind)
		if m.ns != nil {
			m.ns.changed()
		}
	}
	return nil
}

// moveMount is mount(2) with MS_MOVE.
func moveMount(c Caller, p Path, source string) error {
	from, err := Lookup(c, nil, source, 0)
	if err != nil {
		return err
	}
	defer from.Put()
	m := from.Mount
	if m == nil || from.Dentry != m.root || m.root.isDir() != p.Dentry.isDir() {
		return unix.EINVAL
	}
	return c.FS().Namespace().move(m, p)
}

// move mounts m, which is mounted somewhere, at p instead. What a shared mount has mounted on it stays.
func (n *Namespace) move(m *Mount, p Path) error {
	var left dissolved
	defer left.finish()
	mountMu.Lock()
	defer mountMu.Unlock()
	if m.parent == nil || m.ns != n || p.Mount == nil || p.Mount.ns != n || m.parent.group != nil {
		return unix.EINVAL
	}
	if p.Dentry.has(dDeleted) {
		return unix.ENOENT
	}
	for up := p.Mount; up != nil; up = up.parent {
		if up == m {
			return unix.ELOOP
		}
	}
	for top := p.Mount.kids[p.Dentry]; top != nil; top = p.Mount.kids[p.Dentry] {
		p = Path{top, top.root}
	}
	from := Path{m.parent, m.point}
	left.points = append(left.points, m.detach())
	err := n.plant(m, p, &left)
	if err != nil {
		m.attach(from)
	}
	return err
}

// Umount is umount2(2). Flags are MNT_FORCE, MNT_DETACH, MNT_EXPIRE and UMOUNT_NOFOLLOW.
func Umount(c Caller, target string, flags int) error {
	if flags&^(unix.MNT_FORCE|unix.MNT_DETACH|unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW) != 0 ||
		flags&unix.MNT_EXPIRE != 0 && flags&(unix.MNT_FORCE|unix.MNT_DETACH) != 0 {
		return unix.EINVAL
	}
	lf := 0
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		lf = unix.AT_SYMLINK_NOFOLLOW
	}
	p, err := Lookup(c, nil, target, lf)
	if err != nil {
		return err
	}
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		p.Put()
		return unix.EPERM
	}
	if p.Mount != nil {
		top := p.over().Get() // the walk has not seen what is mounted on the working directory
		p.Put()
		p = top
	}
	m := p.Mount
	if m == nil || p.Dentry != m.root {
		p.Put()
		return unix.EINVAL
	}
	root := c.FS().Root()
	ns := c.FS().Namespace()
	if m == root.Mount && flags&unix.MNT_DETACH == 0 {
		// The root cannot go; umount makes it read-only instead.
		defer p.Put()
		if m.sb.readonly() {
			return nil
		}
		return remount(c, p, unix.MS_REMOUNT|unix.MS_RDONLY, m.flags.Load(), "")
	}
	if flags&unix.MNT_EXPIRE != 0 {
		err := error(nil)
		if m.refs.Load() > 1 { // more than that of p
			err = unix.EBUSY
		} else if !m.expiring.Swap(true) {
			err = unix.EAGAIN
		}
		if err != nil {
			p.Put()
			return err
		}
	}
	p.Dentry.put()
	g, err := ns.umount(m, flags&unix.MNT_DETACH != 0)
	if err != nil {
		m.put()
		return err
	}
	g.finish()
	if flags&unix.MNT_DETACH != 0 {
		m.put()
	}
	return nil
}

// umount takes m, to which the caller has one reference, out of the tree. If it is not lazy the reference is used up.
func (n *Namespace) umount(m *Mount, lazy bool) (dissolved, error) {
	mountMu.Lock()
	defer mountMu.Unlock()
	if m.ns != n || m.parent == nil {
		return dissolved{}, unix.EINVAL
	}
	gone := map[*Mount]bool{}
	var also []*Mount
	tree := m.subtree()
	for _, k := range tree {
		gone[k] = true
	}
	for _, k := range slices.Backward(tree) {
		for _, c := range k.counterparts(gone) {
			gone[c] = true
			also = append(also, c)
		}
	}
	var g dissolved
	if lazy {
		g = n.dissolve(m)
		for _, c := range also {
			g.take(c)
		}
		return g, nil
	}
	if len(m.kids) > 0 || slices.ContainsFunc(also, func(c *Mount) bool { return c.refs.Load() > 0 }) ||
		!m.refs.CompareAndSwap(1, deadRefs) {
		return g, unix.EBUSY
	}
	g.points = append(g.points, m.detach())
	g.mounts = append(g.mounts, m)
	n.remove(m)
	for _, c := range also {
		g.take(c)
	}
	return g, nil
}

// PivotRoot is pivot_root(2).
func PivotRoot(c Caller, newRoot, putOld string) error {
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	nu, err := Lookup(c, nil, newRoot, 0)
	if err != nil {
		return err
	}
	defer nu.Put()
	put, err := Lookup(c, nil, putOld, 0)
	if err != nil {
		return err
	}
	defer put.Put()
	if !nu.Dentry.isDir() || !put.Dentry.isDir() {
		return unix.ENOTDIR
	}
	ns := c.FS().Namespace()
	old := c.FS().Root().Get()
	defer old.Put()
	points, err := ns.pivot(old, nu, put)
	if err != nil {
		return err
	}
	for _, d := range points {
		d.put()
	}
	ns.replaceRoot(old, nu)
	return nil
}

// pivot moves the mount nu to where the mount of old is, and that one to put.
func (n *Namespace) pivot(old, nu, put Path) ([]*Dentry, error) {
	mountMu.Lock()
	defer mountMu.Unlock()
	om, nm := old.Mount, nu.Mount
	if om.ns != n || nm.ns != n || put.Mount.ns != n {
		return nil, unix.EINVAL
	}
	if nu.Dentry.has(dDeleted) {
		return nil, unix.ENOENT
	}
	if nm == om || put.Mount == om {
		return nil, unix.EBUSY
	}
	if put.Mount.group != nil || nm.parent != nil && nm.parent.group != nil || om.parent != nil && om.parent.group != nil {
		return nil, unix.EINVAL
	}
	if old.Dentry != om.root || nu.Dentry != nm.root || nm.parent == nil {
		return nil, unix.EINVAL
	}
	if !below(put, nu) || !below(nu, old) {
		return nil, unix.EINVAL
	}
	for top := put.Mount.kids[put.Dentry]; top != nil; top = put.Mount.kids[put.Dentry] {
		put = Path{top, top.root}
	}
	var points []*Dentry
	points = append(points, nm.detach())
	at := Path{om.parent, om.point}
	if om.parent != nil {
		points = append(points, om.detach())
		nm.attach(at)
	} else {
		n.root = nm
	}
	om.attach(put)
	n.changed()
	return points, nil
}

// below reports whether p is at or below the place top. The caller holds mountMu.
func below(p, top Path) bool {
	for p.Mount != top.Mount {
		if p.Mount.parent == nil {
			return false
		}
		p = Path{p.Mount.parent, p.Mount.point}
	}
	return top.Dentry.isAncestor(p.Dentry)
}

// enterable resolves a directory that the caller may search.
func enterable(c Caller, path string) (Path, error) {
	p, err := Lookup(c, nil, path, 0)
	if err != nil {
		return Path{}, err
	}
	if err := searchable(c, p); err != nil {
		p.Put()
		return Path{}, err
	}
	return p, nil
}

func searchable(c Caller, p Path) error {
	if p.Dentry == nil || !p.Dentry.isDir() {
		return unix.ENOTDIR
	}
	return permission(c, c.Cred(), p.Dentry.inode, p.Dentry.sb, MayExec)
}

// Chdir is chdir(2).
func Chdir(c Caller, path string) error {
	p, err := enterable(c, path)
	if err != nil {
		return err
	}
	defer p.Put()
	c.FS().SetCwd(p)
	return nil
}

// Fchdir is fchdir(2).
func Fchdir(c Caller, f *File) error {
	if err := searchable(c, f.Path); err != nil {
		return err
	}
	c.FS().SetCwd(f.Path)
	return nil
}

// Chroot is chroot(2).
func Chroot(c Caller, path string) error {
	p, err := enterable(c, path)
	if err != nil {
		return err
	}
	defer p.Put()
	if !c.Cred().Capable(unix.CAP_SYS_CHROOT) {
		return unix.EPERM
	}
	c.FS().SetRoot(p)
	return nil
}
