package task

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// block sets the thread's signal mask.
func (g *guest) block(s ...unix.Signal) {
	var m arch.SigSet
	for _, x := range s {
		m |= arch.SigBit(x)
	}
	g.call(func(t *Task) (uint64, error) { t.SetSigmask(m); return 0, nil })
}

// take takes one pending signal, as rt_sigtimedwait(2) without waiting.
func (g *guest) take(set arch.SigSet) (i arch.Siginfo, err error) {
	g.call(func(t *Task) (uint64, error) { i, err = t.Sigtimedwait(set, ktime.Monotonic()); return 0, err })
	return i, err
}

const rt = arch.SIGRTMIN

func TestSignalQueue(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	c.block(unix.SIGUSR1, rt, rt+1)
	set := arch.SigBit(unix.SIGUSR1) | arch.SigBit(rt) | arch.SigBit(rt+1)
	for i := range int32(3) {
		for _, sig := range []unix.Signal{rt + 1, rt, unix.SIGUSR1} {
			s := arch.InfoKill(sig, i, 0)
			s.Code = -1
			if err := c.task().Group.SendSignal(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The lowest first; real-time signals all and in order, the others once.
	want := []unix.Signal{unix.SIGUSR1, rt, rt, rt, rt + 1, rt + 1, rt + 1}
	for i, sig := range want {
		s, err := c.take(set)
		if err != nil || unix.Signal(s.Signo) != sig {
			t.Fatalf("signal %d: %v, %v", i, s.Signo, err)
		}
	}
	if _, err := c.take(set); err != unix.EAGAIN {
		t.Errorf("an empty queue: %v", err)
	}
	if n := c.task().Group.queued; n != 0 {
		t.Errorf("%d signals counted in an empty queue", n)
	}
}

func TestSignalQueueLimit(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	g := c.task().Group
	g.SetRlimit(unix.RLIMIT_SIGPENDING, unix.Rlimit{Cur: 2, Max: 2}, true)
	c.block(rt)
	queue := func(code int32) error {
		s := arch.InfoKill(rt, 1, 0)
		s.Code = code
		return g.SendSignal(s)
	}
	for range 2 {
		if err := queue(-1); err != nil {
			t.Fatal(err)
		}
	}
	if err := queue(-1); err != unix.EAGAIN {
		t.Errorf("sigqueue above the limit: %v", err)
	}
	for range 100 {
		if err := queue(arch.SI_USER); err != nil {
			t.Errorf("kill above the limit: %v", err)
		}
	}
	if n := len(g.shared.list); n != 2 {
		t.Errorf("%d entries in a queue for 2", n)
	}
	for range 2 {
		c.take(arch.SigBit(rt))
	}
	if g.queued != 0 {
		t.Errorf("%d counted", g.queued)
	}
}

// Of several threads one that does not block a signal of the process takes it, and one that begins to block it hands it on.
func TestSignalGoesToAWillingThread(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	c.block(unix.SIGTERM)
	th.pause()
	m.eventually("the thread sleeps", func() bool { return th.task().sleeping.Load() })
	init.signal(c, unix.SIGTERM)
	if r := init.mustWait(c.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGTERM) {
		t.Errorf("status: %#x", r.Status)
	}
}

func TestSigtimedwaitTakesWhatItWaitsFor(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	var got arch.Siginfo
	var err error
	// SIGUSR1 is not blocked: its default action would end the process.
	th.start(func(t *Task) (uint64, error) {
		got, err = t.Sigtimedwait(arch.SigBit(unix.SIGUSR1), ktime.Forever)
		return 0, err
	})
	m.eventually("it waits", func() bool { return th.task().sleeping.Load() })
	init.signal(c, unix.SIGUSR1)
	th.finish()
	if err != nil || got.Signo != int32(unix.SIGUSR1) {
		t.Errorf("got %d, %v", got.Signo, err)
	}
}

func TestIgnoredSignals(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	tk := c.task()
	for _, sig := range []unix.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT} {
		init.signal(c, sig)
	}
	if p := tk.PendingSignals(); p != 0 {
		t.Errorf("pending: %x", p)
	}
	c.block(unix.SIGUSR1)
	init.signal(c, unix.SIGUSR1)
	if p := tk.BlockedPending(); p != arch.SigBit(unix.SIGUSR1) {
		t.Errorf("pending: %x", p)
	}
	tk.Sigaction(unix.SIGUSR1, &arch.Sigaction{Handler: arch.SIG_IGN})
	if p := tk.BlockedPending(); p != 0 {
		t.Errorf("pending after SIG_IGN: %x", p)
	}
	if _, err := tk.Sigaction(unix.SIGKILL, &arch.Sigaction{}); err != unix.EINVAL {
		t.Errorf("sigaction of SIGKILL: %v", err)
	}
}

func TestStopAndContinue(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	pid := c.task().PID()
	th.pause()
	for range 20 {
		init.signal(c, unix.SIGSTOP)
		r := init.mustWait(pid, unix.WSTOPPED|unix.WNOWAIT)
		if r.Code != arch.CLD_STOPPED || r.Info != int32(unix.SIGSTOP) {
			t.Fatalf("stopped: %+v", r)
		}
		init.mustWait(pid, unix.WSTOPPED)
		if r := init.mustWait(pid, unix.WSTOPPED|unix.WNOHANG); r.PID != 0 {
			t.Fatalf("a stop was told twice: %+v", r)
		}
		if c.isRunning() || c.task().State() != 'T' {
			t.Fatal("runs while stopped")
		}
		init.signal(c, unix.SIGCONT)
		if r := init.mustWait(pid, unix.WCONTINUED); r.Code != arch.CLD_CONTINUED {
			t.Fatalf("continued: %+v", r)
		}
		m.eventually("runs on", c.isRunning)
		th.finish()
		m.eventually("the thread runs on", th.isRunning)
		th.pause()
	}
	init.signal(c, unix.SIGSTOP)
	init.mustWait(pid, unix.WSTOPPED)
	init.signal(c, unix.SIGTERM) // waits for the continuation
	if r := init.mustWait(pid, unix.WEXITED|unix.WNOHANG); r.PID != 0 {
		t.Error("SIGTERM ended a stopped process")
	}
	init.signal(c, unix.SIGKILL)
	if r := init.mustWait(pid, unix.WEXITED); r.Status != int32(unix.SIGKILL) {
		t.Errorf("status: %#x", r.Status)
	}
}

// The last thread that a stop waits for may end instead of stopping.
func TestStopWhileAThreadExits(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	th.call(func(x *Task) (uint64, error) {
		init.signal(c, unix.SIGSTOP)
		init.m.eventually("the other thread has stopped", func() bool { return c.task().State() == 'T' })
		x.Exit(0)
		return 0, nil
	})
	init.mustWait(c.task().PID(), unix.WSTOPPED)
}

// A thread that is made while its process stops is counted once.
func TestStopWhileAThreadIsMade(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	m.cloned = func(*guest) { init.signal(c, unix.SIGSTOP) }
	th := c.clone(unix.CLONE_THREAD)
	m.cloned = nil
	init.mustWait(c.task().PID(), unix.WSTOPPED)
	if th.isRunning() {
		t.Error("a new thread runs in a stopped process")
	}
	init.signal(c, unix.SIGCONT)
	m.eventually("runs on", th.isRunning)
}

// SIGCONT takes a stop back that has not been carried out, and the other way round.
func TestStopAndContCancel(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	c.block(unix.SIGTSTP, unix.SIGCONT)
	tk := c.task()
	init.signal(c, unix.SIGTSTP)
	init.signal(c, unix.SIGCONT)
	if p := tk.BlockedPending(); p != arch.SigBit(unix.SIGCONT) {
		t.Errorf("pending after SIGCONT: %x", p)
	}
	init.signal(c, unix.SIGTSTP)
	if p := tk.BlockedPending(); p != arch.SigBit(unix.SIGTSTP) {
		t.Errorf("pending after SIGTSTP: %x", p)
	}
}

func TestOrphansDoNotStop(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	c.call(func(t *Task) (uint64, error) { _, err := t.Setsid(); return 0, err })
	init.signal(c, unix.SIGTSTP)
	m.eventually("the signal is taken", func() bool { return c.task().PendingSignals() == 0 })
	if r := init.mustWait(c.task().PID(), unix.WSTOPPED|unix.WNOHANG); r.PID != 0 {
		t.Errorf("SIGTSTP stopped a member of an orphaned group: %+v", r)
	}
	init.signal(c, unix.SIGSTOP)
	init.mustWait(c.task().PID(), unix.WSTOPPED)
}

// A process group that is orphaned with a stopped member gets SIGHUP and SIGCONT.
func TestOrphanedStoppedGroup(t *testing.T) {
	m, init := newMachine(t)
	shell := init.clone(0)
	shell.call(func(t *Task) (uint64, error) { _, err := t.Setsid(); return 0, err })
	job := shell.clone(0)
	if err := shell.task().Setpgid(job.task().PID(), 0); err != nil {
		t.Fatal(err)
	}
	init.signal(job, unix.SIGSTOP)
	m.eventually("the job stops", func() bool { return job.task().State() == 'T' })
	init.signal(shell, unix.SIGKILL)
	init.mustWait(shell.task().PID(), unix.WEXITED)
	if r := init.mustWait(job.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGHUP) {
		t.Errorf("status of the orphaned job: %#x", r.Status)
	}
}

func TestInitIsProtected(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGTERM, unix.SIGSEGV} {
		c.signal(init, sig)
	}
	if p := init.task().PendingSignals(); p != 0 || !init.isRunning() {
		t.Errorf("pending for init: %x", p)
	}
}

// sigsuspend(2): the mask comes back whatever ended the call.
func TestTempSigmask(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	c.block(unix.SIGUSR2)
	suspend := func(err error) {
		c.call(func(t *Task) (uint64, error) {
			return t.WithSigmask(0, func() (uint64, error) { return 0, err })
		})
		m.eventually("the old mask", func() bool { return c.task().Sigmask() == arch.SigBit(unix.SIGUSR2) })
	}
	suspend(nil)
	suspend(unix.EINTR)
	suspend(abi.ERESTARTNOHAND)
}

// A wake-up for a signal that another thread has taken does not interrupt a sleep.
func TestStaleSignalDoesNotInterrupt(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	c.pause()
	tk := c.task()
	m.eventually("it sleeps", func() bool { return tk.sleeping.Load() })
	tk.work.Or(workSignal)
	tk.Wake()
	m.eventually("the wake-up is taken", func() bool { return tk.work.Load() == 0 })
	m.eventually("it sleeps again", func() bool { return tk.sleeping.Load() })
	init.signal(c, unix.SIGKILL)
	c.finish()
}

func TestKillPermission(t *testing.T) {
	_, init := newMachine(t)
	a, b := init.clone(0), init.clone(0)
	for i, g := range []*guest{a, b} {
		c := g.task().Cred().Copy()
		c.UID, c.EUID, c.SUID, c.FSUID, c.Effective, c.Permitted = uint32(1000+i), uint32(1000+i), uint32(1000+i), uint32(1000+i), 0, 0
		g.task().InstallCred(c)
	}
	kill := func(pid int32, sig unix.Signal) error { return a.task().Kill(pid, arch.InfoKill(sig, 0, 0)) }
	if err := kill(b.task().PID(), 0); err != unix.EPERM {
		t.Errorf("kill of another user's process: %v", err)
	}
	if err := kill(b.task().PID(), unix.SIGCONT); err != nil {
		t.Errorf("SIGCONT within the session: %v", err)
	}
	if err := kill(4711, 0); err != unix.ESRCH {
		t.Errorf("kill of nobody: %v", err)
	}
	if err := kill(a.task().PID(), 65); err != unix.EINVAL {
		t.Errorf("signal 65: %v", err)
	}
	if err := kill(-1<<31, 0); err != unix.ESRCH {
		t.Errorf("kill(INT_MIN): %v", err)
	}
	if err := a.task().Tgkill(a.task().PID()+1, a.task().TID(), arch.InfoKill(unix.SIGUSR1, 0, 0)); err != unix.ESRCH {
		t.Errorf("tgkill with another group's id: %v", err)
	}
}

func TestSessions(t *testing.T) {
	_, init := newMachine(t)
	a := init.clone(0)
	b := a.clone(0)
	ta, tb := a.task(), b.task()
	if _, err := ta.Setsid(); err != nil {
		t.Fatal(err)
	}
	if _, err := ta.Setsid(); err != unix.EPERM {
		t.Errorf("setsid of a group leader: %v", err)
	}
	if err := ta.Setpgid(0, 0); err != unix.EPERM {
		t.Errorf("setpgid of a session leader: %v", err)
	}
	if err := ta.Setpgid(tb.PID(), 0); err != unix.EPERM {
		t.Errorf("setpgid of a child in another session: %v", err)
	}
	if err := tb.Setpgid(0, ta.PID()); err != unix.EPERM {
		t.Errorf("setpgid into another session's group: %v", err)
	}
	if err := tb.Setpgid(0, 0); err != nil || tb.PgrpID() != tb.PID() {
		t.Errorf("setpgid(0, 0): %v", err)
	}
	if err := init.task().Setpgid(tb.PID(), 0); err != unix.ESRCH {
		t.Errorf("setpgid of a grandchild: %v", err)
	}
	c := a.clone(0)
	c.task().Group.execed = true
	if err := ta.Setpgid(c.task().PID(), 0); err != unix.EACCES {
		t.Errorf("setpgid of a child that has executed a program: %v", err)
	}
	if s, err := tb.Getsid(ta.PID()); err != nil || s != ta.PID() {
		t.Errorf("getsid: %d, %v", s, err)
	}
}

func TestPosixTimerLimitAndOwner(t *testing.T) {
	_, init := newMachine(t)
	c, other := init.clone(0), init.clone(0)
	tk := c.task()
	if _, err := tk.TimerCreate(TimerSpec{Notify: sigevThreadID, Sig: unix.SIGALRM, TID: other.task().TID()}); err != unix.EINVAL {
		t.Errorf("a timer for another process's thread: %v", err)
	}
	tk.Group.SetRlimit(unix.RLIMIT_SIGPENDING, unix.Rlimit{Cur: 2, Max: 2}, true)
	for i := range int32(3) {
		id, err := tk.TimerCreate(TimerSpec{Sig: unix.SIGALRM})
		if i < 2 && (err != nil || id != i) || i == 2 && err != unix.EAGAIN {
			t.Errorf("timer %d: %d, %v", i, id, err)
		}
	}
	c.block(unix.SIGALRM)
	if _, _, err := tk.Group.TimerSet(1, false, 1, 1); err != nil {
		t.Fatal(err)
	}
	var s arch.Siginfo
	var err error
	c.call(func(t *Task) (uint64, error) {
		s, err = t.Sigtimedwait(arch.SigBit(unix.SIGALRM), ktime.Forever)
		return 0, err
	})
	if err != nil || s.Code != arch.SI_TIMER || s.TimerID() != 1 {
		t.Errorf("signal of a timer: %+v, %v", s, err)
	}
	if err := tk.Group.TimerDelete(1); err != nil {
		t.Error(err)
	}
	if err := tk.Group.TimerDelete(1); err != unix.EINVAL {
		t.Errorf("a timer deleted twice: %v", err)
	}
}
