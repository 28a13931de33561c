package vfs

import (
	"encoding/binary"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// maxRW is the most that one read or write moves (MAX_RW_COUNT).
const maxRW = math.MaxInt32 &^ (abi.PageSize - 1)

// Read is read(2) and readv(2).
func Read(c Caller, f *File, dst *uio.Dst) (int, error) {
	if !f.Readable() {
		return 0, unix.EBADF
	}
	dst.Limit(maxRW)
	var n int
	var err error
	switch {
	case f.stream:
		n, err = f.Ops.Read(c, f, dst, 0)
	case f.locked:
		f.posMu.Lock()
		n, err = f.readAt(c, dst, f.pos)
		if n > 0 {
			atomic.StoreInt64(&f.pos, f.pos+int64(n))
		}
		f.posMu.Unlock()
	default:
		pos := f.Pos()
		n, err = f.readAt(c, dst, pos)
		if n > 0 {
			f.SetPos(pos + int64(n))
		}
	}
	if n > 0 {
		Notify(unix.IN_ACCESS, f.Path)
		return n, nil
	}
	return n, err
}

// Pread is pread(2) and preadv(2).
func Pread(c Caller, f *File, dst *uio.Dst, off int64) (int, error) {
	if err := f.positional(f.Readable(), off); err != nil {
		return 0, err
	}
	dst.Limit(maxRW)
	n, err := f.readAt(c, dst, off)
	if n > 0 {
		Notify(unix.IN_ACCESS, f.Path)
		return n, nil
	}
	return n, err
}

// positional makes the checks of pread and pwrite; open says whether the descriptor's mode fits.
func (f *File) positional(open bool, off int64) error {
	switch {
	case off < 0:
		return unix.EINVAL
	case f.IsPath():
		return unix.EBADF
	case f.stream:
		return unix.ESPIPE
	case !open:
		return unix.EBADF
	}
	return nil
}

func (f *File) readAt(c Caller, dst *uio.Dst, off int64) (int, error) {
	if f.typ == unix.S_IFDIR {
		return 0, unix.EISDIR
	}
	if off > math.MaxInt64-int64(dst.Len()) {
		return 0, unix.EINVAL
	}
	n, err := f.Ops.Read(c, f, dst, off)
	f.Accessed()
	return n, err
}

// Write is write(2) and writev(2).
func Write(c Caller, f *File, src *uio.Src) (int, error) {
	if !f.Writable() {
		return 0, unix.EBADF
	}
	src.Limit(maxRW)
	var n int
	var err error
	switch {
	case f.stream:
		n, err = f.Ops.Write(c, f, src, 0)
	case f.locked:
		f.posMu.Lock()
		before := f.pos
		n, err = f.writeAt(c, src, before)
		// An append to a file has set the position itself.
		if n > 0 && (f.Flags()&unix.O_APPEND == 0 || f.typ != unix.S_IFREG) {
			atomic.StoreInt64(&f.pos, before+int64(n))
		}
		f.posMu.Unlock()
	default:
		pos := f.Pos()
		n, err = f.writeAt(c, src, pos)
		if n > 0 {
			f.SetPos(pos + int64(n))
		}
	}
	return f.written(c, n, err)
}

// Pwrite is pwrite(2) and pwritev(2). As on Linux, O_APPEND wins over off.
func Pwrite(c Caller, f *File, src *uio.Src, off int64) (int, error) {
	if err := f.positional(f.Writable(), off); err != nil {
		return 0, err
	}
	src.Limit(maxRW)
	var n int
	var err error
	if f.locked && f.Flags()&unix.O_APPEND != 0 {
		f.posMu.Lock()
		keep := f.pos
		n, err = f.writeAt(c, src, off)
		atomic.StoreInt64(&f.pos, keep)
		f.posMu.Unlock()
	} else {
		n, err = f.writeAt(c, src, off)
	}
	return f.written(c, n, err)
}

// AtEnd is the position of a write that appends although the file was not opened for that (RWF_APPEND).
const AtEnd = int64(math.MinInt64)

// Appends reports whether a write to f at off goes to the end of the file.
func (f *File) Appends(off int64) bool { return f.Flags()&unix.O_APPEND != 0 || off == AtEnd }

// Append is pwritev2(2) with RWF_APPEND; move says whether the file's position moves to behind what was written.
func Append(c Caller, f *File, src *uio.Src, move bool) (int, error) {
	if !f.locked {
		return Write(c, f, src) // a stream, or a device without an end
	}
	if err := f.positional(f.Writable(), 0); err != nil {
		return 0, err
	}
	src.Limit(maxRW)
	f.posMu.Lock()
	keep := f.pos
	n, err := f.writeAt(c, src, AtEnd)
	if !move {
		atomic.StoreInt64(&f.pos, keep)
	}
	f.posMu.Unlock()
	return f.written(c, n, err)
}

// writeAt checks limits and privileges of a write to a file with a position and does it.
func (f *File) writeAt(c Caller, src *uio.Src, off int64) (int, error) {
	if off > math.MaxInt64-int64(src.Len()) {
		return 0, unix.EINVAL
	}
	if f.typ == unix.S_IFREG && src.Len() > 0 {
		if limit := c.Rlimit(unix.RLIMIT_FSIZE); limit != unix.RLIM_INFINITY {
			at := off
			if f.Appends(off) {
				at = f.Attr().Size
			}
			if uint64(at) >= limit {
				c.Signal(unix.SIGXFSZ)
				return 0, unix.EFBIG
			}
			src.Limit(int(min(limit-uint64(at), maxRW)))
		}
		f.dropPrivs(c)
	}
	return f.Ops.Write(c, f, src, off)
}

// written ends a write: events and O_SYNC.
func (f *File) written(c Caller, n int, err error) (int, error) {
	if n <= 0 {
		return n, err
	}
	Notify(unix.IN_MODIFY, f.Path)
	if f.Flags()&unix.O_DSYNC != 0 && (f.typ == unix.S_IFREG || f.typ == unix.S_IFBLK) {
		if s, ok := f.Ops.(Syncer); ok {
			if err := s.Fsync(c, f, f.Flags()&unix.O_SYNC != unix.O_SYNC); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// dropPrivs takes file capabilities from a file that is written, and setuid and setgid bits if the writer has no
// CAP_FSETID.
func (f *File) dropPrivs(c Caller) {
	a := f.Inode.Attr()
	if a.Mode&(0o111|unix.S_ISUID|unix.S_ISGID) == 0 {
		return
	}
	dropCaps(c, f.Inode, &a)
	if strippedMode(&a) == a.Mode || c.Cred().Capable(unix.CAP_FSETID) {
		return
	}
	defer f.Path.Dentry.lockAttr()()
	a = f.Inode.Attr()
	if m := strippedMode(&a); m != a.Mode {
		_ = f.Inode.SetAttr(c, &SetAttr{Valid: SetMode, Mode: m & 0o7777}) // a write does not fail for this
	}
}

// dropCaps takes file capabilities from a file that changes.
func dropCaps(c Caller, in Inode, a *Attr) {
	if a.Mode&0o111 == 0 {
		return // nobody can execute it
	}
	if _, err := in.Getxattr(c, xattrCaps); err == nil {
		_ = in.Removexattr(c, xattrCaps) // another writer may have been faster
	}
}

// strippedMode is the mode without the bits that a change of content or owner takes away.
func strippedMode(a *Attr) uint32 {
	m := a.Mode &^ unix.S_ISUID
	if m&unix.S_IXGRP != 0 {
		m &^= unix.S_ISGID
	}
	return m
}

// AtimeUpdater is an Inode that can note an access without a change of its ctime. The vfs calls it when the mount's atime
// rules say so; an inode without it keeps its atime.
type AtimeUpdater interface {
	UpdateAtime(now unix.Timespec)
}

// Accessed updates the access time after a read, readdir or mmap.
func (f *File) Accessed() {
	if f.Flags()&unix.O_NOATIME == 0 && f.Path.Mount != nil {
		touchAtime(f.Path.Mount, f.Inode, f.typ)
	}
}

// touchAtime updates the access time by the rules of mount(8): noatime, nodiratime, relatime (when it is not after mtime or
// ctime, or older than a day).
func touchAtime(m *Mount, in Inode, typ uint32) {
	u, ok := in.(AtimeUpdater)
	if !ok || m == nil {
		return
	}
	fl := m.Flags()
	if fl&(unix.MS_RDONLY|unix.MS_NOATIME) != 0 || fl&unix.MS_NODIRATIME != 0 && typ == unix.S_IFDIR {
		return
	}
	a := in.Attr()
	now := ktime.Realtime()
	if fl&unix.MS_RELATIME != 0 {
		at := unix.TimespecToNsec(a.Atime)
		if at > unix.TimespecToNsec(a.Mtime) && at > unix.TimespecToNsec(a.Ctime) && now-at < 24*3600*1e9 {
			return
		}
	}
	u.UpdateAtime(abi.NsecToTimespec(now))
}

// Seek is lseek(2).
func Seek(c Caller, f *File, off int64, whence int) (int64, error) {
	if f.IsPath() {
		return 0, unix.EBADF
	}
	if f.stream {
		if s, ok := f.Ops.(Seeker); ok {
			return s.Seek(c, f, off, whence)
		}
		return 0, unix.ESPIPE
	}
	f.posMu.Lock()
	defer f.posMu.Unlock()
	var n int64
	var err error
	if s, ok := f.Ops.(Seeker); ok {
		n, err = s.Seek(c, f, off, whence)
	} else {
		n, err = GenericSeek(f, off, whence)
	}
	if err != nil {
		return 0, err
	}
	f.SetPos(n)
	return n, nil
}

// GenericSeek is what lseek returns for a file that is all data up to its size.
func GenericSeek(f *File, off int64, whence int) (int64, error) {
	base := int64(0)
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		base = f.Pos()
	case unix.SEEK_END:
		base = f.Attr().Size
	case unix.SEEK_DATA, unix.SEEK_HOLE:
		size := f.Attr().Size
		if off < 0 || off >= size {
			return 0, unix.ENXIO
		}
		if whence == unix.SEEK_HOLE {
			return size, nil
		}
	default:
		return 0, unix.EINVAL
	}
	if off > 0 && base > math.MaxInt64-off || base+off < 0 {
		return 0, unix.EINVAL
	}
	return base + off, nil
}

// ReadDir is getdents(2): emit gets the entries from the file's position on until it returns false.
func ReadDir(c Caller, f *File, emit func(DirEnt) bool) error {
	if f.IsPath() {
		return unix.EBADF
	}
	dr, ok := f.Ops.(DirReader)
	if !ok {
		return unix.ENOTDIR
	}
	f.posMu.Lock()
	defer f.posMu.Unlock()
	if f.Path.Dentry != nil && f.Path.Dentry.has(dDead) {
		return unix.ENOENT
	}
	err := dr.ReadDir(c, f, f.pos, func(e DirEnt) bool {
		if !emit(e) {
			return false
		}
		f.SetPos(e.Off)
		return true
	})
	f.Accessed()
	Notify(unix.IN_ACCESS, f.Path)
	return err
}

// Ioctl is ioctl(2), without the commands that belong to the descriptor (FIOCLEX, FIONBIO, FIOASYNC).
func Ioctl(c Caller, f *File, cmd uint32, arg uint64) (uint64, error) {
	if f.IsPath() {
		return 0, unix.EBADF
	}
	if i, ok := f.Ops.(Ioctler); ok {
		v, err := i.Ioctl(c, f, cmd, arg)
		if err != unix.ENOTTY {
			return v, err
		}
	}
	if f.typ == unix.S_IFREG && cmd == unix.TIOCINQ {
		a := f.Attr()
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(a.Size-f.Pos()))
		return 0, uio.WriteFull(c.Mem(), b[:], arg)
	}
	return 0, unix.ENOTTY
}

// Fsync is fsync(2) and fdatasync(2).
func Fsync(c Caller, f *File, dataOnly bool) error {
	if f.IsPath() {
		return unix.EBADF
	}
	s, ok := f.Ops.(Syncer)
	if !ok {
		return unix.EINVAL
	}
	return s.Fsync(c, f, dataOnly)
}

// Fallocate is fallocate(2).
func Fallocate(c Caller, f *File, mode uint32, off, n int64) error {
	const (
		keep     = unix.FALLOC_FL_KEEP_SIZE
		punch    = unix.FALLOC_FL_PUNCH_HOLE
		collapse = unix.FALLOC_FL_COLLAPSE_RANGE
		zero     = unix.FALLOC_FL_ZERO_RANGE
		insert   = unix.FALLOC_FL_INSERT_RANGE
		unshare  = unix.FALLOC_FL_UNSHARE_RANGE
	)
	if off < 0 || n <= 0 {
		return unix.EINVAL
	}
	switch mode &^ keep {
	case 0, zero, unshare:
	case punch:
		if mode&keep == 0 {
			return unix.EOPNOTSUPP
		}
	case collapse, insert:
		if mode&keep != 0 {
			return unix.EINVAL
		}
	default:
		return unix.EOPNOTSUPP
	}
	if !f.Writable() {
		return unix.EBADF
	}
	a := f.Attr()
	if a.Flags&unix.STATX_ATTR_IMMUTABLE != 0 || mode&^keep != 0 && a.Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	switch f.typ {
	case unix.S_IFREG, unix.S_IFBLK:
	case unix.S_IFIFO:
		return unix.ESPIPE
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		return unix.ENODEV
	}
	if off > math.MaxInt64-n {
		return unix.EFBIG
	}
	fa, ok := f.Ops.(Fallocater)
	if !ok {
		return unix.EOPNOTSUPP
	}
	if f.typ == unix.S_IFREG {
		if mode&(keep|punch) == 0 && off+n > a.Size {
			if err := checkSize(c, off+n); err != nil {
				return err
			}
		}
		f.dropPrivs(c)
	}
	if err := fa.Fallocate(c, f, mode, off, n); err != nil {
		return err
	}
	Notify(unix.IN_MODIFY, f.Path)
	return nil
}

// MapFile returns what backs the file for mmap(2). exec asks for PROT_EXEC, write for PROT_WRITE.
func MapFile(c Caller, f *File, shared, write, exec bool) (Mapping, error) {
	if f.IsPath() {
		return nil, unix.EBADF
	}
	if !f.Readable() || shared && write && !f.Writable() {
		return nil, unix.EACCES
	}
	if exec && f.NoExec() {
		return nil, unix.EPERM
	}
	m, ok := f.Ops.(Mappable)
	if !ok {
		return nil, unix.ENODEV
	}
	mp, err := m.Mapping(c, f, shared, write)
	if err == nil {
		f.Accessed()
	}
	return mp, err
}
