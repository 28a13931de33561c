package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

// Trace, if not nil, is called after each call with its result, for the strace-like log. Set once at boot.
var Trace func(t *task.Task, nr int32, a *platform.Args, v uint64, err error)

// Dispatch runs a system call. It is task.Kernel's Dispatch.
func Dispatch(t *task.Task, nr platform.Sysno, a *platform.Args) (v uint64, err error) {
	if uint32(nr) >= uint32(len(Table)) || Table[nr].Fn == nil {
		err = unknown(t, nr)
	} else if t.Resumes(nr) {
		v, err = t.Restart()
	} else {
		v, err = Table[nr].Fn(t, a)
	}
	if Trace != nil {
		Trace(t, nr, a, v, err)
	}
	return v, err
}

// unknown is a call that does not exist, logged once a program: for dmesg(1) and the option debug, as many programs ask
// for things that they can do without, and the console is somebody's terminal.
func unknown(t *task.Task, nr int32) error {
	if uint32(nr) < uint32(len(Table)) {
		name := Table[nr].Name
		klog.OnceAt(klog.Debug, t.Comm()+"/"+name+"/"+string(rune(nr)),
			"%s[%d]: no system call %d (%s) here", t.Comm(), t.PID(), nr, name)
	}
	return unix.ENOSYS
}
