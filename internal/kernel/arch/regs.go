// Package arch is the x86-64 of the guest: registers, the extended (FPU, AVX) state, signals as programs see them in
// memory (siginfo_t, sigaction, signal frames) and the auxiliary vector's machine parts.
//
// Everything here is a value or a function of values; nothing sleeps, locks or knows a task. Layouts are those of the
// Linux x86-64 ABI (asm/sigcontext.h, asm/ucontext.h, asm-generic/siginfo.h).
package arch

import "golang.org/x/sys/unix"

// Regs are the general registers of a thread, as ptrace(2) has them.
type Regs = unix.PtraceRegs

// UserCS and UserSS are the segment selectors of 64-bit user code.
const (
	UserCS = 0x33
	UserSS = 0x2b
)

// Bits of the flags register.
const (
	FlagCF = 1 << 0
	FlagPF = 1 << 2
	FlagAF = 1 << 4
	FlagZF = 1 << 6
	FlagSF = 1 << 7
	FlagTF = 1 << 8
	FlagIF = 1 << 9
	FlagDF = 1 << 10
	FlagOF = 1 << 11
	FlagRF = 1 << 16
	FlagAC = 1 << 18

	// flagsUser are the flags that a program may set through a signal frame; the others are the machine's.
	flagsUser = FlagAC | FlagOF | FlagDF | FlagTF | FlagSF | FlagZF | FlagAF | FlagPF | FlagCF | FlagRF
	// flagsFixed are always set: interrupts on, and the bit that is always one.
	flagsFixed = FlagIF | 2
)

// SyscallLen is the length of the syscall instruction.
const SyscallLen = 2

// NoSyscall is Orig_rax of a thread that is not in a system call.
const NoSyscall = ^uint64(0)

// Sysno is the system call number: the low 32 bits of the register, as the host takes it.
func Sysno(r *Regs) int32 { return int32(r.Orig_rax) }

// SysArgs are the system call's arguments.
func SysArgs(r *Regs) [6]uint64 { return [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9} }

// InSyscall reports whether r is that of a thread in (or at the end of) a system call.
func InSyscall(r *Regs) bool { return int64(r.Orig_rax) >= 0 }

// SetResult makes v the call's result and keeps the host from restarting it.
func SetResult(r *Regs, v uint64) { r.Rax, r.Orig_rax = v, NoSyscall }

// Restart makes the thread execute its system call again, under number nr (its own, or restart_syscall's).
func Restart(r *Regs, nr int32) {
	r.Rip -= SyscallLen
	r.Rax, r.Orig_rax = uint64(uint32(nr)), NoSyscall
}

// Sanitize makes r, given by a guest (a signal frame, ptrace), safe for a thread that runs 64-bit user code: code and
// stack segments and system flags are the machine's, data segments are null as Linux sets them.
func Sanitize(r *Regs) {
	r.Cs, r.Ss = UserCS, UserSS
	r.Ds, r.Es, r.Fs, r.Gs = 0, 0, 0, 0
	r.Eflags = r.Eflags&flagsUser | flagsFixed
}

// Canonical reports whether a is an address that user code could have.
func Canonical(a uint64) bool { return a < 1<<47 }

// RegWords lists the registers in the order of struct user_regs_struct.
func RegWords(r *Regs) [27]*uint64 {
	return [...]*uint64{&r.R15, &r.R14, &r.R13, &r.R12, &r.Rbp, &r.Rbx, &r.R11, &r.R10, &r.R9, &r.R8, &r.Rax, &r.Rcx,
		&r.Rdx, &r.Rsi, &r.Rdi, &r.Orig_rax, &r.Rip, &r.Cs, &r.Eflags, &r.Rsp, &r.Ss, &r.Fs_base, &r.Gs_base,
		&r.Ds, &r.Es, &r.Fs, &r.Gs}
}
