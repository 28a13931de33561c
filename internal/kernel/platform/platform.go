// Package platform is what the guest kernel needs of the machine below it: address spaces and threads that run guest
// code. internal/skas implements it with host processes; Fake is an implementation for tests.
//
// # How guest code meets the kernel
//
// A guest thread is a host thread of a stub process. It runs until something happens that is the kernel's to decide; then
// the platform calls the Handler:
//
//   - Syscall: the thread made a system call. It arrives by one of two lanes. In the notify lane the host thread waits
//     inside its call and has no registers to show; the handler runs on a kernel goroutine. In the trace lane the thread
//     is held in a ptrace stop (Held is true) and the handler may use the Held-only methods; there the handler may run
//     on the tracer thread itself (OnTracer is true), where it must not sleep or wait for I/O: if it has to, it
//     returns Offload before it has changed anything, and is called again on a goroutine where it may.
//   - Stop: the thread stopped for another reason: it was kicked, or it faulted. Held is true. Runs on the tracer thread
//     under the same rule (return Offload to be called again elsewhere).
//   - Exited: the host thread is gone. The first thread of a process is reported after all its others, even if it ended
//     before them.
//
// For one thread these calls never overlap, except that Exited may come while a Syscall handler of that thread is still
// running (the process was killed): then everything the handler does to the thread is ignored.
//
// # Which calls arrive
//
// The syscall table says the lane of each call (Lane). Calls of the native lane (futex, anonymous mmap, munmap, mprotect,
// madvise, ... with arguments that skas has checked in the filter) never arrive; with other arguments they arrive by the
// trace lane. So the host's page tables, not the kernel's books, are the truth about anonymous memory.
//
// # Interrupting
//
// Kick makes a thread stop (event Kicked) before it executes another guest instruction, wherever it is: running, in a
// native call, or inside a Syscall handler (then as soon as the handler has returned). Kicks are remembered, not counted.
//
// # Registers at a Kicked stop
//
// Orig_rax tells three cases apart:
//
//   - all ones, and the thread was in user code: nothing special. A call of the notify lane that no handler has seen yet
//     looks like this too, with rip before the syscall instruction and its number in rax: it has not happened, and
//     happens whenever the thread comes back there.
//   - all ones, after a handler finished (action Stop, or a kick while it ran): rax is Return.Value, rip is after the
//     syscall instruction. If the value was one of abi's restart codes it is the kernel's to restart the call (rip-=2 and
//     rax=number) or to make it EINTR; the platform and the host never restart a call that a handler has finished.
//   - unix.SYS_FUTEX (or futex_wait, futex_waitv), and rax is -512 (no timeout) or -516 (timeout): a native futex wait
//     was interrupted. Resumed with the registers untouched, the host goes on waiting as if nothing had been. To run a
//     signal handler: for -512 with SA_RESTART, rip-=2 and the number in rax in the signal frame; otherwise rax=-EINTR
//     in the frame.
//
// Registers given to SetRegs mean what they say: Orig_rax is ignored, and the thread is then in no call. Cs and Ss are
// always those of 64-bit user code.
package platform

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Lane is how a system call reaches the kernel.
type Lane uint8

const (
	// Notify is the default: the call is answered with a value.
	Notify Lane = iota
	// Trace is for calls that need registers or run rewritten: the thread is held.
	Trace
	// Native is for calls that the host may carry out by itself if the filter finds the arguments harmless, else Trace.
	Native
	// NativeNotify is the same, with Notify for other arguments.
	NativeNotify
)

func (l Lane) String() string {
	return [...]string{Notify: "notify", Trace: "trace", Native: "native, trace", NativeNotify: "native, notify"}[l]
}

// Action says what becomes of a thread when a Handler method returns.
type Action uint8

const (
	// Resume lets the thread run on. From Syscall: the call returns Return.Value.
	Resume Action = iota
	// Stop (from Syscall) answers with Return.Value but stops the thread before its next guest instruction: Handler.Stop
	// is called with event Kicked and the value in rax.
	Stop
	// Hold keeps the thread where it is, stopped. Thread.Resume ends it. From Syscall: Return.Value is the call's result.
	Hold
	// HostExit (from Syscall exit or exit_group) lets the host carry out the call; Exited follows.
	HostExit
	// Keep (only from a held Syscall) runs on with the registers as the handler set them (rt_sigreturn, and results
	// written by SetRegs); Value is ignored.
	Keep
	// Offload asks to be called again on a goroutine that may sleep; only when Thread.OnTracer is true.
	Offload
	// Dead: the handler has ended the thread itself (Kill, or execve dropped its process); nothing is to be done.
	Dead
)

