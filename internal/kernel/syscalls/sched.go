package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SCHED_SETAFFINITY:      {Name: "sched_setaffinity", Fn: sysSchedSetaffinity},
		unix.SYS_SCHED_GETAFFINITY:      {Name: "sched_getaffinity", Fn: sysSchedGetaffinity},
		unix.SYS_SCHED_SETSCHEDULER:     {Name: "sched_setscheduler", Fn: sysSchedSetscheduler, Note: "kept, but the host schedules"},
		unix.SYS_SCHED_GETSCHEDULER:     {Name: "sched_getscheduler", Fn: sysSchedGetscheduler},
		unix.SYS_SCHED_SETPARAM:         {Name: "sched_setparam", Fn: sysSchedSetparam, Note: "kept, but the host schedules"},
		unix.SYS_SCHED_GETPARAM:         {Name: "sched_getparam", Fn: sysSchedGetparam},
		unix.SYS_SCHED_SETATTR:          {Name: "sched_setattr", Fn: sysSchedSetattr, Note: "kept, but the host schedules"},
		unix.SYS_SCHED_GETATTR:          {Name: "sched_getattr", Fn: sysSchedGetattr},
		unix.SYS_SCHED_GET_PRIORITY_MAX: {Name: "sched_get_priority_max", Fn: sysSchedPriorityMax},
		unix.SYS_SCHED_GET_PRIORITY_MIN: {Name: "sched_get_priority_min", Fn: sysSchedPriorityMin},
		unix.SYS_SCHED_RR_GET_INTERVAL:  {Name: "sched_rr_get_interval", Fn: sysSchedRrGetInterval},
		unix.SYS_GETPRIORITY:            {Name: "getpriority", Fn: sysGetpriority},
		unix.SYS_SETPRIORITY:            {Name: "setpriority", Fn: sysSetpriority, Note: "kept, but the host schedules"},
		unix.SYS_GETRLIMIT:              {Name: "getrlimit", Fn: sysGetrlimit},
		unix.SYS_SETRLIMIT:              {Name: "setrlimit", Fn: sysSetrlimit},
		unix.SYS_PRLIMIT64:              {Name: "prlimit64", Fn: sysPrlimit64},
		unix.SYS_GETRUSAGE:              {Name: "getrusage", Fn: sysGetrusage},
		unix.SYS_IOPRIO_GET:             {Name: "ioprio_get", Fn: sysIoprioGet},
		unix.SYS_IOPRIO_SET:             {Name: "ioprio_set", Fn: sysIoprioSet, Note: "kept and shown; the host schedules"},
	})
}

// target is the thread with an id, 0 for the caller; ESRCH.
func target(t *task.Task, pid int32) (*task.Task, error) {
	if pid < 0 {
		return nil, unix.EINVAL
	}
	if pid == 0 || pid == t.TID() {
		return t, nil
	}
	if x := t.K.FindTask(pid); x != nil {
		return x, nil
	}
	return nil, unix.ESRCH
}

// affinityTarget is target for the affinity calls, for which a negative id is one that does not exist.
func affinityTarget(t *task.Task, pid int32) (*task.Task, error) {
	if pid < 0 {
		return nil, unix.ESRCH
	}
	return target(t, pid)
}

// mayAdjust reports whether the caller may change another thread's scheduling.
func mayAdjust(t, x *task.Task) bool {
	c, xc := t.Cred(), x.Cred()
	return c.EUID == xc.EUID || c.EUID == xc.UID || c.Capable(unix.CAP_SYS_NICE)
}

