package ubd

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// FileError says why a file cannot be a disk.
type FileError struct {
	File   string
	Reason string
	Want   string // what was expected
	Err    error  // unix.Errno; errors.Is finds it
}

func (e *FileError) Error() string {
	s := fmt.Sprintf("%s: %s", e.File, e.Reason)
	if e.Want != "" {
		s += "; expected " + e.Want
	}
	return s
}

// Unwrap is for errors.Is.
func (e *FileError) Unwrap() error { return e.Err }

const wantImage = "an image file or a block device of the host"

// hostImage is an opened file or block device of the host.
type hostImage struct {
	name string
	fd   int   // read-write, or read-only if ro
	rofd int   // read-only, for mapping
	size int64 // of the file, not rounded
	ro   bool
	blk  bool // a block device

	through bool // O_SYNC

	host *platform.HostFile
	view []byte // the whole file, nil if it could not be mapped
	hot  hotView

	// pages is the file for mappings of the block special file, which no program is run from.
	pages *platform.HostFile
}

// openImage opens a file. write asks for writing; it falls back to reading if the host refuses that.
func openImage(name string, write, sync bool) (*hostImage, error) {
	if name == "" {
		return nil, &FileError{name, "no file name", wantImage, unix.ENOENT}
	}
	flags := unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY // a fifo or a tty must not block or take us over
	if sync {
		flags |= unix.O_SYNC
	}
	im := &hostImage{name: name, fd: -1, rofd: -1, ro: !write, through: sync}
	var err error
	if write {
		im.fd, err = open(name, flags|unix.O_RDWR)
		if err == unix.EROFS || err == unix.EACCES || err == unix.EPERM || err == unix.ETXTBSY {
			klog.Warnf("ubd: %s cannot be opened for writing (%s): it is used read-only", name, err.(unix.Errno).Error())
			im.ro = true
		} else if err != nil {
			return nil, openError(name, err)
		}
	}
	if im.ro {
		if im.fd, err = open(name, flags|unix.O_RDONLY); err != nil {
			return nil, openError(name, err)
		}
	}
	if err := im.inspect(); err != nil {
		im.close()
		return nil, err
	}
	if im.ro {
		im.rofd = im.fd
	} else if im.rofd, err = open(name, flags&^unix.O_SYNC|unix.O_RDONLY); err != nil {
		im.rofd = -1 // write permission only: no mapping
	} else if !sameFile(im.fd, im.rofd) {
		_ = unix.Close(im.rofd)
		im.rofd = -1
	}
	im.pages = &platform.HostFile{RO: im.rofd, RW: -1, ID: im.host.ID}
	if !im.ro {
		im.pages.RW = im.fd
	}
	return im, nil
}

func open(name string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Open(name, flags, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

func openError(name string, err error) error {
	e, _ := err.(unix.Errno)
	if e == unix.EISDIR {
		return &FileError{name, fmt.Sprintf("Failed to open '%s', errno = %d (it is a directory)", name, int(e)),
			wantImage + "; mke2fs -d makes an image of a directory", e}
	}
	return &FileError{name, fmt.Sprintf("Failed to open '%s', errno = %d (%s)", name, int(e), err), wantImage, err}
}

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// inspect finds out type and size.
func (im *hostImage) inspect() error {
	var st unix.Stat_t
	if err := unix.Fstat(im.fd, &st); err != nil {
		return openError(im.name, err)
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		im.size = st.Size
	case unix.S_IFBLK:
		im.blk = true
		var n uint64
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(im.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n))); e != 0 {
			return &FileError{im.name, "Couldn't determine size of device's file: " + e.Error(), wantImage, e}
		}
		im.size = int64(n)
	case unix.S_IFDIR:
		return openError(im.name, unix.EISDIR)
	case unix.S_IFCHR:
		kind = "a character device"
	case unix.S_IFIFO:
		kind = "a fifo"
	default:
		kind = "a special file"
	}
	if kind != "" {
		return &FileError{im.name, "it is " + kind, wantImage, unix.ENOTBLK}
	}
	im.host = &platform.HostFile{RO: -1, RW: -1, ID: platform.FileID{Dev: uint64(st.Dev), Ino: st.Ino}}
	return nil
}

