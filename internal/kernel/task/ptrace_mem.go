package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// PeekMem reads the memory of a stopped tracee, PokeMem writes it (PTRACE_PEEKDATA and POKEDATA, /proc/<pid>/mem): page
// protection does not count, so that breakpoints can be set. A read-only shared mapping is not written for anybody.
func (t *Task) PeekMem(p []byte, addr uint64) error {
	return t.forcedAccess(addr, len(p), unix.PROT_READ, func() error { return uio.ReadFull(t.Mem(), p, addr) })
}

// PokeMem writes the memory of a stopped tracee.
func (t *Task) PokeMem(p []byte, addr uint64) error {
	return t.forcedAccess(addr, len(p), unix.PROT_READ|unix.PROT_WRITE, func() error { return uio.WriteFull(t.Mem(), p, addr) })
}

// forcedAccess runs f, if need be with the protection of the pages raised for the time.
func (t *Task) forcedAccess(addr uint64, n int, prot uint32, f func() error) error {
	if f() == nil {
		return nil
	}
	if addr+uint64(n) < addr {
		return unix.EFAULT
	}
	th := t.Thread()
	maps, err := th.AddressSpace().Mappings()
	if err != nil {
		return err
	}
	start, end := abi.PageDown(addr), abi.PageUp(addr+uint64(n))
	var raise, lower []platform.MapOp
	for _, m := range maps {
		lo, hi := max(m.Start, start), min(m.End, end)
		if lo >= hi {
			continue
		}
		if m.Shared && prot&unix.PROT_WRITE != 0 && m.Prot&unix.PROT_WRITE == 0 {
			return unix.EFAULT
		}
		raise = append(raise, platform.MapOp{Kind: platform.Protect, Addr: lo, Len: hi - lo, Prot: m.Prot | prot})
		lower = append(lower, platform.MapOp{Kind: platform.Protect, Addr: lo, Len: hi - lo, Prot: m.Prot})
	}
	if len(raise) == 0 {
		return unix.EFAULT
	}
	if err := th.Map(raise); err != nil {
		return err
	}
	err = f()
	if e := th.Map(lower); err == nil {
		err = e
	}
	return err
}

// StoppedTracee is a thread with memory m that the caller's process traces and that is in a stop; nil if there is none.
func (t *Task) StoppedTracee(m *mm.MM) *Task {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	for x := range t.Group.tracees {
		if x.trace.stop != nil && x.MM() == m {
			return x
		}
	}
	return nil
}
