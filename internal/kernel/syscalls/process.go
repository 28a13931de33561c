package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/cgroupfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_CLONE:           {Name: "clone", Fn: sysClone, Lane: platform.Trace},
		unix.SYS_CLONE3:          {Name: "clone3", Fn: sysClone3, Lane: platform.Trace, Note: "no namespaces but those of mounts, no set_tid"},
		unix.SYS_FORK:            {Name: "fork", Fn: sysFork, Lane: platform.Trace},
		unix.SYS_VFORK:           {Name: "vfork", Fn: sysVfork, Lane: platform.Trace},
		unix.SYS_EXECVE:          {Name: "execve", Fn: sysExecve},
		unix.SYS_EXECVEAT:        {Name: "execveat", Fn: sysExecveat},
		unix.SYS_EXIT:            {Name: "exit", Fn: sysExit},
		unix.SYS_EXIT_GROUP:      {Name: "exit_group", Fn: sysExitGroup},
		unix.SYS_WAIT4:           {Name: "wait4", Fn: sysWait4},
		unix.SYS_WAITID:          {Name: "waitid", Fn: sysWaitid},
		unix.SYS_GETPID:          {Name: "getpid", Fn: func(t *task.Task, _ *platform.Args) (uint64, error) { return uint64(t.PID()), nil }},
		unix.SYS_GETTID:          {Name: "gettid", Fn: func(t *task.Task, _ *platform.Args) (uint64, error) { return uint64(t.TID()), nil }},
		unix.SYS_GETPPID:         {Name: "getppid", Fn: func(t *task.Task, _ *platform.Args) (uint64, error) { return uint64(t.Group.PPID()), nil }},
		unix.SYS_GETPGRP:         {Name: "getpgrp", Fn: func(t *task.Task, _ *platform.Args) (uint64, error) { return uint64(t.PgrpID()), nil }},
		unix.SYS_GETPGID:         {Name: "getpgid", Fn: sysGetpgid},
		unix.SYS_SETPGID:         {Name: "setpgid", Fn: sysSetpgid},
		unix.SYS_GETSID:          {Name: "getsid", Fn: sysGetsid},
		unix.SYS_SETSID:          {Name: "setsid", Fn: sysSetsid},
		unix.SYS_SET_TID_ADDRESS: {Name: "set_tid_address", Fn: sysSetTidAddress},
		unix.SYS_SET_ROBUST_LIST: {Name: "set_robust_list", Fn: sysSetRobustList},
		unix.SYS_GET_ROBUST_LIST: {Name: "get_robust_list", Fn: sysGetRobustList},
		unix.SYS_UNSHARE:         {Name: "unshare", Fn: sysUnshare, Note: "CLONE_FS, CLONE_FILES, CLONE_SYSVSEM and mount namespaces"},
		unix.SYS_SETNS:           {Name: "setns", Fn: sysSetns, Note: "mount namespaces"},
	})
}

// csignal is the part of clone's flags that is the exit signal.
const csignal = 0xff

func sysClone(t *task.Task, a *platform.Args) (uint64, error) {
	return clone(t, &task.CloneArgs{
		Flags: a[0] &^ csignal & 0xffffffff, ExitSignal: a[0] & csignal,
		Stack: a[1], ParentTID: a[2], PIDFd: a[2], ChildTID: a[3], TLS: a[4],
	})
}

func sysFork(t *task.Task, _ *platform.Args) (uint64, error) {
	return clone(t, &task.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)})
}

func sysVfork(t *task.Task, _ *platform.Args) (uint64, error) {
	return clone(t, &task.CloneArgs{Flags: unix.CLONE_VFORK | unix.CLONE_VM, ExitSignal: uint64(unix.SIGCHLD)})
}

// Sizes of struct clone_args.
const (
	cloneArgsVer0 = 64
	cloneArgsMax  = 88
)

func sysClone3(t *task.Task, a *platform.Args) (uint64, error) {
	size := a[1]
	if size < cloneArgsVer0 {
		return 0, unix.EINVAL
	}
	if size > abi.PageSize {
		return 0, unix.E2BIG
	}
	b := make([]byte, max(size, cloneArgsMax))
	if err := uio.ReadFull(t.Mem(), b[:size], a[0]); err != nil {
		return 0, err
	}
	for _, x := range b[cloneArgsMax:] {
		if x != 0 {
			return 0, unix.E2BIG
		}
	}
	f := func(i int) uint64 { return le.Uint64(b[8*i:]) }
	flags, stack, stackSize := f(0), f(5), f(6)
	setTID, setTIDSize, cgroup := f(8), f(9), f(10)
	switch {
	case flags&csignal != 0, flags>>34 != 0, f(4) > arch.NSIG,
		(stack == 0) != (stackSize == 0),
		flags&(unix.CLONE_THREAD|unix.CLONE_PARENT) != 0 && f(4) != 0,
		setTIDSize > 32, (setTID == 0) != (setTIDSize == 0), flags&unix.CLONE_DETACHED != 0:
		return 0, unix.EINVAL
	case setTIDSize != 0:
		return 0, unix.EPERM
	}
	if stack != 0 && (stack+stackSize < stack || stack+stackSize > 1<<47) {
		return 0, unix.EINVAL
	}
	ca := &task.CloneArgs{Flags: flags, PIDFd: f(1), ChildTID: f(2), ParentTID: f(3), ExitSignal: f(4), Stack: stack + stackSize, TLS: f(7)}
	if flags&unix.CLONE_INTO_CGROUP != 0 {
		if cgroup >= 1<<31 || size < cloneArgsMax {
			return 0, unix.EINVAL
		}
		dir, err := anyFile(t, cgroup)
		if err != nil {
			return 0, err
		}
		ca.Cgroup, err = cgroupfs.ForFork(t, dir, t.Group.Cgroup())
		dir.DecRef()
		if err != nil {
			return 0, err
		}
	}
	return clone(t, ca)
}

