package skas

import "golang.org/x/sys/unix"

// Exception numbers, Intel SDM volume 3, table 6-1.
const (
	trapDivide     = 0
	trapDebug      = 1
	trapBreakpoint = 3
	trapOpcode     = 6
	trapProtection = 13
	trapPage       = 14
	trapFloat      = 16
	trapAlignment  = 17
	trapSIMD       = 19
)

// Page fault error code bits.
const (
	faultPresent = 1
	faultWrite   = 2
	faultUser    = 4
	faultFetch   = 16
)

// si_code, sigaction(2).
const (
	segvAccerr = 2 // SEGV_ACCERR
	codeBrkpt  = 1 // TRAP_BRKPT
	codeTrace  = 2 // TRAP_TRACE
	codeHwbkpt = 4 // TRAP_HWBKPT
)

// describeFault fills in what ptrace does not tell: the exception and its error code.
func (t *Thread) describeFault() {
	ev := &t.ev
	switch ev.Signal {
	case unix.SIGFPE:
		ev.Trapno = trapFloat
		// The x87's status word says whether the exception is the x87's; else it is SSE's or AVX's.
		if fp, err := t.FPState(); err == nil && len(fp) > 3 && fp[2]&0x80 == 0 {
			ev.Trapno = trapSIMD
		}
		if ev.Code == 1 { // FPE_INTDIV
			ev.Trapno = trapDivide
		}
	case unix.SIGILL:
		ev.Trapno = trapOpcode
	case unix.SIGTRAP:
		ev.Trapno = trapBreakpoint
		if ev.Code == codeTrace || ev.Code == codeBrkpt || ev.Code == codeHwbkpt {
			ev.Trapno = trapDebug // int3 has SI_KERNEL
		}
	case unix.SIGBUS:
		ev.Trapno, ev.Err = trapPage, faultUser
		if ev.Code == 1 { // BUS_ADRALN
			ev.Trapno, ev.Err = trapAlignment, 0
		} else if t.writes(ev.Addr) {
			ev.Err |= faultWrite
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
		switch {
		case ev.Addr == t.regs.Rip:
			ev.Err |= faultFetch
		case t.writes(ev.Addr):
			ev.Err |= faultWrite
		}
	}
}
