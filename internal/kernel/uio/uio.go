// Package uio carries the bytes of read and write calls between file systems and guest memory without intermediate
// copies: a file system copies straight out of (or into) its own pages.
package uio

import (
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Range is a piece of guest memory.
type Range struct{ Addr, Len uint64 }

// Memory is a guest address space. Implementations respect the guest's page protection.
type Memory interface {
	// ReadAt copies guest memory at addr into p. It returns how much was copied; less than len(p) comes with EFAULT.
	ReadAt(p []byte, addr uint64) (int, error)
	// WriteAt copies p to guest memory at addr, likewise.
	WriteAt(p []byte, addr uint64) (int, error)
	// ReadV and WriteV do the same for several ranges in one host call; len(p) is at most their sum.
	ReadV(p []byte, r []Range) (int, error)
	WriteV(p []byte, r []Range) (int, error)
}

// PieceMemory is Memory that copies between a range and several pieces of kernel memory at once.
type PieceMemory interface {
	Memory
	// ReadPieces and WritePieces are ReadAt and WriteAt of all pieces in turn.
	ReadPieces(p [][]byte, addr uint64) (int, error)
	WritePieces(p [][]byte, addr uint64) (int, error)
}

// IO is a cursor over a buffer in guest memory or in the kernel. A Dst takes the bytes of a read, a Src gives those of a
// write; both are the same thing seen from two sides.
type IO struct {
	mem   Memory
	r     []Range
	one   [1]Range
	kbuf  []byte // when mem is nil
	left  int
	total int
}

// Dst is where a read puts bytes. Src is where a write takes them from.
type (
	Dst struct{ IO }
	Src struct{ IO }
)

// Reset makes io a cursor over one range of guest memory.
func (io *IO) Reset(m Memory, addr, n uint64) {
	io.mem, io.kbuf = m, nil
	io.one[0] = Range{addr, n}
	io.r = io.one[:]
	io.left, io.total = int(n), int(n)
}

// ResetV makes io a cursor over several ranges. It takes ownership of r; their sum must fit an int.
func (io *IO) ResetV(m Memory, r []Range) {
	io.mem, io.kbuf, io.r, io.left = m, nil, r, 0
	for _, x := range r {
		io.left += int(x.Len)
	}
	io.total = io.left
}

// ResetBytes makes io a cursor over kernel memory.
func (io *IO) ResetBytes(p []byte) {
	io.mem, io.r, io.kbuf = nil, nil, p
	io.left, io.total = len(p), len(p)
}

// ToBytes is a Dst over kernel memory.
func ToBytes(p []byte) *Dst { d := new(Dst); d.ResetBytes(p); return d }

// FromBytes is a Src over kernel memory.
func FromBytes(p []byte) *Src { s := new(Src); s.ResetBytes(p); return s }

// Len is how many bytes are left.
func (io *IO) Len() int { return io.left }

// Guest reports whether the buffer is in guest memory.
func (io *IO) Guest() bool { return io.mem != nil }

// Aligned reports whether all pieces of guest memory begin at multiples of n, a power of two, and have such lengths.
func (io *IO) Aligned(n uint64) bool {
	for _, r := range io.r {
		if io.mem != nil && (r.Addr|r.Len)&(n-1) != 0 {
			return false
		}
	}
	return true
}

// Done is how many bytes were moved since Reset.
func (io *IO) Done() int { return io.total - io.left }

// Limit cuts what is left to at most n bytes.
func (io *IO) Limit(n int) {
	if n < io.left {
		io.total -= io.left - n
		io.left = n
	}
}

// advance moves the cursor over n bytes.
func (io *IO) advance(n int) {
	io.left -= n
	if io.mem == nil {
		io.kbuf = io.kbuf[n:]
		return
	}
	for n > 0 && len(io.r) > 0 {
		k := min(uint64(n), io.r[0].Len)
		io.r[0].Addr += k
		io.r[0].Len -= k
		n -= int(k)
		if io.r[0].Len == 0 {
			io.r = io.r[1:]
		}
	}
}

// CopyOut copies from p to the destination and advances. It returns min(len(p), Len()) and nil, or less with EFAULT.
func (d *Dst) CopyOut(p []byte) (int, error) {
	p = p[:min(len(p), d.left)]
	if len(p) == 0 {
		return 0, nil
	}
	if d.mem == nil {
		n := copy(d.kbuf, p)
		d.advance(n)
		return n, nil
	}
	var n int
	var err error
	if len(d.r) == 1 {
		n, err = d.mem.WriteAt(p, d.r[0].Addr)
	} else {
		n, err = d.mem.WriteV(p, d.r)
	}
	d.advance(n)
	return n, err
}

// CopyMapped is CopyOut from memory that is mapped from a file of the host. A page that the host cannot give, because the
// file was cut, is EFAULT and no crash, should the copy touch it from Go.
func (d *Dst) CopyMapped(p []byte) (int, error) { return d.mapped(p, d.CopyOut) }

// CopyMapped is CopyIn to such memory.
func (s *Src) CopyMapped(p []byte) (int, error) { return s.mapped(p, s.CopyIn) }

func (io *IO) mapped(p []byte, move func([]byte) (int, error)) (n int, err error) {
	old := debug.SetPanicOnFault(true)
	before := io.left
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			n, err = before-io.left, unix.EFAULT
		}
	}()
	return move(p)
}

