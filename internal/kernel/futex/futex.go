// Package futex has the futexes that know their owner: the priority inheritance operations of futex(2), whose words hold
// the thread id of who has the lock.
//
// Plain futexes are the host's (native lane), since shared guest memory is the same host memory. What compares thread ids
// cannot be, because guest ids are not host ids. The host's scheduler knows nothing of the owners either, so no priority
// is inherited in fact: waiters get the lock in the order of their priority, deadlocks are found, and the lock of a thread
// that ends goes to the next waiter.
//
// # The word
//
// 0 is free, else the low bits are the owner's thread id. Programs take and release a lock by themselves as long as nobody
// waits. A waiter sets the bit Waiters, which sends the owner into the kernel when it unlocks. The kernel changes words
// only by compare and swap in guest memory, which the calling thread carries out (Thread.CompareAndSwap).
//
// # Lock order
//
// Table.mu is held over compare and swap, which waits for the platform: it must not be taken on the platform's tracer
// thread. Below it are Table.Find's locks and Sleeper.Wake.
package futex

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// The parts of a word (linux/futex.h).
const (
	Waiters   = 0x80000000 // FUTEX_WAITERS
	OwnerDied = 0x40000000 // FUTEX_OWNER_DIED
	TIDMask   = 0x3fffffff // FUTEX_TID_MASK
)

// Key is which word an address means: equal keys are the same futex.
type Key struct {
	// Object is the memory of a process, or what lies behind a shared mapping; Off the address in it.
	Object any
	Off    uint64
	// Private is FUTEX_PRIVATE_FLAG: such a futex is another one than the same word without the flag.
	Private bool
}

// Thread is a guest thread.
type Thread interface {
	wait.Sleeper
	TID() int32
	// Priority orders waiters: the highest gets the lock first.
	Priority() int
	// Load reads a word of the thread's memory. CompareAndSwap returns what was there. Only while the thread is held.
	Load(addr uint64) (uint32, error)
	CompareAndSwap(addr uint64, old, new uint32) (uint32, error)
	// Futex is where the table keeps what it knows of the thread.
	Futex() *State
}

// State is what a Table knows of a thread. The zero value is ready.
type State struct {
	used   atomic.Bool // a lock may have been entered into owned
	exited atomic.Bool // Release was called

	owned   []*lock // locks with waiters that the thread has; guarded by Table.mu
	blocked *waiter // what it waits for; guarded by Table.mu
}

// Table has all locks that somebody waits for.
type Table struct {
	// Find returns the thread with an id; ok is false if there is none. Immutable.
	Find func(tid int32) (th Thread, ok bool)

	mu       sync.Mutex
	locks    map[Key]*lock
	sleepers map[Key][]*waiter // in WaitRequeue, not yet requeued
}

// lock is a lock with waiters.
type lock struct {
	key     Key
	owner   Thread    // nil if it has ended: the first waiter takes the lock
	waiters []*waiter // highest priority first, then who came first
}

// waiter is one thread in Lock or WaitRequeue.
type waiter struct {
	th       Thread
	priority int
	addr     uint64 // of the lock's word, in the thread's memory
	lock     *lock  // nil before it is requeued
	granted  bool   // it has the lock, and the word says so
	target   Key    // of WaitRequeue
}

// New makes a table.
func New(find func(tid int32) (Thread, bool)) *Table {
	return &Table{Find: find, locks: map[Key]*lock{}, sleepers: map[Key][]*waiter{}}
}

// tries bounds how often a word that somebody else keeps changing is looked at with the table locked.
const tries = 50

// attach takes the lock at addr for th if it is free (got), else it returns the lock to wait for, which nobody may wait
// for yet. The caller runs the compare and swap. EAGAIN if the word changes all the time. Holds mu.
func (tb *Table) attach(caller, th Thread, addr uint64, key Key, setWaiters bool) (l *lock, got bool, err error) {
	tid := uint32(th.TID())
	v, err := caller.Load(addr)
	for range tries {
		if err != nil {
			return nil, false, err
		}
		l = tb.locks[key]
		owner := v & TIDMask
		if owner == tid {
			return nil, false, unix.EDEADLK
		}
		switch {
		case l == nil && owner == 0:
			n := v&OwnerDied | tid
			if setWaiters {
				n |= Waiters
			}
			old := v
			if v, err = caller.CompareAndSwap(addr, old, n); err == nil && v == old {
				return nil, true, nil
			}
			continue
		case l == nil:
			if l, err = tb.find(owner); err != nil {
				old := v
				if v, err = caller.Load(addr); err == nil && v == old {
					return nil, false, unix.ESRCH
				}
				continue
			}
			l.key = key
		case l.owner == nil, owner == 0 && v&OwnerDied != 0:
			// The owner has died, and who is next has not written the word yet.
		case owner != uint32(l.owner.TID()):
			return nil, false, unix.EINVAL
		}
		if v&Waiters == 0 {
			old := v
			if v, err = caller.CompareAndSwap(addr, old, old|Waiters); err != nil || v != old {
				continue
			}
		}
		return l, false, nil
	}
	return nil, false, unix.EAGAIN
}

