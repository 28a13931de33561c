package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// SetBrk places the heap of a fresh program: it starts, empty, at addr.
func (m *MM) SetBrk(addr uint64) {
	m.mu.Lock()
	m.startBrk, m.brk = addr, addr
	m.mu.Unlock()
}

// StartBrk is where the heap begins.
func (m *MM) StartBrk() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.startBrk
}

// Brk implements the brk(2) system call: it returns the end of the heap, which is unchanged if it cannot be moved to
// addr. The only error is ErrOffload. Where the host has the heap this is for calls that it could not take by itself.
func (m *MM) Brk(t platform.Thread, c vfs.Caller, addr uint64) (uint64, error) {
	if m.host.HostBrk {
		if addr >= m.host.UserMax-abi.PageSize {
			addr = 0
		}
		return t.Syscall(unix.SYS_BRK, platform.Args{addr})
	}
	if err := m.lock(t); err != nil {
		return 0, err
	}
	defer m.unlock()
	old := m.brk
	if addr < m.startBrk || addr >= m.host.UserMax-abi.PageSize {
		return old, nil
	}
	data := m.layout.EndData - m.layout.StartData
	if limit := c.Rlimit(unix.RLIMIT_DATA); addr-m.startBrk > limit || data > limit-(addr-m.startBrk) {
		return old, nil
	}
	from, to := abi.PageUp(old), abi.PageUp(addr)
	switch {
	case to > from:
		if m.host.Acct.mayCommit(to-from, false) != nil {
			return old, nil
		}
		flags := uint64(0)
		if m.lockAll&unix.MCL_FUTURE != 0 {
			flags = unix.MAP_LOCKED
			if m.checkLockLocked(c, from, from, to-from) != nil {
				return old, nil
			}
		}
		err := m.run(t, platform.MapOp{Kind: platform.MapAnon, Addr: from, Len: to - from,
			Prot: unix.PROT_READ | unix.PROT_WRITE, NoReplace: true})
		if err != nil {
			return old, nil
		}
		m.noteLocked(flags, from, to-from)
	case to < from:
		if t.OnTracer() && m.book.overlaps(to, from) {
			return 0, ErrOffload
		}
		if m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: to, Len: from - to}) != nil {
			return old, nil
		}
		m.book.cut(to, from)
		m.locked.remove(to, from)
	}
	m.brk = addr
	return addr, nil
}
