package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// CountMapped is how many pieces of x are mapped in all address spaces. It reads the host's list of those that have any, so
// that what programs unmapped by themselves does not count.
func (h *Host) CountMapped(x vfs.Mapping) (n int) {
	h.each(func(m *MM) { n += m.countMapped(x) })
	return n
}

// Prune lets go of the files that programs have unmapped by themselves, in all address spaces, and waits until those of programs
// that have ended are let go. It sleeps.
func (h *Host) Prune() {
	h.each((*MM).Prune)
	h.late.wait()
}

// each calls f for all address spaces.
func (h *Host) each(f func(m *MM)) {
	if h.Acct == nil {
		return
	}
	h.Acct.mu.Lock()
	spaces := make([]*MM, 0, len(h.Acct.spaces))
	for m := range h.Acct.spaces {
		spaces = append(spaces, m)
	}
	h.Acct.mu.Unlock()
	for _, m := range spaces {
		if m.TryGet() {
			f(m)
			m.Put()
		}
	}
}

func (m *MM) countMapped(x vfs.Mapping) (n int) {
	m.mu.Lock()
	defer m.unlock()
	if m.book.pieces(x) == 0 {
		return 0
	}
	m.pruneLocked(nil)
	return m.book.pieces(x)
}

// pieces is how many areas are of x.
func (k *book) pieces(x vfs.Mapping) (n int) {
	for i := range k.areas {
		if k.areas[i].b.m == x {
			n++
		}
	}
	return n
}

// SharedAt is the file of a shared mapping at addr, and where in it addr lies. ok is false if what is mapped there is private.
func (m *MM) SharedAt(addr uint64) (file vfs.Mapping, off uint64, ok bool) {
	m.mu.Lock()
	defer m.unlock()
	if _, ok := m.book.at(addr); !ok {
		return nil, 0, false
	}
	m.pruneLocked(nil)
	a, ok := m.book.at(addr)
	if !ok || !a.shared {
		return nil, 0, false
	}
	return a.b.m, a.off + addr - a.start, true
}

// UnmapFile unmaps all that is left of the mmap call whose start is mapped at addr, if want says so of its Mapping, which is
// returned: EINVAL if there is no such. It is shmdt(2)'s part; the thread must not be on the tracer.
func (m *MM) UnmapFile(t platform.Thread, addr uint64, want func(vfs.Mapping) bool) (vfs.Mapping, error) {
	m.mu.Lock()
	defer m.unlock()
	if _, ok := m.book.at(addr); !ok {
		return nil, unix.EINVAL
	}
	m.pruneLocked(nil)
	// The first piece may be gone: what counts is where the call's first byte was.
	first := -1
	for i, a := range m.book.areas {
		if a.start >= addr && a.start-a.off == addr && want(a.b.m) {
			first = i
			break
		}
	}
	if first < 0 {
		return nil, unix.EINVAL
	}
	b := m.book.areas[first].b
	var gone []span
	for _, a := range m.book.areas[first:] {
		if a.b == b {
			gone = append(gone, span{a.start, a.end})
		}
	}
	for _, s := range gone {
		if err := m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: s.start, Len: s.end - s.start}); err != nil {
			return nil, err
		}
		m.book.cut(s.start, s.end)
		m.locked.remove(s.start, s.end)
	}
	return b.m, nil
}
