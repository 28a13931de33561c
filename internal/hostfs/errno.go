package hostfs

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unixError is an error of the host while hostfs is set up, for the user.
type unixError struct {
	op, path string
	err      error
}

func (e *unixError) Error() string { return e.op + ": " + e.path + ": " + e.err.Error() }
func (e *unixError) Unwrap() error { return e.err }

// errno is what a guest sees of an error of the host.
func errno(err error) error {
	switch err {
	case nil:
		return nil
	case unix.EMFILE:
		return unix.ENFILE // it is not the guest's process that has too many
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EIO
}

// again repeats f while it is interrupted by a signal of ours.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return errno(err)
		}
	}
}

// umask is the program's own file creation mask, 022 if it cannot be told.
func umask() uint32 {
	b, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "Umask:"); ok {
				if n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
					return uint32(n)
				}
			}
		}
	}
	return 0o022
}
