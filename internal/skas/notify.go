package skas

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// leadership is the notify lane of a shard: workers of which at most one, the leader, waits for calls. The leader runs
// the handler of the call that it received itself. When the handler is about to sleep (Thread.Block), or the monitor
// finds that it takes long, another worker becomes leader, and the old one ends as a follower.
type leadership struct {
	leader atomic.Pointer[worker]
	turns  atomic.Uint64 // calls received
	active atomic.Bool   // the monitor watches this shard

	mu      sync.Mutex
	idle    []*worker
	blocked blockedList
	closed  bool
}

// worker is a goroutine that serves calls. It is not locked to an OS thread: exchanging leader and follower is then only
// a switch of goroutines.
type worker struct {
	s    *shard
	busy atomic.Bool // runs a handler
	wake chan struct{}
	n    notification
	resp notifyResponse

	wakes uint64 // platform.Wakes when this worker last let others run
}

// maxIdle is how many followers are kept.
const maxIdle = 32

func (l *leadership) start(s *shard) { l.promote(s, nil) }

// promote makes another worker leader if old (nil at the start) still is.
func (l *leadership) promote(s *shard, old *worker) bool {
	l.mu.Lock()
	if l.closed || l.leader.Load() != old {
		l.mu.Unlock()
		return false
	}
	if n := len(l.idle); n > 0 {
		w := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.leader.Store(w)
		l.mu.Unlock()
		w.wake <- struct{}{}
		return true
	}
	w := &worker{s: s, wake: make(chan struct{}, 1)}
	l.leader.Store(w)
	l.mu.Unlock()
	go w.run()
	return true
}

// rest puts a follower away; false if it is to end.
func (l *leadership) rest(w *worker) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.idle) >= maxIdle {
		return false
	}
	l.idle = append(l.idle, w)
	return true
}

func (l *leadership) close() {
	l.mu.Lock()
	l.closed = true
	idle := l.idle
	l.idle = nil
	l.mu.Unlock()
	for _, w := range idle {
		close(w.wake)
	}
}

// run is the life of a worker.
func (w *worker) run() {
	l := &w.s.lead
	for {
		for l.leader.Load() == w {
			if !w.receive() {
				return
			}
		}
		if !l.rest(w) {
			return
		}
		if _, ok := <-w.wake; !ok {
			return
		}
	}
}

// receive takes and serves one call. It returns false when there will be no more.
func (w *worker) receive() bool {
	if n := platform.Wakes.Load(); n != w.wakes {
		// The handlers that the last one woke get this thread now: they would otherwise have to wake another. When there
		// are none yielding would wake a thread that looks for work.
		w.wakes = n
		runtime.Gosched()
	}
	w.n = notification{}
	if e := notifRecv(w.s.fam.listener, &w.n); e != 0 {
		// ENOENT: the caller was interrupted or killed before we took the call. EINTR: a signal of the Go runtime.
		if w.s.p.closing.Load() || e != unix.ENOENT && e != unix.EINTR {
			return false
		}
		return true
	}
	l := &w.s.lead
	w.busy.Store(true)
	l.turns.Add(1)
	if !l.active.Load() {
		w.s.p.monitor.activate(l)
	}
	w.serve()
	w.busy.Store(false)
	return true
}

