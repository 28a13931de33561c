package tty

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Process is what terminals need of the process that calls them. A vfs.Caller that is a guest task implements it; other
// callers (the kernel itself) have no job control.
type Process interface {
	vfs.Caller
	// PgrpID and SessionID are the process group and session, as getpgrp(2) and getsid(2).
	PgrpID() int32
	SessionID() int32
	IsSessionLeader() bool
	// ControllingTTY is the process's controlling terminal, nil if none. Children inherit it by fork.
	ControllingTTY() *TTY
	// SetControllingTTY sets it for the calling process only; nil for none.
	SetControllingTTY(*TTY)
	// SignalBlockedOrIgnored tells whether the calling thread blocks sig or the process ignores it (SIG_IGN).
	SignalBlockedOrIgnored(sig unix.Signal) bool
	// PgrpOrphaned tells whether the caller's process group is orphaned (credentials(7)).
	PgrpOrphaned() bool
}

// Controller is what terminals do to processes. Its methods are called without any lock of a terminal held.
type Controller interface {
	// SignalPgrp sends sig to all processes of a group, as the kernel.
	SignalPgrp(pgid int32, sig unix.Signal)
	// SignalLeader sends sig to the leader of a session, if it lives.
	SignalLeader(sid int32, sig unix.Signal)
	// SessionOfPgrp tells which session a process group is in; ok is false if there is no such group.
	SessionOfPgrp(pgid int32) (sid int32, ok bool)
	// ClearControllingTTY makes t no longer the controlling terminal of any process of the session.
	ClearControllingTTY(sid int32, t *TTY)
}

var controller atomic.Pointer[Controller]

// SetController installs the Controller, once at boot.
func SetController(c Controller) { controller.Store(&c) }

// ctl is the installed Controller or one that does nothing.
func ctl() Controller {
	if c := controller.Load(); c != nil {
		return *c
	}
	return nobody{}
}

// nobody is the Controller before there are processes.
type nobody struct{}

func (nobody) SignalPgrp(int32, unix.Signal)       {}
func (nobody) SignalLeader(int32, unix.Signal)     {}
func (nobody) SessionOfPgrp(int32) (int32, bool)   { return 0, false }
func (nobody) ClearControllingTTY(_ int32, _ *TTY) {}

// ctlMu serialises changes of who has which controlling terminal. oldPgrp remembers, for session leaders that lost their
// terminal by a hangup, the group that was in the foreground: it gets SIGHUP when the leader exits.
var (
	ctlMu   sync.Mutex
	oldPgrp = map[int32]int32{}
)

// asProcess is the process behind c, or nil.
func asProcess(c vfs.Caller) Process {
	p, _ := c.(Process)
	return p
}

// checkChange is the test before a background process reads, writes (TOSTOP) or changes its controlling terminal.
// It returns nil if that is allowed, EIO if the process can not be stopped, or ERESTARTSYS after it sent sig.
func (t *TTY) checkChange(c vfs.Caller, sig unix.Signal) error {
	p := asProcess(c)
	if p == nil || p.ControllingTTY() != t {
		return nil
	}
	fg, own := t.ForegroundPgrp(), p.PgrpID()
	switch {
	case fg == 0 || fg == own:
		return nil
	case p.SignalBlockedOrIgnored(sig):
		if sig == unix.SIGTTIN {
			return unix.EIO
		}
		return nil
	case p.PgrpOrphaned():
		return unix.EIO
	}
	ctl().SignalPgrp(own, sig)
	return abi.ERESTARTSYS
}

// acquire makes t the controlling terminal of the session that p leads, if neither has one.
func (t *TTY) acquire(p Process) {
	ctlMu.Lock()
	defer ctlMu.Unlock()
	if p.ControllingTTY() == nil && t.claim(p) {
		p.SetControllingTTY(t)
	}
}

// claim gives t to p's session if it belongs to none.
func (t *TTY) claim(p Process) bool {
	sid, pgrp := p.SessionID(), p.PgrpID()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != 0 {
		return false
	}
	t.session, t.pgrp = sid, pgrp
	return true
}

