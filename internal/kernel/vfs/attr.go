package vfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// Stat is newfstatat(2). Flags are AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH.
func Stat(c Caller, dir *File, path string, flags int) (Attr, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return Attr{}, err
	}
	a := p.Attr()
	if p.Mount != nil {
		a.MountID = uint64(p.Mount.id)
		if p.Dentry == p.Mount.root {
			a.Flags |= unix.STATX_ATTR_MOUNT_ROOT
		}
	}
	p.Put()
	return a, nil
}

// at resolves a path for a change of the inode: EROFS on a read-only mount. The result has references.
func at(c Caller, dir *File, path string, flags int) (Path, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return Path{}, err
	}
	if err := p.writable(); err != nil {
		p.Put()
		return Path{}, err
	}
	return p, nil
}

// Readlink is readlinkat(2).
func Readlink(c Caller, dir *File, path string) (string, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if path == "" && dir != nil {
		flags |= unix.AT_EMPTY_PATH
	}
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return "", err
	}
	defer p.Put()
	if p.Dentry.typ != unix.S_IFLNK {
		if path == "" {
			return "", unix.ENOENT
		}
		return "", unix.EINVAL
	}
	touchAtime(p.Mount, p.Dentry.inode, p.Dentry.typ)
	return p.Dentry.inode.Readlink(c)
}

// Chmod is fchmodat2(2), and fchmod with AT_EMPTY_PATH.
func Chmod(c Caller, dir *File, path string, mode uint32, flags int) error {
	p, err := at(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	d := p.Dentry
	if d.typ == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	defer d.lockAttr()()
	a := d.inode.Attr()
	if !ownerOrCapable(c.Cred(), &a) || a.Flags&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		return unix.EPERM
	}
	mode &= 0o7777
	if cr := c.Cred(); !cr.InGroup(a.GID) && !cr.Capable(unix.CAP_FSETID) {
		mode &^= unix.S_ISGID
	}
	if err := d.inode.SetAttr(c, &SetAttr{Valid: SetMode, Mode: mode}); err != nil {
		return err
	}
	if d.sb.acl {
		if v, err := d.inode.Getxattr(c, xattrACLAccess); err == nil {
			if es, err := parseACL(v); err == nil && es != nil {
				aclChmod(es, mode)
				if err := d.inode.Setxattr(c, xattrACLAccess, formatACL(es), 0); err != nil {
					return err
				}
			}
		}
	}
	Notify(unix.IN_ATTRIB, p)
	return nil
}

// Chown is fchownat(2), and fchown with AT_EMPTY_PATH. An id of -1 stays as it is.
func Chown(c Caller, dir *File, path string, uid, gid uint32, flags int) error {
	p, err := at(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	defer p.Dentry.lockAttr()()
	in := p.Dentry.inode
	a := in.Attr()
	if a.Flags&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		return unix.EPERM
	}
	const keep = ^uint32(0)
	cr := c.Cred()
	sa := SetAttr{UID: uid, GID: gid}
	capable := cr.Capable(unix.CAP_CHOWN)
	if uid != keep {
		if !capable && (cr.FSUID != a.UID || uid != a.UID) {
			return unix.EPERM
		}
		sa.Valid |= SetUID
	}
	if gid != keep {
		if !capable && (cr.FSUID != a.UID || gid != a.GID && !cr.InGroup(gid)) {
			return unix.EPERM
		}
		sa.Valid |= SetGID
	}
	if !a.IsDir() {
		// Even root's chown takes these bits away; setgid without group execute is kept for who may set it.
		m := strippedMode(&a)
		if m&unix.S_ISGID != 0 && !cr.InGroup(a.GID) && !cr.Capable(unix.CAP_FSETID) {
			m &^= unix.S_ISGID
		}
		if m != a.Mode {
			sa.Valid |= SetMode
			sa.Mode = m & 0o7777
		}
		if a.IsRegular() {
			dropCaps(c, in, &a)
		}
	}
	if err := in.SetAttr(c, &sa); err != nil {
		return err
	}
	Notify(unix.IN_ATTRIB, p)
	return nil
}

