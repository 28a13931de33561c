package task

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// sigState is the signal state of one thread. Guarded by ThreadGroup.sigMu unless said otherwise.
type sigState struct {
	blocked        arch.SigSet
	saved          arch.SigSet // the mask to restore when the current call ends (sigsuspend, ppoll)
	restoreMask    bool
	pending        sigQueue
	altstack       arch.SigStack // owned by the task
	stopWanted     bool          // the thread is to join the group stop
	isStopped      bool
	freezeWanted   bool        // the thread is to stop for its control group
	isFrozen       bool        // it has, and is held
	traceInterrupt bool        // PTRACE_INTERRUPT: the stop is the tracer's
	waitSet        arch.SigSet // what rt_sigtimedwait waits for
	sigQ           wait.Queue  // notified when a signal for the thread arrives (signalfd, sigtimedwait)
}

// groupSignal is the signal state of a process.
type groupSignal struct {
	sigMu  sync.Mutex
	acts   atomic.Pointer[Actions] // another only at execve
	shared sigQueue

	// Job control.
	groupStop   bool        // a group stop is in force
	groupStopSg unix.Signal // its signal
	stopCount   int         // threads that have yet to stop
	stopReport  bool        // wait has yet to be told of the stop
	contReport  bool        // wait has yet to be told of a SIGCONT

	exiting  bool // the group exits
	exitCode int32
	dump     *dump // a core dump that goes on
	execing  *Task // the thread that executes a program and waits for the others to end

	queued int // signals in queues, for RLIMIT_SIGPENDING
}

// Actions are the signal actions, shared by threads and CLONE_SIGHAND.
type Actions struct {
	mu sync.Mutex
	a  [arch.NSIG + 1]arch.Sigaction
}

func (g *ThreadGroup) actions() *Actions { return g.acts.Load() }

func (a *Actions) get(sig unix.Signal) arch.Sigaction {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.a[sig]
}

func (a *Actions) copy() *Actions {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &Actions{a: a.a}
}

// sigQueue holds pending signals: a set, and what is known of each. Standard signals are in it at most once.
type sigQueue struct {
	set  arch.SigSet
	list []arch.Siginfo
}

func (q *sigQueue) add(s arch.Siginfo) {
	q.set |= arch.SigBit(unix.Signal(s.Signo))
	q.list = append(q.list, s)
}

// take removes the first instance of sig.
func (q *sigQueue) take(sig unix.Signal) (s arch.Siginfo, listed bool) {
	s = arch.InfoKill(sig, 0, 0)
	more := false
	for i := 0; i < len(q.list); i++ {
		if q.list[i].Signo != int32(sig) {
			continue
		}
		s, listed = q.list[i], true
		q.list = append(q.list[:i], q.list[i+1:]...)
		for _, r := range q.list[i:] {
			more = more || r.Signo == int32(sig)
		}
		break
	}
	if !more {
		q.set &^= arch.SigBit(sig)
	}
	if len(q.list) == 0 {
		q.list = nil
	}
	return s, listed
}

// flush removes all signals of a set.
func (q *sigQueue) flush(set arch.SigSet) (n int) {
	if q.set&set == 0 {
		return 0
	}
	q.set &^= set
	kept := q.list[:0]
	for _, s := range q.list {
		if !set.Has(unix.Signal(s.Signo)) {
			kept = append(kept, s)
		}
	}
	n = len(q.list) - len(kept)
	q.list = kept
	return n
}

// Sets of signals by default action (signal(7)).
const (
	sigStop   = arch.SigSet(1)<<(unix.SIGSTOP-1) | 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)
	sigIgnore = arch.SigSet(1)<<(unix.SIGCONT-1) | 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGWINCH-1) | 1<<(unix.SIGURG-1)
	sigSync   = arch.SigSet(1)<<(unix.SIGSEGV-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGILL-1) | 1<<(unix.SIGTRAP-1) | 1<<(unix.SIGFPE-1) | 1<<(unix.SIGSYS-1)
)

