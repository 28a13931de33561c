package arch

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
)

// NSIG is the number of signals: they are 1 to NSIG. SIGRTMIN is the first real-time signal of the kernel.
const (
	NSIG     = 64
	SIGRTMIN = 32
)

// SigSet is a set of signals: bit n-1 is signal n, as the kernel's sigset_t has it.
type SigSet uint64

// Unblockable are the signals that cannot be blocked, caught or ignored.
const Unblockable = SigSet(1)<<(unix.SIGKILL-1) | SigSet(1)<<(unix.SIGSTOP-1)

// SigBit is the set of one signal.
func SigBit(sig unix.Signal) SigSet { return 1 << (uint(sig) - 1) }

// Has reports whether sig is in the set.
func (s SigSet) Has(sig unix.Signal) bool { return s&SigBit(sig) != 0 }

// First is the lowest signal in the set, 0 if it is empty.
func (s SigSet) First() unix.Signal {
	if s == 0 {
		return 0
	}
	return unix.Signal(bits.TrailingZeros64(uint64(s)) + 1)
}

// The flags of sigaction(2) and sigaltstack(2).
const (
	SA_NOCLDSTOP   = 1
	SA_NOCLDWAIT   = 2
	SA_SIGINFO     = 4
	SA_UNSUPPORTED = 0x400
	SA_EXPOSE_TAG  = 0x800
	SA_RESTORER    = 0x04000000
	SA_ONSTACK     = 0x08000000
	SA_RESTART     = 0x10000000
	SA_NODEFER     = 0x40000000
	SA_RESETHAND   = 0x80000000

	SIG_DFL = 0
	SIG_IGN = 1

	SS_ONSTACK    = 1
	SS_DISABLE    = 2
	SS_AUTODISARM = 1 << 31

	// MINSIGSTKSZ is the smallest alternate stack that sigaltstack(2) takes.
	MINSIGSTKSZ = 2048
)

// SigactionSize is the size of the kernel's struct sigaction.
const SigactionSize = 32

// Sigaction is the kernel's struct sigaction (rt_sigaction(2)).
type Sigaction struct {
	Handler, Flags, Restorer uint64
	Mask                     SigSet
}

// Encode is the struct in guest memory.
func (a *Sigaction) Encode() (b [SigactionSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], a.Handler)
	le.PutUint64(b[8:], a.Flags)
	le.PutUint64(b[16:], a.Restorer)
	le.PutUint64(b[24:], uint64(a.Mask))
	return b
}

// DecodeSigaction reads the struct.
func DecodeSigaction(b *[SigactionSize]byte) Sigaction {
	le := binary.LittleEndian
	return Sigaction{le.Uint64(b[0:]), le.Uint64(b[8:]), le.Uint64(b[16:]), SigSet(le.Uint64(b[24:]))}
}

// SigStackSize is the size of stack_t.
const SigStackSize = 24

// SigStack is an alternate signal stack, stack_t of sigaltstack(2). The zero value is none.
type SigStack struct {
	SP    uint64
	Flags uint32 // SS_DISABLE, SS_AUTODISARM
	Size  uint64
}

// Encode is the struct in guest memory.
func (s SigStack) Encode() (b [SigStackSize]byte) {
	s.put(b[:])
	return b
}

func (s SigStack) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], s.SP)
	le.PutUint32(b[8:], s.Flags)
	le.PutUint32(b[12:], 0)
	le.PutUint64(b[16:], s.Size)
}

// DecodeSigStack reads the struct; b has SigStackSize bytes.
func DecodeSigStack(b []byte) SigStack {
	le := binary.LittleEndian
	return SigStack{le.Uint64(b[0:]), le.Uint32(b[8:]), le.Uint64(b[16:])}
}

// contains reports whether sp lies on the stack.
func (s SigStack) contains(sp uint64) bool { return sp > s.SP && sp-s.SP <= s.Size }

// On reports whether a thread with stack pointer sp is executing on the stack, as sigaltstack(2) means it: never on one
// that disarms itself.
func (s SigStack) On(sp uint64) bool { return s.Flags&SS_AUTODISARM == 0 && s.contains(sp) }

// Status is the flags that sigaltstack(2) reports.
func (s SigStack) Status(sp uint64) uint32 {
	st := s.Flags & SS_AUTODISARM
	switch {
	case s.Size == 0:
		return st | SS_DISABLE
	case s.On(sp):
		return st | SS_ONSTACK
	}
	return st
}

// Set checks and installs a new stack for a thread whose stack pointer is sp: EPERM while it runs on the old one, EINVAL
// for bad flags, ENOMEM if the stack is smaller than minSize (MINSIGSTKSZ, or what the auxiliary vector tells).
func (s *SigStack) Set(n SigStack, sp, minSize uint64) error {
	if s.On(sp) {
		return unix.EPERM
	}
	switch n.Flags &^ SS_AUTODISARM {
	case SS_DISABLE:
		n.SP, n.Size = 0, 0
	case 0, SS_ONSTACK:
		if n.Size < minSize {
			return unix.ENOMEM
		}
	default:
		return unix.EINVAL
	}
	*s = n
	return nil
}
