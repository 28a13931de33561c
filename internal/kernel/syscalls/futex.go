package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/futex"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

func init() {
	register(map[int]Entry{
		unix.SYS_FUTEX: {Name: "futex", Fn: sysFutex, Lane: platform.Native,
			Note: "priority inheritance: in the order of priority, without effect on the scheduler"},
		unix.SYS_FUTEX_WAITV:   {Name: "futex_waitv", Fn: enosys, Lane: platform.Native, Note: "if the host has it"},
		unix.SYS_FUTEX_WAKE:    {Name: "futex_wake", Fn: enosys, Lane: platform.Native, Note: "if the host has it"},
		unix.SYS_FUTEX_WAIT:    {Name: "futex_wait", Fn: enosys, Lane: platform.Native, Note: "if the host has it"},
		unix.SYS_FUTEX_REQUEUE: {Name: "futex_requeue", Fn: enosys, Lane: platform.Native, Note: "if the host has it"},
	})
}

func enosys(*task.Task, *platform.Args) (uint64, error) { return 0, unix.ENOSYS }

// Operations of futex(2) that do not reach the host (linux/futex.h).
const (
	futexLockPI        = 6
	futexUnlockPI      = 7
	futexTrylockPI     = 8
	futexWaitRequeuePI = 11
	futexCmpRequeuePI  = 12
	futexLockPI2       = 13

	futexPrivate       = 128
	futexClockRealtime = 256
)

// sysFutex implements the operations that compare thread ids, which the host cannot do for guest ids.
func sysFutex(t *task.Task, a *platform.Args) (uint64, error) {
	if t.MustOffload() {
		return t.Offload()
	}
	op := u32(a[1])
	private, realtime := op&futexPrivate != 0, op&futexClockRealtime != 0
	op &^= futexPrivate | futexClockRealtime
	if realtime && op != futexWaitRequeuePI && op != futexLockPI2 {
		return 0, unix.ENOSYS
	}
	deadline := ktime.Forever
	switch op {
	case futexLockPI:
		realtime = true
		fallthrough
	case futexLockPI2, futexWaitRequeuePI:
		if a[3] == 0 {
			break
		}
		ns, err := readTimespec(t, a[3])
		if err != nil {
			return 0, err
		}
		clock := int32(unix.CLOCK_MONOTONIC)
		if realtime {
			clock = unix.CLOCK_REALTIME
		}
		deadline = task.MonotonicDeadline(clock, ns)
	case futexUnlockPI, futexTrylockPI:
	case futexCmpRequeuePI:
		if i32(a[2]) != 1 || i32(a[3]) < 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.ENOSYS
	}
	key, err := futexKey(t, a[0], private)
	if err != nil {
		return 0, err
	}
	tb := t.K.Futexes
	switch op {
	case futexLockPI, futexLockPI2, futexTrylockPI:
		return 0, tb.Lock(t, a[0], key, deadline, op == futexTrylockPI)
	case futexUnlockPI:
		return 0, tb.Unlock(t, a[0], key)
	}
	lock, err := futexKey(t, a[4], private)
	if err != nil {
		return 0, err
	}
	if op == futexWaitRequeuePI {
		return 0, tb.WaitRequeue(t, a[0], key, u32(a[2]), deadline, a[4], lock)
	}
	n, err := tb.Requeue(t, a[0], key, a[4], lock, i32(a[3]), u32(a[5]))
	return uint64(n), err
}

// futexKey finds out which word an address of the caller means.
func futexKey(t *task.Task, addr uint64, private bool) (futex.Key, error) {
	m := t.MM()
	switch {
	case addr%4 != 0:
		return futex.Key{}, unix.EINVAL
	case addr >= t.K.Platform.UserMax():
		return futex.Key{}, unix.EFAULT
	case !private:
		if object, off, ok := m.SharedAt(addr); ok {
			return futex.Key{Object: object, Off: off}, nil
		}
	}
	return futex.Key{Object: m, Off: addr, Private: private}, nil
}
