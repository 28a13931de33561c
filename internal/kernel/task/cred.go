package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// InstallCred installs new credentials of the calling task. A change of effective ids makes the process undumpable and
// clears its parent-death signal (prctl(2)), and moves it between the process counts of the users.
func (t *Task) InstallCred(n *cred.Cred) {
	old := t.Cred()
	t.cred.Store(n)
	if changedRights(old, n) {
		t.Group.SetDumpable(0)
		t.pdeathSig.Store(0)
	}
	if old.UID != n.UID {
		t.K.mu.Lock()
		t.K.userLocked(old.UID, -1)
		t.K.userLocked(n.UID, 1)
		t.K.mu.Unlock()
	}
}

// changedRights reports whether n has other rights than old, so that who could look into the process may not any more.
func changedRights(old, n *cred.Cred) bool {
	return old.EUID != n.EUID || old.EGID != n.EGID || old.FSUID != n.FSUID || old.FSGID != n.FSGID || n.Permitted&^old.Permitted != 0
}

// Dumpable is PR_GET_DUMPABLE.
func (g *ThreadGroup) Dumpable() int32     { return 1 - g.undumpable.Load() }
func (g *ThreadGroup) SetDumpable(v int32) { g.undumpable.Store(1 - v) }

// CanPtrace is the check of ptrace(2) access mode PTRACE_MODE_READ_REALCREDS: EPERM. Who looks at the target's memory must
// have got that before: execve puts a new identity in force before the new memory.
func (t *Task) CanPtrace(target *Task) error {
	if t.Group == target.Group {
		return nil
	}
	c, x := t.Cred(), target.Cred()
	if c.Capable(unix.CAP_SYS_PTRACE) {
		return nil
	}
	if c.UID != x.EUID || c.UID != x.SUID || c.UID != x.UID || c.GID != x.EGID || c.GID != x.SGID || c.GID != x.GID ||
		target.Group.Dumpable() != 1 || x.Permitted&^c.Permitted != 0 {
		return unix.EPERM
	}
	return nil
}

// ClearTID is set_tid_address(2)'s word.
func (t *Task) ClearTID() uint64 { return t.clearTID.Load() }

// A ThreadGroup is what a pidfd refers to.

// ExitQueue is notified when the process ends and when it is reaped.
func (g *ThreadGroup) ExitQueue() *wait.Queue { return &g.deadQ }

// Exited reports whether it has ended, Reaped whether it was waited for too.
func (g *ThreadGroup) Exited() bool { return g.Dead() }

// Reaped reports whether the process is gone for good.
func (g *ThreadGroup) Reaped() bool {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.reaped
}

// VisiblePID is the process id, -1 when it was reaped.
func (g *ThreadGroup) VisiblePID() int32 {
	if g.Reaped() {
		return -1
	}
	return g.pid
}
