package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_RT_SIGACTION:      {Name: "rt_sigaction", Fn: sysRtSigaction},
		unix.SYS_RT_SIGPROCMASK:    {Name: "rt_sigprocmask", Fn: sysRtSigprocmask},
		unix.SYS_RT_SIGRETURN:      {Name: "rt_sigreturn", Fn: sysRtSigreturn, Lane: platform.Trace},
		unix.SYS_RT_SIGPENDING:     {Name: "rt_sigpending", Fn: sysRtSigpending},
		unix.SYS_RT_SIGTIMEDWAIT:   {Name: "rt_sigtimedwait", Fn: sysRtSigtimedwait},
		unix.SYS_RT_SIGQUEUEINFO:   {Name: "rt_sigqueueinfo", Fn: sysRtSigqueueinfo},
		unix.SYS_RT_TGSIGQUEUEINFO: {Name: "rt_tgsigqueueinfo", Fn: sysRtTgsigqueueinfo},
		unix.SYS_RT_SIGSUSPEND:     {Name: "rt_sigsuspend", Fn: sysRtSigsuspend},
		unix.SYS_SIGALTSTACK:       {Name: "sigaltstack", Fn: sysSigaltstack, Lane: platform.Trace},
		unix.SYS_KILL:              {Name: "kill", Fn: sysKill},
		unix.SYS_TKILL:             {Name: "tkill", Fn: sysTkill},
		unix.SYS_TGKILL:            {Name: "tgkill", Fn: sysTgkill},
		unix.SYS_PAUSE:             {Name: "pause", Fn: sysPause},
		unix.SYS_RESTART_SYSCALL:   {Name: "restart_syscall", Fn: sysRestartSyscall, Lane: platform.NativeNotify},
	})
}

func readSigset(t *task.Task, addr uint64) (arch.SigSet, error) {
	var b [8]byte
	err := uio.ReadFull(t.Mem(), b[:], addr)
	return arch.SigSet(le.Uint64(b[:])), err
}

func sysRtSigaction(t *task.Task, a *platform.Args) (uint64, error) {
	if a[3] != 8 {
		return 0, unix.EINVAL
	}
	var b [arch.SigactionSize]byte
	var n *arch.Sigaction
	if a[1] != 0 {
		if err := uio.ReadFull(t.Mem(), b[:], a[1]); err != nil {
			return 0, err
		}
		d := arch.DecodeSigaction(&b)
		// Bits that the kernel does not know read back as zero (sigaction(2), "Dynamically probing for flag bit support").
		d.Flags &= arch.SA_NOCLDSTOP | arch.SA_NOCLDWAIT | arch.SA_SIGINFO | arch.SA_RESTORER | arch.SA_ONSTACK | arch.SA_RESTART | arch.SA_NODEFER | arch.SA_RESETHAND | arch.SA_EXPOSE_TAG
		n = &d
	}
	old, err := t.Sigaction(unix.Signal(i32(a[0])), n)
	if err != nil {
		return 0, err
	}
	if a[2] != 0 {
		b = old.Encode()
		return 0, uio.WriteFull(t.Mem(), b[:], a[2])
	}
	return 0, nil
}

func sysRtSigprocmask(t *task.Task, a *platform.Args) (uint64, error) {
	if a[3] != 8 {
		return 0, unix.EINVAL
	}
	old := t.Sigmask()
	if a[1] != 0 {
		set, err := readSigset(t, a[1])
		if err != nil {
			return 0, err
		}
		switch i32(a[0]) {
		case unix.SIG_BLOCK:
			set |= old
		case unix.SIG_UNBLOCK:
			set = old &^ set
		case unix.SIG_SETMASK:
		default:
			return 0, unix.EINVAL
		}
		t.SetSigmask(set)
	}
	if a[2] != 0 {
		return 0, writeU64(t, a[2], uint64(old))
	}
	return 0, nil
}

func sysRtSigreturn(t *task.Task, _ *platform.Args) (uint64, error) {
	t.Sigreturn()
	return 0, nil
}

func sysRtSigpending(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] > 8 {
		return 0, unix.EINVAL
	}
	var b [8]byte
	le.PutUint64(b[:], uint64(t.BlockedPending()))
	return 0, uio.WriteFull(t.Mem(), b[:a[1]], a[0])
}

