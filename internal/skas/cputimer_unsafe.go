package skas

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cpuTimer is a timer on the CPU clock of a process (timer_create(2)), which sends cpuSignal to ours.
type cpuTimer struct {
	made bool
	id   int32
}

// cpuSignal is a real-time signal that nothing else uses.
const cpuSignal = syscall.Signal(40)

// processClockID is the clock of the CPU time of a process; linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK.
func processClockID(tgid int) int32 {
	const sched = 2 // CPUCLOCK_SCHED
	return int32(^tgid)<<3 | sched
}

// set has the timer expire, once, when the process has run for ns more nanoseconds.
func (t *cpuTimer) set(tgid int, ns int64) error {
	if !t.made {
		// struct sigevent, sigevent(3type)
		ev := struct {
			value         uint64
			signo, notify int32
			_             [48]byte
		}{signo: int32(cpuSignal)} // SIGEV_SIGNAL is 0
		if _, _, e := syscall.RawSyscall(unix.SYS_TIMER_CREATE, uintptr(processClockID(tgid)), uintptr(unsafe.Pointer(&ev)),
			uintptr(unsafe.Pointer(&t.id))); e != 0 {
			return e
		}
		t.made = true
	}
	spec := [2]unix.Timespec{1: unix.NsecToTimespec(ns)} // interval, value
	if _, _, e := syscall.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

func (t *cpuTimer) remove() {
	if t.made {
		syscall.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0)
		t.made = false
	}
}
