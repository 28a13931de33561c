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
		unix.SYS_READLINK:   {Name: "readlink", Fn: sysReadlink},
		unix.SYS_READLINKAT: {Name: "readlinkat", Fn: sysReadlinkat},
		unix.SYS_UNLINK:     {Name: "unlink", Fn: sysUnlink},
		unix.SYS_UNLINKAT:   {Name: "unlinkat", Fn: sysUnlinkat},
		unix.SYS_RENAME:     {Name: "rename", Fn: sysRename},
		unix.SYS_RENAMEAT:   {Name: "renameat", Fn: sysRenameat},
		unix.SYS_RENAMEAT2:  {Name: "renameat2", Fn: sysRenameat2},
		unix.SYS_LINK:       {Name: "link", Fn: sysLink},
		unix.SYS_LINKAT:     {Name: "linkat", Fn: sysLinkat},
		unix.SYS_SYMLINK:    {Name: "symlink", Fn: sysSymlink},
		unix.SYS_SYMLINKAT:  {Name: "symlinkat", Fn: sysSymlinkat},
		unix.SYS_MKNOD:      {Name: "mknod", Fn: sysMknod},
		unix.SYS_MKNODAT:    {Name: "mknodat", Fn: sysMknodat},
		unix.SYS_CHMOD:      {Name: "chmod", Fn: sysChmod},
		unix.SYS_FCHMOD:     {Name: "fchmod", Fn: sysFchmod},
		unix.SYS_FCHMODAT:   {Name: "fchmodat", Fn: sysFchmodat},
		unix.SYS_FCHMODAT2:  {Name: "fchmodat2", Fn: sysFchmodat2},
		unix.SYS_CHOWN:      {Name: "chown", Fn: sysChown},
		unix.SYS_LCHOWN:     {Name: "lchown", Fn: sysLchown},
		unix.SYS_FCHOWN:     {Name: "fchown", Fn: sysFchown},
		unix.SYS_FCHOWNAT:   {Name: "fchownat", Fn: sysFchownat},
		unix.SYS_UTIME:      {Name: "utime", Fn: sysUtime},
		unix.SYS_UTIMES:     {Name: "utimes", Fn: sysUtimes},
		unix.SYS_FUTIMESAT:  {Name: "futimesat", Fn: sysFutimesat},
		unix.SYS_UTIMENSAT:  {Name: "utimensat", Fn: sysUtimensat},
	})
}

// sysReadlink implements readlink(2).
func sysReadlink(t *task.Task, a *platform.Args) (uint64, error) {
	return readlink(t, atFDCWD, a[0], a[1], a[2])
}

// sysReadlinkat implements readlinkat(2).
func sysReadlinkat(t *task.Task, a *platform.Args) (uint64, error) {
	return readlink(t, a[0], a[1], a[2], a[3])
}

func readlink(t *task.Task, dirfd, path, buf, size uint64) (uint64, error) {
	if i32(size) <= 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, err
	}
	defer p.release()
	if p.path == "" && p.dir == nil {
		return 0, unix.ENOENT
	}
	target, err := vfs.Readlink(t, p.dir, p.path)
	if err == unix.EINVAL && p.path == "" {
		err = unix.ENOENT // what Linux says of a descriptor that is not a link
	}
	if err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	n := copy(s.buf[:min(u32(size), pathMax)], target)
	return uint64(n), uio.WriteFull(t.Mem(), s.buf[:n], buf)
}

// sysUnlink implements unlink(2).
func sysUnlink(t *task.Task, a *platform.Args) (uint64, error) {
	return unlink(t, atFDCWD, a[0], 0)
}

// sysUnlinkat implements unlinkat(2).
func sysUnlinkat(t *task.Task, a *platform.Args) (uint64, error) {
	return unlink(t, a[0], a[1], u32(a[2]))
}

func unlink(t *task.Task, dirfd, path uint64, flags uint32) (uint64, error) {
	if flags&^unix.AT_REMOVEDIR != 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, 0)
	if err != nil {
		return 0, err
	}
	defer p.release()
	if flags != 0 {
		return 0, vfs.Rmdir(t, p.dir, p.path)
	}
	return 0, vfs.Unlink(t, p.dir, p.path)
}

// sysRename implements rename(2).
func sysRename(t *task.Task, a *platform.Args) (uint64, error) {
	return rename(t, atFDCWD, a[0], atFDCWD, a[1], 0)
}

// sysRenameat implements renameat(2).
func sysRenameat(t *task.Task, a *platform.Args) (uint64, error) {
	return rename(t, a[0], a[1], a[2], a[3], 0)
}

// sysRenameat2 implements renameat2(2).
func sysRenameat2(t *task.Task, a *platform.Args) (uint64, error) {
	return rename(t, a[0], a[1], a[2], a[3], u32(a[4]))
}

