package poll

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// MaxWatches is /proc/sys/fs/epoll/max_user_watches; it counts the items of all users.
const MaxWatches = 1 << 20

// itemSize is about how much memory an item takes, with its places in tables.
const itemSize = 384

// maxDepth is how many epolls may watch one another in a chain.
const maxDepth = 5

const (
	// private are the bits of epoll_event.events that are not events.
	private = unix.EPOLLET | unix.EPOLLONESHOT | unix.EPOLLWAKEUP | unix.EPOLLEXCLUSIVE
	// exclusiveOK are the bits that EPOLLEXCLUSIVE allows.
	exclusiveOK = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLWAKEUP | unix.EPOLLET |
		unix.EPOLLEXCLUSIVE
)

var (
	watches atomic.Int64
	// nesting is held while an epoll is added to an epoll, so that two additions cannot make a loop together.
	nesting sync.Mutex
)

// Event is struct epoll_event.
type Event struct {
	Events uint32
	Data   uint64
}

type key struct {
	f  *vfs.File
	fd int32
}

// item is one watched file.
type item struct {
	ep    *EPoll
	key   key
	q     *wait.Queue
	entry wait.Entry

	// Guarded by ep.rdyMu.
	events     uint32
	data       uint64
	dead       bool // removed
	queued     bool // on ep.ready or being collected
	next, prev *item
}

// EPoll is an epoll instance.
type EPoll struct {
	vfs.NoSeek

	q wait.Queue

	// mu guards items and is held while events are collected.
	mu     sync.Mutex
	items  map[key]*item
	inner  map[*EPoll]int // the watched items that are epolls
	outer  map[*EPoll]int // the epolls that watch this one; guarded by nesting
	closed bool

	rdyMu sync.Mutex
	ready ring
}

// ring is a list of items.
type ring struct{ head, tail *item }

func (r *ring) push(it *item) {
	it.prev, it.next = r.tail, nil
	if r.tail == nil {
		r.head = it
	} else {
		r.tail.next = it
	}
	r.tail = it
}

