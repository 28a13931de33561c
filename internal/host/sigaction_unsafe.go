package host

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// resetSignal gives a signal its default action, which os/signal cannot do for all: the Go runtime answers SIGABRT with a
// stack dump, and ignores SIGUSR2.
func resetSignal(sig unix.Signal) {
	// The kernel's struct sigaction: handler, flags, restorer, mask. Zero is SIG_DFL.
	var act [4]uint64
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
}
