package hostfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// rwfAppend is RWF_APPEND of pwritev2(2).
const rwfAppend = 0x10

// Open implements vfs.Inode. Devices, fifos and sockets are the guest's own.
func (in *inode) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	switch in.typ {
	case unix.S_IFREG:
		return in.openFile(f)
	case unix.S_IFDIR:
		return in.openDir()
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	}
	return vfs.OpenSpecial(c, f, in.typ, in.Attr().Rdev)
}

// file is an open regular file.
type file struct {
	vfs.FileBase
	in *inode
	h  *handle // open for what the guest's descriptor is, at least
}

func (in *inode) openFile(f *vfs.File) (vfs.FileOps, error) {
	var h *handle
	var err error
	switch f.Flags() & unix.O_ACCMODE {
	case unix.O_RDONLY:
		h, err = in.openRead()
	case unix.O_WRONLY:
		h, err = in.openWrite(false)
	default:
		h, err = in.openWrite(true)
	}
	if err != nil {
		return nil, err
	}
	return &file{in: in, h: h}, nil
}

// openRead returns the descriptor for reading.
func (in *inode) openRead() (*handle, error) { return in.share(&in.rd, unix.O_RDONLY) }

// openWrite returns the descriptor for writing, and for reading if that is wanted or possible.
func (in *inode) openWrite(read bool) (*handle, error) {
	h, err := in.share(&in.wr, unix.O_RDWR)
	if err == unix.EACCES && !read {
		var p atomic.Pointer[handle] // not to be shared with readers
		return in.share(&p, unix.O_WRONLY)
	}
	return h, err
}

// share returns the open descriptor at p, or makes one there.
func (in *inode) share(p *atomic.Pointer[handle], flags int) (*handle, error) {
	if h := p.Load(); h != nil && h.tryGet() {
		return h, nil
	}
	in.openMu.Lock()
	defer in.openMu.Unlock()
	if h := p.Load(); h != nil && h.tryGet() {
		return h, nil
	}
	h, err := in.reopen(flags)
	if err == nil {
		p.Store(h)
	}
	return h, err
}

// reopen opens the file once more, by a descriptor that leads to nothing but this file. Who has just made it may write to
// it whatever its mode is.
func (in *inode) reopen(flags int) (*handle, error) {
	if h := in.cached.Load(); h != nil && h.fresh && flags == unix.O_RDWR {
		if h := in.uncache(); h != nil {
			return h, nil
		}
	}
	h, err := in.hold()
	if err != nil {
		return nil, err
	}
	defer h.put()
	if in.hostType != unix.S_IFREG || in.hidden(h) {
		return nil, unix.EACCES
	}
	if err := in.suffice(h); err != nil {
		return nil, err
	}
	fd, err := in.sb.srv.open(unix.AT_FDCWD, h.path(), in.sb.flags(flags)|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if h.fresh {
		if made := in.uncache(); made != nil {
			made.put() // a descriptor for writing must not stay open for long
		}
	}
	return newHandle(fd), nil
}

// Release implements vfs.FileOps.
func (f *file) Release(*vfs.File) { f.h.put() }

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// Read implements vfs.FileOps.
func (f *file) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, off int64) (int, error) {
	if p := dst.Bytes(); p != nil {
		n, err := f.pread(p, off)
		dst.Skip(n)
		return n, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	done := 0
	for dst.Len() > 0 {
		p := (*buf)[:min(dst.Len(), len(*buf))]
		n, err := f.pread(p, off+int64(done))
		if err != nil {
			return done, partial(done, err)
		}
		k, err := dst.CopyOut(p[:n])
		done += k
		if err != nil {
			return done, partial(done, err)
		}
		if n < len(p) {
			break
		}
	}
	return done, nil
}

// partial is the error of a transfer that has moved n bytes before it.
func partial(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// pread fills p as far as the file goes.
func (f *file) pread(p []byte, off int64) (n int, err error) {
	err = again(func() (err error) { n, err = unix.Pread(f.h.fd, p, off); return err })
	return max(n, 0), err
}

// Write implements vfs.FileOps.
func (f *file) Write(_ vfs.Caller, vf *vfs.File, src *uio.Src, off int64) (int, error) {
	f.in.sb.wrote()
	if vf.Appends(off) || f.in.sb.append {
		return f.appendTo(vf, src)
	}
	if p := src.Bytes(); p != nil {
		n, err := f.pwrite(p, off)
		src.Skip(n)
		return n, partial(n, err)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return src.Each(*buf, func(p []byte) (int, error) {
		n, err := f.pwrite(p, off)
		off += int64(n)
		return n, err
	})
}

// pwrite writes all of p, or what comes before an error.
func (f *file) pwrite(p []byte, off int64) (done int, err error) {
	for done < len(p) {
		n := 0
		err = again(func() (err error) { n, err = unix.Pwrite(f.h.fd, p[done:], off+int64(done)); return err })
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, unix.EIO // a file system of users may take nothing for ever
		}
		done += n
	}
	return done, nil
}

// appendTo writes to the end of the file, wherever others have moved that.
func (f *file) appendTo(vf *vfs.File, src *uio.Src) (int, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	f.in.posMu.Lock()
	defer f.in.posMu.Unlock()
	n, err := src.Each(*buf, func(p []byte) (done int, err error) {
		for done < len(p) {
			n := 0
			err = again(func() (err error) {
				n, err = unix.Pwritev2(f.h.fd, [][]byte{p[done:]}, -1, rwfAppend)
				return err
			})
			if err != nil {
				return done, err
			}
			if n == 0 {
				return done, unix.EIO
			}
			done += n
		}
		return done, nil
	})
	if n > 0 {
		if end, err := unix.Seek(f.h.fd, 0, unix.SEEK_CUR); err == nil {
			vf.SetPos(end)
		}
	}
	return n, err
}

// Fsync implements vfs.Syncer.
func (f *file) Fsync(_ vfs.Caller, _ *vfs.File, dataOnly bool) error {
	if dataOnly {
		return again(func() error { return unix.Fdatasync(f.h.fd) })
	}
	return again(func() error { return unix.Fsync(f.h.fd) })
}

// Fallocate implements vfs.Fallocater.
func (f *file) Fallocate(_ vfs.Caller, _ *vfs.File, mode uint32, off, n int64) error {
	if f.in.sb.append && mode&^uint32(unix.FALLOC_FL_KEEP_SIZE) != 0 {
		return unix.EPERM
	}
	f.in.sb.wrote()
	return again(func() error { return unix.Fallocate(f.h.fd, mode, off, n) })
}

// Seek implements vfs.Seeker: the host knows where the holes are.
func (f *file) Seek(_ vfs.Caller, vf *vfs.File, off int64, whence int) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return vfs.GenericSeek(vf, off, whence)
	}
	if off < 0 {
		return 0, unix.ENXIO
	}
	f.in.posMu.Lock()
	defer f.in.posMu.Unlock()
	n, err := unix.Seek(f.h.fd, off, whence)
	return n, errno(err)
}
