package syscalls

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_NANOSLEEP:        {Name: "nanosleep", Fn: sysNanosleep},
		unix.SYS_CLOCK_NANOSLEEP:  {Name: "clock_nanosleep", Fn: sysClockNanosleep},
		unix.SYS_CLOCK_GETTIME:    {Name: "clock_gettime", Fn: sysClockGettime},
		unix.SYS_CLOCK_GETRES:     {Name: "clock_getres", Fn: sysClockGetres},
		unix.SYS_CLOCK_SETTIME:    {Name: "clock_settime", Fn: sysClockSettime},
		unix.SYS_CLOCK_ADJTIME:    {Name: "clock_adjtime", Fn: sysClockAdjtime, Note: "offsets are stepped, rates only remembered"},
		unix.SYS_ADJTIMEX:         {Name: "adjtimex", Fn: sysAdjtimex, Note: "offsets are stepped, rates only remembered"},
		unix.SYS_SETTIMEOFDAY:     {Name: "settimeofday", Fn: sysSettimeofday},
		unix.SYS_GETTIMEOFDAY:     {Name: "gettimeofday", Fn: sysGettimeofday},
		unix.SYS_TIME:             {Name: "time", Fn: sysTime},
		unix.SYS_TIMES:            {Name: "times", Fn: sysTimes},
		unix.SYS_ALARM:            {Name: "alarm", Fn: sysAlarm},
		unix.SYS_GETITIMER:        {Name: "getitimer", Fn: sysGetitimer},
		unix.SYS_SETITIMER:        {Name: "setitimer", Fn: sysSetitimer},
		unix.SYS_TIMER_CREATE:     {Name: "timer_create", Fn: sysTimerCreate},
		unix.SYS_TIMER_SETTIME:    {Name: "timer_settime", Fn: sysTimerSettime},
		unix.SYS_TIMER_GETTIME:    {Name: "timer_gettime", Fn: sysTimerGettime},
		unix.SYS_TIMER_GETOVERRUN: {Name: "timer_getoverrun", Fn: sysTimerGetoverrun},
		unix.SYS_TIMER_DELETE:     {Name: "timer_delete", Fn: sysTimerDelete},
	})
}

// after is the monotonic deadline ns from now.
func after(ns int64) int64 { return ktime.After(time.Duration(ns)) }

// sleepUntil sleeps to a monotonic deadline. ERESTART_RESTARTBLOCK when interrupted.
func sleepUntil(t *task.Task, deadline int64) error {
	for {
		switch err := t.Sleep(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return nil
		default:
			return abi.ERESTART_RESTARTBLOCK
		}
	}
}

// relativeSleep is nanosleep: when interrupted it writes the rest and can be continued by restart_syscall.
func relativeSleep(t *task.Task, deadline int64, rem uint64) (uint64, error) {
	err := sleepUntil(t, deadline)
	if err == nil {
		return 0, nil
	}
	if rem != 0 {
		if err := writeTimespec(t, rem, max(deadline-ktime.Monotonic(), 0)); err != nil {
			return 0, err
		}
	}
	t.SetRestart(func(t *task.Task) (uint64, error) { return relativeSleep(t, deadline, rem) })
	return 0, err
}

func sysNanosleep(t *task.Task, a *platform.Args) (uint64, error) {
	ns, err := readTimespec(t, a[0])
	if err != nil {
		return 0, err
	}
	return relativeSleep(t, after(ns), a[1])
}

func sysClockNanosleep(t *task.Task, a *platform.Args) (uint64, error) {
	clock, flags := i32(a[0]), u32(a[1])
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
	case unix.CLOCK_THREAD_CPUTIME_ID:
		return 0, unix.EINVAL
	case unix.CLOCK_PROCESS_CPUTIME_ID:
	case unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE:
		return 0, unix.EOPNOTSUPP
	default:
		if clock >= 0 {
			return 0, unix.EINVAL
		}
	}
	ns, err := readTimespec(t, a[2])
	if err != nil {
		return 0, err
	}
	if now, err := cpuClock(t, clock); clock < 0 || clock == unix.CLOCK_PROCESS_CPUTIME_ID {
		if err != nil {
			return 0, err
		}
		return cpuSleep(t, now, ns, flags&unix.TIMER_ABSTIME != 0)
	}
	if flags&unix.TIMER_ABSTIME != 0 {
		if t.SleepUntil(clock, ns) != nil {
			return 0, abi.ERESTARTNOHAND
		}
		return 0, nil
	}
	return relativeSleep(t, after(ns), a[3])
}

