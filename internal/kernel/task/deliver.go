package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// userWork does what has to be done before the held thread runs guest code: it ends, stops, or handles signals.
func (t *Task) userWork(th platform.Thread) platform.Action {
	g := t.Group
	for {
		t.work.And(^uint32(workCall))
		if t.watched() != platform.WatchNone {
			t.updateWatch()
		}
		for len(t.held) > 0 {
			f := t.held[0]
			t.held = t.held[1:]
			f(th)
		}
		g.sigMu.Lock()
		if t.joinDumpLocked() {
			return platform.Hold
		}
		if g.exiting || t.work.Load()&workExit != 0 {
			g.sigMu.Unlock()
			return t.dieHeld(th)
		}
		if t.stopWanted {
			if t.trace.traced.Load() {
				sig, interrupt := g.groupStopSg, t.traceInterrupt
				t.traceInterrupt = false
				if !g.groupStop {
					sig = unix.SIGTRAP
				}
				if joined := t.joinStopLocked(); joined || interrupt {
					t.traceGroupStop(sig)
					t.leaveStop()
				}
				continue
			}
			if t.joinStopLocked() {
				return platform.Hold
			}
			continue // unlocked by joinStopLocked
		}
		if t.freezeWanted {
			t.joinFreezeLocked()
			return platform.Hold
		}
		info, ok := t.dequeueLocked(^t.blocked)
		if !ok {
			t.recalcLocked()
			t.noHandlerLocked()
			g.sigMu.Unlock()
			t.restartCall(th)
			return platform.Resume
		}
		g.sigMu.Unlock()
		t.timerTaken(&info)
		if info = t.traceSignal(info); info.Signo == 0 {
			continue
		}
		if act, done := t.deliver(th, &info); done {
			return act
		}
	}
}

// deliver carries out one signal's action. done: the thread's fate is decided.
func (t *Task) deliver(th platform.Thread, info *arch.Siginfo) (act platform.Action, done bool) {
	g := t.Group
	sig := unix.Signal(info.Signo)
	g.sigMu.Lock()
	g.actions().mu.Lock()
	a := g.actions().a[sig]
	if a.Handler > arch.SIG_IGN && a.Flags&arch.SA_RESETHAND != 0 {
		g.actions().a[sig].Handler = arch.SIG_DFL
	}
	g.actions().mu.Unlock()
	switch {
	case sig == unix.SIGKILL:
		g.sigMu.Unlock()
		g.exit(int32(sig))
		return t.dieHeld(th), true
	case a.Handler == arch.SIG_IGN:
		g.sigMu.Unlock()
		return 0, false
	case a.Handler != arch.SIG_DFL:
		mask := t.blocked
		if t.restoreMask {
			mask, t.restoreMask = t.saved, false
		}
		blocked := t.blocked | a.Mask
		if a.Flags&arch.SA_NODEFER == 0 {
			blocked |= arch.SigBit(sig)
		}
		g.sigMu.Unlock()
		if err := t.pushFrame(th, info, &a, mask); err != nil {
			// No room for the frame: SIGSEGV, deadly if it is SIGSEGV itself that found none.
			if sig == unix.SIGSEGV {
				g.actions().mu.Lock()
				g.actions().a[sig].Handler = arch.SIG_DFL
				g.actions().mu.Unlock()
			}
			t.force(arch.InfoKernel(unix.SIGSEGV))
			return 0, false
		}
		g.sigMu.Lock()
		t.setBlockedLocked(blocked)
		g.sigMu.Unlock()
		return 0, false
	case sigIgnore.Has(sig), g.unkillable() && !t.forced:
		g.sigMu.Unlock()
		return 0, false
	case sigStop.Has(sig):
		g.sigMu.Unlock()
		if sig != unix.SIGSTOP && t.PgrpOrphaned() {
			return 0, false
		}
		g.sigMu.Lock()
		// A SIGCONT that came since has taken the stop back.
		if g.exiting || (g.shared.set | t.pending.set).Has(unix.SIGCONT) || (g.shared.set | t.pending.set).Has(unix.SIGKILL) {
			g.sigMu.Unlock()
			return 0, false
		}
		g.startStopLocked(sig)
		g.sigMu.Unlock()
		return 0, false
	}
	g.sigMu.Unlock()
	code := int32(sig)
	if t.PID() == 1 {
		t.K.Panic("Attempted to kill init! exitcode=0x" + hex8(uint32(code)))
	}
	if sigCore.Has(sig) && t.coreDeath(th, info) {
		return platform.Hold, true
	}
	g.exit(code)
	return t.dieHeld(th), true
}

