package abi

import "golang.org/x/sys/unix"

// Restart codes (linux/errno.h). They never reach a guest program: the end of a system call turns them into EINTR or
// into a second run of the call, as signal(7) says.
const (
	// ERESTARTSYS: restart if no handler runs, or if the handler has SA_RESTART.
	ERESTARTSYS = unix.Errno(512)
	// ERESTARTNOINTR: restart always.
	ERESTARTNOINTR = unix.Errno(513)
	// ERESTARTNOHAND: restart only if no handler runs.
	ERESTARTNOHAND = unix.Errno(514)
	// ERESTART_RESTARTBLOCK: as ERESTARTNOHAND, but by restart_syscall(2) with the saved deadline.
	ERESTART_RESTARTBLOCK = unix.Errno(516)
)

// Errno returns err as the errno a guest sees. Errors on guest paths are bare unix.Errno values; anything else is a
// kernel bug or a host error that a driver did not translate, and becomes EIO.
func Errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EIO
}

// Result makes the value of a system call's return register from its result.
func Result(v uint64, err error) uint64 {
	if err == nil {
		return v
	}
	return uint64(-int64(Errno(err)))
}
