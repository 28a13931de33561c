package task

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/loader"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// ExecParams are what execve(2) and execveat(2) are given.
type ExecParams struct {
	// File is opened by vfs.OpenExec; Exec does not take the reference over.
	File *vfs.File
	// Name is the path as given; NoScript as in loader.Params.
	Name       string
	NoScript   bool
	Argv, Envv []string
}

// Exec implements execve(2): it builds the program in a fresh host process and, once nothing can fail any more, drops the
// old one with all other threads. It returns an error of execve, or one that the run loop knows as success: the calling
// thread has gone on as the new program, and the old one's call has no return.
func (t *Task) Exec(p ExecParams) error {
	tid := t.TID()
	th, err := t.execBegin(p)
	if err != nil {
		return err
	}
	if t.trace.traced.Load() {
		if !t.traceEvent(unix.PTRACE_EVENT_EXEC, unix.PTRACE_O_TRACEEXEC, uint64(tid)) && !t.seized() {
			t.Group.send(t, arch.InfoKill(unix.SIGTRAP, t.PID(), t.Cred().UID), true)
		}
		if t.trace.calls.Load() {
			code := t.callStopCode()
			t.traceStop(&TraceStop{Code: code, Info: trapInfo(t, code), Exit: true})
		}
	}
	// From here the new host thread is the task: let it go as the very last step.
	if !t.where.CompareAndSwap(inKernel, inUser) {
		go t.exitKilled()
		return errExeced
	}
	if t.watched() != platform.WatchNone || t.trace.calls.Load() {
		t.updateWatch()
	}
	if t.work.Load() != 0 {
		th.Kick()
	}
	th.Resume()
	return errExeced
}

// errExeced is the result of an execve that worked: the calling thread does not return from it.
var errExeced = errors.New("task: executed")

// execBegin does all of execve but the start. A fatal failure after the point of no return kills the process.
func (t *Task) execBegin(p ExecParams) (platform.Thread, error) {
	g := t.Group
	im, err := loader.Load(t, loader.Params{
		Host: t.K.MM, File: p.File, Name: p.Name, NoScript: p.NoScript, Argv: p.Argv, Envv: p.Envv,
		StackLimit: t.Rlimit(unix.RLIMIT_STACK), Aux: t.K.Aux,
		NoRandom: t.Personality()&addrNoRandomize != 0 || t.K.NoRandom.Load(),
	})
	if err != nil {
		return nil, err
	}
	defer im.Release()
	tty.RecordExec(t.ControllingTTY(), p.Argv)
	// Until the new identity is in force nobody may attach who would not have been seen here.
	t.setExecing(true)
	defer t.setExecing(false)
	nc, secure, err := t.execCred(im.File)
	if err != nil {
		return nil, err
	}
	t.Thread().Block() // what follows waits for the tracer of the new process
	th, err := t.K.Platform.NewProcess(t)
	if err != nil {
		return nil, unix.ENOMEM
	}
	m := mm.New(t.K.MM, th.AddressSpace())
	for _, res := range []int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		if l := g.Rlimit(res).Cur; l != ^uint64(0) {
			th.SetRlimit(res, l)
		}
	}
	err = im.Install(th, m, loader.Creds{UID: nc.UID, EUID: nc.EUID, GID: nc.GID, EGID: nc.EGID, Secure: secure})
	if err == nil {
		r := im.Regs()
		err = th.SetRegs(&r)
	}
	if err != nil {
		th.Kill()
		m.Put()
		if err == unix.EFAULT {
			// The file ends before what must be zeroed. Linux finds that when there is no way back to the old program.
			g.exit(int32(unix.SIGSEGV))
		}
		return nil, err
	}

	// The point of no return: one thread stays, under the id of the process.
	old := t.Thread()
	if err := t.loseThreads(old, th); err != nil {
		th.Kill()
		m.Put()
		return nil, err
	}
	t.K.Futexes.Release(t)
	t.futex.Reset()
	// Whoever sees the new memory sees the new identity too (CanPtrace).
	hidden := t.hiddenExec(nc, im.File)
	if hidden {
		g.SetDumpable(0)
	}
	t.InstallCred(nc)
	oldMM := t.mm.Swap(m)
	if !hidden {
		g.SetDumpable(1)
	}
	oldMM.PutLater()
	t.endVfork()

	g.sigMu.Lock()
	acts := &Actions{}
	g.actions().mu.Lock()
	for i := range acts.a {
		if g.actions().a[i].Handler == arch.SIG_IGN {
			acts.a[i].Handler = arch.SIG_IGN
		}
	}
	g.actions().mu.Unlock()
	g.acts.Store(acts)
	t.altstack = arch.SigStack{}
	g.sigMu.Unlock()
	g.timers.exec()
	t.restart, t.restartFn = restartInfo{}, nil
	t.clearTID.Store(0)
	t.robustList.Store(0)
	t.lastNr.Store(-1)

	if t.FilesShared() && t.UnshareFiles() != nil {
		g.exit(int32(unix.SIGKILL)) // there is no way back
	}
	t.Files().CloseOnExec(t)
	t.SetComm(im.Comm)
	t.K.mu.Lock()
	g.exitSignal = unix.SIGCHLD
	g.execed = true
	t.K.mu.Unlock()
	return th, nil
}

