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
	th, err := t.execBegin(p)
	if err != nil {
		return err
	}
	if t.trace.traced.Load() {
		if !t.traceEvent(unix.PTRACE_EVENT_EXEC, unix.PTRACE_O_TRACEEXEC, uint64(t.TID())) && !t.seized() {
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
	nc, secure := t.execCred(im.File)
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
	oldMM := t.mm.Swap(m)
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

	if t.FilesShared() {
		t.UnshareFiles()
	}
	t.Files().CloseOnExec(t)
	oldc := t.Cred()
	t.InstallCred(nc)
	if secure || oldc.EUID != nc.EUID || oldc.EGID != nc.EGID || !readableExe(t, im.File) {
		g.SetDumpable(0)
	} else {
		g.SetDumpable(1)
	}
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

// readableExe reports whether the caller may read the program: if not, the process is not dumpable.
func readableExe(t *Task, f *vfs.File) bool {
	return vfs.Permission(t, f.Inode, vfs.MayRead) == nil
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

// execCred is the identity of the new program (execve(2), capabilities(7) "Transformation of capabilities during
// execve"), and whether it has more rights than the caller.
func (t *Task) execCred(f *vfs.File) (*cred.Cred, bool) {
	old := t.Cred()
	n := old.Copy()
	a := f.Inode.Attr()
	if f.Path.Mount != nil && f.Path.Mount.Flags()&unix.MS_NOSUID == 0 && !t.NoNewPrivs() {
		if a.Mode&unix.S_ISUID != 0 {
			n.EUID = a.UID
		}
		if a.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
			n.EGID = a.GID
		}
	}
	setid := n.EUID != old.EUID || n.EGID != old.EGID
	n.SUID, n.FSUID = n.EUID, n.EUID
	n.SGID, n.FSGID = n.EGID, n.EGID
	var filePermitted, fileInheritable cred.CapSet
	fileEffective := false
	if n.Securebits&cred.SecbitNoRoot == 0 {
		if n.EUID == 0 || n.UID == 0 {
			filePermitted, fileInheritable = cred.AllCaps, cred.AllCaps
		}
		fileEffective = n.EUID == 0
	}
	if setid {
		n.Ambient = 0
	}
	n.Permitted = old.Inheritable&fileInheritable | filePermitted&old.Bounding | n.Ambient
	if fileEffective {
		n.Effective = n.Permitted
	} else {
		n.Effective = n.Ambient
	}
	n.Securebits &^= cred.SecbitKeepCaps
	secure := setid || n.UID != 0 && n.Effective&^n.Ambient != 0
	return n, secure
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
