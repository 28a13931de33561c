package skas

import "golang.org/x/sys/unix"

// Exception numbers, Intel SDM volume 3, table 6-1.
const (
	trapDivide     = 0
	trapBreakpoint = 3
	trapOpcode     = 6
	trapProtection = 13
	trapPage       = 14
	trapFloat      = 16
	trapAlignment  = 17
)

// Page fault error code bits.
const (
	faultPresent = 1
	faultWrite   = 2
	faultUser    = 4
	faultFetch   = 16
)

const segvAccerr = 2 // SEGV_ACCERR, sigaction(2)

// describeFault fills in what ptrace does not tell: the exception and its error code.
func (t *Thread) describeFault() {
	ev := &t.ev
	switch ev.Signal {
	case unix.SIGFPE:
		ev.Trapno = trapFloat
		if ev.Code == 1 { // FPE_INTDIV
			ev.Trapno = trapDivide
		}
	case unix.SIGILL:
		ev.Trapno = trapOpcode
	case unix.SIGTRAP:
		ev.Trapno = trapBreakpoint
	case unix.SIGBUS:
		ev.Trapno, ev.Err = trapPage, faultUser
		if ev.Code == 1 { // BUS_ADRALN
			ev.Trapno, ev.Err = trapAlignment, 0
		}
	case unix.SIGSEGV:
		if ev.Code == siKernel { // not a page fault
			ev.Trapno = trapProtection
			return
		}
		ev.Trapno, ev.Err = trapPage, faultUser
		if ev.Code == segvAccerr {
			ev.Err |= faultPresent
		}
		if ev.Addr == t.regs.Rip {
			ev.Err |= faultFetch
		}
	}
}
