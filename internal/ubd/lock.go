package ubd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lockSplit divides a file for locking. The part below it takes a POSIX lock, whose holder the host names; the part above an
// open file description lock, which the same process cannot lose by closing the file elsewhere and which also keeps it from
// using one file for two disks. Others, who lock the whole file, collide with both.
const lockSplit = 1 << 62

// lockFile takes a write lock, or a read lock, on a whole file. The error says who has it.
func lockFile(fd int, name string, write bool) error {
	typ := int16(unix.F_RDLCK)
	if write {
		typ = unix.F_WRLCK
	}
	lk := unix.Flock_t{Type: typ, Len: lockSplit}
	err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk)
	if err == nil {
		ofd := unix.Flock_t{Type: typ, Start: lockSplit}
		if err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &ofd); err == nil {
			return nil
		}
	}
	if err != unix.EAGAIN && err != unix.EACCES {
		return &FileError{name, fmt.Sprintf("Failed to lock '%s', err = %d", name, err.(unix.Errno)),
			"a file that can be locked (flag c does without locking)", err}
	}
	who := "another disk of this guest"
	lk = unix.Flock_t{Type: typ}
	if e := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lk); e == nil && lk.Type != unix.F_UNLCK && lk.Pid > 0 {
		who = fmt.Sprintf("pid %d", lk.Pid)
	}
	return &FileError{name, fmt.Sprintf("F_SETLK failed, file already locked by %s; Failed to lock '%s', err = %d", who, name, unix.EAGAIN),
		"a file that no other guest uses (flags r, or c for a shared disk, allow it)", unix.EAGAIN}
}
