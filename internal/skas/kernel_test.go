package skas

import (
	_ "embed"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

//go:embed testdata/guest.bin
var guestImage []byte

// Programs of testdata/guest.c.
const (
	progCount = iota
	progForks
	progThreads
	progSum
	progSpin
	progFiles
	progAnon
	progHostile
	progInt80
	progSegv
	progSleep
	progFutex
	progYieldForever
	progFSBase
	progPeek
	progYield
	progBrkForever
	progFuzz
	progWitness
)

const (
	imageBase = 0x400000
	imageSize = 0x10000
	stackTop  = 0x7ff_0000_0000
)

// task is a guest thread of the mini kernel.
type task struct {
	k     *miniKernel
	th    platform.Thread
	pid   int
	proc  *proc
	kicks int
	wake  chan struct{}
}

// proc is a guest process: what its parent waits for.
type proc struct {
	mu     sync.Mutex
	tasks  int
	done   chan struct{}
	values []int64
	status unix.WaitStatus
	tasks1 []*task
}

// miniKernel implements as much of a kernel as the tests need.
type miniKernel struct {
	t  testing.TB
	p  *Platform
	mu sync.Mutex

	nextPid int
	procs   map[int]*proc
	in      chan byte // what READ returns
	files   map[int]platform.MapOp
	onStop  func(t platform.Thread, ev *platform.Event) platform.Action
	onCall  func(t platform.Thread, nr int32, a *platform.Args) (platform.Return, bool)
}

func lanes() (l [512]platform.Lane) {
	for _, nr := range []int{unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_ARCH_PRCTL, unix.SYS_RESTART_SYSCALL, unix.SYS_MEMBARRIER,
		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE} {
		l[nr] = platform.Native
	}
	for _, nr := range []int{unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_RT_SIGRETURN, unix.SYS_MREMAP, unix.SYS_BRK} {
		l[nr] = platform.Trace
	}
	return l
}

func newKernel(t testing.TB, cfg Config) *miniKernel {
	t.Helper()
	k := &miniKernel{t: t, nextPid: 100, procs: map[int]*proc{}, in: make(chan byte, 256), files: map[int]platform.MapOp{}}
	cfg.Lanes = lanes()
	if cfg.Shards == 0 {
		cfg.Shards = 1
	}
	p, err := New(cfg, k)
	if err != nil {
		t.Fatal(err)
	}
	k.p = p
	t.Cleanup(p.Close)
	return k
}

// load makes a process that will run a program of the image.
func (k *miniKernel) load(prog int, args ...uint64) *task {
	k.t.Helper()
	k.mu.Lock()
	k.nextPid++
	tk := &task{k: k, pid: k.nextPid, proc: &proc{tasks: 1, done: make(chan struct{})}, wake: make(chan struct{}, 1)}
	k.procs[tk.pid] = tk.proc
	k.mu.Unlock()
	th, err := k.p.NewProcess(tk)
	if err != nil {
		k.t.Fatal(err)
	}
	tk.th = th
	tk.proc.tasks1 = append(tk.proc.tasks1, tk)
	ops := []platform.MapOp{
		{Kind: platform.MapAnon, Addr: imageBase, Len: imageSize, Prot: 7},
		{Kind: platform.MapAnon, Addr: stackTop - 0x10000, Len: 0x10000, Prot: 3},
	}
	if err := th.Map(ops); err != nil {
		k.t.Fatal("Map:", err)
	}
	if _, err := th.AddressSpace().WriteAt(guestImage, imageBase); err != nil {
		k.t.Fatal("WriteAt:", err)
	}
	r := arch.Regs{Rip: imageBase, Rsp: stackTop - 8, Rdi: uint64(prog)}
	if len(args) > 0 {
		r.Rsi = args[0]
	}
	if len(args) > 1 {
		r.Rdx = args[1]
	}
	if err := th.SetRegs(&r); err != nil {
		k.t.Fatal(err)
	}
	return tk
}

// run runs a program to its end and returns what it reported.
func (k *miniKernel) run(prog int, args ...uint64) []int64 {
	k.t.Helper()
	tk := k.load(prog, args...)
	tk.th.Resume()
	return tk.finish()
}

func (tk *task) finish() []int64 {
	tk.k.t.Helper()
	select {
	case <-tk.proc.done:
	case <-time.After(60 * time.Second):
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tk.th.HostTID()))
		th := tk.th.(*Thread)
		panic(fmt.Sprintf("guest does not end: %s state %d parked %v", b, th.state, th.parked))
	}
	return tk.proc.values
}

func errno(e unix.Errno) platform.Return { return platform.Return{Value: uint64(-int64(e))} }

