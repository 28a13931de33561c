package task

import (
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
)

func TestExitAndWait(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	pid := c.task().PID()
	c.exitGroup(7)
	r := init.mustWait(pid, unix.WEXITED|unix.WNOWAIT)
	if r.PID != pid || r.Status != 7<<8 || r.Code != arch.CLD_EXITED || r.Info != 7 {
		t.Errorf("waitid of an exited child: %+v", r)
	}
	if r := init.mustWait(pid, unix.WEXITED); r.PID != pid {
		t.Errorf("WNOWAIT took the child: %+v", r)
	}
	if _, err := init.wait(0, unix.WEXITED); err != unix.ECHILD {
		t.Errorf("wait without children: %v", err)
	}
	if init.m.k.FindTask(pid) != nil || init.m.k.FindGroup(pid) != nil {
		t.Error("a reaped process is still there")
	}
}

func TestWaitNoHang(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	if r := init.mustWait(0, unix.WEXITED|unix.WNOHANG); r.PID != 0 {
		t.Errorf("WNOHANG found %+v", r)
	}
	if _, err := init.wait(4711, unix.WEXITED|unix.WNOHANG); err != unix.ECHILD {
		t.Errorf("wait for a stranger: %v", err)
	}
	init.signal(c, unix.SIGKILL)
	if r := init.mustWait(c.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGKILL) {
		t.Errorf("status of a killed child: %#x", r.Status)
	}
}

// The leader may end first: the process lives on, is no zombie for wait, takes signals and can be stopped.
func TestLeaderExitsFirst(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	c.exit(1)
	m.eventually("the leader's host thread ends", c.isDead)
	pid := c.task().PID()
	if s := c.task().State(); s != 'Z' {
		t.Errorf("state of an ended leader: %c", s)
	}
	if r := init.mustWait(pid, unix.WEXITED|unix.WNOHANG); r.PID != 0 {
		t.Errorf("a process with a live thread was reaped: %+v", r)
	}
	init.signal(c, unix.SIGSTOP)
	if r := init.mustWait(pid, unix.WSTOPPED); r.Status != int32(unix.SIGSTOP)<<8|0x7f {
		t.Errorf("stop of a process without its leader: %+v", r)
	}
	init.signal(c, unix.SIGCONT)
	if r := init.mustWait(pid, unix.WCONTINUED); r.Status != 0xffff {
		t.Errorf("continue: %+v", r)
	}
	m.eventually("the thread runs on", th.isRunning)
	init.signal(c, unix.SIGTERM)
	if r := init.mustWait(pid, unix.WEXITED); r.Status != int32(unix.SIGTERM) {
		t.Errorf("status: %#x", r.Status)
	}
}

func TestLastThreadDecidesExitCode(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	c.exit(1)
	m.eventually("the leader ends", c.isDead)
	th.exit(2)
	if r := init.mustWait(c.task().PID(), unix.WEXITED); r.Status != 2<<8 {
		t.Errorf("status: %#x", r.Status)
	}
}

// A host thread may be killed before its clone has finished.
func TestKilledBeforeBirth(t *testing.T) {
	for _, thread := range []bool{false, true} {
		m, init := newMachine(t)
		parent := init.clone(0)
		m.cloned = func(g *guest) {
			g.Kill()
			done := make(chan struct{})
			m.post(func() { close(done) })
			<-done
		}
		flags := uint64(0)
		if thread {
			flags = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM
		}
		var id int32
		var err error
		parent.call(func(t *Task) (uint64, error) {
			id, err = t.Clone(&CloneArgs{Flags: flags, ExitSignal: uint64(unix.SIGCHLD) &^ flags})
			return uint64(id), err
		})
		if err != nil {
			t.Fatalf("clone: %v", err)
		}
		if thread {
			if r := init.mustWait(parent.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGKILL) {
				t.Errorf("status: %#x", r.Status)
			}
			continue
		}
		if r := parent.mustWait(id, unix.WEXITED); r.Status != int32(unix.SIGKILL) {
			t.Errorf("status: %#x", r.Status)
		}
	}
}

// SIGKILL may come while the exit call still gives back what the process has.
func TestKilledDuringExit(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	c.call(func(x *Task) (uint64, error) {
		x.ExitGroup(3 << 8)
		c.Kill()
		done := make(chan struct{})
		c.m.post(func() { close(done) })
		<-done
		return 0, nil
	})
	if r := init.mustWait(c.task().PID(), unix.WEXITED); r.Status != 3<<8 {
		t.Errorf("status: %#x", r.Status)
	}
}

func TestPanicInHandler(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	c.call(func(*Task) (uint64, error) { panic("a bug") })
	if r := init.mustWait(c.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGKILL) {
		t.Errorf("status: %#x", r.Status)
	}
}

