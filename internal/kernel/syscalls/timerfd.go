package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_TIMERFD_CREATE:  {Name: "timerfd_create", Fn: sysTimerfdCreate},
		unix.SYS_TIMERFD_SETTIME: {Name: "timerfd_settime", Fn: sysTimerfdSettime},
		unix.SYS_TIMERFD_GETTIME: {Name: "timerfd_gettime", Fn: sysTimerfdGettime},
	})
}

// sysTimerfdCreate implements timerfd_create(2).
func sysTimerfdCreate(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[1])
	if flags&^(unix.TFD_CLOEXEC|unix.TFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	f, err := anonfs.NewTimerFD(t, int(i32(a[0])), flags)
	if err != nil {
		return 0, err
	}
	return install(t, f, flags&unix.TFD_CLOEXEC != 0)
}

// timerFD returns the timer of a descriptor and its file, with a reference.
func timerFD(t *task.Task, fd uint64) (*anonfs.TimerFD, *vfs.File, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	x := anonfs.TimerFDOf(f)
	if x == nil {
		f.DecRef()
		return nil, nil, unix.EINVAL
	}
	return x, f, nil
}

// sysTimerfdSettime implements timerfd_settime(2).
func sysTimerfdSettime(t *task.Task, a *platform.Args) (uint64, error) {
	var b [32]byte
	if err := uio.ReadFull(t.Mem(), b[:], a[2]); err != nil {
		return 0, err
	}
	interval, err := decodeTimespec(b[:16])
	if err != nil {
		return 0, err
	}
	value, err := decodeTimespec(b[16:])
	if err != nil {
		return 0, err
	}
	flags := u32(a[1])
	if flags&^(unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET) != 0 {
		return 0, unix.EINVAL
	}
	x, f, err := timerFD(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	oldValue, oldInterval := x.Set(int(flags), value, interval)
	if a[3] == 0 {
		return 0, nil
	}
	return 0, writeItimerspec(t, a[3], oldValue, oldInterval)
}

// sysTimerfdGettime implements timerfd_gettime(2).
func sysTimerfdGettime(t *task.Task, a *platform.Args) (uint64, error) {
	x, f, err := timerFD(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	value, interval := x.Get()
	return 0, writeItimerspec(t, a[1], value, interval)
}

func writeItimerspec(t *task.Task, addr uint64, value, interval int64) error {
	var b [32]byte
	return uio.WriteFull(t.Mem(), appendTimespec(appendTimespec(b[:0], interval), value), addr)
}
