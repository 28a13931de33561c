package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SIGNALFD:  {Name: "signalfd", Fn: sysSignalfd},
		unix.SYS_SIGNALFD4: {Name: "signalfd4", Fn: sysSignalfd4},
	})
}

// sysSignalfd implements the old signalfd call, without flags.
func sysSignalfd(t *task.Task, a *platform.Args) (uint64, error) {
	return signalfd(t, i32(a[0]), a[1], a[2], 0)
}

// sysSignalfd4 implements signalfd(2).
func sysSignalfd4(t *task.Task, a *platform.Args) (uint64, error) {
	return signalfd(t, i32(a[0]), a[1], a[2], u32(a[3]))
}

func signalfd(t *task.Task, fd int32, addr, size uint64, flags uint32) (uint64, error) {
	if size != 8 || flags&^(unix.SFD_CLOEXEC|unix.SFD_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	mask, err := readSigset(t, addr)
	if err != nil {
		return 0, err
	}
	if fd == -1 {
		return install(t, anonfs.NewSignalFD(t, t, arch.SigSet(mask), flags), flags&unix.SFD_CLOEXEC != 0)
	}
	f, err := openFile(t, uint64(uint32(fd)))
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	s := anonfs.SignalFDOf(f)
	if s == nil {
		return 0, unix.EINVAL
	}
	s.SetMask(arch.SigSet(mask))
	return uint64(fd), nil
}
