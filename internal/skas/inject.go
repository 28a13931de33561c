package skas

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// injector runs system calls in a stopped process that no guest code has entered yet: the keeper and the zygote while
// they are being made. All methods run on the tracer thread.
type injector struct {
	pid  int
	rip  uint64 // of a "syscall; int3"
	regs unix.PtraceRegs
}

var errStubDied = errors.New("stub process died")

// call runs one call. It passes through seccomp trace stops, and lets nothing else pass.
func (in *injector) call(nr uint64, args ...uint64) (uint64, error) {
	var a [6]uint64
	copy(a[:], args)
	r := in.regs
	r.Rip, r.Rax, r.Orig_rax = in.rip, nr, ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if err := ptraceSetRegs(in.pid, &r); err != nil {
		return 0, err
	}
	for {
		if err := ptrace(unix.PTRACE_CONT, in.pid, 0, 0); err != nil {
			return 0, err
		}
		ws, err := waitFor(in.pid)
		if err != nil {
			return 0, err
		}
		if stopEvent(ws) == unix.PTRACE_EVENT_SECCOMP {
			continue
		}
		if err := ptraceGetRegs(in.pid, &r); err != nil {
			return 0, err
		}
		if ws.StopSignal() == unix.SIGTRAP && r.Rip == in.rip+3 {
			break
		}
		return 0, fmt.Errorf("stub stopped with %v at %#x", ws.StopSignal(), r.Rip)
	}
	if int64(r.Rax) < 0 && int64(r.Rax) >= -4095 {
		return 0, unix.Errno(-int64(r.Rax))
	}
	return r.Rax, nil
}

// poke writes p to the process whatever the protection; len(p) is rounded up to words.
func (in *injector) poke(addr uint64, p []byte) error {
	for i := 0; i < len(p); i += 8 {
		var w uint64
		for k := 0; k < 8 && i+k < len(p); k++ {
			w |= uint64(p[i+k]) << (8 * k)
		}
		if err := ptracePoke(in.pid, addr+uint64(i), w); err != nil {
			return err
		}
	}
	return nil
}

// waitFor waits for the next stop of one traced process or thread.
func waitFor(tid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := wait4(tid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return ws, err
		}
		if !ws.Stopped() {
			return ws, errStubDied
		}
		return ws, nil
	}
}

// reap waits for the end of a process or thread that has been killed.
func reap(tid int) {
	for {
		var ws unix.WaitStatus
		_, err := wait4(tid, &ws, unix.WALL, nil)
		if err == nil && !ws.Stopped() || err != nil && err != unix.EINTR {
			return
		}
	}
}

// stopEvent is the PTRACE_EVENT_ number of a stop, 0 if it is a signal or a system call stop.
func stopEvent(ws unix.WaitStatus) int { return int(uint32(ws) >> 16) }