// ignoredLocked reports whether sig would do nothing if it were delivered.
func (g *ThreadGroup) ignoredLocked(sig unix.Signal) bool {
	h := g.actions().get(sig).Handler
	if h == arch.SIG_IGN {
		return true
	}
	if h != arch.SIG_DFL {
		return false
	}
	if sigIgnore.Has(sig) {
		return true
	}
	// The kernel does not let init kill itself by default actions.
	return g.unkillable() && sig != unix.SIGKILL && sig != unix.SIGSTOP
}

// unkillable reports whether g is init, whom only handled signals reach.
func (g *ThreadGroup) unkillable() bool { return g.pid == 1 }

// send queues a signal for the group (t nil) or for one thread of it. EAGAIN when a queue limit forbids it.
func (g *ThreadGroup) send(t *Task, info arch.Siginfo, force bool) error {
	sig := unix.Signal(info.Signo)
	g.sigMu.Lock()
	if g.exiting && sig != unix.SIGKILL || g.live.Load() == 0 {
		g.sigMu.Unlock()
		return nil
	}
	threads := g.threadsSnapshot()
	var wakeParent bool
	switch {
	case sig == unix.SIGCONT:
		for _, x := range threads {
			g.queued -= x.pending.flush(sigStop)
		}
		g.queued -= g.shared.flush(sigStop)
		wakeParent = g.continueLocked(threads)
	case sigStop.Has(sig):
		for _, x := range threads {
			g.queued -= x.pending.flush(arch.SigBit(unix.SIGCONT))
		}
		g.queued -= g.shared.flush(arch.SigBit(unix.SIGCONT))
	}
	err := g.queueLocked(t, info, threads, force)
	g.sigMu.Unlock()
	if wakeParent {
		g.notifyParentOfStop(arch.CLD_CONTINUED, unix.SIGCONT)
	}
	return err
}

// queueLocked puts info into a queue and wakes a thread for it.
func (g *ThreadGroup) queueLocked(t *Task, info arch.Siginfo, threads []*Task, force bool) error {
	sig := unix.Signal(info.Signo)
	if g.unkillable() && !force && (sig == unix.SIGKILL || sig == unix.SIGSTOP) {
		return nil
	}
	if g.ignoredLocked(sig) && !force {
		// A blocked or awaited signal stays pending even if it is ignored now: the action may change. A tracer sees all.
		wanted := false
		for _, x := range threads {
			if (t == nil || x == t) && (x.blocked.Has(sig) || x.waitSet.Has(sig) || x.saved.Has(sig) && x.restoreMask || x.trace.traced.Load()) {
				wanted = true
			}
		}
		if !wanted {
			return nil
		}
	}
	q := &g.shared
	if t != nil {
		q = &t.pending
	}
	if sig < arch.SIGRTMIN && q.set.Has(sig) {
		return nil
	}
	if sig >= arch.SIGRTMIN && uint64(g.queued) >= g.maxQueued(info.Code == arch.SI_TIMER) {
		// As Linux: what kill(2) and the kernel send is not lost, but nothing is known of it.
		if info.Code != arch.SI_USER && info.Code != arch.SI_KERNEL {
			return unix.EAGAIN
		}
		q.set |= arch.SigBit(sig)
	} else {
		q.add(info)
		g.queued++
	}
	if sig == unix.SIGKILL {
		g.exitLocked(int32(sig), threads)
		return nil
	}
	for _, x := range threads {
		if (t == nil || x == t) && !x.sigQ.Empty() {
			x.sigQ.Notify(wait.In | wait.RdNorm)
		}
	}
	if t != nil {
		t.wantLocked(sig)
		return nil
	}
	// Any thread that does not block it will do; prefer one that is waiting for it, then the leader.
	for _, x := range threads {
		if x.waitSet.Has(sig) {
			x.Wake()
			return nil
		}
	}
	for _, x := range threads {
		if !x.blocked.Has(sig) && x.where.Load() != gone && !x.ending.Load() {
			x.work.Or(workSignal)
			x.kick()
			return nil
		}
	}
	return nil
}

// queuedMax bounds RLIMIT_SIGPENDING.
const queuedMax = 1 << 18

// maxQueued is how many signals may be queued. Timers, which queue one signal each, are counted apart on Linux.
func (g *ThreadGroup) maxQueued(timer bool) uint64 {
	n := min(g.rlimitSigpending(), queuedMax)
	if timer {
		n *= 2
	}
	return n
}

