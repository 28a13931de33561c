package vfs

import (
	"golang.org/x/sys/unix"
)

// create walks to the parent of path, takes its lock and calls make with the directory and the negative dentry of the new
// name.
func create(c Caller, dir *File, path string, isDir bool, do func(d, neg *Dentry) (Inode, error)) error {
	w := walker{c: c}
	if err := w.lookupParent(dir, path); err != nil {
		return err
	}
	p := w.cur
	defer p.Put()
	if w.special() {
		return unix.EEXIST
	}
	d := p.Dentry
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.lookupLocked(c, w.last)
	if err != nil {
		return err
	}
	defer k.put()
	if k.inode != nil {
		return unix.EEXIST
	}
	if w.trailing && !isDir {
		return unix.ENOENT
	}
	if err := p.writable(); err != nil {
		return err
	}
	if err := mayCreate(c, d); err != nil {
		return err
	}
	in, err := do(d, k)
	if err != nil {
		d.unhash(k) // it may have been made before it failed
		return err
	}
	d.attach(k, k.name, in).put()
	notifyEntry(unix.IN_CREATE, d, k.name, in, isDir, 0)
	return nil
}

// Mkdir is mkdirat(2).
func Mkdir(c Caller, dir *File, path string, mode uint32) error {
	return create(c, dir, path, true, func(d, k *Dentry) (Inode, error) {
		m, acl := createMode(c, d, mode&0o1777|unix.S_IFDIR)
		in, err := d.inode.Mkdir(c, k.name, m&^unix.S_IFMT)
		if err != nil {
			return nil, err
		}
		return in, acl.inherit(c, in, func() error { return d.inode.Rmdir(c, k.name, in) })
	})
}

// Mknod is mknodat(2).
func Mknod(c Caller, dir *File, path string, mode uint32, rdev uint64) error {
	privileged := false
	switch mode & unix.S_IFMT {
	case 0:
		mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		// A character device 0:0 is overlayfs's whiteout, which anybody may make.
		privileged = mode&unix.S_IFMT != unix.S_IFCHR || rdev != 0
	case unix.S_IFDIR:
		return unix.EPERM
	default:
		return unix.EINVAL
	}
	return create(c, dir, path, false, func(d, k *Dentry) (Inode, error) {
		if privileged && !c.Cred().Capable(unix.CAP_MKNOD) {
			return nil, unix.EPERM
		}
		m, acl := createMode(c, d, mode&(unix.S_IFMT|0o7777))
		in, err := d.inode.Create(c, k.name, m, rdev)
		if err != nil {
			return nil, err
		}
		return in, acl.inherit(c, in, func() error { return d.inode.Unlink(c, k.name, in) })
	})
}

// Symlink is symlinkat(2).
func Symlink(c Caller, target string, dir *File, path string) error {
	if target == "" {
		return unix.ENOENT
	}
	if len(target) >= pathMax {
		return unix.ENAMETOOLONG
	}
	return create(c, dir, path, false, func(d, k *Dentry) (Inode, error) {
		return d.inode.Symlink(c, k.name, target)
	})
}

// Link is linkat(2). Flags are AT_SYMLINK_FOLLOW and AT_EMPTY_PATH.
func Link(c Caller, oldDir *File, oldPath string, newDir *File, newPath string, flags int) error {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	lf := flags & unix.AT_EMPTY_PATH
	if oldPath == "" && lf != 0 && !c.Cred().Capable(unix.CAP_DAC_READ_SEARCH) {
		return unix.ENOENT
	}
	if flags&unix.AT_SYMLINK_FOLLOW == 0 {
		lf |= unix.AT_SYMLINK_NOFOLLOW
	}
	op, err := Lookup(c, oldDir, oldPath, lf)
	if err != nil {
		return err
	}
	defer op.Put()
	old := op.Dentry
	w := walker{c: c}
	if err := w.lookupParent(newDir, newPath); err != nil {
		return err
	}
	p := w.cur
	defer p.Put()
	if w.special() {
		return unix.EEXIST
	}
	d := p.Dentry
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.lookupLocked(c, w.last)
	if err != nil {
		return err
	}
	defer k.put()
	if k.inode != nil {
		return unix.EEXIST
	}
	if w.trailing {
		return unix.ENOENT
	}
	if err := p.writable(); err != nil {
		return err
	}
	if p.Mount != op.Mount {
		return unix.EXDEV
	}
	a := old.inode.Attr()
	if err := mayHardlink(c, old, &a); err != nil {
		return err
	}
	if err := mayCreate(c, d); err != nil {
		return err
	}
	if a.Flags&(unix.STATX_ATTR_APPEND|unix.STATX_ATTR_IMMUTABLE) != 0 || old.isDir() {
		return unix.EPERM
	}
	if a.Nlink == 0 && !old.has(dTmpfile) {
		return unix.ENOENT
	}
	if err := d.inode.Link(c, old.inode, k.name); err != nil {
		return err
	}
	old.state.And(^uint32(dTmpfile)) // only once: without names again it is a removed file
	d.attach(k, k.name, old.inode).put()
	if fn := notifier.Load(); fn != nil {
		(*fn)(&Event{Mask: unix.IN_ATTRIB, Inode: old.inode})
	}
	notifyEntry(unix.IN_CREATE, d, k.name, old.inode, false, 0)
	return nil
}

