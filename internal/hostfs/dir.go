package hostfs

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// dir is an open directory, with a descriptor of its own on the host for the position in it. A covered one has none.
type dir struct {
	vfs.FileBase
	in *inode
	h  *handle
}

func (in *inode) openDir() (vfs.FileOps, error) {
	if in.covered {
		return &dir{in: in}, nil
	}
	h, err := in.dir()
	if err != nil {
		return nil, err
	}
	defer h.put()
	if in.hidden(h) {
		return nil, unix.EACCES
	}
	fd, err := in.sb.srv.open(h.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &dir{in: in, h: newHandle(fd)}, nil
}

// Release implements vfs.FileOps.
func (d *dir) Release(*vfs.File) {
	if d.h != nil {
		d.h.put()
	}
}

var dirBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// ReadDir implements vfs.DirReader. Positions are the host's, so they last as long as the host's file system says.
func (d *dir) ReadDir(_ vfs.Caller, _ *vfs.File, off int64, emit func(vfs.DirEnt) bool) error {
	if d.h == nil {
		return d.readCovered(off, emit)
	}
	buf := dirBuffers.Get().(*[]byte)
	defer dirBuffers.Put(buf)
	if _, err := unix.Seek(d.h.fd, off, unix.SEEK_SET); err != nil {
		return errno(err)
	}
	for {
		n := 0
		err := again(func() (err error) { n, err = unix.Getdents(d.h.fd, *buf); return err })
		if err != nil || n == 0 {
			return err
		}
		if !d.entries((*buf)[:n], emit) {
			return nil
		}
	}
}

// entries emits what getdents64(2) has given. It reports false if emit does.
func (d *dir) entries(p []byte, emit func(vfs.DirEnt) bool) bool {
	const header = 19 // d_ino, d_off, d_reclen, d_type
	for len(p) >= header {
		size := int(binary.NativeEndian.Uint16(p[16:]))
		if size < header || size > len(p) {
			return true
		}
		e := vfs.DirEnt{
			Ino: binary.NativeEndian.Uint64(p), Off: int64(binary.NativeEndian.Uint64(p[8:])), Type: p[18],
			Name: unix.ByteSliceToString(p[header:size]),
		}
		switch {
		case e.Name == ".":
			e.Ino = d.in.Attr().Ino
		case e.Name == "..":
			e.Ino = d.in.Attr().Ino
			if at := d.in.place.Load(); at != nil {
				e.Ino = at.dir.Attr().Ino
			}
		case d.in.sb.mapped && e.Type == unix.DT_REG:
			e.Type = unix.DT_UNKNOWN // it may be a device in the guest
		}
		if !emit(e) {
			return false
		}
		p = p[size:]
	}
	return true
}

// readCovered lists an empty directory.
func (d *dir) readCovered(off int64, emit func(vfs.DirEnt) bool) error {
	ino := d.in.Attr().Ino
	for i, name := range []string{".", ".."} {
		if off <= int64(i) && !emit(vfs.DirEnt{Name: name, Ino: ino, Type: unix.DT_DIR, Off: int64(i) + 1}) {
			break
		}
	}
	return nil
}

// Seek implements vfs.Seeker: positions are what ReadDir gave, the end is not known.
func (d *dir) Seek(_ vfs.Caller, vf *vfs.File, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_CUR:
		off += vf.Pos()
	case unix.SEEK_SET:
	default:
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// Fsync implements vfs.Syncer.
func (d *dir) Fsync(vfs.Caller, *vfs.File, bool) error {
	if d.h == nil {
		return nil
	}
	return again(func() error { return unix.Fsync(d.h.fd) })
}
