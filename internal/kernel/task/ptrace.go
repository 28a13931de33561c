package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Guest ptrace(2). A stop of a traced thread is a sleep of the goroutine that handles it, with the thread held, so the
// tracer can read and change it. For that the handlers of a traced thread run off the platform's tracer thread, and while
// its system calls are traced all of them stop (platform.Thread.Watch).

// traceState is the part of a thread that ptrace owns. Guarded by Kernel.mu unless said otherwise.
type traceState struct {
	traced  atomic.Bool // tracer != nil
	calls   atomic.Bool // PTRACE_SYSCALL: stop at every system call
	stopped atomic.Bool // stop != nil, for State
	tracer  *ThreadGroup
	cred    *cred.Cred // of who asked for it, for what execve may give
	seized  bool
	opts    uint32
	stop    *TraceStop // the stop that the thread is in, nil while it runs
	resume  traceResume
	nr      int32  // number of the call at an entry stop; the tracer may change it
	message uint64 // PTRACE_GETEVENTMSG
	execing bool   // see setExecing
}

// TraceStop is a stop that a tracer sees.
type TraceStop struct {
	// Code is the upper bits of the wait status: a signal, SIGTRAP|0x80 or SIGTRAP|event<<8.
	Code int32
	// Info is the siginfo, which the tracer may change.
	Info arch.Siginfo
	// Entry and Exit mark stops at a system call, with its arguments and its result.
	Entry, Exit bool
	Args        platform.Args
	Result      uint64
	// Seccomp marks an entry stop that a filter asked for, with its Data.
	Seccomp bool
	Data    uint32

	signal    bool // a signal that is about to be delivered
	reported  bool // wait has told of it
	listening bool // PTRACE_LISTEN
	ended     bool // the group stop that it shows has ended since
}

// traceResume is how a tracer lets a thread go on.
type traceResume struct {
	sig      unix.Signal
	step     bool
	detached bool // PTRACE_DETACH: sig counts although nobody traces the thread any more
}

// Tracer is the process that traces the thread, nil if there is none.
func (t *Task) Tracer() *ThreadGroup {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.tracer
}

// traceStop stops the thread for its tracer and returns what the tracer wants. ok is false if there is no tracer, or it
// ended before it was told of the stop.
func (t *Task) traceStop(s *TraceStop) (r traceResume, ok bool) {
	k := t.K
	k.mu.Lock()
	tr := t.trace.tracer
	if tr == nil || t.work.Load()&workExit != 0 {
		k.mu.Unlock()
		return r, false
	}
	t.trace.stop = s
	t.trace.resume = traceResume{}
	t.trace.stopped.Store(true)
	defer t.trace.stopped.Store(false)
	k.mu.Unlock()
	t.tellTracer(tr, arch.CLD_TRAPPED, s.Code&0x7f)
	th := t.Thread()
	th.Block()
	for {
		k.mu.Lock()
		done := t.trace.stop == nil
		if t.work.Load()&workExit != 0 {
			t.trace.stop, done = nil, true
		}
		r = t.trace.resume
		ok = r.detached || t.trace.tracer != nil || s.reported
		k.mu.Unlock()
		if done {
			return r, ok
		}
		<-t.token
	}
}

// tellTracer sends SIGCHLD for a stop and wakes a tracer that waits.
func (t *Task) tellTracer(tr *ThreadGroup, code, status int32) {
	a := tr.actions().get(unix.SIGCHLD)
	if a.Handler != arch.SIG_IGN && a.Flags&arch.SA_NOCLDSTOP == 0 {
		tr.SendSignal(arch.InfoChild(code, t.TID(), t.Cred().UID, status, 0, 0))
	}
	tr.childQ.Notify(wait.All)
}

// traceEvent is a stop for a PTRACE_EVENT_*, if the tracer asked for it.
func (t *Task) traceEvent(event int, opt uint32, message uint64) bool {
	k := t.K
	k.mu.Lock()
	want := t.trace.tracer != nil && t.trace.opts&opt != 0
	if want {
		t.trace.message = message
	}
	k.mu.Unlock()
	if !want {
		return false
	}
	t.traceStop(&TraceStop{Code: int32(unix.SIGTRAP) | int32(event)<<8, Info: trapInfo(t, int32(event)<<8|int32(unix.SIGTRAP))})
	return true
}

func trapInfo(t *Task, code int32) arch.Siginfo {
	i := arch.InfoKill(unix.SIGTRAP, t.PID(), t.Cred().UID)
	i.Code = code
	return i
}

