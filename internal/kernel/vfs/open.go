package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	oLargefile    = 0o100000 // x/sys has the value that open needs, 0, not the one that F_GETFL shows
	resolveCached = 0x20     // RESOLVE_CACHED
	oTmpfile      = unix.O_TMPFILE &^ unix.O_DIRECTORY

	// oKnown are the flags that open(2) understands; open ignores others, openat2 refuses them.
	oKnown = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND |
		unix.O_NONBLOCK | unix.O_SYNC | unix.O_ASYNC | unix.O_DIRECT | oLargefile | unix.O_DIRECTORY |
		unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | unix.O_TMPFILE
)

// OpenHow is openat2(2)'s struct open_how.
type OpenHow struct {
	Flags   uint32
	Mode    uint32
	Resolve uint64
}

// Check is what openat2 demands of its flags beyond what open does.
func (h *OpenHow) Check() error {
	const resolveAll = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS |
		unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | resolveCached
	if h.Flags&^uint32(oKnown) != 0 || h.Resolve&^uint64(resolveAll) != 0 {
		return unix.EINVAL
	}
	if h.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) == unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT {
		return unix.EINVAL
	}
	creates := h.Flags&unix.O_CREAT != 0 || h.Flags&oTmpfile != 0
	if creates && h.Mode&^uint32(0o7777) != 0 || !creates && h.Mode != 0 {
		return unix.EINVAL
	}
	if h.Flags&unix.O_PATH != 0 &&
		h.Flags&^uint32(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|oLargefile) != 0 {
		return unix.EINVAL
	}
	if h.Resolve&resolveCached != 0 {
		return unix.EAGAIN // "not in the cache": the caller tries again without the flag
	}
	return nil
}

// TmpfileMaker is an inode of a directory that can make files without a name (O_TMPFILE): Nlink 0, to be linked by
// linkat(2) unless the file was opened with O_EXCL.
type TmpfileMaker interface {
	Tmpfile(c Caller, mode uint32) (Inode, error)
}

// Open is openat2(2): dir nil is AT_FDCWD. The result has one reference.
func Open(c Caller, dir *File, path string, how OpenHow) (*File, error) {
	flags := how.Flags & oKnown
	if flags&unix.O_PATH != 0 {
		flags &= unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	} else {
		flags |= oLargefile
	}
	if path == "" {
		return nil, unix.ENOENT
	}
	if flags&oTmpfile != 0 {
		if flags&unix.O_DIRECTORY == 0 || flags&unix.O_ACCMODE == unix.O_RDONLY || flags&unix.O_CREAT != 0 {
			return nil, unix.EINVAL
		}
		return openTmpfile(c, dir, path, flags, how)
	}
	if flags&unix.O_CREAT != 0 {
		if flags&unix.O_DIRECTORY != 0 {
			return nil, unix.EINVAL
		}
		for stale := false; ; {
			f, err := openCreate(c, dir, path, flags, how)
			if err != errDied && (err != unix.ESTALE || stale) {
				return f, err
			}
			stale = stale || err == unix.ESTALE
		}
	}
	w := walker{c: c, follow: flags&unix.O_NOFOLLOW == 0, resolve: how.Resolve}
	p, err := w.resolveTo(dir, path)
	if err != nil {
		return nil, err
	}
	return openPath(c, p, flags, false)
}

// newACL is what a new file gets from its directory's default ACL.
type newACL struct {
	access []aclEntry // nil if the mode says it all
	deflt  []byte     // of a directory
}

// createMode is the mode that a new file gets, and the ACLs that it inherits, nil if there are none.
func createMode(c Caller, dir *Dentry, mode uint32) (uint32, *newACL) {
	mode = sanitizeMode(c, dir, mode)
	if dir.sb.acl {
		if v, err := dir.inode.Getxattr(c, xattrACLDefault); err == nil {
			if es, err := parseACL(v); err == nil && es != nil {
				acl := &newACL{}
				if mode&unix.S_IFMT == unix.S_IFDIR {
					acl.deflt = formatACL(es)
				}
				mode = aclCreate(es, mode)
				if _, extended := aclMode(es); extended {
					acl.access = es
				}
				return mode, acl
			}
		}
	}
	return mode &^ c.FS().Umask(), nil
}

