package task

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// groupTree is a process's place among the others. Guarded by Kernel.mu unless said otherwise.
type groupTree struct {
	parent   *ThreadGroup
	children []*ThreadGroup
	pgrp     *ProcessGroup
	tty      *tty.TTY       // the controlling terminal
	tracees  map[*Task]bool // threads that this process traces
	leader   *Task
	execed   bool // has called execve since its fork (setpgid)

	exitSignal unix.Signal // for the parent at the end; 0 for none
	dead       bool        // all threads have ended: a zombie, or reaped
	reaped     bool
	seat       *cgroup.Seat // in a control group; immutable
	subreaper  bool         // PR_SET_CHILD_SUBREAPER

	childQ wait.Queue // notified when a child changes state
	deadQ  wait.Queue // notified when this process has ended (pidfd)

	threads atomic.Pointer[[]*Task] // copy on write, changed under Kernel.mu
	live    atomic.Int32            // threads that have not ended
	active  atomic.Int32            // threads that have not begun to end (prepareExit)
}

// groupRes are the resources of a process.
type groupRes struct {
	rlimMu sync.Mutex
	rlim   [16]unix.Rlimit

	startTime int64 // Uptime at the start

	usageMu       sync.Mutex
	self          usage // of threads that have ended
	childrenUsage usage // of children that were waited for

	timers groupTimers

	oomScoreAdj atomic.Int32
	coreFilter  atomic.Uint32
	undumpable  atomic.Int32
}

// PID is the process id.
func (g *ThreadGroup) PID() int32 { return g.pid }

// PPID is the parent's id, 0 for init and for what has ended.
func (g *ThreadGroup) PPID() int32 {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	if g.parent == nil {
		return 0
	}
	return g.parent.pid
}

func (g *ThreadGroup) parentGroup() *ThreadGroup {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.parent
}

// Leader is the thread with the process's id.
func (g *ThreadGroup) Leader() *Task {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.leader
}

// Threads are the threads that have not been reaped, the leader first.
func (g *ThreadGroup) Threads() []*Task { return g.threadsSnapshot() }

func (g *ThreadGroup) threadsSnapshot() []*Task {
	if p := g.threads.Load(); p != nil {
		return *p
	}
	return nil
}

// Live is the number of threads that have not ended.
func (g *ThreadGroup) Live() int { return int(g.live.Load()) }

// liveThread is a thread of the process that has not ended, nil if there is none. The leader may have while others go on.
func (g *ThreadGroup) liveThread() *Task {
	for _, t := range g.threadsSnapshot() {
		if t.where.Load() != gone {
			return t
		}
	}
	return nil
}

// Dead reports whether the process has ended.
func (g *ThreadGroup) Dead() bool {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.dead
}

// addThreadLocked and removeThreadLocked change the list of threads.
func (g *ThreadGroup) addThreadLocked(t *Task) {
	old := g.threadsSnapshot()
	l := make([]*Task, 0, len(old)+1)
	l = append(append(l, old...), t)
	g.threads.Store(&l)
	g.live.Add(1)
	g.active.Add(1)
}

func (g *ThreadGroup) removeThreadLocked(t *Task) {
	var l []*Task
	for _, x := range g.threadsSnapshot() {
		if x != t {
			l = append(l, x)
		}
	}
	g.threads.Store(&l)
}

// State is the letter of /proc/<pid>/stat.
func (t *Task) State() byte {
	if t.where.Load() == gone || t.prepared.Load() {
		return 'Z'
	}
	g := t.Group
	g.sigMu.Lock()
	stopped := t.isStopped
	g.sigMu.Unlock()
	switch {
	case t.trace.stopped.Load():
		return 't'
	case stopped:
		return 'T'
	case t.sleeping.Load() || t.vforkWait.Load():
		return 'S'
	case t.where.Load() == inUser && t.Thread().Asleep(): // futex(2), for one, is the host's
		return 'S'
	}
	return 'R'
}

// StartTime is when the task was made, in nanoseconds since boot.
func (t *Task) StartTime() int64 { return t.startTime }

// LastSyscall is the call that the task is in, or its last one; ok is false while it runs guest code.
func (t *Task) LastSyscall() (nr int32, args [6]uint64, ok bool) {
	return t.lastNr.Load(), args, t.where.Load() == inKernel
}

