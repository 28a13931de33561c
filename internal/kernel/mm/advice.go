package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const madvSoftOffline = 101

// Madvise implements madvise(2).
func (m *MM) Madvise(t platform.Thread, c vfs.Caller, addr, n uint64, advice int32) error {
	switch advice {
	case unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED, unix.MADV_DONTNEED, unix.MADV_FREE,
		unix.MADV_COLD, unix.MADV_PAGEOUT, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_DODUMP, unix.MADV_DONTDUMP,
		unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_POPULATE_READ,
		unix.MADV_POPULATE_WRITE, unix.MADV_DONTNEED_LOCKED, unix.MADV_COLLAPSE, unix.MADV_GUARD_INSTALL,
		unix.MADV_GUARD_REMOVE, unix.MADV_REMOVE:
	case unix.MADV_HWPOISON, madvSoftOffline:
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		return unix.EINVAL
	default: // MADV_MERGEABLE too: there is no KSM
		return unix.EINVAL
	}
	if addr%abi.PageSize != 0 {
		return unix.EINVAL
	}
	end := abi.PageUp(addr + n)
	if addr+n < addr || end < addr || end == 0 && n != 0 {
		return unix.EINVAL
	}
	if end == addr {
		return nil
	}
	if end > m.host.UserMax {
		return unix.ENOMEM
	}
	switch advice {
	case unix.MADV_REMOVE:
		return m.punch(t, c, addr, end)
	case unix.MADV_PAGEOUT:
		return nil // would tell about the host's memory
	}
	_, err := t.Syscall(unix.SYS_MADVISE, platform.Args{addr, end - addr, uint64(advice)})
	return err
}

// punch is MADV_REMOVE: it frees the pages of shared files.
func (m *MM) punch(t platform.Thread, c vfs.Caller, addr, end uint64) error {
	if t.OnTracer() {
		return ErrOffload
	}
	m.mu.Lock()
	var parts []area
	at := addr
	var err error
	for i := m.book.from(addr); i < len(m.book.areas) && m.book.areas[i].start < end; i++ {
		a := m.book.areas[i]
		if lo := max(a.start, at); lo > at {
			break
		}
		if !a.write {
			err = unix.EACCES
			break
		}
		a = a.part(at, min(a.end, end))
		a.b.refs.Add(1)
		parts = append(parts, a)
		at = a.end
	}
	if at < end && err == nil {
		err = unix.EINVAL
	}
	m.mu.Unlock()
	for _, a := range parts {
		if e := vfs.Fallocate(c, a.b.f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(a.off), int64(a.end-a.start)); e != nil && err == nil {
			err = e
		}
		a.b.Put()
	}
	return err
}

// holes reports whether a page of [start, end) is not mapped.
func (m *MM) holes(start, end uint64) (bool, error) {
	host, err := m.as.Mappings()
	if err != nil {
		return false, err
	}
	for _, h := range host {
		if h.End > start && h.Start <= start {
			if start = h.End; start >= end {
				return false, nil
			}
		}
	}
	return true, nil
}

// Msync implements msync(2).
func (m *MM) Msync(t platform.Thread, addr, n uint64, flags int32) error {
	if flags&^(unix.MS_ASYNC|unix.MS_INVALIDATE|unix.MS_SYNC) != 0 || addr%abi.PageSize != 0 ||
		flags&(unix.MS_ASYNC|unix.MS_SYNC) == unix.MS_ASYNC|unix.MS_SYNC {
		return unix.EINVAL
	}
	end := abi.PageUp(addr + n)
	if end < addr || addr+n < addr || end > m.host.UserMax {
		return unix.ENOMEM
	}
	if end == addr {
		return nil
	}
	if t.OnTracer() {
		return ErrOffload
	}
	hole, err := m.holes(addr, end)
	if err != nil {
		return err
	}
	if flags&unix.MS_INVALIDATE != 0 && m.Locked(addr, end) > 0 {
		return unix.EBUSY
	}
	if flags&unix.MS_SYNC != 0 {
		m.mu.Lock()
		var parts []area
		for i := m.book.from(addr); i < len(m.book.areas) && m.book.areas[i].start < end; i++ {
			if a := m.book.areas[i]; a.shared {
				a.b.refs.Add(1)
				parts = append(parts, a.part(max(a.start, addr), min(a.end, end)))
			}
		}
		m.mu.Unlock()
		for _, a := range parts {
			if e := a.b.m.MSync(a.off, a.end-a.start); e != nil && err == nil {
				err = e
			}
			a.b.Put()
		}
	}
	if err == nil && hole {
		err = unix.ENOMEM
	}
	return err
}