// wantLocked wakes t for a signal in its own queue.
func (t *Task) wantLocked(sig unix.Signal) {
	if t.waitSet.Has(sig) {
		t.Wake()
		return
	}
	if !t.blocked.Has(sig) {
		t.work.Or(workSignal)
		t.kick()
	}
}

// recalcLocked sets or clears workSignal from the queues and masks.
func (t *Task) recalcLocked() {
	g := t.Group
	if (t.pending.set|g.shared.set)&^t.blocked != 0 || t.stopWanted || t.freezeWanted && !t.isFrozen {
		t.work.Or(workSignal)
	} else {
		t.work.And(^uint32(workSignal))
	}
}

// sendKernelSignal sends from the kernel, to the thread or the process.
func (t *Task) sendKernelSignal(sig unix.Signal) { t.Group.send(t, arch.InfoKernel(sig), true) }

// SendKernelSignal sends from the kernel to the process.
func (g *ThreadGroup) SendKernelSignal(sig unix.Signal) { g.sendKernelSignal(sig) }

func (g *ThreadGroup) sendKernelSignal(sig unix.Signal) { g.send(nil, arch.InfoKernel(sig), false) }

// SendSignal sends a signal to the process.
func (g *ThreadGroup) SendSignal(info arch.Siginfo) error { return g.send(nil, info, false) }

// SendSignal sends a signal to the thread.
func (t *Task) SendSignal(info arch.Siginfo) error { return t.Group.send(t, info, false) }

// force sends a signal for a fault of the thread itself: it cannot be blocked or ignored (then it kills).
func (t *Task) force(info arch.Siginfo) {
	sig := unix.Signal(info.Signo)
	g := t.Group
	g.sigMu.Lock()
	g.actions().mu.Lock()
	a := &g.actions().a[sig]
	if t.blocked.Has(sig) || a.Handler == arch.SIG_IGN || g.unkillable() && a.Handler == arch.SIG_DFL {
		a.Handler = arch.SIG_DFL
		t.blocked &^= arch.SigBit(sig)
		t.forced = true
	}
	g.actions().mu.Unlock()
	if !t.pending.set.Has(sig) {
		t.pending.add(info)
		g.queued++
	}
	t.work.Or(workSignal)
	g.sigMu.Unlock()
}

// forceDefault is force with the default action, whatever the program wants.
func (t *Task) forceDefault(info arch.Siginfo) {
	g := t.Group
	g.sigMu.Lock()
	g.actions().mu.Lock()
	g.actions().a[info.Signo].Handler = arch.SIG_DFL
	g.actions().mu.Unlock()
	t.blocked &^= arch.SigBit(unix.Signal(info.Signo))
	t.forced = true
	g.sigMu.Unlock()
	t.force(info)
}

// mayKill checks kill(2)'s permission rule.
func mayKill(c *cred.Cred, sid int32, target *Task, tsid int32, sig unix.Signal) bool {
	tc := target.Cred()
	return c.EUID == tc.SUID || c.EUID == tc.UID || c.UID == tc.SUID || c.UID == tc.UID ||
		c.Capable(unix.CAP_KILL) || sig == unix.SIGCONT && sid == tsid
}

// MayKill checks whether the caller may signal target; EPERM.
func (t *Task) MayKill(target *ThreadGroup, sig unix.Signal) error {
	if target == t.Group {
		return nil
	}
	l := target.Leader()
	if l == nil || mayKill(t.Cred(), t.SessionID(), l, target.SessionID(), sig) {
		return nil
	}
	return unix.EPERM
}

