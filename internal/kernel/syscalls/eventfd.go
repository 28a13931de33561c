package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

func init() {
	register(map[int]Entry{
		unix.SYS_EVENTFD:  {Name: "eventfd", Fn: sysEventfd},
		unix.SYS_EVENTFD2: {Name: "eventfd2", Fn: sysEventfd2},
	})
}

// sysEventfd implements the old eventfd call, without flags.
func sysEventfd(t *task.Task, a *platform.Args) (uint64, error) {
	return install(t, anonfs.NewEventFD(t, u32(a[0]), 0), false)
}

// sysEventfd2 implements eventfd(2).
func sysEventfd2(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[1])
	if flags&^(unix.EFD_SEMAPHORE|unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	return install(t, anonfs.NewEventFD(t, u32(a[0]), flags), flags&unix.EFD_CLOEXEC != 0)
}
