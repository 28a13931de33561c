// Package mmtest has files and callers for tests of mm and of what is built on it. The files are memory objects of a
// platform.Fake.
package mmtest

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Caller is a vfs.Caller that never sleeps.
type Caller struct {
	Creds  *cred.Cred
	Limits map[int]uint64 // RLIM_INFINITY if not there
}

func (c *Caller) Sleep(int64) error  { return unix.ETIMEDOUT }
func (c *Caller) Wake()              {}
func (c *Caller) Mem() uio.Memory    { return nil }
func (c *Caller) FS() *vfs.FSContext { return nil }
func (c *Caller) PID() int32         { return 1 }
func (c *Caller) Signal(unix.Signal) {}
func (c *Caller) Rlimit(r int) uint64 {
	if v, ok := c.Limits[r]; ok {
		return v
	}
	return ^uint64(0)
}

// Cred is root's if Creds is nil.
func (c *Caller) Cred() *cred.Cred {
	if c.Creds == nil {
		return cred.Root()
	}
	return c.Creds
}

// File is a regular file whose pages can be mapped.
type File struct {
	vfs.InodeBase
	vfs.FileBase
	Mem  platform.Memfile
	Size atomic.Int64
	// Pages limits an extent to so many pages, with a hole of the same size after it; 0 for no limit.
	Pages uint64
	// Maps counts live mappings, Syncs calls of MSync.
	Maps, Syncs atomic.Int64
}

// NewFile makes a file with some contents.
func NewFile(p platform.Platform, data []byte) *File {
	m, err := p.NewMemfile("test")
	if err != nil {
		panic(err)
	}
	f := &File{Mem: m}
	f.Set(data)
	return f
}

// Set replaces the contents.
func (f *File) Set(data []byte) {
	f.Mem.WriteAt(data, 0)
	f.Size.Store(int64(len(data)))
}

// OpenFile makes an open file description.
func (f *File) OpenFile(flags uint32) *vfs.File { return vfs.NewFile(vfs.Path{}, f, f, flags) }

// Super is a file system of which only the device number is known.
func (f *File) Super() vfs.SuperBlock { return super{} }

type super struct{ vfs.SuperBlock }

func (super) Dev() uint64 { return 77 }

// Attr is a regular file's.
func (f *File) Attr() vfs.Attr {
	return vfs.Attr{Ino: f.Mem.Host().ID.Ino, Mode: unix.S_IFREG | 0755, Size: f.Size.Load(), Nlink: 1}
}

// Read reads the file.
func (f *File) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, off int64) (int, error) {
	p := make([]byte, max(0, min(int64(dst.Len()), f.Size.Load()-off)))
	f.Mem.ReadAt(p, off)
	return dst.CopyOut(p)
}

// Mapping is the file itself.
func (f *File) Mapping(vfs.Caller, *vfs.File, bool, bool) (vfs.Mapping, error) { return f, nil }

// Extents covers the pages that the file has.
func (f *File) Extents(off, n uint64, shared, write bool) ([]vfs.Extent, error) {
	end := min(off+n, abi.PageUp(uint64(f.Size.Load())))
	var out []vfs.Extent
	for off < end {
		k := end - off
		if f.Pages > 0 {
			k = min(k, f.Pages*abi.PageSize)
		}
		out = append(out, vfs.Extent{Off: off, Len: k, Host: f.Mem.Host(), HostOff: off})
		off += k
		if f.Pages > 0 {
			off += k
		}
	}
	return out, nil
}

// Fallocate punches holes.
func (f *File) Fallocate(_ vfs.Caller, _ *vfs.File, _ uint32, off, n int64) error {
	return f.Mem.Punch(off, n)
}

// MSync counts.
func (f *File) MSync(off, n uint64) error { f.Syncs.Add(1); return nil }

// Mapped counts.
func (f *File) Mapped(delta int, _ bool) { f.Maps.Add(int64(delta)) }

var _ wait.Pollable = (*File)(nil)

// NewHost makes the facts of a Fake for mm.
func NewHost(p platform.Platform) *mm.Host {
	empty, err := p.NewMemfile("empty")
	if err != nil {
		panic(err)
	}
	return &mm.Host{UserMax: p.UserMax(), VDSO: p.VDSO(), HostBrk: p.HostBrk(), Empty: empty.Host(),
		NewShared: func(_ vfs.Caller, n uint64) (*vfs.File, error) {
			f := NewFile(p, nil)
			f.Mem.Truncate(int64(n))
			f.Size.Store(int64(n))
			return f.OpenFile(unix.O_RDWR), nil
		}}
}
