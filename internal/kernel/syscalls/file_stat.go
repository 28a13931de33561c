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
		unix.SYS_STAT:       {Name: "stat", Fn: sysStat},
		unix.SYS_LSTAT:      {Name: "lstat", Fn: sysLstat},
		unix.SYS_FSTAT:      {Name: "fstat", Fn: sysFstat},
		unix.SYS_NEWFSTATAT: {Name: "newfstatat", Fn: sysNewfstatat},
		unix.SYS_STATX:      {Name: "statx", Fn: sysStatx},
		unix.SYS_STATFS:     {Name: "statfs", Fn: sysStatfs},
		unix.SYS_FSTATFS:    {Name: "fstatfs", Fn: sysFstatfs},
		unix.SYS_USTAT:      {Name: "ustat", Fn: sysUstat},
		unix.SYS_ACCESS:     {Name: "access", Fn: sysAccess},
		unix.SYS_FACCESSAT:  {Name: "faccessat", Fn: sysFaccessat},
		unix.SYS_FACCESSAT2: {Name: "faccessat2", Fn: sysFaccessat2},
	})
}

const (
	statSize   = 144
	statxSize  = 256
	statfsSize = 120

	// statxSyncType are the flags that say how fresh the result must be (AT_STATX_SYNC_TYPE).
	statxSyncType = unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC
)

// encodeStat puts struct stat of x86-64 (asm/stat.h) into b.
func encodeStat(b []byte, a *vfs.Attr) {
	_ = b[statSize-1]
	le.PutUint64(b[0:], a.Dev)
	le.PutUint64(b[8:], a.Ino)
	le.PutUint64(b[16:], uint64(a.Nlink))
	le.PutUint32(b[24:], a.Mode)
	le.PutUint32(b[28:], a.UID)
	le.PutUint32(b[32:], a.GID)
	le.PutUint32(b[36:], 0)
	le.PutUint64(b[40:], a.Rdev)
	le.PutUint64(b[48:], uint64(a.Size))
	le.PutUint64(b[56:], uint64(a.Blksize))
	le.PutUint64(b[64:], uint64(a.Blocks))
	putTimespec(b[72:], a.Atime)
	putTimespec(b[88:], a.Mtime)
	putTimespec(b[104:], a.Ctime)
	clear(b[120:statSize])
}

func putTimespec(b []byte, ts unix.Timespec) {
	le.PutUint64(b[0:], uint64(ts.Sec))
	le.PutUint64(b[8:], uint64(ts.Nsec))
}

// statxAttributes is the set of attributes that file systems may report.
const statxAttributes = unix.STATX_ATTR_COMPRESSED | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND |
	unix.STATX_ATTR_NODUMP | unix.STATX_ATTR_ENCRYPTED | unix.STATX_ATTR_VERITY | unix.STATX_ATTR_DAX |
	unix.STATX_ATTR_MOUNT_ROOT | unix.STATX_ATTR_AUTOMOUNT

