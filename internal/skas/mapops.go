package skas

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// mapCookie in the high half of mmap's descriptor argument, which the host does not look at, sends the call to the notify
// lane (filter.go), where it is carried out only for a thread that is injecting exactly this call. It is a mark, not a
// secret.
const mapCookie = 0x554d4c31

const (
	opSize      = 64
	opsSlotSize = pageSize
	opsPerSlot  = opsSlotSize/opSize - 2
	// mmMapAt is where in a slot the argument of a Heap operation is.
	mmMapAt = opsPerSlot * opSize
)

// prctl(2) PR_SET_MM with one call: struct prctl_mm_map is 12 words and two half ones.
const (
	prSetMM        = 35
	prSetMMMap     = 14
	prSetMMMapSize = 15
	mmMapSize      = 104
)

// hostCall is one call of a list for routineBatch.
type hostCall struct {
	nr   uint64
	args platform.Args
}

// injectList instead of a number: any of the calls that mapCall makes.
const injectList = -1

func isMemoryCall(nr int32) bool {
	return nr == unix.SYS_MMAP || nr == unix.SYS_MUNMAP || nr == unix.SYS_MPROTECT || nr == unix.SYS_PRCTL
}

// inject sets the injecting state: notifications that t raises for nr are carried out.
func (t *Thread) inject(on bool, nr int32) {
	t.mu.Lock()
	t.injecting, t.injectNr = on, nr
	t.mu.Unlock()
}

// nextStop lets t run and waits for its next stop that is not one of our kicks.
func (t *Thread) nextStop(req int) (unix.WaitStatus, error) {
	for {
		if err := ptrace(req, t.tid, 0, 0); err != nil {
			return 0, unix.ESRCH
		}
		ws, err := t.awaitStop()
		if err != nil {
			return 0, err
		}
		if ws.StopSignal() == kickSignal && stopEvent(ws) == 0 {
			t.mu.Lock()
			t.signalled = false
			t.mu.Unlock()
			continue
		}
		return ws, nil
	}
}

// awaitStop waits for the next stop of t. If t was killed meanwhile, its end is handled when this is over.
func (t *Thread) awaitStop() (ws unix.WaitStatus, err error) {
	if t.tid == t.proc.tgid && (t.proc.threads.Load() > 1 || t.injectNr == unix.SYS_CLONE) {
		return t.awaitStopOfFirst()
	}
	var ru unix.Rusage
	for {
		switch _, err := wait4(t.tid, &ws, unix.WALL, &ru); {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, unix.ESRCH
		}
		if !ws.Stopped() {
			t.s.events = append(t.s.events, event{t.tid, ws, &ru})
			return 0, unix.ESRCH
		}
		return ws, nil
	}
}

// awaitStopOfFirst is awaitStop for the first of several threads. The host does not report its end before the others have
// been waited for, so all events are taken until there is one for it.
func (t *Thread) awaitStopOfFirst() (unix.WaitStatus, error) {
	s := t.s
	for {
		n := len(s.events)
		if !s.wait(0) || len(s.events) == n || s.events[n].tid != t.tid {
			continue
		}
		ws := s.events[n].ws
		if !ws.Stopped() {
			return 0, unix.ESRCH
		}
		s.events = s.events[:n]
		return ws, nil
	}
}

// runRoutine runs stub code with registers r until its breakpoint and leaves in r what the registers are then. Afterwards
// the thread has its own registers again when it runs on.
func (t *Thread) runRoutine(r *unix.PtraceRegs) error {
	if t.stop == stopCall {
		// The call it is held at must be skipped first, with the thread in a stop of which it can start afresh.
		if err := t.skipCall(); err != nil {
			return err
		}
	}
	t.dirty = true
	if err := ptraceSetRegs(t.tid, r); err != nil {
		return unix.ESRCH
	}
	t.stop = stopOther
	for {
		ws, err := t.nextStop(unix.PTRACE_CONT)
		if err != nil {
			return err
		}
		switch stopEvent(ws) {
		case unix.PTRACE_EVENT_SECCOMP, unix.PTRACE_EVENT_STOP:
			continue // the trace lane: our own call, or t would not be injecting; or job control of the host
		}
		if err := ptraceGetRegs(t.tid, r); err != nil {
			return unix.ESRCH
		}
		switch ws.StopSignal() {
		case unix.SIGTRAP:
			if r.Rip > stubCode && r.Rip < stubCode+pageSize {
				return nil
			}
			return unix.EFAULT
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE:
			return unix.EFAULT
		}
		// A signal from outside is not for the stub: go on without it.
	}
}

