package skas

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// The ptrace backend, for hosts without seccomp user notification: every system call of a guest stops it for the tracer.
// With PTRACE_SYSEMU the host skips the call by itself; without, it is skipped by a changed number, and there is a second
// stop at its exit. The filter program is the same as with seccomp, but interpreted here.
//
// A call of the native lane is run by the host in the same thread. At a SYSEMU stop it is too late for that: the thread
// is sent back to the syscall instruction and stopped there with PTRACE_SYSCALL, where the call is judged again, since
// other threads can change the instruction.

const (
	ptraceSysemu           = 31 // PTRACE_SYSEMU
	ptraceSysemuSingleStep = 32 // PTRACE_SYSEMU_SINGLESTEP

	eflagsTrap = 0x100 // TF
)

// contRequest is how a thread goes on.
func (t *Thread) contRequest() int {
	switch {
	case t.s.fam.listener >= 0 && !t.watched():
		return unix.PTRACE_CONT
	case t.s.fam.listener < 0 && t.p.caps.sysemu:
		return ptraceSysemu
	}
	return unix.PTRACE_SYSCALL
}

// stepRequest is how it executes one instruction. A system call must not escape the tracer.
func (t *Thread) stepRequest() int {
	switch {
	case t.s.fam.listener >= 0:
		return unix.PTRACE_SINGLESTEP
	case t.p.caps.sysemu:
		return ptraceSysemuSingleStep
	}
	t.regs.Eflags |= eflagsTrap
	t.dirty, t.trapFlag = true, true
	return unix.PTRACE_SYSCALL
}

// goOn lets a thread run from a stop that is nobody's business.
func (t *Thread) goOn() { t.request(t.contRequest()) }

// request is ptrace with a request that lets the thread run.
func (t *Thread) request(req int) {
	t.emulating = req == ptraceSysemu || req == ptraceSysemuSingleStep
	_ = ptrace(req, t.tid, 0, 0)
}

