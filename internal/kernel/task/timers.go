package task

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// groupTimers are the interval and POSIX timers of a process. mu is above sigMu: signals are sent without it.
type groupTimers struct {
	mu      sync.Mutex
	stopped bool
	real    itimer
	cpu     [2]itimer // ITIMER_VIRTUAL, ITIMER_PROF: deadlines are CPU time
	cpuTick *time.Timer
	posix   map[int32]*posixTimer
	nextID  int32
	cpuWarn uint64 // RLIMIT_CPU seconds at which SIGXCPU was last sent
}

// itimer is one of setitimer(2)'s timers. Times are nanoseconds.
type itimer struct {
	deadline int64 // 0 when disarmed
	interval int64
	timer    *time.Timer
	gen      uint64
}

// stop ends all timers of a process that exits.
func (ts *groupTimers) stop() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.stopped = true
	if ts.real.timer != nil {
		ts.real.timer.Stop()
	}
	if ts.cpuTick != nil {
		ts.cpuTick.Stop()
	}
	for _, p := range ts.posix {
		p.disarm()
	}
	ts.posix = nil
}

// farAway bounds intervals, so that a deadline plus an interval is a time: no timer lives for 146 years.
const farAway = ktime.Forever / 2

// Itimer is what getitimer(2) returns: time to the next expiry and the interval, in nanoseconds.
func (g *ThreadGroup) Itimer(which int) (value, interval int64, err error) {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return g.itimerLocked(which)
}

func (g *ThreadGroup) itimerLocked(which int) (value, interval int64, err error) {
	ts := &g.timers
	switch which {
	case unix.ITIMER_REAL:
		it := &ts.real
		if it.deadline == 0 {
			return 0, it.interval, nil
		}
		return max(it.deadline-ktime.Monotonic(), 1000), it.interval, nil
	case unix.ITIMER_VIRTUAL, unix.ITIMER_PROF:
		it := &ts.cpu[which-unix.ITIMER_VIRTUAL]
		if it.deadline == 0 {
			return 0, it.interval, nil
		}
		return max(it.deadline-g.cpuClock(which), 1000), it.interval, nil
	}
	return 0, 0, unix.EINVAL
}

// SetItimer implements setitimer(2) and returns the old values.
func (g *ThreadGroup) SetItimer(which int, value, interval int64) (oldValue, oldInterval int64, err error) {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	value, interval = min(value, farAway), min(interval, farAway)
	if oldValue, oldInterval, err = g.itimerLocked(which); err != nil || ts.stopped {
		return oldValue, oldInterval, err
	}
	if which == unix.ITIMER_REAL {
		it := &ts.real
		it.interval = interval
		it.gen++
		if it.timer != nil {
			it.timer.Stop()
		}
		it.deadline = 0
		if value > 0 {
			it.deadline = ktime.After(time.Duration(value))
			g.armReal(it)
		}
		return oldValue, oldInterval, nil
	}
	it := &ts.cpu[which-unix.ITIMER_VIRTUAL]
	it.interval, it.deadline = interval, 0
	if value > 0 {
		it.deadline = g.cpuClock(which) + value
	}
	g.armCPULocked()
	return oldValue, oldInterval, nil
}

func (g *ThreadGroup) armReal(it *itimer) {
	gen := it.gen
	it.timer = time.AfterFunc(ktime.Pace(it.deadline, it.interval), func() { g.realExpired(gen) })
}

func (g *ThreadGroup) realExpired(gen uint64) {
	ts := &g.timers
	ts.mu.Lock()
	it := &ts.real
	if it.gen != gen || it.deadline == 0 || ts.stopped {
		ts.mu.Unlock()
		return
	}
	if it.interval > 0 {
		now := ktime.Monotonic()
		it.deadline += it.interval
		if it.deadline <= now {
			it.deadline += (now - it.deadline) / it.interval * it.interval
			if it.deadline <= now {
				it.deadline += it.interval
			}
		}
		g.armReal(it)
	} else {
		it.deadline = 0
	}
	ts.mu.Unlock()
	g.send(nil, arch.InfoKernel(unix.SIGALRM), false)
}

// cpuClock is the clock of an interval timer: user time, or user and system time, in nanoseconds.
func (g *ThreadGroup) cpuClock(which int) int64 {
	u, s := g.CPUTimes()
	if which == unix.ITIMER_VIRTUAL {
		return u
	}
	return u + s
}

// CPUClock is the process's CPU time in nanoseconds.
func (g *ThreadGroup) CPUClock() int64 { return g.cpuClock(unix.ITIMER_PROF) }