// tracedCall runs a system call of a thread whose calls are traced: with a stop before and one after it.
func (t *Task) tracedCall(th platform.Thread, nr platform.Sysno, a *platform.Args) platform.Return {
	code := t.callStopCode()
	t.K.mu.Lock()
	t.trace.nr = nr
	t.K.mu.Unlock()
	t.traceStop(&TraceStop{Code: code, Info: trapInfo(t, code), Entry: true, Args: *a})
	changed, again := t.changedCall(th, &nr, a)
	t.lastNr.Store(nr)
	t.then = after{}
	v, err := changed.value, changed.err
	if again {
		v, err = t.call(th, nr, a)
	}
	if err == errExeced {
		return platform.Return{Action: platform.Dead}
	}
	if t.then.set && t.then.action == platform.HostExit {
		t.traceEvent(unix.PTRACE_EVENT_EXIT, unix.PTRACE_O_TRACEEXIT, uint64(t.exitCode))
	}
	ret := t.leave(th, nr, v, err)
	if ret.Action == platform.HostExit || ret.Action == platform.Dead || !t.trace.calls.Load() {
		return t.stepReturn(th, ret)
	}
	if !t.where.CompareAndSwap(inUser, inKernel) {
		return platform.Return{Action: platform.Dead}
	}
	if r, rerr := th.Regs(); rerr == nil {
		if !t.then.set || t.then.action != platform.Keep {
			next := *r
			next.Rax = ret.Value
			if t.restart.code != 0 {
				next.Rax = uint64(-int64(t.restart.code))
			}
			th.SetRegs(&next)
		}
		t.traceStop(&TraceStop{Code: t.callStopCode(), Info: trapInfo(t, code), Exit: true, Result: r.Rax})
	}
	ret = t.finish(platform.Return{Action: platform.Keep}, true)
	if r, err := th.Regs(); err == nil && ret.Action == platform.Keep && t.stepping() {
		ret = platform.Return{Value: r.Rax}
	}
	return t.stepReturn(th, ret)
}

// stepReturn makes the end of a held call execute one instruction only, if the tracer wants that.
func (t *Task) stepReturn(th platform.Thread, ret platform.Return) platform.Return {
	if ret.Action == platform.Resume && t.stepping() {
		th.ResumeStep()
		ret.Action = platform.Hold
	}
	return ret
}

func (t *Task) callStopCode() int32 {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	if t.trace.opts&unix.PTRACE_O_TRACESYSGOOD != 0 {
		return int32(unix.SIGTRAP) | 0x80
	}
	return int32(unix.SIGTRAP)
}

// traceSignal shows a signal to the tracer before it is delivered. The result is what to deliver; Signo 0 is nothing.
func (t *Task) traceSignal(info arch.Siginfo) arch.Siginfo {
	if !t.trace.traced.Load() || unix.Signal(info.Signo) == unix.SIGKILL {
		return info
	}
	s := &TraceStop{Code: info.Signo, Info: info, signal: true}
	r, ok := t.traceStop(s)
	if !ok {
		return info
	}
	switch {
	case r.sig == 0:
		return arch.Siginfo{}
	case int32(r.sig) != s.Info.Signo:
		return arch.InfoKill(r.sig, 0, 0)
	}
	return s.Info
}

// traceGroupStop stops a traced thread for a group stop, until its tracer lets it go.
func (t *Task) traceGroupStop(sig unix.Signal) {
	t.K.mu.Lock()
	seized := t.trace.seized
	t.K.mu.Unlock()
	s := &TraceStop{Code: int32(sig)}
	if seized {
		s.Code |= unix.PTRACE_EVENT_STOP << 8
	}
	t.traceStop(s)
}

// seized reports whether the tracer used PTRACE_SEIZE.
func (t *Task) seized() bool {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.seized
}

// nativeCall stops a thread whose calls are traced at a call that the host carries out by itself.
func (t *Task) nativeCall(th platform.Thread, ev *platform.Event) {
	if !t.trace.calls.Load() {
		return
	}
	r, err := th.Regs()
	if err != nil {
		return
	}
	code := t.callStopCode()
	s := &TraceStop{Code: code, Info: trapInfo(t, code)}
	if ev.Kind == platform.SyscallEntry {
		t.K.mu.Lock()
		t.trace.nr = arch.Sysno(r)
		t.K.mu.Unlock()
		t.lastNr.Store(arch.Sysno(r))
		s.Entry, s.Args = true, platform.Args(arch.SysArgs(r))
	} else {
		s.Exit, s.Result = true, r.Rax
	}
	t.traceStop(s)
}

// stepping reports whether the thread is to execute one instruction.
func (t *Task) stepping() bool {
	if !t.trace.traced.Load() {
		return false
	}
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.resume.step
}

// linkTracerLocked makes tr the tracer of t, by the will of somebody with credentials c.
func (t *Task) linkTracerLocked(tr *ThreadGroup, c *cred.Cred, seized bool, opts uint32) {
	t.trace.tracer, t.trace.cred, t.trace.seized, t.trace.opts = tr, c, seized, opts
	t.trace.traced.Store(true)
	if tr.tracees == nil {
		tr.tracees = map[*Task]bool{}
	}
	tr.tracees[t] = true
}

