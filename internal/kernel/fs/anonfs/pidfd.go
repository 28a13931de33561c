package anonfs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Process is the process (or with PIDFD_THREAD the thread) that a pidfd refers to.
type Process interface {
	// ExitQueue is notified with wait.In when it has exited, and with wait.Hup when it has been reaped.
	ExitQueue() *wait.Queue
	// Exited reports whether it has exited and Reaped whether it has been waited for.
	Exited() bool
	Reaped() bool
	// VisiblePID is its id, -1 when it is reaped.
	VisiblePID() int32
}

// PidFD is the file of pidfd_open(2).
type PidFD struct {
	vfs.NoSeek

	vfs.FileBase
	proc Process
}

// NewPidFD makes a pidfd file; flags are PIDFD_NONBLOCK and PIDFD_THREAD (O_EXCL).
func NewPidFD(c vfs.Caller, p Process, flags uint32) *vfs.File {
	return newFile(c, "[pidfd]", &PidFD{proc: p}, unix.O_RDWR|flags&(unix.O_NONBLOCK|unix.O_EXCL))
}

// PidFDOf returns the process behind an open file, nil if it is not a pidfd.
func PidFDOf(f *vfs.File) Process {
	if p, ok := f.Ops.(*PidFD); ok {
		return p.proc
	}
	return nil
}

// WaitQueue is the queue of the process's exit.
func (p *PidFD) WaitQueue() *wait.Queue { return p.proc.ExitQueue() }

// Readiness: readable when the process has exited, with POLLHUP when it has been reaped.
func (p *PidFD) Readiness(mask wait.Events) (ev wait.Events) {
	if p.proc.Exited() {
		ev = wait.In | wait.RdNorm
	}
	if p.proc.Reaped() {
		ev |= wait.Hup
	}
	return ev & mask
}

// FdInfo is the lines of /proc/<pid>/fdinfo.
func (p *PidFD) FdInfo(*vfs.File) string {
	pid := p.proc.VisiblePID()
	return fmt.Sprintf("Pid:\t%d\nNSpid:\t%d\n", pid, pid)
}

var (
	_ vfs.FileOps  = (*PidFD)(nil)
	_ vfs.Streamer = (*PidFD)(nil)
	_ vfs.FdInfoer = (*PidFD)(nil)
)