var zeroes [64 << 10]byte

// Zero writes n zero bytes (at most what is left).
func (d *Dst) Zero(n int) (int, error) {
	done := 0
	for n = min(n, d.left); done < n; {
		k, err := d.CopyOut(zeroes[:min(n-done, len(zeroes))])
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// CopyIn copies from the source into p and advances. It returns min(len(p), Len()) and nil, or less with EFAULT.
func (s *Src) CopyIn(p []byte) (int, error) {
	p = p[:min(len(p), s.left)]
	if len(p) == 0 {
		return 0, nil
	}
	if s.mem == nil {
		n := copy(p, s.kbuf)
		s.advance(n)
		return n, nil
	}
	var n int
	var err error
	if len(s.r) == 1 {
		n, err = s.mem.ReadAt(p, s.r[0].Addr)
	} else {
		n, err = s.mem.ReadV(p, s.r)
	}
	s.advance(n)
	return n, err
}

// CopyOutPieces is CopyOut of several pieces, which together may not be longer than the destination.
func (d *Dst) CopyOutPieces(p [][]byte) (int, error) {
	if m, ok := d.mem.(PieceMemory); ok && len(d.r) == 1 && len(p) > 1 {
		n, err := m.WritePieces(p, d.r[0].Addr)
		d.advance(n)
		return n, err
	}
	return each(p, d.CopyOut)
}

// CopyInPieces is CopyIn into several pieces, which together may not be longer than the source.
func (s *Src) CopyInPieces(p [][]byte) (int, error) {
	if m, ok := s.mem.(PieceMemory); ok && len(s.r) == 1 && len(p) > 1 {
		n, err := m.ReadPieces(p, s.r[0].Addr)
		s.advance(n)
		return n, err
	}
	return each(p, s.CopyIn)
}

func each(p [][]byte, f func([]byte) (int, error)) (int, error) {
	done := 0
	for _, b := range p {
		n, err := f(b)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Each copies all of the source into buf, piece by piece, and hands each piece to write, which tells how much it took. It
// ends at the first error. The result is what was taken in all, and the error if that is nothing.
func (s *Src) Each(buf []byte, write func(p []byte) (int, error)) (int, error) {
	done := 0
	for s.left > 0 {
		n, err := s.CopyIn(buf)
		if n > 0 {
			k, werr := write(buf[:n])
			done += k
			if werr != nil {
				err = werr
			}
		}
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
	}
	return done, nil
}

// Skip passes over n bytes without touching them.
func (io *IO) Skip(n int) { io.advance(min(n, io.left)) }

// ReadFull copies exactly len(p) bytes of guest memory at addr into p, or returns EFAULT.
func ReadFull(m Memory, p []byte, addr uint64) error {
	if n, err := m.ReadAt(p, addr); err != nil || n < len(p) {
		return unix.EFAULT
	}
	return nil
}

// WriteFull copies p to guest memory at addr, or returns EFAULT.
func WriteFull(m Memory, p []byte, addr uint64) error {
	if n, err := m.WriteAt(p, addr); err != nil || n < len(p) {
		return unix.EFAULT
	}
	return nil
}

// Bytes is what is left of a cursor over kernel memory, nil for guest memory. A file system may read straight into it
// and then Skip.
func (io *IO) Bytes() []byte {
	if io.mem != nil {
		return nil
	}
	return io.kbuf[:io.left]
}