func sysSchedSetaffinity(t *task.Task, a *platform.Args) (uint64, error) {
	n := min(u32(a[1]), 8)
	var b [8]byte
	if err := uio.ReadFull(t.Mem(), b[:n], a[2]); err != nil {
		return 0, err
	}
	x, err := affinityTarget(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	if !mayAdjust(t, x) {
		return 0, unix.EPERM
	}
	mask := le.Uint64(b[:])
	if mask&(1<<uint(t.K.Platform.NumCPU())-1) == 0 {
		return 0, unix.EINVAL
	}
	return 0, x.SetAffinity(mask)
}

func sysSchedGetaffinity(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[1])%8 != 0 || u32(a[1])*8 < uint32(t.K.Platform.NumCPU()) {
		return 0, unix.EINVAL
	}
	x, err := affinityTarget(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	return 8, writeU64(t, a[2], x.Affinity())
}

// priorityRange is the priorities of a policy; EINVAL.
func priorityRange(policy int32) (lo, hi int32, err error) {
	switch policy {
	case unix.SCHED_FIFO, unix.SCHED_RR:
		return 1, 99, nil
	case unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE, unix.SCHED_DEADLINE:
		return 0, 0, nil
	}
	return 0, 0, unix.EINVAL
}

const schedResetOnFork = 0x40000000

func setSched(t *task.Task, pid, policy, prio int32, keep bool) error {
	x, err := target(t, pid)
	if err != nil {
		return err
	}
	p := task.SchedParam{Policy: policy &^ schedResetOnFork, Priority: prio, Reset: policy&schedResetOnFork != 0}
	if keep {
		old := x.Sched()
		p.Policy, p.Reset = old.Policy, old.Reset
	}
	lo, hi, err := priorityRange(p.Policy)
	if err != nil || prio < lo || prio > hi || p.Policy == unix.SCHED_DEADLINE {
		return unix.EINVAL
	}
	if !mayAdjust(t, x) || p.Priority > 0 && !t.Cred().Capable(unix.CAP_SYS_NICE) && uint64(p.Priority) > t.Rlimit(unix.RLIMIT_RTPRIO) {
		return unix.EPERM
	}
	x.SetSched(p)
	return nil
}

func readPriority(t *task.Task, addr uint64) (int32, error) {
	if addr == 0 {
		return 0, unix.EINVAL
	}
	var b [4]byte
	err := uio.ReadFull(t.Mem(), b[:], addr)
	return int32(le.Uint32(b[:])), err
}

func sysSchedSetscheduler(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[1]) < 0 {
		return 0, unix.EINVAL
	}
	p, err := readPriority(t, a[2])
	if err != nil {
		return 0, err
	}
	return 0, setSched(t, i32(a[0]), i32(a[1]), p, false)
}

func sysSchedGetscheduler(t *task.Task, a *platform.Args) (uint64, error) {
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	p := x.Sched()
	v := uint64(p.Policy)
	if p.Reset {
		v |= schedResetOnFork
	}
	return v, nil
}

func sysSchedSetparam(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	p, err := readPriority(t, a[1])
	if err != nil {
		return 0, err
	}
	return 0, setSched(t, i32(a[0]), 0, p, true)
}

func sysSchedGetparam(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] == 0 {
		return 0, unix.EINVAL
	}
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, writeU32(t, a[1], uint32(x.Sched().Priority))
}

// schedAttrSize is the size of struct sched_attr (version 1).
const schedAttrSize = 56

func sysSchedSetattr(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] == 0 || u32(a[2]) != 0 {
		return 0, unix.EINVAL
	}
	var b [schedAttrSize]byte
	if err := uio.ReadFull(t.Mem(), b[:48], a[1]); err != nil {
		return 0, err
	}
	if size := le.Uint32(b[:]); size != 0 && size < 48 || size > 4096 {
		writeU32(t, a[1], schedAttrSize)
		return 0, unix.E2BIG
	}
	policy := int32(le.Uint32(b[4:]))
	if le.Uint64(b[8:])&1 != 0 {
		policy |= schedResetOnFork
	}
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	nice := min(max(int(int32(le.Uint32(b[16:]))), -20), 19)
	ordinary := policy&^schedResetOnFork == unix.SCHED_NORMAL || policy&^schedResetOnFork == unix.SCHED_BATCH
	if ordinary && !mayNice(t, x, nice) {
		return 0, unix.EPERM
	}
	if err := setSched(t, i32(a[0]), policy, int32(le.Uint32(b[20:])), false); err != nil {
		return 0, err
	}
	if ordinary {
		x.SetNice(nice)
	}
	return 0, nil
}

// mayNice reports whether the caller may give a thread a nice value.
func mayNice(t, x *task.Task, nice int) bool {
	return nice >= x.Nice() || t.Cred().Capable(unix.CAP_SYS_NICE) || uint64(20-nice) <= x.Rlimit(unix.RLIMIT_NICE)
}

func sysSchedGetattr(t *task.Task, a *platform.Args) (uint64, error) {
	size := u32(a[2])
	if a[1] == 0 || size < 48 || size > 4096 || u32(a[3]) != 0 {
		return 0, unix.EINVAL
	}
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	p := x.Sched()
	n := min(size, schedAttrSize)
	var b [schedAttrSize]byte
	le.PutUint32(b[0:], n)
	le.PutUint32(b[4:], uint32(p.Policy))
	if p.Reset {
		le.PutUint64(b[8:], 1)
	}
	le.PutUint32(b[16:], uint32(x.Nice()))
	le.PutUint32(b[20:], uint32(p.Priority))
	return 0, uio.WriteFull(t.Mem(), b[:n], a[1])
}

func sysSchedPriorityMax(t *task.Task, a *platform.Args) (uint64, error) {
	_, hi, err := priorityRange(i32(a[0]))
	return uint64(hi), err
}

func sysSchedPriorityMin(t *task.Task, a *platform.Args) (uint64, error) {
	lo, _, err := priorityRange(i32(a[0]))
	return uint64(lo), err
}

func sysSchedRrGetInterval(t *task.Task, a *platform.Args) (uint64, error) {
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	ns := int64(0)
	if x.Sched().Policy == unix.SCHED_RR {
		ns = 100e6
	}
	return 0, writeTimespec(t, a[1], ns)
}

