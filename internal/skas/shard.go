package skas

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// shard is one tracer thread and the stubs it traces: a family of processes with one filter, one listener and one
// descriptor table.
type shard struct {
	p   *Platform
	idx int
	tid int // of the tracer's OS thread
	fam *family

	threads atomic.Int32 // living guest threads

	queue struct {
		sync.Mutex
		list   []func()
		closed bool
	}
	sleeping atomic.Bool // the tracer is about to wait; whoever posts must ring

	pool chan int // stubs that were forked ahead and are held

	// Owned by the tracer.
	events   []event
	spare    []event
	zygote   zygote
	poolTids map[int]bool
	frozen   bool      // no thread may run
	heldBack []*Thread // those that would
	done     chan struct{}

	lead leadership
}

type event struct {
	tid int
	ws  unix.WaitStatus
	ru  *unix.Rusage
}

// poolSize is how many stubs are forked ahead of need.
const poolSize = 3

func startShard(p *Platform, idx, opsFd int, filter []unix.SockFilter) (*shard, error) {
	s := &shard{p: p, idx: idx, pool: make(chan int, poolSize), poolTids: map[int]bool{}, done: make(chan struct{})}
	errc := make(chan error)
	go s.trace(opsFd, filter, errc)
	if err := <-errc; err != nil {
		return nil, err
	}
	return s, nil
}

// trace is the tracer. All ptrace requests for the shard's stubs come from this OS thread, which lives as long as the
// platform: the stubs die with it.
func (s *shard) trace(opsFd int, filter []unix.SockFilter, errc chan<- error) {
	runtime.LockOSThread()
	if threadHasChildren() {
		// Processes that were started from this thread before it was ours (helpers of drivers) are not ours to wait for.
		// Keep the thread until the tracer has another one.
		started := make(chan error)
		go s.trace(opsFd, filter, started)
		errc <- <-started
		runtime.UnlockOSThread()
		return
	}
	s.tid = unix.Gettid()
	var err error
	if s.fam, err = newFamily(opsFd, filter); err != nil {
		runtime.UnlockOSThread()
		errc <- err
		return
	}
	if s.p.cfg.NCPU < runtime.NumCPU() {
		_ = s.p.pin(s.fam.zygote, ^uint64(0)) // stubs inherit it
	}
	errc <- nil
	defer close(s.done)
	for s.step() {
	}
}

// step does what there is to do, or waits for it. It returns false when the shard is closed and empty.
func (s *shard) step() bool {
	s.drain()
	worked := len(s.events) > 0
	s.handleEvents()
	if s.runQueue() || worked {
		return true
	}
	if s.p.closing.Load() {
		return s.reapAll()
	}
	if len(s.pool) < poolSize && s.zygote.failed == 0 {
		s.startFork()
	}
	s.sleeping.Store(true)
	if s.queued() {
		s.sleeping.Store(false)
		return true
	}
	s.wait(0)
	s.sleeping.Store(false)
	s.drain()
	s.handleEvents()
	return true
}

// wait takes one event; with WNOHANG in options it returns false if there is none.
func (s *shard) wait(options int) bool {
	var e event
	var ru unix.Rusage
	tid, err := wait4(-1, &e.ws, unix.WALL|unix.WNOTHREAD|options, &ru)
	if err != nil || tid == 0 {
		return false
	}
	e.tid = tid
	if e.ws.Stopped() {
		// At once, because handlers of events before this one may need the zygote.
		switch tid {
		case s.fam.zygote:
			s.zygoteStopped(e.ws)
			return true
		case s.fam.bell, s.fam.keeper:
			_ = ptrace(unix.PTRACE_CONT, tid, 0, 0)
			return true
		}
		if s.born(tid) {
			return true
		}
	} else {
		s.unborn(tid)
		e.ru = new(unix.Rusage)
		*e.ru = ru
	}
	s.events = append(s.events, e)
	return true
}

// drain takes all events that have happened before any of them is handled: wait4 prefers the first in its list, so that
// a few busy threads would starve the others.
func (s *shard) drain() {
	for s.wait(unix.WNOHANG) {
	}
}

func (s *shard) handleEvents() {
	list := s.events
	s.events = s.spare[:0]
	for i := range list {
		s.handle(&list[i])
		list[i].ru = nil
	}
	s.spare = list[:0]
}

