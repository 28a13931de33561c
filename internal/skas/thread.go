package skas

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// kickSignal makes a stub thread stop. It means nothing else: the tracer never lets a signal through to a stub.
const kickSignal = unix.SIGUSR1

// threadState is where a thread is.
type threadState uint8

const (
	running threadState = iota // guest code, a native call, or a notification that has not been received
	calling                    // a handler answers its notification
	stopped                    // in a ptrace stop: the tracer's, a handler's or a holder's
	dead
)

// stopKind is which ptrace stop a stopped thread is in.
type stopKind uint8

const (
	stopOther   stopKind = iota
	stopCall             // before a call that has not been executed: seccomp stop, or entry stop of the ptrace backend
	stopExit             // after a call
	stopFresh            // never ran
	stopWatched          // entry or exit of a native call of a watched thread
	stopEntry            // its entry, in the ptrace backend
)

// after is what to do at the next kick stop.
type after uint8

const (
	afterNothing after = iota
	afterKick
	afterHold
)

// process is a host process: threads that share descriptors, limits and the end.
type process struct {
	tgid    int
	threads atomic.Int32
	killed  atomic.Bool
	timer   cpuTimer
}

// Thread implements platform.Thread.
type Thread struct {
	p    *Platform
	s    *shard
	proc *process
	as   *addressSpace
	tid  int
	data any

	mu           sync.Mutex
	state        threadState
	kicked       bool // Kick was called and Stop(Kicked) has not been
	signalled    bool // kickSignal was sent and its stop has not been seen
	after        after
	resumeWanted bool // Resume came before the hold it ends
	handling     bool // a handler runs for this stop
	// The call in the notify lane, while state is calling.
	notifyID    uint64
	transferred bool // the notification has a dummy answer: the thread is in a ptrace stop or about to
	parked      bool // it is
	finished    bool // the handler returned; result is the answer of a transferred call
	result      platform.Return
	kept        bool  // the thread had left its call when the answer, result, came; it will make it again (worker.again)
	blockedAt   int64 // monotonic time of Block, 0 if it has not blocked
	// A kick was sent before an answer was: at the next stop rax must be fixValue, on hosts that then forget it too.
	fix      bool
	fixValue uint64
	// Injection: the tracer runs calls in this thread, which may raise notifications.
	injecting bool
	injectNr  int32
	exiting   bool // an exit call that a handler has allowed is made once more

	worker *worker // whose stack the notify handler runs on

	// Owned by whoever the stopped thread belongs to.
	regs     unix.PtraceRegs
	dirty    bool // regs must be written before the thread runs
	stop     stopKind
	nr       int32
	args     platform.Args
	onTracer bool
	step     bool
	letRun   bool // the pending call is to be executed by the host (HostExit)
	sentBack bool // it has been skipped, and the thread is before its instruction again
	// Of the tracer: the thread was resumed with SYSEMU; its next system call stop is the exit of a call that the host runs.
	// redo: it was sent back to its syscall instruction. trapFlag: TF is set for a single step.
	emulating, exitDue, redo, trapFlag bool
	// Of the ptrace backend, for a watched thread: the kernel has seen the entry of the native call that is about to be
	// made; it wants to see the exit of the one that runs.
	approved, showExit bool

	ev platform.Event

	// slot is one more than the number of the thread's futexSlot, 0 if it has none. Owned by whoever the stopped thread
	// belongs to.
	slot int

	watching atomic.Uint32 // a platform.Watching
	blocked  blockedLink
}

var _ platform.Thread = (*Thread)(nil)

// Data implements platform.Thread.
func (t *Thread) Data() any { return t.data }

// AddressSpace implements platform.Thread.
func (t *Thread) AddressSpace() platform.AddressSpace { return t.as }

// Held implements platform.Thread.
func (t *Thread) Held() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == stopped
}

// OnTracer implements platform.Thread.
func (t *Thread) OnTracer() bool { return t.onTracer }

// HostTID implements platform.Thread.
func (t *Thread) HostTID() int { return t.tid }

// Kick implements platform.Thread.
func (t *Thread) Kick() {
	t.mu.Lock()
	t.kicked = true
	if t.state == running {
		t.signalLocked()
	}
	t.mu.Unlock()
}

// signalLocked makes the host thread stop, whatever it does, except in a received notification.
func (t *Thread) signalLocked() {
	if !t.signalled {
		t.signalled = true
		tgkill(t.proc.tgid, t.tid, kickSignal)
	}
}

// Kill implements platform.Thread.
func (t *Thread) Kill() {
	if t.proc.threads.Load() > 0 {
		t.proc.killed.Store(true)
		_ = unix.Kill(t.proc.tgid, unix.SIGKILL)
	}
}