// Utimens is utimensat(2), and futimens with AT_EMPTY_PATH. ts nil means now; UTIME_NOW and UTIME_OMIT are understood.
func Utimens(c Caller, dir *File, path string, ts *[2]unix.Timespec, flags int) error {
	now := abi.NsecToTimespec(ktime.Realtime())
	sa := SetAttr{Valid: SetAtime | SetMtime, Atime: now, Mtime: now}
	explicit := false
	if ts != nil {
		for i, t := range ts {
			bit, at := SetAtime, &sa.Atime
			if i == 1 {
				bit, at = SetMtime, &sa.Mtime
			}
			switch {
			case t.Nsec == unix.UTIME_OMIT:
				sa.Valid &^= bit
				explicit = true
			case t.Nsec == unix.UTIME_NOW:
			case t.Nsec < 0 || t.Nsec >= 1e9:
				return unix.EINVAL
			default:
				*at = t
				explicit = true
			}
		}
		if sa.Valid == 0 {
			return nil
		}
	}
	p, err := at(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	d := p.Dentry
	a := d.inode.Attr()
	if a.Flags&unix.STATX_ATTR_IMMUTABLE != 0 || explicit && a.Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	if !ownerOrCapable(c.Cred(), &a) {
		if explicit {
			return unix.EPERM
		}
		if err := permission(c, c.Cred(), d.inode, d.sb, MayWrite); err != nil {
			return err
		}
	}
	if err := d.inode.SetAttr(c, &sa); err != nil {
		return err
	}
	mask := uint32(unix.IN_ATTRIB)
	switch sa.Valid {
	case SetAtime:
		mask = unix.IN_ACCESS
	case SetMtime:
		mask = unix.IN_MODIFY
	}
	Notify(mask, p)
	return nil
}

// checkSize is RLIMIT_FSIZE for a file that grows to size.
func checkSize(c Caller, size int64) error {
	if limit := c.Rlimit(unix.RLIMIT_FSIZE); limit != unix.RLIM_INFINITY && uint64(size) > limit {
		c.Signal(unix.SIGXFSZ)
		return unix.EFBIG
	}
	return nil
}

// setSize changes the size of a regular file that the caller may write.
func setSize(c Caller, p Path, in Inode, size int64) error {
	defer p.Dentry.lockAttr()()
	a := in.Attr()
	if size > a.Size {
		if err := checkSize(c, size); err != nil {
			return err
		}
	}
	dropCaps(c, in, &a)
	sa := SetAttr{Valid: SetSize | SetMtime, Size: size, Mtime: abi.NsecToTimespec(ktime.Realtime())}
	if m := strippedMode(&a); m != a.Mode && !c.Cred().Capable(unix.CAP_FSETID) {
		sa.Valid |= SetMode
		sa.Mode = m & 0o7777
	}
	if err := in.SetAttr(c, &sa); err != nil {
		return err
	}
	Notify(unix.IN_MODIFY, p)
	return nil
}

// Truncate is truncate(2).
func Truncate(c Caller, dir *File, path string, size int64) error {
	if size < 0 {
		return unix.EINVAL
	}
	p, err := Lookup(c, dir, path, 0)
	if err != nil {
		return err
	}
	defer p.Put()
	d := p.Dentry
	switch d.typ {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		return unix.EINVAL
	}
	if err := p.writable(); err != nil {
		return err
	}
	if err := permission(c, c.Cred(), d.inode, d.sb, MayWrite); err != nil {
		return err
	}
	if d.inode.Attr().Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	if d.ist != nil && d.ist.writers.Load() < 0 {
		return unix.ETXTBSY
	}
	if err := breakLease(c, d.inode, true, false); err != nil {
		return err
	}
	return setSize(c, p, d.inode, size)
}

// Ftruncate is ftruncate(2).
func Ftruncate(c Caller, f *File, size int64) error {
	if f.IsPath() {
		return unix.EBADF
	}
	if size < 0 || f.typ != unix.S_IFREG || !f.Writable() {
		return unix.EINVAL
	}
	if f.Attr().Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	return setSize(c, f.Path, f.Inode, size)
}

// Access is faccessat2(2). mode is of R_OK, W_OK and X_OK; flags are AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH.
func Access(c Caller, dir *File, path string, mode uint32, flags int) error {
	if mode&^7 != 0 || flags&^(unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return unix.EINVAL
	}
	if flags&unix.AT_EACCESS == 0 {
		c = realCaller{c, accessCred(c.Cred())}
	}
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	if mode == 0 {
		return nil
	}
	d := p.Dentry
	if mode&MayExec != 0 && d.typ == unix.S_IFREG && p.Mount != nil && p.Mount.Flags()&unix.MS_NOEXEC != 0 {
		return unix.EACCES
	}
	if err := permission(c, c.Cred(), d.inode, d.sb, mode); err != nil {
		return err
	}
	if mode&MayWrite != 0 {
		switch d.typ {
		case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
			return p.writable()
		}
	}
	return nil
}

// realCaller is a caller that acts with other credentials.
type realCaller struct {
	Caller
	cred *cred.Cred
}

func (r realCaller) Cred() *cred.Cred { return r.cred }

// accessCred are the credentials that access(2) checks with: the real ids, and the capabilities that an exec by the real
// user would have.
func accessCred(cr *cred.Cred) *cred.Cred {
	if cr.FSUID == cr.UID && cr.FSGID == cr.GID && (cr.UID != 0 && cr.Effective == 0 || cr.UID == 0 && cr.Effective == cr.Permitted) {
		return cr
	}
	n := *cr
	n.FSUID, n.FSGID = cr.UID, cr.GID
	const secureNoSetuidFixup = 1 << 2
	if cr.Securebits&secureNoSetuidFixup == 0 {
		if cr.UID == 0 {
			n.Effective = cr.Permitted
		} else {
			n.Effective = 0
		}
	}
	return &n
}

// Statfs is statfs(2), and fstatfs with AT_EMPTY_PATH.
func Statfs(c Caller, dir *File, path string, flags int) (unix.Statfs_t, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return unix.Statfs_t{}, err
	}
	defer p.Put()
	st := p.Dentry.sb.sb.Statfs()
	if st.Namelen == 0 {
		st.Namelen = nameMax
	}
	if st.Bsize == 0 {
		st.Bsize = abi.PageSize
	}
	if st.Frsize == 0 {
		st.Frsize = st.Bsize
	}
	if p.Mount != nil {
		st.Flags = statfsFlags(p.Mount.Flags())
	}
	return st, nil
}

