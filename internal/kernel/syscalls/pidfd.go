package syscalls

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PIDFD_OPEN:        {Name: "pidfd_open", Fn: sysPidfdOpen},
		unix.SYS_PIDFD_SEND_SIGNAL: {Name: "pidfd_send_signal", Fn: sysPidfdSendSignal},
		unix.SYS_PIDFD_GETFD:       {Name: "pidfd_getfd", Fn: sysPidfdGetfd},
	})
}

// Flags of pidfd_send_signal(2) (linux/pidfd.h).
const (
	pidfdSignalThread = 1 << iota
	pidfdSignalGroup
	pidfdSignalPgrp

	pidfdSignalAll = pidfdSignalThread | pidfdSignalGroup | pidfdSignalPgrp
)

// newPidfd installs a pidfd for a process in t.
func newPidfd(t *task.Task, g *task.ThreadGroup, flags uint32) (int32, error) {
	f := anonfs.NewPidFD(t, g, flags)
	fd, err := t.Files().Install(t, f, 0, true)
	if err != nil {
		f.DecRef()
	}
	return fd, err
}

// pidfdGroup is the process of a pidfd; EBADF, and EINVAL if it is another kind of file.
func pidfdGroup(t *task.Task, fd int32) (g *task.ThreadGroup, nonblock bool, err error) {
	f, err := t.Files().Get(fd)
	if err != nil {
		return nil, false, err
	}
	defer f.DecRef()
	g, ok := anonfs.PidFDOf(f).(*task.ThreadGroup)
	if !ok {
		return nil, false, unix.EBADF
	}
	return g, f.Nonblock(), nil
}

// pidfdTarget is the id to wait for and whether the pidfd is nonblocking.
func pidfdTarget(t *task.Task, fd int32) (int32, bool, error) {
	g, nb, err := pidfdGroup(t, fd)
	if err != nil {
		return 0, false, err
	}
	if g.Reaped() {
		return 0, nb, unix.ECHILD
	}
	return g.PID(), nb, nil
}

func sysPidfdOpen(t *task.Task, a *platform.Args) (uint64, error) {
	pid, flags := i32(a[0]), u32(a[1])
	if flags&^unix.PIDFD_NONBLOCK != 0 || pid <= 0 {
		return 0, unix.EINVAL
	}
	x := t.K.FindTask(pid)
	if x == nil {
		return 0, unix.ESRCH
	}
	if x.PID() != pid {
		return 0, unix.EINVAL
	}
	fd, err := newPidfd(t, x.Group, flags)
	return uint64(fd), err
}

// signalledGroup is pidfdGroup for pidfd_send_signal, which also takes a directory /proc/<pid>.
func signalledGroup(t *task.Task, fd int32) (*task.ThreadGroup, error) {
	g, _, err := pidfdGroup(t, fd)
	if err != unix.EBADF {
		return g, err
	}
	f, err := t.Files().Get(fd)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	if g = procfs.GroupOf(f); g == nil {
		return nil, unix.EBADF
	}
	return g, nil
}

func sysPidfdSendSignal(t *task.Task, a *platform.Args) (uint64, error) {
	sig := i32(a[1])
	flags := u32(a[3])
	if flags&^pidfdSignalAll != 0 || bits.OnesCount32(flags) > 1 {
		return 0, unix.EINVAL
	}
	g, err := signalledGroup(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	if sig < 0 || sig > arch.NSIG {
		return 0, unix.EINVAL
	}
	info := arch.InfoKill(unix.Signal(sig), t.PID(), t.Cred().UID)
	if a[2] != 0 {
		if info, err = readSiginfo(t, a[2], sig); err != nil {
			return 0, err
		}
		if (info.Code >= 0 || info.Code == arch.SI_TKILL) && g != t.Group {
			return 0, unix.EPERM
		}
	}
	if g.Reaped() {
		return 0, unix.ESRCH
	}
	if flags&pidfdSignalPgrp != 0 {
		return 0, t.Kill(-g.PID(), info)
	}
	if err := t.MayKill(g, unix.Signal(sig)); err != nil || sig == 0 {
		return 0, err
	}
	if l := g.Leader(); l != nil && flags&pidfdSignalThread != 0 {
		return 0, l.SendSignal(info)
	}
	return 0, g.SendSignal(info)
}

func sysPidfdGetfd(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[2]) != 0 {
		return 0, unix.EINVAL
	}
	g, _, err := pidfdGroup(t, i32(a[0]))
	if err != nil {
		return 0, err
	}
	l := g.Leader()
	if g.Reaped() || l == nil {
		return 0, unix.ESRCH
	}
	if err := t.CanPtrace(l); err != nil {
		return 0, err
	}
	files := l.Files()
	if files == nil {
		return 0, unix.ESRCH
	}
	f, err := files.Get(i32(a[1]))
	if err != nil {
		return 0, err
	}
	fd, err := t.Files().Install(t, f, 0, true)
	if err != nil {
		f.DecRef()
	}
	return uint64(fd), err
}
