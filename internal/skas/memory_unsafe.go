package skas

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// A uio.Range has the layout of a struct iovec for another process's memory.
const _ = uint(unsafe.Sizeof(unix.RemoteIovec{})-unsafe.Sizeof(uio.Range{})) + uint(unsafe.Sizeof(uio.Range{})-unsafe.Sizeof(unix.RemoteIovec{}))

// maxPieces is how many pieces of our memory one call takes.
const maxPieces = 64

// localPieces fills v from the front of p. It returns how many pieces it took and how long they are together.
func localPieces(v *[maxPieces]syscall.Iovec, p [][]byte) (k int, total uint64) {
	for k < len(v) && k < len(p) {
		v[k] = syscall.Iovec{Base: unsafe.SliceData(p[k]), Len: uint64(len(p[k]))}
		total += uint64(len(p[k]))
		k++
	}
	return k, total
}

// processVMPieces is processVM with several local pieces.
func processVMPieces(nr uintptr, tid int, local []syscall.Iovec, r []uio.Range) (int, syscall.Errno) {
	n, _, e := syscall.Syscall6(nr, uintptr(tid), uintptr(unsafe.Pointer(&local[0])), uintptr(len(local)),
		uintptr(unsafe.Pointer(&r[0])), uintptr(len(r)), 0)
	return int(n), e
}

// processVM is process_vm_readv(2) or process_vm_writev(2) with one local piece; r has the layout of struct iovec.
func processVM(nr uintptr, tid int, p []byte, r []uio.Range) (int, syscall.Errno) {
	local := syscall.Iovec{Base: &p[0], Len: uint64(len(p))}
	n, _, e := syscall.Syscall6(nr, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&r[0])), uintptr(len(r)), 0)
	return int(n), e
}

// hostBrk reports whether the host lets a process say where its heap is (CONFIG_CHECKPOINT_RESTORE).
func hostBrk() bool {
	var size uint32
	_, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, prSetMM, prSetMMMapSize, uintptr(unsafe.Pointer(&size)), 0, 0, 0)
	return e == 0 && size == mmMapSize
}
