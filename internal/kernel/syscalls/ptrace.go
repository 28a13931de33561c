package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PTRACE: {Name: "ptrace", Fn: sysPtrace, Note: "no PTRACE_SYSEMU"},
	})
}

const (
	ntPrstatus        = 1
	ntPrfpreg         = 2
	ntX86Xstate       = 0x202
	fpregsSize        = 512
	userSize          = 912
	userDebugRegs     = 848
	traceOptionsKnown = 0xff | unix.PTRACE_O_EXITKILL
)

func sysPtrace(t *task.Task, a *platform.Args) (uint64, error) {
	req, pid, addr, data := int64(a[0]), i32(a[1]), a[2], a[3]
	switch req {
	case unix.PTRACE_TRACEME:
		return 0, t.TraceMe()
	case unix.PTRACE_ATTACH, unix.PTRACE_SEIZE:
		x := t.K.FindTask(pid)
		if x == nil {
			return 0, unix.ESRCH
		}
		if req == unix.PTRACE_ATTACH {
			return 0, t.Attach(x, false, 0)
		}
		if addr != 0 || data&^traceOptionsKnown != 0 {
			return 0, unix.EIO
		}
		return 0, t.Attach(x, true, uint32(data))
	}
	x, err := t.Tracee(pid, req != unix.PTRACE_KILL && req != unix.PTRACE_INTERRUPT)
	if err != nil {
		return 0, err
	}
	th := x.Thread()
	switch req {
	case unix.PTRACE_KILL:
		return 0, x.SendSignal(arch.InfoKill(unix.SIGKILL, t.PID(), t.Cred().UID))
	case unix.PTRACE_INTERRUPT:
		x.TraceInterrupt()
		return 0, nil
	case unix.PTRACE_LISTEN:
		return 0, x.TraceListen()
	case unix.PTRACE_CONT, unix.PTRACE_SYSCALL, unix.PTRACE_SINGLESTEP:
		return 0, x.TraceResume(unix.Signal(data), req == unix.PTRACE_SYSCALL, req == unix.PTRACE_SINGLESTEP)
	case unix.PTRACE_DETACH:
		return 0, x.TraceDetach(unix.Signal(data))
	case unix.PTRACE_SETOPTIONS:
		if data&^traceOptionsKnown != 0 {
			return 0, unix.EINVAL
		}
		x.SetTraceOptions(uint32(data))
		return 0, nil
	case unix.PTRACE_GETEVENTMSG:
		return 0, writeU64(t, data, x.TraceMessage())
	case unix.PTRACE_PEEKTEXT, unix.PTRACE_PEEKDATA:
		var b [8]byte
		if x.PeekMem(b[:], addr) != nil {
			return 0, unix.EIO
		}
		return 0, uio.WriteFull(t.Mem(), b[:], data)
	case unix.PTRACE_POKETEXT, unix.PTRACE_POKEDATA:
		var b [8]byte
		le.PutUint64(b[:], data)
		if x.PokeMem(b[:], addr) != nil {
			return 0, unix.EIO
		}
		return 0, nil
	case unix.PTRACE_PEEKUSR, unix.PTRACE_POKEUSR:
		return 0, userArea(t, x, th, addr, data, req == unix.PTRACE_POKEUSR)
	case unix.PTRACE_GETREGS:
		b, err := readRegs(x, th)
		if err != nil {
			return 0, err
		}
		return 0, uio.WriteFull(t.Mem(), b, data)
	case unix.PTRACE_SETREGS:
		b := make([]byte, regsSize)
		if err := uio.ReadFull(t.Mem(), b, data); err != nil {
			return 0, err
		}
		return 0, writeRegs(x, th, b)
	case unix.PTRACE_GETFPREGS, unix.PTRACE_SETFPREGS:
		return 0, transfer(t, uio.Range{Addr: data, Len: fpregsSize}, req == unix.PTRACE_SETFPREGS, fpState(th, fpregsSize))
	case unix.PTRACE_GETREGSET, unix.PTRACE_SETREGSET:
		return 0, regset(t, x, th, uint32(addr), data, req == unix.PTRACE_SETREGSET)
	case unix.PTRACE_GETSIGINFO:
		s := x.CurrentStop()
		if s == nil || s.Info.Signo == 0 {
			return 0, unix.EINVAL
		}
		b := s.Info.Encode()
		return 0, uio.WriteFull(t.Mem(), b[:], data)
	case unix.PTRACE_SETSIGINFO:
		var b [arch.SiginfoSize]byte
		if err := uio.ReadFull(t.Mem(), b[:], data); err != nil {
			return 0, err
		}
		i, err := arch.DecodeSiginfo(&b)
		if s := x.CurrentStop(); s != nil && err == nil {
			s.Info = i
		}
		return 0, err
	case unix.PTRACE_GETSIGMASK:
		if addr != 8 {
			return 0, unix.EINVAL
		}
		return 0, writeU64(t, data, uint64(x.Sigmask()))
	case unix.PTRACE_SETSIGMASK:
		if addr != 8 {
			return 0, unix.EINVAL
		}
		set, err := readSigset(t, data)
		if err == nil {
			x.SetSigmask(set)
		}
		return 0, err
	case unix.PTRACE_GET_SYSCALL_INFO:
		return syscallInfo(t, x, th, addr, data)
	}
	return 0, unix.EIO
}