// forPriority calls f for the tasks that getpriority and setpriority mean.
func forPriority(t *task.Task, which, who int32, f func(*task.Task)) error {
	var match func(*task.ThreadGroup) bool
	switch which {
	case unix.PRIO_PROCESS:
		if who == 0 {
			f(t)
			return nil
		}
		if x := t.K.FindTask(who); x != nil {
			f(x)
			return nil
		}
		return unix.ESRCH
	case unix.PRIO_PGRP:
		if who == 0 {
			who = t.PgrpID()
		}
		match = func(g *task.ThreadGroup) bool { return g.PgrpID() == who }
	case unix.PRIO_USER:
		uid := uint32(who)
		if who == 0 {
			uid = t.Cred().UID
		}
		match = func(g *task.ThreadGroup) bool { l := g.Leader(); return l != nil && l.Cred().UID == uid }
	default:
		return unix.EINVAL
	}
	err := error(unix.ESRCH)
	for _, g := range t.K.Groups() {
		if match(g) {
			for _, x := range g.Threads() {
				f(x)
				err = nil
			}
		}
	}
	return err
}

func sysGetpriority(t *task.Task, a *platform.Args) (uint64, error) {
	best := 0
	err := forPriority(t, i32(a[0]), i32(a[1]), func(x *task.Task) { best = max(best, 20-x.Nice()) })
	return uint64(best), err
}

func sysSetpriority(t *task.Task, a *platform.Args) (uint64, error) {
	n := min(max(int(i32(a[2])), -20), 19)
	var fail error
	err := forPriority(t, i32(a[0]), i32(a[1]), func(x *task.Task) {
		switch {
		case !mayAdjust(t, x):
			fail = unix.EPERM
		case !mayNice(t, x, n):
			fail = unix.EACCES
		default:
			x.SetNice(n)
		}
	})
	if err == nil {
		err = fail
	}
	return 0, err
}

func writeRlimit(t *task.Task, addr uint64, l unix.Rlimit) error {
	var b [16]byte
	return uio.WriteFull(t.Mem(), le.AppendUint64(le.AppendUint64(b[:0], l.Cur), l.Max), addr)
}

func readRlimit(t *task.Task, addr uint64) (l unix.Rlimit, err error) {
	var b [16]byte
	err = uio.ReadFull(t.Mem(), b[:], addr)
	return unix.Rlimit{Cur: le.Uint64(b[:]), Max: le.Uint64(b[8:])}, err
}

// numRlimits is RLIM_NLIMITS.
const numRlimits = 16

func sysGetrlimit(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[0]) >= numRlimits {
		return 0, unix.EINVAL
	}
	return 0, writeRlimit(t, a[1], t.Group.Rlimit(int(u32(a[0]))))
}

func sysSetrlimit(t *task.Task, a *platform.Args) (uint64, error) {
	l, err := readRlimit(t, a[1])
	if err != nil {
		return 0, err
	}
	return 0, t.Group.SetRlimit(int(i32(a[0])), l, t.Cred().Capable(unix.CAP_SYS_RESOURCE))
}

func sysPrlimit64(t *task.Task, a *platform.Args) (uint64, error) {
	res := u32(a[1])
	var new *unix.Rlimit
	if a[2] != 0 {
		l, err := readRlimit(t, a[2])
		if err != nil {
			return 0, err
		}
		new = &l
	}
	x, err := target(t, i32(a[0]))
	if err != nil {
		return 0, unix.ESRCH
	}
	if x.Group != t.Group {
		c, xc := t.Cred(), x.Cred()
		same := c.UID == xc.EUID && c.UID == xc.SUID && c.UID == xc.UID && c.GID == xc.EGID && c.GID == xc.SGID && c.GID == xc.GID
		if !same && !c.Capable(unix.CAP_SYS_RESOURCE) {
			return 0, unix.EPERM
		}
	}
	if res >= numRlimits {
		return 0, unix.EINVAL
	}
	old := x.Group.Rlimit(int(res))
	if new != nil {
		if err := x.Group.SetRlimit(int(res), *new, t.Cred().Capable(unix.CAP_SYS_RESOURCE)); err != nil {
			return 0, err
		}
	}
	if a[3] != 0 {
		return 0, writeRlimit(t, a[3], old)
	}
	return 0, nil
}

func sysGetrusage(t *task.Task, a *platform.Args) (uint64, error) {
	var r unix.Rusage
	switch i32(a[0]) {
	case unix.RUSAGE_SELF:
		r, _ = t.Group.Rusage()
	case unix.RUSAGE_CHILDREN:
		_, r = t.Group.Rusage()
	case unix.RUSAGE_THREAD:
		r = t.Rusage()
	default:
		return 0, unix.EINVAL
	}
	return 0, uio.WriteFull(t.Mem(), encodeRusage(&r), a[1])
}