func rename(t *task.Task, oldfd, oldpath, newfd, newpath uint64, flags uint32) (uint64, error) {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE|unix.RENAME_WHITEOUT) != 0 ||
		flags&unix.RENAME_EXCHANGE != 0 && flags&(unix.RENAME_NOREPLACE|unix.RENAME_WHITEOUT) != 0 {
		return 0, unix.EINVAL
	}
	from, to, err := twoPaths(t, oldfd, oldpath, newfd, newpath, 0)
	if err != nil {
		return 0, err
	}
	defer from.release()
	defer to.release()
	return 0, vfs.Rename(t, from.dir, from.path, to.dir, to.path, flags)
}

// twoPaths decodes the paths of rename and link; flags are for the first one.
func twoPaths(t *task.Task, oldfd, oldpath, newfd, newpath uint64, flags int) (from, to at, err error) {
	if from, err = pathAt(t, oldfd, oldpath, flags); err != nil {
		return from, to, err
	}
	if to, err = pathAt(t, newfd, newpath, 0); err != nil {
		from.release()
	}
	return from, to, err
}

// sysLink implements link(2).
func sysLink(t *task.Task, a *platform.Args) (uint64, error) {
	return link(t, atFDCWD, a[0], atFDCWD, a[1], 0)
}

// sysLinkat implements linkat(2).
func sysLinkat(t *task.Task, a *platform.Args) (uint64, error) {
	return link(t, a[0], a[1], a[2], a[3], u32(a[4]))
}

func link(t *task.Task, oldfd, oldpath, newfd, newpath uint64, flags uint32) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	from, to, err := twoPaths(t, oldfd, oldpath, newfd, newpath, int(flags))
	if err != nil {
		return 0, err
	}
	defer from.release()
	defer to.release()
	if from.path == "" && !t.Cred().Capable(unix.CAP_DAC_READ_SEARCH) {
		return 0, unix.ENOENT
	}
	return 0, vfs.Link(t, from.dir, from.path, to.dir, to.path, int(flags))
}

// sysSymlink implements symlink(2).
func sysSymlink(t *task.Task, a *platform.Args) (uint64, error) {
	return symlink(t, a[0], atFDCWD, a[1])
}

// sysSymlinkat implements symlinkat(2).
func sysSymlinkat(t *task.Task, a *platform.Args) (uint64, error) {
	return symlink(t, a[0], a[1], a[2])
}

func symlink(t *task.Task, target, dirfd, path uint64) (uint64, error) {
	s, err := copyPath(t, target)
	if err != nil {
		return 0, err
	}
	if s == "" {
		return 0, unix.ENOENT
	}
	p, err := pathAt(t, dirfd, path, 0)
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Symlink(t, s, p.dir, p.path)
}

// sysMknod implements mknod(2).
func sysMknod(t *task.Task, a *platform.Args) (uint64, error) {
	return mknod(t, atFDCWD, a[0], u32(a[1]), u32(a[2]))
}

// sysMknodat implements mknodat(2).
func sysMknodat(t *task.Task, a *platform.Args) (uint64, error) {
	return mknod(t, a[0], a[1], u32(a[2]), u32(a[3]))
}

func mknod(t *task.Task, dirfd, path uint64, mode, dev uint32) (uint64, error) {
	mode &= unix.S_IFMT | 0o7777
	switch mode & unix.S_IFMT {
	case 0:
		mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFDIR:
		return 0, unix.EPERM
	default:
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, 0)
	if err != nil {
		return 0, err
	}
	defer p.release()
	var rdev uint64
	if k := mode & unix.S_IFMT; k == unix.S_IFCHR || k == unix.S_IFBLK {
		rdev = decodeDev(dev)
	}
	return 0, vfs.Mknod(t, p.dir, p.path, mode, rdev)
}

// sysChmod implements chmod(2).
func sysChmod(t *task.Task, a *platform.Args) (uint64, error) {
	return chmod(t, atFDCWD, a[0], u32(a[1]), 0)
}

// sysFchmodat implements the system call fchmodat, which has no flags.
func sysFchmodat(t *task.Task, a *platform.Args) (uint64, error) {
	return chmod(t, a[0], a[1], u32(a[2]), 0)
}

// sysFchmodat2 implements fchmodat2 (since 6.6), which has them.
func sysFchmodat2(t *task.Task, a *platform.Args) (uint64, error) {
	return chmod(t, a[0], a[1], u32(a[2]), u32(a[3]))
}

func chmod(t *task.Task, dirfd, path uint64, mode, flags uint32) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, int(flags))
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Chmod(t, p.dir, p.path, mode&0o7777, int(flags))
}

