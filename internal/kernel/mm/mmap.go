package mm

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	mapAbove4G  = 0x80 // no-op since it was made
	mapHugeBits = 0x3f << 26
	// mapLegacy are the flags that MAP_SHARED_VALIDATE accepts for every file.
	mapLegacy = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_FIXED_NOREPLACE | unix.MAP_ANONYMOUS |
		unix.MAP_DENYWRITE | unix.MAP_EXECUTABLE | unix.MAP_GROWSDOWN | unix.MAP_LOCKED | unix.MAP_NORESERVE |
		unix.MAP_POPULATE | unix.MAP_NONBLOCK | unix.MAP_STACK | unix.MAP_HUGETLB | unix.MAP_32BIT | mapAbove4G | mapHugeBits
	// mapHost are the flags of an anonymous mapping that are passed to the host.
	mapHost = unix.MAP_NORESERVE | unix.MAP_STACK | unix.MAP_GROWSDOWN | unix.MAP_32BIT

	protMask = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	protSem  = 8
)

// AnonMapper marks FileOps whose mappings are anonymous memory: /dev/zero.
type AnonMapper interface{ MapsAnonymous() }

// mapping is one mmap call.
type mapping struct {
	addr, n, off uint64
	prot         uint32
	flags        uint64
	f            *vfs.File
	shared       bool
}

// Mmap implements mmap(2). f is the open file (ignored for MAP_ANONYMOUS; nil is EBADF).
func (m *MM) Mmap(t platform.Thread, c vfs.Caller, addr, n, prot, flags uint64, f *vfs.File, off uint64) (uint64, error) {
	r := mapping{addr: addr, n: n, off: off, prot: uint32(prot) & protMask, flags: flags, f: f}
	if err := m.checkRange(&r); err != nil {
		return 0, err
	}
	if r.f != nil {
		if err := checkFile(&r); err != nil {
			return 0, err
		}
		if _, ok := r.f.Ops.(AnonMapper); ok {
			r.f, r.off = nil, 0
		}
	} else if err := checkAnon(&r); err != nil {
		return 0, err
	}
	if r.flags&unix.MAP_LOCKED != 0 {
		if err := m.checkLock(c, r.addr, r.addr, r.n); err != nil {
			if err == unix.ENOMEM {
				err = unix.EAGAIN
			}
			return 0, err
		}
	}
	if r.f == nil && !r.shared {
		return m.mapAnon(t, &r)
	}
	if t.OnTracer() {
		return m.mapReady(t, &r)
	}
	if r.f == nil {
		s, err := m.host.NewShared(c, r.n)
		if err != nil {
			return 0, err
		}
		defer s.DecRef()
		r.f, r.off = s, 0
	}
	return m.mapFile(t, c, &r)
}

// checkRange makes the checks of address, length and offset.
func (m *MM) checkRange(r *mapping) error {
	if r.off%abi.PageSize != 0 {
		return unix.EINVAL
	}
	switch {
	case r.flags&unix.MAP_ANONYMOUS != 0:
		r.f = nil
		if r.flags&unix.MAP_HUGETLB != 0 {
			return unix.ENOMEM // there are no huge pages
		}
	case r.f == nil || r.f.Flags()&unix.O_PATH != 0:
		return unix.EBADF
	case r.flags&unix.MAP_HUGETLB != 0:
		return unix.EINVAL
	}
	if r.n == 0 {
		return unix.EINVAL
	}
	if r.n = abi.PageUp(r.n); r.n == 0 || r.n > m.host.UserMax {
		return unix.ENOMEM
	}
	if r.f != nil && (r.off+r.n < r.off || r.off+r.n > math.MaxInt64) {
		return unix.EOVERFLOW
	}
	if r.flags&unix.MAP_FIXED_NOREPLACE != 0 {
		r.flags |= unix.MAP_FIXED
	}
	if r.flags&unix.MAP_FIXED == 0 {
		if r.addr = abi.PageUp(r.addr); r.addr < lowest || r.addr > m.host.UserMax-r.n {
			r.addr = 0
		}
		return nil
	}
	if r.addr > m.host.UserMax-r.n {
		return unix.ENOMEM
	}
	if r.addr%abi.PageSize != 0 {
		return unix.EINVAL
	}
	return nil
}