// Mincore implements mincore(2): the host's answer, written to vec by the host.
func (m *MM) Mincore(t platform.Thread, addr, n, vec uint64) error {
	if addr%abi.PageSize != 0 {
		return unix.EINVAL
	}
	pages := (n + abi.PageSize - 1) / abi.PageSize
	if n > m.host.UserMax || addr > m.host.UserMax-n {
		return unix.ENOMEM
	}
	if vec > m.host.UserMax-pages {
		return unix.EFAULT
	}
	if n == 0 {
		return nil
	}
	_, err := t.Syscall(unix.SYS_MINCORE, platform.Args{addr, n, vec})
	return err
}

// checkLock checks whether c may lock n bytes at addr; those at old+[0, n) that are locked already do not count again.
func (m *MM) checkLock(c vfs.Caller, old, addr, n uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.checkLockLocked(c, old, addr, n)
}

func (m *MM) checkLockLocked(c vfs.Caller, old, addr, n uint64) error {
	if c.Cred().Capable(unix.CAP_IPC_LOCK) {
		return nil
	}
	limit := c.Rlimit(unix.RLIMIT_MEMLOCK)
	if limit == 0 {
		return unix.EPERM
	}
	total := m.locked.total()
	if addr != 0 {
		total -= m.locked.within(old, old+n)
	}
	if total > limit || n > limit-total {
		return unix.ENOMEM
	}
	return nil
}

// noteLocked books a new mapping as locked if it is, and as not locked otherwise. The lock is held.
func (m *MM) noteLocked(flags, addr, n uint64) {
	if flags&unix.MAP_LOCKED != 0 || m.lockAll&unix.MCL_FUTURE != 0 {
		m.locked.add(addr, addr+n)
	} else if len(m.locked) > 0 {
		m.locked.remove(addr, addr+n)
	}
}

// Locked is how many bytes of [start, end) are locked (VmLck with the whole address space).
func (m *MM) Locked(start, end uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locked.within(start, end)
}

// lockBounds checks and rounds the range of mlock and munlock, after may has agreed to the rounded size.
func (m *MM) lockBounds(addr, n uint64, may func(start, n uint64) error) (start, end uint64, err error) {
	start, n = abi.PageDown(addr), abi.PageUp(n+addr%abi.PageSize)
	if err := may(start, n); err != nil {
		return 0, 0, err
	}
	end = start + n
	if end < start {
		return 0, 0, unix.EINVAL
	}
	if end > m.host.UserMax {
		return 0, 0, unix.ENOMEM
	}
	return start, end, nil
}

// Mlock implements mlock2(2), mlock with flags 0. Memory is only accounted as locked: it is the host's to page out.
func (m *MM) Mlock(c vfs.Caller, addr, n uint64, flags int32) error {
	if flags&^unix.MLOCK_ONFAULT != 0 {
		return unix.EINVAL
	}
	start, end, err := m.lockBounds(addr, n, func(start, n uint64) error { return m.checkLock(c, start, start, n) })
	if err != nil {
		return err
	}
	if start == end {
		return nil
	}
	if hole, err := m.holes(start, end); err != nil {
		return err
	} else if hole {
		return unix.ENOMEM
	}
	m.mu.Lock()
	m.locked.add(start, end)
	m.mu.Unlock()
	return nil
}

// Munlock implements munlock(2).
func (m *MM) Munlock(addr, n uint64) error {
	start, end, err := m.lockBounds(addr, n, func(uint64, uint64) error { return nil })
	if err != nil || start == end {
		return err
	}
	if hole, err := m.holes(start, end); err != nil {
		return err
	} else if hole {
		return unix.ENOMEM
	}
	m.mu.Lock()
	m.locked.remove(start, end)
	m.mu.Unlock()
	return nil
}

// Mlockall implements mlockall(2).
func (m *MM) Mlockall(c vfs.Caller, flags int32) error {
	if flags == 0 || flags&^(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) != 0 || flags == unix.MCL_ONFAULT {
		return unix.EINVAL
	}
	host, err := m.as.Mappings()
	if err != nil {
		return err
	}
	if !c.Cred().Capable(unix.CAP_IPC_LOCK) {
		limit := c.Rlimit(unix.RLIMIT_MEMLOCK)
		if limit == 0 {
			return unix.EPERM
		}
		var total uint64
		for _, h := range host {
			total += h.End - h.Start
		}
		if flags&unix.MCL_CURRENT != 0 && total > limit {
			return unix.ENOMEM
		}
	}
	m.mu.Lock()
	m.lockAll = int(flags)
	if flags&unix.MCL_CURRENT != 0 {
		for _, h := range host {
			m.locked.add(h.Start, h.End)
		}
	}
	m.mu.Unlock()
	return nil
}

// Munlockall implements munlockall(2).
func (m *MM) Munlockall() {
	m.mu.Lock()
	m.lockAll, m.locked = 0, nil
	m.mu.Unlock()
}