// mayHardlink is what ProtectedHardlinks demands: only the owner, or who may read and write it, links a
// plain file.
func mayHardlink(c Caller, d *Dentry, a *Attr) error {
	if !ProtectedHardlinks.Load() || ownerOrCapable(c.Cred(), a) {
		return nil
	}
	if !a.IsRegular() || a.Mode&unix.S_ISUID != 0 ||
		a.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		return unix.EPERM
	}
	if permission(c, c.Cred(), d.inode, d.sb, MayRead|MayWrite) != nil {
		return unix.EPERM
	}
	return nil
}

// remove is the common part of unlink and rmdir.
func remove(c Caller, dir *File, path string, isDir bool) error {
	w := walker{c: c}
	if err := w.lookupParent(dir, path); err != nil {
		return err
	}
	p := w.cur
	defer p.Put()
	if isDir {
		switch w.last {
		case "":
			return unix.EBUSY
		case ".":
			return unix.EINVAL
		case "..":
			return unix.ENOTEMPTY
		}
	} else if w.special() {
		return unix.EISDIR
	}
	if err := p.writable(); err != nil {
		return err
	}
	d := p.Dentry
	d.mu.Lock()
	k, err := d.lookupLocked(c, w.last)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	err = removeLocked(c, p, k, isDir, w.trailing)
	d.mu.Unlock()
	k.put()
	return err
}

func removeLocked(c Caller, p Path, k *Dentry, isDir, trailing bool) error {
	d := p.Dentry
	if k.inode == nil {
		return unix.ENOENT
	}
	if trailing && !isDir {
		if k.isDir() {
			return unix.EISDIR
		}
		return unix.ENOTDIR
	}
	if err := mayDelete(c, d, k, isDir); err != nil {
		return err
	}
	if k.mounts.Load() > 0 {
		return unix.EBUSY
	}
	var err error
	if isDir {
		k.mu.Lock()
		defer k.mu.Unlock()
		err = d.inode.Rmdir(c, k.name, k.inode)
	} else {
		err = d.inode.Unlink(c, k.name, k.inode)
	}
	if err != nil {
		return err
	}
	d.detach(k)
	if isDir {
		k.forgetKids()
	}
	notifyGone(d, k)
	return nil
}

// forgetKids drops the negative dentries of a removed directory.
func (d *Dentry) forgetKids() {
	d.kidsMu.RLock()
	kids := make([]*Dentry, 0, len(d.kids))
	for _, k := range d.kids {
		kids = append(kids, k)
	}
	d.kidsMu.RUnlock()
	for _, k := range kids {
		k.kill()
	}
}

// Unlink is unlink(2) and unlinkat(2) without AT_REMOVEDIR.
func Unlink(c Caller, dir *File, path string) error { return remove(c, dir, path, false) }

// Rmdir is rmdir(2) and unlinkat(2) with AT_REMOVEDIR.
func Rmdir(c Caller, dir *File, path string) error { return remove(c, dir, path, true) }

// Rename is renameat2(2).
func Rename(c Caller, oldDir *File, oldPath string, newDir *File, newPath string, flags uint32) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT) != 0 ||
		flags&unix.RENAME_EXCHANGE != 0 && flags&(unix.RENAME_NOREPLACE|unix.RENAME_WHITEOUT) != 0 {
		return unix.EINVAL
	}
	if flags&unix.RENAME_WHITEOUT != 0 && !c.Cred().Capable(unix.CAP_MKNOD) {
		return unix.EPERM
	}
	wo, wn := walker{c: c}, walker{c: c}
	if err := wo.lookupParent(oldDir, oldPath); err != nil {
		return err
	}
	po := wo.cur
	defer po.Put()
	if err := wn.lookupParent(newDir, newPath); err != nil {
		return err
	}
	pn := wn.cur
	defer pn.Put()
	if po.Mount != pn.Mount {
		return unix.EXDEV
	}
	if wo.special() {
		return unix.EBUSY
	}
	if wn.special() {
		if flags&unix.RENAME_NOREPLACE != 0 {
			return unix.EEXIST
		}
		return unix.EBUSY
	}
	if err := po.writable(); err != nil {
		return err
	}
	r := rename{c: c, od: po.Dentry, nd: pn.Dentry, flags: flags}
	r.lock()
	err := r.lookup(wo.last, wn.last)
	if err == nil {
		err = r.do(wo.trailing, wn.trailing)
	}
	r.unlock()
	r.put()
	return err
}

// rename is one renameat2(2) in progress.
type rename struct {
	c       Caller
	od, nd  *Dentry // directories
	src     *Dentry
	dst     *Dentry // negative if there is no target
	flags   uint32
	cross   bool
	oldName string
	newName string
}

