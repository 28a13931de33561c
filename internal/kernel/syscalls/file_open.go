package syscalls

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_OPEN:        {Name: "open", Fn: sysOpen},
		unix.SYS_OPENAT:      {Name: "openat", Fn: sysOpenat},
		unix.SYS_OPENAT2:     {Name: "openat2", Fn: sysOpenat2},
		unix.SYS_CREAT:       {Name: "creat", Fn: sysCreat},
		unix.SYS_CLOSE:       {Name: "close", Fn: sysClose},
		unix.SYS_CLOSE_RANGE: {Name: "close_range", Fn: sysCloseRange},
		unix.SYS_DUP:         {Name: "dup", Fn: sysDup},
		unix.SYS_DUP2:        {Name: "dup2", Fn: sysDup2},
		unix.SYS_DUP3:        {Name: "dup3", Fn: sysDup3},
	})
}

const (
	// resolveCached is RESOLVE_CACHED (linux/openat2.h).
	resolveCached = 0x20

	// oLargefile is O_LARGEFILE of the x86 ABI; the C library's header, and so x/sys/unix, has it as 0.
	oLargefile = 0x8000
	// oTmpfile is the bit of O_TMPFILE that is not O_DIRECTORY.
	oTmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY

	openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND |
		unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_ASYNC | unix.O_DIRECT | oLargefile | unix.O_DIRECTORY |
		unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | oTmpfile
	pathFlags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_PATH | unix.O_CLOEXEC
)

// checkOpenFlags makes the checks that open and openat2 share.
func checkOpenFlags(flags uint32) error {
	if flags&oTmpfile != 0 {
		if flags&(unix.O_TMPFILE|unix.O_CREAT) != unix.O_TMPFILE || flags&unix.O_ACCMODE == unix.O_RDONLY {
			return unix.EINVAL
		}
	} else if flags&(unix.O_DIRECTORY|unix.O_CREAT) == unix.O_DIRECTORY|unix.O_CREAT {
		return unix.EINVAL
	}
	return nil
}

// openAt opens and installs a descriptor. Flags of open(2) that mean nothing are dropped, as it always did.
func openAt(t *task.Task, dirfd, path uint64, flags, mode uint32) (uint64, error) {
	flags = flags&openFlags | oLargefile
	if flags&unix.O_PATH != 0 {
		flags &= pathFlags
	}
	if flags&(unix.O_CREAT|oTmpfile) == 0 {
		mode = 0
	}
	if err := checkOpenFlags(flags); err != nil {
		return 0, err
	}
	return openHow(t, dirfd, path, vfs.OpenHow{Flags: flags, Mode: mode & 0o7777})
}

func openHow(t *task.Task, dirfd, path uint64, how vfs.OpenHow) (uint64, error) {
	p, err := pathAt(t, dirfd, path, 0)
	if err != nil {
		return 0, err
	}
	defer p.release()
	f, err := vfs.Open(t, p.dir, p.path, how)
	if err != nil {
		return 0, err
	}
	return install(t, f, how.Flags&unix.O_CLOEXEC != 0)
}

// installFrom gives f the lowest free descriptor from low on. It takes over the reference.
func installFrom(t *task.Task, f *vfs.File, low int32, cloexec bool) (uint64, error) {
	fd, err := t.Files().Install(t, f, low, cloexec)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uint64(fd), nil
}

// sysOpen implements open(2).
func sysOpen(t *task.Task, a *platform.Args) (uint64, error) {
	return openAt(t, atFDCWD, a[0], u32(a[1]), u32(a[2]))
}

// sysOpenat implements openat(2).
func sysOpenat(t *task.Task, a *platform.Args) (uint64, error) {
	return openAt(t, a[0], a[1], u32(a[2]), u32(a[3]))
}

// sysCreat implements creat(2).
func sysCreat(t *task.Task, a *platform.Args) (uint64, error) {
	return openAt(t, atFDCWD, a[0], unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, u32(a[1]))
}