// regsSize is the size of struct user_regs_struct: 27 words.
const regsSize = 27 * 8

// tracedRegs are the registers as a tracer sees them: in a stop at a system call with its number.
func tracedRegs(x *task.Task, th platform.Thread) (arch.Regs, error) {
	p, err := th.Regs()
	if err != nil {
		return arch.Regs{}, unix.ESRCH
	}
	r := *p
	if s := x.CurrentStop(); s != nil && (s.Entry || s.Exit) {
		r.Orig_rax = uint64(int64(x.TraceNr()))
		if s.Entry {
			r.Rax = abi.Result(0, unix.ENOSYS)
		}
	}
	return r, nil
}

func readRegs(x *task.Task, th platform.Thread) ([]byte, error) {
	r, err := tracedRegs(x, th)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, regsSize)
	for _, w := range arch.RegWords(&r) {
		b = le.AppendUint64(b, *w)
	}
	return b, nil
}

func writeRegs(x *task.Task, th platform.Thread, b []byte) error {
	var r arch.Regs
	for i, w := range arch.RegWords(&r) {
		*w = le.Uint64(b[8*i:])
	}
	return setTracedRegs(x, th, &r)
}

func setTracedRegs(x *task.Task, th platform.Thread, r *arch.Regs) error {
	if s := x.CurrentStop(); s != nil && s.Entry {
		x.SetTraceNr(int32(r.Orig_rax))
	}
	fs, gs := r.Fs_base, r.Gs_base
	if !arch.Canonical(fs) || !arch.Canonical(gs) || !arch.Canonical(r.Rip) {
		return unix.EIO
	}
	arch.Sanitize(r)
	return th.SetRegs(r)
}

// userArea is PTRACE_PEEKUSER and POKEUSER: the registers and the debug registers; all else is zero.
func userArea(t, x *task.Task, th platform.Thread, off, data uint64, poke bool) error {
	if off%8 != 0 || off > userSize-8 {
		return unix.EIO
	}
	if off >= userDebugRegs {
		n := int(off-userDebugRegs) / 8
		if poke {
			return th.SetDebugReg(n, data)
		}
		v, err := th.DebugReg(n)
		if err != nil {
			return err
		}
		return writeU64(t, data, v)
	}
	if off >= regsSize {
		if poke {
			return nil
		}
		return writeU64(t, data, 0)
	}
	r, err := tracedRegs(x, th)
	if err != nil {
		return err
	}
	w := arch.RegWords(&r)[off/8]
	if !poke {
		return writeU64(t, data, *w)
	}
	*w = data
	return setTracedRegs(x, th, &r)
}

