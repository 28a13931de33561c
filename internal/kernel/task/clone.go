package task

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/futex"
	"github.com/user-mode-linux/linux/internal/kernel/ipc"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// perTask are the small things of a thread.
type perTask struct {
	startTime int64 // Uptime at the start, immutable
	then      after // owned by the task

	clearTID   atomic.Uint64 // set_tid_address; 0 when the host has it
	robustList atomic.Uint64 // set_robust_list
	nice       atomic.Int32
	ioprio     atomic.Int32
	pdeathSig  atomic.Int32
	noNewPrivs atomic.Bool
	slack      atomic.Uint64 // PR_SET_TIMERSLACK, nanoseconds
	login      atomic.Uint64 // user and number of the login, see Login
	sched      atomic.Pointer[SchedParam]
	affinity   atomic.Uint64
	personal   atomic.Uint32 // personality(2)
	semUndo    atomic.Pointer[ipc.Undo]
	futex      futex.State
	security   atomic.Pointer[security]
	dumped     atomic.Bool // it is held while its process dumps core
	doomed     unix.Signal // the thread is to end with this as its status; owned by the task

	usage      usage // of host threads that have ended; guarded by ThreadGroup.usageMu
	hostStatus atomic.Int32
	exitCode   int32 // owned by the task until it has ended
	prepared   atomic.Bool
	ending     atomic.Bool // it has called exit: it takes no signals and no part in group stops
	exitSeen   atomic.Bool // the end has been noted: wait may tell a tracer

	vforkWait   atomic.Bool // parent: held until the child executes or ends
	vforkHeld   atomic.Bool // it is held for that, rather than sleeping in its handler
	vforkParent atomic.Pointer[Task]

	forced                           bool // a fault found its signal blocked or ignored
	faultErr, faultTrapno, faultAddr uint64
}

// CloneArgs are clone(2)'s and clone3(2)'s arguments, checked for size only.
type CloneArgs struct {
	Flags      uint64
	PIDFd      uint64 // address
	ChildTID   uint64
	ParentTID  uint64
	ExitSignal uint64
	Stack      uint64 // stack pointer of the child, 0 to keep
	TLS        uint64
	// NewPidfd makes a pidfd for the child; set by the handler when CLONE_PIDFD is asked for.
	NewPidfd func(g *ThreadGroup) (int32, error)
	// UndoPidfd closes it again.
	UndoPidfd func(fd int32)
	// Cgroup is where the child is born, nil for where its parent is (CLONE_INTO_CGROUP).
	Cgroup *cgroup.Group
}