// cpuSleep sleeps until a CPU-time clock has reached a value, looking now and then.
func cpuSleep(t *task.Task, now func() int64, ns int64, abs bool) (uint64, error) {
	if !abs {
		ns += now()
	}
	for left := ns - now(); left > 0; left = ns - now() {
		if err := t.Sleep(after(max(left/int64(t.K.Platform.NumCPU()), 1e6))); err != nil && err != unix.ETIMEDOUT {
			return 0, unix.EINTR
		}
	}
	return 0, nil
}

// cpuClock returns the reader of a CPU-time clock: the two of the caller, or one that clock_getcpuclockid(3) made. EINVAL
// for other clocks.
func cpuClock(t *task.Task, clock int32) (func() int64, error) {
	threadClock := func(x *task.Task) func() int64 {
		return func() int64 { u, s := x.CPUTimes(); return u + s }
	}
	switch {
	case clock == unix.CLOCK_PROCESS_CPUTIME_ID:
		return t.Group.CPUClock, nil
	case clock == unix.CLOCK_THREAD_CPUTIME_ID:
		return threadClock(t), nil
	case clock >= 0 || clock&3 == 3: // no such kind, or the clock of a descriptor
		return nil, unix.EINVAL
	}
	// The low bits are the kind (profiling, virtual, scheduler) and whether it is a thread's; the rest is ~pid.
	pid, thread := ^(clock >> 3), clock&4 != 0
	x := t
	if pid != 0 {
		if x = t.K.FindTask(pid); x == nil || thread && x.Group != t.Group || !thread && x.PID() != pid {
			return nil, unix.EINVAL
		}
	}
	if thread {
		return threadClock(x), nil
	}
	return x.Group.CPUClock, nil
}

// readClock is the value of any clock; EINVAL.
func readClock(t *task.Task, clock int32) (int64, error) {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_TAI, unix.CLOCK_REALTIME_ALARM:
		return ktime.Realtime(), nil
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_MONOTONIC_RAW:
		return ktime.Monotonic(), nil
	case unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return ktime.Boottime(), nil
	}
	f, err := cpuClock(t, clock)
	if err != nil {
		return 0, err
	}
	return f(), nil
}

func sysClockGettime(t *task.Task, a *platform.Args) (uint64, error) {
	ns, err := readClock(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, writeTimespec(t, a[1], ns)
}

func sysClockGetres(t *task.Task, a *platform.Args) (uint64, error) {
	clock := i32(a[0])
	if _, err := readClock(t, clock); err != nil {
		return 0, err
	}
	if a[1] == 0 {
		return 0, nil
	}
	res := int64(1)
	if clock == unix.CLOCK_REALTIME_COARSE || clock == unix.CLOCK_MONOTONIC_COARSE {
		res = 4e6
	}
	return 0, writeTimespec(t, a[1], res)
}

func sysGettimeofday(t *task.Task, a *platform.Args) (uint64, error) {
	if a[0] != 0 {
		var b [16]byte
		if err := uio.WriteFull(t.Mem(), appendTimeval(b[:0], ktime.Realtime()), a[0]); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		return 0, uio.WriteFull(t.Mem(), make([]byte, 8), a[1])
	}
	return 0, nil
}

func sysTime(t *task.Task, a *platform.Args) (uint64, error) {
	s := uint64(ktime.Realtime() / 1e9)
	if a[0] != 0 {
		if err := writeU64(t, a[0], s); err != nil {
			return 0, err
		}
	}
	return s, nil
}

// tick is the length of a clock tick (USER_HZ 100) in nanoseconds.
const tick = 1e7

func sysTimes(t *task.Task, a *platform.Args) (uint64, error) {
	if a[0] != 0 {
		u, s := t.Group.CPUTimes()
		cu, cs := t.Group.ChildrenCPUTimes()
		b := make([]byte, 0, 32)
		for _, v := range []int64{u, s, cu, cs} {
			b = le.AppendUint64(b, uint64(v/tick))
		}
		if err := uio.WriteFull(t.Mem(), b, a[0]); err != nil {
			return 0, err
		}
	}
	return uint64(ktime.Monotonic() / tick), nil
}

func sysAlarm(t *task.Task, a *platform.Args) (uint64, error) {
	old, _, err := t.Group.SetItimer(unix.ITIMER_REAL, int64(u32(a[0]))*1e9, 0)
	if err != nil || old == 0 {
		return 0, err
	}
	return uint64(max((old+5e8)/1e9, 1)), nil
}

func encodeItimerval(interval, value int64) []byte {
	return appendTimeval(appendTimeval(make([]byte, 0, 32), interval), value)
}

func sysGetitimer(t *task.Task, a *platform.Args) (uint64, error) {
	v, i, err := t.Group.Itimer(int(i32(a[0])))
	if err != nil {
		return 0, err
	}
	return 0, uio.WriteFull(t.Mem(), encodeItimerval(i, v), a[1])
}

func sysSetitimer(t *task.Task, a *platform.Args) (uint64, error) {
	var value, interval int64
	if a[1] != 0 {
		var b [32]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[1]); err != nil {
			return 0, err
		}
		var err error
		if interval, err = readTimeval(b[:]); err != nil {
			return 0, err
		}
		if value, err = readTimeval(b[16:]); err != nil {
			return 0, err
		}
	}
	ov, oi, err := t.Group.SetItimer(int(i32(a[0])), value, interval)
	if err != nil || a[2] == 0 {
		return 0, err
	}
	return 0, uio.WriteFull(t.Mem(), encodeItimerval(oi, ov), a[2])
}