// sysFchmod implements fchmod(2).
func sysFchmod(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Chmod(t, f, "", u32(a[1])&0o7777, unix.AT_EMPTY_PATH)
}

// sysChown implements chown(2).
func sysChown(t *task.Task, a *platform.Args) (uint64, error) {
	return chown(t, atFDCWD, a[0], u32(a[1]), u32(a[2]), 0)
}

// sysLchown implements lchown(2).
func sysLchown(t *task.Task, a *platform.Args) (uint64, error) {
	return chown(t, atFDCWD, a[0], u32(a[1]), u32(a[2]), unix.AT_SYMLINK_NOFOLLOW)
}

// sysFchownat implements fchownat(2).
func sysFchownat(t *task.Task, a *platform.Args) (uint64, error) {
	return chown(t, a[0], a[1], u32(a[2]), u32(a[3]), u32(a[4]))
}

func chown(t *task.Task, dirfd, path uint64, uid, gid, flags uint32) (uint64, error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, int(flags))
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Chown(t, p.dir, p.path, uid, gid, int(flags))
}

// sysFchown implements fchown(2).
func sysFchown(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Chown(t, f, "", u32(a[1]), u32(a[2]), unix.AT_EMPTY_PATH)
}

// getTimes reads two times of 16 bytes each from the guest; unit is nanoseconds per unit of the second field (1 for a
// timespec, 1000 for a timeval). Address 0 is nil: now.
func getTimes(t *task.Task, addr uint64, unit int64) (*[2]unix.Timespec, error) {
	if addr == 0 {
		return nil, nil
	}
	s := getScratch()
	defer s.put()
	if err := uio.ReadFull(t.Mem(), s.buf[:32], addr); err != nil {
		return nil, err
	}
	var ts [2]unix.Timespec
	for i := range ts {
		sub := int64(le.Uint64(s.buf[16*i+8:]))
		special := unit == 1 && (sub == unix.UTIME_NOW || sub == unix.UTIME_OMIT)
		if !special && (sub < 0 || sub >= 1e9/unit) {
			return nil, unix.EINVAL
		}
		if !special {
			sub *= unit
		}
		ts[i] = unix.Timespec{Sec: int64(le.Uint64(s.buf[16*i:])), Nsec: sub}
	}
	return &ts, nil
}

func utimens(t *task.Task, dirfd, path uint64, ts *[2]unix.Timespec, flags int) (uint64, error) {
	p, err := pathAt(t, dirfd, path, flags)
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Utimens(t, p.dir, p.path, ts, flags)
}

// sysUtime implements utime(2).
func sysUtime(t *task.Task, a *platform.Args) (uint64, error) {
	if a[1] == 0 {
		return utimens(t, atFDCWD, a[0], nil, 0)
	}
	var b [16]byte
	if err := uio.ReadFull(t.Mem(), b[:], a[1]); err != nil {
		return 0, err
	}
	ts := [2]unix.Timespec{{Sec: int64(le.Uint64(b[0:]))}, {Sec: int64(le.Uint64(b[8:]))}}
	return utimens(t, atFDCWD, a[0], &ts, 0)
}

// sysUtimes implements utimes(2).
func sysUtimes(t *task.Task, a *platform.Args) (uint64, error) {
	ts, err := getTimes(t, a[1], 1000)
	if err != nil {
		return 0, err
	}
	return utimens(t, atFDCWD, a[0], ts, 0)
}

// sysFutimesat implements futimesat(2); a null path means the descriptor.
func sysFutimesat(t *task.Task, a *platform.Args) (uint64, error) {
	ts, err := getTimes(t, a[2], 1000)
	if err != nil {
		return 0, err
	}
	if a[1] == 0 && i32(a[0]) != unix.AT_FDCWD {
		return futimens(t, a[0], ts)
	}
	return utimens(t, a[0], a[1], ts, 0)
}

func futimens(t *task.Task, fd uint64, ts *[2]unix.Timespec) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Utimens(t, f, "", ts, unix.AT_EMPTY_PATH)
}

// sysUtimensat implements utimensat(2) and, with a null path, futimens(3).
func sysUtimensat(t *task.Task, a *platform.Args) (uint64, error) {
	flags := int(u32(a[3]))
	ts, err := getTimes(t, a[2], 1)
	if err != nil {
		return 0, err
	}
	if ts != nil && ts[0].Nsec == unix.UTIME_OMIT && ts[1].Nsec == unix.UTIME_OMIT {
		return 0, nil
	}
	if a[1] == 0 && i32(a[0]) != unix.AT_FDCWD {
		if flags != 0 {
			return 0, unix.EINVAL
		}
		return futimens(t, a[0], ts)
	}
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	return utimens(t, a[0], a[1], ts, flags)
}
