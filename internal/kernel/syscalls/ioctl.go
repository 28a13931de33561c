package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_IOCTL: {Name: "ioctl", Fn: sysIoctl},
	})
}

// Commands of ioctl(2) that every file has (asm-generic/ioctls.h, linux/fs.h); x/sys/unix lacks them for Linux.
const (
	fioclex   = 0x5451
	fionclex  = 0x5450
	fionbio   = 0x5421
	fioasync  = 0x5452
	fioqsize  = 0x5460
	fionread  = 0x541b
	fibmap    = 0x1
	figetbsz  = 0x2
	fifreeze  = 0xc0045877
	fithaw    = 0xc0045878
	fiosetown = 0x8901
	siocspgrp = 0x8902
	fiogetown = 0x8903
	siocgpgrp = 0x8904
	ficlone   = 0x40049409
	ficloner  = 0x4020940d
	fidedupe  = 0xc0189436
)

// sysIoctl implements ioctl(2): what the kernel does for every file, then the file's own.
func sysIoctl(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	cmd, arg := u32(a[1]), a[2]
	switch cmd {
	case fioclex, fionclex:
		return 0, t.Files().SetCloexec(i32(a[0]), cmd == fioclex)
	case fionbio:
		return 0, flagIoctl(t, f, unix.O_NONBLOCK, arg)
	case fioasync:
		return 0, asyncIoctl(t, i32(a[0]), f, arg)
	case fifreeze, fithaw:
		if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, unix.EOPNOTSUPP
	case ficlone, ficloner, fidedupe:
		return 0, unix.EOPNOTSUPP
	case fiosetown, siocspgrp, fiogetown, siocgpgrp:
		if f.Inode.Attr().Mode&unix.S_IFMT == unix.S_IFSOCK {
			return 0, ownerIoctl(t, f, cmd, arg)
		}
	case figetbsz, fioqsize, fibmap:
		if done, err := fileIoctl(t, f, cmd, arg); done {
			return 0, err
		}
	}
	return vfs.Ioctl(t, f, cmd, arg)
}

// flagIoctl sets or clears a status flag as the guest's int at arg says.
func flagIoctl(t *task.Task, f *vfs.File, flag uint32, arg uint64) error {
	on, err := readU32(t, arg)
	if err != nil {
		return err
	}
	return f.SetFlag(flag, on != 0)
}

// asyncIoctl is FIOASYNC.
func asyncIoctl(t *task.Task, fd int32, f *vfs.File, arg uint64) error {
	on, err := readU32(t, arg)
	if err != nil {
		return err
	}
	switch {
	case (on != 0) == (f.Flags()&unix.O_ASYNC != 0):
		return nil
	case !f.CanAsync():
		return unix.ENOTTY
	}
	return f.SetAsync(fd, on != 0)
}

// ownerIoctl is F_SETOWN and F_GETOWN of sockets, as BSD has it (socket(7)).
func ownerIoctl(t *task.Task, f *vfs.File, cmd uint32, arg uint64) error {
	if cmd == fiosetown || cmd == siocspgrp {
		id, err := readU32(t, arg)
		if err != nil {
			return err
		}
		_, err = fileOwner(t, f, unix.F_SETOWN, uint64(id))
		return err
	}
	id, err := fileOwner(t, f, unix.F_GETOWN, 0)
	if err != nil {
		return err
	}
	return writeU32(t, arg, uint32(id))
}

// fileIoctl answers commands about regular files and directories; done is false for other types, whose own these are.
func fileIoctl(t *task.Task, f *vfs.File, cmd uint32, arg uint64) (done bool, err error) {
	at := f.Inode.Attr()
	switch {
	case cmd == figetbsz && (at.IsRegular() || at.IsDir()):
		sb := f.Inode.Super()
		if sb == nil {
			return true, unix.EINVAL
		}
		st := sb.Statfs()
		return true, writeU32(t, arg, uint32(st.Bsize))
	case cmd == fioqsize && (at.IsRegular() || at.IsDir()):
		return true, writeU64(t, arg, uint64(at.Blocks)*512) // inode_get_bytes: what it takes up
	case !at.IsRegular():
		return false, nil
	case cmd == fibmap && !t.Cred().Capable(unix.CAP_SYS_RAWIO):
		return true, unix.EPERM
	}
	return false, nil
}
