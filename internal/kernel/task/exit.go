package task

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// The end of a thread has two halves. prepareExit gives back what the task has (files, memory, robust futexes) and may
// sleep; exitNotify, after the host thread is gone, makes the process a zombie and tells its parent. When a program calls
// exit, the first half runs in the call and the second when the host reports the end; when a process is killed from
// outside both run after the end, on a goroutine of their own.

// Exit implements exit(2): it ends the calling thread. code is a wait status.
func (t *Task) Exit(code int32) {
	g := t.Group
	t.startEnd(code)
	if g.live.Load() > 1 && t.hostNeedsClearTID() {
		// The host is to clear and wake the thread id word, since other threads wait there.
		t.RunHeld(func(th platform.Thread) {
			th.Syscall(unix.SYS_SET_TID_ADDRESS, platform.Args{t.clearTID.Swap(0)})
			if r, err := th.Regs(); err == nil {
				r.Rdi = uint64(uint32(code)) >> 8
				arch.Restart(r, unix.SYS_EXIT)
				th.SetRegs(r)
			}
		})
		return
	}
	if t.robustPending() {
		t.RunHeld(func(th platform.Thread) {
			t.exitRobust(th)
			if r, err := th.Regs(); err == nil {
				r.Rdi = uint64(uint32(code)) >> 8
				arch.Restart(r, unix.SYS_EXIT)
				th.SetRegs(r)
			}
		})
		return
	}
	t.exitCode = code
	t.prepareExit()
	t.Then(platform.HostExit)
}

// startEnd takes a thread that ends out of group stops and from those that take the process's signals. The host may tell of
// its end much later: a leader is a zombie until all other threads have ended.
func (t *Task) startEnd(code int32) {
	g := t.Group
	g.sigMu.Lock()
	t.ending.Store(true)
	threads := g.threadsSnapshot()
	alone := !slices.ContainsFunc(threads, func(x *Task) bool { return !x.ending.Load() && x.where.Load() != gone })
	if alone && !g.exiting {
		g.exiting, g.exitCode = true, code // of threads that end one by one the last one's code counts
	}
	stopped := g.leaveStopLocked(t)
	sig := g.groupStopSg
	if pending := g.shared.set &^ t.blocked; pending != 0 {
		for _, x := range threads {
			if !x.ending.Load() && pending&^x.blocked != 0 {
				x.work.Or(workSignal)
				x.kick()
			}
		}
	}
	g.sigMu.Unlock()
	if stopped {
		g.notifyParentOfStop(arch.CLD_STOPPED, sig)
	}
}

// hostNeedsClearTID reports whether set_tid_address was called after the host's own word was set.
func (t *Task) hostNeedsClearTID() bool { return t.clearTID.Load() != 0 }

// ExitGroup implements exit_group(2) for the calling thread.
func (t *Task) ExitGroup(code int32) {
	g := t.Group
	g.sigMu.Lock()
	if g.execing != nil || g.dump != nil {
		// Only this thread ends: that is what the one that executes a program waits for.
		t.work.Or(workExit)
		g.sigMu.Unlock()
		return
	}
	if !g.exiting {
		g.exiting, g.exitCode = true, code
	}
	t.exitCode = g.exitCode
	others := g.live.Load() > 1
	if others {
		for _, x := range g.threadsSnapshot() {
			if x != t {
				x.work.Or(workExit)
				x.Wake()
			}
		}
	}
	g.sigMu.Unlock()
	if t.robustPending() {
		t.RunHeld(func(th platform.Thread) {
			t.exitRobust(th)
			if r, err := th.Regs(); err == nil {
				r.Rdi = uint64(uint32(code)) >> 8
				arch.Restart(r, unix.SYS_EXIT_GROUP)
				th.SetRegs(r)
			}
		})
		return
	}
	t.prepareExit()
	t.Then(platform.HostExit)
}

// exit ends the whole process with a wait status, from anywhere.
func (g *ThreadGroup) exit(code int32) {
	g.sigMu.Lock()
	g.exitLocked(code, g.threadsSnapshot())
	g.sigMu.Unlock()
}

// exitLocked is exit under sigMu: the host process is killed; its end does the rest.
func (g *ThreadGroup) exitLocked(code int32, threads []*Task) {
	if !g.exiting {
		g.exiting, g.exitCode = true, code
	}
	if g.dump != nil {
		g.dump.killed.Store(true)
	}
	var one *Task
	for _, x := range threads {
		x.work.Or(workExit)
		x.Wake()
		if x.where.Load() != gone {
			one = x
		}
	}
	if one == nil {
		return
	}
	if slices.ContainsFunc(threads, func(x *Task) bool { return x.robustList.Load() != 0 }) {
		go one.killRobust(threads)
		return
	}
	one.Thread().Kill()
}

