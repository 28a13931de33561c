// Package arch is the x86-64 of the guest: registers, the extended (FPU, AVX) state, signal frames and the auxiliary
// vector's machine parts.
package arch

import "golang.org/x/sys/unix"

// Regs are the general registers of a thread, as ptrace(2) has them.
type Regs = unix.PtraceRegs