// checkFile makes the checks of the file's access mode.
func checkFile(r *mapping) error {
	switch r.flags & unix.MAP_TYPE {
	case unix.MAP_SHARED_VALIDATE:
		if r.flags&^uint64(mapLegacy) != 0 {
			return unix.EOPNOTSUPP
		}
		fallthrough
	case unix.MAP_SHARED:
		if r.prot&unix.PROT_WRITE != 0 && !r.f.Writable() {
			return unix.EACCES
		}
		if r.f.Writable() && r.f.Inode.Attr().Flags&unix.STATX_ATTR_APPEND != 0 {
			return unix.EACCES
		}
		r.shared = true
	case unix.MAP_PRIVATE:
	default:
		return unix.EINVAL
	}
	if !r.f.Readable() {
		return unix.EACCES
	}
	if r.prot&unix.PROT_EXEC != 0 && r.f.NoExec() {
		return unix.EPERM
	}
	_, mappable := r.f.Ops.(vfs.Mappable)
	_, anon := r.f.Ops.(AnonMapper)
	if !mappable && !anon {
		return unix.ENODEV
	}
	if r.flags&unix.MAP_GROWSDOWN != 0 {
		return unix.EINVAL
	}
	return nil
}

func checkAnon(r *mapping) error {
	switch r.flags & unix.MAP_TYPE {
	case unix.MAP_SHARED:
		if r.flags&unix.MAP_GROWSDOWN != 0 {
			return unix.EINVAL
		}
		r.shared = true
	case unix.MAP_PRIVATE, unix.MAP_DROPPABLE:
	default:
		return unix.EINVAL
	}
	return nil
}

// mapAnon maps private anonymous memory, which the host places.
func (m *MM) mapAnon(t platform.Thread, r *mapping) (uint64, error) {
	if r.prot&unix.PROT_WRITE != 0 {
		if err := m.host.Acct.mayCommit(r.n, r.flags&unix.MAP_NORESERVE != 0); err != nil {
			return 0, err
		}
	}
	fixed := r.flags&unix.MAP_FIXED != 0
	var err error
	if fixed {
		err = m.lockRange(t, r.addr, r.addr+r.n)
	} else {
		err = m.lock(t)
	}
	if err != nil {
		return 0, err
	}
	defer m.unlock()
	addr := r.addr
	if fixed {
		err = m.run(t, platform.MapOp{Kind: platform.MapAnon, Addr: addr, Len: r.n, Prot: r.prot,
			NoReplace: r.flags&unix.MAP_FIXED_NOREPLACE != 0, NoReserve: r.flags&unix.MAP_NORESERVE != 0,
			Growsdown: r.flags&unix.MAP_GROWSDOWN != 0})
	} else {
		addr, err = t.Syscall(unix.SYS_MMAP, platform.Args{addr, r.n, uint64(r.prot),
			unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | r.flags&mapHost, ^uint64(0), 0})
		if err == nil && addr > m.host.UserMax-r.n {
			m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: addr, Len: r.n})
			err = unix.ENOMEM
		}
	}
	if err != nil {
		return 0, err
	}
	// What the books have there is gone. On the tracer thread it stays in them until later: forgetting may sleep.
	if !t.OnTracer() {
		m.book.cut(addr, addr+r.n)
	}
	m.noteLocked(r.flags, addr, r.n)
	return addr, nil
}

// run makes one memory call. The lock is held.
func (m *MM) run(t platform.Thread, op platform.MapOp) error {
	m.ops = append(m.ops[:0], op)
	return t.Map(m.ops)
}

// mapFile maps a file.
func (m *MM) mapFile(t platform.Thread, c vfs.Caller, r *mapping) (uint64, error) {
	a := area{off: r.off, shared: r.shared, write: r.shared && r.f.Writable()}
	vm, err := vfs.MapFile(c, r.f, a.shared, a.write, r.prot&unix.PROT_EXEC != 0)
	if err == unix.EPERM && a.write && r.prot&unix.PROT_WRITE == 0 {
		// A sealed file can be mapped for reading, and the mapping never becomes writable.
		a.write = false
		vm, err = vfs.MapFile(c, r.f, a.shared, false, r.prot&unix.PROT_EXEC != 0)
	}
	if err != nil {
		return 0, err
	}
	a.b = newFileMap(vm, r.f, a.write)
	ext, err := vm.Extents(r.off, r.n, a.shared, a.write)
	if err != nil {
		a.b.Put()
		return 0, err
	}
	m.mu.Lock()
	defer m.unlock()
	addr, err := m.placeFile(t, r, &a, ext)
	if err != nil {
		m.book.dead = append(m.book.dead, a.b)
		return 0, err
	}
	a.start, a.end = addr, addr+r.n
	m.book.insert(a)
	m.noteLocked(r.flags, addr, r.n)
	if len(m.book.areas) >= m.pruneAt {
		m.pruneLocked(nil)
	}
	return addr, nil
}