// share maps the file and makes it mappable for guests.
func (im *hostImage) share() {
	var fs unix.Statfs_t
	if unix.Fstatfs(im.fd, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0 && !im.blk {
		klog.Infof("ubd: %s lies on a noexec file system of the host: programs are copied to memory to be run", im.name)
	} else {
		im.host.RO = im.rofd
	}
	if im.rofd < 0 || im.size == 0 || int64(int(im.size)) != im.size {
		return
	}
	if p, err := unix.Mmap(im.rofd, 0, int(im.size), unix.PROT_READ, unix.MAP_SHARED); err == nil {
		im.view = p
		im.hot.open(im)
	}
}

func (im *hostImage) close() {
	for _, h := range []*platform.HostFile{im.host, im.pages} {
		if h != nil && h.OnClose != nil {
			h.OnClose()
		}
	}
	if im.view != nil {
		_ = unix.Munmap(im.view)
		im.view = nil
	}
	im.hot.close()
	if im.rofd >= 0 && im.rofd != im.fd {
		_ = unix.Close(im.rofd)
	}
	if im.fd >= 0 {
		_ = unix.Close(im.fd)
	}
	im.fd, im.rofd = -1, -1
}

// guestErrno is what the guest sees of a host error.
func guestErrno(err error) error {
	switch err {
	case nil:
		return nil
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		return unix.ENOSPC
	}
	return unix.EIO
}

// readAt fills p from the file. What lies beyond its end reads as zeroes, but EIO if the file had it when it was opened.
func (im *hostImage) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pread(im.fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			klog.Errf("ubd: reading %s at %d failed: %v", im.name, off, err)
			return guestErrno(err)
		case n == 0 && off < im.size:
			klog.Errf("ubd: reading %s at %d failed: the file was cut to less than its %d bytes", im.name, off, im.size)
			return unix.EIO
		case n == 0:
			clear(p)
			return nil
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (im *hostImage) writeAt(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(im.fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			klog.Errf("ubd: writing %s at %d failed: %v", im.name, off, err)
			return guestErrno(err)
		}
		im.hot.written(off, int64(n))
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// sync makes what was written durable.
func (im *hostImage) sync() error {
	defer im.hot.cool()
	for {
		if err := unix.Fdatasync(im.fd); err != unix.EINTR {
			return guestErrno(err)
		}
	}
}

// fallocate is fallocate(2) without a change of the size: EOPNOTSUPP if the host's file system cannot do it.
func (im *hostImage) fallocate(mode uint32, off, n int64) error {
	if im.ro {
		return unix.EROFS
	}
	for {
		switch err := unix.Fallocate(im.fd, mode|unix.FALLOC_FL_KEEP_SIZE, off, n); err {
		case unix.EINTR:
		case nil:
			return nil
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EINVAL:
			return unix.EOPNOTSUPP
		default:
			return guestErrno(err)
		}
	}
}

// viewOf is a part of the view, nil if it has not got it.
func (im *hostImage) viewOf(off, n int64) []byte {
	if off < 0 || n < 0 || off > int64(len(im.view)) || n > int64(len(im.view))-off {
		return nil
	}
	return im.view[off : off+n : off+n]
}

const pageSize = 4096

// pagesOf is what h, which is the file, has of n bytes from off on: the rest of the last page is there, and zero.
func (im *hostImage) pagesOf(h *platform.HostFile, off, n int64) (*platform.HostFile, int64, int64) {
	end := (im.size + pageSize - 1) &^ (pageSize - 1)
	if h.RO < 0 || off >= end {
		return nil, 0, 0
	}
	return h, off, min(n, end-off)
}

// raw is a disk that is one file.
type raw struct {
	name    string
	im      *hostImage
	noTrim  atomic.Bool
	noZero  atomic.Bool
	noPunch bool // flag t
}

// Open opens the files of a disk.
func Open(sp *Spec) (Device, error) {
	name := bdev.DiskName(sp.Unit)
	if sp.Backing != "" {
		return openCow(name, sp, sp.Backing)
	}
	im, err := openImage(sp.File, !sp.ReadOnly, sp.Sync)
	if err != nil {
		return nil, err
	}
	if !sp.Data && !im.blk {
		h, err := readHeader(im)
		if err != nil {
			im.close()
			return nil, err
		}
		if h != nil {
			im.close()
			return openCow(name, sp, h.backing)
		}
	}
	if err := lockImage(im, sp.Shared); err != nil {
		im.close()
		return nil, err
	}
	im.share()
	r := &raw{name: name, im: im, noPunch: sp.NoTrim}
	return r, nil
}

// lockImage locks a file for what it was opened for.
func lockImage(im *hostImage, shared bool) error {
	if shared {
		klog.Infof("Not locking \"%s\" on the host", im.name)
		return nil
	}
	return lockFile(im.fd, im.name, !im.ro)
}

// Name, Size and ReadOnly are bdev.Device's.
func (r *raw) Name() string { return r.name }

// Size is the file's, rounded up to whole sectors.
func (r *raw) Size() int64    { return (r.im.size + bdev.SectorSize - 1) &^ (bdev.SectorSize - 1) }
func (r *raw) ReadOnly() bool { return r.im.ro }

// ReadAt is bdev.Device's.
func (r *raw) ReadAt(p []byte, off int64) (int, error) {
	if err := r.im.readAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt is bdev.Device's.
func (r *raw) WriteAt(p []byte, off int64) (int, error) {
	if r.im.ro {
		return 0, unix.EROFS
	}
	if err := r.im.writeAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush is bdev.Device's.
func (r *raw) Flush() error {
	if r.im.ro {
		return nil
	}
	return r.im.sync()
}

// Discard punches a hole.
func (r *raw) Discard(off, n int64) error {
	if r.noPunch || r.noTrim.Load() {
		return unix.EOPNOTSUPP
	}
	err := r.im.fallocate(unix.FALLOC_FL_PUNCH_HOLE, off, n)
	if err == unix.EOPNOTSUPP {
		r.noTrim.Store(true)
	}
	return err
}

// WriteZeroes zeroes a range of the file, by writing if the host has nothing better.
func (r *raw) WriteZeroes(off, n int64) error {
	if r.im.ro {
		return unix.EROFS
	}
	if !r.noZero.Load() {
		err := r.im.fallocate(unix.FALLOC_FL_ZERO_RANGE, off, n)
		if err != unix.EOPNOTSUPP {
			return err
		}
		r.noZero.Store(true)
	}
	zero := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, int64(len(zero)))
		if err := r.im.writeAt(zero[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// View is bdev.Viewer's.
func (r *raw) View(off, n int64) []byte { return r.im.viewOf(off, n) }

// Store is bdev.Storer's.
func (r *raw) Store(off, n int64, fill func(p []byte)) bool { return r.im.hot.store(off, n, fill) }

// HostRange is bdev.Mapper's.
func (r *raw) HostRange(off, n int64) (h *platform.HostFile, hostOff, length int64) {
	return r.im.pagesOf(r.im.host, off, n)
}

// HostPages is bdev.PageMapper's.
func (r *raw) HostPages(off, n int64, _ bool) (h *platform.HostFile, hostOff, length int64, err error) {
	h, hostOff, length = r.im.pagesOf(r.im.pages, off, n)
	return h, hostOff, length, nil
}

// Limits are those of UML's disks.
func (r *raw) Limits() bdev.Limits { return limits(!r.noPunch && !r.im.ro) }

func limits(discard bool) bdev.Limits {
	l := bdev.Limits{PhysicalBlock: bdev.SectorSize, WriteCache: true}
	if discard {
		l.DiscardGranularity, l.DiscardMax = bdev.SectorSize, 32768
	}
	return l
}

// Close closes the file and drops the lock.
func (r *raw) Close() error {
	r.im.close()
	return nil
}

// absolute makes a name absolute for messages and headers.
func absolute(name string) string {
	if len(name) > 0 && name[0] == '/' {
		return name
	}
	if wd, err := os.Getwd(); err == nil {
		return wd + "/" + name
	}
	return name
}
