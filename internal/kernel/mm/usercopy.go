package mm

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

const (
	// MaxIov is UIO_MAXIOV, MaxRW the most that one read or write moves (MAX_RW_COUNT).
	MaxIov = 1024
	MaxRW  = 0x7ffff000
	// MaxArgString is the most that one string of execve may have, with its zero byte (MAX_ARG_STRLEN).
	MaxArgString = 128 << 10
)

// CopyInString copies a string of less than max bytes: ENAMETOOLONG if there is no zero byte in max bytes, EFAULT if
// memory ends first.
func CopyInString(mem uio.Memory, addr uint64, max int) (string, error) {
	r := stringReader{mem: mem}
	b, err := r.read(addr, max)
	return string(b), err
}

// stringReader reads strings that lie close to each other: what it reads ahead, never over a page border, serves the next.
type stringReader struct {
	mem  uio.Memory
	base uint64
	n    int
	buf  [abi.PageSize]byte
	long []byte
}

// read returns the string at addr; it is valid until the next call.
func (r *stringReader) read(addr uint64, max int) ([]byte, error) {
	r.long = r.long[:0]
	for len(r.long) < max {
		p, err := r.window(addr)
		if err != nil {
			return nil, err
		}
		p = p[:min(len(p), max-len(r.long))]
		if i := bytes.IndexByte(p, 0); i >= 0 {
			if len(r.long) == 0 {
				return p[:i], nil
			}
			return append(r.long, p[:i]...), nil
		}
		r.long = append(r.long, p...)
		addr += uint64(len(p))
	}
	return nil, unix.ENAMETOOLONG
}

// window returns memory at addr up to the page's end at most.
func (r *stringReader) window(addr uint64) ([]byte, error) {
	if r.n == 0 || addr < r.base || addr-r.base >= uint64(r.n) {
		r.base, r.n = addr, 0
		n, _ := r.mem.ReadAt(r.buf[:abi.PageSize-addr%abi.PageSize], addr)
		if n == 0 {
			return nil, unix.EFAULT
		}
		r.n = n
	}
	return r.buf[addr-r.base : r.n], nil
}

// CopyInStrings copies an array of string pointers that ends with a null pointer, as argv of execve(2) is. budget is what
// is left of the limit for strings and pointers together; it is used up: E2BIG. A null array is empty.
func CopyInStrings(mem uio.Memory, array uint64, budget *uint64) ([]string, error) {
	if array == 0 {
		return nil, nil
	}
	r := stringReader{mem: mem}
	var out []string
	var page [abi.PageSize]byte
	for {
		n := int(abi.PageSize - array%abi.PageSize)
		if n%8 != 0 {
			n = 8 // not aligned: one by one
		}
		got, _ := mem.ReadAt(page[:n], array)
		if got < 8 {
			return nil, unix.EFAULT
		}
		for p := page[:got&^7]; len(p) > 0; p = p[8:] {
			ptr := binary.LittleEndian.Uint64(p)
			if ptr == 0 {
				return out, nil
			}
			s, err := r.read(ptr, MaxArgString)
			if err == unix.ENAMETOOLONG {
				err = unix.E2BIG
			}
			if err != nil {
				return nil, err
			}
			need := uint64(len(s)) + 1 + 8
			if need > *budget {
				return nil, unix.E2BIG
			}
			*budget -= need
			out = append(out, string(s))
		}
		array += uint64(got &^ 7)
	}
}

// CopyInIovec copies a vector of buffers of readv(2) and its relatives, appending to dst. The sum is cut to MaxRW.
func CopyInIovec(mem uio.Memory, addr, count uint64, dst []uio.Range) ([]uio.Range, error) {
	if count > MaxIov {
		return nil, unix.EINVAL
	}
	if count == 0 {
		return dst, nil
	}
	raw := make([]byte, 16*count)
	if err := uio.ReadFull(mem, raw, addr); err != nil {
		return nil, err
	}
	left := uint64(MaxRW)
	for ; len(raw) > 0; raw = raw[16:] {
		r := uio.Range{Addr: binary.LittleEndian.Uint64(raw), Len: binary.LittleEndian.Uint64(raw[8:])}
		if int64(r.Len) < 0 {
			return nil, unix.EINVAL
		}
		if r.Addr+r.Len < r.Addr || !arch47(r.Addr+r.Len) {
			return nil, unix.EFAULT
		}
		r.Len = min(r.Len, left)
		left -= r.Len
		if r.Len > 0 {
			dst = append(dst, r)
		}
	}
	return dst, nil
}

func arch47(end uint64) bool { return end <= 1<<47 }

// ReadU32 and ReadU64 read a number; WriteU32 and WriteU64 write one.
func ReadU32(mem uio.Memory, addr uint64) (uint32, error) {
	var b [4]byte
	err := uio.ReadFull(mem, b[:], addr)
	return binary.LittleEndian.Uint32(b[:]), err
}

// ReadU64 reads a number.
func ReadU64(mem uio.Memory, addr uint64) (uint64, error) {
	var b [8]byte
	err := uio.ReadFull(mem, b[:], addr)
	return binary.LittleEndian.Uint64(b[:]), err
}

// WriteU32 writes a number.
func WriteU32(mem uio.Memory, addr uint64, v uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return uio.WriteFull(mem, b[:], addr)
}

// WriteU64 writes a number.
func WriteU64(mem uio.Memory, addr uint64, v uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return uio.WriteFull(mem, b[:], addr)
}