// mapReady is mapFile on the tracer thread: for private mappings that need no waiting, as those of libraries mostly do.
func (m *MM) mapReady(t platform.Thread, r *mapping) (uint64, error) {
	if r.f == nil || r.shared {
		return 0, ErrOffload
	}
	x, ok := r.f.Ops.(vfs.ReadyMappable)
	if !ok || !m.mu.TryLock() {
		return 0, ErrOffload
	}
	if len(m.book.areas)+2 >= m.pruneAt {
		m.mu.Unlock()
		return 0, ErrOffload
	}
	vm, ext := x.MapReady(r.off, r.n)
	if vm == nil {
		m.mu.Unlock()
		return 0, ErrOffload
	}
	a := area{off: r.off, b: &FileMap{m: vm, f: r.f.IncRef()}}
	a.b.refs.Store(1)
	addr, err := m.placeFile(t, r, &a, ext)
	if err != nil {
		m.book.dead = append(m.book.dead, a.b)
	} else {
		a.start, a.end = addr, addr+r.n
		m.book.insert(a)
		m.noteLocked(r.flags, addr, r.n)
	}
	m.unlockReady()
	if err == nil {
		r.f.Accessed()
	}
	return addr, err
}

// placeFile finds an address for a file mapping and maps it there. The lock is held.
func (m *MM) placeFile(t platform.Thread, r *mapping, a *area, ext []vfs.Extent) (uint64, error) {
	m.ops = appendFile(m.ops[:0], m.host.Empty, 0, a.off, r.n, r.prot, a.shared, a.write, ext)
	pieces := m.ops
	try := func(addr uint64, noReplace bool) error {
		if noReplace && len(pieces) > 1 {
			// Take the whole place first.
			err := t.Map([]platform.MapOp{{Kind: platform.MapAnon, Addr: addr, Len: r.n, NoReserve: true, NoReplace: true}})
			if err != nil {
				return err
			}
			noReplace = false
		}
		base := pieces[0].Addr
		for i := range pieces {
			pieces[i].Addr += addr - base
		}
		pieces[0].NoReplace = noReplace
		err := t.Map(pieces)
		if err != nil && len(pieces) > 1 {
			t.Map([]platform.MapOp{{Kind: platform.Unmap, Addr: addr, Len: r.n}})
		}
		return err
	}
	if r.flags&unix.MAP_FIXED != 0 {
		return r.addr, try(r.addr, r.flags&unix.MAP_FIXED_NOREPLACE != 0)
	}
	if r.addr != 0 {
		if err := try(r.addr, true); err != unix.EEXIST {
			return r.addr, err
		}
	}
	if r.flags&unix.MAP_32BIT == 0 {
		if addr, ok := m.book.gap(r.n, m.filesTop); ok {
			if err := try(addr, true); err != unix.EEXIST {
				return addr, err
			}
			m.filesTop = addr // something is there that the books do not have
		}
	}
	addr, err := m.reserve(t, 0, r.n, r.flags&unix.MAP_32BIT)
	if err != nil {
		return 0, err
	}
	if err := try(addr, false); err != nil {
		t.Map([]platform.MapOp{{Kind: platform.Unmap, Addr: addr, Len: r.n}})
		return 0, err
	}
	return addr, nil
}

// reserve lets the host choose a place for n bytes and takes it, without access.
func (m *MM) reserve(t platform.Thread, hint, n, flags uint64) (uint64, error) {
	addr, err := t.Syscall(unix.SYS_MMAP, platform.Args{hint, n, unix.PROT_NONE,
		unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | flags, ^uint64(0), 0})
	if err == nil && addr > m.host.UserMax-n {
		m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: addr, Len: n})
		err = unix.ENOMEM
	}
	return addr, err
}

// FileOps appends the calls that map file bytes [off, off+n) privately at addr with MAP_FIXED, for the loader.
func (h *Host) FileOps(ops []platform.MapOp, addr, off, n uint64, prot uint32, ext []vfs.Extent) []platform.MapOp {
	return appendFile(ops, h.Empty, addr, off, n, prot, false, false, ext)
}

