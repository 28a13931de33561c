package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Mremap implements mremap(2).
func (m *MM) Mremap(t platform.Thread, old, oldLen, newLen, flags, to uint64) (uint64, error) {
	const all = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED | unix.MREMAP_DONTUNMAP
	may := flags&unix.MREMAP_MAYMOVE != 0
	fixed := flags&unix.MREMAP_FIXED != 0
	keep := flags&unix.MREMAP_DONTUNMAP != 0
	if flags&^uint64(all) != 0 || fixed && !may || keep && (!may || oldLen != newLen) || old%abi.PageSize != 0 {
		return 0, unix.EINVAL
	}
	if oldLen > m.host.UserMax || newLen > m.host.UserMax {
		return 0, unix.EINVAL
	}
	oldLen, newLen = abi.PageUp(oldLen), abi.PageUp(newLen)
	if newLen == 0 {
		return 0, unix.EINVAL
	}
	if old >= m.host.UserMax || old+oldLen > m.host.UserMax {
		return 0, unix.EFAULT
	}
	if fixed {
		if to%abi.PageSize != 0 || to > m.host.UserMax-newLen || old < to+newLen && to < old+oldLen {
			return 0, unix.EINVAL
		}
	} else if !keep {
		to = 0
	} else if to > m.host.UserMax-newLen {
		to = 0
	}
	if err := m.lock(t); err != nil {
		return 0, err
	}
	defer m.unlock()
	files := m.book.overlaps(old, old+max(oldLen, 1))
	if t.OnTracer() && (files || fixed && m.book.overlaps(to, to+newLen)) {
		return 0, ErrOffload
	}
	r := remap{m: m, t: t, old: old, oldLen: oldLen, newLen: newLen, flags: flags, to: to}
	if files {
		host, err := m.as.Mappings()
		if err != nil {
			return 0, err
		}
		m.pruneLocked(host)
		if a, ok := m.book.at(old); ok {
			return r.file(a, host)
		}
		if m.book.overlaps(old, old+oldLen) {
			return 0, unix.EFAULT // begins in anonymous memory, ends in a file
		}
	}
	return r.native()
}

// remap is one mremap call; the lock is held.
type remap struct {
	m              *MM
	t              platform.Thread
	old            uint64
	oldLen, newLen uint64
	flags, to      uint64
}

func (r *remap) fixed() bool { return r.flags&unix.MREMAP_FIXED != 0 }
func (r *remap) keep() bool  { return r.flags&unix.MREMAP_DONTUNMAP != 0 }

// native lets the host move anonymous memory.
func (r *remap) native() (uint64, error) {
	m := r.m
	addr, err := r.t.Syscall(unix.SYS_MREMAP, platform.Args{r.old, r.oldLen, r.newLen, r.flags, r.to})
	if err != nil {
		return 0, err
	}
	if addr > m.host.UserMax-r.newLen {
		m.run(r.t, platform.MapOp{Kind: platform.Unmap, Addr: addr, Len: r.newLen})
		return 0, unix.ENOMEM
	}
	if !r.t.OnTracer() {
		m.book.cut(addr, addr+r.newLen)
	}
	r.moveLocked(addr)
	return addr, nil
}

// moveLocked moves what is locked with mlock.
func (r *remap) moveLocked(addr uint64) {
	m := r.m
	if m.locked.within(r.old, r.old+max(r.oldLen, 1)) == 0 {
		return
	}
	if !r.keep() {
		m.locked.remove(r.old, r.old+r.oldLen)
	}
	m.locked.add(addr, addr+r.newLen)
}

// file moves or resizes a part of file mapping a, which is one mapping to the program and several to the host. host is
// the host's list.
func (r *remap) file(a area, host []platform.Mapping) (uint64, error) {
	m, t := r.m, r.t
	if r.oldLen == 0 && !a.shared {
		return 0, unix.EINVAL
	}
	if a.end < r.old+r.oldLen {
		return 0, unix.EFAULT
	}
	if !r.fixed() && !r.keep() {
		switch {
		case r.oldLen >= r.newLen:
			if r.oldLen == r.newLen {
				return r.old, nil
			}
			from, to := r.old+r.newLen, r.old+r.oldLen
			if err := m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: from, Len: to - from}); err != nil {
				return 0, err
			}
			m.book.cut(from, to)
			m.locked.remove(from, to)
			return r.old, nil
		case r.oldLen > 0 && a.end == r.old+r.oldLen:
			if err := r.growFile(a, host); err != unix.EEXIST {
				return r.old, err
			}
		}
		if r.flags&unix.MREMAP_MAYMOVE == 0 {
			return 0, unix.ENOMEM
		}
	}
	return r.moveFile(a, host)
}

