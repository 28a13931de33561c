package pipefs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

const pageSize = abi.PageSize

// slot is the used part of one page of the ring.
type slot struct {
	off, n int32
	// packet: the slot is one message; nothing is appended to it and a read takes no more than it.
	packet bool
}

// ring is the buffer of a pipe. Its pages are buf[i*pageSize:], their contents slots[i]. All under Pipe.mu.
type ring struct {
	buf   []byte
	slots []slot
	head  int // first used slot
	used  int // number of used slots
	bytes int
	max   int // capacity in slots
}

func (r *ring) full() bool { return r.used >= r.max }

// at is the index of the i-th slot after head.
func (r *ring) at(i int) int {
	i += r.head
	if i >= len(r.slots) {
		i -= len(r.slots)
	}
	return i
}

// reserve makes sure that the buffer has want slots (at most max). It grows in few large steps.
func (r *ring) reserve(want int) {
	if want <= len(r.slots) {
		return
	}
	if len(r.slots) > 0 && kmem.Full() {
		r.max = len(r.slots) // pipes stay as they are while memory is short
		return
	}
	n := max(want, 4*len(r.slots))
	if kmem.Full() {
		n = 1
	}
	r.resize(min(n, r.max))
}

// resize moves the contents to a new buffer of n slots; n is at least used.
func (r *ring) resize(n int) {
	kmem.Add((n - len(r.slots)) * pageSize)
	buf, slots := make([]byte, n*pageSize), make([]slot, n)
	for i := range r.used {
		j := r.at(i)
		s := r.slots[j]
		slots[i] = s
		copy(buf[i*pageSize+int(s.off):], r.buf[j*pageSize+int(s.off):][:s.n])
	}
	r.buf, r.slots, r.head = buf, slots, 0
}

// room returns the longest contiguous piece of free pages, at most want slots, and its first slot; nil when full.
func (r *ring) room(want int) (start int, p []byte) {
	want = min(want, r.max-r.used)
	if want <= 0 {
		return 0, nil
	}
	r.reserve(r.used + want)
	if want = min(want, len(r.slots)-r.used); want <= 0 {
		return 0, nil
	}
	if r.used == 0 {
		r.head = 0
	}
	start = r.at(r.used)
	want = min(want, len(r.slots)-start)
	if start < r.head {
		want = min(want, r.head-start)
	}
	return start, r.buf[start*pageSize:][:want*pageSize]
}

// commit makes n bytes that were put into the pages from start part of the ring.
func (r *ring) commit(start, n int, packet bool) {
	for left := n; left > 0; start++ {
		k := min(left, pageSize)
		r.slots[start] = slot{n: int32(k), packet: packet}
		r.used++
		left -= k
	}
	r.bytes += n
}

// fill moves as much of src into the ring as fits. first says that this is the start of a write, whose odd bytes may be
// appended to the last slot.
func (r *ring) fill(src *uio.Src, packet, first bool) (done int, err error) {
	if first && !packet && r.used > 0 {
		if odd := src.Len() % pageSize; odd > 0 {
			n, err := r.appendLast(src, odd)
			if done += n; err != nil {
				return done, err
			}
		}
	}
	for src.Len() > 0 {
		want := (src.Len() + pageSize - 1) / pageSize
		if packet {
			want = 1
		}
		start, p := r.room(want)
		if p == nil {
			break
		}
		ask := min(len(p), src.Len())
		n, err := src.CopyIn(p[:ask])
		if err != nil {
			n -= n % pageSize // a page that could not be filled is not written at all
		}
		r.commit(start, n, packet)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// appendLast appends n bytes to the last slot if they fit there.
func (r *ring) appendLast(src *uio.Src, n int) (int, error) {
	i := r.at(r.used - 1)
	s := &r.slots[i]
	end := int(s.off + s.n)
	if s.packet || end+n > pageSize {
		return 0, nil
	}
	if _, err := src.CopyIn(r.buf[i*pageSize+end:][:n]); err != nil {
		return 0, err
	}
	s.n += int32(n)
	r.bytes += n
	return n, nil
}

// front returns the longest contiguous piece of data at the head, at most want bytes. A packet stands alone.
func (r *ring) front(want int) (p []byte, packet bool) {
	if r.used == 0 {
		return nil, false
	}
	s := r.slots[r.head]
	n := int(s.n)
	if !s.packet {
		for i := 1; i < r.used && n < want && r.head+i < len(r.slots); i++ {
			prev, next := r.slots[r.head+i-1], r.slots[r.head+i]
			if prev.off+prev.n != pageSize || next.off != 0 || next.packet {
				break
			}
			n += int(next.n)
		}
	}
	return r.buf[r.head*pageSize+int(s.off):][:min(n, want)], s.packet
}

// consume drops n bytes from the head.
func (r *ring) consume(n int) {
	r.bytes -= n
	for n > 0 {
		s := &r.slots[r.head]
		k := min(n, int(s.n))
		s.off += int32(k)
		s.n -= int32(k)
		n -= k
		if s.n == 0 {
			r.dropHead()
		}
	}
}

// dropHead drops the first slot with what is left in it.
func (r *ring) dropHead() {
	r.bytes -= int(r.slots[r.head].n)
	r.used--
	if r.head++; r.head == len(r.slots) {
		r.head = 0
	}
}

// drain moves data from the ring to dst, up to one packet.
func (r *ring) drain(dst *uio.Dst) (done int, err error) {
	for dst.Len() > 0 && r.used > 0 {
		p, packet := r.front(dst.Len())
		n, err := dst.CopyOut(p)
		if packet && err == nil {
			r.dropHead()
			return done + n, nil
		}
		r.consume(n)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// setMax changes the capacity to n slots: EBUSY if more are in use.
func (r *ring) setMax(n int) error {
	if n < r.used {
		return unix.EBUSY
	}
	if n > r.max && kmem.Full() {
		return unix.EPERM
	}
	if n < len(r.slots) {
		r.resize(n)
	}
	r.max = n
	return nil
}
