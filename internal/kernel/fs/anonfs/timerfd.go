package anonfs

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// TimerFD is the timer of timerfd_create(2).
type TimerFD struct {
	vfs.NoSeek

	clock int // immutable
	q     wait.Queue
	onSet ktime.Setting // subscribed while it waits for a time of CLOCK_REALTIME

	mu       sync.Mutex
	timer    *time.Timer
	armed    bool
	next     int64 // next expiry, CLOCK_MONOTONIC nanoseconds
	interval int64 // nanoseconds, 0 for a timer that expires once
	ticks    uint64
	flags    int    // of the last settime, for fdinfo
	canceled bool   // the clock was set (TFD_TIMER_CANCEL_ON_SET)
	gen      uint64 // counts settime calls, so that a late timer callback is ignored
}

// NewTimerFD makes a timerfd file: EINVAL for an unknown clock, EPERM for an alarm clock without CAP_WAKE_ALARM. flags are
// TFD_NONBLOCK.
func NewTimerFD(c vfs.Caller, clock int, flags uint32) (*vfs.File, error) {
	switch clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME:
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		if !c.Cred().Capable(unix.CAP_WAKE_ALARM) {
			return nil, unix.EPERM
		}
	default:
		return nil, unix.EINVAL
	}
	t := &TimerFD{clock: clock}
	t.onSet.Func = t.clockSet
	return newFile(c, "[timerfd]", t, unix.O_RDWR|flags&unix.O_NONBLOCK), nil
}

// TimerFDOf returns the timer behind an open file, nil if it is another kind of file.
func TimerFDOf(f *vfs.File) *TimerFD {
	t, _ := f.Ops.(*TimerFD)
	return t
}

// now is the timer's clock.
func (t *TimerFD) now() int64 {
	switch t.clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_ALARM:
		return ktime.Realtime()
	case unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return ktime.Boottime()
	}
	return ktime.Monotonic()
}

// Set is timerfd_settime(2): nanoseconds, value 0 disarms. It returns the old setting as Get does.
func (t *TimerFD) Set(flags int, value, interval int64) (oldValue, oldInterval int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked()
	oldValue, oldInterval = t.leftLocked(), t.interval
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	t.gen++
	t.ticks, t.armed, t.interval, t.flags, t.canceled = 0, value != 0, interval, flags, false
	if t.onRealtime() {
		t.onSet.Subscribe()
	} else {
		t.onSet.Unsubscribe()
	}
	if !t.armed {
		return
	}
	mono := ktime.Monotonic()
	if flags&unix.TFD_TIMER_ABSTIME != 0 {
		value -= t.now()
	}
	if value = max(value, 0); value > ktime.Forever-mono {
		value = ktime.Forever - mono
	}
	t.next = mono + value
	t.startLocked()
	return
}

// onRealtime reports whether setting the clock matters to the timer.
func (t *TimerFD) onRealtime() bool {
	return t.flags&unix.TFD_TIMER_ABSTIME != 0 && (t.clock == unix.CLOCK_REALTIME || t.clock == unix.CLOCK_REALTIME_ALARM) &&
		(t.armed || t.flags&unix.TFD_TIMER_CANCEL_ON_SET != 0)
}

// clockSet is called when CLOCK_REALTIME has been set.
func (t *TimerFD) clockSet(delta int64) {
	t.mu.Lock()
	if !t.onRealtime() {
		t.mu.Unlock()
		return
	}
	if t.armed {
		t.next -= delta
		t.gen++
		if t.timer != nil {
			t.timer.Stop()
		}
		t.startLocked()
	}
	cancel := t.flags&unix.TFD_TIMER_CANCEL_ON_SET != 0
	if cancel {
		t.canceled = true
		t.ticks++
	}
	t.mu.Unlock()
	if cancel {
		t.q.Notify(wait.In | wait.RdNorm)
	}
}

// Get is timerfd_gettime(2): the time to the next expiry, 0 when disarmed, and the interval.
func (t *TimerFD) Get() (value, interval int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked()
	return t.leftLocked(), t.interval
}

