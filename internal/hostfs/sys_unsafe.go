package hostfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameMax is the longest name in a directory (NAME_MAX).
const nameMax = 255

const statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// statx is statx(2) of one name in a directory, not following a link, or of fd itself if name is empty. It allocates nothing:
// every step of a path walk comes here.
func statx(fd int, name string, st *unix.Statx_t) error {
	var buf [nameMax + 1]byte
	if len(name) > nameMax {
		return unix.ENAMETOOLONG
	}
	copy(buf[:], name)
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(flags), statxMask,
			uintptr(unsafe.Pointer(st)), 0)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}