// Subreaper is PR_GET_CHILD_SUBREAPER; SetSubreaper PR_SET_CHILD_SUBREAPER.
func (g *ThreadGroup) Subreaper() bool {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.subreaper
}

// SetSubreaper makes the process adopt orphaned descendants.
func (g *ThreadGroup) SetSubreaper(on bool) {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	g.subreaper = on
}

// TTYNr is the device number of the controlling terminal, 0 if there is none; ForegroundPgrp its foreground group, -1.
func (g *ThreadGroup) TTYNr() uint64 {
	if y := g.ControllingTTY(); y != nil {
		return y.Dev()
	}
	return 0
}

// ForegroundPgrp is the terminal's foreground process group, -1 if there is no terminal.
func (g *ThreadGroup) ForegroundPgrp() int32 {
	if y := g.ControllingTTY(); y != nil {
		return y.ForegroundPgrp()
	}
	return -1
}

// OOMScoreAdj is /proc/<pid>/oom_score_adj.
func (g *ThreadGroup) OOMScoreAdj() int32       { return g.oomScoreAdj.Load() }
func (g *ThreadGroup) SetOOMScoreAdj(v int32)   { g.oomScoreAdj.Store(v) }
func (g *ThreadGroup) rlimitSigpending() uint64 { return g.Rlimit(unix.RLIMIT_SIGPENDING).Cur }

// SetRlimit implements the setting half of prlimit(2); raise says that the hard limit may be raised.
func (g *ThreadGroup) SetRlimit(res int, new unix.Rlimit, raise bool) error {
	if res < 0 || res >= len(g.rlim) || new.Cur > new.Max {
		return unix.EINVAL
	}
	g.rlimMu.Lock()
	defer g.rlimMu.Unlock()
	if new.Max > g.rlim[res].Max && !raise {
		return unix.EPERM
	}
	if res == unix.RLIMIT_NOFILE && new.Max > 1<<20 {
		return unix.EPERM
	}
	g.rlim[res] = new
	switch res {
	case unix.RLIMIT_AS, unix.RLIMIT_DATA, unix.RLIMIT_STACK:
		// The host enforces these, since it carries out memory calls.
		if t := g.liveThread(); t != nil {
			t.Thread().SetRlimit(res, new.Cur)
		}
	case unix.RLIMIT_CPU:
		g.timers.cpuLimitChanged(g)
	}
	return nil
}

// DefaultThreadsMax is threads-max of a Linux with so much memory: kernel stacks of 16 KiB take at most an eighth of it.
func DefaultThreadsMax(memory uint64) int32 { return int32(min(max(memory/8/(16<<10), 20), MaxPID)) }

// defaultRlimits are those of a freshly booted Linux (INIT_RLIMITS).
func defaultRlimits(memory uint64) (l [16]unix.Rlimit) {
	const inf = ^uint64(0)
	for i := range l {
		l[i] = unix.Rlimit{Cur: inf, Max: inf}
	}
	l[unix.RLIMIT_STACK] = unix.Rlimit{Cur: 8 << 20, Max: inf}
	l[unix.RLIMIT_CORE] = unix.Rlimit{Cur: 0, Max: inf}
	l[unix.RLIMIT_NOFILE] = unix.Rlimit{Cur: 1024, Max: 4096 * 256}
	l[unix.RLIMIT_MEMLOCK] = unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	threads := uint64(DefaultThreadsMax(memory))
	l[unix.RLIMIT_NPROC] = unix.Rlimit{Cur: threads / 2, Max: threads / 2}
	l[unix.RLIMIT_SIGPENDING] = l[unix.RLIMIT_NPROC]
	l[unix.RLIMIT_MSGQUEUE] = unix.Rlimit{Cur: 819200, Max: 819200}
	l[unix.RLIMIT_NICE] = unix.Rlimit{}
	l[unix.RLIMIT_RTPRIO] = unix.Rlimit{}
	return l
}

// usage is CPU time and counters as getrusage(2) reports them.
type usage struct {
	user, sys      int64 // nanoseconds
	minflt, majflt int64
	maxrss         int64 // KiB
	nvcsw, nivcsw  int64
}

