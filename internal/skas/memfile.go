package skas

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// memfile is a memory object of the host that guests can map.
type memfile struct {
	host platform.HostFile

	mu      sync.Mutex
	windows [][]byte // each from the object's start, and longer than the one before
}

// newMemfd makes a memory object and opens it twice: for both, and for reading only.
func newMemfd(name string) (rw, ro int, err error) {
	const noExecSeal = 0x8 // MFD_NOEXEC_SEAL, Linux 6.3
	rw, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|noExecSeal)
	if err != nil {
		rw, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, -1, err
	}
	ro, err = unix.Open("/proc/self/fd/"+strconv.Itoa(rw), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(rw)
		return -1, -1, err
	}
	return rw, ro, nil
}

// NewMemfile implements platform.Platform.
func (p *Platform) NewMemfile(name string) (platform.Memfile, error) {
	const nameMax = 249 // memfd_create(2)
	rw, ro, err := newMemfd(name[:min(len(name), nameMax)])
	if err != nil {
		return nil, err
	}
	m := &memfile{host: platform.HostFile{RO: ro, RW: rw}}
	if m.host.ID, err = fileID(rw); err != nil {
		unix.Close(rw)
		unix.Close(ro)
		return nil, err
	}
	return m, nil
}

func fileID(fd int) (platform.FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return platform.FileID{}, err
	}
	return platform.FileID{Dev: st.Dev, Ino: st.Ino}, nil
}

// ReadAt implements platform.Memfile. Less than len(p) is the end of the object.
func (m *memfile) ReadAt(p []byte, off int64) (int, error) {
	return whole(p, off, func(p []byte, off int64) (int, error) { return unix.Pread(m.host.RW, p, off) })
}

// WriteAt implements platform.Memfile.
func (m *memfile) WriteAt(p []byte, off int64) (int, error) {
	return whole(p, off, func(p []byte, off int64) (int, error) { return unix.Pwrite(m.host.RW, p, off) })
}

// whole repeats f until p is done, f does nothing more, or there is an error.
func whole(p []byte, off int64, f func([]byte, int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		n, err := f(p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

const (
	windowMin = 4 << 20
	windowMax = 16 << 30
	// windowsMost bounds what our own address space is cut into, of which the host allows some 65,000 pieces.
	windowsMost = 8192
)

var windows atomic.Int64

// Window implements platform.Memfile.
func (m *memfile) Window(off int64, n int, fill bool) []byte {
	end := off + int64(n)
	if off < 0 || end < off || end > windowMax {
		return nil
	}
	const seekHole = 4 // SEEK_HOLE, lseek(2)
	if !fill {
		if hole, err := unix.Seek(m.host.RW, off, seekHole); err != nil || hole < end {
			return nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := len(m.windows); k > 0 && int64(len(m.windows[k-1])) >= end {
		return m.windows[k-1][off:end]
	}
	size := int64(windowMin)
	for size < end {
		size *= 2
	}
	if windows.Add(1) > windowsMost {
		windows.Add(-1)
		return nil
	}
	w, err := unix.Mmap(m.host.RW, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		windows.Add(-1)
		return nil
	}
	// A copy may still be under way in a shorter one: that goes with the object.
	m.windows = append(m.windows, w)
	return w[off:end]
}

// Truncate implements platform.Memfile.
func (m *memfile) Truncate(size int64) error { return unix.Ftruncate(m.host.RW, size) }

// Punch implements platform.Memfile.
func (m *memfile) Punch(off, n int64) error {
	return unix.Fallocate(m.host.RW, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Allocated implements platform.Memfile.
func (m *memfile) Allocated() int64 {
	var st unix.Stat_t
	if unix.Fstat(m.host.RW, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Host implements platform.Memfile.
func (m *memfile) Host() *platform.HostFile { return &m.host }

// Close implements platform.Memfile.
func (m *memfile) Close() error {
	if m.host.OnClose != nil {
		m.host.OnClose()
	}
	for _, w := range m.windows {
		_ = unix.Munmap(w)
	}
	windows.Add(-int64(len(m.windows)))
	unix.Close(m.host.RO)
	return unix.Close(m.host.RW)
}
