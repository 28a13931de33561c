package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/futex"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

var _ futex.Thread = (*Task)(nil)

// Priority implements futex.Thread: 0 for the ordinary policies.
func (t *Task) Priority() int {
	p := t.Sched()
	if p.Policy == schedDeadline {
		return 100
	}
	return int(p.Priority)
}

const schedDeadline = 6 // SCHED_DEADLINE

// Load implements futex.Thread.
func (t *Task) Load(addr uint64) (uint32, error) {
	var b [4]byte
	err := uio.ReadFull(t.Mem(), b[:], addr)
	return binary.LittleEndian.Uint32(b[:]), err
}

// CompareAndSwap implements futex.Thread.
func (t *Task) CompareAndSwap(addr uint64, old, new uint32) (uint32, error) {
	v, err := t.Thread().CompareAndSwap32(addr, old, new)
	if err != nil {
		err = unix.EFAULT
	}
	return v, err
}

// Futex implements futex.Thread.
func (t *Task) Futex() *futex.State { return &t.futex }

// findFutexOwner is futex.Table's Find.
func (k *Kernel) findFutexOwner(tid int32) (futex.Thread, bool) {
	t := k.FindTask(tid)
	return t, t != nil
}
