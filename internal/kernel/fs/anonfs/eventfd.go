package anonfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// EventFD is the counter of eventfd(2).
type EventFD struct {
	vfs.NoSeek

	semaphore bool // immutable
	q         wait.Queue

	mu    sync.Mutex
	count uint64
}

// eventMax is the largest value that write can reach.
const eventMax = math.MaxUint64 - 1

// NewEventFD makes an eventfd file; flags are EFD_SEMAPHORE and O_NONBLOCK.
func NewEventFD(c vfs.Caller, initial uint32, flags uint32) *vfs.File {
	e := &EventFD{semaphore: flags&unix.EFD_SEMAPHORE != 0, count: uint64(initial)}
	return newFile(c, "[eventfd]", e, unix.O_RDWR|flags&unix.O_NONBLOCK)
}

// Add adds n to the counter as far as it goes; asynchronous I/O signals completion with it.
func (e *EventFD) Add(n uint64) {
	e.mu.Lock()
	e.count += min(n, math.MaxUint64-e.count)
	e.mu.Unlock()
	e.q.Notify(wait.In | wait.RdNorm)
}

func (e *EventFD) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if dst.Len() < 8 {
		return 0, unix.EINVAL
	}
	var v uint64
	take := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if v = e.count; v == 0 {
			return false
		}
		if e.semaphore {
			v = 1
		}
		e.count -= v
		return true
	}
	if !take() {
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		if err := e.q.Wait(c, wait.Readable, ktime.Forever, take); err != nil {
			return 0, err
		}
	}
	e.q.Notify(wait.Out | wait.WrNorm)
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return dst.CopyOut(b[:])
}

func (e *EventFD) Write(c vfs.Caller, f *vfs.File, src *uio.Src, _ int64) (int, error) {
	if src.Len() != 8 {
		return 0, unix.EINVAL
	}
	var b [8]byte
	if _, err := src.CopyIn(b[:]); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(b[:])
	if v > eventMax {
		return 0, unix.EINVAL
	}
	put := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if v > eventMax-min(e.count, eventMax) {
			return false
		}
		e.count += v
		return true
	}
	if !put() {
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		if err := e.q.Wait(c, wait.Writable, ktime.Forever, put); err != nil {
			return 0, err
		}
	}
	e.q.Notify(wait.In | wait.RdNorm)
	return 8, nil
}

// WaitQueue is where changes are notified.
func (e *EventFD) WaitQueue() *wait.Queue { return &e.q }

// Readiness: POLLERR after an overflow by Add.
func (e *EventFD) Readiness(mask wait.Events) (ev wait.Events) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count > 0 {
		ev |= wait.In
	}
	if e.count == math.MaxUint64 {
		ev |= wait.Err
	}
	if e.count < eventMax {
		ev |= wait.Out
	}
	return ev & mask
}

// Release does nothing: the counter goes with the file.
func (e *EventFD) Release(*vfs.File) {}

// FdInfo is the line of /proc/<pid>/fdinfo.
func (e *EventFD) FdInfo(*vfs.File) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("eventfd-count: %16x\n", e.count)
}

var (
	_ vfs.FileOps  = (*EventFD)(nil)
	_ vfs.Streamer = (*EventFD)(nil)
	_ vfs.FdInfoer = (*EventFD)(nil)
)