// cpuPeriod is how exact CPU timers are. The host does not tell when CPU time has passed; it is asked while such a timer
// runs, no later than the process could have used it up on all CPUs.
const cpuPeriod = 4 * time.Millisecond

// armCPULocked sees to it that CPU-time deadlines are looked at in time.
func (g *ThreadGroup) armCPULocked() {
	ts := &g.timers
	if ts.stopped {
		return
	}
	wait := int64(-1)
	need := func(left int64) {
		left = max(left/int64(max(g.k.Platform.NumCPU(), 1)), int64(cpuPeriod))
		if wait < 0 || left < wait {
			wait = left
		}
	}
	for i := range ts.cpu {
		if d := ts.cpu[i].deadline; d != 0 {
			need(d - g.cpuClock(i+unix.ITIMER_VIRTUAL))
		}
	}
	for _, p := range ts.posix {
		if p.cpu && p.deadline != 0 {
			need(p.deadline - p.now())
		}
	}
	if l := g.Rlimit(unix.RLIMIT_CPU); l.Cur < 1<<32 {
		next := l.Cur
		if ts.cpuWarn >= l.Cur {
			next = min(ts.cpuWarn+1, l.Max)
		}
		need(int64(next)*1e9 - g.CPUClock())
	}
	if wait < 0 {
		if ts.cpuTick != nil {
			ts.cpuTick.Stop()
		}
		return
	}
	if ts.cpuTick == nil {
		ts.cpuTick = time.AfterFunc(time.Duration(wait), g.cpuExpired)
	} else {
		ts.cpuTick.Reset(time.Duration(wait))
	}
}

func (ts *groupTimers) cpuLimitChanged(g *ThreadGroup) {
	go func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.cpuWarn = 0
		g.armCPULocked()
	}()
}

// cpuExpired looks at the CPU-time deadlines.
func (g *ThreadGroup) cpuExpired() {
	ts := &g.timers
	ts.mu.Lock()
	if ts.stopped {
		ts.mu.Unlock()
		return
	}
	var fire []func()
	for i := range ts.cpu {
		it := &ts.cpu[i]
		if it.deadline == 0 || g.cpuClock(i+unix.ITIMER_VIRTUAL) < it.deadline {
			continue
		}
		if it.interval > 0 {
			it.deadline += ((g.cpuClock(i+unix.ITIMER_VIRTUAL)-it.deadline)/it.interval + 1) * it.interval
		} else {
			it.deadline = 0
		}
		sig := [2]unix.Signal{unix.SIGVTALRM, unix.SIGPROF}[i]
		fire = append(fire, func() { g.send(nil, arch.InfoKernel(sig), false) })
	}
	for _, p := range ts.posix {
		if p.cpu && p.deadline != 0 && p.now() >= p.deadline {
			fire = append(fire, p.expireLocked())
		}
	}
	if l := g.Rlimit(unix.RLIMIT_CPU); l.Cur < 1<<32 {
		secs := uint64(g.CPUClock() / 1e9)
		switch {
		case secs >= l.Max:
			fire = append(fire, func() { g.send(nil, arch.InfoKernel(unix.SIGKILL), true) })
		case secs >= l.Cur && secs > ts.cpuWarn:
			ts.cpuWarn = max(secs, l.Cur)
			fire = append(fire, func() { g.send(nil, arch.InfoKernel(unix.SIGXCPU), false) })
		}
	}
	g.armCPULocked()
	ts.mu.Unlock()
	for _, f := range fire {
		f()
	}
}

// posixTimer is one of timer_create(2)'s. Guarded by groupTimers.mu.
type posixTimer struct {
	g        *ThreadGroup
	id       int32
	clock    int32
	cpu      bool
	notify   int32
	sig      unix.Signal
	value    uint64
	thread   *Task // SIGEV_THREAD_ID
	deadline int64 // of the timer's clock; 0 when disarmed
	interval int64
	timer    *time.Timer
	gen      uint64
	pending  bool  // its signal is queued
	missed   int64 // expiries since it was queued
	overrun  int32
	cpuNow   func() int64
	onSet    ktime.Setting // subscribed while it waits for a time of CLOCK_REALTIME
}

// clockSet is called when CLOCK_REALTIME has been set.
func (p *posixTimer) clockSet(delta int64) {
	ts := &p.g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if p.deadline == 0 || ts.stopped {
		return
	}
	p.deadline = max(p.deadline-delta, 1)
	p.gen++
	p.timer.Stop()
	p.armLocked()
}

