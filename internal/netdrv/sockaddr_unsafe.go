package netdrv

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The switch uses abstract names of the full length of struct sockaddr_un, which x/sys does not pass on.

// bindUn and connectUn are bind(2) and connect(2) with all bytes of a struct sockaddr_un.
func bindUn(fd int, un []byte) error { return withUn(unix.SYS_BIND, fd, un) }

func connectUn(fd int, un []byte) error { return withUn(unix.SYS_CONNECT, fd, un) }

func withUn(nr uintptr, fd int, un []byte) error {
	_ = un[sizeUn-1]
	if _, _, e := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&un[0])), sizeUn); e != 0 {
		return e
	}
	return nil
}
