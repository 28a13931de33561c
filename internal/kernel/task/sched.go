package task

import "golang.org/x/sys/unix"

// SchedParam is a thread's scheduling policy. The host schedules guest threads; the policy is kept so that programs read
// back what they set.
type SchedParam struct {
	Policy   int32
	Priority int32
	Reset    bool // SCHED_RESET_ON_FORK
}

// Sched is the policy; SetSched replaces it.
func (t *Task) Sched() SchedParam     { return *t.sched.Load() }
func (t *Task) SetSched(p SchedParam) { t.sched.Store(&p) }

// setSchedOf gives a child the policy and nice value of its parent, or less urgent ones if that asked for it (sched(7), "The
// reset-on-fork flag").
func (t *Task) setSchedOf(parent *Task) {
	p, nice := parent.sched.Load(), parent.nice.Load()
	if p.Reset {
		switch p.Policy {
		case unix.SCHED_FIFO, unix.SCHED_RR, unix.SCHED_DEADLINE:
			p, nice = &SchedParam{}, 0
		default:
			p, nice = &SchedParam{Policy: p.Policy}, max(nice, 0)
		}
	}
	t.sched.Store(p)
	t.nice.Store(nice)
	t.ioprio.Store(parent.ioprio.Load())
}

// Nice is the nice value, -20 to 19.
func (t *Task) Nice() int     { return int(t.nice.Load()) }
func (t *Task) SetNice(n int) { t.nice.Store(int32(min(max(n, -20), 19))) }

// Affinity is the set of CPUs that the thread may run on; SetAffinity changes it.
func (t *Task) Affinity() uint64 {
	return t.affinity.Load() & (1<<uint(t.K.Platform.NumCPU()) - 1)
}

// SetAffinity limits the thread to a set of CPUs, which must contain one that exists.
func (t *Task) SetAffinity(mask uint64) error {
	t.affinity.Store(mask)
	return t.Thread().SetAffinity(t.Affinity())
}

// Accessors of small per-thread values.

// NoNewPrivs is PR_GET_NO_NEW_PRIVS; SetNoNewPrivs sets it for good.
func (t *Task) NoNewPrivs() bool { return t.noNewPrivs.Load() }
func (t *Task) SetNoNewPrivs()   { t.noNewPrivs.Store(true) }

// defaultSlack is the timer slack that setting 0 means.
const defaultSlack = 50000

// TimerSlack is PR_GET_TIMERSLACK in nanoseconds. Setting 0 means the default.
func (t *Task) TimerSlack() uint64 { return t.slack.Load() }
func (t *Task) SetTimerSlack(n uint64) {
	if n == 0 {
		n = defaultSlack
	}
	t.slack.Store(n)
}

// PdeathSignal is PR_GET_PDEATHSIG.
func (t *Task) PdeathSignal() int32     { return t.pdeathSig.Load() }
func (t *Task) SetPdeathSignal(s int32) { t.pdeathSig.Store(s) }

// Personality is personality(2).
func (t *Task) Personality() uint32     { return t.personal.Load() }
func (t *Task) SetPersonality(p uint32) { t.personal.Store(p) }

// RobustList is set_robust_list(2)'s head; SetClearTID records set_tid_address(2)'s word.
func (t *Task) RobustList() uint64     { return t.robustList.Load() }
func (t *Task) SetRobustList(a uint64) { t.robustList.Store(a) }
func (t *Task) SetClearTID(a uint64)   { t.clearTID.Store(a) }

// SetRestart keeps how restart_syscall(2) goes on with the running call; Restart runs it.
func (t *Task) SetRestart(f func(t *Task) (uint64, error)) { t.restartFn = f }

// Resumes reports whether call nr is the execution again of one that Restart goes on with.
func (t *Task) Resumes(nr int32) bool {
	if t.resume == 0 {
		return false
	}
	same := t.resume == nr+1
	t.resume = 0
	return same && t.restartFn != nil
}

// Restart runs what SetRestart kept; EINTR if there is nothing.
func (t *Task) Restart() (uint64, error) {
	f := t.restartFn
	t.restartFn = nil
	if f == nil {
		return 0, unix.EINTR
	}
	return f(t)
}

// IOPrio is the priority of its I/O as in ioprio_set(2), 0 if none was set.
func (t *Task) IOPrio() int32     { return t.ioprio.Load() }
func (t *Task) SetIOPrio(p int32) { t.ioprio.Store(p) }
