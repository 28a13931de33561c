package ipc

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// Undo is what is taken back when a process ends: the sum of its operations with SEM_UNDO. Processes made by clone(2) with
// CLONE_SYSVSEM share it, so that threads do.
type Undo struct {
	refs atomic.Int32

	mu      sync.Mutex
	entries []*undoEntry
}

// undoEntry is the part of an Undo that concerns one set. adj is guarded by the set's lock.
type undoEntry struct {
	owner *Undo
	set   *Set
	adj   []int32
}

// NewUndo makes an empty one with one reference.
func NewUndo() *Undo {
	u := &Undo{}
	u.refs.Store(1)
	return u
}

// Get takes a reference.
func (u *Undo) Get() *Undo { u.refs.Add(1); return u }

// entry returns the part for a set whose lock is held, nil if there is no memory for it.
func (u *Undo) entry(s *Set) *undoEntry {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.entries {
		if e.set == s {
			return e
		}
	}
	if !kmem.Take(adjSize * len(s.sems)) {
		return nil
	}
	e := &undoEntry{owner: u, set: s, adj: make([]int32, len(s.sems))}
	u.entries = append(u.entries, e)
	s.undos = append(s.undos, e)
	return e
}

// forget drops the part for a set that is gone, and whose lock is held.
func (u *Undo) forget(e *undoEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.entries, e); i >= 0 {
		kmem.Add(-adjSize * len(e.adj))
		u.entries = slices.Delete(u.entries, i, i+1)
	}
}

// Put drops a reference; the last one takes back, in the name of pid. It does not sleep.
func (u *Undo) Put(pid int32) {
	if u.refs.Add(-1) > 0 {
		return
	}
	u.mu.Lock()
	entries := u.entries
	u.entries = nil
	u.mu.Unlock()
	for _, e := range entries {
		e.apply(pid)
	}
}

// apply takes back what the process did to one set. A value that would leave the range stops at its end, as on Linux.
func (e *undoEntry) apply(pid int32) {
	s := e.set
	kmem.Add(-adjSize * len(e.adj))
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.undos, e); i >= 0 {
		s.undos = slices.Delete(s.undos, i, i+1)
	}
	if s.removed {
		return
	}
	changed := false
	for i, a := range e.adj {
		if a == 0 {
			continue
		}
		s.sems[i].val = min(max(s.sems[i].val+a, 0), SemVMX)
		s.sems[i].pid = pid
		changed = true
	}
	if changed {
		s.otime = now()
		s.changedLocked()
	}
}
