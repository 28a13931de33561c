package syscalls

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/loader"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func sysExecve(t *task.Task, a *platform.Args) (uint64, error) {
	name, err := copyPath(t, a[0])
	if err != nil {
		return 0, err
	}
	return execve(t, nil, -100, name, a[1], a[2], 0)
}

func sysExecveat(t *task.Task, a *platform.Args) (uint64, error) {
	flags := i32(a[4])
	name, err := copyPath(t, a[1])
	if err != nil {
		return 0, err
	}
	if name == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return 0, unix.ENOENT
	}
	if flags&^(unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) != 0 {
		return 0, unix.EINVAL
	}
	var dir *vfs.File
	if fd := i32(a[0]); fd != unix.AT_FDCWD && (name == "" || name[0] != '/') {
		if dir, err = t.Files().Get(fd); err != nil {
			return 0, err
		}
		defer dir.DecRef()
	}
	return execve(t, dir, i32(a[0]), name, a[2], a[3], int(flags))
}

func execve(t *task.Task, dir *vfs.File, fd int32, name string, argv, envp uint64, flags int) (uint64, error) {
	f, err := vfs.OpenExec(t, dir, name, flags)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	p := task.ExecParams{File: f, Name: name}
	if dir != nil {
		// A script's interpreter gets the file through the descriptor, which must still be open then.
		p.Name = "/dev/fd/" + strconv.Itoa(int(fd))
		if name != "" {
			p.Name += "/" + name
		}
		p.NoScript, _ = t.Files().Cloexec(fd)
	}
	budget := loader.ArgLimit(t.Rlimit(unix.RLIMIT_STACK))
	if p.Argv, err = mm.CopyInStrings(t.Mem(), argv, &budget); err == nil {
		p.Envv, err = mm.CopyInStrings(t.Mem(), envp, &budget)
	}
	if err != nil {
		vfs.AllowWrite(f) // from here on Exec would do it
		return 0, err
	}
	return 0, t.Exec(p)
}
