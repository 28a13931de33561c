package hostfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Lookup implements vfs.Inode.
func (in *inode) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	if in.covered {
		return nil, unix.ENOENT
	}
	h, err := in.dir()
	if err != nil {
		return nil, err
	}
	defer h.put()
	for try := 0; ; try++ {
		k, err := in.find(h, name)
		if err != unix.ESTALE || try == 10 { // it was replaced between two looks at it
			return result(k, err)
		}
	}
}

func (in *inode) find(h *handle, name string) (*inode, error) {
	var st unix.Statx_t
	if err := statx(h.fd, name, &st); err != nil {
		return nil, errno(err)
	}
	return in.sb.inode(in, name, h, nil, &st)
}

// dir is hold for directories whose entries are used.
func (in *inode) dir() (*handle, error) {
	if in.covered {
		return nil, unix.EACCES
	}
	h, err := in.hold()
	if err != nil {
		return nil, err
	}
	if err := in.suffice(h); err != nil {
		h.put()
		return nil, err
	}
	return h, nil
}

// made returns the inode of a file that this guest has just made as name. fd is the file itself, opened for reading and
// writing, or -1. Mode is the guest's.
func (in *inode) made(c vfs.Caller, dir *handle, name string, fd int, mode uint32, rdev uint64) (*inode, error) {
	in.sb.wrote()
	var h *handle
	if fd >= 0 {
		h = newHandle(fd)
		h.fresh = true
	} else {
		var err error
		if h, err = in.sb.openPath(dir, name); err != nil {
			return nil, err
		}
	}
	defer h.put()
	k, err := in.adorn(c, h, name, mode, rdev)
	if err != nil {
		flags := 0
		if mode&unix.S_IFMT == unix.S_IFDIR {
			flags = unix.AT_REMOVEDIR
		}
		_ = unix.Unlinkat(dir.fd, name, flags) // it was not there before
		return nil, err
	}
	if h.fresh || k.cached.Load() == nil {
		k.cache(h)
	}
	return k, nil
}