// inherit gives a new inode the ACLs. One for which there is no room loses its name again: undo is Unlink or Rmdir, nil for a
// file without a name.
func (acl *newACL) inherit(c Caller, in Inode, undo func() error) (err error) {
	if acl == nil {
		return nil
	}
	if acl.deflt != nil {
		err = in.Setxattr(c, xattrACLDefault, acl.deflt, 0)
	}
	if err == nil && acl.access != nil {
		err = in.Setxattr(c, xattrACLAccess, formatACL(acl.access), 0)
	}
	if err != nil {
		if undo == nil || undo() == nil {
			in.Forget()
		}
	}
	return err
}

// openCreate is Open with O_CREAT. errDied asks for another try.
func openCreate(c Caller, dir *File, path string, flags uint32, how OpenHow) (*File, error) {
	w := walker{c: c, parent: true, resolve: how.Resolve}
	defer w.done()
	if err := w.start(dir, path); err != nil {
		return nil, err
	}
	for rest := path; ; {
		if err := w.walk(rest); err != nil {
			return nil, err
		}
		if w.special() || w.trailing {
			if flags&unix.O_EXCL != 0 && !w.trailing {
				return nil, unix.EEXIST
			}
			return nil, unix.EISDIR
		}
		k, created, err := w.lookupCreate(flags, how.Mode)
		if err != nil {
			return nil, err
		}
		if created {
			return openPath(c, Path{w.cur.Mount, k}, flags, true)
		}
		w.own(k)
		if flags&unix.O_EXCL != 0 {
			return nil, unix.EEXIST
		}
		if k.typ == unix.S_IFLNK && k.mounts.Load() == 0 {
			if flags&unix.O_NOFOLLOW != 0 {
				return nil, unix.ELOOP
			}
			target, jumped, err := w.link(k, true)
			if err != nil {
				return nil, err
			}
			if !jumped {
				rest = target
				continue
			}
		} else if err := w.enter(k); err != nil {
			return nil, err
		}
		if !w.cur.tryGet() {
			return nil, errDied
		}
		if w.cur.Dentry.isDir() {
			w.cur.Put()
			return nil, unix.EISDIR
		}
		return openPath(c, w.cur, flags, false)
	}
}

