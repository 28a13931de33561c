package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
)

// Cgroup is the control group that the process is in, or was in when it ended.
func (g *ThreadGroup) Cgroup() *cgroup.Group { return g.seat.Group() }

// CgroupSeat is its place there.
func (g *ThreadGroup) CgroupSeat() *cgroup.Seat { return g.seat }

// Kill implements cgroup.Process.
func (g *ThreadGroup) Kill() { g.sendKernelSignal(unix.SIGKILL) }

// UpdateFreeze implements cgroup.Process: a frozen process stops as by job control, but nobody is told of it, and signals
// other than SIGKILL wait.
func (g *ThreadGroup) UpdateFreeze() {
	g.sigMu.Lock()
	want := g.seat.FreezeWanted()
	for _, t := range g.threadsSnapshot() {
		switch {
		case t.where.Load() == gone || t.ending.Load() || t.Thread().HostTID() == 0:
		case want:
			t.freezeLocked()
		default:
			t.freezeWanted = false
			if t.isFrozen {
				t.isFrozen = false
				t.releaseHeld()
			}
		}
	}
	tell := g.reportFrozenLocked()
	g.sigMu.Unlock()
	tell()
}

// freezeLocked has the thread stop before it runs guest code again.
func (t *Task) freezeLocked() {
	if t.freezeWanted {
		return
	}
	t.freezeWanted = true
	t.work.Or(workSignal)
	t.kick()
}

// joinFreezeLocked notes that the thread, which is held, stays so. It unlocks sigMu.
func (t *Task) joinFreezeLocked() {
	t.isFrozen = true
	tell := t.Group.reportFrozenLocked()
	t.Group.sigMu.Unlock()
	tell()
}

// reportFrozenLocked tells the control group whether all threads are frozen, or as good as that. It returns what tells
// others, to be called without sigMu.
func (g *ThreadGroup) reportFrozenLocked() (tell func()) {
	frozen := g.seat.FreezeWanted()
	for _, t := range g.threadsSnapshot() {
		if !frozen {
			break
		}
		frozen = t.isFrozen || t.isStopped || t.trace.stopped.Load() || t.vforkHeld.Load() || t.ending.Load() ||
			t.where.Load() == gone || t.Thread().HostTID() == 0
	}
	return g.seat.SetFrozen(frozen)
}
