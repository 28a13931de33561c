package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// Session is a set of process groups (setsid(2)). Guarded by Kernel.mu.
type Session struct {
	id    int32
	pgrps map[*ProcessGroup]bool
}

// ProcessGroup is a job (setpgid(2)). Guarded by Kernel.mu.
type ProcessGroup struct {
	id      int32
	session *Session
	members map[*ThreadGroup]bool
}

// joinPgrpLocked moves g into a process group, dropping empty ones.
func (k *Kernel) joinPgrpLocked(g *ThreadGroup, p *ProcessGroup) {
	k.leavePgrpLocked(g)
	g.pgrp = p
	p.members[g] = true
}

// leavePgrpLocked takes g out of its process group.
func (k *Kernel) leavePgrpLocked(g *ThreadGroup) {
	p := g.pgrp
	if p == nil {
		return
	}
	delete(p.members, g)
	g.pgrp = nil
	if len(p.members) == 0 {
		delete(k.pgrps, p.id)
		delete(p.session.pgrps, p)
		if len(p.session.pgrps) == 0 {
			delete(k.sess, p.session.id)
		}
	}
}

// newPgrpLocked makes an empty process group.
func (k *Kernel) newPgrpLocked(id int32, s *Session) *ProcessGroup {
	p := &ProcessGroup{id: id, session: s, members: map[*ThreadGroup]bool{}}
	k.pgrps[id] = p
	s.pgrps[p] = true
	return p
}

// newSessionLocked makes a session with one group.
func (k *Kernel) newSessionLocked(id int32) *ProcessGroup {
	s := &Session{id: id, pgrps: map[*ProcessGroup]bool{}}
	k.sess[id] = s
	return k.newPgrpLocked(id, s)
}

// orphanedLocked reports whether no member of p has a parent in another group of the session (setpgid(2)); without is a
// process that is about to leave.
func (p *ProcessGroup) orphanedLocked(without *ThreadGroup) bool {
	for g := range p.members {
		if g == without || g.dead || g.parent == nil || g.parent == g.k.init {
			continue
		}
		pp := g.parent.pgrp
		if pp != nil && pp != p && pp.session == p.session {
			return false
		}
	}
	return true
}

// hasStoppedLocked reports whether a member is stopped.
func (p *ProcessGroup) hasStoppedLocked() bool {
	for g := range p.members {
		if g.stopped() {
			return true
		}
	}
	return false
}

// Setsid implements setsid(2).
func (t *Task) Setsid() (int32, error) {
	k, g := t.K, t.Group
	k.mu.Lock()
	defer k.mu.Unlock()
	if g.pgrp.id == g.pid || k.pgrps[g.pid] != nil {
		return 0, unix.EPERM
	}
	k.joinPgrpLocked(g, k.newSessionLocked(g.pid))
	g.tty = nil
	return g.pid, nil
}