// area is a register set that can be read and written as bytes.
type area struct {
	get func() ([]byte, error)
	set func([]byte) error
}

// fpState is the extended state, or its first n bytes.
func fpState(th platform.Thread, n int) area {
	return area{
		get: func() ([]byte, error) {
			b, err := th.FPState()
			if err == nil && n > 0 && len(b) > n {
				b = b[:n]
			}
			return b, err
		},
		set: func(p []byte) error {
			b, err := th.FPState()
			if err != nil {
				return err
			}
			copy(b, p)
			return th.SetFPState(b)
		},
	}
}

// transfer copies a register set out, or in.
func transfer(t *task.Task, r uio.Range, set bool, s area) error {
	b, err := s.get()
	if err != nil {
		return unix.ESRCH
	}
	b = b[:min(uint64(len(b)), r.Len)]
	if !set {
		return uio.WriteFull(t.Mem(), b, r.Addr)
	}
	if err := uio.ReadFull(t.Mem(), b, r.Addr); err != nil {
		return err
	}
	return s.set(b)
}

// regset is PTRACE_GETREGSET and SETREGSET: data points to a struct iovec.
func regset(t, x *task.Task, th platform.Thread, kind uint32, data uint64, set bool) error {
	var iov [16]byte
	if err := uio.ReadFull(t.Mem(), iov[:], data); err != nil {
		return err
	}
	r := uio.Range{Addr: le.Uint64(iov[:]), Len: le.Uint64(iov[8:])}
	var s area
	switch kind {
	case ntPrstatus:
		s = area{
			get: func() ([]byte, error) { return readRegs(x, th) },
			set: func(p []byte) error {
				b, err := readRegs(x, th)
				if err != nil {
					return err
				}
				copy(b, p)
				return writeRegs(x, th, b)
			},
		}
	case ntPrfpreg:
		s = fpState(th, fpregsSize)
	case ntX86Xstate:
		s = fpState(th, 0)
	default:
		return unix.EINVAL
	}
	if r.Len%8 != 0 {
		return unix.EINVAL
	}
	full, err := s.get()
	if err != nil {
		return unix.ESRCH
	}
	if err := transfer(t, r, set, s); err != nil {
		return err
	}
	return writeU64(t, data+8, min(r.Len, uint64(len(full))))
}

// syscallInfo is PTRACE_GET_SYSCALL_INFO: struct ptrace_syscall_info.
func syscallInfo(t, x *task.Task, th platform.Thread, size, addr uint64) (uint64, error) {
	s := x.CurrentStop()
	r, err := tracedRegs(x, th)
	if s == nil || err != nil {
		return 0, unix.ESRCH
	}
	b := make([]byte, 88)
	n := 24
	le.PutUint32(b[4:], unix.AUDIT_ARCH_X86_64)
	le.PutUint64(b[8:], r.Rip)
	le.PutUint64(b[16:], r.Rsp)
	switch {
	case s.Entry:
		b[0] = unix.PTRACE_SYSCALL_INFO_ENTRY
		le.PutUint64(b[24:], uint64(int64(x.TraceNr())))
		for i, v := range s.Args {
			le.PutUint64(b[32+8*i:], v)
		}
		n = 80
		if s.Seccomp {
			b[0] = unix.PTRACE_SYSCALL_INFO_SECCOMP
			le.PutUint32(b[80:], s.Data)
			n = 84
		}
	case s.Exit:
		b[0] = unix.PTRACE_SYSCALL_INFO_EXIT
		le.PutUint64(b[24:], r.Rax)
		n = 33
		if e := int64(r.Rax); e < 0 && e >= -4095 {
			b[32] = 1
		}
	}
	return uint64(n), uio.WriteFull(t.Mem(), b[:min(uint64(n), size)], addr)
}