// lookupCreate finds w.last in w.cur or makes it. The dentry has a reference; if it was created, so has w.cur.Mount.
func (w *walker) lookupCreate(flags, mode uint32) (k *Dentry, created bool, err error) {
	d := w.cur.Dentry
	if k := d.child(w.last); k != nil && k.inode != nil && k.tryGet() {
		if d.stands(k, w.last) {
			return k, false, nil
		}
		k.put()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err = d.findLocked(w.c, w.last)
	if err != nil {
		return nil, false, err
	}
	if k != nil {
		if k.inode != nil {
			return k, false, nil
		}
		defer k.put()
	}
	if err := w.cur.writable(); err != nil {
		return nil, false, err
	}
	if err := mayCreate(w.c, d); err != nil {
		return nil, false, err
	}
	m, acl := createMode(w.c, d, mode&0o7777|unix.S_IFREG)
	if w.cur.Mount != nil && !w.cur.Mount.tryGet() {
		return nil, false, errDied
	}
	name := strings.Clone(w.last)
	in, err := d.inode.Create(w.c, name, m, 0)
	if err == nil {
		err = acl.inherit(w.c, in, func() error { return d.inode.Unlink(w.c, name, in) })
	}
	if err != nil {
		if k != nil {
			d.unhash(k)
		}
		w.cur.Mount.put()
		return nil, false, err
	}
	n := d.attach(k, name, in)
	notifyEntry(unix.IN_CREATE, d, name, in, false, 0)
	return n, true, nil
}

// openTmpfile is Open with O_TMPFILE.
func openTmpfile(c Caller, dir *File, path string, flags uint32, how OpenHow) (*File, error) {
	w := walker{c: c, follow: flags&unix.O_NOFOLLOW == 0, resolve: how.Resolve}
	p, err := w.resolveTo(dir, path)
	if err != nil {
		return nil, err
	}
	defer p.Put()
	if !p.Dentry.isDir() {
		return nil, unix.ENOTDIR
	}
	tm, ok := p.Dentry.inode.(TmpfileMaker)
	if !ok {
		return nil, unix.EOPNOTSUPP
	}
	if err := p.writable(); err != nil {
		return nil, err
	}
	if err := mayCreate(c, p.Dentry); err != nil {
		return nil, err
	}
	m, acl := createMode(c, p.Dentry, how.Mode&0o7777|unix.S_IFREG)
	in, err := tm.Tmpfile(c, m)
	if err != nil {
		return nil, err
	}
	if err := acl.inherit(c, in, nil); err != nil {
		return nil, err
	}
	d := newDentry(p.Dentry.sb, p.Dentry, "#"+utoa(in.Attr().Ino), in)
	d.state.Or(dDeleted)
	if flags&unix.O_EXCL == 0 {
		d.state.Or(dTmpfile)
	}
	p.Mount.refs.Add(1)
	f, err := openPath(c, Path{p.Mount, d}, flags&^unix.O_DIRECTORY, true)
	if err == nil {
		f.flags.Or(unix.O_DIRECTORY) // F_GETFL shows both halves of O_TMPFILE
	}
	return f, err
}

func utoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// openPath opens the file at p, whose references it takes over. A file that was just created is not checked.
func openPath(c Caller, p Path, flags uint32, created bool) (*File, error) {
	f, err := tryOpen(c, p, flags, created)
	if err != nil {
		p.Put()
		return nil, err
	}
	return f, nil
}

func tryOpen(c Caller, p Path, flags uint32, created bool) (_ *File, err error) {
	d := p.Dentry
	if flags&unix.O_DIRECTORY != 0 && !d.isDir() {
		if d.typ == unix.S_IFLNK && flags&unix.O_PATH == 0 {
			return nil, unix.ELOOP
		}
		return nil, unix.ENOTDIR
	}
	if flags&unix.O_PATH != 0 {
		return NewFile(p, d.inode, noOps{}, flags), nil
	}
	if err := mayOpen(c, p, flags, created); err != nil {
		return nil, err
	}
	if flags&unix.O_DIRECT != 0 && d.isDir() {
		return nil, unix.EINVAL
	}
	f := NewFile(p, d.inode, nil, flags)
	defer f.uncount(&err)
	if err := f.getWrite(); err != nil {
		return nil, err
	}
	if f.typ == unix.S_IFREG && !created {
		if err := breakLease(c, d.inode, f.Writable() || flags&unix.O_TRUNC != 0, f.Nonblock()); err != nil {
			f.putWrite()
			return nil, err
		}
	}
	ops, err := d.inode.Open(c, f)
	if err != nil {
		f.putWrite()
		return nil, err
	}
	f.setOps(ops)
	f.flags.Store(flags &^ (unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC))
	Notify(unix.IN_OPEN, p)
	if flags&unix.O_TRUNC != 0 && !created && d.typ == unix.S_IFREG {
		if err := setSize(c, p, d.inode, 0); err != nil {
			f.putWrite()
			ops.Release(f)
			return nil, err
		}
	}
	return f, nil
}

// mayOpen checks what may_open of Linux checks.
func mayOpen(c Caller, p Path, flags uint32, created bool) error {
	d := p.Dentry
	acc := uint32(MayRead)
	switch flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		acc = MayWrite
	case unix.O_RDWR, unix.O_ACCMODE:
		acc = MayRead | MayWrite
	}
	if flags&unix.O_TRUNC != 0 {
		acc |= MayWrite
	}
	switch d.typ {
	case unix.S_IFLNK:
		return unix.ELOOP
	case unix.S_IFDIR:
		if acc&MayWrite != 0 {
			return unix.EISDIR
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if p.Mount != nil && p.Mount.Flags()&unix.MS_NODEV != 0 {
			return unix.EACCES
		}
	case unix.S_IFREG:
		if acc&MayWrite != 0 {
			if err := p.writable(); err != nil {
				return err
			}
		}
	}
	if !created {
		if err := permission(c, c.Cred(), d.inode, d.sb, acc); err != nil {
			return err
		}
	}
	if acc&MayWrite == 0 && flags&unix.O_NOATIME == 0 {
		return nil
	}
	a := d.inode.Attr()
	if a.Flags&unix.STATX_ATTR_APPEND != 0 && acc&MayWrite != 0 &&
		(flags&unix.O_APPEND == 0 || flags&unix.O_TRUNC != 0) {
		return unix.EPERM
	}
	if flags&unix.O_NOATIME != 0 && !ownerOrCapable(c.Cred(), &a) {
		return unix.EPERM
	}
	return nil
}

// OpenExec opens a program for execve(2) or execveat(2): a regular file that the caller may execute, on a mount without
// noexec, and that nobody writes. Flags are AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH. Writing is denied (ETXTBSY) until
// AllowWrite.
func OpenExec(c Caller, dir *File, path string, flags int) (*File, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return nil, err
	}
	f, err := openExec(c, p)
	if err != nil {
		p.Put()
		return nil, err
	}
	return f, nil
}