// adorn gives a file that was just made its owner and mode.
func (in *inode) adorn(c vfs.Caller, h *handle, name string, mode uint32, rdev uint64) (*inode, error) {
	var st unix.Statx_t
	if err := statx(h.fd, "", &st); err != nil {
		return nil, errno(err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	isLink := st.Mode&unix.S_IFMT == unix.S_IFLNK
	cr := c.Cred()
	uid, gid := cr.FSUID, cr.FSGID
	srv := in.sb.srv
	changed := false
	if in.sb.mapped {
		if d := in.Attr(); d.Mode&unix.S_ISGID != 0 {
			gid = d.GID
			if isDir {
				mode |= unix.S_ISGID
			}
		}
		hm := hostMode(mode, isDir)
		if !isLink && uint32(st.Mode)&0o7777 != hm {
			if err := chmod(h, hm); err != nil {
				return nil, err
			}
			changed = true
		}
		if !isLink && (!plain(uid, gid, mode&0o7777, isDir) || mode&unix.S_IFMT != uint32(st.Mode)&unix.S_IFMT) {
			o := override{has: true, uid: uid, gid: gid, mode: mode & 0o7777, typ: mode & unix.S_IFMT, rdev: rdev}
			if err := o.write(h); err != nil {
				return nil, errno(err)
			}
			changed = true
		}
	} else {
		// A host that made it with our umask, or with an ACL of its own, is corrected. Set-group-id directories are its.
		if want := hostBits(mode, isDir); !isLink && uint32(st.Mode)&0o1777 != want&0o1777 {
			if err := chmod(h, want|uint32(st.Mode)&unix.S_ISGID); err != nil {
				return nil, err
			}
			changed = true
		}
		if srv.uid == 0 && (uid != st.Uid || gid != st.Gid && gid != srv.gid) {
			to := int(gid)
			if st.Gid != srv.gid {
				to = -1 // the directory's
			}
			if err := again(func() error { return unix.Fchownat(h.fd, "", int(uid), to, unix.AT_EMPTY_PATH) }); err != nil {
				return nil, err
			}
			changed = true
		}
	}
	if changed {
		if err := statx(h.fd, "", &st); err != nil {
			return nil, errno(err)
		}
	}
	k, err := in.sb.inode(in, name, nil, h, &st)
	if err == nil && isLink && in.sb.mapped {
		k.ownLink(uid, gid)
	}
	return k, err
}

// hostBits are the permission bits that a guest's mode sets on the host: programs that run with their owner's identity are
// none there.
func hostBits(mode uint32, isDir bool) uint32 {
	if isDir {
		return mode & 0o7777
	}
	return mode & 0o1777
}

// perm is what the host gets of a guest's mode.
func (sb *superBlock) perm(mode uint32, isDir bool) uint32 {
	if sb.mapped {
		return hostMode(mode, isDir)
	}
	return hostBits(mode, isDir)
}

// parent is a directory in which name is to be made.
func (in *inode) parent(name string) (*handle, error) {
	if !valid(name) {
		return nil, unix.ENOENT
	}
	return in.dir()
}

// Create implements vfs.Inode.
func (in *inode) Create(c vfs.Caller, name string, mode uint32, rdev uint64) (vfs.Inode, error) {
	h, err := in.parent(name)
	if err != nil {
		return nil, err
	}
	defer h.put()
	perm := in.sb.perm(mode, false)
	switch typ := mode & unix.S_IFMT; {
	case typ == unix.S_IFREG || in.sb.mapped:
		fd, err := in.sb.srv.open(h.fd, name, in.sb.flags(unix.O_RDWR)|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, perm)
		if err != nil {
			return nil, err
		}
		return result(in.made(c, h, name, fd, mode, rdev))
	case typ == unix.S_IFIFO || typ == unix.S_IFSOCK:
		if err := again(func() error { return unix.Mknodat(h.fd, name, typ|perm, 0) }); err != nil {
			return nil, err
		}
		return result(in.made(c, h, name, -1, mode, 0))
	}
	return nil, unix.EPERM // a device node of the host could be used there
}

// flags adds O_APPEND with the option append.
func (sb *superBlock) flags(flags int) int {
	if sb.append && flags&unix.O_ACCMODE != unix.O_RDONLY {
		flags |= unix.O_APPEND
	}
	return flags
}

// result keeps a nil *inode from becoming an interface that is not nil.
func result(k *inode, err error) (vfs.Inode, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Mkdir implements vfs.Inode.
func (in *inode) Mkdir(c vfs.Caller, name string, mode uint32) (vfs.Inode, error) {
	h, err := in.parent(name)
	if err != nil {
		return nil, err
	}
	defer h.put()
	perm := in.sb.perm(mode, true)
	if err := again(func() error { return unix.Mkdirat(h.fd, name, perm) }); err != nil {
		return nil, err
	}
	return result(in.made(c, h, name, -1, mode&0o7777|unix.S_IFDIR, 0))
}

// Symlink implements vfs.Inode.
func (in *inode) Symlink(c vfs.Caller, name, target string) (vfs.Inode, error) {
	h, err := in.parent(name)
	if err != nil {
		return nil, err
	}
	defer h.put()
	if err := again(func() error { return unix.Symlinkat(target, h.fd, name) }); err != nil {
		return nil, err
	}
	return result(in.made(c, h, name, -1, unix.S_IFLNK|0o777, 0))
}

// Tmpfile implements vfs.TmpfileMaker.
func (in *inode) Tmpfile(c vfs.Caller, mode uint32) (vfs.Inode, error) {
	h, err := in.dir()
	if err != nil {
		return nil, err
	}
	defer h.put()
	perm := in.sb.perm(mode, false)
	fd, err := in.sb.srv.open(h.fd, ".", in.sb.flags(unix.O_RDWR)|unix.O_TMPFILE, perm)
	if err != nil {
		return nil, err
	}
	in.sb.wrote()
	t := newHandle(fd)
	t.fresh = true
	defer t.put()
	k, err := in.adorn(c, t, "", mode, 0)
	if err != nil {
		return nil, err
	}
	k.place.Store(nil)
	if h := k.cached.Load(); h != t {
		k.cache(t)
	}
	return k, nil
}

// Link implements vfs.Inode.
func (in *inode) Link(_ vfs.Caller, old vfs.Inode, name string) error {
	k := old.(*inode)
	h, err := in.parent(name)
	if err != nil {
		return err
	}
	defer h.put()
	kh, err := k.hold()
	if err != nil {
		return err
	}
	defer kh.put()
	if err := again(func() error { return unix.Linkat(unix.AT_FDCWD, kh.path(), h.fd, name, unix.AT_SYMLINK_FOLLOW) }); err != nil {
		return err
	}
	in.sb.wrote()
	if k.place.Load() == nil {
		k.at(in, name)
	}
	k.Refresh()
	return nil
}

// Unlink implements vfs.Inode.
func (in *inode) Unlink(_ vfs.Caller, name string, child vfs.Inode) error {
	if in.sb.append {
		return unix.EPERM
	}
	return in.unlink(name, child, 0)
}

// Rmdir implements vfs.Inode.
func (in *inode) Rmdir(_ vfs.Caller, name string, child vfs.Inode) error {
	return in.unlink(name, child, unix.AT_REMOVEDIR)
}

func (in *inode) unlink(name string, child vfs.Inode, flags int) error {
	h, err := in.parent(name)
	if err != nil {
		return err
	}
	defer h.put()
	if err := again(func() error { return unix.Unlinkat(h.fd, name, flags) }); err != nil {
		return err
	}
	in.sb.wrote()
	child.(*inode).lost(in, name)
	return nil
}

// Rename implements vfs.Inode.
func (in *inode) Rename(_ vfs.Caller, oldName string, child, newDir vfs.Inode, newName string, target vfs.Inode, flags uint32) error {
	k, nd := child.(*inode), newDir.(*inode)
	t, _ := target.(*inode)
	exchange := flags&unix.RENAME_EXCHANGE != 0
	switch {
	case flags&unix.RENAME_WHITEOUT != 0:
		return unix.EINVAL // it would be a device node
	case in.sb.append && t != nil && !exchange && !t.isDir():
		return unix.EPERM // as Unlink
	case t == nil:
		flags |= unix.RENAME_NOREPLACE // unless somebody on the host was faster
	}
	if !valid(oldName) || !valid(newName) {
		return unix.ENOENT
	}
	h, err := in.dir()
	if err != nil {
		return err
	}
	defer h.put()
	nh, err := nd.dir()
	if err != nil {
		return err
	}
	defer nh.put()
	err = again(func() error { return unix.Renameat2(h.fd, oldName, nh.fd, newName, uint(flags)) })
	if err == unix.EINVAL && flags == unix.RENAME_NOREPLACE && t == nil {
		// Not all file systems have the flag.
		err = again(func() error { return unix.Renameat(h.fd, oldName, nh.fd, newName) })
	}
	if err != nil {
		return err
	}
	in.sb.wrote()
	if exchange {
		t.at(in, oldName)
	} else if t != nil {
		t.lost(nd, newName)
	}
	k.at(nd, newName)
	return nil
}

// Readlink implements vfs.Inode. The target of a link never changes.
func (in *inode) Readlink(vfs.Caller) (string, error) {
	if in.typ != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	if t := in.target.Load(); t != nil {
		return *t, nil
	}
	h, err := in.hold()
	if err != nil {
		return "", err
	}
	defer h.put()
	var buf [unix.PathMax]byte
	var n int
	err = again(func() (err error) { n, err = unix.Readlinkat(h.fd, "", buf[:]); return err })
	if err != nil {
		return "", err
	}
	s := string(buf[:n])
	in.target.Store(&s)
	return s, nil
}