// copyStruct copies an extensible structure (openat2(2), clone3(2)) of the guest's size into one of the kernel's: what
// the kernel does not know must be zero (E2BIG).
func copyStruct(t *task.Task, dst []byte, addr, size uint64) error {
	clear(dst)
	if err := uio.ReadFull(t.Mem(), dst[:min(size, uint64(len(dst)))], addr); err != nil {
		return err
	}
	if size <= uint64(len(dst)) {
		return nil
	}
	rest := make([]byte, size-uint64(len(dst)))
	if err := uio.ReadFull(t.Mem(), rest, addr+uint64(len(dst))); err != nil {
		return err
	}
	for _, b := range rest {
		if b != 0 {
			return unix.E2BIG
		}
	}
	return nil
}

// sysOpenat2 implements openat2(2).
func sysOpenat2(t *task.Task, a *platform.Args) (uint64, error) {
	const size = 24
	if a[3] < size {
		return 0, unix.EINVAL
	}
	if a[3] > 4096 {
		return 0, unix.E2BIG
	}
	var raw [size]byte
	if err := copyStruct(t, raw[:], a[2], a[3]); err != nil {
		return 0, err
	}
	flags := le.Uint64(raw[0:])
	mode := le.Uint64(raw[8:])
	resolve := le.Uint64(raw[16:])
	const known = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH |
		unix.RESOLVE_IN_ROOT | resolveCached
	switch {
	case flags&^openFlags != 0, resolve&^known != 0,
		resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) == unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT,
		flags&unix.O_PATH != 0 && flags&^pathFlags != 0:
		return 0, unix.EINVAL
	case flags&(unix.O_CREAT|oTmpfile) != 0:
		if mode&^0o7777 != 0 {
			return 0, unix.EINVAL
		}
	case mode != 0:
		return 0, unix.EINVAL
	}
	if err := checkOpenFlags(uint32(flags)); err != nil {
		return 0, err
	}
	if resolve&resolveCached != 0 && flags&(unix.O_TRUNC|unix.O_CREAT|oTmpfile) != 0 {
		return 0, unix.EAGAIN
	}
	return openHow(t, a[0], a[1], vfs.OpenHow{Flags: uint32(flags), Mode: uint32(mode), Resolve: resolve})
}

// sysClose implements close(2). The descriptor is gone whatever the result, so an interrupted one is not restarted.
func sysClose(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, interrupted(t.Files().Close(t, i32(a[0])))
}

// sysCloseRange implements close_range(2).
func sysCloseRange(t *task.Task, a *platform.Args) (uint64, error) {
	first, last, flags := u32(a[0]), u32(a[1]), u32(a[2])
	if flags&^(unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC) != 0 || first > last {
		return 0, unix.EINVAL
	}
	if flags&unix.CLOSE_RANGE_UNSHARE != 0 {
		if err := t.UnshareFiles(); err != nil {
			return 0, err
		}
	}
	t.Files().CloseRange(t, first, last, flags&unix.CLOSE_RANGE_CLOEXEC != 0)
	return 0, nil
}

// sysDup implements dup(2).
func sysDup(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	return install(t, f, false)
}

// sysDup2 implements dup2(2).
func sysDup2(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if i32(a[0]) == i32(a[1]) {
		return uint64(u32(a[1])), nil
	}
	return dupTo(t, f, a[1], false)
}

// sysDup3 implements dup3(2).
func sysDup3(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[2])
	if flags&^unix.O_CLOEXEC != 0 || i32(a[0]) == i32(a[1]) {
		return 0, unix.EINVAL
	}
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return dupTo(t, f, a[1], flags != 0)
}

// dupTo makes newfd refer to f.
func dupTo(t *task.Task, f *vfs.File, newfd uint64, cloexec bool) (uint64, error) {
	n := u32(newfd)
	if n > math.MaxInt32 || uint64(n) >= t.Rlimit(unix.RLIMIT_NOFILE) {
		return 0, unix.EBADF
	}
	if err := t.Files().Dup3(t, f, int32(n), cloexec); err != nil {
		return 0, err
	}
	return uint64(n), nil
}