// Watch implements platform.Thread.
func (t *Thread) Watch(w platform.Watching) { t.watching.Store(uint32(w)) }

// watched reports whether native calls stop.
func (t *Thread) watched() bool { return platform.Watching(t.watching.Load()) != platform.WatchNone }

// Regs implements platform.Thread.
func (t *Thread) Regs() (*arch.Regs, error) {
	if t.isDead() {
		return nil, unix.ESRCH
	}
	return &t.regs, nil
}

func (t *Thread) isDead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == dead
}

// SetRegs implements platform.Thread. The segment registers and the call number are not the caller's to choose: a code
// segment of 32-bit code would leave the rules of the filter, and a thread whose registers were set is in no call.
func (t *Thread) SetRegs(r *arch.Regs) error {
	if t.isDead() {
		return unix.ESRCH
	}
	if r != &t.regs {
		t.regs = *r
	}
	t.regs.Cs, t.regs.Ss = userCS, userSS
	t.regs.Orig_rax = noCall
	t.dirty = true
	return nil
}

const (
	userCS = 0x33
	userSS = 0x2b
	// flagsDefault is a fresh thread's EFLAGS: interrupts on, and the bit that is always set.
	flagsDefault = 0x202
	// noCall in orig_rax: the thread is not in a system call.
	noCall = ^uint64(0)
)

// xstateMax is more than any XSAVE area of today's processors.
const xstateMax = 16 << 10

// FPState implements platform.Thread.
func (t *Thread) FPState() ([]byte, error) {
	size := int(t.p.xstateSize.Load())
	if size == 0 {
		size = xstateMax
	}
	p := make([]byte, size)
	err := t.s.do(t, func() error {
		n, err := ptraceGetXState(t.tid, p)
		p = p[:n]
		return err
	})
	if err != nil {
		return nil, err
	}
	t.p.xstateSize.Store(int32(len(p)))
	return p, nil
}

// SetFPState implements platform.Thread.
func (t *Thread) SetFPState(p []byte) error {
	if len(p) == 0 {
		return unix.EINVAL
	}
	return t.s.do(t, func() error { return ptraceSetXState(t.tid, p) })
}

// userDebugRegs is where the debug registers are in struct user (sys/user.h).
const userDebugRegs = 848

// DebugReg implements platform.Thread.
func (t *Thread) DebugReg(n int) (v uint64, err error) {
	if n < 0 || n > 7 {
		return 0, unix.EIO
	}
	err = t.s.do(t, func() (err error) {
		v, err = ptracePeekUser(t.tid, userDebugRegs+8*uintptr(n))
		return err
	})
	return v, err
}

// SetDebugReg implements platform.Thread. The host's own check keeps breakpoints out of its kernel.
func (t *Thread) SetDebugReg(n int, v uint64) error {
	if n < 0 || n > 7 {
		return unix.EIO
	}
	if n < 4 && v >= userMax {
		return unix.EINVAL
	}
	return t.s.do(t, func() error { return ptrace(unix.PTRACE_POKEUSR, t.tid, userDebugRegs+8*uintptr(n), uintptr(v)) })
}

// Syscall implements platform.Thread.
func (t *Thread) Syscall(nr platform.Sysno, a platform.Args) (v uint64, err error) {
	err = t.s.do(t, func() (err error) {
		v, err = t.runCall(nr, a)
		return err
	})
	return v, err
}

// CompareAndSwap32 implements platform.Thread: it lets the thread itself run a cmpxchg.
func (t *Thread) CompareAndSwap32(addr uint64, old, new uint32) (uint32, error) {
	if addr >= userMax-3 {
		return 0, unix.EFAULT
	}
	var was uint32
	err := t.s.do(t, func() error {
		r := t.regs
		r.Rip, r.Orig_rax = routine(routineCAS), noCall
		r.Rax, r.Rcx, r.Rdi = uint64(old), uint64(new), addr
		err := t.runRoutine(&r)
		was = uint32(r.Rax)
		return err
	})
	return was, err
}

// Resume implements platform.Thread.
func (t *Thread) Resume() { t.release(false) }

// ResumeStep implements platform.Thread.
func (t *Thread) ResumeStep() { t.release(true) }

func (t *Thread) release(step bool) {
	t.mu.Lock()
	if t.state == dead {
		t.mu.Unlock()
		return
	}
	t.step = step
	if t.handling || t.state != stopped {
		t.resumeWanted = true
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.s.post(func() { t.s.resume(t) })
}
