package syscalls

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_GETDENTS:   {Name: "getdents", Fn: sysGetdents},
		unix.SYS_GETDENTS64: {Name: "getdents64", Fn: sysGetdents64},
		unix.SYS_MKDIR:      {Name: "mkdir", Fn: sysMkdir},
		unix.SYS_MKDIRAT:    {Name: "mkdirat", Fn: sysMkdirat},
		unix.SYS_RMDIR:      {Name: "rmdir", Fn: sysRmdir},
		unix.SYS_CHDIR:      {Name: "chdir", Fn: sysChdir},
		unix.SYS_FCHDIR:     {Name: "fchdir", Fn: sysFchdir},
		unix.SYS_CHROOT:     {Name: "chroot", Fn: sysChroot},
		unix.SYS_GETCWD:     {Name: "getcwd", Fn: sysGetcwd},
		unix.SYS_UMASK:      {Name: "umask", Fn: sysUmask},
	})
}

// sysMkdir implements mkdir(2).
func sysMkdir(t *task.Task, a *platform.Args) (uint64, error) {
	return mkdir(t, atFDCWD, a[0], u32(a[1]))
}

// sysMkdirat implements mkdirat(2).
func sysMkdirat(t *task.Task, a *platform.Args) (uint64, error) {
	return mkdir(t, a[0], a[1], u32(a[2]))
}

func mkdir(t *task.Task, dirfd, path uint64, mode uint32) (uint64, error) {
	p, err := pathAt(t, dirfd, path, 0)
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Mkdir(t, p.dir, p.path, mode&0o1777)
}

// sysRmdir implements rmdir(2).
func sysRmdir(t *task.Task, a *platform.Args) (uint64, error) {
	return unlink(t, atFDCWD, a[0], unix.AT_REMOVEDIR)
}

// sysChdir implements chdir(2).
func sysChdir(t *task.Task, a *platform.Args) (uint64, error) {
	p, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	return 0, vfs.Chdir(t, p.path)
}

// sysFchdir implements fchdir(2).
func sysFchdir(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Fchdir(t, f)
}

// sysChroot implements chroot(2).
func sysChroot(t *task.Task, a *platform.Args) (uint64, error) {
	p, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	return 0, vfs.Chroot(t, p.path)
}

// sysGetcwd implements the system call getcwd: its result is the length with the final zero.
func sysGetcwd(t *task.Task, a *platform.Args) (uint64, error) {
	dir, err := vfs.Getcwd(t)
	if err != nil {
		return 0, err
	}
	n := len(dir) + 1
	if n > pathMax {
		return 0, unix.ENAMETOOLONG
	}
	if a[1] < uint64(n) {
		return 0, unix.ERANGE
	}
	s := getScratch()
	defer s.put()
	copy(s.buf[:], dir)
	s.buf[n-1] = 0
	return uint64(n), uio.WriteFull(t.Mem(), s.buf[:n], a[0])
}

// sysUmask implements umask(2).
func sysUmask(t *task.Task, a *platform.Args) (uint64, error) {
	return uint64(t.FS().SetUmask(u32(a[0]) & 0o777)), nil
}

// direntMax is how much of a directory one getdents call returns at most; callers come again for more.
const direntMax = 64 << 10

var direntPool = sync.Pool{New: func() any { return new([direntMax]byte) }}

// direntEncoder appends e to b, which has room for cap(b) bytes in all, and returns ok false if it does not fit.
type direntEncoder func(b []byte, e *vfs.DirEnt) (_ []byte, ok bool)

// sysGetdents implements getdents(2), sysGetdents64 getdents64(2).
func sysGetdents(t *task.Task, a *platform.Args) (uint64, error) { return getdents(t, a, appendDirent) }

func sysGetdents64(t *task.Task, a *platform.Args) (uint64, error) {
	return getdents(t, a, appendDirent64)
}

func getdents(t *task.Task, a *platform.Args, enc direntEncoder) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	full := direntPool.Get().(*[direntMax]byte)
	defer direntPool.Put(full)
	size := min(u32(a[2]), direntMax)
	buf := full[:0:size]
	small := false
	err = vfs.ReadDir(t, f, func(e vfs.DirEnt) bool {
		b, ok := enc(buf, &e)
		if !ok {
			small = len(buf) == 0
			return false
		}
		buf = b
		return true
	})
	switch {
	case len(buf) > 0:
		return uint64(len(buf)), uio.WriteFull(t.Mem(), buf, a[1])
	case err != nil:
		return 0, err
	case small:
		return 0, unix.EINVAL
	}
	return 0, nil
}

// direntHead puts what both structures share: inode, offset and record length. n is the unpadded size.
func direntHead(b []byte, e *vfs.DirEnt, n int) (rec []byte, _ []byte, ok bool) {
	n = (n + 7) &^ 7
	at := len(b)
	if n > cap(b)-at {
		return nil, b, false
	}
	b = b[:at+n]
	rec = b[at:]
	clear(rec)
	le.PutUint64(rec[0:], e.Ino)
	le.PutUint64(rec[8:], uint64(e.Off))
	le.PutUint16(rec[16:], uint16(n))
	return rec, b, true
}

// appendDirent64 appends a struct linux_dirent64.
func appendDirent64(b []byte, e *vfs.DirEnt) ([]byte, bool) {
	rec, b, ok := direntHead(b, e, 19+len(e.Name)+1)
	if ok {
		rec[18] = e.Type
		copy(rec[19:], e.Name)
	}
	return b, ok
}

// appendDirent appends a struct linux_dirent, which has the type in its last byte.
func appendDirent(b []byte, e *vfs.DirEnt) ([]byte, bool) {
	rec, b, ok := direntHead(b, e, 18+len(e.Name)+2)
	if ok {
		copy(rec[18:], e.Name)
		rec[len(rec)-1] = e.Type
	}
	return b, ok
}
