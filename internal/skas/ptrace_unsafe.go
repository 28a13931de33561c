package skas

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ptraceOptions of every stub: the host kernel kills them when the tracer ends, and the trace lane stops them.
const ptraceOptions = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACESYSGOOD

// ptrace(2) requests must come from the tracer's own OS thread. They never block, so the scheduler is not told.
func ptrace(req, tid int, addr, data uintptr) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// ptracePtr is ptrace for requests with a structure. The pointer must not become a number earlier than here: what it points
// to is often on the caller's stack, and any call of a Go function can move that.
func ptracePtr(req, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(req), uintptr(tid), addr, uintptr(data), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func ptraceGetRegs(tid int, r *unix.PtraceRegs) error {
	return ptracePtr(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(r))
}

func ptraceSetRegs(tid int, r *unix.PtraceRegs) error {
	return ptracePtr(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(r))
}

// siginfo is the head of siginfo_t as faults fill it.
type siginfo struct {
	signo, errno, code, _ int32
	addr                  uint64
	_                     [104]byte
}

const _ = uint(128-unsafe.Sizeof(siginfo{})) + uint(unsafe.Sizeof(siginfo{})-128)

func ptraceGetSiginfo(tid int, si *siginfo) error {
	return ptracePtr(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(si))
}

const ntX86XState = 0x202 // NT_X86_XSTATE, elf(5)

// ptraceGetXState reads the XSAVE area into p and returns its size.
func ptraceGetXState(tid int, p []byte) (int, error) {
	iov := unix.Iovec{Base: &p[0], Len: uint64(len(p))}
	err := ptracePtr(unix.PTRACE_GETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
	return int(iov.Len), err
}

func ptraceSetXState(tid int, p []byte) error {
	iov := unix.Iovec{Base: &p[0], Len: uint64(len(p))}
	return ptracePtr(unix.PTRACE_SETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
}

// ptracePoke writes one word, even to read-only private memory.
func ptracePoke(tid int, addr, word uint64) error {
	return ptrace(unix.PTRACE_POKEDATA, tid, uintptr(addr), uintptr(word))
}

// ptracePeekUser reads a word of struct user. The bare system call stores it, where the C library returns it.
func ptracePeekUser(tid int, off uintptr) (v uint64, err error) {
	err = ptracePtr(unix.PTRACE_PEEKUSR, tid, off, unsafe.Pointer(&v))
	return v, err
}

// wait4 is wait4(2) for stubs. With WNOHANG it does not block and the scheduler is not told.
func wait4(pid int, ws *unix.WaitStatus, options int, ru *unix.Rusage) (int, error) {
	var st uint32
	var r uintptr
	var e syscall.Errno
	if options&unix.WNOHANG != 0 {
		r, _, e = syscall.RawSyscall6(syscall.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&st)), uintptr(options),
			uintptr(unsafe.Pointer(ru)), 0, 0)
	} else {
		r, _, e = syscall.Syscall6(syscall.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&st)), uintptr(options),
			uintptr(unsafe.Pointer(ru)), 0, 0)
	}
	*ws = unix.WaitStatus(st)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// threadHasChildren reports whether wait4 with WNOTHREAD would find any child on this OS thread.
func threadHasChildren() bool {
	var info siginfo
	_, _, e := syscall.RawSyscall6(syscall.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD, 0, 0)
	return e == 0
}

func tgkill(tgid, tid int, sig unix.Signal) {
	syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(tgid), uintptr(tid), uintptr(sig))
}

// kernelSigaction is struct sigaction of rt_sigaction(2).
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// setNoCldStop keeps the host from sending SIGCHLD for every stop of a stub; the Go runtime's handler stays.
func setNoCldStop() {
	var sa kernelSigaction
	const size = 8
	if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), 0,
		uintptr(unsafe.Pointer(&sa)), size, 0, 0); e != 0 {
		return
	}
	sa.flags |= 1 // SA_NOCLDSTOP
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&sa)), 0, size, 0, 0)
}

// syscallInfo is struct ptrace_syscall_info, without the union's longest member's end.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64 // entry and seccomp; the result at an exit
	args [6]uint64
	_    uint64
}

const _ = uint(88-unsafe.Sizeof(syscallInfo{})) + uint(unsafe.Sizeof(syscallInfo{})-88)

func ptraceGetSyscallInfo(tid int, info *syscallInfo) error {
	return ptracePtr(unix.PTRACE_GET_SYSCALL_INFO, tid, unsafe.Sizeof(*info), unsafe.Pointer(info))
}