// prot is the protection of the page at addr.
func prot(host []platform.Mapping, addr uint64) uint32 {
	for _, h := range host {
		if h.Start <= addr && addr < h.End {
			return h.Prot
		}
	}
	return 0
}

// growFile grows a at its end, in place: EEXIST if there is no room.
func (r *remap) growFile(a area, host []platform.Mapping) error {
	m := r.m
	n := r.newLen - r.oldLen
	if a.end > m.host.UserMax-n {
		return unix.EEXIST
	}
	g := mapping{addr: a.end, n: n, prot: prot(host, a.end-1), flags: unix.MAP_FIXED | unix.MAP_FIXED_NOREPLACE}
	b := area{off: a.off + a.end - a.start, b: a.b, shared: a.shared, write: a.write}
	ext, err := a.b.m.Extents(b.off, n, a.shared, a.write)
	if err != nil {
		return err
	}
	if _, err := m.placeFile(r.t, &g, &b, ext); err != nil {
		return err
	}
	m.extend(a, n)
	if m.locked.within(a.end-1, a.end) > 0 {
		m.locked.add(a.end, a.end+n)
	}
	return nil
}

// extend makes a n bytes longer in the books.
func (m *MM) extend(a area, n uint64) {
	m.book.cut(a.end, a.end+n)
	m.book.areas[m.book.from(a.start)].end += n
}

// moveFile moves the mapping: first a place for the new length is taken, then the host's pieces are moved one by one,
// then what is new is mapped.
func (r *remap) moveFile(a area, host []platform.Mapping) (uint64, error) {
	m, t := r.m, r.t
	n := min(r.oldLen, r.newLen)
	off := a.off + r.old - a.start
	var ext []vfs.Extent
	if r.newLen > n {
		var err error
		if ext, err = a.b.m.Extents(off+n, r.newLen-n, a.shared, a.write); err != nil {
			return 0, err
		}
	}
	dst := r.to
	reserve := platform.MapOp{Kind: platform.MapAnon, Addr: dst, Len: r.newLen, NoReserve: true}
	if r.fixed() {
		if err := m.run(t, reserve); err != nil {
			return 0, err
		}
		m.book.cut(dst, dst+r.newLen)
		m.locked.remove(dst, dst+r.newLen)
	} else {
		var err error
		if dst, err = m.reserve(t, dst, r.newLen, 0); err != nil {
			return 0, err
		}
	}
	flags := unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED | r.flags&unix.MREMAP_DONTUNMAP
	for _, h := range host {
		lo, hi := max(h.Start, r.old), min(h.End, r.old+n)
		if lo >= hi {
			continue
		}
		to := dst + lo - r.old
		if _, err := t.Syscall(unix.SYS_MREMAP, platform.Args{lo, hi - lo, hi - lo, flags, to}); err != nil {
			return 0, err
		}
	}
	if r.newLen > n {
		m.ops = appendFile(m.ops[:0], m.host.Empty, dst+n, off+n, r.newLen-n, prot(host, r.old+max(n, 1)-1), a.shared, a.write, ext)
		if err := t.Map(m.ops); err != nil {
			return 0, err
		}
	}
	a.b.refs.Add(1)
	moved := area{start: dst, end: dst + r.newLen, off: off, b: a.b, shared: a.shared, write: a.write}
	r.moveLocked(dst)
	if !r.keep() && r.oldLen > 0 {
		if r.oldLen > n {
			m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: r.old + n, Len: r.oldLen - n})
		}
		m.book.cut(r.old, r.old+r.oldLen)
	}
	m.book.insert(moved)
	return dst, nil
}