func (u *usage) add(r *unix.Rusage) {
	u.user += r.Utime.Sec*1e9 + r.Utime.Usec*1e3
	u.sys += r.Stime.Sec*1e9 + r.Stime.Usec*1e3
	u.minflt += r.Minflt
	u.majflt += r.Majflt
	u.maxrss = max(u.maxrss, r.Maxrss)
	u.nvcsw += r.Nvcsw
	u.nivcsw += r.Nivcsw
}

func (u *usage) merge(o *usage) {
	u.user += o.user
	u.sys += o.sys
	u.minflt += o.minflt
	u.majflt += o.majflt
	u.maxrss = max(u.maxrss, o.maxrss)
	u.nvcsw += o.nvcsw
	u.nivcsw += o.nivcsw
}

// rusage makes what getrusage(2) returns.
func (u *usage) rusage() (r unix.Rusage) {
	r.Utime = unix.NsecToTimeval(u.user)
	r.Stime = unix.NsecToTimeval(u.sys)
	r.Minflt, r.Majflt, r.Maxrss, r.Nvcsw, r.Nivcsw = u.minflt, u.majflt, u.maxrss, u.nvcsw, u.nivcsw
	return r
}

// used is what the thread has used, earlier host threads included.
func (t *Task) used() usage {
	var live platform.Used
	if t.where.Load() != gone {
		live = t.Thread().Used()
	}
	t.Group.usageMu.Lock()
	defer t.Group.usageMu.Unlock()
	u := t.usage
	u.user, u.sys, u.minflt, u.majflt = u.user+live.User, u.sys+live.Sys, u.minflt+live.Minor, u.majflt+live.Major
	u.nvcsw += live.Switches // the host tells voluntary ones apart only at the end
	return u
}

// used is what the process has used, ended threads included.
func (g *ThreadGroup) used() (u usage) {
	for _, t := range g.threadsSnapshot() {
		if t.where.Load() != gone {
			x := t.used()
			u.merge(&x)
		}
	}
	g.usageMu.Lock()
	defer g.usageMu.Unlock()
	u.merge(&g.self)
	return u
}

// CPUTimes is the thread's user and system time in nanoseconds.
func (t *Task) CPUTimes() (user, sys int64) {
	u := t.used()
	return u.user, u.sys
}

// CPUTimes is the process's user and system time in nanoseconds, ended threads included.
func (g *ThreadGroup) CPUTimes() (user, sys int64) {
	u := g.used()
	return u.user, u.sys
}

// cpuTicks is CPUTimes in clock ticks (1/100 s).
func (g *ThreadGroup) cpuTicks() (int64, int64) {
	u, s := g.CPUTimes()
	return u / 1e7, s / 1e7
}

// Rusage is getrusage(2) of RUSAGE_SELF and RUSAGE_CHILDREN.
func (g *ThreadGroup) Rusage() (self, children unix.Rusage) {
	x := g.used()
	if t := g.liveThread(); t != nil {
		if us, err := t.Thread().AddressSpace().Usage(); err == nil {
			x.maxrss = max(x.maxrss, int64(us.PeakRSS/1024))
		}
	}
	g.usageMu.Lock()
	defer g.usageMu.Unlock()
	return x.rusage(), g.childrenUsage.rusage()
}

// Rusage is getrusage(2) for the thread, whose memory is the process's.
func (t *Task) Rusage() unix.Rusage {
	u := t.used()
	if t.where.Load() != gone {
		if us, err := t.Thread().AddressSpace().Usage(); err == nil {
			u.maxrss = max(u.maxrss, int64(us.PeakRSS/1024))
		}
	}
	return u.rusage()
}

// ChildrenCPUTimes is the time of children that were waited for, in nanoseconds.
func (g *ThreadGroup) ChildrenCPUTimes() (user, sys int64) {
	g.usageMu.Lock()
	defer g.usageMu.Unlock()
	return g.childrenUsage.user, g.childrenUsage.sys
}

// StartTime is when the process began, in nanoseconds since boot.
func (g *ThreadGroup) StartTime() int64 { return g.startTime }

func uptime() int64 { return int64(ktime.Uptime()) }
