package anonfs

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// SignalSource is the pending signals of whoever reads a signalfd: a vfs.Caller that can have signals implements it.
type SignalSource interface {
	// DequeueSignal takes one pending signal of mask, of the thread or its process.
	DequeueSignal(mask arch.SigSet) (arch.Siginfo, bool)
	// PendingSignals is the set of signals pending for the thread and its process, blocked or not.
	PendingSignals() arch.SigSet
	// SignalQueue is notified with wait.In when a signal becomes pending for the process, even a blocked one.
	SignalQueue() *wait.Queue
}

// SignalFD is the file of signalfd(2). A read takes the signals of the reader. poll and epoll, which do not say who asks,
// look at those of the process that made the file; after a fork that is a difference to Linux only for a child that polls
// an inherited signalfd.
type SignalFD struct {
	vfs.NoSeek

	mask atomic.Uint64
	src  SignalSource
}

// NewSignalFD makes a signalfd file for src; flags are SFD_NONBLOCK.
func NewSignalFD(c vfs.Caller, src SignalSource, mask arch.SigSet, flags uint32) *vfs.File {
	s := &SignalFD{src: src}
	s.SetMask(mask)
	return newFile(c, "[signalfd]", s, unix.O_RDWR|flags&unix.O_NONBLOCK)
}

// SignalFDOf returns the signalfd behind an open file, nil if it is another kind of file.
func SignalFDOf(f *vfs.File) *SignalFD {
	s, _ := f.Ops.(*SignalFD)
	return s
}

// SetMask changes the set of signals; SIGKILL and SIGSTOP are silently left out.
func (s *SignalFD) SetMask(mask arch.SigSet) {
	s.mask.Store(uint64(mask &^ (arch.SigBit(unix.SIGKILL) | arch.SigBit(unix.SIGSTOP))))
	if s.src != nil {
		s.src.SignalQueue().Notify(wait.In | wait.RdNorm)
	}
}

func (s *SignalFD) sigset() arch.SigSet { return arch.SigSet(s.mask.Load()) }

func (s *SignalFD) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if dst.Len() < arch.SignalfdSize {
		return 0, unix.EINVAL
	}
	src, ok := c.(SignalSource)
	if !ok {
		src = s.src
	}
	done := 0
	for dst.Len() >= arch.SignalfdSize {
		info, ok := src.DequeueSignal(s.sigset())
		if !ok {
			if done > 0 {
				break
			}
			if f.Nonblock() {
				return 0, unix.EAGAIN
			}
			err := src.SignalQueue().Wait(c, wait.Readable, ktime.Forever, func() bool {
				info, ok = src.DequeueSignal(s.sigset())
				return ok
			})
			if err != nil {
				return 0, err
			}
		}
		b := info.Signalfd()
		n, err := dst.CopyOut(b[:])
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		done += n
	}
	return done, nil
}

func (s *SignalFD) Write(vfs.Caller, *vfs.File, *uio.Src, int64) (int, error) { return 0, unix.EINVAL }

// WaitQueue is the queue of the process's signals.
func (s *SignalFD) WaitQueue() *wait.Queue { return s.src.SignalQueue() }

// Readiness: readable when a signal of the mask is pending.
func (s *SignalFD) Readiness(mask wait.Events) wait.Events {
	if s.src.PendingSignals()&s.sigset() == 0 {
		return 0
	}
	return mask & wait.In
}

// Release does nothing.
func (s *SignalFD) Release(*vfs.File) {}

// FdInfo is the line of /proc/<pid>/fdinfo.
func (s *SignalFD) FdInfo(*vfs.File) string { return fmt.Sprintf("sigmask:\t%016x\n", s.mask.Load()) }

var (
	_ vfs.FileOps  = (*SignalFD)(nil)
	_ vfs.Streamer = (*SignalFD)(nil)
	_ vfs.FdInfoer = (*SignalFD)(nil)
)