// newNamespaces are the flags for namespaces that do not exist here.
const newNamespaces = unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Clone implements clone(2), clone3(2), fork(2) and vfork(2) for a held thread. It returns the child's id.
func (t *Task) Clone(a *CloneArgs) (int32, error) {
	fl := a.Flags
	thread := fl&unix.CLONE_THREAD != 0
	switch {
	case thread && fl&unix.CLONE_SIGHAND == 0,
		fl&unix.CLONE_SIGHAND != 0 && fl&unix.CLONE_VM == 0,
		fl&unix.CLONE_NEWNS != 0 && fl&unix.CLONE_FS != 0,
		fl&unix.CLONE_PIDFD != 0 && fl&unix.CLONE_PARENT_SETTID != 0 && a.PIDFd == a.ParentTID,
		a.ExitSignal > arch.NSIG:
		return 0, unix.EINVAL
	case fl&newNamespaces != 0:
		if !t.Cred().Capable(unix.CAP_SYS_ADMIN) && fl&newNamespaces != unix.CLONE_NEWUSER {
			return 0, unix.EPERM
		}
		return 0, unix.EINVAL
	case fl&unix.CLONE_NEWNS != 0 && !t.Cred().Capable(unix.CAP_SYS_ADMIN):
		return 0, unix.EPERM
	}
	k, g := t.K, t.Group
	if thread && g.exitingNow() {
		return 0, unix.EAGAIN
	}
	c := t.newChild(fl)
	k.mu.Lock()
	if thread && k.halting.Load() {
		k.mu.Unlock()
		return 0, unix.EAGAIN
	}
	if !k.mayForkLocked(t) {
		k.mu.Unlock()
		return 0, unix.EAGAIN
	}
	id, err := k.allocPIDLocked()
	if err != nil {
		k.mu.Unlock()
		return 0, err
	}
	c.tid.Store(id)
	k.unborn[id] = true
	k.userLocked(c.Cred().UID, 1)
	k.mu.Unlock()

	if thread {
		if a.Cgroup != nil && a.Cgroup != g.Cgroup() {
			err = unix.EOPNOTSUPP
		} else if err = g.seat.AddTask(); err == nil {
			c.Group = g
		}
	} else {
		c.Group, err = t.newGroup(c, fl, a)
	}
	if err != nil {
		k.dropUnborn(c)
		return 0, err
	}
	if err := t.cloneResources(c, fl); err != nil {
		k.dropUnborn(c)
		return 0, err
	}
	t.shareSemUndo(c, fl)
	pidfd := int32(-1)
	if fl&unix.CLONE_PIDFD != 0 && a.NewPidfd != nil {
		if pidfd, err = a.NewPidfd(c.Group); err == nil {
			if err = putInt32(t.Mem(), a.PIDFd, pidfd); err != nil {
				a.UndoPidfd(pidfd)
			}
		}
		if err != nil {
			k.dropUnborn(c)
			return 0, err
		}
	}
	spec := platform.CloneSpec{
		Data: c, Thread: thread, VM: fl&unix.CLONE_VM != 0, Stack: a.Stack,
		SetTLS: fl&unix.CLONE_SETTLS != 0, TLS: a.TLS,
	}
	if fl&unix.CLONE_CHILD_CLEARTID != 0 {
		spec.ClearTID = a.ChildTID
	}
	var th platform.Thread
	if spec.VM {
		if th, err = t.Thread().Clone(spec); err == nil {
			c.mm.Store(t.MM().Get())
		}
	} else {
		var m *mm.MM
		if m, th, err = t.MM().Fork(t.Thread(), func() (platform.Thread, error) { return t.Thread().Clone(spec) }); err == nil {
			c.mm.Store(m)
		}
	}
	if err != nil {
		if pidfd >= 0 {
			a.UndoPidfd(pidfd)
		}
		k.dropUnborn(c)
		switch err {
		case unix.ENOMEM, unix.EAGAIN:
			return 0, err
		case mm.ErrOffload:
			t.Then(platform.Offload)
		}
		return 0, unix.EAGAIN
	}
	c.th.Store(&threadBox{th})
	if fl&unix.CLONE_PARENT_SETTID != 0 {
		putInt32(t.Mem(), a.ParentTID, id)
	}
	if fl&unix.CLONE_CHILD_SETTID != 0 {
		putInt32(th.AddressSpace(), a.ChildTID, id)
	}
	event := t.birth(c, fl, a.ExitSignal)
	k.forks.Add(1)
	if c.trace.traced.Load() {
		c.startTraced()
	}
	if t.trace.traced.Load() && !t.Thread().OnTracer() {
		t.cloneTraced(c, th, fl, event)
		return id, nil
	}
	if fl&unix.CLONE_VFORK != 0 {
		// The parent waits, held, until the child has executed a program or ended.
		t.vforkWait.Store(true)
		t.vforkHeld.Store(true)
		c.vforkParent.Store(t)
		t.Then(platform.Hold)
	}
	c.letGo(th)
	return id, nil
}

// letGo starts the host thread of a new task.
func (t *Task) letGo(th platform.Thread) {
	if !t.where.CompareAndSwap(unborn, inUser) {
		go t.exitKilled() // it has ended already
		return
	}
	if t.watched() != platform.WatchNone {
		t.updateWatch()
	}
	if t.work.Load() != 0 {
		th.Kick()
	}
	th.Resume()
}

// newChild makes the Task of a child, not yet known to anybody.
func (t *Task) newChild(fl uint64) *Task {
	c := &Task{K: t.K}
	c.token = make(chan struct{}, 1)
	c.where.Store(unborn)
	c.cred.Store(t.cred.Load())
	c.comm.Store(t.comm.Load())
	c.startTime = uptime()
	c.noNewPrivs.Store(t.noNewPrivs.Load())
	c.security.Store(t.security.Load())
	c.slack.Store(t.slack.Load())
	c.login.Store(t.login.Load())
	c.setSchedOf(t)
	c.affinity.Store(t.affinity.Load())
	c.personal.Store(t.personal.Load())
	c.blocked = t.Sigmask()
	if t.restoreMask {
		c.blocked = t.saved
	}
	if fl&unix.CLONE_VM == 0 || fl&unix.CLONE_VFORK != 0 {
		c.altstack = t.altstack
	}
	return c
}

