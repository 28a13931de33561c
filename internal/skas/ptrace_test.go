package skas

import (
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the host tells of a stopped thread arrives in the caller's variable, however deep the caller's stack is and whenever
// the Go runtime moves it.
func TestPtraceOnMovingStack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"stopped"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: unix.SIGKILL}})
	if err != nil {
		t.Fatal(err)
	}
	defer reap(pid)
	defer unix.Kill(pid, unix.SIGKILL)
	if _, err := waitFor(pid); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for depth := range 400 {
		runtime.GC() // makes the stack small again
		atDepth(depth, func() {
			var r unix.PtraceRegs
			if err := ptraceGetRegs(pid, &r); err != nil || r.Rip == 0 {
				lost++
			}
		})
	}
	if lost > 0 {
		t.Errorf("%d of 400 times the registers did not arrive", lost)
	}
}

// atDepth calls f n frames deep.
//
//go:noinline
func atDepth(n int, f func()) {
	if n > 0 {
		atDepth(n-1, f)
		return
	}
	f()
}
