package skas

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// Restart codes that the host leaves in rax at a stop after an interrupted call; include/linux/errno.h of the host.
const (
	eRestartSys    = -512
	eRestartNoIntr = -513
	eRestartBlock  = -516

	sigtrapSyscall   = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD
	syscallInsnBytes = 2
)

// handle deals with one event of wait4.
func (s *shard) handle(e *event) {
	t := s.p.threads.get(e.tid)
	if t == nil || t.s != s {
		s.handleFamily(e)
		return
	}
	if !e.ws.Stopped() {
		s.exited(t, e)
		return
	}
	sig := e.ws.StopSignal()
	switch ev := stopEvent(e.ws); {
	case ev == unix.PTRACE_EVENT_SECCOMP:
		s.callStop(t)
	case ev != 0:
		s.kickStop(t)
	case sig == sigtrapSyscall:
		s.syscallStop(t)
	case sig == kickSignal:
		s.kickStop(t)
	case sig == unix.SIGSEGV || sig == unix.SIGBUS || sig == unix.SIGFPE || sig == unix.SIGILL || sig == unix.SIGTRAP ||
		sig == unix.SIGSYS:
		s.faultStop(t, sig)
	default:
		// Somebody on the host sends signals to stubs: that is not for guests to see.
		t.goOn()
	}
}

// handleFamily is handle for the ends of zygote and keeper, and for stubs without a guest thread.
func (s *shard) handleFamily(e *event) {
	if e.ws.Stopped() {
		unix.Kill(e.tid, unix.SIGKILL) // born while its creator was killed
		return
	}
	delete(s.poolTids, e.tid)
	if e.tid == s.fam.zygote || e.tid == s.fam.keeper {
		if !s.p.closing.Load() {
			s.p.cfg.Logf("skas: a host process of the platform was killed from outside\n")
		}
	}
}

// exited ends a thread.
func (s *shard) exited(t *Thread, e *event) {
	s.bury(t)
	s.p.handler.Exited(t, e.ws, e.ru)
}

// bury forgets a thread that the host has no more.
func (s *shard) bury(t *Thread) {
	t.mu.Lock()
	t.state = dead
	t.mu.Unlock()
	s.p.freeSlot(t)
	delete(s.poolTids, t.tid)
	s.p.threads.remove(t)
	t.as.remove(t.proc.tgid, t.tid)
	if t.proc.threads.Add(-1) == 0 {
		s.p.idle.died(t.proc)
	}
	s.threads.Add(-1)
}

// takeStopped takes possession of a thread that has just stopped and reads its registers. It fails if the thread has been
// killed meanwhile; then its end will follow.
func (t *Thread) takeStopped(kind stopKind) bool {
	t.stop, t.dirty = kind, false
	if ptraceGetRegs(t.tid, &t.regs) != nil {
		return false
	}
	t.leaveRoutine()
	if t.trapFlag {
		t.trapFlag = false
		t.regs.Eflags &^= eflagsTrap
		t.dirty = true
	}
	return true
}

