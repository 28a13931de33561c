package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SYNC:            {Name: "sync", Fn: sysSync},
		unix.SYS_SYNCFS:          {Name: "syncfs", Fn: sysSyncfs},
		unix.SYS_FSYNC:           {Name: "fsync", Fn: sysFsync},
		unix.SYS_FDATASYNC:       {Name: "fdatasync", Fn: sysFdatasync},
		unix.SYS_SYNC_FILE_RANGE: {Name: "sync_file_range", Fn: sysSyncFileRange},
	})
}

// sysSync implements sync(2), which never fails.
func sysSync(t *task.Task, _ *platform.Args) (uint64, error) {
	vfs.Sync(t) //nolint:errcheck // sync(2) has no error
	return 0, nil
}

// sysSyncfs implements syncfs(2).
func sysSyncfs(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Syncfs(t, f)
}

// sysFsync implements fsync(2).
func sysFsync(t *task.Task, a *platform.Args) (uint64, error) { return fsync(t, a[0], false) }

// sysFdatasync implements fdatasync(2).
func sysFdatasync(t *task.Task, a *platform.Args) (uint64, error) { return fsync(t, a[0], true) }

func fsync(t *task.Task, fd uint64, dataOnly bool) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Fsync(t, f, dataOnly)
}

// sysSyncFileRange implements sync_file_range(2); waiting for a range means syncing the file's data.
func sysSyncFileRange(t *task.Task, a *platform.Args) (uint64, error) {
	off, n, flags := int64(a[1]), int64(a[2]), u32(a[3])
	const known = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if flags&^known != 0 || off < 0 || n < 0 || off+n < off {
		return 0, unix.EINVAL
	}
	switch f.Inode.Attr().Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFBLK, unix.S_IFDIR, unix.S_IFLNK:
	default:
		return 0, unix.ESPIPE
	}
	if flags&(unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WAIT_AFTER) == 0 {
		return 0, nil
	}
	return 0, vfs.Fsync(t, f, true)
}
