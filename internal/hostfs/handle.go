package hostfs

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is a descriptor of the host that several users share; the last one closes it.
type handle struct {
	fd   int
	refs atomic.Int32
	// fresh: opened for reading and writing when the file was made. Set before anybody else knows the handle.
	fresh bool
	// in and used are for the ring: whose handle it is, and that it has been used since the ring's hand came by.
	in   *inode
	used atomic.Bool
}

func newHandle(fd int) *handle {
	h := &handle{fd: fd}
	h.refs.Store(1)
	return h
}

// tryGet takes a reference unless the descriptor has been closed.
func (h *handle) tryGet() bool {
	for {
		n := h.refs.Load()
		if n <= 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *handle) put() {
	if h.refs.Add(-1) == 0 {
		_ = unix.Close(h.fd)
	}
}

// path is a name of the descriptor for calls that take no descriptor made with O_PATH. Following it leads to the open file
// itself.
func (h *handle) path() string { return "/proc/self/fd/" + strconv.Itoa(h.fd) }

// ring keeps things that are dear to make until their number reaches a limit; then those go that have not been used
// for a round.
type ring[T ringed] struct {
	mu    sync.Mutex
	limit int
	slots []T
	at    map[T]int // where in slots
	hand  int
}

// ringed is what a ring keeps. Its methods are called with the ring locked.
type ringed interface {
	comparable
	// recent reports whether it has been used since the last time that this was asked.
	recent() bool
	// evict ends it if that is possible now, and reports whether it was.
	evict() bool
}

// add puts x into the ring, in place of something else if that is full.
func (r *ring[T]) add(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[T]int{}
	}
	if len(r.slots) >= r.limit {
		for range 2 * len(r.slots) {
			r.hand = (r.hand + 1) % len(r.slots)
			if old := r.slots[r.hand]; !old.recent() && old.evict() {
				delete(r.at, old)
				r.slots[r.hand], r.at[x] = x, r.hand
				return
			}
		}
	}
	r.at[x] = len(r.slots)
	r.slots = append(r.slots, x)
}

// forget takes x out without evicting it.
func (r *ring[T]) forget(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.at[x]
	if !ok {
		return
	}
	last := len(r.slots) - 1
	r.slots[i] = r.slots[last]
	r.at[r.slots[i]] = i
	clear(r.slots[last:])
	r.slots = r.slots[:last]
	delete(r.at, x)
	r.hand = 0
}

// halve evicts half of what can be evicted, used or not.
func (r *ring[T]) halve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, want := 0, (len(r.slots)+1)/2; n < len(r.slots) && want > 0; {
		x := r.slots[n]
		if !x.evict() {
			n++
			continue
		}
		want--
		last := len(r.slots) - 1
		r.slots[n] = r.slots[last]
		r.at[r.slots[n]] = n
		clear(r.slots[last:])
		r.slots = r.slots[:last]
		delete(r.at, x)
	}
	r.hand = 0
}
