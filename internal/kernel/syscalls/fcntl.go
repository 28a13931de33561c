package syscalls

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_FCNTL: {Name: "fcntl", Fn: sysFcntl},
		unix.SYS_FLOCK: {Name: "flock", Fn: sysFlock},
	})
}

// Commands of fcntl(2) that x/sys/unix does not have (linux/fcntl.h).
const (
	fGetOwnerUIDs = 17
	fDupfdQuery   = 1024 + 3

	lockMand = 32 // LOCK_MAND of flock(2)
)

// setflFlags are the flags that F_SETFL changes.
const setflFlags = unix.O_APPEND | unix.O_NONBLOCK | unix.O_DIRECT | unix.O_NOATIME

// Sealer is an inode with seals (memfd_create(2)).
type Sealer interface {
	// Seals is F_GET_SEALS; EINVAL if the file does not support them.
	Seals() (uint32, error)
	// AddSeals is F_ADD_SEALS.
	AddSeals(seals uint32) error
}

// sysFcntl implements fcntl(2).
func sysFcntl(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := anyFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	fd, cmd, arg := i32(a[0]), int(i32(a[1])), a[2]
	switch cmd {
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC:
		if arg > math.MaxInt32 || arg >= t.Rlimit(unix.RLIMIT_NOFILE) {
			return 0, unix.EINVAL
		}
		return installFrom(t, f.IncRef(), int32(arg), cmd == unix.F_DUPFD_CLOEXEC)
	case unix.F_GETFD:
		on, err := t.Files().Cloexec(fd)
		if on {
			return unix.FD_CLOEXEC, err
		}
		return 0, err
	case unix.F_SETFD:
		return 0, t.Files().SetCloexec(fd, arg&unix.FD_CLOEXEC != 0)
	case unix.F_GETFL:
		return uint64(f.Flags() &^ unix.O_CLOEXEC), nil
	case fDupfdQuery:
		o, err := anyFile(t, arg)
		if err != nil {
			return 0, err
		}
		defer o.DecRef()
		if o == f {
			return 1, nil
		}
		return 0, nil
	}
	if f.Flags()&unix.O_PATH != 0 {
		return 0, unix.EBADF
	}
	switch cmd {
	case unix.F_SETFL:
		return 0, setFlags(t, fd, f, u32(arg))
	case unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		return 0, fcntlLock(t, fd, f, cmd, arg)
	case unix.F_SETOWN, unix.F_GETOWN, unix.F_SETSIG, unix.F_GETSIG, unix.F_SETOWN_EX, unix.F_GETOWN_EX, fGetOwnerUIDs:
		return fileOwner(t, f, cmd, arg)
	case unix.F_GETLEASE:
		return uint64(vfs.GetLease(f)), nil
	case unix.F_SETLEASE:
		return 0, setLease(t, fd, f, int(i32(arg)))
	case unix.F_NOTIFY:
		if err := vfs.DirNotify(t.Files(), fd, f, u32(arg)); err != nil || u32(arg)&^vfs.DNMultishot == 0 {
			return 0, err
		}
		return 0, ownIfNobody(t, f)
	case unix.F_GETPIPE_SZ, unix.F_SETPIPE_SZ:
		return pipeSize(t, f, cmd, arg)
	case unix.F_ADD_SEALS, unix.F_GET_SEALS:
		s, ok := f.Inode.(Sealer)
		if !ok {
			return 0, unix.EINVAL
		}
		if cmd == unix.F_GET_SEALS {
			n, err := s.Seals()
			return uint64(n), err
		}
		if !f.Writable() {
			return 0, unix.EPERM
		}
		return 0, s.AddSeals(u32(arg))
	}
	return 0, unix.EINVAL
}

// setFlags implements F_SETFL.
func setFlags(t *task.Task, fd int32, f *vfs.File, arg uint32) error {
	old := f.Flags()
	if old&unix.O_APPEND != 0 && arg&unix.O_APPEND == 0 && f.Inode.Attr().Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	if arg&unix.O_NOATIME != 0 && old&unix.O_NOATIME == 0 {
		if c := t.Cred(); c.FSUID != f.Inode.Attr().UID && !c.Capable(unix.CAP_FOWNER) {
			return unix.EPERM
		}
	}
	if (old^arg)&unix.O_ASYNC != 0 {
		if err := f.SetAsync(fd, arg&unix.O_ASYNC != 0); err != nil {
			return err
		}
	}
	return f.SetStatus(old&^setflFlags | arg&setflFlags)
}

// setLease implements F_SETLEASE.
func setLease(t *task.Task, fd int32, f *vfs.File, typ int) error {
	if err := vfs.SetLease(t, fd, f, typ); err != nil || typ == unix.F_UNLCK {
		return err
	}
	return ownIfNobody(t, f)
}

// ownIfNobody makes the calling process the receiver of the file's signals if it has none.
func ownIfNobody(t *task.Task, f *vfs.File) error {
	if o := f.Owner(); o != nil && o.PID != 0 {
		return nil
	}
	return setOwner(t, f, f.Owner(), vfs.OwnerPID, t.PID())
}