// Kill implements kill(2). sig 0 only checks.
func (t *Task) Kill(pid int32, info arch.Siginfo) error {
	sig := unix.Signal(info.Signo)
	if sig < 0 || sig > arch.NSIG {
		return unix.EINVAL
	}
	one := func(g *ThreadGroup) error {
		if err := t.MayKill(g, sig); err != nil {
			return err
		}
		if sig == 0 {
			return nil
		}
		return g.SendSignal(info)
	}
	var targets []*ThreadGroup
	switch {
	case pid > 0:
		x := t.K.FindTask(pid)
		if x == nil {
			return unix.ESRCH
		}
		return one(x.Group)
	case pid == -1:
		for _, g := range t.K.Groups() {
			if g.pid != 1 && g != t.Group && !g.Dead() {
				targets = append(targets, g)
			}
		}
	case pid == 0:
		targets = t.K.pgrpMembers(t.PgrpID())
	default:
		if pid == -1<<31 {
			return unix.ESRCH
		}
		targets = t.K.pgrpMembers(-pid)
	}
	err := error(unix.ESRCH)
	ok := false
	for _, g := range targets {
		e := one(g)
		if e == nil {
			ok = true
		} else if pid != -1 || e != unix.EPERM {
			err = e
		}
	}
	if ok {
		return nil
	}
	return err
}

// Tgkill sends to one thread; tgid -1 means any process (tkill(2)).
func (t *Task) Tgkill(tgid, tid int32, info arch.Siginfo) error {
	sig := unix.Signal(info.Signo)
	if tid <= 0 || tgid == 0 || tgid < -1 || sig < 0 || sig > arch.NSIG {
		return unix.EINVAL
	}
	x := t.K.FindTask(tid)
	if x == nil || tgid != -1 && x.PID() != tgid {
		return unix.ESRCH
	}
	if err := t.MayKill(x.Group, sig); err != nil {
		return err
	}
	if sig == 0 {
		return nil
	}
	return x.SendSignal(info)
}

// Sigmask returns the thread's blocked signals.
func (t *Task) Sigmask() arch.SigSet {
	t.Group.sigMu.Lock()
	defer t.Group.sigMu.Unlock()
	return t.blocked
}

// SetSigmask replaces it.
func (t *Task) SetSigmask(m arch.SigSet) {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	t.setBlockedLocked(m)
}

// setBlockedLocked changes the mask; a shared signal that this thread does not take any more goes to another.
func (t *Task) setBlockedLocked(m arch.SigSet) {
	g := t.Group
	m &^= arch.Unblockable
	lost := g.shared.set &^ t.blocked & m
	t.blocked = m
	t.recalcLocked()
	if lost != 0 {
		for _, x := range g.threadsSnapshot() {
			if x != t && lost&^x.blocked != 0 {
				x.work.Or(workSignal)
				x.kick()
				lost &= x.blocked
			}
		}
	}
}

// SetTempSigmask replaces the mask until the running call ends or a handler has been set up with the old one saved
// (sigsuspend, ppoll, pselect6, epoll_pwait).
func (t *Task) SetTempSigmask(m arch.SigSet) {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	if !t.restoreMask {
		t.saved, t.restoreMask = t.blocked, true
	}
	t.setBlockedLocked(m)
}

// RestoreSigmask ends SetTempSigmask when the call was not interrupted by a signal. When it was, the mask is restored after
// the signal has been handled.
func (t *Task) RestoreSigmask(interrupted bool) {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	switch {
	case !t.restoreMask:
	case interrupted:
		t.work.Or(workSignal) // whatever interrupted the call, the mask comes back in userWork
	default:
		t.restoreMask = false
		t.setBlockedLocked(t.saved)
	}
}

// WithSigmask runs f with a temporary mask; its restart error decides when the mask comes back.
func (t *Task) WithSigmask(m arch.SigSet, f func() (uint64, error)) (uint64, error) {
	t.SetTempSigmask(m)
	v, err := f()
	e, _ := err.(unix.Errno)
	t.RestoreSigmask(e == unix.EINTR || e >= 512 && e <= 516)
	return v, err
}

// BlockedPending is what sigpending(2) returns.
func (t *Task) BlockedPending() arch.SigSet {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	return (t.pending.set | g.shared.set) & t.blocked
}

// SigMasks is the five sets of /proc/<pid>/status.
func (t *Task) SigMasks() (pending, shared, blocked, ignored, caught uint64) {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	g.actions().mu.Lock()
	defer g.actions().mu.Unlock()
	for s := 1; s <= arch.NSIG; s++ {
		switch g.actions().a[s].Handler {
		case arch.SIG_DFL:
		case arch.SIG_IGN:
			ignored |= 1 << (s - 1)
		default:
			caught |= 1 << (s - 1)
		}
	}
	return uint64(t.pending.set), uint64(g.shared.set), uint64(t.blocked), ignored, caught
}

