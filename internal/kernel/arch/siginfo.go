package arch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// SiginfoSize is the size of siginfo_t in guest memory.
const SiginfoSize = 128

// The si_code values (asm-generic/siginfo.h).
const (
	SI_USER     = 0
	SI_KERNEL   = 0x80
	SI_QUEUE    = -1
	SI_TIMER    = -2
	SI_MESGQ    = -3
	SI_ASYNCIO  = -4
	SI_SIGIO    = -5
	SI_TKILL    = -6
	SI_DETHREAD = -7
	SI_ASYNCNL  = -60

	ILL_ILLOPC = 1
	ILL_ILLOPN = 2
	ILL_PRVOPC = 5

	FPE_INTDIV = 1
	FPE_INTOVF = 2
	FPE_FLTDIV = 3
	FPE_FLTINV = 7

	SEGV_MAPERR = 1
	SEGV_ACCERR = 2
	SEGV_BNDERR = 3
	SEGV_PKUERR = 4

	BUS_ADRALN = 1
	BUS_ADRERR = 2
	BUS_OBJERR = 3

	TRAP_BRKPT  = 1
	TRAP_TRACE  = 2
	TRAP_BRANCH = 3
	TRAP_HWBKPT = 4

	CLD_EXITED    = 1
	CLD_KILLED    = 2
	CLD_DUMPED    = 3
	CLD_TRAPPED   = 4
	CLD_STOPPED   = 5
	CLD_CONTINUED = 6

	POLL_IN  = 1
	POLL_OUT = 2
	POLL_MSG = 3
	POLL_ERR = 4
	POLL_PRI = 5
	POLL_HUP = 6

	SYS_SECCOMP       = 1
	SYS_USER_DISPATCH = 2
)

// Siginfo is a siginfo_t as sigaction(2) describes it. The zero fields after Code are a union; which accessors are
// meaningful is told by Layout. Siginfo is a value without pointers: copy and compare it freely.
type Siginfo struct {
	Signo, Errno, Code int32
	// f is the union. Linux keeps these 32 bytes too; what a program passes beyond them must be zero.
	f [4]uint64
}

// Layout is which part of the union of a Siginfo is in use.
type Layout uint8

// The layouts and their accessors.
const (
	LayoutKill  Layout = iota // PID, UID
	LayoutTimer               // TimerID, Overrun, Value
	LayoutPoll                // Band, FD
	LayoutFault               // Addr
	LayoutChild               // PID, UID, Status, Utime, Stime
	LayoutRT                  // PID, UID, Value
	LayoutSys                 // Addr, Syscall, Arch
)

// codeLimit is the highest si_code with a meaning of its own for the signals that have such.
func codeLimit(sig int32) (int32, Layout) {
	switch unix.Signal(sig) {
	case unix.SIGILL:
		return 11, LayoutFault
	case unix.SIGFPE:
		return 15, LayoutFault
	case unix.SIGSEGV:
		return 10, LayoutFault
	case unix.SIGBUS:
		return 5, LayoutFault
	case unix.SIGTRAP:
		return 6, LayoutFault
	case unix.SIGCHLD:
		return CLD_CONTINUED, LayoutChild
	case unix.SIGIO:
		return POLL_HUP, LayoutPoll
	case unix.SIGSYS:
		return SYS_USER_DISPATCH, LayoutSys
	}
	return 0, LayoutKill
}

// Layout tells which fields of the union are in use.
func (s *Siginfo) Layout() Layout {
	if s.Code > SI_USER && s.Code < SI_KERNEL {
		limit, l := codeLimit(s.Signo)
		switch {
		case s.Code <= limit:
			return l
		case limit == 0 && s.Code <= POLL_HUP:
			return LayoutPoll
		}
		return LayoutKill
	}
	switch s.Code {
	case SI_TIMER:
		return LayoutTimer
	case SI_SIGIO:
		return LayoutPoll
	}
	if s.Code < 0 {
		return LayoutRT
	}
	return LayoutKill
}

