package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Task is one guest thread. It implements vfs.Caller.
type Task struct {
	// K is the kernel. Immutable.
	K *Kernel
	// TID is the thread id in the guest. It changes only when a thread that is not the leader calls execve and takes the
	// leader's id (under Kernel.mu).
	tid atomic.Int32
	// Group is the process. Immutable.
	Group *ThreadGroup

	th atomic.Pointer[threadBox] // the host thread; changes at execve
	mm atomic.Pointer[mm.MM]

	cred  atomic.Pointer[cred.Cred]
	fs    atomic.Pointer[sharedFS]
	files atomic.Pointer[vfs.FDTable]

	comm atomic.Pointer[string]

	sleeper
	sigState
	runState
	perTask
	trace traceState
}

// threadBox holds an interface value in an atomic.Pointer.
type threadBox struct{ platform.Thread }

// TID is the thread id (gettid(2)); PID the process id (getpid(2)).
func (t *Task) TID() int32 { return t.tid.Load() }

// PID is the process id, which is the id of the group's leader.
func (t *Task) PID() int32 { return t.Group.pid }

// Thread is the host thread that runs this task.
func (t *Task) Thread() platform.Thread { return t.th.Load().Thread }

// MM is the task's memory; nil once it has exited.
func (t *Task) MM() *mm.MM { return t.mm.Load() }

// Mem is the task's memory for copies.
func (t *Task) Mem() uio.Memory { return (*userMemory)(t) }

// Cred is the task's credentials.
func (t *Task) Cred() *cred.Cred { return t.cred.Load() }

// SetCred installs new credentials; c must not be changed afterwards.
func (t *Task) SetCred(c *cred.Cred) { t.cred.Store(c) }

// FS is the root, working directory and umask.
func (t *Task) FS() *vfs.FSContext { return t.fs.Load().FSContext }

// Files is the file descriptor table; nil once the task has exited.
func (t *Task) Files() *vfs.FDTable { return t.files.Load() }

// Comm is the name of the thread, at most 15 bytes (PR_SET_NAME).
func (t *Task) Comm() string { return *t.comm.Load() }

// SetComm sets it, cut to 15 bytes.
func (t *Task) SetComm(s string) {
	if len(s) > 15 {
		s = s[:15]
	}
	t.comm.Store(&s)
}

// Rlimit is the soft limit of a resource of the process.
func (t *Task) Rlimit(resource int) uint64 { return t.Group.Rlimit(resource).Cur }

// Signal sends a signal to the task as the kernel (SI_KERNEL).
func (t *Task) Signal(sig unix.Signal) { t.sendKernelSignal(sig) }

// ThreadGroup is one process.
type ThreadGroup struct {
	k   *Kernel
	pid int32 // immutable

	// OnExit, if not nil, is called with the wait status when the process has ended. Set before Start. It must not sleep.
	OnExit func(status int32)

	groupTree
	groupSignal
	groupRes
}

// Rlimit is a resource limit of the process.
func (g *ThreadGroup) Rlimit(resource int) unix.Rlimit {
	g.rlimMu.Lock()
	defer g.rlimMu.Unlock()
	return g.rlim[resource]
}

var (
	_ vfs.Caller   = (*Task)(nil)
	_ wait.Sleeper = (*Task)(nil)
)
