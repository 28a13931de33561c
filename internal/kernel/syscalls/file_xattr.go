package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_GETXATTR:     {Name: "getxattr", Fn: onPath(getxattr, 0)},
		unix.SYS_LGETXATTR:    {Name: "lgetxattr", Fn: onPath(getxattr, unix.AT_SYMLINK_NOFOLLOW)},
		unix.SYS_FGETXATTR:    {Name: "fgetxattr", Fn: onFile(getxattr)},
		unix.SYS_SETXATTR:     {Name: "setxattr", Fn: onPath(setxattr, 0)},
		unix.SYS_LSETXATTR:    {Name: "lsetxattr", Fn: onPath(setxattr, unix.AT_SYMLINK_NOFOLLOW)},
		unix.SYS_FSETXATTR:    {Name: "fsetxattr", Fn: onFile(setxattr)},
		unix.SYS_LISTXATTR:    {Name: "listxattr", Fn: onPath(listxattr, 0)},
		unix.SYS_LLISTXATTR:   {Name: "llistxattr", Fn: onPath(listxattr, unix.AT_SYMLINK_NOFOLLOW)},
		unix.SYS_FLISTXATTR:   {Name: "flistxattr", Fn: onFile(listxattr)},
		unix.SYS_REMOVEXATTR:  {Name: "removexattr", Fn: onPath(removexattr, 0)},
		unix.SYS_LREMOVEXATTR: {Name: "lremovexattr", Fn: onPath(removexattr, unix.AT_SYMLINK_NOFOLLOW)},
		unix.SYS_FREMOVEXATTR: {Name: "fremovexattr", Fn: onFile(removexattr)},
	})
}

const (
	xattrNameMax = 255
	xattrSizeMax = 65536
	xattrListMax = 65536
)

// xattrCall is an operation on the extended attributes of the file that where finds, after the other arguments a have been
// looked at.
type xattrCall func(t *task.Task, flags int, a *platform.Args, where func() (at, error)) (uint64, error)

// onPath makes a handler of a call whose first argument is a path.
func onPath(fn xattrCall, flags int) Handler {
	return func(t *task.Task, a *platform.Args) (uint64, error) {
		return fn(t, flags, a, func() (at, error) { return pathAt(t, atFDCWD, a[0], 0) })
	}
}

// onFile makes a handler of a call whose first argument is a descriptor.
func onFile(fn xattrCall) Handler {
	return func(t *task.Task, a *platform.Args) (uint64, error) {
		return fn(t, unix.AT_EMPTY_PATH, a, func() (at, error) {
			f, err := openFile(t, a[0])
			return at{dir: f}, err
		})
	}
}

// xattrName copies the name of an attribute.
func xattrName(t *task.Task, addr uint64) (string, error) {
	s, err := copyString(t, addr, xattrNameMax+1, unix.ERANGE)
	if err == nil && s == "" {
		err = unix.ERANGE
	}
	return s, err
}

// copyOutSized returns v in a buffer of the guest, or only its length if the buffer's size is 0.
func copyOutSized(t *task.Task, v []byte, addr, size uint64) (uint64, error) {
	if size == 0 {
		return uint64(len(v)), nil
	}
	if uint64(len(v)) > size {
		return 0, unix.ERANGE
	}
	if len(v) == 0 {
		return 0, nil
	}
	return uint64(len(v)), uio.WriteFull(t.Mem(), v, addr)
}

// getxattr implements getxattr(2).
func getxattr(t *task.Task, flags int, a *platform.Args, where func() (at, error)) (uint64, error) {
	name, err := xattrName(t, a[1])
	if err != nil {
		return 0, err
	}
	p, err := where()
	if err != nil {
		return 0, err
	}
	defer p.release()
	v, err := vfs.Getxattr(t, p.dir, p.path, flags, name)
	if err != nil {
		return 0, err
	}
	return copyOutSized(t, v, a[2], a[3])
}

// setxattr implements setxattr(2).
func setxattr(t *task.Task, flags int, a *platform.Args, where func() (at, error)) (uint64, error) {
	xf := u32(a[4])
	if xf&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return 0, unix.EINVAL
	}
	name, err := xattrName(t, a[1])
	if err != nil {
		return 0, err
	}
	if a[3] > xattrSizeMax {
		return 0, unix.E2BIG
	}
	v := make([]byte, a[3])
	if len(v) > 0 {
		if err := uio.ReadFull(t.Mem(), v, a[2]); err != nil {
			return 0, err
		}
	}
	p, err := where()
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Setxattr(t, p.dir, p.path, flags, name, v, int(xf))
}

// listxattr implements listxattr(2).
func listxattr(t *task.Task, flags int, a *platform.Args, where func() (at, error)) (uint64, error) {
	p, err := where()
	if err != nil {
		return 0, err
	}
	defer p.release()
	v, err := vfs.Listxattr(t, p.dir, p.path, flags)
	if err != nil {
		return 0, err
	}
	if len(v) > xattrListMax {
		return 0, unix.E2BIG
	}
	return copyOutSized(t, v, a[1], a[2])
}

// removexattr implements removexattr(2).
func removexattr(t *task.Task, flags int, a *platform.Args, where func() (at, error)) (uint64, error) {
	name, err := xattrName(t, a[1])
	if err != nil {
		return 0, err
	}
	p, err := where()
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Removexattr(t, p.dir, p.path, flags, name)
}