// find makes a lock that a thread has taken by itself.
func (tb *Table) find(tid uint32) (*lock, error) {
	th, ok := tb.Find(int32(tid))
	if !ok {
		return nil, unix.ESRCH
	}
	th.Futex().used.Store(true)
	if th.Futex().exited.Load() {
		return nil, unix.ESRCH
	}
	return &lock{owner: th}, nil
}

// maxChain is how many owners a search for deadlocks follows (max_lock_depth).
const maxChain = 1024

// deadlock reports whether th would wait for itself.
func (l *lock) deadlock(th Thread) bool {
	for range maxChain {
		if l == nil || l.owner == nil {
			return false
		}
		if l.owner == th {
			return true
		}
		w := l.owner.Futex().blocked
		if w == nil {
			return false
		}
		l = w.lock
	}
	return true
}

// enter makes w wait for l.
func (tb *Table) enter(w *waiter, l *lock) {
	if len(l.waiters) == 0 && l.owner != nil {
		tb.locks[l.key] = l
		s := l.owner.Futex()
		s.owned = append(s.owned, l)
	}
	i := 0
	for i < len(l.waiters) && l.waiters[i].priority >= w.priority {
		i++
	}
	l.waiters = slices.Insert(l.waiters, i, w)
	w.lock = l
	w.th.Futex().blocked = w
}

// leave takes w out of the waiters. A lock without any is forgotten.
func (tb *Table) leave(w *waiter) {
	l := w.lock
	if i := slices.Index(l.waiters, w); i >= 0 {
		l.waiters = slices.Delete(l.waiters, i, i+1)
	}
	w.th.Futex().blocked = nil
	switch {
	case len(l.waiters) == 0:
		delete(tb.locks, l.key)
		l.disown()
	case l.owner == nil:
		l.waiters[0].th.Wake() // its turn, if it was that of w
	}
}

// disown takes the lock from its owner.
func (l *lock) disown() {
	if l.owner == nil {
		return
	}
	s := l.owner.Futex()
	if i := slices.Index(s.owned, l); i >= 0 {
		s.owned = slices.Delete(s.owned, i, i+1)
	}
	l.owner = nil
}

// grant makes w, a waiter, the owner. The word says so already.
func (tb *Table) grant(w *waiter) {
	l := w.lock
	l.disown()
	l.owner = w.th
	s := w.th.Futex()
	s.used.Store(true)
	s.owned = append(s.owned, l)
	w.granted = true
	tb.leave(w)
}

// Lock implements FUTEX_LOCK_PI and, with try, FUTEX_TRYLOCK_PI. deadline is monotonic.
func (tb *Table) Lock(th Thread, addr uint64, key Key, deadline int64, try bool) error {
	tb.mu.Lock()
	l, got, err := tb.attach(th, th, addr, key, false)
	if err == nil && !got {
		switch {
		case try:
			err = unix.EAGAIN
		case l.deadlock(th):
			err = unix.EDEADLK
		}
	} else if err == unix.EAGAIN {
		err = abi.ERESTARTNOINTR // others keep changing the word: try again later
	}
	if err != nil || got {
		tb.mu.Unlock()
		return err
	}
	w := &waiter{th: th, priority: th.Priority(), addr: addr}
	tb.enter(w, l)
	tb.mu.Unlock()
	if err := tb.sleep(w, deadline); err != nil {
		return err
	}
	return nil
}

// sleep waits until w has the lock. A signal gives ERESTARTNOINTR.
func (tb *Table) sleep(w *waiter, deadline int64) error {
	for {
		err := w.th.Sleep(deadline)
		tb.mu.Lock()
		done, result := tb.awake(w, err)
		tb.mu.Unlock()
		if done {
			return result
		}
	}
}

// awake looks what has become of w after a sleep that ended with err.
func (tb *Table) awake(w *waiter, err error) (done bool, result error) {
	switch {
	case w.granted:
		return true, nil
	case w.lock == nil:
		if err == nil {
			return false, nil
		}
		tb.forget(w)
	case w.lock.owner == nil && w.lock.waiters[0] == w:
		if e := tb.takeOver(w); e != unix.EAGAIN {
			return true, e
		}
		if err == nil {
			w.th.Wake() // somebody keeps changing the word
			return false, nil
		}
		tb.leave(w)
	case err == nil:
		return false, nil
	default:
		tb.leave(w)
	}
	if err == unix.ETIMEDOUT {
		return true, err
	}
	if w.target != (Key{}) && w.lock != nil {
		return true, unix.EAGAIN // requeued: executed again it would find another value
	}
	return true, abi.ERESTARTNOINTR
}