// syscallStop is a stop at the entry or exit of a call, in the ptrace backend or of a watched thread.
func (s *shard) syscallStop(t *Thread) {
	if s.fam.listener >= 0 {
		s.watchStop(t)
		return
	}
	if t.exitDue {
		t.exitDue = false
		if t.showExit && t.takeStopped(stopWatched) {
			t.showExit = false
			s.show(t, platform.SyscallExit)
			return
		}
		t.goOn()
		return
	}
	emulated := t.emulating
	if !t.takeStopped(stopCall) {
		return
	}
	r := &t.regs
	if t.redo {
		t.redo = false
		if r.Rax != entryRax {
			// Going on with SYSCALL from a SYSEMU stop brings the exit stop of the skipped call first.
			t.request(unix.PTRACE_SYSCALL)
			return
		}
	}
	t.nr = int32(r.Orig_rax)
	t.args = platform.Args{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
	decision := t.judge()
	if isTimedWait(r) {
		decision = retAllow
	}
	exits := t.letRun && isExit(t.nr)
	t.letRun, t.sentBack = exits, false
	if decision == retAllow && t.watched() && !t.approved {
		t.stop = stopEntry
		s.show(t, platform.SyscallEntry)
		return
	}
	t.showExit, t.approved = t.approved, false
	if decision == retAllow || exits {
		if emulated {
			s.again(t)
			return
		}
		if off := s.p.offset.Load(); off != 0 && isTimedWait(r) && s.p.takeSlot(t) {
			var b [16]byte
			if n, _ := t.as.ReadAt(b[:], r.R10); n == len(b) {
				t.useSlot(b[:], off)
				_ = ptraceSetRegs(t.tid, r)
			}
		}
		// Not SYSEMU: newer hosts would skip this call too.
		t.letRun, t.exitDue = false, true
		t.request(unix.PTRACE_SYSCALL)
		return
	}
	if emulated {
		// The host skips the call: the thread is as good as in user code after it.
		t.stop, r.Orig_rax, t.dirty = stopOther, noCall, true
	}
	t.mu.Lock()
	t.state, t.handling, t.resumeWanted = stopped, true, false
	t.mu.Unlock()
	switch decision {
	case retTrace:
		s.runCallHandler(t, true)
	case retENOSYS:
		s.finishCall(t, errnoReturn(unix.ENOSYS))
	case unix.SECCOMP_RET_TRAP:
		r.Orig_rax, t.dirty = noCall, true
		t.ev = platform.Event{Kind: platform.BadArch, Signal: unix.SIGSYS, Addr: r.Rip}
		s.runStopHandler(t, true)
	default:
		go s.runCallHandler(t, false)
	}
}

func errnoReturn(e unix.Errno) platform.Return { return platform.Return{Value: uint64(-int64(e))} }

// again sends a thread whose call was skipped back to its syscall instruction.
func (s *shard) again(t *Thread) {
	r := t.regs
	r.Rip -= syscallInsnBytes
	r.Rax, r.Orig_rax = uint64(uint32(t.nr)), noCall
	_ = ptraceSetRegs(t.tid, &r)
	t.redo = true
	t.request(unix.PTRACE_SYSCALL)
}

// entryRax is in rax at the entry of every call: -ENOSYS.
const entryRax = ^uint64(unix.ENOSYS) + 1

// judge is what the filter says to the call that t is stopped at.
func (t *Thread) judge() uint32 {
	arch := uint32(auditArchX86_64)
	var info syscallInfo
	if ptraceGetSyscallInfo(t.tid, &info) == nil {
		arch = info.arch
	} else if !t.enteredBySyscall() { // before Linux 5.3
		arch = 0
	}
	return runFilter(t.p.filter, t.nr, arch, &t.args)
}

// enteredBySyscall looks at the instruction before rip.
func (t *Thread) enteredBySyscall() bool {
	var insn [syscallInsnBytes]byte
	_, err := t.as.ReadAt(insn[:], t.regs.Rip-syscallInsnBytes)
	return err == nil && insn == [2]byte{0x0f, 0x05}
}

// runFilter interprets a program of buildFilter.
func runFilter(prog []unix.SockFilter, nr int32, arch uint32, args *platform.Args) uint32 {
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		taken := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch k := in.K; {
			case k == dataNr:
				a = uint32(nr)
			case k == dataArch:
				a = arch
			case k >= dataArgs:
				n := (k - dataArgs) / 8
				a = uint32(args[n] >> (8 * ((k - dataArgs) % 8)))
			}
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			taken = a == in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			taken = a > in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			taken = a >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			taken = a&in.K != 0
		default:
			return unix.SECCOMP_RET_TRAP
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	return unix.SECCOMP_RET_TRAP
}

// watchStop is the entry or exit of a call of a watched thread.
func (s *shard) watchStop(t *Thread) {
	var info syscallInfo
	if ptraceGetSyscallInfo(t.tid, &info) != nil {
		t.goOn()
		return
	}
	entry := info.op == unix.PTRACE_SYSCALL_INFO_ENTRY
	if !entry && !t.exitDue || !t.takeStopped(stopWatched) {
		t.goOn()
		return
	}
	kind := platform.SyscallExit
	t.exitDue = false
	if entry {
		r := &t.regs
		args := platform.Args{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
		decision := runFilter(t.p.filter, int32(r.Orig_rax), info.arch, &args)
		if isTimedWait(r) {
			decision = retAllow
		}
		switch decision {
		case retAllow:
		case retNotify, retTrace:
			if platform.Watching(t.watching.Load()) == platform.WatchAll {
				s.callStop(t) // whatever the lane
			} else {
				t.goOn() // it comes by its lane
			}
			return
		default:
			t.goOn() // its exit is no business of ours either
			return
		}
		t.exitDue = true
		kind = platform.SyscallEntry
	}
	s.show(t, kind)
}

// show tells the kernel of the entry or exit of a native call that t has stopped at.
func (s *shard) show(t *Thread, kind platform.EventKind) {
	t.mu.Lock()
	t.state, t.resumeWanted = stopped, false
	t.mu.Unlock()
	t.ev = platform.Event{Kind: kind}
	s.runStopHandler(t, true)
}

// approve lets a thread of the ptrace backend make the native call whose entry was shown. If the call has been skipped
// already, it is made once more.
func (s *shard) approve(t *Thread) {
	t.approved = true
	if t.emulating {
		s.again(t)
		return
	}
	t.approved, t.showExit, t.exitDue = false, true, true
	t.request(unix.PTRACE_SYSCALL)
}
