package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/futex"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Robust futexes (set_robust_list(2)): when a thread ends while it holds some, their words get FUTEX_OWNER_DIED and a
// waiter is woken. The words lie in guest memory that only the thread itself can change atomically, so it is held for it.

const (
	robustLimit = 2048 // ROBUST_LIST_LIMIT
	futexWake   = 1
)

// robustPending reports whether the thread ends holding robust futexes.
func (t *Task) robustPending() bool {
	head := t.robustList.Load()
	if head == 0 {
		return false
	}
	var b [24]byte
	if uio.ReadFull(t.Mem(), b[:], head) != nil {
		t.robustList.Store(0)
		return false
	}
	next, pending := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[16:])
	if next&^1 == head && pending == 0 {
		t.robustList.Store(0)
		return false
	}
	return true
}

// exitRobust walks the list of a held thread.
func (t *Task) exitRobust(th platform.Thread) {
	head := t.robustList.Swap(0)
	mem := t.Mem()
	var b [24]byte
	if head == 0 || uio.ReadFull(mem, b[:], head) != nil {
		return
	}
	le := binary.LittleEndian
	entry, off, pending := le.Uint64(b[0:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	for n := 0; entry&^1 != head && n < robustLimit; n++ {
		var nb [8]byte
		err := uio.ReadFull(mem, nb[:], entry&^1)
		if entry != pending {
			t.ownerDied(th, (entry&^1)+off, entry&1 != 0)
		}
		if err != nil {
			break
		}
		entry = le.Uint64(nb[:])
	}
	if pending != 0 {
		t.ownerDied(th, (pending&^1)+off, pending&1 != 0)
	}
}

// ownerDied marks one futex word of the ending thread.
func (t *Task) ownerDied(th platform.Thread, addr uint64, pi bool) {
	if addr&3 != 0 {
		return
	}
	for range 1000 {
		var b [4]byte
		if uio.ReadFull(t.Mem(), b[:], addr) != nil {
			return
		}
		v := binary.LittleEndian.Uint32(b[:])
		if v&futex.TIDMask != uint32(t.TID()) {
			return
		}
		old, err := th.CompareAndSwap32(addr, v, v&futex.Waiters|futex.OwnerDied)
		if err != nil {
			return
		}
		if old == v {
			if v&futex.Waiters != 0 && !pi {
				th.Syscall(unix.SYS_FUTEX, platform.Args{addr, futexWake, 1})
			}
			return
		}
	}
}