// skipCall moves a thread from the seccomp stop of a call to the exit stop, without carrying the call out.
func (t *Thread) skipCall() error {
	r := t.regs
	r.Orig_rax = noCall
	if err := ptraceSetRegs(t.tid, &r); err != nil {
		return unix.ESRCH
	}
	// A skipped call has an exit stop too.
	if _, err := t.nextStop(unix.PTRACE_SYSCALL); err != nil {
		return err
	}
	t.stop, t.regs.Orig_rax, t.dirty = stopExit, noCall, true
	return nil
}

// runCall runs one host call in t, on the tracer thread. If t is held at a call of its own, that one is rewritten, which
// saves a stop.
func (t *Thread) runCall(nr platform.Sysno, a platform.Args) (uint64, error) {
	t.inject(true, nr)
	defer t.inject(false, 0)
	r := t.regs
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if t.stop == stopCall {
		r.Orig_rax = uint64(nr)
		if nr == unix.SYS_MMAP && t.s.fam.listener >= 0 {
			r.R8 = uint64(uint32(r.R8)) // the filter has had its say: no need to ask the notify lane
		}
		if err := ptraceSetRegs(t.tid, &r); err != nil {
			return 0, unix.ESRCH
		}
		t.dirty = true
		t.regs.Orig_rax = noCall
		ws, err := t.nextStop(unix.PTRACE_SYSCALL)
		if err == nil && stopEvent(ws) == unix.PTRACE_EVENT_SECCOMP {
			// A watched thread was held at the entry of its call, before the filter.
			ws, err = t.nextStop(unix.PTRACE_SYSCALL)
		}
		if err != nil {
			return 0, err
		}
		t.stop = stopExit
		if ws.StopSignal() != sigtrapSyscall {
			return 0, unix.EFAULT
		}
		if err := ptraceGetRegs(t.tid, &r); err != nil {
			return 0, unix.ESRCH
		}
		if int64(r.Rax) != eRestartNoIntr {
			return result(r.Rax)
		}
		// A pending kick kept clone from working; the kick's stop comes first now.
		r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	}
	for {
		r.Rip, r.Rax, r.Orig_rax = routine(routineSyscall), uint64(uint32(nr)), noCall
		if err := t.runRoutine(&r); err != nil {
			return 0, err
		}
		if int64(r.Rax) != eRestartNoIntr {
			return result(r.Rax)
		}
		r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	}
}

func result(rax uint64) (uint64, error) {
	if v := int64(rax); v < 0 && v >= -4095 {
		return 0, unix.Errno(-v)
	}
	return rax, nil
}

// Map implements platform.Thread.
func (t *Thread) Map(ops []platform.MapOp) error {
	if len(ops) == 0 {
		return nil
	}
	calls := make([]hostCall, len(ops))
	for i := range ops {
		op := &ops[i]
		if !op.Anywhere && (op.Addr >= userMax || op.Len > userMax-op.Addr) || op.Len > userMax {
			return unix.ENOMEM
		}
		var num int32 = -1
		if op.Kind == platform.MapFile {
			var err error
			if num, err = t.s.useFile(op.File, op.Writable && op.Shared); err != nil {
				return err
			}
			defer t.p.releaseFile(op.File)
		}
		calls[i] = mapCall(op, num)
	}
	return t.s.do(t, func() error { return t.runCalls(ops, calls) })
}