// Setpgid implements setpgid(2).
func (t *Task) Setpgid(pid, pgid int32) error {
	k := t.K
	if pgid < 0 {
		return unix.EINVAL
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	g := t.Group
	if pid != 0 && pid != g.pid {
		c := k.groups[pid]
		if c == nil || c.parent != g {
			return unix.ESRCH
		}
		if c.pgrp.session != g.pgrp.session {
			return unix.EPERM
		}
		if c.execed {
			return unix.EACCES
		}
		g = c
	}
	if g.pgrp.session.id == g.pid {
		return unix.EPERM
	}
	if pgid == 0 {
		pgid = g.pid
	}
	p := k.pgrps[pgid]
	if p == nil {
		if pgid != g.pid {
			return unix.EPERM
		}
		p = k.newPgrpLocked(pgid, g.pgrp.session)
	}
	if p.session != g.pgrp.session {
		return unix.EPERM
	}
	if p != g.pgrp {
		k.joinPgrpLocked(g, p)
	}
	return nil
}

// Getpgid implements getpgid(2), Getsid getsid(2); pid 0 is the caller.
func (t *Task) Getpgid(pid int32) (int32, error) {
	g, err := t.groupOrSelf(pid)
	if err != nil {
		return 0, err
	}
	return g.PgrpID(), nil
}

// Getsid implements getsid(2).
func (t *Task) Getsid(pid int32) (int32, error) {
	g, err := t.groupOrSelf(pid)
	if err != nil {
		return 0, err
	}
	return g.SessionID(), nil
}

func (t *Task) groupOrSelf(pid int32) (*ThreadGroup, error) {
	if pid == 0 {
		return t.Group, nil
	}
	o := t.K.FindTask(pid)
	if o == nil {
		return nil, unix.ESRCH
	}
	return o.Group, nil
}

// PgrpID is the process group id.
func (g *ThreadGroup) PgrpID() int32 {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	if g.pgrp == nil {
		return 0
	}
	return g.pgrp.id
}

// SessionID is the session id.
func (g *ThreadGroup) SessionID() int32 {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	if g.pgrp == nil {
		return 0
	}
	return g.pgrp.session.id
}

// The methods that package tty asks of a calling process (tty.Process).

// PgrpID is the caller's process group.
func (t *Task) PgrpID() int32 { return t.Group.PgrpID() }

// SessionID is the caller's session.
func (t *Task) SessionID() int32 { return t.Group.SessionID() }

// IsSessionLeader reports whether the caller leads its session.
func (t *Task) IsSessionLeader() bool { return t.Group.SessionID() == t.PID() }

// ControllingTTY is the process's controlling terminal, nil if there is none.
func (t *Task) ControllingTTY() *tty.TTY { return t.Group.ControllingTTY() }

// ControllingTTY is the process's controlling terminal, nil if there is none.
func (g *ThreadGroup) ControllingTTY() *tty.TTY {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	return g.tty
}

// SetControllingTTY gives the process a controlling terminal, or takes it (nil).
func (t *Task) SetControllingTTY(y *tty.TTY) {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	t.Group.tty = y
}

// PgrpOrphaned reports whether the caller's process group is orphaned.
func (t *Task) PgrpOrphaned() bool {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.Group.pgrp == nil || t.Group.pgrp.orphanedLocked(nil)
}

// Controller implements tty.Controller.
type Controller struct{ K *Kernel }

// SignalPgrp sends a signal to a process group as the kernel.
func (c Controller) SignalPgrp(pgid int32, sig unix.Signal) {
	for _, g := range c.K.pgrpMembers(pgid) {
		g.sendKernelSignal(sig)
	}
}

// SignalLeader sends a signal to the process that leads a session.
func (c Controller) SignalLeader(sid int32, sig unix.Signal) {
	if g := c.K.FindGroup(sid); g != nil {
		g.sendKernelSignal(sig)
	}
}

// SessionOfPgrp is the session of a process group.
func (c Controller) SessionOfPgrp(pgid int32) (int32, bool) {
	c.K.mu.Lock()
	defer c.K.mu.Unlock()
	p := c.K.pgrps[pgid]
	if p == nil {
		return 0, false
	}
	return p.session.id, true
}

// ClearControllingTTY takes terminal y from every process of a session.
func (c Controller) ClearControllingTTY(sid int32, y *tty.TTY) {
	c.K.mu.Lock()
	defer c.K.mu.Unlock()
	s := c.K.sess[sid]
	if s == nil {
		return
	}
	for p := range s.pgrps {
		for g := range p.members {
			if g.tty == y {
				g.tty = nil
			}
		}
	}
}

// pgrpMembers is the processes of a group.
func (k *Kernel) pgrpMembers(pgid int32) []*ThreadGroup {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pgrps[pgid]
	if p == nil {
		return nil
	}
	gs := make([]*ThreadGroup, 0, len(p.members))
	for g := range p.members {
		gs = append(gs, g)
	}
	return gs
}