// unlinkTracerLocked ends tracing and lets the thread go on.
func (t *Task) unlinkTracerLocked() {
	if t.trace.tracer == nil {
		return
	}
	delete(t.trace.tracer.tracees, t)
	t.trace.tracer = nil
	t.trace.traced.Store(false)
	t.trace.calls.Store(false)
	if t.where.Load() != gone {
		t.updateWatch()
	}
	if t.trace.stop != nil {
		t.trace.stop = nil
		t.Wake()
	}
	if g := t.Group; g.dead && g.leader == t && !g.reaped {
		if told := t.K.zombieLocked(g); told != nil {
			go told()
		}
	}
}

// TraceMe implements PTRACE_TRACEME.
func (t *Task) TraceMe() error {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	if t.trace.tracer != nil || t.Group.parent == nil {
		return unix.EPERM
	}
	t.linkTracerLocked(t.Group.parent, t.Cred(), false, 0)
	return nil
}

// Attach implements PTRACE_ATTACH and PTRACE_SEIZE.
func (t *Task) Attach(x *Task, seize bool, opts uint32) error {
	if x.Group == t.Group || x.PID() == 1 && !t.Cred().Capable(unix.CAP_SYS_PTRACE) {
		return unix.EPERM
	}
	t.K.mu.Lock()
	if x.trace.execing {
		t.K.mu.Unlock()
		return abi.ERESTARTNOINTR // try again
	}
	if err := t.CanPtrace(x); err != nil {
		t.K.mu.Unlock()
		return err
	}
	if x.trace.tracer != nil || x.where.Load() == gone {
		t.K.mu.Unlock()
		return unix.EPERM
	}
	if x.Thread().HostTID() == 0 {
		t.K.mu.Unlock()
		return unix.EPERM // the kernel's own
	}
	x.linkTracerLocked(t.Group, t.Cred(), seize, opts)
	t.K.mu.Unlock()
	// A thread that job control has stopped goes over into a stop for its tracer.
	x.Group.sigMu.Lock()
	if x.isStopped {
		x.isStopped, x.stopWanted = false, true
		x.Group.stopCount++
		x.releaseHeld()
	}
	x.Group.sigMu.Unlock()
	if !seize {
		x.Group.send(x, arch.InfoKill(unix.SIGSTOP, 0, 0), true)
	}
	return nil
}

// Tracee is the thread with an id that the caller's process traces; ESRCH. stopped demands that it is in a stop.
func (t *Task) Tracee(tid int32, stopped bool) (*Task, error) {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	x := t.K.pids[tid]
	if x == nil || x.trace.tracer != t.Group {
		return nil, unix.ESRCH
	}
	if stopped && (x.trace.stop == nil || x.trace.stop.listening) {
		return nil, unix.ESRCH
	}
	return x, nil
}

// CurrentStop is the stop that a tracee is in. The tracer may read and change its Info.
func (t *Task) CurrentStop() *TraceStop {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.stop
}

// TraceResume lets a stopped tracee go on with a signal. calls: stop at the next system call; step: after one instruction.
func (t *Task) TraceResume(sig unix.Signal, calls, step bool) error {
	if sig < 0 || sig > arch.NSIG {
		return unix.EIO
	}
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	if t.trace.stop == nil {
		return unix.ESRCH
	}
	t.trace.calls.Store(calls)
	t.updateWatch()
	t.trace.resume = traceResume{sig: sig, step: step}
	t.trace.stop = nil
	t.Wake()
	return nil
}

// TraceDetach implements PTRACE_DETACH.
func (t *Task) TraceDetach(sig unix.Signal) error {
	if sig < 0 || sig > arch.NSIG {
		return unix.EIO
	}
	t.K.mu.Lock()
	s := t.trace.stop
	shown := s != nil && s.signal // traceSignal delivers what the tracer wants instead
	t.trace.resume = traceResume{sig: sig, detached: true}
	t.unlinkTracerLocked()
	t.K.mu.Unlock()
	if sig != 0 && !shown {
		t.SendSignal(arch.InfoKill(sig, 0, 0))
	}
	return nil
}

// TraceInterrupt implements PTRACE_INTERRUPT.
func (t *Task) TraceInterrupt() {
	g := t.Group
	g.sigMu.Lock()
	t.stopWanted, t.traceInterrupt = true, true
	t.work.Or(workSignal)
	g.sigMu.Unlock()
	t.kick()
}

