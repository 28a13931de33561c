package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PIPE:  {Name: "pipe", Fn: sysPipe},
		unix.SYS_PIPE2: {Name: "pipe2", Fn: sysPipe2},
	})
}

// install puts a new file at the lowest free descriptor; the file is released if there is none.
func install(t *task.Task, f *vfs.File, cloexec bool) (uint64, error) {
	return installFrom(t, f, 0, cloexec)
}

// installPair installs two files and stores their descriptors as an int[2] at addr.
func installPair(t *task.Task, a, b *vfs.File, cloexec bool, addr uint64) error {
	fa, err := install(t, a, cloexec)
	if err != nil {
		b.DecRef()
		return err
	}
	fb, err := install(t, b, cloexec)
	if err == nil {
		var p [8]byte
		le.PutUint32(p[:], uint32(fa))
		le.PutUint32(p[4:], uint32(fb))
		if err = uio.WriteFull(t.Mem(), p[:], addr); err == nil {
			return nil
		}
		_ = t.Files().Close(t, int32(fb)) // the error to report is EFAULT
	}
	_ = t.Files().Close(t, int32(fa))
	return err
}

// sysPipe implements pipe(2).
func sysPipe(t *task.Task, a *platform.Args) (uint64, error) {
	r, w := pipefs.New(t, 0)
	return 0, installPair(t, r, w, false, a[0])
}

// sysPipe2 implements pipe2(2).
func sysPipe2(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[1])
	if flags&^(unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECT) != 0 {
		return 0, unix.EINVAL
	}
	r, w := pipefs.New(t, flags)
	return 0, installPair(t, r, w, flags&unix.O_CLOEXEC != 0, a[0])
}