// statfsFlags makes ST_* of MS_*.
func statfsFlags(ms uint64) int64 {
	const stValid, stRelatime, stNosymfollow = 0x20, 0x1000, 0x2000
	// ST_RDONLY, NOSUID, NODEV, NOEXEC, SYNCHRONOUS and MANDLOCK have the values of MS_*.
	st := int64(ms&(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_SYNCHRONOUS|unix.MS_MANDLOCK)) |
		stValid
	for _, x := range []struct {
		ms uint64
		st int64
	}{{unix.MS_NOATIME, 0x400}, {unix.MS_NODIRATIME, 0x800}, {unix.MS_RELATIME, stRelatime},
		{unix.MS_NOSYMFOLLOW, stNosymfollow}} {
		if ms&x.ms != 0 {
			st |= x.st
		}
	}
	return st
}

// SyncDevices, if it is set, makes durable what was written to block special files.
var SyncDevices func()

// Sync is sync(2).
func Sync(Caller) error {
	for _, s := range allSupers() {
		if !s.readonly() {
			_ = s.sb.Sync() // sync(2) cannot fail
		}
	}
	if SyncDevices != nil {
		SyncDevices()
	}
	return nil
}

// EmergencyRemount makes all file systems read-only, whether or not files are open for writing.
func EmergencyRemount(c Caller) {
	for _, s := range allSupers() {
		if s.readonly() {
			continue
		}
		_ = s.sb.Sync()
		if s.sb.Remount(c, unix.MS_RDONLY, "") == nil {
			s.flags.Or(unix.MS_RDONLY)
		}
	}
}

// Syncfs is syncfs(2).
func Syncfs(_ Caller, f *File) error {
	if f.IsPath() {
		return unix.EBADF
	}
	if f.Path.Dentry.sb.readonly() {
		return nil
	}
	return f.Path.Dentry.sb.sb.Sync()
}
