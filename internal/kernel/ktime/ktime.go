// Package ktime reads the guest's clocks.
//
// The guest's CLOCK_MONOTONIC is the host's, so that the vDSO, native futex timeouts and the kernel agree; CLOCK_BOOTTIME
// is so, too. Uptime counts from the guest's boot. CLOCK_REALTIME is the host's, and what the guest has set it forward or back.
package ktime

import (
	"sync"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

var bootMono = nanotime()

// Monotonic is CLOCK_MONOTONIC in nanoseconds.
func Monotonic() int64 { return nanotime() }

// Suspended is for how long the host has slept, by which its CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, in nanoseconds. Set
// once at boot; nil is not at all.
var Suspended func() int64

// Boottime is CLOCK_BOOTTIME in nanoseconds.
func Boottime() int64 {
	if Suspended == nil {
		return nanotime()
	}
	return nanotime() + Suspended()
}

// Realtime is CLOCK_REALTIME in nanoseconds since 1970.
func Realtime() int64 { return time.Now().UnixNano() + clock.offset.Load() }

// Now is CLOCK_REALTIME.
func Now() time.Time { return time.Now().Add(time.Duration(clock.offset.Load())) }

// clock is by how much the guest's CLOCK_REALTIME is ahead of the host's, and who wants to know when it is set.
var clock struct {
	offset atomic.Int64
	setMu  sync.Mutex // held while it is set
	mu     sync.Mutex
	subs   map[*Setting]struct{}
}

// Setting is told when CLOCK_REALTIME has been set, and by how many nanoseconds it went forward. Func is called without
// locks, and may be called once more after Unsubscribe has returned.
type Setting struct{ Func func(delta int64) }

// Subscribe registers s, Unsubscribe ends that. Both may be called again and again.
func (s *Setting) Subscribe() {
	clock.mu.Lock()
	defer clock.mu.Unlock()
	if clock.subs == nil {
		clock.subs = map[*Setting]struct{}{}
	}
	clock.subs[s] = struct{}{}
}

// Unsubscribe ends Subscribe.
func (s *Setting) Unsubscribe() {
	clock.mu.Lock()
	delete(clock.subs, s)
	clock.mu.Unlock()
}

// Stepped is told first when CLOCK_REALTIME has been set, with by how much it is ahead of the host's then. Set once at
// boot.
var Stepped func(offset int64)

// Step moves CLOCK_REALTIME by delta nanoseconds.
func Step(delta int64) {
	clock.setMu.Lock()
	defer clock.setMu.Unlock()
	now := clock.offset.Add(delta)
	if Stepped != nil {
		Stepped(now)
	}
	clock.mu.Lock()
	list := make([]*Setting, 0, len(clock.subs))
	for s := range clock.subs {
		list = append(list, s)
	}
	clock.mu.Unlock()
	for _, s := range list {
		s.Func(delta)
	}
}

// Uptime is the time since the guest booted.
func Uptime() time.Duration { return time.Duration(nanotime() - bootMono) }

// BootTime is CLOCK_REALTIME at boot, in seconds (btime of /proc/stat).
func BootTime() int64 { return (Realtime() - int64(Uptime())) / 1e9 }

// shortest is the shortest time in which a periodic timer expires again.
const shortest = 100 * time.Microsecond

// Pace is how long to wait for a deadline of a timer with an interval, 0 for none. Intervals that would make the host busy
// with nothing are stretched: what expires in between counts as overruns.
func Pace(deadline, interval int64) time.Duration {
	d := max(time.Duration(deadline-Monotonic()), 0)
	if interval > 0 && interval < int64(shortest) {
		d = max(d, shortest)
	}
	return d
}

// Forever is a deadline that never comes.
const Forever = int64(1<<63 - 1)

// After is the monotonic deadline that comes in d; it saturates at Forever.
func After(d time.Duration) int64 {
	n := nanotime()
	if int64(d) > Forever-n {
		return Forever
	}
	return n + int64(d)
}