func sysTimerCreate(t *task.Task, a *platform.Args) (uint64, error) {
	s := task.TimerSpec{Clock: i32(a[0]), Sig: unix.SIGALRM, UseID: true}
	if a[1] != 0 {
		var b [64]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[1]); err != nil {
			return 0, err
		}
		s.Value, s.Sig, s.Notify, s.TID = le.Uint64(b[:]), unix.Signal(le.Uint32(b[8:])), int32(le.Uint32(b[12:])), int32(le.Uint32(b[16:]))
		s.UseID = false
	}
	switch s.Clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI:
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		if !t.Cred().Capable(unix.CAP_WAKE_ALARM) {
			return 0, unix.EPERM
		}
	case unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE:
		return 0, unix.EOPNOTSUPP
	default:
		f, err := cpuClock(t, s.Clock)
		if err != nil {
			return 0, err
		}
		s.CPUNow = f
	}
	id, err := t.TimerCreate(s)
	if err != nil {
		return 0, err
	}
	if err := writeU32(t, a[2], uint32(id)); err != nil {
		t.Group.TimerDelete(id)
		return 0, err
	}
	return 0, nil
}

func encodeItimerspec(interval, value int64) []byte {
	return appendTimespec(appendTimespec(make([]byte, 0, 32), interval), value)
}

func sysTimerSettime(t *task.Task, a *platform.Args) (uint64, error) {
	var b [32]byte
	if a[2] == 0 {
		return 0, unix.EINVAL
	}
	if err := uio.ReadFull(t.Mem(), b[:], a[2]); err != nil {
		return 0, err
	}
	interval, err := decodeTimespec(b[:])
	if err != nil {
		return 0, err
	}
	value, err := decodeTimespec(b[16:])
	if err != nil {
		return 0, err
	}
	ov, oi, err := t.Group.TimerSet(i32(a[0]), a[1]&unix.TIMER_ABSTIME != 0, value, interval)
	if err != nil || a[3] == 0 {
		return 0, err
	}
	return 0, uio.WriteFull(t.Mem(), encodeItimerspec(oi, ov), a[3])
}

func sysTimerGettime(t *task.Task, a *platform.Args) (uint64, error) {
	v, i, err := t.Group.TimerGet(i32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, uio.WriteFull(t.Mem(), encodeItimerspec(i, v), a[1])
}

func sysTimerGetoverrun(t *task.Task, a *platform.Args) (uint64, error) {
	n, err := t.Group.TimerOverrun(i32(a[0]))
	return uint64(n), err
}

func sysTimerDelete(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.Group.TimerDelete(i32(a[0]))
}
