package skas

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Park transfer. A thread that waits in a received notification makes every other call of its shard slower, cannot be
// frozen by the host, and can run no injected call. So a call that has blocked for a while is taken out: the thread gets
// the kick signal and a dummy answer, stops before it is back in guest code, and is given the true result there.

const (
	tick = int64(time.Millisecond)
	// transferAge is how long a call may wait in its notification while there are few of them, crowdedAge when there
	// are more than crowd.
	transferAge = 8 * tick
	crowdedAge  = tick
	crowd       = 16
	// quietTicks without a call end the monitor's watch.
	quietTicks = 8
)

// blockedList are the threads that have called Block and are not transferred, oldest first.
type blockedList struct {
	head blockedLink // a ring
	n    int
}

type blockedLink struct {
	next, prev *blockedLink
	t          *Thread
}

func (l *leadership) block(t *Thread) {
	l.mu.Lock()
	h := &l.blocked.head
	if h.next == nil {
		h.next, h.prev = h, h
	}
	b := &t.blocked
	b.t = t
	t.blockedAt = monotonic()
	b.prev, b.next = h.prev, h
	b.prev.next, b.next.prev = b, b
	l.blocked.n++
	l.mu.Unlock()
}

func (l *leadership) unblock(t *Thread) {
	l.mu.Lock()
	l.removeLocked(&t.blocked)
	t.blockedAt = 0
	l.mu.Unlock()
}

func (l *leadership) removeLocked(b *blockedLink) {
	if b.next != nil {
		b.prev.next, b.next.prev = b.next, b.prev
		b.next, b.prev = nil, nil
		l.blocked.n--
	}
}

// old takes the threads off the list that have waited long enough.
func (l *leadership) old(now int64, out []*Thread) []*Thread {
	l.mu.Lock()
	h := &l.blocked.head
	for b := h.next; b != nil && b != h; b = h.next {
		limit := transferAge
		if l.blocked.n > crowd {
			limit = crowdedAge
		}
		if now-b.t.blockedAt < limit {
			break
		}
		l.removeLocked(b)
		out = append(out, b.t)
	}
	l.mu.Unlock()
	return out
}

// transfer moves a waiting thread from its notification to a ptrace stop.
func (t *Thread) transfer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != calling || t.transferred {
		return
	}
	t.transferred = true
	t.signalLocked()
	_ = notifSend(t.s.fam.listener, &notifyResponse{id: t.notifyID})
}

// monitor looks at the shards every tick while there are calls: it replaces a leader that is away too long (it may sleep
// in a host call for the guest's memory or disk), and transfers blocked calls.
type monitor struct {
	p    *Platform
	wake chan struct{}
	once sync.Once
}

func (m *monitor) init(p *Platform) { m.p, m.wake = p, make(chan struct{}, 1) }

// activate has the monitor watch a shard again.
func (m *monitor) activate(l *leadership) {
	if l.active.CompareAndSwap(false, true) {
		m.once.Do(func() { go m.run() })
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (m *monitor) close() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

type watch struct {
	turns uint64
	quiet int
}

func (m *monitor) run() {
	seen := make([]watch, m.p.cfg.Shards)
	var old []*Thread
	for !m.p.closing.Load() {
		busy := false
		for i, s := range m.p.shards {
			l := &s.lead
			if !l.active.Load() {
				continue
			}
			w := &seen[i]
			turns := l.turns.Load()
			if turns == w.turns {
				w.quiet++
				if leader := l.leader.Load(); leader != nil && leader.busy.Load() && l.turns.Load() == turns {
					l.promote(s, leader)
				}
			} else {
				w.turns, w.quiet = turns, 0
			}
			old = l.old(monotonic(), old[:0])
			for _, t := range old {
				t.transfer()
			}
			l.mu.Lock()
			waiting := l.blocked.n
			l.mu.Unlock()
			if w.quiet > quietTicks && waiting == 0 {
				l.active.Store(false)
				if l.turns.Load() != w.turns { // it came back just now
					l.active.Store(true)
				}
				w.quiet = 0
			}
			busy = busy || l.active.Load()
		}
		if busy {
			time.Sleep(time.Duration(tick))
		} else {
			<-m.wake
		}
	}
}

// monotonic is the host's CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
