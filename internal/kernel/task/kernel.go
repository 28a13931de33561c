package task

import (
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/coredump"
	"github.com/user-mode-linux/linux/internal/kernel/futex"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// MaxPID is the highest process id plus one, unless /proc/sys/kernel/pid_max says otherwise, which is at most MaxPIDLimit
// (proc_sys_kernel(5)).
const (
	MaxPID      = 32768
	MaxPIDLimit = 4 << 20
)

// Kernel is the set of all tasks and what handles their calls. It implements platform.Handler.
type Kernel struct {
	// Platform runs guest code. Set once before the first task is made.
	Platform platform.Platform
	// Dispatch runs a system call. Set once at boot by package syscalls.
	Dispatch func(t *Task, nr platform.Sysno, a *platform.Args) (uint64, error)
	// Core says where core files go. Immutable.
	Core *coredump.Settings
	// NativeCalls are the numbers of the calls that the host may carry out by itself. Set once at boot by package syscalls.
	NativeCalls []int32
	// Halted is called once when the guest wants to end: poweroff, halt, reboot or panic. It does not return to the
	// caller's guest program.
	Halted func(Halt)
	// Memory is the size of the guest's memory in bytes (mem=). Set once at boot.
	Memory uint64
	// MM is what all address spaces share, Aux what the auxiliary vector tells about the CPU. Set once at boot.
	MM  *mm.Host
	Aux arch.HostAux
	// Cgroups has the control groups. Immutable.
	Cgroups *cgroup.Tree
	// Futexes has the futexes with owners. Immutable.
	Futexes *futex.Table
	// NoRandom switches address space randomisation off (/proc/sys/kernel/randomize_va_space).
	NoRandom atomic.Bool
	// PIDMax is /proc/sys/kernel/pid_max.
	PIDMax atomic.Int32
	logins atomic.Uint32 // logins that were counted, see Task.Login
	// ThreadsMax is /proc/sys/kernel/threads-max.
	ThreadsMax atomic.Int32

	seccompMu sync.Mutex // serializes installing filters; above sigMu

	mu      sync.Mutex
	pids    map[int32]*Task // every thread by id, until it is reaped
	unborn  map[int32]bool  // ids of threads that are being made
	groups  map[int32]*ThreadGroup
	pgrps   map[int32]*ProcessGroup
	sess    map[int32]*Session
	lastPID int32
	init    *ThreadGroup

	fpLayout atomic.Pointer[arch.FPLayout]
	forks    atomic.Uint64
	cad      atomic.Bool // Ctrl-Alt-Del reboots at once (reboot(2))
	halting  atomic.Bool
	users    map[uint32]int // threads of each user, for RLIMIT_NPROC
}

// Halt says how the guest ended.
type Halt struct {
	Kind HaltKind
	// Text is the panic message.
	Text string
}

// HaltKind is the kind of end.
type HaltKind int

// The ways a guest ends.
const (
	HaltHalt HaltKind = iota
	HaltPowerOff
	HaltRestart
	HaltPanic
)

// New makes a kernel without tasks.
func New() *Kernel {
	k := &Kernel{
		pids:   map[int32]*Task{},
		unborn: map[int32]bool{},
		groups: map[int32]*ThreadGroup{},
		pgrps:  map[int32]*ProcessGroup{},
		sess:   map[int32]*Session{},
		users:  map[uint32]int{},
	}
	k.cad.Store(true)
	k.PIDMax.Store(MaxPID)
	k.Core = coredump.NewSettings()
	k.Cgroups = cgroup.NewTree()
	k.Futexes = futex.New(k.findFutexOwner)
	return k
}

// Halt ends the guest. Only the first call counts.
func (k *Kernel) Halt(h Halt) {
	if k.halting.CompareAndSwap(false, true) {
		k.Halted(h)
	}
}

// Panic is a guest kernel panic: it is logged and ends the guest.
func (k *Kernel) Panic(text string) {
	klog.Printf(klog.Emerg, "Kernel panic - not syncing: %s", text)
	k.Halt(Halt{Kind: HaltPanic, Text: text})
}

// CtrlAltDel is what the key does: it restarts the guest, or signals init (reboot(2)).
func (k *Kernel) CtrlAltDel() {
	if k.cad.Load() {
		klog.Printf(klog.Emerg, "reboot: Restarting system")
		k.Halt(Halt{Kind: HaltRestart})
		return
	}
	k.mu.Lock()
	init := k.init
	k.mu.Unlock()
	if init != nil {
		init.sendKernelSignal(unix.SIGINT)
	}
}

// SetCtrlAltDel chooses it.
func (k *Kernel) SetCtrlAltDel(reboot bool) { k.cad.Store(reboot) }

// allocPIDLocked takes a free id.
func (k *Kernel) allocPIDLocked() (int32, error) {
	limit := k.PIDMax.Load()
	for range limit {
		k.lastPID++
		if k.lastPID >= limit {
			k.lastPID = 300 // as Linux, low ids stay with early processes
		}
		id := k.lastPID
		if k.pids[id] == nil && !k.unborn[id] && k.groups[id] == nil && k.pgrps[id] == nil && k.sess[id] == nil {
			return id, nil
		}
	}
	return 0, unix.EAGAIN
}

// FindTask returns the thread with an id, nil if there is none.
func (k *Kernel) FindTask(tid int32) *Task {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pids[tid]
}

// FindGroup returns the process with an id, nil if there is none.
func (k *Kernel) FindGroup(pid int32) *ThreadGroup {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.groups[pid]
}

// Groups is every process (zombies too), by id.
func (k *Kernel) Groups() []*ThreadGroup {
	k.mu.Lock()
	gs := make([]*ThreadGroup, 0, len(k.groups))
	for _, g := range k.groups {
		gs = append(gs, g)
	}
	k.mu.Unlock()
	sort.Slice(gs, func(i, j int) bool { return gs[i].pid < gs[j].pid })
	return gs
}

// Counts is the number of threads, and of forks since boot.
func (k *Kernel) Counts() (threads int, forks uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pids), k.forks.Load()
}

// Running is how many threads run or are ready to. It may have to ask the host about each of them.
func (k *Kernel) Running() (n int) {
	for _, g := range k.Groups() {
		for _, t := range g.Threads() {
			if t.State() == 'R' {
				n++
			}
		}
	}
	return n
}

// LastPID is the id most recently given out.
func (k *Kernel) LastPID() int32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lastPID
}

// FPLayout is the shape of the machine's extended state, read off any thread's.
func (k *Kernel) FPLayout(area []byte) *arch.FPLayout {
	if l := k.fpLayout.Load(); l != nil {
		return l
	}
	l, err := arch.NewFPLayout(area)
	if err != nil {
		k.Panic("the host's floating point state cannot be read: " + err.Error())
		return &arch.FPLayout{}
	}
	k.fpLayout.Store(l)
	return l
}
