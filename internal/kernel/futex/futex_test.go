package futex

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// world is threads with a common memory.
type world struct {
	mu      sync.Mutex
	words   map[uint64]uint32
	threads map[int32]*thread
	*Table
}

type thread struct {
	w        *world
	tid      int32
	priority int
	wake     chan struct{}
	signal   chan struct{}
	state    State
}

func newWorld(priorities ...int) *world {
	w := &world{words: map[uint64]uint32{}, threads: map[int32]*thread{}}
	for i, p := range priorities {
		tid := int32(i + 1)
		w.threads[tid] = &thread{w: w, tid: tid, priority: p, wake: make(chan struct{}, 1), signal: make(chan struct{}, 1)}
	}
	w.Table = New(func(tid int32) (Thread, bool) {
		t, ok := w.threads[tid]
		return t, ok
	})
	return w
}

func (t *thread) TID() int32    { return t.tid }
func (t *thread) Priority() int { return t.priority }
func (t *thread) Futex() *State { return &t.state }

func (t *thread) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *thread) Sleep(deadline int64) error {
	if deadline <= ktime.Monotonic() {
		return unix.ETIMEDOUT
	}
	select {
	case <-t.wake:
		return nil
	case <-t.signal:
		return abi.ERESTARTSYS
	}
}

func (t *thread) Load(addr uint64) (uint32, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	v, ok := t.w.words[addr]
	if !ok {
		return 0, unix.EFAULT
	}
	return v, nil
}

func (t *thread) CompareAndSwap(addr uint64, old, new uint32) (uint32, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	v := t.w.words[addr]
	if v == old {
		t.w.words[addr] = new
	}
	return v, nil
}

func (w *world) lock(tid int32, addr uint64) error {
	return w.Lock(w.threads[tid], addr, Key{Off: addr}, ktime.Forever, false)
}

func (w *world) unlock(tid int32, addr uint64) error {
	return w.Unlock(w.threads[tid], addr, Key{Off: addr})
}

// waiting waits until n threads wait for a lock.
func (w *world) waiting(t *testing.T, addr uint64, n int) {
	t.Helper()
	for range 10000 {
		w.mu.Lock()
		v := w.words[addr]
		w.mu.Unlock()
		w.Table.mu.Lock()
		l := w.locks[Key{Off: addr}]
		ok := n == 0 && l == nil || l != nil && len(l.waiters) == n && v&Waiters != 0
		w.Table.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never %d waiters", n)
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestOrder(t *testing.T) {
	w := newWorld(0, 0, 5, 0, 9)
	w.words[8] = 1
	got := make(chan int32)
	for i, tid := range []int32{2, 3, 4, 5} {
		go func() {
			if err := w.lock(tid, 8); err == nil {
				got <- tid
			}
		}()
		w.waiting(t, 8, i+1)
	}
	for owner, next := int32(1), int32(0); ; owner = next {
		want(t, "unlock", w.unlock(owner, 8), nil)
		if owner == 4 {
			break
		}
		next = <-got
		if exp := map[int32]int32{1: 5, 5: 3, 3: 2, 2: 4}[owner]; next != exp {
			t.Fatalf("after %d came %d, want %d", owner, next, exp)
		}
		if v := w.words[8]; v != Waiters|uint32(next) {
			t.Errorf("word %#x", v)
		}
	}
	if w.words[8] != 0 || len(w.locks) != 0 {
		t.Errorf("left: word %#x, %d locks", w.words[8], len(w.locks))
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(0, 0)
	w.words[4] = 7
	want(t, "unknown owner", w.lock(1, 4), unix.ESRCH)
	want(t, "not mine", w.unlock(1, 4), unix.EPERM)
	want(t, "no memory", w.lock(1, 12), unix.EFAULT)
	w.words[4] = 1
	want(t, "mine already", w.lock(1, 4), unix.EDEADLK)
	want(t, "trylock", w.Lock(w.threads[2], 4, Key{Off: 4}, 0, true), unix.EAGAIN)
	want(t, "timeout", w.Lock(w.threads[2], 4, Key{Off: 4}, 0, false), unix.ETIMEDOUT)
	w.threads[2].signal <- struct{}{}
	want(t, "signal", w.lock(2, 4), abi.ERESTARTNOINTR)
	w.words[4] = OwnerDied
	want(t, "owner died", w.lock(1, 4), nil)
	if w.words[4] != OwnerDied|1 {
		t.Errorf("word %#x", w.words[4])
	}
}

func TestDeadlock(t *testing.T) {
	w := newWorld(0, 0, 0)
	w.words[0], w.words[4], w.words[8] = 1, 2, 3
	done := make(chan error, 2)
	go func() { done <- w.lock(1, 4) }()
	w.waiting(t, 4, 1)
	go func() { done <- w.lock(2, 8) }()
	w.waiting(t, 8, 1)
	want(t, "circle of three", w.lock(3, 0), unix.EDEADLK)
	want(t, "unlock", w.unlock(3, 8), nil)
	want(t, "lock", <-done, nil)
	want(t, "unlock", w.unlock(2, 4), nil)
	want(t, "lock", <-done, nil)
}

func TestOwnerEnds(t *testing.T) {
	w := newWorld(0, 0, 0)
	w.words[0] = 1
	got := make(chan int32)
	for i, tid := range []int32{2, 3} {
		go func() {
			w.lock(tid, 0)
			got <- tid
		}()
		w.waiting(t, 0, i+1)
	}
	w.Release(w.threads[1])
	if tid := <-got; tid != 2 || w.words[0] != Waiters|OwnerDied|2 {
		t.Fatalf("%d has it, word %#x", tid, w.words[0])
	}
	want(t, "unlock", w.unlock(2, 0), nil)
	<-got
	w.words[4] = 1
	want(t, "owner has ended", w.lock(3, 4), unix.ESRCH)
}

func TestRequeue(t *testing.T) {
	w := newWorld(0, 0, 0, 0)
	w.words[0], w.words[4] = 5, 0
	cond, lock := Key{Off: 0}, Key{Off: 4}
	got := make(chan int32)
	for _, tid := range []int32{2, 3, 4} {
		go func() {
			w.WaitRequeue(w.threads[tid], 0, cond, 5, ktime.Forever, 4, lock)
			got <- tid
		}()
	}
	for range 10000 {
		w.Table.mu.Lock()
		n := len(w.sleepers[cond])
		w.Table.mu.Unlock()
		if n == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	want(t, "other value", w.WaitRequeue(w.threads[1], 0, cond, 6, 0, 4, lock), unix.EAGAIN)
	if n, err := w.Requeue(w.threads[1], 0, cond, 4, lock, 1, 5); n != 2 || err != nil {
		t.Fatalf("requeue: %d, %v", n, err)
	}
	first := <-got
	if w.words[4] != Waiters|uint32(first) {
		t.Fatalf("%d woke, word %#x", first, w.words[4])
	}
	want(t, "unlock", w.unlock(first, 4), nil)
	second := <-got
	if n, err := w.Requeue(w.threads[1], 0, cond, 4, lock, 1, 5); n != 1 || err != nil {
		t.Fatalf("requeue: %d, %v", n, err)
	}
	want(t, "unlock", w.unlock(second, 4), nil)
	want(t, "unlock", w.unlock(<-got, 4), nil)
}