// Return is the result of Handler.Syscall.
type Return struct {
	Value  uint64 // for rax; errors as negative errno (abi.Result)
	Action Action
}

// Sysno and arguments of one call. Nr is the low 32 bits of rax.
type Sysno = int32

// Args are the six argument registers.
type Args [6]uint64

// EventKind says why a thread stopped.
type EventKind uint8

const (
	// Kicked: because of Thread.Kick, or a Stop action.
	Kicked EventKind = iota
	// Fault: a CPU exception; Event.Signal says which (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP).
	Fault
	// BadArch: the thread used int 0x80, an x32 number or another foreign way to make a system call.
	BadArch
	// SyscallEntry and SyscallExit: a native-lane call of a thread that is watched (Thread.Watch). At the entry Orig_rax
	// is the number; resumed as it is the thread makes the call, after SetRegs it does not, and rax is the result.
	SyscallEntry
	// SyscallExit: see SyscallEntry.
	SyscallExit
	// Step: one instruction was executed after ResumeStep.
	Step
)

// Wakes counts how often a sleeping handler was woken. A platform that serves calls one after the other on one OS thread
// sees from it that the last handler has made another one runnable, which should have that thread first.
var Wakes atomic.Uint64

// Event is why a thread stopped.
type Event struct {
	Kind   EventKind
	Signal unix.Signal // Fault
	Code   int32       // Fault: si_code
	Addr   uint64      // Fault: si_addr
	Err    uint64      // Fault: x86 page fault error code (best effort: bit 1 = write)
	Trapno uint64      // Fault: x86 exception number
}

// Handler is the kernel's side.
type Handler interface {
	Syscall(t Thread, nr Sysno, a *Args) Return
	Stop(t Thread, ev *Event) Action
	// Exited is called once when the host thread is gone. ws is its wait status, ru its usage; killed says that the
	// process was ended by Kill or from outside rather than by HostExit. Runs on the tracer thread, must not sleep.
	Exited(t Thread, ws unix.WaitStatus, ru *unix.Rusage)
}

// VDSO is a vDSO (vdso(7)), which lies above the guest's memory in all processes. Addr is 0 if there is none.
type VDSO struct {
	Addr  uint64
	Image []byte // what is there; the same in all processes, and never written
}

// Platform makes address spaces.
type Platform interface {
	// NewProcess makes a process with an empty address space and one held thread, whose registers are zero. The thread
	// runs when Resume is called. It may sleep. Data is set before the Handler can see the thread.
	NewProcess(data any) (Thread, error)
	// NewMemfile makes an anonymous host memory object of size 0.
	NewMemfile(name string) (Memfile, error)
	// NumCPU is how many guest threads can run at once.
	NumCPU() int
	// CPUTime is how long the kernel itself has run, in nanoseconds.
	CPUTime() int64
	// UserMax is the first address that a guest may not map.
	UserMax() uint64
	// VDSO is the vDSO of every new process.
	VDSO() VDSO
	// SetClockOffset tells the vDSO by how many nanoseconds the guest's real time is ahead of the host's.
	SetClockOffset(ns int64)
	// HostBrk reports whether brk(2) is the host's, from where a Heap operation says: then the host carries out brk
	// natively, and the kernel may ask for it by Thread.Syscall.
	HostBrk() bool
	// Describe is one line for the boot log.
	Describe() string
	// Freeze keeps all threads from executing guest instructions until Thaw. It does not wait; Frozen reports whether none
	// can any more. Handlers go on and may end; their threads stop before the next guest instruction, and the Handler
	// hears nothing of that.
	Freeze()
	Frozen() bool
	Thaw()
	// Idle waits until programs and kernel have run for about budget on all CPUs together, until after has passed since a
	// process was made, or for most. It returns false at once if that cannot be told. Only one goroutine may wait.
	Idle(budget, after, most time.Duration) bool
	// Close ends all threads and waits for their host processes.
	Close()
}

