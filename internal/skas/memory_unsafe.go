package skas

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// A uio.Range has the layout of a struct iovec for another process's memory.
const _ = uint(unsafe.Sizeof(unix.RemoteIovec{})-unsafe.Sizeof(uio.Range{})) + uint(unsafe.Sizeof(uio.Range{})-unsafe.Sizeof(unix.RemoteIovec{}))

// processVM is process_vm_readv(2) or process_vm_writev(2) with one local piece; r has the layout of struct iovec.
func processVM(nr uintptr, tid int, p []byte, r []uio.Range) (int, syscall.Errno) {
	local := syscall.Iovec{Base: &p[0], Len: uint64(len(p))}
	n, _, e := syscall.Syscall6(nr, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&r[0])), uintptr(len(r)), 0)
	return int(n), e
}