func TestVfork(t *testing.T) {
	m, init := newMachine(t)
	const vfork = unix.CLONE_VFORK | unix.CLONE_VM
	c := init.clone(vfork)
	if init.isRunning() {
		t.Error("the parent runs beside its vfork child")
	}
	c.exitGroup(0)
	m.eventually("the parent runs on", init.isRunning)
	init.mustWait(c.task().PID(), unix.WEXITED)

	// A signal for the waiting parent is handled when the child has ended, by whatever.
	p := init.clone(0)
	c = p.clone(vfork)
	init.signal(p, unix.SIGTERM)
	if r := init.mustWait(p.task().PID(), unix.WEXITED|unix.WNOHANG); r.PID != 0 {
		t.Error("SIGTERM ended a process that waits for its vfork child")
	}
	init.signal(c, unix.SIGKILL)
	if r := init.mustWait(p.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGTERM) {
		t.Errorf("status: %#x", r.Status)
	}

	// SIGKILL ends the waiting parent at once; the child lives on and belongs to init.
	p = init.clone(0)
	c = p.clone(vfork)
	init.signal(p, unix.SIGKILL)
	init.mustWait(p.task().PID(), unix.WEXITED)
	if c.isDead() || c.task().Group.PPID() != 1 {
		t.Error("the vfork child did not survive its parent")
	}
	c.exitGroup(0)
	init.mustWait(c.task().PID(), unix.WEXITED)
}

// A signal that comes while vfork is being carried out must not be forgotten.
func TestSignalDuringVfork(t *testing.T) {
	m, init := newMachine(t)
	p := init.clone(0)
	m.cloned = func(*guest) { init.signal(p, unix.SIGTERM) }
	c := p.clone(unix.CLONE_VFORK | unix.CLONE_VM)
	c.exitGroup(0)
	if r := init.mustWait(p.task().PID(), unix.WEXITED); r.Status != int32(unix.SIGTERM) {
		t.Errorf("status: %#x", r.Status)
	}
}

func TestReparent(t *testing.T) {
	_, init := newMachine(t)
	reaper := init.clone(0)
	reaper.task().Group.SetSubreaper(true)
	mid := reaper.clone(0)
	dead, alive := mid.clone(0), mid.clone(0)
	dead.exitGroup(5)
	dead.m.eventually("a zombie", dead.task().Group.Dead)
	mid.exitGroup(0)
	reaper.mustWait(mid.task().PID(), unix.WEXITED)
	if r := reaper.mustWait(dead.task().PID(), unix.WEXITED); r.Status != 5<<8 {
		t.Errorf("the zombie that was inherited: %+v", r)
	}
	if p := alive.task().Group.PPID(); p != reaper.task().PID() {
		t.Errorf("parent of an orphan: %d", p)
	}
	reaper.exitGroup(0)
	init.mustWait(reaper.task().PID(), unix.WEXITED)
	if p := alive.task().Group.PPID(); p != 1 {
		t.Errorf("parent after the subreaper's end: %d", p)
	}
}

func TestNoZombies(t *testing.T) {
	m, init := newMachine(t)
	for _, a := range []arch.Sigaction{{Handler: arch.SIG_IGN}, {Flags: arch.SA_NOCLDWAIT}} {
		p := init.clone(0)
		p.task().Sigaction(unix.SIGCHLD, &a)
		c := p.clone(0)
		pid := c.task().PID()
		c.exitGroup(0)
		m.eventually("the child is gone", func() bool { return m.k.FindGroup(pid) == nil })
		if _, err := p.wait(0, unix.WEXITED); err != unix.ECHILD {
			t.Errorf("wait: %v", err)
		}
		init.signal(p, unix.SIGKILL)
		init.mustWait(p.task().PID(), unix.WEXITED)
	}
}

func TestThreadLimit(t *testing.T) {
	_, init := newMachine(t)
	p := init.clone(0)
	c := p.task().Cred().Copy()
	c.UID, c.EUID, c.SUID, c.FSUID, c.Effective, c.Permitted = 1000, 1000, 1000, 1000, 0, 0
	p.task().InstallCred(c)
	p.task().Group.SetRlimit(unix.RLIMIT_NPROC, unix.Rlimit{Cur: 3, Max: 3}, true)
	th, child := p.clone(unix.CLONE_THREAD), p.clone(0)
	try := func() (err error) {
		p.call(func(t *Task) (uint64, error) {
			_, err = t.Clone(&CloneArgs{ExitSignal: uint64(unix.SIGCHLD)})
			return 0, err
		})
		return err
	}
	if err := try(); err != unix.EAGAIN {
		t.Errorf("a fork above RLIMIT_NPROC: %v", err)
	}
	th.exit(0)
	p.m.eventually("the thread is gone", func() bool { return p.task().Group.Live() == 1 })
	if err := try(); err != nil {
		t.Errorf("a fork after a thread has ended: %v", err)
	}
	init.signal(child, unix.SIGKILL)
	p.mustWait(child.task().PID(), unix.WEXITED)
	if err := try(); err != nil {
		t.Errorf("a fork after a child has ended: %v", err)
	}
	if n := p.m.k.users[1000]; n != 3 {
		t.Errorf("threads of the user: %d", n)
	}
}