// pushFrame starts a handler: it saves the thread's state in a signal frame and points it at the handler.
func (t *Task) pushFrame(th platform.Thread, info *arch.Siginfo, a *arch.Sigaction, mask arch.SigSet) error {
	r, err := th.Regs()
	if err != nil {
		return err
	}
	t.interruptedCall(r, a)
	fp, err := th.FPState()
	if err != nil {
		return err
	}
	l := t.K.FPLayout(fp)
	frame, addr, next, err := arch.BuildFrame(&arch.FrameInput{
		Regs: r, FP: fp, Layout: l, Info: info, Action: a, Mask: mask, Stack: t.altstack,
		Err: t.faultErr, Trapno: t.faultTrapno, CR2: t.faultAddr,
	})
	if err != nil {
		return err
	}
	if err := uio.WriteFull(t.Mem(), frame, addr); err != nil {
		return err
	}
	if t.altstack.Flags&arch.SS_AUTODISARM != 0 {
		t.altstack = arch.SigStack{}
	}
	if err := th.SetFPState(l.Init()); err != nil {
		return err
	}
	return th.SetRegs(&next)
}

// interruptedCall decides what an interrupted system call returns when a handler with action a runs.
func (t *Task) interruptedCall(r *arch.Regs, a *arch.Sigaction) {
	t.resume = 0
	code, nr := t.interruptedIn(r)
	if code == 0 {
		return
	}
	restart := false
	switch code {
	case abi.ERESTARTNOINTR:
		restart = true
	case abi.ERESTARTSYS:
		restart = a.Flags&arch.SA_RESTART != 0
	}
	if restart {
		arch.Restart(r, nr)
	} else {
		arch.SetResult(r, abi.Result(0, unix.EINTR))
		t.restartFn = nil
	}
}

// interruptedIn tells which call r shows as interrupted, if any, and with which code: one of the kernel's, or one that the
// host was carrying out. It counts only once.
func (t *Task) interruptedIn(r *arch.Regs) (code unix.Errno, nr int32) {
	if t.restart.code != 0 {
		code, nr = t.restart.code, t.restart.nr
		t.restart = restartInfo{}
		return code, nr
	}
	if !arch.InSyscall(r) {
		return 0, 0
	}
	e := unix.Errno(-int64(r.Rax))
	if t.atEntry && e == unix.ENOSYS {
		t.atEntry = false
		return abi.ERESTARTNOINTR, arch.Sysno(r) // it has not happened yet
	}
	if e < abi.ERESTARTSYS || e > abi.ERESTART_RESTARTBLOCK {
		return 0, 0
	}
	nr = arch.Sysno(r)
	if nr != unix.SYS_FUTEX && nr != unix.SYS_RESTART_SYSCALL && nr != sysFutexWait && nr != sysFutexWaitv {
		// The call was interrupted before the kernel had seen it: it never happened.
		return abi.ERESTARTNOINTR, nr
	}
	return e, nr
}

const (
	sysFutexWaitv = 449
	sysFutexWait  = 455
)

// restartCall is what becomes of an interrupted call when no handler runs: it is executed again.
func (t *Task) restartCall(th platform.Thread) {
	if t.restart.code == 0 {
		return // the host restarts its own calls by itself
	}
	r, err := th.Regs()
	if err != nil {
		return
	}
	nr := t.restart.nr
	if t.restart.code == abi.ERESTART_RESTARTBLOCK {
		// Not restart_syscall, which is the host's, for its own calls: the same call, which then goes on.
		t.resume = nr + 1
	}
	t.restart = restartInfo{}
	arch.Restart(r, nr)
	th.SetRegs(r)
}

// noHandlerLocked puts back a mask that sigsuspend or ppoll had replaced, when no handler ran.
func (t *Task) noHandlerLocked() {
	if t.restoreMask {
		t.restoreMask = false
		t.setBlockedLocked(t.saved)
	}
}

// Sigreturn implements rt_sigreturn(2) for a held thread.
func (t *Task) Sigreturn() {
	th := t.Thread()
	t.Then(platform.Keep)
	if r, err := th.Regs(); err == nil {
		var l *arch.FPLayout
		if l = t.K.fpLayout.Load(); l == nil {
			if fp, err := th.FPState(); err == nil {
				l = t.K.FPLayout(fp)
			}
		}
		f, err := arch.ParseFrame(t.Mem(), r, l)
		if err == nil && th.SetFPState(f.FP) == nil && th.SetRegs(&f.Regs) == nil {
			t.altstack.Set(f.Stack, f.Regs.Rsp, arch.MINSIGSTKSZ)
			t.SetSigmask(f.Mask)
			return
		}
	}
	t.force(arch.InfoKernel(unix.SIGSEGV))
}

func hex8(v uint32) string {
	const d = "0123456789abcdef"
	var b [8]byte
	for i := range b {
		b[i] = d[v>>(28-4*i)&15]
	}
	return string(b[:])
}