// TraceListen implements PTRACE_LISTEN.
func (t *Task) TraceListen() error {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	if t.trace.stop == nil || !t.trace.seized || t.trace.stop.Code>>8 != unix.PTRACE_EVENT_STOP {
		return unix.EIO
	}
	t.trace.stop.listening = true
	if t.trace.stop.ended {
		go t.endListen()
	}
	return nil
}

// endListen makes a tracee that listens in a group stop (PTRACE_LISTEN) stop anew, since the group stop has ended.
func (t *Task) endListen() {
	t.K.mu.Lock()
	again := false
	if s := t.trace.stop; s != nil {
		s.ended = true
		if again = s.listening; again {
			t.trace.stop = nil
		}
	}
	t.K.mu.Unlock()
	if again {
		t.TraceInterrupt()
	}
}

// SetTraceOptions implements PTRACE_SETOPTIONS; TraceMessage PTRACE_GETEVENTMSG.
func (t *Task) SetTraceOptions(o uint32) {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	t.trace.opts = o
}

// TraceMessage is PTRACE_GETEVENTMSG.
func (t *Task) TraceMessage() uint64 {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.message
}

// TraceNr is the number of the call at an entry stop; SetTraceNr changes it.
func (t *Task) TraceNr() int32 {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.nr
}

// SetTraceNr changes the number of the call that a tracee is about to make.
func (t *Task) SetTraceNr(nr int32) {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	t.trace.nr = nr
}

// traceChild makes a new child traced as its parent is, if the options say so. It returns the event to report.
func (t *Task) traceChildLocked(c *Task, fl uint64, exitSignal uint64) (event int) {
	opt := uint32(0)
	switch {
	case fl&unix.CLONE_VFORK != 0:
		event, opt = unix.PTRACE_EVENT_VFORK, unix.PTRACE_O_TRACEVFORK
	case exitSignal == uint64(unix.SIGCHLD):
		event, opt = unix.PTRACE_EVENT_FORK, unix.PTRACE_O_TRACEFORK
	default:
		event, opt = unix.PTRACE_EVENT_CLONE, unix.PTRACE_O_TRACECLONE
	}
	if t.trace.tracer == nil || t.trace.opts&opt == 0 && fl&unix.CLONE_PTRACE == 0 || fl&unix.CLONE_UNTRACED != 0 {
		return 0
	}
	c.linkTracerLocked(t.trace.tracer, t.trace.cred, t.trace.seized, t.trace.opts)
	if t.trace.opts&opt == 0 {
		return 0
	}
	return event
}

func traceEventOption(event int) uint32 { return 1 << uint(event) }

// startTraced makes a new traced child begin with a stop.
func (t *Task) startTraced() {
	if t.trace.seized {
		t.TraceInterrupt()
		return
	}
	t.Group.send(t, arch.InfoKill(unix.SIGSTOP, 0, 0), true)
}

// exitTracerLocked lets the tracees of a process that ends go, or kills them (PTRACE_O_EXITKILL).
func (g *ThreadGroup) exitTracerLocked() (kill []*ThreadGroup) {
	for t := range g.tracees {
		if t.trace.opts&unix.PTRACE_O_EXITKILL != 0 {
			kill = append(kill, t.Group)
		}
		t.unlinkTracerLocked()
	}
	return kill
}

// traceWaitLocked looks for a tracee that wait(2) has something to tell about. any: there is one that matches.
func (g *ThreadGroup) traceWaitLocked(s *WaitSpec) (res WaitResult, found, any bool) {
	for t := range g.tracees {
		if s.PID > 0 && t.TID() != s.PID || s.Pgrp > 0 && (t.Group.pgrp == nil || t.Group.pgrp.id != s.Pgrp) {
			continue
		}
		any = true
		res = WaitResult{PID: t.TID(), UID: t.Cred().UID}
		if t.where.Load() == gone && (t.Group.leader != t || t.Group.dead) && t.exitSeen.Load() {
			if s.Options&unix.WEXITED == 0 {
				continue
			}
			if t.Group.leader == t && t.Group.parent == g {
				any = false
				continue // it is told of as a child
			}
			res.Status = t.exitCode
			if t.Group.leader == t {
				res.Status = t.Group.exitCode
			}
			res.Code, res.Info = exitInfo(res.Status)
			if s.Options&unix.WNOWAIT == 0 {
				t.trace.tracer = nil
				t.trace.traced.Store(false)
				delete(g.tracees, t)
				if t.Group.leader == t {
					if told := g.k.zombieLocked(t.Group); told != nil {
						go told() // the parent's turn
					}
				}
			}
			return res, true, true
		}
		if st := t.trace.stop; st != nil && !st.reported {
			if s.Options&unix.WNOWAIT == 0 {
				st.reported = true
			}
			res.Status = st.Code<<8 | 0x7f
			res.Code, res.Info = arch.CLD_TRAPPED, st.Code
			return res, true, true
		}
	}
	return res, false, any
}
