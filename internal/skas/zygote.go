package skas

import (
	"slices"

	"golang.org/x/sys/unix"
)

// zygote is what the tracer knows of the process that new stubs are forked from. It forks while the tracer does other
// things: what it does is told by its stops, which wait takes.
type zygote struct {
	state zygoteState
	// child has been forked, and its first stop has not been seen.
	child int
	// early are stops of unknown processes while it forks: that of the child may come before its own.
	early []event
	// failed is why the last fork failed; there are no more ahead of need then.
	failed unix.Errno
}

type zygoteState uint8

const (
	zygoteReady     zygoteState = iota // in its stop before clone
	zygoteForking                      // until the stop after clone
	zygoteReturning                    // until the stop before the next
	zygoteGone
)

// startFork lets the zygote make one child, unless it is about to.
func (s *shard) startFork() {
	z := &s.zygote
	if z.state != zygoteReady || z.child != 0 {
		return
	}
	z.state = zygoteForking
	if ptrace(unix.PTRACE_SYSCALL, s.fam.zygote, 0, 0) != nil {
		z.state = zygoteGone
	}
}

// zygoteStopped takes the zygote's next stop.
func (s *shard) zygoteStopped(ws unix.WaitStatus) {
	z := &s.zygote
	req := unix.PTRACE_CONT
	if s.fam.listener < 0 {
		req = unix.PTRACE_SYSCALL
	}
	if stopEvent(ws) != unix.PTRACE_EVENT_SECCOMP && ws.StopSignal() != sigtrapSyscall {
		if z.state == zygoteForking {
			req = unix.PTRACE_SYSCALL
		}
		_ = ptrace(req, s.fam.zygote, 0, 0) // a signal from outside
		return
	}
	switch z.state {
	case zygoteReturning:
		z.state = zygoteReady
	case zygoteForking:
		var r unix.PtraceRegs
		err := ptraceGetRegs(s.fam.zygote, &r)
		z.state = zygoteReturning
		_ = ptrace(req, s.fam.zygote, 0, 0)
		if err == nil {
			s.forked(int64(r.Rax))
		}
	}
}

// forked takes the result of the zygote's clone.
func (s *shard) forked(rax int64) {
	z := &s.zygote
	switch {
	case rax > 0:
		z.child = int(rax)
		s.poolTids[z.child] = true
	case rax != eRestartNoIntr: // it will do it again
		z.failed = unix.Errno(-rax)
	}
	early := z.early
	z.early = nil
	for _, e := range early {
		if !s.born(e.tid) {
			s.events = append(s.events, e) // a guest made it
		}
	}
}

// born puts a process that has stopped for the first time into the pool if the zygote made it, and keeps the event if
// that is not known yet.
func (s *shard) born(tid int) bool {
	z := &s.zygote
	switch {
	case tid == z.child:
		z.child = 0
		s.pool <- tid
		return true
	case z.state == zygoteForking && s.p.threads.get(tid) == nil:
		const stopped = 0x7f // as WIFSTOPPED has it
		z.early = append(z.early, event{tid: tid, ws: stopped})
		return true
	}
	return false
}

// unborn forgets a process that has ended.
func (s *shard) unborn(tid int) {
	z := &s.zygote
	switch tid {
	case s.fam.zygote:
		z.state = zygoteGone
	case z.child:
		z.child = 0
	default:
		z.early = slices.DeleteFunc(z.early, func(e event) bool { return e.tid == tid })
	}
}

// forkStub is a new stub in its first stop, when there is none ahead of need.
func (s *shard) forkStub() (int, error) {
	z := &s.zygote
	z.failed = 0
	for {
		select {
		case tid := <-s.pool:
			return tid, nil
		default:
		}
		if z.failed != 0 {
			return 0, z.failed
		}
		s.startFork()
		if z.state == zygoteGone {
			return 0, unix.ESRCH
		}
		s.wait(0)
	}
}
