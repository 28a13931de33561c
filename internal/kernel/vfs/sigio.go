package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Owner is who gets SIGIO (fcntl(2) F_SETOWN_EX).
type Owner struct {
	Type int // OwnerTID, OwnerPID or OwnerPgrp
	PID  int32
	// Who is what the id meant when it was set; it belongs to whoever SendIO is.
	Who any
	Sig unix.Signal
	// UID, EUID of who set it, for the permission check.
	UID, EUID uint32
}

// Types of owners (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP of fcntl(2)).
const (
	OwnerTID = iota
	OwnerPID
	OwnerPgrp
)

// Reasons of a signal about a file, its si_code (sigaction(2)).
const (
	pollIn  = 1
	pollOut = 2
	pollMsg = 3
	pollErr = 4
	pollPri = 5
	pollHup = 6
)

// pollBand is si_band by reason.
var pollBand = [...]int64{pollIn: 0x41, pollOut: 0x304, pollMsg: 0x441, pollErr: 0x8, pollPri: 0x82, pollHup: 0x18}

// SendIO sends the signal about a file to its owner. Set once at boot.
var SendIO func(o *Owner, fd, code int32, band int64)

// Asyncer are FileOps with O_ASYNC besides those of pipes, FIFOs and sockets. An error is that of a change of it.
type Asyncer interface{ Async() error }

// async is an open file with O_ASYNC.
type async struct {
	f     *File
	fd    int32
	entry wait.Entry
}

// asyncMu guards File.async: F_SETFL is rare.
var asyncMu sync.Mutex

// CanAsync reports whether O_ASYNC means something to the file.
func (f *File) CanAsync() bool {
	_, ok := f.Ops.(Asyncer)
	return (ok || f.typ == unix.S_IFIFO || f.typ == unix.S_IFSOCK) && f.Ops.WaitQueue() != nil
}

// SetAsync sets or clears O_ASYNC; fd is what the signals will tell. Nothing happens if the file cannot have it.
func (f *File) SetAsync(fd int32, on bool) error {
	if !f.CanAsync() {
		return nil
	}
	if a, ok := f.Ops.(Asyncer); ok {
		if err := a.Async(); err != nil {
			return err
		}
	}
	f.setAsync(fd, on)
	return nil
}

func (f *File) setAsync(fd int32, on bool) {
	asyncMu.Lock()
	defer asyncMu.Unlock()
	if on && f.async == nil {
		f.async = &async{f: f, fd: fd}
		f.async.entry.Callback = f.async.notified
		f.Ops.WaitQueue().Register(&f.async.entry, wait.All)
		f.flags.Or(unix.O_ASYNC)
	} else if !on {
		if f.async != nil {
			f.Ops.WaitQueue().Unregister(&f.async.entry)
			f.async = nil
		}
		f.flags.And(^uint32(unix.O_ASYNC))
	}
}

// dropAsync is SetAsync when the file is gone.
func (f *File) dropAsync() {
	if f.Flags()&unix.O_ASYNC != 0 {
		f.setAsync(-1, false)
	}
}

// notified is called under the lock of the wait queue. That a socket or a terminal can be written to is not told: Linux
// tells it only after a write that found no room.
func (a *async) notified(_ *wait.Entry, ev wait.Events) {
	f := a.f
	switch {
	case ev&wait.Pri != 0:
		postIO(f.Owner(), a.fd, pollPri)
	case ev&wait.In != 0 && f.Readable():
		postIO(f.Owner(), a.fd, pollIn)
	case ev&(wait.Out|wait.WrBand) != 0 && f.Writable() && f.typ == unix.S_IFIFO:
		postIO(f.Owner(), a.fd, pollOut)
	case ev&(wait.Out|wait.In|wait.Err) == wait.Err:
		postIO(f.Owner(), a.fd, pollErr)
	case ev&(wait.Out|wait.In) == 0 && ev&wait.Hup != 0:
		postIO(f.Owner(), a.fd, pollHup)
	}
}

// ioSignal is a signal that is to be sent.
type ioSignal struct {
	o        *Owner
	fd, code int32
}

// ioSignals are sent a little later, as whoever finds out holds locks that the sending of signals must not be called with.
var ioSignals struct {
	n      atomic.Int32 // posted, and not sent yet
	sendMu sync.Mutex   // held while signals are sent
	mu     sync.Mutex
	list   []ioSignal
}

// postIO has a signal sent soon, and before the running system call returns. It may be called with any lock held.
func postIO(o *Owner, fd, code int32) {
	if o == nil || SendIO == nil {
		return
	}
	ioSignals.n.Add(1)
	ioSignals.mu.Lock()
	ioSignals.list = append(ioSignals.list, ioSignal{o, fd, code})
	ioSignals.mu.Unlock()
	go FlushIO()
}

// FlushIO sends the signals about files that are waiting to be sent. It is called at the end of each system call, without
// locks, so that a program finds the signal that its own call has caused handled when the call returns.
func FlushIO() {
	if ioSignals.n.Load() == 0 {
		return
	}
	ioSignals.sendMu.Lock()
	defer ioSignals.sendMu.Unlock()
	ioSignals.mu.Lock()
	list := ioSignals.list
	ioSignals.list = nil
	ioSignals.mu.Unlock()
	for _, s := range list {
		SendIO(s.o, s.fd, s.code, pollBand[s.code])
	}
	ioSignals.n.Add(-int32(len(list)))
}