// takeOver gives the lock of an owner that has ended to the first waiter, who writes the word itself.
func (tb *Table) takeOver(w *waiter) error {
	v, err := w.th.Load(w.addr)
	for range tries {
		if err != nil {
			tb.leave(w)
			return err
		}
		old := v
		if v, err = w.th.CompareAndSwap(w.addr, old, uint32(w.th.TID())|Waiters|OwnerDied); err == nil && v == old {
			tb.grant(w)
			return nil
		}
	}
	return unix.EAGAIN
}

// Unlock implements FUTEX_UNLOCK_PI.
func (tb *Table) Unlock(th Thread, addr uint64, key Key) error {
	tid := uint32(th.TID())
	tb.mu.Lock()
	defer tb.mu.Unlock()
	v, err := th.Load(addr)
	for range tries {
		switch {
		case err != nil:
			return err
		case v&TIDMask != tid:
			return unix.EPERM
		}
		l := tb.locks[key]
		n := uint32(0)
		if l != nil {
			if l.owner != th {
				return unix.EINVAL
			}
			n = Waiters | uint32(l.waiters[0].th.TID())
		}
		old := v
		if v, err = th.CompareAndSwap(addr, old, n); err != nil || v != old {
			continue
		}
		if l != nil {
			w := l.waiters[0]
			tb.grant(w)
			w.th.Wake()
		}
		return nil
	}
	return abi.ERESTARTNOINTR
}

// WaitRequeue implements FUTEX_WAIT_REQUEUE_PI: th sleeps while the word at addr is val, until Requeue gives it the lock
// lockKey, whose word it sees at lockAddr.
func (tb *Table) WaitRequeue(th Thread, addr uint64, key Key, val uint32, deadline int64, lockAddr uint64, lockKey Key) error {
	if key == lockKey {
		return unix.EINVAL
	}
	tb.mu.Lock()
	if v, err := th.Load(addr); err != nil || v != val {
		tb.mu.Unlock()
		if err == nil {
			err = unix.EAGAIN
		}
		return err
	}
	w := &waiter{th: th, priority: th.Priority(), addr: lockAddr, target: lockKey}
	list := tb.sleepers[key]
	i := 0
	for i < len(list) && list[i].priority >= w.priority {
		i++
	}
	tb.sleepers[key] = slices.Insert(list, i, w)
	tb.mu.Unlock()
	return tb.sleep(w, deadline)
}

// forget takes w out of the sleepers.
func (tb *Table) forget(w *waiter) {
	for k, list := range tb.sleepers {
		if i := slices.Index(list, w); i >= 0 {
			tb.setSleepers(k, slices.Delete(list, i, i+1))
			return
		}
	}
}

func (tb *Table) setSleepers(k Key, list []*waiter) {
	if len(list) == 0 {
		delete(tb.sleepers, k)
	} else {
		tb.sleepers[k] = list
	}
}

// Requeue implements FUTEX_CMP_REQUEUE_PI: of the threads that wait at key one is woken with the lock if it is free, and
// the others, at most requeue of them, wait for the lock. It returns how many that were.
func (tb *Table) Requeue(th Thread, addr uint64, key Key, lockAddr uint64, lockKey Key, requeue int32, val uint32) (int, error) {
	if key == lockKey {
		return 0, unix.EINVAL
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if v, err := th.Load(addr); err != nil {
		return 0, err
	} else if v != val {
		return 0, unix.EAGAIN
	}
	n := 0
	for int64(n) < int64(requeue)+1 && len(tb.sleepers[key]) > 0 {
		w := tb.sleepers[key][0]
		if w.target != lockKey {
			return n, unix.EINVAL
		}
		l, got, err := tb.attach(th, w.th, lockAddr, lockKey, requeue > 0)
		if err == nil && !got && l.deadlock(w.th) {
			err = unix.EDEADLK
		}
		if err != nil {
			if n > 0 {
				err = nil
			}
			return n, err
		}
		tb.setSleepers(key, tb.sleepers[key][1:])
		if got {
			w.granted = true
			w.th.Wake()
		} else {
			tb.enter(w, l)
		}
		n++
	}
	return n, nil
}

// Release hands on the locks of a thread that ends, or that executes a program; then Reset makes it usable again.
func (tb *Table) Release(th Thread) {
	s := th.Futex()
	s.exited.Store(true)
	if !s.used.Load() {
		return
	}
	tb.mu.Lock()
	for _, l := range s.owned {
		l.owner = nil
		l.waiters[0].th.Wake()
	}
	s.owned = nil
	tb.mu.Unlock()
}

// Reset ends what Release began.
func (s *State) Reset() { s.exited.Store(false) }