// callStop is a system call in the trace lane.
func (s *shard) callStop(t *Thread) {
	if !t.takeStopped(stopCall) {
		return
	}
	t.mu.Lock()
	t.state, t.handling, t.resumeWanted = stopped, true, false
	t.mu.Unlock()
	r := &t.regs
	t.nr = int32(r.Orig_rax)
	t.args = platform.Args{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
	if s.fam.listener >= 0 && isTimedWait(r) {
		s.timedWait(t)
		return
	}
	s.runCallHandler(t, true)
}

// runCallHandler asks the kernel about the trace-lane call that t is held at.
func (s *shard) runCallHandler(t *Thread, onTracer bool) {
	t.onTracer = onTracer
	ret := s.p.handler.Syscall(t, t.nr, &t.args)
	t.onTracer = false
	if onTracer {
		if ret.Action == platform.Offload {
			go s.runCallHandler(t, false)
			return
		}
		s.finishCall(t, ret)
		return
	}
	s.post(func() { s.finishCall(t, ret) })
}

// finishCall gives a held thread the result of its call.
func (s *shard) finishCall(t *Thread, ret platform.Return) {
	switch ret.Action {
	case platform.Dead, platform.Offload:
		return
	case platform.HostExit:
		t.letRun = isExit(t.nr)
	case platform.Keep:
	default:
		t.regs.Rax, t.regs.Orig_rax = ret.Value, noCall
		t.dirty = true
	}
	t.mu.Lock()
	t.handling = false
	if ret.Action == platform.Stop {
		t.kicked = true
	}
	if ret.Action == platform.Hold && !t.resumeWanted {
		t.mu.Unlock()
		return
	}
	t.resumeWanted = false
	t.mu.Unlock()
	s.resume(t)
}

// kickStop is a stop that we asked for.
func (s *shard) kickStop(t *Thread) {
	t.mu.Lock()
	t.signalled = false
	if t.state == calling {
		// Park transfer; or a host without WAIT_KILLABLE_RECV, where a signal takes the thread out of a received
		// notification. Either way the answer will be given here.
		t.transferred, t.parked = true, true
		finished := t.finished
		t.mu.Unlock()
		if t.takeStopped(stopOther) && finished {
			s.finishParked(t)
		}
		return
	}
	fix, value := t.fix, t.fixValue
	if t.kept {
		fix, value = true, t.result.Value
	}
	t.fix, t.kept = false, false
	what := t.after
	t.after = afterNothing
	t.state, t.handling = stopped, false
	t.mu.Unlock()
	t.approved = false
	if !t.takeStopped(stopOther) {
		return
	}
	r := &t.regs
	if r.Orig_rax != noCall {
		switch {
		case fix:
			// The call is over. Hosts that restart codes mean something to, and hosts that forgot the answer, are told so.
			t.dirty = r.Rax != value || int64(value) <= eRestartSys && int64(value) >= eRestartBlock
			r.Rax, r.Orig_rax = value, noCall
		case int64(r.Rax) == eRestartSys && !nativeFutex(r):
			// The notification was never received: the call has not happened. Show it as not yet made.
			r.Rip -= syscallInsnBytes
			r.Rax = uint64(uint32(r.Orig_rax))
			r.Orig_rax = noCall
			t.dirty = true
		}
	}
	s.settle(t, what)
}

// settle decides what a thread does that stopped because of a kick, a Stop or a Hold action.
func (s *shard) settle(t *Thread, what after) {
	t.mu.Lock()
	if what == afterKick {
		t.kicked = true
	}
	if what == afterHold && !t.resumeWanted {
		t.mu.Unlock()
		return
	}
	t.resumeWanted = false
	t.mu.Unlock()
	s.resume(t)
}

// finishParked gives a thread in a ptrace stop the result of its notify-lane call.
func (s *shard) finishParked(t *Thread) {
	t.mu.Lock()
	if t.state != calling {
		t.mu.Unlock()
		return
	}
	ret := t.result
	t.transferred, t.parked, t.finished = false, false, false
	t.state = stopped
	t.fix = false
	t.mu.Unlock()
	t.regs.Rax, t.regs.Orig_rax = ret.Value, noCall
	t.dirty = true
	switch ret.Action {
	case platform.Dead:
		return
	case platform.HostExit:
		// The call is not pending any more: it is made once more, and answered without asking the kernel.
		t.mu.Lock()
		t.exiting = true
		t.mu.Unlock()
		t.letRun = isExit(t.nr)
		s.resume(t)
	case platform.Stop:
		s.settle(t, afterKick)
	case platform.Hold:
		s.settle(t, afterHold)
	default:
		s.settle(t, afterNothing)
	}
}

// faultStop is a CPU exception, or a signal of that number from outside.
func (s *shard) faultStop(t *Thread, sig unix.Signal) {
	var si siginfo
	if ptraceGetSiginfo(t.tid, &si) != nil {
		return
	}
	if si.code <= 0 { // SI_USER, SI_TKILL and the like: not a fault
		t.goOn()
		return
	}
	if !t.takeStopped(stopOther) {
		return
	}
	if nr := int32(t.regs.Orig_rax); sig == unix.SIGILL && si.code == siKernel && (nr == sysUretprobe || nr == sysUprobe) {
		// The host lets these through every filter (since Linux 6.14) and refuses them with a signal.
		t.regs.Rax, t.regs.Orig_rax = entryRax, noCall
		_ = ptraceSetRegs(t.tid, &t.regs)
		t.goOn()
		return
	}
	t.approved = false
	t.mu.Lock()
	t.state, t.resumeWanted = stopped, false
	stepping := t.step
	t.step = false
	t.mu.Unlock()
	t.ev = platform.Event{Kind: platform.Fault, Signal: sig, Code: si.code, Addr: si.addr}
	switch {
	case sig == unix.SIGSYS:
		t.ev.Kind = platform.BadArch
	case sig == unix.SIGTRAP && stepping && si.code == trapTrace:
		t.ev = platform.Event{Kind: platform.Step}
	default:
		t.describeFault()
	}
	s.runStopHandler(t, true)
}

const (
	trapTrace = 2    // TRAP_TRACE, sigaction(2)
	siKernel  = 0x80 // SI_KERNEL

	sysUretprobe = 335
	sysUprobe    = 336
)

// runStopHandler tells the kernel about t.ev.
func (s *shard) runStopHandler(t *Thread, onTracer bool) {
	t.mu.Lock()
	t.handling = true
	t.mu.Unlock()
	t.onTracer = onTracer
	act := s.p.handler.Stop(t, &t.ev)
	t.onTracer = false
	if onTracer {
		if act == platform.Offload {
			go s.runStopHandler(t, false)
			return
		}
		s.finishStop(t, act)
		return
	}
	s.post(func() { s.finishStop(t, act) })
}

func (s *shard) finishStop(t *Thread, act platform.Action) {
	t.mu.Lock()
	t.handling = false
	hold := act == platform.Dead || act == platform.Hold && !t.resumeWanted
	if !hold {
		t.resumeWanted = false
		if act == platform.Stop {
			t.kicked = true
		}
	}
	t.mu.Unlock()
	if !hold {
		s.resume(t)
	}
}

// resume lets a stopped thread run, unless it was kicked meanwhile.
func (s *shard) resume(t *Thread) {
	t.mu.Lock()
	if t.state != stopped {
		t.mu.Unlock()
		return
	}
	if s.frozen {
		t.mu.Unlock()
		s.heldBack = append(s.heldBack, t)
		return
	}
	if t.kicked && !t.letRun {
		t.kicked, t.step = false, false
		t.mu.Unlock()
		t.ev = platform.Event{Kind: platform.Kicked}
		s.runStopHandler(t, true)
		return
	}
	step := t.step
	t.state = running
	if t.kicked && !isExit(t.nr) {
		t.signalLocked() // of a wait that the host carries out
	}
	t.mu.Unlock()
	if t.letRun && t.stop != stopCall {
		// HostExit where the call is skipped already: it is made once more (and judged by letRun then).
		if !t.sentBack { // else a kick came first
			t.sentBack = true
			t.regs.Rip -= syscallInsnBytes
			t.regs.Rax, t.regs.Orig_rax, t.dirty = uint64(uint32(t.nr)), noCall, true
		}
	} else if t.stop == stopCall && !t.letRun {
		// Whatever the guest asked for, the host must not do it.
		t.regs.Orig_rax, t.dirty = noCall, true
	}
	if t.stop == stopEntry && t.regs.Orig_rax != noCall {
		s.approve(t)
		return
	}
	req := t.contRequest()
	switch {
	case step:
		req = t.stepRequest()
	case t.letRun && s.fam.listener < 0:
		req, t.redo = unix.PTRACE_SYSCALL, t.stop != stopCall
	case (t.stop == stopCall || t.stop == stopEntry) && s.fam.listener < 0:
		t.exitDue = req == unix.PTRACE_SYSCALL
	}
	if t.letRun && s.fam.listener >= 0 {
		t.letRun, t.sentBack = false, false
	}
	if t.dirty {
		t.dirty = false
		_ = ptraceSetRegs(t.tid, &t.regs)
	}
	t.request(req)
}

// isExit reports whether a call is one that HostExit may let the host carry out.
func isExit(nr int32) bool { return nr == unix.SYS_EXIT || nr == unix.SYS_EXIT_GROUP }

// Calls for futexes since Linux 5.16 and 6.7.
const (
	sysFutexWaitv   = 449
	sysFutexWake    = 454
	sysFutexWait    = 455
	sysFutexRequeue = 456
)

// nativeFutex reports whether r is in a futex call that the host carries out.
func nativeFutex(r *unix.PtraceRegs) bool {
	switch int32(r.Orig_rax) {
	case sysFutexWait, sysFutexWaitv:
		return true
	case unix.SYS_FUTEX:
	default:
		return false
	}
	switch uint32(r.Rsi) &^ (128 | 256) {
	case 0, 9: // WAIT, WAIT_BITSET
		return true
	}
	return false
}