// flockSize is the size of struct flock on x86-64.
const flockSize = 32

func decodeFlock(b []byte) unix.Flock_t {
	return unix.Flock_t{
		Type: int16(le.Uint16(b[0:])), Whence: int16(le.Uint16(b[2:])),
		Start: int64(le.Uint64(b[8:])), Len: int64(le.Uint64(b[16:])), Pid: int32(le.Uint32(b[24:])),
	}
}

func encodeFlock(b []byte, fl *unix.Flock_t) {
	clear(b[:flockSize])
	le.PutUint16(b[0:], uint16(fl.Type))
	le.PutUint16(b[2:], uint16(fl.Whence))
	le.PutUint64(b[8:], uint64(fl.Start))
	le.PutUint64(b[16:], uint64(fl.Len))
	le.PutUint32(b[24:], uint32(fl.Pid))
}

func fcntlLock(t *task.Task, fd int32, f *vfs.File, cmd int, addr uint64) error {
	s := getScratch()
	defer s.put()
	b := s.buf[:flockSize]
	if err := uio.ReadFull(t.Mem(), b, addr); err != nil {
		return err
	}
	fl := decodeFlock(b)
	if err := vfs.FcntlLock(t, t.Files(), fd, f, cmd, &fl); err != nil {
		return err
	}
	if cmd != unix.F_GETLK && cmd != unix.F_OFD_GETLK {
		return nil
	}
	encodeFlock(b, &fl)
	return uio.WriteFull(t.Mem(), b, addr)
}

// fileOwner implements the commands about who gets SIGIO.
func fileOwner(t *task.Task, f *vfs.File, cmd int, arg uint64) (uint64, error) {
	old := f.Owner()
	var o vfs.Owner
	if old != nil {
		o = *old
	}
	if !t.K.IOOwnerLives(&o) {
		o.PID, o.Type = 0, vfs.OwnerTID
	}
	switch cmd {
	case unix.F_GETOWN:
		if o.Type == vfs.OwnerPgrp {
			return uint64(-int64(o.PID)), nil
		}
		return uint64(o.PID), nil
	case unix.F_SETOWN:
		kind, pid := vfs.OwnerPID, i32(arg)
		if pid == math.MinInt32 {
			return 0, unix.EINVAL
		}
		if pid < 0 {
			kind, pid = vfs.OwnerPgrp, -pid
		}
		return 0, setOwner(t, f, old, kind, pid)
	case unix.F_GETSIG:
		return uint64(o.Sig), nil
	case unix.F_SETSIG:
		if arg > 64 {
			return 0, unix.EINVAL
		}
		o.Sig = unix.Signal(arg)
		f.SetOwner(&o)
		return 0, nil
	}
	s := getScratch()
	defer s.put()
	b := s.buf[:8]
	switch cmd {
	case unix.F_SETOWN_EX:
		if err := uio.ReadFull(t.Mem(), b, arg); err != nil {
			return 0, err
		}
		kind := int(i32(uint64(le.Uint32(b[0:]))))
		if kind < vfs.OwnerTID || kind > vfs.OwnerPgrp {
			return 0, unix.EINVAL
		}
		return 0, setOwner(t, f, old, kind, int32(le.Uint32(b[4:])))
	case unix.F_GETOWN_EX:
		le.PutUint32(b[0:], uint32(o.Type))
		le.PutUint32(b[4:], uint32(o.PID))
	case fGetOwnerUIDs:
		le.PutUint32(b[0:], o.UID)
		le.PutUint32(b[4:], o.EUID)
	}
	return 0, uio.WriteFull(t.Mem(), b, arg)
}

// setOwner makes a process, thread or process group the receiver of SIGIO. Id 0 is nobody. The signal of old stays.
func setOwner(t *task.Task, f *vfs.File, old *vfs.Owner, kind int, pid int32) error {
	var o vfs.Owner
	if old != nil {
		o.Sig = old.Sig
	}
	if pid != 0 {
		if o.Who = t.K.IOOwner(kind, pid); o.Who == nil {
			return unix.ESRCH
		}
		c := t.Cred()
		o.Type, o.PID, o.UID, o.EUID = kind, pid, c.UID, c.EUID
	}
	f.SetOwner(&o)
	return nil
}

// pipeSize implements F_GETPIPE_SZ and F_SETPIPE_SZ.
func pipeSize(t *task.Task, f *vfs.File, cmd int, arg uint64) (uint64, error) {
	p := pipefs.Of(f)
	if p == nil {
		return 0, unix.EBADF
	}
	if cmd == unix.F_GETPIPE_SZ {
		return uint64(p.Size()), nil
	}
	n, err := p.SetSize(t, uint64(u32(arg)))
	return uint64(n), err
}

// sysFlock implements flock(2).
func sysFlock(t *task.Task, a *platform.Args) (uint64, error) {
	op := int(i32(a[1]))
	if op&lockMand != 0 {
		return 0, nil // does nothing any more
	}
	switch op &^ unix.LOCK_NB {
	case unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN:
	default:
		return 0, unix.EINVAL
	}
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, vfs.Flock(t, f, op)
}
