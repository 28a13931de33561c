package syscalls

import (
	"bytes"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	// pathMax is PATH_MAX, with the terminating zero.
	pathMax = 4096
	// maxRW is MAX_RW_COUNT: what one read or write moves at most.
	maxRW = 0x7ffff000
	// iovMax is UIO_MAXIOV.
	iovMax = 1024
)

// scratch is working memory for one system call, so that the usual calls need no allocation.
type scratch struct {
	buf  [pathMax]byte
	dst  uio.Dst
	src  uio.Src
	iov  [8]uio.Range
	iovs []uio.Range
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func getScratch() *scratch { return scratchPool.Get().(*scratch) }

// put gives s back; the guest memory that its cursors point to is forgotten.
func (s *scratch) put() {
	s.dst.ResetBytes(nil)
	s.src.ResetBytes(nil)
	s.iovs = nil
	scratchPool.Put(s)
}

// cstring copies a string of at most max-1 bytes from guest memory into s.buf. The first piece is short, as most strings
// are; the others end at page borders, so that a string that ends before an unmapped page is read. It returns ok false if
// there is no zero byte in max bytes.
func (s *scratch) cstring(m uio.Memory, addr uint64, max int) (str []byte, ok bool, err error) {
	for n := 0; n < max; {
		k := min(max-n, int(abi.PageSize-(addr+uint64(n))%abi.PageSize))
		if n == 0 {
			k = min(k, 256)
		}
		got, err := m.ReadAt(s.buf[n:n+k], addr+uint64(n))
		if i := bytes.IndexByte(s.buf[n:n+got], 0); i >= 0 {
			return s.buf[:n+i], true, nil
		}
		if err != nil || got < k {
			return nil, false, unix.EFAULT
		}
		n += k
	}
	return s.buf[:max], false, nil
}

// copyString copies a string from the guest; tooLong is the error if it has max or more bytes.
func copyString(t *task.Task, addr uint64, max int, tooLong error) (string, error) {
	s := getScratch()
	defer s.put()
	b, ok, err := s.cstring(t.Mem(), addr, min(max, len(s.buf)))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", tooLong
	}
	return string(b), nil
}

// copyPath copies a path name, which may be empty.
func copyPath(t *task.Task, addr uint64) (string, error) {
	return copyString(t, addr, pathMax, unix.ENAMETOOLONG)
}

// at is a path argument with the directory it starts from. The zero dir is the working directory.
type at struct {
	dir  *vfs.File
	path string
}

func (p at) release() {
	if p.dir != nil {
		p.dir.DecRef()
	}
}

// pathAt decodes the pair (dirfd, path) of the ...at calls. The descriptor is not looked at when the path is absolute. An
// empty path is ENOENT unless flags has AT_EMPTY_PATH.
func pathAt(t *task.Task, dirfd, addr uint64, flags int) (p at, err error) {
	if p.path, err = copyPath(t, addr); err != nil {
		return p, err
	}
	return p.from(t, dirfd, flags)
}

// from finds p's directory.
func (p at) from(t *task.Task, dirfd uint64, flags int) (at, error) {
	if p.path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return p, unix.ENOENT
	}
	fd := i32(dirfd)
	if fd == unix.AT_FDCWD || p.path != "" && p.path[0] == '/' {
		return p, nil
	}
	var err error
	p.dir, err = t.Files().Get(fd)
	return p, err
}

// atFDCWD is AT_FDCWD as a register argument, for the calls without a directory.
const atFDCWD = uint64(1<<64 - 100)

// openFile returns the open file of a descriptor with a reference. Descriptors opened with O_PATH are EBADF.
func openFile(t *task.Task, fd uint64) (*vfs.File, error) {
	f, err := t.Files().Get(i32(fd))
	if err != nil {
		return nil, err
	}
	if f.Flags()&unix.O_PATH != 0 {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, nil
}

// anyFile returns the open file of a descriptor, O_PATH or not, with a reference.
func anyFile(t *task.Task, fd uint64) (*vfs.File, error) { return t.Files().Get(i32(fd)) }

// writeU32 and writeU64 store a number in guest memory.
func writeU32(t *task.Task, addr uint64, v uint32) error {
	s := getScratch()
	defer s.put()
	le.PutUint32(s.buf[:], v)
	return uio.WriteFull(t.Mem(), s.buf[:4], addr)
}

func writeU64(t *task.Task, addr, v uint64) error {
	s := getScratch()
	defer s.put()
	le.PutUint64(s.buf[:], v)
	return uio.WriteFull(t.Mem(), s.buf[:8], addr)
}

// readU32 reads a number from guest memory.
func readU32(t *task.Task, addr uint64) (uint32, error) {
	s := getScratch()
	defer s.put()
	err := uio.ReadFull(t.Mem(), s.buf[:4], addr)
	return le.Uint32(s.buf[:]), err
}

// iovec copies a vector of buffers from the guest, as readv(2) takes it. The sum is cut to maxRW. The result is valid
// until s is given back.
func (s *scratch) iovec(m uio.Memory, addr, cnt uint64) ([]uio.Range, error) {
	if cnt > iovMax {
		return nil, unix.EINVAL
	}
	raw := s.buf[:]
	if 16*cnt > uint64(len(raw)) {
		raw = make([]byte, 16*cnt)
	}
	raw = raw[:16*cnt]
	if cnt > 0 {
		if err := uio.ReadFull(m, raw, addr); err != nil {
			return nil, err
		}
	}
	s.iovs = s.iov[:0]
	left := uint64(maxRW)
	for ; len(raw) > 0; raw = raw[16:] {
		r := uio.Range{Addr: le.Uint64(raw), Len: le.Uint64(raw[8:])}
		if int64(r.Len) < 0 {
			return nil, unix.EINVAL
		}
		if r.Addr+r.Len < r.Addr || r.Addr+r.Len >= 1<<47 {
			return nil, unix.EFAULT
		}
		r.Len = min(r.Len, left)
		left -= r.Len
		if r.Len > 0 {
			s.iovs = append(s.iovs, r)
		}
	}
	return s.iovs, nil
}
