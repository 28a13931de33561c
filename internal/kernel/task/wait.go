package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Flags of wait4(2) and waitid(2) that x/sys/unix lacks.
const (
	wNoThread = 0x20000000 // __WNOTHREAD
	wAll      = 0x40000000 // __WALL
	wClone    = 0x80000000 // __WCLONE
)

// WaitSpec says which children to wait for.
type WaitSpec struct {
	// PID > 0: that child. Pgrp > 0: children in that group. Both 0: any.
	PID, Pgrp int32
	// Options are of WNOHANG, WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, __WALL, __WCLONE.
	Options uint32
}

// WaitResult is what wait found; PID 0 if nothing (WNOHANG).
type WaitResult struct {
	PID    int32
	UID    uint32
	Status int32 // wait4's status
	Code   int32 // si_code
	Info   int32 // si_status
	Usage  unix.Rusage
}

// Wait implements wait4(2) and waitid(2).
func (t *Task) Wait(s WaitSpec) (WaitResult, error) {
	var res WaitResult
	var found bool
	var err error
	cond := func() bool {
		res, found, err = t.tryWait(&s)
		return found || err != nil
	}
	if s.Options&unix.WNOHANG != 0 {
		cond()
		return res, err
	}
	if e := t.Group.childQ.Wait(t, wait.All, ktime.Forever, cond); e != nil {
		return res, abi.ERESTARTSYS
	}
	return res, err
}

// tryWait looks once. ECHILD if no child can ever match.
func (t *Task) tryWait(s *WaitSpec) (res WaitResult, found bool, err error) {
	k, g := t.K, t.Group
	k.mu.Lock()
	defer k.mu.Unlock()
	any := false
	for _, c := range g.children {
		if !c.matches(s) {
			continue
		}
		any = true
		if l := c.leader; l != nil && l.trace.tracer != nil && l.trace.tracer != g {
			continue // its tracer hears of it first
		}
		if r, ok := c.waitStateLocked(s, g); ok {
			return r, true, nil
		}
	}
	if r, ok, some := g.traceWaitLocked(s); ok {
		return r, true, nil
	} else if some {
		any = true
	}
	if !any {
		return res, false, unix.ECHILD
	}
	return res, false, nil
}

// matches reports whether a child is one of those waited for.
func (c *ThreadGroup) matches(s *WaitSpec) bool {
	if s.PID > 0 && c.pid != s.PID {
		return false
	}
	if s.Pgrp > 0 && (c.pgrp == nil || c.pgrp.id != s.Pgrp) {
		return false
	}
	if s.Options&wAll != 0 {
		return true
	}
	return (c.exitSignal != unix.SIGCHLD) == (s.Options&wClone != 0)
}

// waitStateLocked takes a change of state of child c.
func (c *ThreadGroup) waitStateLocked(s *WaitSpec, parent *ThreadGroup) (res WaitResult, ok bool) {
	res.PID, res.UID = c.pid, c.leader.Cred().UID
	if c.dead {
		if s.Options&unix.WEXITED == 0 {
			return res, false
		}
		res.Status = c.exitCode
		res.Code, res.Info = exitInfo(c.exitCode)
		c.usageMu.Lock()
		u := c.self
		cu := c.childrenUsage
		c.usageMu.Unlock()
		both := u
		both.merge(&cu)
		res.Usage = both.rusage()
		if s.Options&unix.WNOWAIT == 0 {
			parent.usageMu.Lock()
			parent.childrenUsage.merge(&both)
			parent.usageMu.Unlock()
			c.k.reapLocked(c)
		}
		return res, true
	}
	c.sigMu.Lock()
	defer c.sigMu.Unlock()
	if s.Options&unix.WSTOPPED != 0 && c.groupStop && c.stopCount == 0 && c.stopReport {
		if s.Options&unix.WNOWAIT == 0 {
			c.stopReport = false
		}
		res.Status = int32(c.groupStopSg)<<8 | 0x7f
		res.Code, res.Info = arch.CLD_STOPPED, int32(c.groupStopSg)
		return res, true
	}
	if s.Options&unix.WCONTINUED != 0 && c.contReport {
		if s.Options&unix.WNOWAIT == 0 {
			c.contReport = false
		}
		res.Status = 0xffff
		res.Code, res.Info = arch.CLD_CONTINUED, int32(unix.SIGCONT)
		return res, true
	}
	return res, false
}