// Thread is a guest thread. Methods marked Held may only be called while the thread is held: from a Handler method while
// Held is true, or between a Hold action (or NewProcess, or Clone) and Resume.
type Thread interface {
	// Data is what was given at creation: the task.
	Data() any
	// AddressSpace is the memory that the thread runs in.
	AddressSpace() AddressSpace
	// Held reports whether the thread is in a ptrace stop. OnTracer reports whether the caller is on the tracer thread.
	Held() bool
	OnTracer() bool
	// Block tells the platform that the running Syscall handler is about to sleep; it may be called many times. It is
	// what lets another goroutine serve the other threads. After it, a long sleep may move the host thread into a ptrace
	// stop behind the handler's back; nothing changes for the handler.
	Block()
	// Kick: see the package comment. Callable from anywhere.
	Kick()
	// Kill ends the whole process (all threads of the stub) with SIGKILL. Exited follows for every thread.
	Kill()
	// HostTID is the host thread id, for the CPU clock and diagnostics only; it must never be shown to a guest.
	HostTID() int
	// Used is what the thread has used so far.
	Used() Used
	// Asleep reports whether the thread waits in a call that the host carries out by itself.
	Asleep() bool
	// SetAffinity limits the thread to guest CPUs (bit n = CPU n).
	SetAffinity(mask uint64) error
	// CPU is the guest CPU it last ran on.
	CPU() int
	// Watch makes calls of this thread stop (for strace and seccomp) from when it is held next.
	Watch(w Watching)
	// SetRlimit sets a host limit of the process: RLIMIT_STACK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_CORE only.
	SetRlimit(resource int, cur uint64) error

	// Regs (Held) returns the registers; the result may be changed and takes effect at Resume after SetRegs.
	Regs() (*arch.Regs, error)
	// SetRegs (Held) sets them.
	SetRegs(r *arch.Regs) error
	// FPState (Held) returns the XSAVE area as the host's NT_X86_XSTATE has it.
	FPState() ([]byte, error)
	// SetFPState (Held) sets it; the header is checked (EINVAL).
	SetFPState(p []byte) error
	// DebugReg (Held) is debug register n, 0 to 7, as PTRACE_PEEKUSER reads it.
	DebugReg(n int) (uint64, error)
	// SetDebugReg (Held) sets it: EINVAL for what could stop the thread outside of guest memory, or what the host refuses.
	SetDebugReg(n int, v uint64) error
	// Syscall (Held) runs a host system call in the thread and returns its result. The registers are preserved.
	Syscall(nr Sysno, a Args) (uint64, error)
	// Map (Held) runs a list of memory calls, as fast as the platform can. It stops at the first error.
	Map(ops []MapOp) error
	// Clone (Held, inside a Syscall handler for clone, clone3, fork or vfork) makes a new host thread or process with
	// the registers of this one (rax 0, rsp = spec.Stack if not 0). The new thread is held.
	Clone(spec CloneSpec) (Thread, error)
	// CompareAndSwap32 (Held) does an atomic cmpxchg on guest memory and returns what was there.
	CompareAndSwap32(addr uint64, old, new uint32) (uint32, error)

	// Resume lets a held thread run on. ResumeStep executes one instruction and stops with Step.
	Resume()
	ResumeStep()
}

// Watching says which calls of a thread stop besides those of the trace lane.
type Watching uint8

const (
	// WatchNone is the default. WatchNative: native-lane calls stop with SyscallEntry and SyscallExit.
	WatchNone Watching = iota
	// WatchNative: see there.
	WatchNative
	// WatchAll: also calls of the notify lane are held.
	WatchAll
)

// CloneSpec says what Clone makes.
type CloneSpec struct {
	// Data of the new thread.
	Data any
	// Thread: a thread of the same process (CLONE_THREAD|CLONE_VM|CLONE_SIGHAND on the host). Otherwise a process.
	Thread bool
	// VM: share the address space (always true for Thread; for a process: vfork, CLONE_VM).
	VM bool
	// Stack is the new stack pointer, 0 to keep the parent's.
	Stack uint64
	// SetTLS, TLS: the new FS base.
	SetTLS bool
	TLS    uint64
	// ClearTID is the address that the host clears and wakes when the thread ends (CLONE_CHILD_CLEARTID), 0 for none.
	ClearTID uint64
}

