package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/inotify"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_INOTIFY_INIT:      {Name: "inotify_init", Fn: sysInotifyInit},
		unix.SYS_INOTIFY_INIT1:     {Name: "inotify_init1", Fn: sysInotifyInit1},
		unix.SYS_INOTIFY_ADD_WATCH: {Name: "inotify_add_watch", Fn: sysInotifyAddWatch},
		unix.SYS_INOTIFY_RM_WATCH:  {Name: "inotify_rm_watch", Fn: sysInotifyRmWatch},
	})
}

// sysInotifyInit implements inotify_init(2).
func sysInotifyInit(t *task.Task, _ *platform.Args) (uint64, error) { return newInotify(t, 0) }

// sysInotifyInit1 implements inotify_init1(2).
func sysInotifyInit1(t *task.Task, a *platform.Args) (uint64, error) { return newInotify(t, u32(a[0])) }

func newInotify(t *task.Task, flags uint32) (uint64, error) {
	if flags&^(unix.IN_CLOEXEC|unix.IN_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	f, err := inotify.New(t, flags)
	if err != nil {
		return 0, err
	}
	return install(t, f, flags&unix.IN_CLOEXEC != 0)
}

// inotifyOf returns the instance of a descriptor and its file, with a reference.
func inotifyOf(t *task.Task, fd uint64) (*inotify.Instance, *vfs.File, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	in := inotify.Of(f)
	if in == nil {
		f.DecRef()
		return nil, nil, unix.EINVAL
	}
	return in, f, nil
}

// sysInotifyAddWatch implements inotify_add_watch(2).
func sysInotifyAddWatch(t *task.Task, a *platform.Args) (uint64, error) {
	if !inotify.ValidMask(u32(a[2])) {
		return 0, unix.EINVAL
	}
	in, f, err := inotifyOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	path, err := copyPath(t, a[1])
	if err != nil {
		return 0, err
	}
	wd, err := in.Add(t, path, u32(a[2]))
	return uint64(wd), err
}

// sysInotifyRmWatch implements inotify_rm_watch(2).
func sysInotifyRmWatch(t *task.Task, a *platform.Args) (uint64, error) {
	in, f, err := inotifyOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, in.Remove(i32(a[1]))
}
