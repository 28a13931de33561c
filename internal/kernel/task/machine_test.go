package task

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// machine is a platform whose threads follow the platform's contract but run no code: what a guest program would do, a
// test does with guest.call. Like the real one it reports stops and ends one by one, and the first thread of a process
// after the others.
type machine struct {
	*platform.Fake
	t *testing.T
	k *Kernel

	mu    sync.Mutex
	queue []func()
	bell  chan struct{}
	done  chan struct{}
	// cloned, if not nil, is called with a new host thread before the kernel knows it.
	cloned func(g *guest)
}

// host is a host process.
type host struct {
	first   *guest
	threads []*guest
	killed  bool
}

// guest is one host thread.
type guest struct {
	*platform.FakeThread
	m *machine
	h *host

	// Guarded by machine.mu.
	running, handling, resume, kicked, dead bool

	fn  func(t *Task) (uint64, error)
	end chan platform.Return // one for every finished call
}

func (g *guest) task() *Task { return g.TaskData.(*Task) }

// newMachine boots a kernel with an init whose one thread is returned.
func newMachine(t *testing.T) (*machine, *guest) {
	t.Helper()
	m := &machine{Fake: platform.NewFake(), t: t, bell: make(chan struct{}, 1), done: make(chan struct{})}
	k := New()
	m.k = k
	k.Platform = m
	k.Memory = 1 << 30
	k.Halted = func(Halt) {}
	k.MM = &mm.Host{UserMax: m.UserMax()}
	k.Dispatch = func(t *Task, _ platform.Sysno, _ *platform.Args) (uint64, error) {
		return t.Thread().(*guest).fn(t)
	}
	tmpfs.NewMemfile, tmpfs.TotalPages = m.NewMemfile, 1<<18
	boot := &Task{K: k, Group: &ThreadGroup{k: k}}
	boot.cred.Store(cred.Root())
	tmpfs.Register()
	sb, err := vfs.FindFilesystem("tmpfs").Mount(boot, "none", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	go m.run()
	t.Cleanup(func() {
		m.post(nil)
		<-m.done
	})
	init, err := k.NewInit(vfs.NewFSContext(vfs.NewNamespace(sb, "none", 0)), vfs.NewFDTable())
	if err != nil {
		t.Fatal(err)
	}
	g := init.Thread().(*guest)
	init.mm.Store(mm.New(k.MM, g.AS))
	g.Resume()
	return m, g
}

// run is the tracer.
func (m *machine) run() {
	defer close(m.done)
	for range m.bell {
		for {
			m.mu.Lock()
			if len(m.queue) == 0 {
				m.mu.Unlock()
				break
			}
			f := m.queue[0]
			m.queue = m.queue[1:]
			m.mu.Unlock()
			if f == nil {
				return
			}
			f()
		}
	}
}

func (m *machine) post(f func()) {
	m.mu.Lock()
	m.postLocked(f)
	m.mu.Unlock()
}

func (m *machine) postLocked(f func()) {
	m.queue = append(m.queue, f)
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

func (m *machine) NewProcess(data any) (platform.Thread, error) {
	th, _ := m.Fake.NewProcess(data)
	g := &guest{FakeThread: th.(*platform.FakeThread), m: m, h: &host{}, end: make(chan platform.Return, 8)}
	g.h.first, g.h.threads = g, []*guest{g}
	return g, nil
}

var errKilled = errors.New("killed")

func (g *guest) Clone(spec platform.CloneSpec) (platform.Thread, error) {
	th, err := g.FakeThread.Clone(spec)
	if err != nil {
		return nil, err
	}
	c := &guest{FakeThread: th.(*platform.FakeThread), m: g.m, h: g.h, end: make(chan platform.Return, 8)}
	g.m.mu.Lock()
	if g.h.killed {
		g.m.mu.Unlock()
		return nil, errKilled
	}
	if spec.Thread {
		g.h.threads = append(g.h.threads, c)
	} else {
		c.h = &host{first: c, threads: []*guest{c}}
	}
	g.m.mu.Unlock()
	if g.m.cloned != nil {
		g.m.cloned(c)
	}
	return c, nil
}

func (g *guest) Kick() {
	g.m.mu.Lock()
	g.kicked = true
	if g.running {
		g.m.postLocked(g.stopIfKicked)
	}
	g.m.mu.Unlock()
}

func (g *guest) stopIfKicked() {
	g.m.mu.Lock()
	if g.dead || !g.running || !g.kicked {
		g.m.mu.Unlock()
		return
	}
	g.running = false
	g.m.mu.Unlock()
	g.stop()
}

// stop reports a kick to the kernel. The thread is neither running nor handled.
func (g *guest) stop() {
	g.m.mu.Lock()
	g.kicked, g.handling = false, true
	g.m.mu.Unlock()
	act := g.m.k.Stop(g, &platform.Event{Kind: platform.Kicked})
	g.settle(act)
}

// settle carries out an action of a handler.
func (g *guest) settle(act platform.Action) {
	m := g.m
	m.mu.Lock()
	g.handling = false
	if g.dead {
		m.mu.Unlock()
		return
	}
	switch act {
	case platform.Dead:
	case platform.Hold:
		if g.resume {
			g.goLocked()
		}
	case platform.Stop:
		g.kicked = true
		g.goLocked()
	case platform.HostExit:
		m.endLocked(g)
	default:
		g.goLocked()
	}
	m.mu.Unlock()
}

// goLocked lets the thread run, or stop again if it was kicked.
func (g *guest) goLocked() {
	g.resume = false
	if g.kicked {
		g.m.postLocked(g.stop)
		return
	}
	g.running = true
}

func (g *guest) Resume() {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	switch {
	case g.dead:
	case g.handling || g.running:
		g.resume = true
	default:
		g.goLocked()
	}
}

func (g *guest) Kill() {
	m := g.m
	m.mu.Lock()
	defer m.mu.Unlock()
	g.h.killed = true
	for _, x := range append([]*guest(nil), g.h.threads...) {
		if x != g.h.first {
			m.endLocked(x)
		}
	}
	m.endLocked(g.h.first)
}

// endLocked ends one host thread. The end of a process's first thread is reported after the others.
func (m *machine) endLocked(g *guest) {
	if !g.dead {
		g.dead, g.running = true, false
		if g != g.h.first {
			m.reportLocked(g)
		}
	}
	if len(g.h.threads) == 1 && g.h.first.dead && g.h.threads[0] == g.h.first {
		m.reportLocked(g.h.first)
	}
}

func (m *machine) reportLocked(g *guest) {
	for i, x := range g.h.threads {
		if x == g {
			g.h.threads = append(g.h.threads[:i:i], g.h.threads[i+1:]...)
			m.postLocked(func() { m.k.Exited(g, 0, &unix.Rusage{Maxrss: 1}) })
			return
		}
	}
}

// start begins a system call that does fn; finish waits for its end.
func (g *guest) start(fn func(t *Task) (uint64, error)) bool {
	g.m.mu.Lock()
	if g.dead || !g.running {
		g.m.mu.Unlock()
		return false
	}
	g.running, g.handling = false, true
	g.m.mu.Unlock()
	g.fn = fn
	go func() {
		ret := g.m.k.Syscall(g, 0, &platform.Args{})
		g.settle(ret.Action)
		g.end <- ret
	}()
	return true
}

// call does a whole system call.
func (g *guest) call(fn func(t *Task) (uint64, error)) platform.Return {
	g.m.t.Helper()
	if !g.start(fn) {
		g.m.t.Fatal("the thread does not run")
	}
	return g.finish()
}

func (g *guest) finish() platform.Return {
	g.m.t.Helper()
	select {
	case r := <-g.end:
		return r
	case <-time.After(testPatience):
		g.m.t.Fatal("a system call did not end")
		panic("unreachable")
	}
}

// testPatience is when a test gives up; nothing depends on it otherwise.
const testPatience = 20 * time.Second

// clone makes a child with clone(2)'s flags and returns its thread.
func (g *guest) clone(flags uint64) *guest {
	g.m.t.Helper()
	sig := uint64(unix.SIGCHLD)
	if flags&unix.CLONE_THREAD != 0 {
		flags |= unix.CLONE_SIGHAND | unix.CLONE_VM
		sig = 0
	}
	var id int32
	var err error
	g.call(func(t *Task) (uint64, error) {
		id, err = t.Clone(&CloneArgs{Flags: flags, ExitSignal: sig})
		return uint64(id), err
	})
	if err != nil {
		g.m.t.Fatalf("clone: %v", err)
	}
	return g.m.k.FindTask(id).Thread().(*guest)
}

// signal sends a signal to a process, as kill(2) by this one.
func (g *guest) signal(to *guest, sig unix.Signal) {
	g.m.t.Helper()
	if err := to.task().Group.SendSignal(arch.InfoKill(sig, g.task().PID(), 0)); err != nil {
		g.m.t.Fatalf("kill: %v", err)
	}
}

// wait waits for a child, as waitpid(2).
func (g *guest) wait(pid int32, options uint32) (WaitResult, error) {
	g.m.t.Helper()
	var r WaitResult
	var err error
	g.call(func(t *Task) (uint64, error) {
		r, err = t.Wait(WaitSpec{PID: pid, Options: options})
		return 0, err
	})
	return r, err
}

// mustWait is wait for a change that comes.
func (g *guest) mustWait(pid int32, options uint32) WaitResult {
	g.m.t.Helper()
	r, err := g.wait(pid, options)
	if err != nil {
		g.m.t.Fatalf("wait: %v", err)
	}
	return r
}

func (g *guest) exit(code int32) {
	g.m.t.Helper()
	g.call(func(t *Task) (uint64, error) { t.Exit(code << 8); return 0, nil })
}

func (g *guest) exitGroup(code int32) {
	g.m.t.Helper()
	g.call(func(t *Task) (uint64, error) { t.ExitGroup(code << 8); return 0, nil })
}

// pause starts pause(2).
func (g *guest) pause() {
	g.m.t.Helper()
	if !g.start(func(t *Task) (uint64, error) {
		for {
			if err := t.Sleep(1<<63 - 1); err != nil {
				return 0, unix.EINTR
			}
		}
	}) {
		g.m.t.Fatal("the thread does not run")
	}
}

// eventually waits until cond is true.
func (m *machine) eventually(what string, cond func() bool) {
	m.t.Helper()
	for end := time.Now().Add(testPatience); !cond(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			m.t.Fatalf("never: %s", what)
		}
	}
}

func (g *guest) isRunning() bool {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	return g.running
}

func (g *guest) isDead() bool {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	return g.dead
}
