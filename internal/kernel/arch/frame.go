package arch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Layout of struct rt_sigframe: the return address, a ucontext and a siginfo_t. The extended state lies above it.
const (
	offUC       = 8
	offUCFlags  = offUC
	offUCStack  = offUC + 16
	offContext  = offUC + 40
	offFPPtr    = offContext + 184
	offMask     = offContext + 256
	offInfo     = offMask + 8
	frameSize   = offInfo + SiginfoSize
	redZone     = 128
	fpAlign     = 64
	ucFPXstate  = 1
	ucSigSS     = 2
	ucStrictSS  = 4
	contextRegs = 18
)

// context lists the registers in struct sigcontext's order: r8 to r15, then di si bp bx dx ax cx sp ip flags.
func context(r *Regs) [contextRegs]*uint64 {
	return [...]*uint64{&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15,
		&r.Rdi, &r.Rsi, &r.Rbp, &r.Rbx, &r.Rdx, &r.Rax, &r.Rcx, &r.Rsp, &r.Rip, &r.Eflags}
}

// FrameInput is what a signal frame is made of.
type FrameInput struct {
	// Regs are the registers that the handler returns to; a restarted system call is already worked into them.
	Regs *Regs
	// FP is the thread's extended state (NT_X86_XSTATE), Layout its shape.
	FP     []byte
	Layout *FPLayout
	Info   *Siginfo
	Action *Sigaction
	// Mask is the blocked set to come back to, Stack the alternate stack.
	Mask  SigSet
	Stack SigStack
	// Err, Trapno and CR2 describe the last CPU exception.
	Err, Trapno, CR2 uint64
}

// BuildFrame makes the signal frame for a handler: the bytes to write at addr, and the registers to start the handler
// with. The error is EFAULT if there is no place for it: the thread then gets SIGSEGV. A stack with SS_AUTODISARM is to
// be disarmed by the caller after the bytes are written.
func BuildFrame(in *FrameInput) (frame []byte, addr uint64, regs Regs, err error) {
	if in.Action.Flags&SA_RESTORER == 0 {
		return nil, 0, Regs{}, unix.EFAULT
	}
	sp := in.Regs.Rsp
	nested := in.Stack.On(sp)
	entering := false
	sp -= redZone
	if in.Action.Flags&SA_ONSTACK != 0 && in.Stack.Size != 0 && in.Stack.Flags&SS_DISABLE == 0 && !nested {
		sp, entering = in.Stack.SP+in.Stack.Size, true
	}
	fp := (sp - uint64(in.Layout.FrameSize())) &^ (fpAlign - 1)
	addr = (fp-frameSize)&^15 - 8
	end := fp + uint64(in.Layout.FrameSize())
	switch {
	case addr > fp || !Canonical(addr) || !Canonical(end): // wrapped, or outside of user memory
		return nil, 0, Regs{}, unix.EFAULT
	case (nested || entering) && !in.Stack.contains(addr):
		return nil, 0, Regs{}, unix.EFAULT
	}

	le := binary.LittleEndian
	b := make([]byte, end-addr)
	if err := in.Layout.put(b[fp-addr:], in.FP); err != nil {
		return nil, 0, Regs{}, err
	}
	le.PutUint64(b, in.Action.Restorer)
	flags := uint64(ucSigSS | ucStrictSS)
	if in.Layout.xsave() {
		flags |= ucFPXstate
	}
	le.PutUint64(b[offUCFlags:], flags)
	in.Stack.put(b[offUCStack:])
	c := b[offContext:]
	for i, r := range context(in.Regs) {
		le.PutUint64(c[8*i:], *r)
	}
	le.PutUint16(c[144:], UserCS)
	le.PutUint16(c[150:], UserSS)
	le.PutUint64(c[152:], in.Err)
	le.PutUint64(c[160:], in.Trapno)
	le.PutUint64(c[168:], uint64(in.Mask))
	le.PutUint64(c[176:], in.CR2)
	le.PutUint64(b[offFPPtr:], fp)
	le.PutUint64(b[offMask:], uint64(in.Mask))
	in.Info.put(b[offInfo:])

	regs = *in.Regs
	regs.Rdi, regs.Rsi, regs.Rdx = uint64(uint32(in.Info.Signo)), addr+offInfo, addr+offUC
	regs.Rax, regs.Orig_rax = 0, NoSyscall
	regs.Rsp, regs.Rip = addr, in.Action.Handler
	regs.Cs, regs.Ss = UserCS, UserSS
	regs.Eflags &^= FlagDF | FlagRF | FlagTF
	return b, addr, regs, nil
}

// Frame is what rt_sigreturn(2) brings back.
type Frame struct {
	Regs  Regs
	FP    []byte // for Thread.SetFPState
	Mask  SigSet
	Stack SigStack // for SigStack.Set; an error there is ignored
}

// ParseFrame reads the signal frame of a thread that called rt_sigreturn with the registers r. Whatever the frame says,
// the result is safe to give to a thread. An error (EFAULT, EINVAL) means that the thread gets SIGSEGV.
func ParseFrame(mem uio.Memory, r *Regs, l *FPLayout) (*Frame, error) {
	addr := r.Rsp - 8 // the handler's return has popped the restorer's address
	if addr > r.Rsp {
		return nil, unix.EFAULT
	}
	// One read gets the frame and, where BuildFrame puts it, the extended state.
	b := make([]byte, frameSize+fpAlign+16+l.FrameSize())
	n, _ := mem.ReadAt(b, addr)
	if n < offInfo {
		return nil, unix.EFAULT
	}
	b = b[:n]
	le := binary.LittleEndian
	f := &Frame{Regs: *r, Mask: SigSet(le.Uint64(b[offMask:])) &^ Unblockable, Stack: DecodeSigStack(b[offUCStack:])}
	for i, reg := range context(&f.Regs) {
		*reg = le.Uint64(b[offContext+8*i:])
	}
	f.Regs.Orig_rax = NoSyscall
	Sanitize(&f.Regs)
	fp := le.Uint64(b[offFPPtr:])
	if fp == 0 {
		f.FP = l.Init()
		return f, nil
	}
	if !Canonical(fp) {
		return nil, unix.EFAULT
	}
	var err error
	f.FP, err = l.get(func(off, n int) ([]byte, error) {
		if at := fp + uint64(off) - addr; at <= uint64(len(b)) && uint64(n) <= uint64(len(b))-at {
			return b[at : at+uint64(n)], nil
		}
		p := make([]byte, n)
		return p, uio.ReadFull(mem, p, fp+uint64(off))
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}