// appendFile appends the calls that map the file range [off, off+n) at addr. What no extent covers is mapped from empty.
// It trusts nothing about ext but the host files.
func appendFile(ops []platform.MapOp, empty *platform.HostFile, addr, off, n uint64, prot uint32, shared, write bool, ext []vfs.Extent) []platform.MapOp {
	first := len(ops)
	add := func(h *platform.HostFile, hoff, lo, hi uint64) {
		op := platform.MapOp{Kind: platform.MapFile, Addr: addr + lo - off, Len: hi - lo, Prot: prot, File: h, Off: hoff,
			Shared: shared, Writable: write}
		if h == nil {
			op.File, op.Off, op.Shared, op.Writable = empty, lo, false, false
		}
		if i := len(ops) - 1; i >= first && ops[i].File == op.File && ops[i].Shared == op.Shared && ops[i].Off+ops[i].Len == op.Off {
			ops[i].Len += op.Len
			return
		}
		ops = append(ops, op)
	}
	at, end := off, off+n
	for _, e := range ext {
		lo, hi := max(e.Off, at), min(abi.PageUp(e.Off+e.Len), end)
		if e.Host == nil || lo >= hi || e.Off%abi.PageSize != 0 || e.HostOff%abi.PageSize != 0 {
			continue
		}
		if at < lo {
			add(nil, 0, at, lo)
		}
		add(e.Host, e.HostOff+lo-e.Off, lo, hi)
		at = hi
	}
	if at < end {
		add(nil, 0, at, end)
	}
	return ops
}

// Munmap implements munmap(2).
func (m *MM) Munmap(t platform.Thread, addr, n uint64) error {
	top := max(m.host.UserMax, 1<<47-abi.PageSize)
	if addr%abi.PageSize != 0 || n > top || addr > top-n {
		return unix.EINVAL
	}
	end := min(abi.PageUp(addr+n), m.host.UserMax)
	if n == 0 {
		return unix.EINVAL
	}
	if addr >= end {
		return nil
	}
	if err := m.lockRange(t, addr, end); err != nil {
		return err
	}
	defer m.unlock()
	if err := m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: addr, Len: end - addr}); err != nil {
		return err
	}
	m.book.cut(addr, end)
	m.locked.remove(addr, end)
	return nil
}

// Mprotect implements mprotect(2) and, with key -1, pkey_mprotect(2).
func (m *MM) Mprotect(t platform.Thread, addr, n, prot uint64) error {
	const grows = unix.PROT_GROWSDOWN | unix.PROT_GROWSUP
	if prot&grows == grows || addr%abi.PageSize != 0 {
		return unix.EINVAL
	}
	if n == 0 {
		return nil
	}
	end := abi.PageUp(addr + n)
	if end <= addr || addr+n < addr {
		return unix.ENOMEM
	}
	if prot&^(protMask|protSem|grows) != 0 {
		return unix.EINVAL
	}
	if end > m.host.UserMax {
		return unix.ENOMEM
	}
	// The books do not have the protection, so the files do not matter here.
	if err := m.lock(t); err != nil {
		return err
	}
	defer m.unlock()
	if prot&grows != 0 {
		_, err := t.Syscall(unix.SYS_MPROTECT, platform.Args{addr, end - addr, prot &^ protSem})
		return err
	}
	return m.run(t, platform.MapOp{Kind: platform.Protect, Addr: addr, Len: end - addr, Prot: uint32(prot) & protMask})
}

// Prune forgets the areas of the books that are not mapped any more.
func (m *MM) Prune() {
	m.mu.Lock()
	m.pruneLocked(nil)
	m.unlock()
}

// pruneLocked is Prune; host is the host's list if it has been read already.
func (m *MM) pruneLocked(host []platform.Mapping) {
	if host == nil {
		var err error
		if host, err = m.as.Mappings(); err != nil {
			return
		}
	}
	var gone []span
	i := 0
	for _, a := range m.book.areas {
		at := a.start
		for i < len(host) && host[i].End <= at {
			i++
		}
		for j := i; j < len(host) && host[j].Start < a.end; j++ {
			if host[j].File == (platform.FileID{}) {
				continue
			}
			if at < host[j].Start {
				gone = append(gone, span{at, host[j].Start})
			}
			at = host[j].End
		}
		if at < a.end {
			gone = append(gone, span{at, a.end})
		}
	}
	for _, g := range gone {
		m.book.cut(g.start, g.end)
	}
	m.pruneAt = max(pruneMin, 2*len(m.book.areas))
}