// mapCall is the host call for op; num is the stub-side descriptor of a file.
func mapCall(op *platform.MapOp, num int32) hostCall {
	switch op.Kind {
	case platform.Unmap:
		return hostCall{unix.SYS_MUNMAP, platform.Args{op.Addr, op.Len}}
	case platform.Heap:
		return hostCall{unix.SYS_PRCTL, platform.Args{prSetMM, prSetMMMap, 0, mmMapSize}}
	case platform.Protect:
		return hostCall{unix.SYS_MPROTECT, platform.Args{op.Addr, op.Len, uint64(op.Prot & 7)}}
	}
	flags := uint64(unix.MAP_FIXED)
	switch {
	case op.Anywhere:
		flags = 0
	case op.NoReplace:
		flags = unix.MAP_FIXED_NOREPLACE
	}
	if op.Shared {
		flags |= unix.MAP_SHARED
	} else {
		flags |= unix.MAP_PRIVATE
	}
	if op.NoReserve {
		flags |= unix.MAP_NORESERVE
	}
	if op.Growsdown {
		flags |= unix.MAP_GROWSDOWN
	}
	if op.Kind == platform.MapFile {
		return hostCall{unix.SYS_MMAP, platform.Args{op.Addr, op.Len, uint64(op.Prot & 7), flags,
			mapCookie<<32 | uint64(uint32(num)), op.Off}}
	}
	flags |= unix.MAP_ANONYMOUS
	noFile := uint64(0xffffffff)
	if op.Growsdown {
		noFile |= mapCookie << 32 // not native, so by the notify lane rather than by a stop
	}
	return hostCall{unix.SYS_MMAP, platform.Args{op.Addr, op.Len, uint64(op.Prot & 7), flags, noFile}}
}

// runCalls runs the calls in order on the tracer thread: one alone as a single call, several by routineBatch.
func (t *Thread) runCalls(ops []platform.MapOp, calls []hostCall) error {
	for len(calls) > 0 {
		n := 0
		for n < len(calls) && n < opsPerSlot && !ops[n].Anywhere {
			n++
		}
		if n <= 1 && ops[0].Kind != platform.Heap {
			v, err := t.runCall(int32(calls[0].nr), calls[0].args)
			if err != nil {
				return err
			}
			if ops[0].NoReplace && v != ops[0].Addr { // a host before 4.17, which takes the address as a hint
				return unix.EEXIST
			}
			if ops[0].Anywhere {
				ops[0].Addr = v
			}
			n = 1
		} else if err := t.runBatch(ops[:n], calls[:n]); err != nil {
			return err
		}
		ops, calls = ops[n:], calls[n:]
	}
	return nil
}

// putMMMap writes a struct prctl_mm_map. What only host programs would show (where code, stack and arguments are) is the
// lowest address that the host takes.
func putMMMap(p []byte, op *platform.MapOp) {
	const lowest = 64 << 10
	data, end := op.Off, op.Off+op.Len
	if data < lowest || end < data || end >= op.Addr {
		data, end = lowest, lowest
	}
	for i, v := range [...]uint64{lowest, lowest + 1, data, end, op.Addr, op.Addr, lowest, lowest, lowest, lowest, lowest, 0,
		0xffffffff << 32} { // no auxiliary vector, and no new exe
		binary.LittleEndian.PutUint64(p[8*i:], v)
	}
}

// runBatch runs up to opsPerSlot calls without a stop between them.
func (t *Thread) runBatch(ops []platform.MapOp, calls []hostCall) error {
	p := t.p
	slot := <-p.opsFree
	defer func() { p.opsFree <- slot }()
	mem := p.ops[slot*opsSlotSize:][:opsSlotSize]
	for i := range calls {
		c := mem[i*opSize:]
		if op := &ops[i]; op.Kind == platform.Heap {
			putMMMap(mem[mmMapAt:], op)
			calls[i].args[2] = stubOps + uint64(slot*opsSlotSize+mmMapAt)
		}
		binary.LittleEndian.PutUint64(c, calls[i].nr)
		for k, a := range calls[i].args {
			binary.LittleEndian.PutUint64(c[8+8*k:], a)
		}
	}
	defer clear(mem[:len(calls)*opSize]) // other stubs can read it
	t.inject(true, injectList)
	defer t.inject(false, 0)
	r := t.regs
	r.Rip, r.Orig_rax = routine(routineBatch), noCall
	r.R12, r.R13 = stubOps+uint64(slot*opsSlotSize), uint64(len(calls))
	if err := t.runRoutine(&r); err != nil {
		return err
	}
	if r.R13 == 0 {
		return nil
	}
	_, err := result(r.Rax)
	if err == nil {
		err = unix.EFAULT
	}
	return err
}