// robustPatience is how long a process that is being killed may keep others waiting for its robust futexes.
const robustPatience = 200 * time.Millisecond

// killRobust kills the process of t. If one of its threads holds robust futexes, one is stopped first to mark them
// (dieHeld); if that does not happen soon, the process is killed all the same.
func (t *Task) killRobust(threads []*Task) {
	th := t.Thread()
	if !slices.ContainsFunc(threads, (*Task).robustPending) {
		th.Kill()
		return
	}
	for _, x := range threads {
		if x.where.Load() != gone && !x.ending.Load() {
			x.Thread().Kick()
		}
	}
	time.AfterFunc(robustPatience, th.Kill)
}

// dieHeld ends a held thread whose group exits, or that must make room for another's execve.
func (t *Task) dieHeld(th platform.Thread) platform.Action {
	g := t.Group
	g.sigMu.Lock()
	exiting := g.exiting
	g.sigMu.Unlock()
	if exiting {
		// The others do not come here any more once the process is killed.
		for _, x := range g.threadsSnapshot() {
			if x != t && x.robustPending() {
				x.exitRobust(th)
			}
		}
	}
	if t.robustPending() {
		t.exitRobust(th)
	}
	th.Kill()
	return platform.Hold
}

// exitKilled does both halves for a thread whose host process was killed.
func (t *Task) exitKilled() {
	g := t.Group
	g.sigMu.Lock()
	switch {
	case g.exiting:
		t.exitCode = g.exitCode
	case t.work.Load()&workExit != 0:
	default:
		// The host killed it: out of memory, or somebody on the host.
		sig := t.hostStatus.Load()
		if sig == 0 {
			sig = int32(unix.SIGKILL)
		}
		g.exiting, g.exitCode = true, sig
		t.exitCode = sig
		klog.Warnf("%s[%d]: host process was killed by signal %d", t.Comm(), t.PID(), sig)
	}
	g.sigMu.Unlock()
	t.prepareExit()
	t.exitNotify()
}

// prepareExit gives back what the thread holds. It runs once.
func (t *Task) prepareExit() {
	if !t.prepared.CompareAndSwap(false, true) {
		return
	}
	g := t.Group
	last := g.active.Add(-1) == 0
	if last {
		g.timers.stop()
		if t.IsSessionLeader() {
			tty.SessionLeaderExit(t)
		}
	}
	t.K.Futexes.Release(t)
	t.endVfork()
	if f := t.files.Swap(nil); f != nil {
		f.DecRef(t)
	}
	t.fs.Load().put()
	t.dropSemUndo()
}

// exitNotify makes an ended thread vanish, and its process a zombie if it was the last one. It must not sleep.
func (t *Task) exitNotify() {
	g, k := t.Group, t.K
	if m := t.mm.Swap(nil); m != nil {
		m.PutLater()
	}
	t.endVfork()
	g.usageMu.Lock()
	g.self.merge(&t.usage)
	g.usageMu.Unlock()

	g.sigMu.Lock()
	stopped := g.leaveStopLocked(t)
	sig := g.groupStopSg
	if g.dump != nil {
		g.dump.owner.Wake()
	}
	g.sigMu.Unlock()

	k.mu.Lock()
	last := g.live.Add(-1) == 0
	t.exitSeen.Store(true)
	tracer := t.trace.tracer
	if t != g.leader {
		delete(k.pids, t.TID())
		g.removeThreadLocked(t)
		k.userLocked(t.Cred().UID, -1)
		g.seat.Uncharge()
	}
	if !last {
		k.mu.Unlock()
		g.sigMu.Lock()
		frozen := g.reportFrozenLocked()
		g.sigMu.Unlock()
		frozen()
		if tracer != nil {
			t.tellTracer(tracer, arch.CLD_EXITED, t.exitCode>>8&0xff)
		}
		g.sigMu.Lock()
		if g.execing != nil {
			g.execing.Wake()
		}
		g.sigMu.Unlock()
		if stopped {
			g.notifyParentOfStop(arch.CLD_STOPPED, sig)
		}
		return
	}
	g.sigMu.Lock()
	if !g.exiting {
		// exit(2) of all threads one by one: the leader's code counts.
		g.exiting, g.exitCode = true, g.leader.exitCode
	}
	g.sigMu.Unlock()
	g.dead = true
	left := g.seat.Exit(g.CPUTimes())
	after := k.processEndedLocked(g)
	victims := g.exitTracerLocked()
	k.mu.Unlock()
	left()
	after()
	for _, v := range victims {
		v.exit(int32(unix.SIGKILL))
	}
	if tracer != nil && tracer != g.parentGroup() {
		t.tellTracer(tracer, arch.CLD_EXITED, g.exitCode>>8&0xff)
	}
	if g.OnExit != nil {
		g.OnExit(g.exitCode)
	}
	if g == k.init {
		k.Panic("Attempted to kill init! exitcode=0x" + hex8(uint32(g.exitCode)))
	}
}

