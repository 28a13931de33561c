package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

func init() {
	register(map[int]Entry{
		unix.SYS_MEMFD_CREATE: {Name: "memfd_create", Fn: sysMemfdCreate, Note: "MFD_HUGETLB gives EINVAL"},
	})
}

// memfdNameMax is the longest name, with its final zero.
const memfdNameMax = 250

// sysMemfdCreate implements memfd_create(2).
func sysMemfdCreate(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[1])
	if !tmpfs.ValidMemfdFlags(flags) {
		return 0, unix.EINVAL
	}
	name, err := copyString(t, a[0], memfdNameMax, unix.EINVAL)
	if err != nil {
		return 0, err
	}
	f, err := tmpfs.NewMemfd(t, name, flags)
	if err != nil {
		return 0, err
	}
	return install(t, f, flags&unix.MFD_CLOEXEC != 0)
}