func openExec(c Caller, p Path) (_ *File, err error) {
	d := p.Dentry
	if d.typ == unix.S_IFLNK {
		return nil, unix.ELOOP
	}
	if d.typ != unix.S_IFREG || p.Mount != nil && p.Mount.Flags()&unix.MS_NOEXEC != 0 {
		return nil, unix.EACCES
	}
	if err := permission(c, c.Cred(), d.inode, d.sb, MayExec); err != nil {
		return nil, err
	}
	f := NewFile(p, d.inode, nil, unix.O_RDONLY|oLargefile)
	defer f.uncount(&err)
	if err := DenyWrite(f); err != nil {
		return nil, err
	}
	ops, err := d.inode.Open(c, f)
	if err != nil {
		AllowWrite(f)
		return nil, err
	}
	f.setOps(ops)
	Notify(unix.IN_OPEN, p)
	return f, nil
}

// getWrite counts a file that is opened; if for writing, ETXTBSY while a program runs from it.
func (f *File) getWrite() error {
	if f.typ != unix.S_IFREG {
		return nil
	}
	if !f.Writable() {
		if ist := f.Path.Dentry.ist; ist != nil {
			ist.readers.Add(1)
			f.counted = true
		}
		return nil
	}
	if ist := f.Path.Dentry.ist; ist != nil {
		for {
			n := ist.writers.Load()
			if n < 0 {
				return unix.ETXTBSY
			}
			if ist.writers.CompareAndSwap(n, n+1) {
				break
			}
		}
	}
	if f.Path.Mount != nil {
		f.Path.Mount.writers.Add(1)
		f.Path.Mount.sb.writers.Add(1)
		f.Path.Mount.expiring.Store(false)
	}
	f.counted = true
	return nil
}

func (f *File) putWrite() {
	if !f.counted {
		return
	}
	f.counted = false
	if !f.Writable() {
		f.Path.Dentry.ist.readers.Add(-1)
		return
	}
	if ist := f.Path.Dentry.ist; ist != nil {
		ist.writers.Add(-1)
	}
	if f.Path.Mount != nil {
		f.Path.Mount.writers.Add(-1)
		f.Path.Mount.sb.writers.Add(-1)
	}
}

// DenyWrite keeps a running program's file from being written: ETXTBSY if somebody has it open for writing.
func DenyWrite(f *File) error {
	if f.Path.Dentry == nil || f.Path.Dentry.ist == nil {
		return nil
	}
	w := &f.Path.Dentry.ist.writers
	for {
		n := w.Load()
		if n > 0 {
			return unix.ETXTBSY
		}
		if w.CompareAndSwap(n, n-1) {
			return nil
		}
	}
}

// AllowWrite undoes one DenyWrite (or OpenExec).
func AllowWrite(f *File) {
	if f.Path.Dentry != nil && f.Path.Dentry.ist != nil {
		f.Path.Dentry.ist.writers.Add(1)
	}
}