func (t *TimerFD) leftLocked() int64 {
	if !t.armed {
		return 0
	}
	return max(t.next-ktime.Monotonic(), 1)
}

// expireLocked counts the expiries that are due. The counter does not depend on the host timer, which only wakes waiters.
func (t *TimerFD) expireLocked() {
	now := ktime.Monotonic()
	if !t.armed || now < t.next {
		return
	}
	t.ticks++
	if t.interval == 0 {
		t.armed = false
		return
	}
	more := (now - t.next) / t.interval
	t.ticks += uint64(more)
	if next := t.next + (more+1)*t.interval; next > t.next {
		t.next = next
	} else {
		t.next = ktime.Forever
	}
}

// startLocked starts the host timer for the next expiry.
func (t *TimerFD) startLocked() {
	gen := t.gen
	t.timer = time.AfterFunc(ktime.Pace(t.next, t.interval), func() { t.fire(gen) })
}

// fire runs on the host timer. It does not start the next one: while expiries are unread nobody needs to be woken again,
// except an edge-triggered epoll, which is why an interval timer goes on while somebody is registered.
func (t *TimerFD) fire(gen uint64) {
	t.mu.Lock()
	if t.gen != gen {
		t.mu.Unlock()
		return
	}
	t.timer = nil
	t.expireLocked()
	if t.armed && (t.ticks == 0 || !t.q.Empty()) {
		t.startLocked()
	}
	t.mu.Unlock()
	t.q.Notify(wait.In | wait.RdNorm)
}

// wantLocked restarts the host timer of an armed timer that has stopped.
func (t *TimerFD) wantLocked() {
	if t.armed && t.timer == nil {
		t.startLocked()
	}
}

func (t *TimerFD) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if dst.Len() < 8 {
		return 0, unix.EINVAL
	}
	var n uint64
	canceled := false
	take := func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.expireLocked()
		n, t.ticks = t.ticks, 0
		canceled, t.canceled = t.canceled, false
		t.wantLocked()
		return n > 0
	}
	if !take() {
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		if err := t.q.Wait(c, wait.Readable, ktime.Forever, take); err != nil {
			return 0, err
		}
	}
	if canceled {
		return 0, unix.ECANCELED
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	return dst.CopyOut(b[:])
}

func (t *TimerFD) Write(vfs.Caller, *vfs.File, *uio.Src, int64) (int, error) { return 0, unix.EINVAL }

// WaitQueue is where expiries are notified.
func (t *TimerFD) WaitQueue() *wait.Queue { return &t.q }

// Readiness: readable when an expiry has not been read.
func (t *TimerFD) Readiness(mask wait.Events) wait.Events {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked()
	t.wantLocked()
	if t.ticks == 0 {
		return 0
	}
	return mask & wait.In
}

// Ioctl has TFD_IOC_SET_TICKS.
func (t *TimerFD) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	const setTicks = 0x40085400 // TFD_IOC_SET_TICKS, linux/timerfd.h
	if cmd != setTicks {
		return 0, unix.ENOTTY
	}
	var b [8]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n == 0 {
		return 0, unix.EINVAL
	}
	t.mu.Lock()
	t.ticks = n
	t.mu.Unlock()
	t.q.Notify(wait.In | wait.RdNorm)
	return 0, nil
}

// Release stops the timer.
func (t *TimerFD) Release(*vfs.File) { t.Set(0, 0, 0) }

// FdInfo is the lines of /proc/<pid>/fdinfo.
func (t *TimerFD) FdInfo(*vfs.File) string {
	value, interval := t.Get()
	t.mu.Lock()
	defer t.mu.Unlock()
	v, i := abi.NsecToTimespec(value), abi.NsecToTimespec(interval)
	return fmt.Sprintf("clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n",
		t.clock, t.ticks, t.flags, v.Sec, v.Nsec, i.Sec, i.Nsec)
}

var (
	_ vfs.FileOps  = (*TimerFD)(nil)
	_ vfs.Streamer = (*TimerFD)(nil)
	_ vfs.Ioctler  = (*TimerFD)(nil)
	_ vfs.FdInfoer = (*TimerFD)(nil)
)