const addrNoRandomize = 0x0040000

// FilesShared reports whether other tasks use the descriptor table (CLONE_FILES).
func (t *Task) FilesShared() bool { return t.Files().Shared() }

// hiddenExec reports whether the process will not be dumpable with a new program and identity: it had or gets other rights
// than its user, or the user may not read the program.
func (t *Task) hiddenExec(n *cred.Cred, f *vfs.File) bool {
	old := t.Cred()
	return old.EUID != old.UID || old.EGID != old.GID || changedRights(old, n) || vfs.Permission(t, f.Inode, vfs.MayRead) != nil
}

// loseThreads moves the task to its new host thread, ends the old host process with all other threads and makes the
// caller the leader.
func (t *Task) loseThreads(old, new platform.Thread) error {
	g, k := t.Group, t.K
	g.sigMu.Lock()
	if g.exiting || g.execing != nil {
		g.sigMu.Unlock()
		return unix.EAGAIN
	}
	t.th.Store(&threadBox{new})
	if g.live.Load() == 1 && t.TID() == g.pid {
		g.sigMu.Unlock()
		old.Kill()
		return nil
	}
	g.execing = t
	for _, x := range g.threadsSnapshot() {
		if x != t {
			x.work.Or(workExit)
			x.Wake()
		}
	}
	g.sigMu.Unlock()
	old.Kill()
	old.Block()
	for g.live.Load() > 1 {
		<-t.token // in spite of signals; every end of a thread wakes us
	}
	k.mu.Lock()
	if l := g.leader; l != t {
		// The old leader waits as a zombie under the id that the caller takes over.
		delete(k.pids, t.TID())
		g.removeThreadLocked(l)
		k.userLocked(l.Cred().UID, -1)
		g.seat.Uncharge()
		t.tid.Store(g.pid)
		k.pids[g.pid] = t
		g.leader = t
	}
	k.mu.Unlock()
	g.sigMu.Lock()
	g.execing = nil
	g.sigMu.Unlock()
	return nil
}

// Start gives a task made by NewInit its program and lets it run.
func (t *Task) Start(p ExecParams) error {
	g := t.Group
	im, err := loader.Load(t, loader.Params{
		Host: t.K.MM, File: p.File, Name: p.Name, Argv: p.Argv, Envv: p.Envv,
		StackLimit: g.Rlimit(unix.RLIMIT_STACK).Cur, Aux: t.K.Aux, NoRandom: t.K.NoRandom.Load(),
	})
	if err != nil {
		return err
	}
	defer im.Release()
	th := t.Thread()
	m := mm.New(t.K.MM, th.AddressSpace())
	err = im.Install(th, m, loader.Creds{})
	if err == nil {
		r := im.Regs()
		err = th.SetRegs(&r)
	}
	if err != nil {
		m.Put()
		return err
	}
	t.mm.Store(m)
	t.SetComm(im.Comm)
	t.startTime = int64(ktime.Uptime())
	th.Resume()
	return nil
}
