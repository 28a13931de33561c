package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

// Priorities of I/O (ioprio_set(2)): a class from bit 13 on, a level in the lowest three bits. The host schedules I/O; what a
// program has set is kept and shown, and children inherit it.
const (
	ioprioClassShift = 13
	ioprioLevelMask  = 7

	ioprioNone       = 0
	ioprioRealtime   = 1
	ioprioBestEffort = 2
	ioprioIdle       = 3
)

// sysIoprioSet implements ioprio_set(2). EINVAL: not a class, or a level without one. EPERM: the class needs a privilege, or it
// is somebody else's thread.
func sysIoprioSet(t *task.Task, a *platform.Args) (uint64, error) {
	prio := i32(a[2])
	c := t.Cred()
	switch prio >> ioprioClassShift {
	case ioprioRealtime:
		if !c.Capable(unix.CAP_SYS_ADMIN) && !c.Capable(unix.CAP_SYS_NICE) {
			return 0, unix.EPERM
		}
	case ioprioBestEffort, ioprioIdle:
	case ioprioNone:
		if prio&ioprioLevelMask != 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	var fail error
	err := forPriority(t, i32(a[0])-1, i32(a[1]), func(x *task.Task) {
		if uid := x.Cred().UID; uid != c.EUID && uid != c.UID && !c.Capable(unix.CAP_SYS_NICE) {
			fail = unix.EPERM
			return
		}
		x.SetIOPrio(prio)
	})
	if err == nil {
		err = fail
	}
	return 0, err
}

// sysIoprioGet implements ioprio_get(2). Of several threads it tells the best, where those that have set nothing have what
// their nice value stands for.
func sysIoprioGet(t *task.Task, a *platform.Args) (uint64, error) {
	const processes = 1 // IOPRIO_WHO_PROCESS
	best := int32(-1)
	err := forPriority(t, i32(a[0])-1, i32(a[1]), func(x *task.Task) {
		prio := x.IOPrio()
		if i32(a[0]) != processes && prio>>ioprioClassShift == ioprioNone {
			class := int32(ioprioBestEffort)
			switch x.Sched().Policy {
			case unix.SCHED_IDLE:
				class = ioprioIdle
			case unix.SCHED_FIFO, unix.SCHED_RR:
				class = ioprioRealtime
			}
			prio = class<<ioprioClassShift | int32(x.Nice()+20)/5
		}
		if best < 0 || prio < best {
			best = prio
		}
	})
	if err != nil {
		return 0, err
	}
	return uint64(best), nil
}
