package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// startStopLocked begins a group stop: every thread is to stop before it runs guest code again.
func (g *ThreadGroup) startStopLocked(sig unix.Signal) {
	if g.groupStop {
		return
	}
	g.groupStop, g.groupStopSg = true, sig
	g.contReport, g.stopReport = false, false
	g.stopCount = 0
	for _, t := range g.threadsSnapshot() {
		if t.where.Load() == gone || t.ending.Load() {
			continue
		}
		if !t.isStopped {
			t.stopWanted = true
			g.stopCount++
			t.work.Or(workSignal)
			t.kick()
		}
	}
}

// joinStopLocked stops the thread (true: it is held) and tells the parent when it was the last. It unlocks sigMu.
func (t *Task) joinStopLocked() bool {
	g := t.Group
	t.stopWanted = false
	if !g.groupStop {
		g.sigMu.Unlock()
		return false
	}
	t.isStopped = true
	g.stopCount--
	last := g.stopCount == 0
	if last {
		g.stopReport = true
	}
	sig := g.groupStopSg
	frozen := g.reportFrozenLocked()
	g.sigMu.Unlock()
	frozen()
	if last {
		g.notifyParentOfStop(arch.CLD_STOPPED, sig)
	}
	return true
}

// leaveStopLocked takes a thread that ends out of a group stop. It reports whether all others have stopped already: then
// the parent is to be told.
func (g *ThreadGroup) leaveStopLocked(t *Task) bool {
	if !t.stopWanted {
		return false
	}
	t.stopWanted = false
	g.stopCount--
	if !g.groupStop || g.stopCount != 0 {
		return false
	}
	g.stopReport = true
	return true
}

// leaveStop lets a traced thread that had joined a group stop run for its tracer.
func (t *Task) leaveStop() {
	g := t.Group
	g.sigMu.Lock()
	t.isStopped = false
	g.sigMu.Unlock()
}

// continueLocked ends a group stop. It reports whether the parent is to be told.
func (g *ThreadGroup) continueLocked(threads []*Task) bool {
	if !g.groupStop {
		return false
	}
	wasStopped := g.stopCount == 0
	g.groupStop, g.stopReport = false, false
	g.contReport = wasStopped
	for _, t := range threads {
		t.stopWanted = t.traceInterrupt
		switch {
		case !t.isStopped:
		case t.trace.traced.Load():
			// It sleeps in a stop for its tracer, who decides when that ends.
			t.isStopped = false
			go t.endListen()
		default:
			t.isStopped = false
			t.releaseHeld()
		}
	}
	return wasStopped
}

// releaseHeld lets a thread that is held for a stop go through its work again.
func (t *Task) releaseHeld() {
	th := t.Thread()
	t.work.Or(workSignal)
	th.Kick()
	th.Resume()
}

// stopped reports whether the whole process is stopped by job control.
func (g *ThreadGroup) stopped() bool {
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	return g.groupStop && g.stopCount == 0
}

// notifyParentOfStop sends SIGCHLD for a stop or continuation and wakes waiters.
func (g *ThreadGroup) notifyParentOfStop(code int32, sig unix.Signal) {
	g.k.mu.Lock()
	p := g.parent
	var uid uint32
	if g.leader != nil {
		uid = g.leader.Cred().UID
	}
	g.k.mu.Unlock()
	if p == nil {
		return
	}
	a := p.actions().get(unix.SIGCHLD)
	if a.Handler != arch.SIG_IGN && a.Flags&arch.SA_NOCLDSTOP == 0 {
		u, s := g.cpuTicks()
		p.SendSignal(arch.InfoChild(code, g.pid, uid, int32(sig), u, s))
	}
	p.childQ.Notify(wait.All)
}
