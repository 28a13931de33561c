// Package wait has wait queues and readiness events: the one door through which a system call sleeps.
//
// A Queue belongs to an object that changes state (a pipe, a tty, a child process). Whoever changes it calls Notify.
// A system call that must wait calls Wait with a condition; it sleeps on its Sleeper (the task), so that signals,
// SIGKILL, stops and deadlines interrupt every sleep in the same way. poll, select and epoll register an Entry with a
// callback instead.
//
// Lock order: Queue.mu is a leaf, except that callbacks run under it: a callback must not block, must not touch the
// queue that it is called from, and may take only leaf locks of its own (epoll's ready list, a Sleeper's wake-up).
package wait

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Events are poll(2) events; values are those of EPOLL* and POLL*.
type Events uint32

// The events, as in poll(2).
const (
	In     Events = unix.POLLIN
	Pri    Events = unix.POLLPRI
	Out    Events = unix.POLLOUT
	Err    Events = unix.POLLERR
	Hup    Events = unix.POLLHUP
	RdNorm Events = 0x40
	RdBand Events = 0x80
	WrNorm Events = 0x100
	WrBand Events = 0x200
	RdHup  Events = unix.POLLRDHUP

	// Readable and Writable are what a plain reader or writer waits for.
	Readable = In | RdNorm | Hup | Err
	Writable = Out | WrNorm | Hup | Err
	// All is every event.
	All = ^Events(0)
)

// Entry is one waiter on one Queue. It must not be copied while registered.
type Entry struct {
	// Callback is called, under the queue's lock, with the events that happened. Immutable while registered.
	Callback func(e *Entry, ev Events)
	// Data is the owner's. Immutable while registered.
	Data any

	mask       Events
	next, prev *Entry
	q          *Queue
}

// Queue is a list of waiters. The zero value is empty and ready.
type Queue struct {
	mu   sync.Mutex
	head Entry // ring; head.next == nil when empty
	n    atomic.Int32
}

// Register adds e to the queue for events in mask (Err and Hup are always delivered).
func (q *Queue) Register(e *Entry, mask Events) {
	q.mu.Lock()
	if q.head.next == nil {
		q.head.next, q.head.prev = &q.head, &q.head
	}
	e.mask, e.q = mask|Err|Hup, q
	e.prev, e.next = q.head.prev, &q.head
	e.prev.next, e.next.prev = e, e
	q.n.Add(1)
	q.mu.Unlock()
}

// Unregister removes e; after it returns the callback does not run any more.
func (q *Queue) Unregister(e *Entry) {
	q.mu.Lock()
	if e.q == q {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next, e.q = nil, nil, nil
		q.n.Add(-1)
	}
	q.mu.Unlock()
}

// Notify tells all waiters for any of ev that it happened. It is cheap when nobody waits; the caller must have made the
// new state visible before (every state change and every waiter's condition are under the object's own lock).
func (q *Queue) Notify(ev Events) {
	if q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	for e := q.head.next; e != nil && e != &q.head; {
		next := e.next
		if e.mask&ev != 0 {
			e.Callback(e, ev)
		}
		e = next
	}
	q.mu.Unlock()
}

// Empty reports whether nobody waits.
func (q *Queue) Empty() bool { return q.n.Load() == 0 }

// Sleeper is a thread that can sleep; a guest task implements it.
type Sleeper interface {
	// Sleep sleeps until Wake, an unblocked signal or the deadline (CLOCK_MONOTONIC nanoseconds, ktime.Forever for
	// none). It returns nil after Wake, abi.ERESTARTSYS when a signal wants to be handled, ETIMEDOUT after the
	// deadline. A Wake that came since the last Sleep returned makes it return nil at once. Spurious nil is allowed.
	Sleep(deadline int64) error
	// Wake makes the current or the next Sleep return. It may be called from anywhere and never blocks.
	Wake()
}

// WakeCallback is an Entry callback that wakes the Sleeper in Data.
func WakeCallback(e *Entry, _ Events) { e.Data.(Sleeper).Wake() }

// Wait sleeps until cond is true. It returns nil, or what Sleep returned. cond is called at least once, without any lock
// of the queue, and must itself lock what it reads. A cond that is true wins over a signal and a deadline.
func (q *Queue) Wait(s Sleeper, mask Events, deadline int64, cond func() bool) error {
	if cond() {
		return nil
	}
	e := Entry{Callback: WakeCallback, Data: s}
	q.Register(&e, mask)
	defer q.Unregister(&e)
	for {
		if cond() {
			return nil
		}
		if err := s.Sleep(deadline); err != nil {
			if cond() {
				return nil
			}
			return err
		}
	}
}

// Pollable is something with readiness.
type Pollable interface {
	// Readiness returns which of mask hold now.
	Readiness(mask Events) Events
	// WaitQueue is where changes of readiness are notified; nil means that readiness never changes.
	WaitQueue() *Queue
}
