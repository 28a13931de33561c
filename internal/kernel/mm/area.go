package mm

import (
	"slices"
	"sync/atomic"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// FileMap is the file of one mmap call. The areas that the mapping is split into, and their copies in forked address
// spaces, share it.
type FileMap struct {
	m     vfs.Mapping
	f     *vfs.File
	write bool // shared, and the descriptor was writable
	refs  atomic.Int32
}

func newFileMap(m vfs.Mapping, f *vfs.File, write bool) *FileMap {
	b := &FileMap{m: m, f: f.IncRef(), write: write}
	b.refs.Store(1)
	m.Mapped(1, write)
	return b
}

// Put drops a reference. It may sleep.
func (b *FileMap) Put() {
	if b.refs.Add(-1) == 0 {
		b.m.Mapped(-1, b.write)
		b.f.DecRef()
	}
}

// putShared drops a reference if it is not the last one.
func (b *FileMap) putShared() bool {
	for {
		n := b.refs.Load()
		if n <= 1 {
			return false
		}
		if b.refs.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// area is a file mapping in the books. Areas are values; each holds one reference to its FileMap.
type area struct {
	start, end uint64
	off        uint64 // in the file, of start
	b          *FileMap
	shared     bool
	write      bool // shared, and the descriptor was writable
}

// part is the part [lo, hi) of a, without a reference of its own.
func (a area) part(lo, hi uint64) area {
	a.off += lo - a.start
	a.start, a.end = lo, hi
	return a
}

// book is a sorted list of disjoint areas.
type book struct {
	areas []area
	all   []area // areas with unused places in front of it; see replace
	front int    // how many
	// full is a range without a free byte, from low up to the top that gap was last asked about, which need not be searched
	// again.
	full span
	// dead are references to drop once the lock is released.
	dead []*FileMap
}

// from is the index of the first area that ends after addr.
func (k *book) from(addr uint64) int {
	i, _ := slices.BinarySearchFunc(k.areas, addr, func(a area, addr uint64) int {
		if a.end <= addr {
			return -1
		}
		return 1
	})
	return i
}

// at returns the area that contains addr.
func (k *book) at(addr uint64) (area, bool) {
	if i := k.from(addr); i < len(k.areas) && k.areas[i].start <= addr {
		return k.areas[i], true
	}
	return area{}, false
}

// overlaps reports whether an area touches [start, end).
func (k *book) overlaps(start, end uint64) bool {
	i := k.from(start)
	return i < len(k.areas) && k.areas[i].start < end
}

// cut forgets [start, end).
func (k *book) cut(start, end uint64) {
	i := k.from(start)
	j := i
	for j < len(k.areas) && k.areas[j].start < end {
		j++
	}
	if i == j {
		return
	}
	if start < k.full.end {
		k.full.start = max(k.full.start, min(end, k.full.end))
	}
	var keep [2]area
	n := 0
	if a := k.areas[i]; a.start < start {
		a.b.refs.Add(1)
		keep[n] = a.part(a.start, start)
		n++
	}
	if a := k.areas[j-1]; end < a.end {
		a.b.refs.Add(1)
		keep[n] = a.part(end, a.end)
		n++
	}
	for _, a := range k.areas[i:j] {
		k.dead = append(k.dead, a.b)
	}
	k.replace(i, j, keep[:n]...)
}

// set makes list the areas.
func (k *book) set(list []area) { k.areas, k.all, k.front = list, list, 0 }

// replace is slices.Replace, but moves whichever side of the list is shorter: file mappings are mostly made downwards, each
// below all others, and there can be tens of thousands.
func (k *book) replace(i, j int, with ...area) {
	if i >= len(k.areas)-j {
		room := cap(k.areas)
		if k.areas = slices.Replace(k.areas, i, j, with...); cap(k.areas) != room {
			k.set(k.areas)
		} else {
			k.all = k.all[:k.front+len(k.areas)]
		}
		return
	}
	grow := len(with) - (j - i)
	if grow > k.front {
		room := len(k.areas) + 16
		list := make([]area, room+len(k.areas), room+len(k.areas)+16)
		copy(list[room:], k.areas)
		k.all, k.front = list, room
	}
	front := k.front - grow
	copy(k.all[front:], k.all[k.front:k.front+i])
	copy(k.all[front+i:], with)
	if grow < 0 {
		clear(k.all[k.front:front])
	}
	k.areas, k.front = k.all[front:], front
}

// insert enters a, in place of whatever was there, and takes over its reference.
func (k *book) insert(a area) {
	k.cut(a.start, a.end)
	i := k.from(a.start)
	k.replace(i, i, a)
}

// gap finds n free bytes in the books, as high as possible below top.
func (k *book) gap(n, top uint64) (uint64, bool) {
	if k.full.end != top {
		k.full = span{top, top}
	}
	end := k.full.start
	for i := min(k.from(end), len(k.areas)-1); i >= 0; i-- {
		a := k.areas[i]
		if a.start >= end {
			continue
		}
		if a.end <= end && end-a.end >= n {
			break
		}
		if a.end >= end && k.full.start == end {
			k.full.start = a.start
		}
		end = a.start
	}
	if end < n+lowest {
		return 0, false
	}
	return end - n, true
}

// span is a range of addresses, spans a sorted list of disjoint ones.
type (
	span  struct{ start, end uint64 }
	spans []span
)

// total is the sum of lengths.
func (s spans) total() (n uint64) {
	for _, x := range s {
		n += x.end - x.start
	}
	return n
}

// within is how much of [start, end) is in the list.
func (s spans) within(start, end uint64) (n uint64) {
	for _, x := range s {
		if lo, hi := max(x.start, start), min(x.end, end); lo < hi {
			n += hi - lo
		}
	}
	return n
}

// remove takes [start, end) out.
func (s *spans) remove(start, end uint64) {
	if s.within(start, end) == 0 {
		return
	}
	var out spans
	for _, x := range *s {
		if x.start < min(start, x.end) {
			out = append(out, span{x.start, min(start, x.end)})
		}
		if max(end, x.start) < x.end {
			out = append(out, span{max(end, x.start), x.end})
		}
	}
	*s = out
}

// add puts [start, end) in and joins neighbours.
func (s *spans) add(start, end uint64) {
	if start >= end {
		return
	}
	i := 0
	for i < len(*s) && (*s)[i].end < start {
		i++
	}
	j := i
	for j < len(*s) && (*s)[j].start <= end {
		start, end = min(start, (*s)[j].start), max(end, (*s)[j].end)
		j++
	}
	*s = slices.Replace(*s, i, j, span{start, end})
}