func (r *ring) remove(it *item) {
	if it.prev == nil {
		r.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		r.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.next, it.prev = nil, nil
}

// NewEPoll makes an epoll file.
func NewEPoll(c vfs.Caller) *vfs.File {
	return vfs.NewAnonFile(c, "anon_inode:[eventpoll]", &EPoll{items: map[key]*item{}}, unix.O_RDWR, 0o600)
}

// Of returns the epoll instance behind an open file, nil if it is another kind of file.
func Of(f *vfs.File) *EPoll {
	ep, _ := f.Ops.(*EPoll)
	return ep
}

// Ctl is epoll_ctl(2); f is the open file of descriptor fd.
func (ep *EPoll) Ctl(op int, f *vfs.File, fd int32, ev Event) error {
	q := f.Ops.WaitQueue()
	if q == nil {
		return unix.EPERM
	}
	target := Of(f)
	if target == ep {
		return unix.EINVAL
	}
	if op != unix.EPOLL_CTL_DEL && ev.Events&unix.EPOLLEXCLUSIVE != 0 {
		if op == unix.EPOLL_CTL_MOD || target != nil || ev.Events&^exclusiveOK != 0 {
			return unix.EINVAL
		}
	}
	k := key{f, fd}
	switch op {
	case unix.EPOLL_CTL_ADD:
		return ep.add(k, q, target, ev)
	case unix.EPOLL_CTL_MOD:
		return ep.modify(k, ev)
	case unix.EPOLL_CTL_DEL:
		ep.mu.Lock()
		it := ep.items[k]
		if it == nil {
			ep.mu.Unlock()
			return unix.ENOENT
		}
		ep.removeLocked(it)
		ep.mu.Unlock()
		f.RemoveWatcher(it)
		ep.unnest(target)
		return nil
	}
	return unix.EINVAL
}

func (ep *EPoll) add(k key, q *wait.Queue, target *EPoll, ev Event) error {
	if target != nil {
		nesting.Lock()
		defer nesting.Unlock()
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.closed {
		return unix.EBADF
	}
	if ep.items[k] != nil {
		return unix.EEXIST
	}
	if target != nil && !ep.mayWatch(target) {
		return unix.ELOOP
	}
	if watches.Add(1) > MaxWatches {
		watches.Add(-1)
		return unix.ENOSPC
	}
	if !kmem.Take(itemSize) {
		watches.Add(-1)
		return unix.ENOMEM
	}
	it := &item{ep: ep, key: k, q: q, events: ev.Events | unix.EPOLLERR | unix.EPOLLHUP, data: ev.Data}
	it.entry.Callback, it.entry.Data = itemReady, it
	ep.items[k] = it
	if target != nil {
		count(&ep.inner, target, 1)
		count(&target.outer, ep, 1)
	}
	k.f.AddWatcher(it)
	q.Register(&it.entry, eventMask(ev.Events))
	ep.check(it)
	return nil
}

func count(m *map[*EPoll]int, ep *EPoll, n int) {
	if *m == nil {
		*m = map[*EPoll]int{}
	}
	if (*m)[ep] += n; (*m)[ep] <= 0 {
		delete(*m, ep)
	}
}

func (ep *EPoll) modify(k key, ev Event) error {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	it := ep.items[k]
	if it == nil {
		return unix.ENOENT
	}
	if it.events&unix.EPOLLEXCLUSIVE != 0 {
		return unix.EINVAL
	}
	ep.rdyMu.Lock()
	it.events, it.data = ev.Events|unix.EPOLLERR|unix.EPOLLHUP, ev.Data
	ep.rdyMu.Unlock()
	it.q.Unregister(&it.entry)
	it.q.Register(&it.entry, eventMask(ev.Events))
	ep.check(it)
	return nil
}

func eventMask(events uint32) wait.Events { return wait.Events(events&^private) | wait.Err | wait.Hup }

// check puts an item on the ready list if its file is ready now. Called with ep.mu held.
func (ep *EPoll) check(it *item) {
	if ev := it.key.f.Ops.Readiness(eventMask(it.events)); ev != 0 {
		itemReady(&it.entry, ev)
	}
}

// itemReady is the callback of a watched file's queue.
func itemReady(e *wait.Entry, _ wait.Events) {
	it := e.Data.(*item)
	ep := it.ep
	ep.rdyMu.Lock()
	if it.dead || it.events&^private == 0 {
		ep.rdyMu.Unlock()
		return
	}
	if !it.queued {
		it.queued = true
		ep.ready.push(it)
	}
	ep.rdyMu.Unlock()
	ep.q.Notify(wait.In | wait.RdNorm)
}

// removeLocked takes an item out; the caller must RemoveWatcher and unnest without the lock.
func (ep *EPoll) removeLocked(it *item) {
	delete(ep.items, it.key)
	ep.rdyMu.Lock()
	it.dead = true
	if it.queued {
		it.queued = false
		ep.ready.remove(it)
	}
	ep.rdyMu.Unlock()
	it.q.Unregister(&it.entry)
	watches.Add(-1)
	kmem.Add(-itemSize)
}

// unnest forgets that ep watched target, which may be nil.
func (ep *EPoll) unnest(target *EPoll) {
	if target == nil {
		return
	}
	nesting.Lock()
	count(&ep.inner, target, -1)
	count(&target.outer, ep, -1)
	nesting.Unlock()
}

// FileGone is vfs.FileWatcher's.
func (it *item) FileGone(f *vfs.File) {
	ep := it.ep
	ep.mu.Lock()
	live := ep.items[it.key] == it
	if live {
		ep.removeLocked(it)
	}
	ep.mu.Unlock()
	if live {
		ep.unnest(Of(f))
	}
}

// mayWatch reports whether ep may watch target: no loop, no chain that is too deep. Called with nesting held.
func (ep *EPoll) mayWatch(target *EPoll) bool {
	budget := 1000 // bounds the work on graphs with very many paths, as Linux does
	if target.reaches(ep, &budget) {
		return false
	}
	down := target.depth(func(e *EPoll) map[*EPoll]int { return e.inner }, &budget)
	up := ep.depth(func(e *EPoll) map[*EPoll]int { return e.outer }, &budget)
	return budget > 0 && down+up <= maxDepth
}

func (ep *EPoll) reaches(x *EPoll, budget *int) bool {
	if *budget--; *budget <= 0 || ep == x {
		return true
	}
	for e := range ep.inner {
		if e.reaches(x, budget) {
			return true
		}
	}
	return false
}

// depth is the length of the longest chain from ep.
func (ep *EPoll) depth(next func(*EPoll) map[*EPoll]int, budget *int) int {
	d := 1
	if *budget--; *budget > 0 {
		for e := range next(ep) {
			d = max(d, 1+e.depth(next, budget))
		}
	}
	return d
}

// hasReady reports whether it is worth while to collect.
func (ep *EPoll) hasReady() bool {
	ep.rdyMu.Lock()
	defer ep.rdyMu.Unlock()
	return ep.ready.head != nil
}

// Wait fills out with events and returns how many. Deadline 0 does not wait: EINTR.
func (ep *EPoll) Wait(c vfs.Caller, out []Event, deadline int64) (int, error) {
	for {
		if n := ep.collect(out); n > 0 || deadline == 0 {
			return n, nil
		}
		switch err := ep.q.Wait(c, wait.Readable, deadline, ep.hasReady); err {
		case nil:
		case unix.ETIMEDOUT:
			return ep.collect(out), nil
		case abi.ERESTARTSYS:
			return 0, unix.EINTR
		default:
			return 0, err
		}
	}
}

// Len is the number of watched files.
func (ep *EPoll) Len() int {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return len(ep.items)
}

// collect asks the items of the ready list for their readiness until out is full.
func (ep *EPoll) collect(out []Event) (n int) {
	if !ep.hasReady() {
		return 0
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.scan(func(it *item) verdict {
		if n == len(out) {
			return stop
		}
		ev := it.key.f.Ops.Readiness(eventMask(it.events))
		if ev == 0 {
			return drop
		}
		out[n] = Event{uint32(ev), it.data}
		n++
		switch {
		case it.events&unix.EPOLLONESHOT != 0:
			return disarm
		case it.events&unix.EPOLLET != 0:
			return drop
		}
		return keep
	})
	return n
}

// verdict is what becomes of an item of the ready list.
type verdict int

const (
	drop   verdict = iota // it leaves the list
	keep                  // it goes to the end of the list
	disarm                // it leaves the list and is silent until EPOLL_CTL_MOD
	stop                  // it and the rest stay, the scan ends
)

// scan goes once over the ready list. Called with ep.mu held, which keeps items from being removed or modified.
func (ep *EPoll) scan(fn func(it *item) verdict) {
	ep.rdyMu.Lock()
	last := ep.ready.tail
	for it := ep.ready.head; it != nil; {
		// An event that comes while the file is asked for its readiness puts the item on the list again.
		ep.ready.remove(it)
		it.queued = false
		armed := it.events&^private != 0
		ep.rdyMu.Unlock()
		v := drop
		if armed {
			v = fn(it)
		}
		ep.rdyMu.Lock()
		switch v {
		case disarm:
			it.events &= private
		case keep:
			if !it.queued {
				it.queued = true
				ep.ready.push(it)
			}
		case stop:
			if it.queued {
				ep.ready.remove(it)
			}
			it.queued = true
			ep.ready.pushFront(it)
		}
		if v == stop || it == last {
			break
		}
		it = ep.ready.head
	}
	ep.rdyMu.Unlock()
}

func (r *ring) pushFront(it *item) {
	it.prev, it.next = nil, r.head
	if r.head == nil {
		r.tail = it
	} else {
		r.head.prev = it
	}
	r.head = it
}

// Readiness: an epoll is readable when one of its files is ready.
func (ep *EPoll) Readiness(mask wait.Events) (ev wait.Events) {
	if mask&(wait.In|wait.RdNorm) == 0 || !ep.hasReady() {
		return 0
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.scan(func(it *item) verdict {
		if ev != 0 {
			return stop
		}
		if it.key.f.Ops.Readiness(eventMask(it.events)) == 0 {
			return drop
		}
		ev = mask & (wait.In | wait.RdNorm)
		return stop
	})
	return ev
}

// WaitQueue is notified when a file becomes ready.
func (ep *EPoll) WaitQueue() *wait.Queue { return &ep.q }

func (ep *EPoll) Read(vfs.Caller, *vfs.File, *uio.Dst, int64) (int, error)  { return 0, unix.EINVAL }
func (ep *EPoll) Write(vfs.Caller, *vfs.File, *uio.Src, int64) (int, error) { return 0, unix.EINVAL }

// Release lets all watched files go.
func (ep *EPoll) Release(*vfs.File) {
	ep.mu.Lock()
	ep.closed = true
	items := make([]*item, 0, len(ep.items))
	for _, it := range ep.items {
		items = append(items, it)
	}
	for _, it := range items {
		ep.removeLocked(it)
	}
	ep.mu.Unlock()
	for _, it := range items {
		it.key.f.RemoveWatcher(it)
		ep.unnest(Of(it.key.f))
	}
}

// FdInfo is the lines of /proc/<pid>/fdinfo.
func (ep *EPoll) FdInfo(*vfs.File) string {
	ep.mu.Lock()
	items := make([]*item, 0, len(ep.items))
	for _, it := range ep.items {
		items = append(items, it)
	}
	ep.mu.Unlock()
	sort.Slice(items, func(i, j int) bool { return items[i].key.fd < items[j].key.fd })
	var b strings.Builder
	for _, it := range items {
		ep.rdyMu.Lock()
		events, data := it.events, it.data
		ep.rdyMu.Unlock()
		fmt.Fprintf(&b, "tfd: %8d events: %8x data: %16x  pos:%d ino:%x sdev:%x\n", it.key.fd, events, data,
			it.key.f.Pos(), it.key.f.Inode.Attr().Ino, it.key.f.Inode.Super().Dev())
	}
	return b.String()
}

var (
	_ vfs.FileOps     = (*EPoll)(nil)
	_ vfs.Streamer    = (*EPoll)(nil)
	_ vfs.FdInfoer    = (*EPoll)(nil)
	_ vfs.FileWatcher = (*item)(nil)
)