func clone(t *task.Task, c *task.CloneArgs) (uint64, error) {
	if c.Flags&unix.CLONE_PIDFD != 0 {
		if c.Flags&unix.CLONE_THREAD != 0 {
			return 0, unix.EINVAL
		}
		c.NewPidfd = func(g *task.ThreadGroup) (int32, error) { return newPidfd(t, g, 0) }
		c.UndoPidfd = func(fd int32) { t.Files().Close(t, fd) }
	}
	id, err := t.Clone(c)
	return uint64(id), err
}

func sysExit(t *task.Task, a *platform.Args) (uint64, error) {
	t.Exit(int32(a[0]&0xff) << 8)
	return 0, nil
}

func sysExitGroup(t *task.Task, a *platform.Args) (uint64, error) {
	t.ExitGroup(int32(a[0]&0xff) << 8)
	return 0, nil
}

// wallOptions are __WALL, __WCLONE and __WNOTHREAD.
const wallOptions = unix.WALL | unix.WCLONE | unix.WNOTHREAD

func sysWait4(t *task.Task, a *platform.Args) (uint64, error) {
	pid, opt := i32(a[0]), u32(a[2])
	if opt&^(unix.WNOHANG|unix.WUNTRACED|unix.WCONTINUED|wallOptions) != 0 {
		return 0, unix.EINVAL
	}
	s := task.WaitSpec{Options: opt&(unix.WNOHANG|unix.WCONTINUED|wallOptions) | unix.WEXITED}
	if opt&unix.WUNTRACED != 0 {
		s.Options |= unix.WSTOPPED
	}
	switch {
	case pid == -1<<31:
		return 0, unix.ESRCH
	case pid > 0:
		s.PID = pid
	case pid == 0:
		s.Pgrp = t.PgrpID()
	case pid < -1:
		s.Pgrp = -pid
	}
	r, err := t.Wait(s)
	if err != nil || r.PID == 0 {
		return 0, err
	}
	if a[1] != 0 {
		if err := writeU32(t, a[1], uint32(r.Status)); err != nil {
			return 0, err
		}
	}
	if a[3] != 0 {
		if err := uio.WriteFull(t.Mem(), encodeRusage(&r.Usage), a[3]); err != nil {
			return 0, err
		}
	}
	return uint64(r.PID), nil
}

func encodeRusage(r *unix.Rusage) []byte {
	b := make([]byte, 0, 144)
	for _, v := range []int64{r.Utime.Sec, r.Utime.Usec, r.Stime.Sec, r.Stime.Usec, r.Maxrss, r.Ixrss, r.Idrss, r.Isrss,
		r.Minflt, r.Majflt, r.Nswap, r.Inblock, r.Oublock, r.Msgsnd, r.Msgrcv, r.Nsignals, r.Nvcsw, r.Nivcsw} {
		b = le.AppendUint64(b, uint64(v))
	}
	return b
}

func sysWaitid(t *task.Task, a *platform.Args) (uint64, error) {
	which, id, opt := i32(a[0]), i32(a[1]), u32(a[3])
	if opt&^(unix.WNOHANG|unix.WNOWAIT|unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED|wallOptions) != 0 ||
		opt&(unix.WEXITED|unix.WSTOPPED|unix.WCONTINUED) == 0 {
		return waitidResult(t, a, task.WaitResult{}, unix.EINVAL)
	}
	s := task.WaitSpec{Options: opt}
	switch which {
	case unix.P_ALL:
	case unix.P_PID:
		if id <= 0 {
			return waitidResult(t, a, task.WaitResult{}, unix.EINVAL)
		}
		s.PID = id
	case unix.P_PGID:
		if id < 0 {
			return waitidResult(t, a, task.WaitResult{}, unix.EINVAL)
		}
		if s.Pgrp = id; id == 0 {
			s.Pgrp = t.PgrpID()
		}
	case unix.P_PIDFD:
		if id < 0 {
			return waitidResult(t, a, task.WaitResult{}, unix.EINVAL)
		}
		pid, nonblock, err := pidfdTarget(t, id)
		if err != nil {
			return waitidResult(t, a, task.WaitResult{}, err)
		}
		s.PID = pid
		if nonblock {
			s.Options |= unix.WNOHANG
		}
		r, err := t.Wait(s)
		if err == nil && r.PID == 0 && nonblock && opt&unix.WNOHANG == 0 {
			err = unix.EAGAIN
		}
		return waitidResult(t, a, r, err)
	default:
		return waitidResult(t, a, task.WaitResult{}, unix.EINVAL)
	}
	r, err := t.Wait(s)
	return waitidResult(t, a, r, err)
}