// cloneResources shares or copies what clone's flags say: ENOMEM.
func (t *Task) cloneResources(c *Task, fl uint64) error {
	if fl&unix.CLONE_FS != 0 {
		c.fs.Store(t.fs.Load().get())
	} else {
		c.fs.Store(newSharedFS(t.FS().Copy()))
	}
	if fl&unix.CLONE_NEWNS != 0 {
		if err := c.FS().UnshareNamespace(t); err != nil {
			return err
		}
	}
	if fl&unix.CLONE_FILES != 0 {
		c.files.Store(t.Files().IncRef())
	} else {
		files, err := t.Files().Copy()
		if err != nil {
			return err
		}
		c.files.Store(files)
	}
	return nil
}

// newGroup makes the process of a child. An error is one of its control group, of which it then is no member.
func (t *Task) newGroup(c *Task, fl uint64, a *CloneArgs) (_ *ThreadGroup, err error) {
	g := t.Group
	n := &ThreadGroup{k: t.K, pid: c.TID()}
	if n.seat, err = g.seat.Fork(n, a.Cgroup); err != nil {
		return nil, err
	}
	n.startTime = c.startTime
	n.leader = c
	n.exitSignal = unix.Signal(a.ExitSignal)
	g.rlimMu.Lock()
	n.rlim = g.rlim
	g.rlimMu.Unlock()
	n.oomScoreAdj.Store(g.oomScoreAdj.Load())
	n.coreFilter.Store(g.coreFilter.Load())
	if fl&unix.CLONE_SIGHAND != 0 {
		n.acts.Store(g.actions())
	} else {
		acts := g.actions().copy()
		n.acts.Store(acts)
		if fl&cloneClearSighand != 0 {
			for i := range acts.a {
				if acts.a[i].Handler != arch.SIG_IGN {
					acts.a[i] = arch.Sigaction{}
				}
			}
		}
	}
	return n, nil
}

const cloneClearSighand = 0x100000000

// cloneTraced ends a clone of a traced thread: it tells the tracer, and waits for a vfork child by sleeping.
func (t *Task) cloneTraced(c *Task, th platform.Thread, fl uint64, event int) {
	id := uint64(c.TID())
	if fl&unix.CLONE_VFORK != 0 {
		t.vforkWait.Store(true)
		c.vforkParent.Store(t)
	}
	c.letGo(th)
	if event != 0 {
		t.traceEvent(event, traceEventOption(event), id)
	}
	if fl&unix.CLONE_VFORK != 0 {
		for t.vforkWait.Load() && t.work.Load()&workExit == 0 {
			<-t.token
		}
		t.traceEvent(unix.PTRACE_EVENT_VFORK_DONE, unix.PTRACE_O_TRACEVFORKDONE, id)
	}
}

// birth puts a child into the tree: from now on others see it. It returns the event that the parent's tracer wants.
func (t *Task) birth(c *Task, fl, exitSignal uint64) (event int) {
	k, g := t.K, t.Group
	k.mu.Lock()
	defer k.mu.Unlock()
	n := c.Group
	event = t.traceChildLocked(c, fl, exitSignal)
	delete(k.unborn, c.TID())
	k.pids[c.TID()] = c
	if n == g {
		// Under sigMu: a stop or an exit of the group either finds the thread or is found here.
		g.sigMu.Lock()
		g.addThreadLocked(c)
		c.security.Store(t.security.Load()) // another thread may have given us filters since
		if g.exiting || g.execing != nil {
			c.work.Or(workExit)
		}
		if g.groupStop {
			c.stopWanted = true
			g.stopCount++
			c.work.Or(workSignal)
		}
		if g.seat.FreezeWanted() {
			c.freezeLocked()
		}
		g.sigMu.Unlock()
		return event
	}
	n.addThreadLocked(c)
	k.groups[n.pid] = n
	p := g
	if fl&unix.CLONE_PARENT != 0 && g.parent != nil {
		p = g.parent
		n.exitSignal = g.exitSignal
	}
	n.parent = p
	p.children = append(p.children, n)
	k.joinPgrpLocked(n, g.pgrp)
	n.tty = g.tty
	if n.Rlimit(unix.RLIMIT_CPU).Cur < 1<<32 {
		n.timers.cpuLimitChanged(n)
	}
	n.seat.Born()
	if n.seat.FreezeWanted() {
		n.UpdateFreeze()
	}
	return event
}

// dropUnborn forgets a child that could not be made.
func (k *Kernel) dropUnborn(c *Task) {
	k.mu.Lock()
	delete(k.unborn, c.TID())
	k.userLocked(c.Cred().UID, -1)
	k.mu.Unlock()
	if c.Group != nil {
		c.Group.seat.Uncharge()
	}
	if f := c.files.Swap(nil); f != nil {
		f.DecRef(c)
	}
	if fs := c.fs.Load(); fs != nil {
		fs.put()
	}
	if u := c.semUndo.Swap(nil); u != nil {
		u.Put(0) // never the last: its parent has it
	}
}

