package skas

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// notifyResponse is struct seccomp_notif_resp.
type notifyResponse struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

const _ = uint(80-unsafe.Sizeof(notification{})) + uint(unsafe.Sizeof(notification{})-80)
const _ = uint(24-unsafe.Sizeof(notifyResponse{})) + uint(unsafe.Sizeof(notifyResponse{})-24)

const notifSetFlags = 0x40082104 // SECCOMP_IOCTL_NOTIF_SET_FLAGS, linux/seccomp.h

// notifRecv waits for a system call of the notify lane. n must be zero.
func notifRecv(fd int, n *notification) syscall.Errno {
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
	return e
}

// notifSend answers a call. A signal of the Go runtime that arrives while the host waits for the listener's lock makes it
// give up (EINTR) without having taken the answer.
func notifSend(fd int, r *notifyResponse) syscall.Errno {
	for {
		_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(r)))
		if e != unix.EINTR {
			return e
		}
	}
}

// notifValid reports whether the caller still waits for an answer.
func notifValid(fd int, id uint64) bool {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&id)))
	return e == 0
}

// notifSyncWakeUp asks the host to keep caller and receiver on one CPU (Linux 6.6).
func notifSyncWakeUp(fd int) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), notifSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	if e != 0 {
		return e
	}
	return nil
}

// notifSizesMatch asks the host whether its structures are those above.
func notifSizesMatch() bool {
	var s struct{ notif, resp, data uint16 }
	_, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s)))
	return e == 0 && uintptr(s.notif) <= unsafe.Sizeof(notification{}) && uintptr(s.resp) <= unsafe.Sizeof(notifyResponse{})
}

// filterBytes is the program as struct sock_filter has it in memory.
func filterBytes(prog []unix.SockFilter) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(prog)*int(unsafe.Sizeof(prog[0])))
}

func actionAvailable(action *uint32) bool {
	_, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(action)))
	return e == 0
}