// now is the timer's clock: CLOCK_MONOTONIC for all real clocks (deadlines are converted when armed).
func (p *posixTimer) now() int64 {
	if p.cpu {
		return p.cpuNow()
	}
	return ktime.Monotonic()
}

func (p *posixTimer) disarm() {
	p.gen++
	p.onSet.Unsubscribe()
	p.deadline, p.interval = 0, 0
	if p.timer != nil {
		p.timer.Stop()
	}
}

// TimerSpec is what timer_create(2) is given.
type TimerSpec struct {
	Clock  int32
	Notify int32 // SIGEV_*
	Sig    unix.Signal
	Value  uint64
	// TID is SIGEV_THREAD_ID's thread.
	TID int32
	// UseID: no sigevent was given, the value is the timer's id.
	UseID bool
	// CPUNow reads the clock if it counts CPU time.
	CPUNow func() int64
}

// sigevThreadID is SIGEV_THREAD_ID, sigevNone SIGEV_NONE.
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThreadID = 4
)

// TimerCreate implements timer_create(2).
func (t *Task) TimerCreate(s TimerSpec) (int32, error) {
	g := t.Group
	p := &posixTimer{g: g, clock: s.Clock, cpu: s.CPUNow != nil, cpuNow: s.CPUNow, notify: s.Notify, sig: s.Sig, value: s.Value}
	switch s.Notify {
	case sigevNone:
	case sigevThreadID:
		x := t.K.FindTask(s.TID)
		if x == nil || x.Group != g {
			return 0, unix.EINVAL
		}
		p.thread = x
		fallthrough
	case sigevSignal, 2:
		if s.Sig < 1 || s.Sig > arch.NSIG {
			return 0, unix.EINVAL
		}
	default:
		return 0, unix.EINVAL
	}
	p.onSet.Func = p.clockSet
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.posix == nil {
		ts.posix = map[int32]*posixTimer{}
	}
	if uint64(len(ts.posix)) >= g.rlimitSigpending() {
		return 0, unix.EAGAIN
	}
	for ts.posix[ts.nextID] != nil {
		ts.nextID = (ts.nextID + 1) & 0x7fffffff
	}
	p.id = ts.nextID
	ts.nextID = (ts.nextID + 1) & 0x7fffffff
	if s.UseID {
		p.value = uint64(p.id)
	}
	ts.posix[p.id] = p
	return p.id, nil
}

// TimerInfo is what /proc/<pid>/timers tells of a timer.
type TimerInfo struct {
	ID, Clock, Notify int32
	Sig               unix.Signal
	Value             uint64
	TID               int32 // the thread that is notified, 0 for any
}

// Timers are the process's timers, the newest first.
func (g *ThreadGroup) Timers() []TimerInfo {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var out []TimerInfo
	for id, p := range ts.posix {
		info := TimerInfo{ID: id, Clock: p.clock, Notify: p.notify, Sig: p.sig, Value: p.value}
		if p.thread != nil {
			info.TID = p.thread.TID()
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b TimerInfo) int { return cmp.Compare(b.ID, a.ID) })
	return out
}

// TimerDelete implements timer_delete(2).
func (g *ThreadGroup) TimerDelete(id int32) error {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	p := ts.posix[id]
	if p == nil {
		return unix.EINVAL
	}
	p.disarm()
	delete(ts.posix, id)
	return nil
}

// leftLocked is the time to the next expiry.
func (p *posixTimer) leftLocked() int64 {
	if p.deadline == 0 {
		return 0
	}
	return max(p.deadline-p.now(), 1)
}

// TimerGet implements timer_gettime(2).
func (g *ThreadGroup) TimerGet(id int32) (value, interval int64, err error) {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	p := ts.posix[id]
	if p == nil {
		return 0, 0, unix.EINVAL
	}
	if p.notify == sigevNone && p.deadline != 0 && p.deadline <= p.now() && p.interval == 0 {
		return 0, 0, nil
	}
	return p.leftLocked(), p.interval, nil
}

// TimerSet implements timer_settime(2): value is relative, or absolute on the timer's clock.
func (g *ThreadGroup) TimerSet(id int32, abs bool, value, interval int64) (oldValue, oldInterval int64, err error) {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	p := ts.posix[id]
	if p == nil || ts.stopped {
		return 0, 0, unix.EINVAL
	}
	oldValue, oldInterval = p.leftLocked(), p.interval
	p.disarm()
	p.missed, p.overrun = 0, 0
	if value == 0 {
		return oldValue, oldInterval, nil
	}
	p.interval = min(interval, farAway)
	switch {
	case !abs:
		p.deadline = p.now() + min(value, ktime.Forever-p.now())
	case p.cpu:
		p.deadline = value
	default:
		p.deadline = MonotonicDeadline(p.clock, value)
	}
	p.deadline = max(p.deadline, 1)
	if p.cpu {
		g.armCPULocked()
	} else {
		p.armLocked()
		if abs && onRealtime(p.clock) {
			p.onSet.Subscribe()
		}
	}
	return oldValue, oldInterval, nil
}