// post has f run on the tracer thread. It never waits.
func (s *shard) post(f func()) bool {
	s.queue.Lock()
	if s.queue.closed {
		s.queue.Unlock()
		return false
	}
	s.queue.list = append(s.queue.list, f)
	s.queue.Unlock()
	if s.sleeping.CompareAndSwap(true, false) {
		s.ring()
	}
	return true
}

// ring makes the tracer's wait4 return: a signal to the bell, which the tracer traces too, stops it. A signal cannot get
// lost between the tracer's look at the queue and its wait, as an interrupted wait4 of its own could.
func (s *shard) ring() { tgkill(s.fam.keeper, s.fam.bell, kickSignal) }

func (s *shard) queued() bool {
	s.queue.Lock()
	defer s.queue.Unlock()
	return len(s.queue.list) > 0
}

// runQueue runs what was posted and reports whether that was anything.
func (s *shard) runQueue() bool {
	s.queue.Lock()
	list := s.queue.list
	s.queue.list = nil
	s.queue.Unlock()
	for _, f := range list {
		f()
	}
	return len(list) > 0
}

// call runs f on the tracer thread and waits for it. ok is false if the shard is closed.
func (s *shard) call(f func()) (ok bool) {
	if unix.Gettid() == s.tid {
		f()
		return true
	}
	done := make(chan struct{})
	if !s.post(func() { f(); close(done) }) {
		return false
	}
	// The tracer may have to run calls in a stub that raise notifications. The caller may be who would receive them.
	if w := s.lead.leader.Load(); w != nil && w.busy.Load() {
		s.lead.promote(s, w)
	}
	<-done
	return true
}

// do runs f, which makes ptrace requests for the stopped thread t, on the tracer thread.
func (s *shard) do(t *Thread, f func() error) (err error) {
	if !s.call(func() {
		if t.isDead() {
			err = unix.ESRCH
		} else {
			err = f()
		}
	}) {
		return unix.ESRCH
	}
	return err
}

// newProcess makes a held thread in a fresh stub.
func (s *shard) newProcess(data any) (*Thread, error) {
	var tid int
	var err error
	select {
	case tid = <-s.pool:
	default:
		if !s.call(func() { tid, err = s.forkStub() }) {
			return nil, unix.ESRCH
		}
		if err != nil {
			return nil, fmt.Errorf("skas: new process: %w", err)
		}
	}
	t := &Thread{p: s.p, s: s, tid: tid, data: data, state: stopped, stop: stopFresh, dirty: true}
	t.regs.Cs, t.regs.Ss, t.regs.Eflags, t.regs.Orig_rax = userCS, userSS, flagsDefault, noCall
	t.proc = &process{tgid: tid}
	t.as = newAddressSpace()
	s.adopt(t)
	return t, nil
}

// adopt makes t known.
func (s *shard) adopt(t *Thread) {
	t.proc.threads.Add(1)
	t.as.add(t.proc.tgid, t.tid)
	s.threads.Add(1)
	s.p.threads.add(t)
	if t.tid == t.proc.tgid {
		s.p.idle.born()
	}
}

// close ends all stubs of the shard and waits for them.
func (s *shard) close() {
	if s.post(func() {}) {
		<-s.done
	}
	s.lead.close()
	unix.Close(s.fam.sock)
	if s.fam.listener >= 0 {
		unix.Close(s.fam.listener)
	}
}

// reapAll kills whatever lives and takes one more round of events; false when nothing is left.
func (s *shard) reapAll() bool {
	s.p.threads.each(func(t *Thread) {
		if t.s == s {
			unix.Kill(t.proc.tgid, unix.SIGKILL)
		}
	})
	for tid := range s.poolTids {
		unix.Kill(tid, unix.SIGKILL)
	}
	unix.Kill(s.fam.zygote, unix.SIGKILL)
	unix.Kill(s.fam.keeper, unix.SIGKILL)
	var ws unix.WaitStatus
	for {
		tid, err := wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD: nobody is left
			break
		}
		if !ws.Stopped() {
			if t := s.p.threads.get(tid); t != nil && t.s == s {
				s.bury(t)
			}
			continue
		}
		// A thread that was born while its creator was killed.
		unix.Kill(tid, unix.SIGKILL)
		_ = ptrace(unix.PTRACE_CONT, tid, 0, 0)
	}
	s.queue.Lock()
	list := s.queue.list
	s.queue.list, s.queue.closed = nil, true
	s.queue.Unlock()
	for _, f := range list { // those who wait find their threads dead
		f()
	}
	return false
}