// endVfork lets the parent of a vfork child run on.
func (t *Task) endVfork() {
	if p := t.vforkParent.Swap(nil); p != nil {
		p.vforkWait.Store(false)
		if p.vforkHeld.Swap(false) {
			p.Thread().Resume()
		} else {
			p.Wake()
		}
	}
}

// exitingNow reports whether the process is about to end.
func (g *ThreadGroup) exitingNow() bool {
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	return g.exiting || g.execing != nil
}

// mayForkLocked checks RLIMIT_NPROC and the kernel's own limit on threads.
func (k *Kernel) mayForkLocked(t *Task) bool {
	if n := len(k.pids) + len(k.unborn); n >= int(k.PIDMax.Load())-300 || n >= k.maxThreads() {
		return false
	}
	c := t.Cred()
	if c.UID == 0 || c.Capable(unix.CAP_SYS_RESOURCE) || c.Capable(unix.CAP_SYS_ADMIN) {
		return true
	}
	return uint64(k.users[c.UID]) < t.Rlimit(unix.RLIMIT_NPROC)
}

// userLocked counts threads of a user for RLIMIT_NPROC.
func (k *Kernel) userLocked(uid uint32, d int) {
	if k.users[uid] += d; k.users[uid] <= 0 {
		delete(k.users, uid)
	}
}

// maxThreads is /proc/sys/kernel/threads-max.
func (k *Kernel) maxThreads() int {
	if n := int(k.ThreadsMax.Load()); n > 0 {
		return n
	}
	return MaxPID
}

// NewInit makes a process that is nobody's fork, with nothing in its memory; Start gives it a program. The first one is
// init; a later one is a child of init, in a session of its own.
func (k *Kernel) NewInit(fs *vfs.FSContext, files *vfs.FDTable) (*Task, error) {
	return k.newFirst(fs, files, true, func(t *Task) (platform.Thread, error) { return k.Platform.NewProcess(t) })
}

// NewOrphan makes another process that is nobody's fork and nobody's child: it is reaped as soon as it has ended.
func (k *Kernel) NewOrphan(fs *vfs.FSContext, files *vfs.FDTable) (*Task, error) {
	return k.newFirst(fs, files, false, func(t *Task) (platform.Thread, error) { return k.Platform.NewProcess(t) })
}

// newFirst makes a process without a model. adopted: if there is an init it is the parent.
func (k *Kernel) newFirst(fs *vfs.FSContext, files *vfs.FDTable, adopted bool, thread func(*Task) (platform.Thread, error)) (*Task, error) {
	t := (&Task{K: k, Group: &ThreadGroup{k: k}}).firstTask()
	t.Group.acts.Store(&Actions{})
	th, err := thread(t)
	if err != nil {
		return nil, err
	}
	t.th.Store(&threadBox{th})
	t.fs.Store(newSharedFS(fs))
	t.files.Store(files)
	g := t.Group
	k.mu.Lock()
	defer k.mu.Unlock()
	id, err := k.allocPIDLocked()
	if err != nil {
		return nil, err
	}
	t.tid.Store(id)
	g.pid, g.leader, g.startTime = id, t, t.startTime
	g.seat = k.Cgroups.Root().NewSeat(g)
	g.seat.Born()
	g.rlim = defaultRlimits(k.Memory)
	g.exitSignal = unix.SIGCHLD
	k.pids[id], k.groups[id] = t, g
	g.addThreadLocked(t)
	k.userLocked(0, 1)
	if id == 1 {
		// Linux's init starts in process group and session 0.
		k.init = g
		k.joinPgrpLocked(g, k.newSessionLocked(0))
	} else {
		if adopted && k.init != nil {
			g.parent = k.init
			k.init.children = append(k.init.children, g)
		}
		k.joinPgrpLocked(g, k.newSessionLocked(id))
	}
	return t, nil
}

// firstTask fills what newChild would have copied from a parent.
func (t *Task) firstTask() *Task {
	t.token = make(chan struct{}, 1)
	t.cred.Store(cred.Root())
	t.SetComm("init")
	t.startTime = uptime()
	t.slack.Store(defaultSlack)
	t.login.Store(math.MaxUint64)
	t.Group.coreFilter.Store(defaultCoreFilter)
	t.sched.Store(&SchedParam{})
	t.affinity.Store(^uint64(0))
	return t
}

func putInt32(m uio.Memory, addr uint64, v int32) error {
	return uio.WriteFull(m, []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}, addr)
}