func (p *posixTimer) armLocked() {
	gen := p.gen
	p.timer = time.AfterFunc(ktime.Pace(p.deadline, p.interval), func() {
		ts := &p.g.timers
		ts.mu.Lock()
		if p.gen != gen || p.deadline == 0 || ts.stopped {
			ts.mu.Unlock()
			return
		}
		f := p.expireLocked()
		if p.deadline != 0 {
			p.armLocked()
		}
		ts.mu.Unlock()
		f()
	})
}

// expireLocked counts an expiry, sets the next deadline and returns the sending of the signal.
func (p *posixTimer) expireLocked() func() {
	n := int64(1)
	if p.interval > 0 {
		now := p.now()
		n += max(now-p.deadline, 0) / p.interval
		p.deadline += n * p.interval
	} else {
		p.deadline = 0
	}
	if p.notify == sigevNone {
		return func() {}
	}
	if p.pending {
		p.missed += n
		return func() {}
	}
	p.pending, p.missed = true, n-1
	info := arch.InfoTimer(p.sig, p.id, 0, p.value)
	t := p.thread
	return func() {
		if p.g.send(t, info, false) != nil || !p.g.queuedTimer(t, p.sig) {
			p.g.timers.mu.Lock()
			p.pending = false
			p.g.timers.mu.Unlock()
		}
	}
}

// queuedTimer reports whether a signal is in the queue that send put it in (it may have been ignored).
func (g *ThreadGroup) queuedTimer(t *Task, sig unix.Signal) bool {
	g.sigMu.Lock()
	defer g.sigMu.Unlock()
	if t != nil {
		return t.pending.set.Has(sig)
	}
	return g.shared.set.Has(sig)
}

// timerTaken fills in the overrun count of a POSIX timer's signal when it is taken.
func (t *Task) timerTaken(s *arch.Siginfo) {
	if s.Code != arch.SI_TIMER {
		return
	}
	ts := &t.Group.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if p := ts.posix[s.TimerID()]; p != nil && p.pending {
		p.overrun = int32(min(p.missed, 1<<31-1))
		p.pending, p.missed = false, 0
		s.SetOverrun(p.overrun)
	}
}

// TimerOverrun implements timer_getoverrun(2).
func (g *ThreadGroup) TimerOverrun(id int32) (int32, error) {
	ts := &g.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	p := ts.posix[id]
	if p == nil {
		return 0, unix.EINVAL
	}
	return p.overrun, nil
}

// onRealtime reports whether a clock is one that can be set.
func onRealtime(clock int32) bool {
	return clock == unix.CLOCK_REALTIME || clock == unix.CLOCK_REALTIME_ALARM || clock == unix.CLOCK_TAI
}

// SleepUntil sleeps until a clock has reached a time, in spite of the clock being set. It returns what Sleep returns when
// it is interrupted.
func (t *Task) SleepUntil(clock int32, abs int64) error {
	if onRealtime(clock) {
		s := ktime.Setting{Func: func(int64) { t.Wake() }}
		s.Subscribe()
		defer s.Unsubscribe()
	}
	for {
		deadline := MonotonicDeadline(clock, abs)
		switch err := t.Sleep(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			if MonotonicDeadline(clock, abs) <= deadline {
				return nil
			}
		default:
			return err
		}
	}
}

// MonotonicDeadline converts an absolute time on a clock to CLOCK_MONOTONIC.
func MonotonicDeadline(clock int32, abs int64) int64 {
	var d int64
	switch {
	case onRealtime(clock):
		d = abs - ktime.Realtime()
	case clock == unix.CLOCK_BOOTTIME, clock == unix.CLOCK_BOOTTIME_ALARM:
		d = abs - ktime.Boottime()
	default:
		return abs
	}
	m := ktime.Monotonic()
	if d > ktime.Forever-m {
		return ktime.Forever
	}
	return m + d
}

// exec drops the POSIX timers, which a new program does not inherit; interval timers stay.
func (ts *groupTimers) exec() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, p := range ts.posix {
		p.disarm()
	}
	ts.posix = nil
}