func TestPIDsAreNotReusedTooSoon(t *testing.T) {
	_, init := newMachine(t)
	c := init.clone(0)
	pid := c.task().PID()
	var err error
	c.call(func(t *Task) (uint64, error) { _, err = t.Setsid(); return 0, err })
	if err != nil {
		t.Fatal(err)
	}
	g := c.clone(0)
	c.exitGroup(0)
	init.mustWait(pid, unix.WEXITED)
	// The id is still that of a session and a group.
	k := init.m.k
	k.mu.Lock()
	k.lastPID = pid - 1
	id, err := k.allocPIDLocked()
	k.mu.Unlock()
	if err != nil || id == pid {
		t.Errorf("id %d, %v: in use as a session", id, err)
	}
	if s := g.task().SessionID(); s != pid {
		t.Errorf("session: %d", s)
	}
}

// The timers of a process stop with its last thread, in whatever order the threads end.
func TestTimersStop(t *testing.T) {
	m, init := newMachine(t)
	c := init.clone(0)
	th := c.clone(unix.CLONE_THREAD)
	c.task().Group.SetItimer(unix.ITIMER_REAL, 3600e9, 0)
	c.exit(0)
	m.eventually("the leader ends", c.isDead)
	th.exit(0)
	init.mustWait(c.task().PID(), unix.WEXITED)
	ts := &c.task().Group.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if !ts.stopped {
		t.Error("the timers outlive the process")
	}
}

// Many threads do everything at once; whatever they did, all of it must end.
func TestStorm(t *testing.T) {
	m, init := newMachine(t)
	init.task().Group.acts.Store(&Actions{})
	var mu sync.Mutex
	all := []*guest{}
	pick := func(r *rand.Rand) *guest {
		mu.Lock()
		defer mu.Unlock()
		if len(all) == 0 {
			return nil
		}
		return all[r.Intn(len(all))]
	}
	k := m.k
	k.ThreadsMax.Store(200)
	var wg sync.WaitGroup
	p := init.clone(0)
	all = append(all, p)
	p.task().Group.SetSubreaper(true)
	for w := range 4 {
		r := rand.New(rand.NewSource(int64(w)))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 400 {
				g := pick(r)
				if g == nil {
					continue
				}
				tk := g.task()
				n := r.Intn(10)
				switch {
				case n < 4:
					fl := uint64(0)
					if r.Intn(2) == 0 {
						fl = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM
					} else if r.Intn(2) == 0 {
						fl = unix.CLONE_VFORK | unix.CLONE_VM
					}
					if g.start(func(x *Task) (uint64, error) {
						id, err := x.Clone(&CloneArgs{Flags: fl, ExitSignal: uint64(unix.SIGCHLD)})
						if err != nil {
							return 0, err
						}
						if c := k.FindTask(id); c != nil {
							mu.Lock()
							all = append(all, c.Thread().(*guest))
							mu.Unlock()
						}
						return uint64(id), nil
					}) {
						g.finish()
					}
				case n == 4:
					tk.Group.SendSignal(arch.InfoKill(unix.SIGSTOP, 1, 0))
				case n == 5:
					tk.Group.SendSignal(arch.InfoKill(unix.SIGCONT, 1, 0))
				case n == 6 && g != p:
					tk.Group.SendSignal(arch.InfoKill([]unix.Signal{unix.SIGKILL, unix.SIGTERM}[r.Intn(2)], 1, 0))
				case n == 7 && g != p:
					if g.start(func(x *Task) (uint64, error) { x.Exit(0); return 0, nil }) {
						g.finish()
					}
				case n == 8:
					if g.start(func(x *Task) (uint64, error) {
						x.Wait(WaitSpec{Options: unix.WEXITED | unix.WNOHANG})
						return 0, abi.ERESTARTSYS
					}) {
						g.finish()
					}
				case n == 9:
					for _, x := range k.Groups() {
						for _, y := range x.Threads() {
							y.State()
							y.CPUTimes()
						}
						x.Rusage()
						x.PPID()
					}
					k.Counts()
				}
			}
		}()
	}
	wg.Wait()
	for _, g := range k.Groups() {
		if g.PID() != 1 {
			g.SendSignal(arch.InfoKill(unix.SIGKILL, 1, 0))
		}
	}
	for {
		if _, err := init.wait(0, unix.WEXITED|wAll); err == unix.ECHILD {
			break
		} else if err != nil && err != abi.ERESTARTSYS {
			t.Fatal(err)
		}
		for _, g := range k.Groups() {
			if g.PID() != 1 {
				g.SendSignal(arch.InfoKill(unix.SIGKILL, 1, 0))
			}
		}
	}
	if n, _ := k.Counts(); n != 1 || len(k.unborn) != 0 || k.users[0] != 1 {
		t.Errorf("%d threads, %d unborn, %d of root left", n, len(k.unborn), k.users[0])
	}
}