// encodeStatx puts struct statx (linux/stat.h) into b. Numbers of mounts are not used again, so they are the unique ones,
// too, for who wants those.
func encodeStatx(b []byte, a *vfs.Attr, want uint32) {
	clear(b[:statxSize])
	mask := uint32(unix.STATX_BASIC_STATS)
	switch {
	case a.MountID == 0:
	case want&unix.STATX_MNT_ID_UNIQUE != 0:
		mask |= unix.STATX_MNT_ID_UNIQUE
	default:
		mask |= unix.STATX_MNT_ID
	}
	if a.Btime != (unix.Timespec{}) {
		mask |= unix.STATX_BTIME
	}
	le.PutUint32(b[0:], mask)
	le.PutUint32(b[4:], uint32(a.Blksize))
	le.PutUint64(b[8:], a.Flags)
	le.PutUint32(b[16:], a.Nlink)
	le.PutUint32(b[20:], a.UID)
	le.PutUint32(b[24:], a.GID)
	le.PutUint16(b[28:], uint16(a.Mode))
	le.PutUint64(b[32:], a.Ino)
	le.PutUint64(b[40:], uint64(a.Size))
	le.PutUint64(b[48:], uint64(a.Blocks))
	le.PutUint64(b[56:], statxAttributes)
	for i, ts := range [...]unix.Timespec{a.Atime, a.Btime, a.Ctime, a.Mtime} {
		le.PutUint64(b[64+16*i:], uint64(ts.Sec))
		le.PutUint32(b[72+16*i:], uint32(ts.Nsec))
	}
	le.PutUint32(b[128:], unix.Major(a.Rdev))
	le.PutUint32(b[132:], unix.Minor(a.Rdev))
	le.PutUint32(b[136:], unix.Major(a.Dev))
	le.PutUint32(b[140:], unix.Minor(a.Dev))
	le.PutUint64(b[144:], a.MountID)
}

// encodeStatfs puts struct statfs of x86-64 (asm-generic/statfs.h) into b.
func encodeStatfs(b []byte, s *unix.Statfs_t) {
	clear(b[:statfsSize])
	le.PutUint64(b[0:], uint64(s.Type))
	le.PutUint64(b[8:], uint64(s.Bsize))
	le.PutUint64(b[16:], s.Blocks)
	le.PutUint64(b[24:], s.Bfree)
	le.PutUint64(b[32:], s.Bavail)
	le.PutUint64(b[40:], s.Files)
	le.PutUint64(b[48:], s.Ffree)
	le.PutUint32(b[56:], uint32(s.Fsid.Val[0]))
	le.PutUint32(b[60:], uint32(s.Fsid.Val[1]))
	le.PutUint64(b[64:], uint64(s.Namelen))
	le.PutUint64(b[72:], uint64(s.Frsize))
	le.PutUint64(b[80:], uint64(s.Flags))
}

// copyOutStat stores a struct stat in guest memory.
func copyOutStat(t *task.Task, addr uint64, a *vfs.Attr) error {
	s := getScratch()
	defer s.put()
	encodeStat(s.buf[:], a)
	return uio.WriteFull(t.Mem(), s.buf[:statSize], addr)
}

func stat(t *task.Task, dirfd, path, buf uint64, flags int) (uint64, error) {
	p, err := pathAt(t, dirfd, path, flags)
	if err != nil {
		return 0, err
	}
	defer p.release()
	a, err := vfs.Stat(t, p.dir, p.path, flags&^unix.AT_NO_AUTOMOUNT)
	if err != nil {
		return 0, err
	}
	return 0, copyOutStat(t, buf, &a)
}

// sysStat implements stat(2).
func sysStat(t *task.Task, a *platform.Args) (uint64, error) {
	return stat(t, atFDCWD, a[0], a[1], 0)
}

// sysLstat implements lstat(2).
func sysLstat(t *task.Task, a *platform.Args) (uint64, error) {
	return stat(t, atFDCWD, a[0], a[1], unix.AT_SYMLINK_NOFOLLOW)
}

// sysFstat implements fstat(2).
func sysFstat(t *task.Task, a *platform.Args) (uint64, error) { return fstat(t, a[0], a[1]) }

func fstat(t *task.Task, fd, buf uint64) (uint64, error) {
	f, err := anyFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	at := f.Attr()
	return 0, copyOutStat(t, buf, &at)
}

// sysNewfstatat implements fstatat(2).
func sysNewfstatat(t *task.Task, a *platform.Args) (uint64, error) {
	flags := int(u32(a[3]))
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	if a[1] == 0 && flags&unix.AT_EMPTY_PATH != 0 && i32(a[0]) >= 0 {
		return fstat(t, a[0], a[2]) // a null path is as good as an empty one, since 6.11
	}
	return stat(t, a[0], a[1], a[2], flags)
}