// serve answers the call in w.n.
func (w *worker) serve() {
	n := &w.n
	t := w.s.p.threads.get(int(n.pid))
	if t == nil {
		// Only a thread that has just died is unknown. If there were another, no answer is right: it stays in its call.
		if notifValid(w.s.fam.listener, n.id) {
			w.s.p.cfg.Logf("skas: call %d of an unknown host thread\n", n.nr)
		}
		return
	}
	t.mu.Lock()
	if t.injecting && (n.nr == t.injectNr || t.injectNr == injectList && isMemoryCall(n.nr)) || t.exiting && isExit(n.nr) {
		t.mu.Unlock()
		w.send(n.id, 0, unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		return
	}
	if n.nr == unix.SYS_MMAP && n.args[4]>>32 == mapCookie {
		// A guest that uses our mark: it is not a valid descriptor.
		t.mu.Unlock()
		w.send(n.id, -int64(unix.EBADF), 0)
		return
	}
	if !w.s.fam.killable() && (t.state == calling || t.kept) {
		w.again(t)
		return
	}
	t.state = calling
	t.resumeWanted = false
	t.notifyID = n.id
	t.transferred, t.parked, t.finished, t.blockedAt = false, false, false, 0
	t.worker = w
	t.nr, t.args = n.nr, n.args
	t.mu.Unlock()
	w.finish(t, w.s.p.handler.Syscall(t, t.nr, &t.args))
}

// again takes a call that the host makes once more: the freezer or a signal from outside took its thread out of the
// notification, which only hosts before Linux 5.19 allow. The answer to the first is the answer to this one. t.mu is held, and
// is not afterwards.
func (w *worker) again(t *Thread) {
	n := &w.n
	if n.nr != t.nr || n.args != t.args {
		// The program has exchanged its syscall instruction meanwhile.
		t.mu.Unlock()
		t.Kill()
		return
	}
	t.notifyID = n.id
	if !t.kept {
		t.mu.Unlock()
		return
	}
	t.kept, t.state = false, calling
	ret := t.result
	t.mu.Unlock()
	w.finish(t, ret)
}

// send answers a notification. An error means that the caller has gone away from it.
func (w *worker) send(id uint64, val int64, flags uint32) syscall.Errno {
	w.resp = notifyResponse{id: id, flags: flags}
	if val < 0 && val >= -4095 {
		w.resp.err = int32(val)
	} else {
		w.resp.val = val
	}
	return notifSend(w.s.fam.listener, &w.resp)
}

// finish gives the thread its result wherever it waits for it: in the notification or, after a park transfer, in a
// ptrace stop.
func (w *worker) finish(t *Thread, ret platform.Return) {
	if t.blockedAt != 0 {
		w.s.lead.unblock(t)
	}
	t.mu.Lock()
	id, flags := t.notifyID, uint32(0)
	if w.finishLocked(t, ret) {
		if ret.Action == platform.HostExit && isExit(t.nr) {
			flags, ret.Value = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE, 0
		}
		if w.s.fam.killable() {
			// The answer lets the guest run on this CPU before we go on. Whoever handles its next stop must not have to
			// wait for us. A kick in between stops the guest after the answer.
			t.mu.Unlock()
			w.send(id, int64(ret.Value), flags)
			return
		}
		if w.send(id, int64(ret.Value), flags) == unix.ENOENT && flags == 0 {
			t.kept, t.result = true, ret
		}
	}
	t.mu.Unlock()
}

// finishLocked reports whether the thread is to be given an answer.
func (w *worker) finishLocked(t *Thread, ret platform.Return) bool {
	t.worker = nil
	if t.state != calling || ret.Action == platform.Dead {
		return false
	}
	if t.transferred {
		t.result, t.finished = ret, true
		if t.parked {
			t.s.post(func() { t.s.finishParked(t) })
		}
		return false
	}
	t.state = running
	if ret.Action == platform.HostExit && isExit(t.nr) {
		return true
	}
	switch ret.Action {
	case platform.Stop:
		t.after = afterKick
	case platform.Hold:
		t.after = afterHold
	}
	if t.after != afterNothing || t.kicked || t.signalled || t.p.frozen.Load() {
		// Interrupt first, then answer: the thread stops before it returns to the guest.
		t.fix, t.fixValue = true, ret.Value
		t.signalLocked()
	}
	return true
}

// Block implements platform.Thread.
func (t *Thread) Block() {
	w := t.worker
	if w == nil || t.blockedAt != 0 {
		return
	}
	l := &w.s.lead
	l.block(t)
	if l.leader.Load() == w {
		l.promote(w.s, w)
	}
}