func sysRtSigtimedwait(t *task.Task, a *platform.Args) (uint64, error) {
	if a[3] != 8 {
		return 0, unix.EINVAL
	}
	set, err := readSigset(t, a[0])
	if err != nil {
		return 0, err
	}
	deadline := ktime.Forever
	if a[2] != 0 {
		ns, err := readTimespec(t, a[2])
		if err != nil {
			return 0, err
		}
		deadline = after(ns)
	}
	s, err := t.Sigtimedwait(set, deadline)
	if err != nil {
		return 0, err
	}
	if a[1] != 0 {
		b := s.Encode()
		if err := uio.WriteFull(t.Mem(), b[:], a[1]); err != nil {
			return 0, err
		}
	}
	return uint64(s.Signo), nil
}

// readSiginfo is what the sigqueueinfo calls are given: its code must not be one that only the kernel uses.
func readSiginfo(t *task.Task, addr uint64, sig int32) (s arch.Siginfo, err error) {
	var b [arch.SiginfoSize]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return s, err
	}
	if s, err = arch.DecodeSiginfo(&b); err != nil {
		return s, err
	}
	s.Signo = sig
	return s, nil
}

func sysRtSigqueueinfo(t *task.Task, a *platform.Args) (uint64, error) {
	s, err := readSiginfo(t, a[2], i32(a[1]))
	if err != nil {
		return 0, err
	}
	if (s.Code >= 0 || s.Code == arch.SI_TKILL) && i32(a[0]) != t.PID() {
		return 0, unix.EPERM
	}
	if i32(a[0]) <= 0 {
		return 0, unix.ESRCH
	}
	return 0, t.Kill(i32(a[0]), s)
}

func sysRtTgsigqueueinfo(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[0]) <= 0 || i32(a[1]) <= 0 {
		return 0, unix.EINVAL
	}
	s, err := readSiginfo(t, a[3], i32(a[2]))
	if err != nil {
		return 0, err
	}
	if (s.Code >= 0 || s.Code == arch.SI_TKILL) && i32(a[1]) != t.TID() {
		return 0, unix.EPERM
	}
	return 0, t.Tgkill(i32(a[0]), i32(a[1]), s)
}

func sysRtSigsuspend(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] != 8 {
		return 0, unix.EINVAL
	}
	set, err := readSigset(t, a[0])
	if err != nil {
		return 0, err
	}
	return t.WithSigmask(set, func() (uint64, error) { return sysPause(t, a) })
}

func sysPause(t *task.Task, _ *platform.Args) (uint64, error) {
	for {
		if err := t.Sleep(ktime.Forever); err != nil {
			return 0, abi.ERESTARTNOHAND
		}
	}
}

func sysSigaltstack(t *task.Task, a *platform.Args) (uint64, error) {
	r, err := t.Thread().Regs()
	if err != nil {
		return 0, unix.EFAULT
	}
	cur := t.Altstack()
	old := *cur
	oldFlags := old.Status(r.Rsp)
	if a[0] != 0 {
		var b [arch.SigStackSize]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[0]); err != nil {
			return 0, err
		}
		if err := cur.Set(arch.DecodeSigStack(b[:]), r.Rsp, arch.MINSIGSTKSZ); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		old.Flags = oldFlags
		b := old.Encode()
		return 0, uio.WriteFull(t.Mem(), b[:], a[1])
	}
	return 0, nil
}

func sysKill(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.Kill(i32(a[0]), arch.InfoKill(unix.Signal(i32(a[1])), t.PID(), t.Cred().UID))
}

func sysTkill(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.Tgkill(-1, i32(a[0]), arch.InfoTkill(unix.Signal(i32(a[1])), t.PID(), t.Cred().UID))
}

func sysTgkill(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[0]) <= 0 {
		return 0, unix.EINVAL
	}
	return 0, t.Tgkill(i32(a[0]), i32(a[1]), arch.InfoTkill(unix.Signal(i32(a[2])), t.PID(), t.Cred().UID))
}

func sysRestartSyscall(t *task.Task, _ *platform.Args) (uint64, error) { return t.Restart() }