// lock takes the locks of both directories: an ancestor first, else by an order that is the same for everybody.
func (r *rename) lock() {
	if r.od == r.nd {
		r.od.mu.Lock()
		return
	}
	r.cross = true
	r.od.sb.renameMu.Lock()
	// With renameMu held parents do not change, so "ancestor first, else as given" cannot meet itself the other way.
	if r.nd.isAncestor(r.od) {
		r.nd.mu.Lock()
		r.od.mu.Lock()
	} else {
		r.od.mu.Lock()
		r.nd.mu.Lock()
	}
}

func (r *rename) unlock() {
	r.od.mu.Unlock()
	if r.cross {
		r.nd.mu.Unlock()
		r.od.sb.renameMu.Unlock()
	}
}

func (r *rename) put() {
	if r.src != nil {
		r.src.put()
	}
	if r.dst != nil {
		r.dst.put()
	}
}

func (r *rename) lookup(old, nu string) (err error) {
	r.oldName, r.newName = old, nu
	if r.src, err = r.od.lookupLocked(r.c, old); err != nil {
		return err
	}
	if r.src.inode == nil {
		return unix.ENOENT
	}
	r.dst, err = r.nd.lookupLocked(r.c, nu)
	return err
}

// check is everything that renameat2 refuses, in Linux's order.
func (r *rename) check(oldSlash, newSlash bool) error {
	c, src, dst := r.c, r.src, r.dst
	exchange := r.flags&unix.RENAME_EXCHANGE != 0
	if r.flags&unix.RENAME_NOREPLACE != 0 && dst.inode != nil {
		return unix.EEXIST
	}
	if exchange {
		if dst.inode == nil {
			return unix.ENOENT
		}
		if newSlash && !dst.isDir() {
			return unix.ENOTDIR
		}
	}
	if !src.isDir() && (oldSlash || !exchange && newSlash) {
		return unix.ENOTDIR
	}
	if r.cross && src.isDir() && src.isAncestor(r.nd) {
		return unix.EINVAL
	}
	if r.cross && dst.inode != nil && dst.isDir() && dst.isAncestor(r.od) {
		if exchange {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	if src.inode == dst.inode {
		return nil
	}
	if err := mayDelete(c, r.od, src, src.isDir()); err != nil {
		return err
	}
	if dst.inode == nil {
		if err := mayCreate(c, r.nd); err != nil {
			return err
		}
	} else {
		wantDir := src.isDir()
		if exchange {
			wantDir = dst.isDir()
		}
		if err := mayDelete(c, r.nd, dst, wantDir); err != nil {
			return err
		}
	}
	// A directory that gets a new parent has its ".." written.
	if r.od != r.nd {
		if src.isDir() {
			if err := permission(c, c.Cred(), src.inode, src.sb, MayWrite); err != nil {
				return err
			}
		}
		if exchange && dst.isDir() {
			if err := permission(c, c.Cred(), dst.inode, dst.sb, MayWrite); err != nil {
				return err
			}
		}
	}
	if src.mounts.Load() > 0 || dst.mounts.Load() > 0 {
		return unix.EBUSY
	}
	return nil
}

func (r *rename) do(oldSlash, newSlash bool) error {
	if err := r.check(oldSlash, newSlash); err != nil {
		return err
	}
	src, dst := r.src, r.dst
	if src.inode == dst.inode {
		return nil // two links of one file: rename(2) does nothing
	}
	// A directory that goes away must not get new entries meanwhile.
	if dst.inode != nil && dst.isDir() && r.flags&unix.RENAME_EXCHANGE == 0 {
		dst.mu.Lock()
		defer dst.mu.Unlock()
	}
	err := r.od.inode.Rename(r.c, src.name, src.inode, r.nd.inode, dst.name, dst.inode, r.flags)
	if err != nil {
		return err
	}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		swapDentries(src, dst)
		r.notifyMove(src, r.od, r.oldName, r.nd, r.newName)
		r.notifyMove(dst, r.nd, r.newName, r.od, r.oldName)
		return nil
	}
	if dst.inode != nil {
		r.nd.detach(dst)
		if dst.isDir() {
			dst.forgetKids()
		}
	} else if !dst.has(dUncached) {
		r.nd.unhash(dst)
	}
	src.move(r.nd, r.newName)
	r.notifyMove(src, r.od, r.oldName, r.nd, r.newName)
	if fn := notifier.Load(); fn != nil && dst.inode != nil {
		ev := Event{Mask: unix.IN_ATTRIB, Inode: dst.inode} // the number of links
		if dst.isDir() {
			ev.Mask |= unix.IN_ISDIR
		}
		(*fn)(&ev)
	}
	return nil
}

func (r *rename) notifyMove(d, od *Dentry, oldName string, nd *Dentry, newName string) {
	fn := notifier.Load()
	if fn == nil {
		return
	}
	cookie := nextCookie.Add(1)
	notifyEntry(unix.IN_MOVED_FROM, od, oldName, d.inode, d.isDir(), cookie)
	notifyEntry(unix.IN_MOVED_TO, nd, newName, d.inode, d.isDir(), cookie)
	(*fn)(&Event{Mask: unix.IN_MOVE_SELF, Inode: d.inode})
}