func (k *miniKernel) Syscall(th platform.Thread, nr platform.Sysno, a *platform.Args) platform.Return {
	tk := th.Data().(*task)
	if k.onCall != nil {
		if r, ok := k.onCall(th, nr, a); ok {
			return r
		}
	}
	switch nr {
	case unix.SYS_GETPPID:
		return platform.Return{Value: 1}
	case 1000:
		tk.proc.mu.Lock()
		tk.proc.values = append(tk.proc.values, int64(a[0]))
		tk.proc.mu.Unlock()
		return platform.Return{}
	case unix.SYS_EXIT, unix.SYS_EXIT_GROUP:
		return platform.Return{Action: platform.HostExit}
	case unix.SYS_CLONE, unix.SYS_FORK, unix.SYS_VFORK:
		return k.clone(tk, nr, a)
	case unix.SYS_WAIT4:
		k.mu.Lock()
		child := k.procs[int(a[0])]
		k.mu.Unlock()
		if child == nil {
			return errno(unix.ECHILD)
		}
		select {
		case <-child.done:
		default:
			th.Block()
			<-child.done
		}
		k.mu.Lock()
		delete(k.procs, int(a[0]))
		k.mu.Unlock()
		return platform.Return{Value: a[0]}
	case unix.SYS_READ:
		var c byte
		select {
		case c = <-k.in:
		default:
			th.Block()
			c = <-k.in
		}
		if c == 0 {
			return platform.Return{}
		}
		if _, err := th.AddressSpace().WriteAt([]byte{c}, a[1]); err != nil {
			return errno(unix.EFAULT)
		}
		return platform.Return{Value: 1}
	case unix.SYS_NANOSLEEP:
		th.Block()
		<-tk.wake
		return platform.Return{Value: 99}
	case unix.SYS_MMAP:
		if !th.Held() {
			k.t.Error("mmap is not held")
		}
		op, ok := k.files[int(int32(a[4]))]
		if !ok || a[0] != 0 {
			return errno(unix.EBADF)
		}
		op.Addr, op.Len, op.Prot, op.Off, op.Shared, op.Anywhere = a[0], a[1], uint32(a[2]), a[5], a[3]&1 != 0, true
		ops := []platform.MapOp{op}
		if err := th.Map(ops); err != nil {
			return errno(err.(unix.Errno))
		}
		return platform.Return{Value: ops[0].Addr}
	}
	return errno(unix.ENOSYS)
}

func (k *miniKernel) clone(parent *task, nr int32, a *platform.Args) platform.Return {
	spec := platform.CloneSpec{}
	k.mu.Lock()
	k.nextPid++
	c := &task{k: k, pid: k.nextPid, wake: make(chan struct{}, 1)}
	k.mu.Unlock()
	if nr == unix.SYS_CLONE {
		spec.Thread, spec.Stack = a[0]&unix.CLONE_THREAD != 0, a[1]
		if a[0]&unix.CLONE_CHILD_CLEARTID != 0 {
			spec.ClearTID = a[3]
		}
	}
	if spec.Thread {
		c.proc = parent.proc
		c.proc.mu.Lock()
		c.proc.tasks++
		c.proc.mu.Unlock()
	} else {
		c.proc = &proc{tasks: 1, done: make(chan struct{})}
		k.mu.Lock()
		k.procs[c.pid] = c.proc
		k.mu.Unlock()
	}
	spec.Data = c
	th, err := parent.th.Clone(spec)
	if err != nil {
		return errno(err.(unix.Errno))
	}
	c.th = th
	th.Resume()
	return platform.Return{Value: uint64(c.pid)}
}

func (k *miniKernel) Stop(th platform.Thread, ev *platform.Event) platform.Action {
	tk := th.Data().(*task)
	if k.onStop != nil {
		return k.onStop(th, ev)
	}
	if ev.Kind == platform.Kicked {
		tk.kicks++
		return platform.Resume
	}
	tk.proc.mu.Lock()
	tk.proc.values = append(tk.proc.values, -int64(ev.Kind)*1000-int64(ev.Signal), int64(ev.Addr))
	tk.proc.mu.Unlock()
	th.Kill()
	return platform.Dead
}

func (k *miniKernel) Exited(th platform.Thread, ws unix.WaitStatus, ru *unix.Rusage) {
	tk := th.Data().(*task)
	tk.proc.mu.Lock()
	tk.proc.tasks--
	last := tk.proc.tasks == 0
	tk.proc.status = ws
	tk.proc.mu.Unlock()
	if last {
		close(tk.proc.done)
	}
}

// forBackends runs a test with seccomp, with SYSEMU and with plain ptrace.
func forBackends(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, b := range []struct {
		name string
		cfg  Config
	}{
		{"seccomp", Config{Seccomp: On}},
		{"sysemu", Config{Seccomp: Off}},
		{"ptrace", Config{Seccomp: Off, NoSysemu: true}},
	} {
		t.Run(b.name, func(t *testing.T) { f(t, b.cfg) })
	}
}