// processEndedLocked reparents children, frees orphaned groups and returns what is left to do without the lock.
func (k *Kernel) processEndedLocked(g *ThreadGroup) (after func()) {
	var todo []func()
	// Children go to the nearest subreaper, else to init.
	heir := k.init
	for a := g.parent; a != nil; a = a.parent {
		if a.subreaper && !a.dead {
			heir = a
			break
		}
	}
	from, uid := g.pid, g.leader.Cred().UID
	for _, c := range g.children {
		old := c.pgrp
		c.parent = heir
		if c.leader != nil {
			if s := c.leader.pdeathSig.Load(); s != 0 {
				c := c
				todo = append(todo, func() { c.SendSignal(arch.InfoKill(unix.Signal(s), from, uid)) })
			}
		}
		if heir == nil || heir == g {
			c.parent = nil
			continue
		}
		heir.children = append(heir.children, c)
		if c.dead {
			c.exitSignal = unix.SIGCHLD
			if h := k.zombieLocked(c); h != nil {
				todo = append(todo, h)
			}
		}
		// A stopped group that this leaves orphaned gets SIGHUP and SIGCONT.
		if old != nil && old.orphanedLocked(nil) && old.hasStoppedLocked() {
			todo = append(todo, func() { k.hangupGroup(old.id) })
		}
	}
	g.children = nil
	if p := g.pgrp; p != nil {
		if p.orphanedLocked(g) && g.parent != nil && g.parent.pgrp != nil && g.parent.pgrp != p && g.parent.pgrp.session == p.session && p.hasStoppedLocked() {
			todo = append(todo, func() { k.hangupGroup(p.id) })
		}
	}
	if h := k.zombieLocked(g); h != nil {
		todo = append(todo, h)
	}
	return func() {
		for _, f := range todo {
			f()
		}
		g.deadQ.Notify(wait.All)
	}
}

// hangupGroup is what happens to a newly orphaned group with stopped members.
func (k *Kernel) hangupGroup(pgid int32) {
	for _, g := range k.pgrpMembers(pgid) {
		g.sendKernelSignal(unix.SIGHUP)
		g.sendKernelSignal(unix.SIGCONT)
	}
}

// zombieLocked tells the parent of g's end, or reaps g at once if the parent does not care.
func (k *Kernel) zombieLocked(g *ThreadGroup) func() {
	p := g.parent
	if p == nil {
		k.reapLocked(g)
		return nil
	}
	if l := g.leader; l != nil && l.trace.tracer != nil && l.trace.tracer != p {
		return nil // its tracer hears of it first
	}
	sig := g.exitSignal
	a := p.actions().get(unix.SIGCHLD)
	if sig == unix.SIGCHLD && (a.Handler == arch.SIG_IGN || a.Flags&arch.SA_NOCLDWAIT != 0) {
		k.reapLocked(g)
		if a.Handler == arch.SIG_IGN {
			sig = 0
		}
	}
	code, status := exitInfo(g.exitCode)
	uid := g.leader.Cred().UID
	pid := g.pid
	u, s := g.self.user/1e7, g.self.sys/1e7
	return func() {
		if sig != 0 {
			i := arch.InfoChild(code, pid, uid, status, u, s)
			i.Signo = int32(sig)
			p.SendSignal(i)
		}
		p.childQ.Notify(wait.All)
	}
}

// exitInfo makes si_code and si_status of a wait status.
func exitInfo(code int32) (int32, int32) {
	switch {
	case code&0x7f == 0:
		return arch.CLD_EXITED, code >> 8 & 0xff
	case code&0x80 != 0:
		return arch.CLD_DUMPED, code & 0x7f
	}
	return arch.CLD_KILLED, code & 0x7f
}

// reapLocked removes a dead process for good.
func (k *Kernel) reapLocked(g *ThreadGroup) {
	if g.reaped {
		return
	}
	g.reaped = true
	if p := g.parent; p != nil {
		for i, c := range p.children {
			if c == g {
				p.children = append(p.children[:i], p.children[i+1:]...)
				break
			}
		}
	}
	k.leavePgrpLocked(g)
	if l := g.leader; l != nil && l.trace.tracer != nil {
		delete(l.trace.tracer.tracees, l)
		l.trace.tracer = nil
	}
	delete(k.groups, g.pid)
	if g.leader != nil {
		delete(k.pids, g.leader.TID())
	}
	if u := g.leader; u != nil {
		k.userLocked(u.Cred().UID, -1)
		g.seat.Uncharge()
	}
}