// waitidResult stores the result of waitid. As on Linux, an error does not keep it from storing zeroes.
func waitidResult(t *task.Task, a *platform.Args, r task.WaitResult, err error) (uint64, error) {
	if err == nil && a[4] != 0 && r.PID != 0 {
		if err := uio.WriteFull(t.Mem(), encodeRusage(&r.Usage), a[4]); err != nil {
			return 0, err
		}
	}
	if a[2] != 0 {
		var b [arch.SiginfoSize]byte
		n := 28 // the fields that waitid fills: nothing beyond si_status
		if r.PID != 0 {
			i := arch.InfoChild(r.Code, r.PID, r.UID, r.Info, 0, 0)
			b = i.Encode()
		}
		if err := uio.WriteFull(t.Mem(), b[:n], a[2]); err != nil {
			return 0, err
		}
	}
	return 0, err
}

func sysGetpgid(t *task.Task, a *platform.Args) (uint64, error) {
	id, err := t.Getpgid(i32(a[0]))
	return uint64(id), err
}

func sysSetpgid(t *task.Task, a *platform.Args) (uint64, error) {
	if pgid := i32(a[1]); pgid < 0 || pgid == 0 && i32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	if i32(a[0]) < 0 {
		return 0, unix.ESRCH
	}
	return 0, t.Setpgid(i32(a[0]), i32(a[1]))
}

func sysGetsid(t *task.Task, a *platform.Args) (uint64, error) {
	id, err := t.Getsid(i32(a[0]))
	return uint64(id), err
}

func sysSetsid(t *task.Task, _ *platform.Args) (uint64, error) {
	id, err := t.Setsid()
	return uint64(id), err
}

func sysSetTidAddress(t *task.Task, a *platform.Args) (uint64, error) {
	t.SetClearTID(a[0])
	return uint64(t.TID()), nil
}

func sysSetRobustList(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] != 24 {
		return 0, unix.EINVAL
	}
	t.SetRobustList(a[0])
	return 0, nil
}

func sysGetRobustList(t *task.Task, a *platform.Args) (uint64, error) {
	x := t
	if pid := i32(a[0]); pid != 0 {
		if x = t.K.FindTask(pid); x == nil {
			return 0, unix.ESRCH
		}
		if err := t.CanPtrace(x); err != nil {
			return 0, err
		}
	}
	if err := writeU64(t, a[2], 24); err != nil {
		return 0, err
	}
	return 0, writeU64(t, a[1], x.RobustList())
}

// sysSetns implements setns(2), for an open name space or for that of a process.
func sysSetns(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := t.Files().Get(i32(a[0]))
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	kind := u32(a[1])
	if g, ok := anonfs.PidFDOf(f).(*task.ThreadGroup); ok {
		if kind != unix.CLONE_NEWNS {
			return 0, unix.EINVAL
		}
		x := g.Leader()
		if x == nil || g.Dead() {
			return 0, unix.ESRCH
		}
		if t.CanPtrace(x) != nil {
			return 0, unix.EPERM
		}
		if fs := x.FS(); fs != nil && fs.Namespace() != nil {
			return 0, t.JoinNamespace(fs.Namespace())
		}
		return 0, unix.ESRCH
	}
	mounts, ok := procfs.MountsOf(f)
	if !ok || mounts == nil || kind != 0 && kind != unix.CLONE_NEWNS {
		return 0, unix.EINVAL
	}
	return 0, t.JoinNamespace(mounts)
}

func sysUnshare(t *task.Task, a *platform.Args) (uint64, error) {
	const known = unix.CLONE_THREAD | unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_SIGHAND | unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_SYSVSEM
	fl := a[0]
	if fl&^known != 0 {
		return 0, unix.EINVAL
	}
	if fl&unix.CLONE_NEWNS != 0 && !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	if fl&(unix.CLONE_THREAD|unix.CLONE_SIGHAND|unix.CLONE_VM) != 0 && t.Group.Live() > 1 {
		return 0, unix.EINVAL
	}
	if fl&(unix.CLONE_FS|unix.CLONE_NEWNS) != 0 {
		t.UnshareFS()
	}
	if fl&unix.CLONE_NEWNS != 0 {
		if err := t.FS().UnshareNamespace(t); err != nil {
			return 0, err
		}
	}
	if fl&unix.CLONE_FILES != 0 {
		if err := t.UnshareFiles(); err != nil {
			return 0, err
		}
	}
	if fl&unix.CLONE_SYSVSEM != 0 {
		t.UnshareSemUndo()
	}
	return 0, nil
}