// setControlling is TIOCSCTTY.
func (t *TTY) setControlling(p Process, readable bool, arg uint64) error {
	ctlMu.Lock()
	defer ctlMu.Unlock()
	if !p.IsSessionLeader() {
		return unix.EPERM
	}
	old := t.Session()
	if old == p.SessionID() && p.ControllingTTY() == t {
		return nil
	}
	if p.ControllingTTY() != nil {
		return unix.EPERM
	}
	admin := p.Cred().Capable(unix.CAP_SYS_ADMIN)
	if old != 0 {
		if arg != 1 || !admin {
			return unix.EPERM
		}
		t.disown()
		ctl().ClearControllingTTY(old, t)
	}
	if !readable && !admin {
		return unix.EPERM
	}
	if t.claim(p) {
		p.SetControllingTTY(t)
	}
	return nil
}

// disown makes t nobody's controlling terminal and returns whose it was.
func (t *TTY) disown() (sid, pgrp int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sid, pgrp = t.session, t.pgrp
	t.session, t.pgrp = 0, 0
	return sid, pgrp
}

// dropControlling is TIOCNOTTY: p gives up its controlling terminal, and with it, if p is the leader, the whole session.
func dropControlling(p Process) {
	if !p.IsSessionLeader() {
		p.SetControllingTTY(nil)
		return
	}
	ctlMu.Lock()
	t := p.ControllingTTY()
	var sid, pgrp int32
	if t != nil {
		sid, pgrp = t.disown()
		if sid != 0 {
			ctl().ClearControllingTTY(sid, t)
		}
		p.SetControllingTTY(nil)
	}
	ctlMu.Unlock()
	if pgrp != 0 {
		ctl().SignalPgrp(pgrp, unix.SIGHUP)
		ctl().SignalPgrp(pgrp, unix.SIGCONT)
	}
}

// SessionLeaderExit does what the exit of a session leader does to its controlling terminal: the foreground group gets
// SIGHUP, a terminal that is not a pty is hung up, and the session has no terminal any more. The leader calls it before
// it leaves its session.
func SessionLeaderExit(p Process) {
	t := p.ControllingTTY()
	sid := p.SessionID()
	if t == nil {
		ctlMu.Lock()
		pgrp := oldPgrp[sid]
		delete(oldPgrp, sid)
		ctlMu.Unlock()
		if pgrp != 0 {
			ctl().SignalPgrp(pgrp, unix.SIGHUP)
			ctl().SignalPgrp(pgrp, unix.SIGCONT)
		}
		return
	}
	if t.pty == nil {
		t.hangup(true)
	} else if pgrp := t.ForegroundPgrp(); pgrp != 0 {
		ctl().SignalPgrp(pgrp, unix.SIGHUP)
	}
	ctlMu.Lock()
	if t.Session() == sid {
		t.disown()
	}
	delete(oldPgrp, sid)
	ctl().ClearControllingTTY(sid, t)
	p.SetControllingTTY(nil)
	ctlMu.Unlock()
}

// releaseSession takes the terminal away from its session at a hangup, and signals: the leader gets SIGHUP and SIGCONT; the
// foreground group gets SIGHUP now if the leader is exiting, otherwise when it does.
func (t *TTY) releaseSession(leaderExits bool) {
	ctlMu.Lock()
	sid, pgrp := t.disown()
	if sid != 0 {
		if pgrp != 0 && !leaderExits {
			oldPgrp[sid] = pgrp
		}
		ctl().ClearControllingTTY(sid, t)
	}
	ctlMu.Unlock()
	if sid == 0 {
		return
	}
	if leaderExits {
		if pgrp != 0 {
			ctl().SignalPgrp(pgrp, unix.SIGHUP)
		}
		return
	}
	ctl().SignalLeader(sid, unix.SIGHUP)
	ctl().SignalLeader(sid, unix.SIGCONT)
}