// known reports whether the code is one whose layout the kernel knows, so that bytes outside it do not matter.
func (s *Siginfo) known() bool {
	switch {
	case s.Code == SI_KERNEL || s.Code == SI_ASYNCNL:
		return true
	case s.Code > SI_USER:
		limit, _ := codeLimit(s.Signo)
		return s.Code <= limit || s.Code <= POLL_HUP
	}
	return s.Code >= SI_DETHREAD
}

func pair(lo, hi uint32) uint64 { return uint64(lo) | uint64(hi)<<32 }

// InfoKernel is a signal that the kernel sends for its own reasons, such as SIGHUP of a terminal (SI_KERNEL).
func InfoKernel(sig unix.Signal) Siginfo { return Siginfo{Signo: int32(sig), Code: SI_KERNEL} }

// InfoKill is kill(2)'s (SI_USER).
func InfoKill(sig unix.Signal, pid int32, uid uint32) Siginfo {
	return Siginfo{Signo: int32(sig), Code: SI_USER, f: [4]uint64{pair(uint32(pid), uid)}}
}

// InfoTkill is tgkill(2)'s (SI_TKILL).
func InfoTkill(sig unix.Signal, pid int32, uid uint32) Siginfo {
	return Siginfo{Signo: int32(sig), Code: SI_TKILL, f: [4]uint64{pair(uint32(pid), uid)}}
}

// InfoQueue is a signal with a value: SI_QUEUE of sigqueue(3), SI_MESGQ of mq_notify(3), SI_ASYNCIO.
func InfoQueue(sig unix.Signal, code int32, pid int32, uid uint32, value uint64) Siginfo {
	return Siginfo{Signo: int32(sig), Code: code, f: [4]uint64{pair(uint32(pid), uid), value}}
}

// InfoFault is a CPU exception: SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGTRAP with a code of its own.
func InfoFault(sig unix.Signal, code int32, addr uint64) Siginfo {
	return Siginfo{Signo: int32(sig), Code: code, f: [4]uint64{addr}}
}

// InfoChild is SIGCHLD's (CLD_*), and waitid(2)'s result. Times are in clock ticks.
func InfoChild(code, pid int32, uid uint32, status int32, utime, stime int64) Siginfo {
	return Siginfo{Signo: int32(unix.SIGCHLD), Code: code,
		f: [4]uint64{pair(uint32(pid), uid), uint64(uint32(status)), uint64(utime), uint64(stime)}}
}

// InfoTimer is a POSIX timer's (SI_TIMER).
func InfoTimer(sig unix.Signal, id, overrun int32, value uint64) Siginfo {
	return Siginfo{Signo: int32(sig), Code: SI_TIMER, f: [4]uint64{pair(uint32(id), uint32(overrun)), value}}
}

// InfoPoll is that of a signal for a ready file (POLL_*, with F_SETSIG; fcntl(2)).
func InfoPoll(sig unix.Signal, code int32, band int64, fd int32) Siginfo {
	return Siginfo{Signo: int32(sig), Code: code, f: [4]uint64{uint64(band), uint64(uint32(fd))}}
}

// InfoSys is SIGSYS of seccomp(2): the address after the call, its number, AUDIT_ARCH and the filter's data as errno.
func InfoSys(errno int32, addr uint64, nr int32, auditArch uint32) Siginfo {
	return Siginfo{Signo: int32(unix.SIGSYS), Errno: errno, Code: SYS_SECCOMP,
		f: [4]uint64{addr, pair(uint32(nr), auditArch)}}
}

// PID and UID are the sender's.
func (s *Siginfo) PID() int32  { return int32(s.f[0]) }
func (s *Siginfo) UID() uint32 { return uint32(s.f[0] >> 32) }

// SetSender changes PID and UID, for a signal that crosses into another namespace or is sent for another.
func (s *Siginfo) SetSender(pid int32, uid uint32) { s.f[0] = pair(uint32(pid), uid) }

// Value is si_value.
func (s *Siginfo) Value() uint64 { return s.f[1] }

// TimerID and Overrun are a POSIX timer's.
func (s *Siginfo) TimerID() int32 { return int32(s.f[0]) }
func (s *Siginfo) Overrun() int32 { return int32(s.f[0] >> 32) }