// sysStatx implements statx(2). All that is known is returned, whatever the mask asks for, as Linux does.
func sysStatx(t *task.Task, a *platform.Args) (uint64, error) {
	flags := int(u32(a[2]))
	const known = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH | statxSyncType
	if u32(a[3])&unix.STATX__RESERVED != 0 || flags&^known != 0 ||
		flags&statxSyncType == statxSyncType {
		return 0, unix.EINVAL
	}
	var p at
	var err error
	if a[1] == 0 && flags&unix.AT_EMPTY_PATH != 0 {
		p, err = p.from(t, a[0], flags)
	} else {
		p, err = pathAt(t, a[0], a[1], flags)
	}
	if err != nil {
		return 0, err
	}
	defer p.release()
	at, err := vfs.Stat(t, p.dir, p.path, flags&^(statxSyncType|unix.AT_NO_AUTOMOUNT))
	if err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	encodeStatx(s.buf[:], &at, u32(a[3]))
	return 0, uio.WriteFull(t.Mem(), s.buf[:statxSize], a[4])
}

func copyOutStatfs(t *task.Task, addr uint64, st *unix.Statfs_t) error {
	s := getScratch()
	defer s.put()
	encodeStatfs(s.buf[:], st)
	return uio.WriteFull(t.Mem(), s.buf[:statfsSize], addr)
}

// sysStatfs implements statfs(2).
func sysStatfs(t *task.Task, a *platform.Args) (uint64, error) {
	p, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	st, err := vfs.Statfs(t, nil, p.path, 0)
	if err != nil {
		return 0, err
	}
	return 0, copyOutStatfs(t, a[1], &st)
}

// sysFstatfs implements fstatfs(2).
func sysFstatfs(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	st, err := vfs.Statfs(t, f, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, err
	}
	return 0, copyOutStatfs(t, a[1], &st)
}

// decodeDev turns a device number of the 32-bit kind (mknod, ustat) into one of st_rdev's.
func decodeDev(d uint32) uint64 {
	return unix.Mkdev(d>>8&0xfff, d&0xff|d>>12&0xfff00)
}

// sysUstat implements ustat(2): free blocks and inodes of a mounted device.
func sysUstat(t *task.Task, a *platform.Args) (uint64, error) {
	dev := decodeDev(u32(a[0]))
	fs := t.FS()
	for _, m := range fs.Namespace().Mounts(fs.Root()) {
		if m.Dev != dev {
			continue
		}
		st, err := vfs.Statfs(t, nil, m.Point, 0)
		if err != nil {
			return 0, err
		}
		s := getScratch()
		defer s.put()
		b := s.buf[:32]
		clear(b)
		le.PutUint32(b[0:], uint32(st.Bfree))
		le.PutUint64(b[8:], st.Ffree)
		return 0, uio.WriteFull(t.Mem(), b, a[1])
	}
	return 0, unix.EINVAL
}

func access(t *task.Task, dirfd, path uint64, mode, flags uint32) (uint64, error) {
	if mode&^7 != 0 || flags&^(unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, dirfd, path, int(flags))
	if err != nil {
		return 0, err
	}
	defer p.release()
	return 0, vfs.Access(t, p.dir, p.path, mode, int(flags))
}

// sysAccess implements access(2).
func sysAccess(t *task.Task, a *platform.Args) (uint64, error) {
	return access(t, atFDCWD, a[0], u32(a[1]), 0)
}

// sysFaccessat implements the system call faccessat, which has no flags.
func sysFaccessat(t *task.Task, a *platform.Args) (uint64, error) {
	return access(t, a[0], a[1], u32(a[2]), 0)
}

// sysFaccessat2 implements faccessat(2).
func sysFaccessat2(t *task.Task, a *platform.Args) (uint64, error) {
	return access(t, a[0], a[1], u32(a[2]), u32(a[3]))
}