// AddressSpace is the memory of one or several processes (CLONE_VM). It is alive while a thread holds it.
//
// The methods of uio.Memory may be called from any goroutine (not on the tracer thread when they can be long) and respect
// page protection.
type AddressSpace interface {
	uio.Memory
	// Mappings is the host's list of mappings, without the platform's own, sorted by address.
	Mappings() ([]Mapping, error)
	// Residents lists the mappings that have memory, sorted by address. It is slow.
	Residents() ([]Resident, error)
	// Usage is the resident and virtual size in bytes, now.
	Usage() (Usage, error)
	// AnonPSS is its share of anonymous memory in bytes: pages that forks share are counted once in all. It is slow.
	AnonPSS() (uint64, error)
	// CPUTime is how long code has run in it, in nanoseconds. It never goes back, and is quick to ask.
	CPUTime() int64
}

// Usage of memory in bytes.
type Usage struct{ RSS, Anon, File, Shmem, Swap, VM, PeakRSS, PeakVM, Data, Stack, Text, Locked uint64 }

// Used is what a thread has used: CPU time in nanoseconds, page faults without and with I/O, and how often it got a CPU.
type Used struct{ User, Sys, Minor, Major, Switches int64 }

// Resident is what a mapping has of memory, in bytes.
type Resident struct {
	Start, End uint64
	RSS        uint64 // in memory
	Anon       uint64 // of that, pages of its own: anonymous or copied at a write
	Swap       uint64
}

// Mapping is one host mapping of guest memory.
type Mapping struct {
	Start, End uint64
	Prot       uint32 // PROT_*
	Shared     bool
	// For a mapping of a host file: which (HostFile.ID) and where.
	File FileID
	Off  uint64
	// VDSO marks the vDSO, Heap the pages of the host's brk (HostBrk).
	VDSO, Heap bool
}

// FileID identifies a host file: device and inode number.
type FileID struct{ Dev, Ino uint64 }

// HostFile is a host file whose pages guests can map. It is made by host-side code (skas, ubd, hostfs).
type HostFile struct {
	// RO and RW are host file descriptors of the kernel process opened for reading only and for both; RW is -1 if there
	// is none. A mapping gets RW only if it is shared and its guest file descriptor is writable: mprotect(2) on a
	// mapping made through RO can never make the file writable.
	RO, RW int
	ID     FileID
	// Installed is the platform's: where it keeps the stub-side descriptors. nil at the start.
	Installed any
	// OnClose is called by whoever closes the file, so that the platform can drop the stub-side descriptors.
	OnClose func()
}

// Memfile is a host memory object (memfd): the pages of tmpfs files, shared anonymous memory and shared mappings of disk
// files. Reads of holes give zeroes.
type Memfile interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Punch frees a range.
	Punch(off, n int64) error
	// Allocated is the number of bytes of memory it holds.
	Allocated() int64
	// Window is the object's own memory from off on, for copies to and from guest memory (uio.IO.Guest) without a buffer
	// between. Nothing else may touch it: where the object has been cut or the host has no memory, such a copy ends early,
	// but a load or store of ours would end the kernel. A copy fills holes; without fill it is nil where there are any. It
	// may always be nil.
	Window(off int64, n int, fill bool) []byte
	Host() *HostFile
	Close() error
}

// MapKind is the kind of a MapOp.
type MapKind uint8

const (
	// MapAnon maps private anonymous memory, MapFile a file.
	MapAnon MapKind = iota
	// MapFile maps a host file.
	MapFile
	// Unmap unmaps, Protect changes protection.
	Unmap
	// Protect is mprotect.
	Protect
	// Heap (only if Platform.HostBrk) has the host's own heap start, empty, at Addr. Off and Len are the program's data,
	// which RLIMIT_DATA counts too.
	Heap
)

// MapOp is one memory call, with exact addresses.
type MapOp struct {
	Kind      MapKind
	Addr, Len uint64
	Prot      uint32 // PROT_READ|PROT_WRITE|PROT_EXEC
	// Shared is for MAP_SHARED; NoReplace for MAP_FIXED_NOREPLACE instead of MAP_FIXED; NoReserve, Growsdown as mmap's.
	Shared, NoReplace, NoReserve, Growsdown bool
	File                                    *HostFile
	Writable                                bool // use HostFile.RW
	Off                                     uint64
	// Anywhere (MapAnon, MapFile) lets the host choose the address: Addr is a hint, 0 for none, and is set to the result.
	Anywhere bool
}
