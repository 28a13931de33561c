package syscalls

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_MOUNT:             {Name: "mount", Fn: sysMount},
		unix.SYS_UMOUNT2:           {Name: "umount2", Fn: sysUmount2},
		unix.SYS_PIVOT_ROOT:        {Name: "pivot_root", Fn: sysPivotRoot},
		unix.SYS_NAME_TO_HANDLE_AT: {Name: "name_to_handle_at", Fn: sysNameToHandleAt, Note: "EOPNOTSUPP"},
		unix.SYS_OPEN_BY_HANDLE_AT: {Name: "open_by_handle_at", Fn: sysOpenByHandleAt, Note: "EOPNOTSUPP"},
		unix.SYS_SWAPON:            {Name: "swapon", Fn: sysSwapon, Note: "EINVAL: there is no swap"},
		unix.SYS_SWAPOFF:           {Name: "swapoff", Fn: sysSwapon, Note: "EINVAL: there is no swap"},
	})
}

// copyOptions copies the last argument of mount(2): up to a page, whatever is readable of it, of which a string is used.
func copyOptions(t *task.Task, addr uint64) (string, error) {
	if addr == 0 {
		return "", nil
	}
	s := getScratch()
	defer s.put()
	n, _ := t.Mem().ReadAt(s.buf[:], addr)
	if n == 0 {
		return "", unix.EFAULT
	}
	b := s.buf[:n]
	if n == len(s.buf) {
		b = b[:n-1]
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b), nil
}

// optionalString copies a string that may be null; one that is too long is EINVAL, as strndup_user says.
func optionalString(t *task.Task, addr uint64) (string, error) {
	if addr == 0 {
		return "", nil
	}
	return copyString(t, addr, pathMax, unix.EINVAL)
}

// sysMount implements mount(2).
func sysMount(t *task.Task, a *platform.Args) (uint64, error) {
	fstype, err := optionalString(t, a[2])
	if err != nil {
		return 0, err
	}
	source, err := optionalString(t, a[0])
	if err != nil {
		return 0, err
	}
	data, err := copyOptions(t, a[4])
	if err != nil {
		return 0, err
	}
	target, err := pathAt(t, atFDCWD, a[1], 0)
	if err != nil {
		return 0, err
	}
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	flags := a[3]
	if flags&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		flags &^= unix.MS_MGC_MSK
	}
	return 0, notBusy(t, func() error { return vfs.DoMount(t, source, target.path, fstype, flags, data) })
}

// sysUmount2 implements umount2(2).
func sysUmount2(t *task.Task, a *platform.Args) (uint64, error) {
	flags := int(u32(a[1]))
	if flags&^(unix.MNT_FORCE|unix.MNT_DETACH|unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW) != 0 {
		return 0, unix.EINVAL
	}
	target, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	return 0, notBusy(t, func() error { return vfs.Umount(t, target.path, flags) })
}

// notBusy calls f, and if that gives EBUSY once more without the mappings that are gone: programs unmap files by themselves.
func notBusy(t *task.Task, f func() error) error {
	err := f()
	if err == unix.EBUSY {
		t.MM().Host().Prune()
		err = f()
	}
	return err
}

// sysPivotRoot implements pivot_root(2).
func sysPivotRoot(t *task.Task, a *platform.Args) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	newRoot, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	putOld, err := pathAt(t, atFDCWD, a[1], 0)
	if err != nil {
		return 0, err
	}
	return 0, vfs.PivotRoot(t, newRoot.path, putOld.path)
}

// atHandleFID is AT_HANDLE_FID (linux/fcntl.h).
const atHandleFID = 0x200

// sysNameToHandleAt says that file systems have no handles; the caller falls back to names, as with proc on Linux.
func sysNameToHandleAt(t *task.Task, a *platform.Args) (uint64, error) {
	flags := int(u32(a[4]))
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH|atHandleFID) != 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, a[0], a[1], flags)
	if err != nil {
		return 0, err
	}
	defer p.release()
	follow := unix.AT_SYMLINK_NOFOLLOW
	if flags&unix.AT_SYMLINK_FOLLOW != 0 {
		follow = 0
	}
	if _, err := vfs.Stat(t, p.dir, p.path, flags&unix.AT_EMPTY_PATH|follow); err != nil {
		return 0, err
	}
	return 0, unix.EOPNOTSUPP
}

// sysOpenByHandleAt refuses handles: none has been given out.
func sysOpenByHandleAt(t *task.Task, _ *platform.Args) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_DAC_READ_SEARCH) {
		return 0, unix.EPERM
	}
	return 0, unix.EOPNOTSUPP
}

// sysSwapon refuses to swap: pages of guest programs are the host's, which swaps them itself.
func sysSwapon(t *task.Task, a *platform.Args) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	if _, err := pathAt(t, atFDCWD, a[0], 0); err != nil {
		return 0, err
	}
	return 0, unix.EINVAL
}