// SetOverrun sets the overrun count, which is only known when the signal is taken.
func (s *Siginfo) SetOverrun(n int32) { s.f[0] = pair(uint32(s.f[0]), uint32(n)) }

// Addr is the fault's address, or the call's for SIGSYS.
func (s *Siginfo) Addr() uint64 { return s.f[0] }

// Status, Utime and Stime are the child's.
func (s *Siginfo) Status() int32 { return int32(s.f[1]) }
func (s *Siginfo) Utime() int64  { return int64(s.f[2]) }
func (s *Siginfo) Stime() int64  { return int64(s.f[3]) }

// Band and FD are the file's.
func (s *Siginfo) Band() int64 { return int64(s.f[0]) }
func (s *Siginfo) FD() int32   { return int32(s.f[1]) }

// Syscall and Arch are those of the call that seccomp refused.
func (s *Siginfo) Syscall() int32 { return int32(s.f[1]) }
func (s *Siginfo) Arch() uint32   { return uint32(s.f[1] >> 32) }

// Encode is the siginfo_t in guest memory.
func (s *Siginfo) Encode() (b [SiginfoSize]byte) {
	s.put(b[:])
	return b
}

func (s *Siginfo) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(s.Signo))
	le.PutUint32(b[4:], uint32(s.Errno))
	le.PutUint32(b[8:], uint32(s.Code))
	for i, w := range s.f {
		le.PutUint64(b[16+8*i:], w)
	}
}

// DecodeSiginfo reads the siginfo_t that a program passes to rt_sigqueueinfo(2) or ptrace(2). A code without a known
// layout must have zeroes where the kernel keeps nothing: E2BIG, as Linux has it.
func DecodeSiginfo(b *[SiginfoSize]byte) (Siginfo, error) {
	le := binary.LittleEndian
	s := Siginfo{Signo: int32(le.Uint32(b[0:])), Errno: int32(le.Uint32(b[4:])), Code: int32(le.Uint32(b[8:]))}
	for i := range s.f {
		s.f[i] = le.Uint64(b[16+8*i:])
	}
	if !s.known() {
		for _, x := range b[48:] {
			if x != 0 {
				return Siginfo{}, unix.E2BIG
			}
		}
	}
	return s, nil
}

// SignalfdSize is the size of struct signalfd_siginfo.
const SignalfdSize = 128

// Signalfd is the struct signalfd_siginfo that a signalfd(2) reads.
func (s *Siginfo) Signalfd() (b [SignalfdSize]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(s.Signo))
	le.PutUint32(b[4:], uint32(s.Errno))
	le.PutUint32(b[8:], uint32(s.Code))
	switch s.Layout() {
	case LayoutKill:
		le.PutUint32(b[12:], uint32(s.PID()))
		le.PutUint32(b[16:], s.UID())
	case LayoutTimer:
		le.PutUint32(b[24:], uint32(s.TimerID()))
		le.PutUint32(b[32:], uint32(s.Overrun()))
		le.PutUint32(b[44:], uint32(s.Value()))
		le.PutUint64(b[48:], s.Value())
	case LayoutPoll:
		le.PutUint32(b[20:], uint32(s.FD()))
		le.PutUint32(b[28:], uint32(s.Band()))
	case LayoutFault:
		le.PutUint64(b[72:], s.Addr())
	case LayoutChild:
		le.PutUint32(b[12:], uint32(s.PID()))
		le.PutUint32(b[16:], s.UID())
		le.PutUint32(b[40:], uint32(s.Status()))
		le.PutUint64(b[56:], uint64(s.Utime()))
		le.PutUint64(b[64:], uint64(s.Stime()))
	case LayoutRT:
		le.PutUint32(b[12:], uint32(s.PID()))
		le.PutUint32(b[16:], s.UID())
		le.PutUint32(b[44:], uint32(s.Value()))
		le.PutUint64(b[48:], s.Value())
	case LayoutSys:
		le.PutUint64(b[88:], s.Addr())
		le.PutUint32(b[84:], uint32(s.Syscall()))
		le.PutUint32(b[96:], s.Arch())
	}
	return b
}