// Sigaction implements rt_sigaction(2): new may be nil.
func (t *Task) Sigaction(sig unix.Signal, new *arch.Sigaction) (arch.Sigaction, error) {
	if sig < 1 || sig > arch.NSIG || new != nil && arch.Unblockable.Has(sig) {
		return arch.Sigaction{}, unix.EINVAL
	}
	g := t.Group
	if new == nil {
		return g.actions().get(sig), nil
	}
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	g.actions().mu.Lock()
	old := g.actions().a[sig]
	n := *new
	n.Mask &^= arch.Unblockable
	g.actions().a[sig] = n
	g.actions().mu.Unlock()
	if n.Handler == arch.SIG_IGN || n.Handler == arch.SIG_DFL && sigIgnore.Has(sig) {
		g.queued -= g.shared.flush(arch.SigBit(sig))
		for _, x := range g.threadsSnapshot() {
			g.queued -= x.pending.flush(arch.SigBit(sig))
		}
	}
	return old, nil
}

// SignalBlockedOrIgnored is what the terminal asks before it sends SIGTTIN or SIGTTOU.
func (t *Task) SignalBlockedOrIgnored(sig unix.Signal) bool {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	return t.blocked.Has(sig) || g.actions().get(sig).Handler == arch.SIG_IGN
}

// Altstack is the thread's alternate signal stack; only for the task itself.
func (t *Task) Altstack() *arch.SigStack { return &t.altstack }

// dequeueLocked takes the next signal in mask: faults of the thread itself first, then lowest number, own queue first.
func (t *Task) dequeueLocked(mask arch.SigSet) (arch.Siginfo, bool) {
	g := t.Group
	own, all := t.pending.set&mask, (t.pending.set|g.shared.set)&mask
	if all == 0 {
		return arch.Siginfo{}, false
	}
	sig := all.First()
	if s := own & sigSync; s != 0 {
		sig = s.First()
	}
	if all.Has(unix.SIGKILL) {
		sig = unix.SIGKILL
	}
	q := &g.shared
	if own.Has(sig) {
		q = &t.pending
	}
	s, listed := q.take(sig)
	if listed {
		g.queued--
	}
	return s, true
}

// DequeueSignal takes a pending signal in mask, for signalfd(2). Blocked or not does not matter.
func (t *Task) DequeueSignal(mask arch.SigSet) (arch.Siginfo, bool) {
	g := t.Group
	g.sigMu.Lock()
	s, ok := t.dequeueLocked(mask &^ arch.Unblockable)
	if ok {
		t.recalcLocked()
	}
	g.sigMu.Unlock()
	if ok {
		t.timerTaken(&s)
	}
	return s, ok
}

// PendingSignals is the set of signals pending for the thread or its process, blocked or not, for signalfd(2).
func (t *Task) PendingSignals() arch.SigSet {
	g := t.Group
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	return t.pending.set | g.shared.set
}

// SignalQueue is notified when a signal arrives for the thread or its process.
func (t *Task) SignalQueue() *wait.Queue { return &t.sigQ }

// Sigtimedwait implements rt_sigtimedwait(2).
func (t *Task) Sigtimedwait(set arch.SigSet, deadline int64) (arch.Siginfo, error) {
	g := t.Group
	set &^= arch.Unblockable
	for {
		g.sigMu.Lock()
		s, ok := t.dequeueLocked(set)
		if ok {
			t.waitSet = 0
			t.recalcLocked()
			g.sigMu.Unlock()
			t.timerTaken(&s)
			return s, nil
		}
		t.waitSet = set
		g.sigMu.Unlock()
		if err := t.Sleep(deadline); err != nil {
			g.sigMu.Lock()
			t.waitSet = 0
			s, ok := t.dequeueLocked(set)
			t.recalcLocked()
			g.sigMu.Unlock()
			switch {
			case ok:
				t.timerTaken(&s)
				return s, nil
			case err == unix.ETIMEDOUT:
				return s, unix.EAGAIN
			}
			return s, unix.EINTR
		}
	}
}
