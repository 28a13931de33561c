package chrdev

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// RTCMajor is the major number of /dev/rtc0; Linux takes a free one.
const RTCMajor = 254

// Flags of what a read returns, below a count of events in the higher bits (rtc(4), linux/rtc.h).
const (
	rtcIRQ    = 0x80
	rtcPeriod = 0x40
	rtcAlarm  = 0x20
	rtcUpdate = 0x10
)

// Rates of periodic interrupts in Hz (rtc(4)): any up to rtcMaxFreq, for users without CAP_SYS_RESOURCE up to rtcUserFreq.
const (
	rtcMaxFreq  = 8192
	rtcUserFreq = 64
)

// rtc is the clock of /dev/rtc0 (rtc(4)): the host's time in UTC, and how far the guest has set it off. It can be opened once at a
// time. Besides telling the time it gives interrupts each second, at an alarm and at a rate.
var rtc struct {
	queue wait.Queue

	mu     sync.Mutex
	offset time.Duration
	open   bool
	// alarm is when (Unix seconds, 0 for never), alarmOn whether it gives an interrupt; update whether each second does.
	alarm           int64
	alarmOn, update bool
	pending         uint64 // what the next read returns, 0 for nothing yet
	timer           *time.Timer
	last            int64 // the second of which interrupts were given
	// freq is the rate of periodic interrupts, of which count have been given since started; periods gives the next, nil while
	// they are off.
	freq    int
	started time.Time
	count   int64
	periods *time.Timer
}

func init() { rtc.freq = 1 }

// RTCNow is the time of the clock.
func RTCNow() time.Time {
	rtc.mu.Lock()
	defer rtc.mu.Unlock()
	return rtcNowLocked()
}

// rtcNowLocked goes by the host's clock: that the guest sets CLOCK_REALTIME is nothing to a clock with a battery.
func rtcNowLocked() time.Time { return time.Now().Add(rtc.offset).UTC() }

type rtcFile struct{ vfs.FileBase }

func openRTC(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	rtc.mu.Lock()
	defer rtc.mu.Unlock()
	if rtc.open {
		return nil, unix.EBUSY
	}
	rtc.open, rtc.pending = true, 0
	return rtcFile{}, nil
}

// Release ends the interrupts.
func (rtcFile) Release(*vfs.File) {
	rtc.mu.Lock()
	defer rtc.mu.Unlock()
	rtc.open, rtc.update, rtc.alarmOn = false, false, false
	rtcArmLocked()
	rtcPeriodsLocked(false)
}

// rtcPeriodsLocked begins or ends periodic interrupts.
func rtcPeriodsLocked(on bool) {
	if rtc.periods != nil {
		rtc.periods.Stop()
		rtc.periods = nil
	}
	if on {
		rtc.started, rtc.count = time.Now(), 0
		rtcNextPeriodLocked()
	}
}

// rtcNextPeriodLocked sets the timer for the next periodic interrupt. Who falls behind gets those that were missed at once,
// in one count.
func rtcNextPeriodLocked() {
	next := rtc.started.Add(time.Duration(rtc.count+1) * time.Second / time.Duration(rtc.freq))
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(next), func() {
		rtc.mu.Lock()
		if rtc.periods != timer {
			rtc.mu.Unlock()
			return // turned off meanwhile
		}
		due := int64(time.Since(rtc.started).Seconds() * float64(rtc.freq))
		n := max(due-rtc.count, 1)
		rtc.count += n
		rtc.pending = (rtc.pending + uint64(n)<<8) | rtcIRQ | rtcPeriod
		rtcNextPeriodLocked()
		rtc.mu.Unlock()
		rtc.queue.Notify(wait.In | wait.RdNorm)
	})
	rtc.periods = timer
}

// rtcArmLocked sets the timer for the next second in which there is an interrupt.
func rtcArmLocked() {
	if rtc.timer != nil {
		rtc.timer.Stop()
		rtc.timer = nil
	}
	now := rtcNowLocked()
	next := int64(0)
	if rtc.alarmOn && rtc.alarm > now.Unix() {
		next = rtc.alarm
	}
	if rtc.update {
		next = now.Unix() + 1
	}
	if next != 0 {
		rtc.timer = time.AfterFunc(time.Unix(next, 0).Sub(now), rtcTick)
	}
}

// rtcTick gives the interrupts of this second.
func rtcTick() {
	rtc.mu.Lock()
	now := rtcNowLocked().Unix()
	var flags uint64
	if rtc.update && now > rtc.last {
		flags |= rtcUpdate
	}
	if rtc.alarmOn && rtc.alarm <= now {
		flags |= rtcAlarm
		rtc.alarmOn = false
	}
	if flags != 0 {
		rtc.last = now
		rtc.pending = (rtc.pending + 1<<8) | rtcIRQ | flags
	}
	rtcArmLocked()
	rtc.mu.Unlock()
	if flags != 0 {
		rtc.queue.Notify(wait.In | wait.RdNorm)
	}
}

// Read waits for an interrupt.
func (rtcFile) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if n := dst.Len(); n != 4 && n < 8 {
		return 0, unix.EINVAL // an unsigned int or an unsigned long
	}
	var b [8]byte
	take := func() bool {
		rtc.mu.Lock()
		defer rtc.mu.Unlock()
		if rtc.pending == 0 {
			return false
		}
		binary.LittleEndian.PutUint64(b[:], rtc.pending)
		rtc.pending = 0
		return true
	}
	if !take() {
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		if err := rtc.queue.Wait(c, wait.Readable, ktime.Forever, take); err != nil {
			return 0, err
		}
	}
	if dst.Len() < 8 {
		return dst.CopyOut(b[:4])
	}
	return dst.CopyOut(b[:])
}

// Readiness is poll(2).
func (rtcFile) Readiness(mask wait.Events) wait.Events {
	rtc.mu.Lock()
	defer rtc.mu.Unlock()
	if rtc.pending == 0 {
		return 0
	}
	return mask & (wait.In | wait.RdNorm)
}

// WaitQueue is notified at interrupts.
func (rtcFile) WaitQueue() *wait.Queue { return &rtc.queue }

// Ioctl is rtc(4).
func (rtcFile) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case unix.RTC_RD_TIME:
		return 0, putStruct(c, arg, rtcTime(RTCNow()))
	case unix.RTC_SET_TIME:
		var v unix.RTCTime
		if err := getStruct(c, arg, &v); err != nil {
			return 0, err
		}
		if !c.Cred().Capable(unix.CAP_SYS_TIME) {
			return 0, unix.EACCES
		}
		t, err := goTime(&v)
		if err != nil {
			return 0, err
		}
		rtc.mu.Lock()
		rtc.offset = time.Until(t)
		rtcArmLocked()
		rtc.mu.Unlock()
		return 0, nil
	case unix.RTC_ALM_READ, unix.RTC_WKALM_RD:
		rtc.mu.Lock()
		w := wakeAlarm{Time: rtcTime(time.Unix(rtc.alarm, 0).UTC())}
		if rtc.alarmOn {
			w.Enabled = 1
		}
		rtc.mu.Unlock()
		if cmd == unix.RTC_ALM_READ {
			return 0, putStruct(c, arg, w.Time)
		}
		return 0, putStruct(c, arg, w)
	case unix.RTC_ALM_SET:
		var v unix.RTCTime
		if err := getStruct(c, arg, &v); err != nil {
			return 0, err
		}
		// Only the time of day counts: today, or tomorrow if that has passed.
		now := RTCNow()
		v.Mday, v.Mon, v.Year = int32(now.Day()), int32(now.Month())-1, int32(now.Year())-1900
		t, err := goTime(&v)
		if err != nil {
			return 0, err
		}
		if !t.After(now) {
			t = t.AddDate(0, 0, 1)
		}
		rtc.mu.Lock()
		rtc.alarm = t.Unix()
		rtcArmLocked()
		rtc.mu.Unlock()
		return 0, nil
	case unix.RTC_WKALM_SET:
		var w wakeAlarm
		if err := getStruct(c, arg, &w); err != nil {
			return 0, err
		}
		t, err := goTime(&w.Time)
		if err != nil {
			return 0, err
		}
		if w.Enabled != 0 && !t.After(RTCNow()) {
			return 0, unix.ETIME
		}
		rtc.mu.Lock()
		rtc.alarm, rtc.alarmOn = t.Unix(), w.Enabled != 0
		rtcArmLocked()
		rtc.mu.Unlock()
		return 0, nil
	case unix.RTC_AIE_ON, unix.RTC_AIE_OFF, unix.RTC_UIE_ON, unix.RTC_UIE_OFF:
		rtc.mu.Lock()
		switch cmd {
		case unix.RTC_AIE_ON, unix.RTC_AIE_OFF:
			rtc.alarmOn = cmd == unix.RTC_AIE_ON
		default:
			rtc.update = cmd == unix.RTC_UIE_ON
			rtc.last = rtcNowLocked().Unix()
		}
		rtcArmLocked()
		rtc.mu.Unlock()
		return 0, nil
	case unix.RTC_IRQP_READ:
		rtc.mu.Lock()
		freq := rtc.freq
		rtc.mu.Unlock()
		return 0, uio.WriteFull(c.Mem(), binary.LittleEndian.AppendUint64(nil, uint64(freq)), arg)
	case unix.RTC_IRQP_SET, unix.RTC_PIE_ON, unix.RTC_PIE_OFF:
		return 0, rtcPeriodic(c, cmd, arg)
	}
	return 0, unix.ENOTTY
}

// rtcPeriodic changes the periodic interrupts.
func rtcPeriodic(c vfs.Caller, cmd uint32, arg uint64) error {
	rtc.mu.Lock()
	defer rtc.mu.Unlock()
	freq := uint64(rtc.freq)
	if cmd == unix.RTC_IRQP_SET {
		freq = arg
	}
	if cmd != unix.RTC_PIE_OFF && freq > rtcUserFreq && !c.Cred().Capable(unix.CAP_SYS_RESOURCE) {
		return unix.EACCES
	}
	switch {
	case cmd == unix.RTC_PIE_OFF:
		rtcPeriodsLocked(false)
	case freq == 0 || freq > rtcMaxFreq:
		return unix.EINVAL
	case cmd == unix.RTC_PIE_ON:
		if rtc.periods == nil {
			rtcPeriodsLocked(true)
		}
	default:
		rtc.freq = int(freq)
		if rtc.periods != nil {
			rtcPeriodsLocked(true)
		}
	}
	return nil
}

// wakeAlarm is struct rtc_wkalrm with its padding.
type wakeAlarm struct {
	Enabled, Pending uint8
	_                [2]uint8
	Time             unix.RTCTime
}

// rtcTime makes a struct rtc_time.
func rtcTime(t time.Time) unix.RTCTime {
	return unix.RTCTime{Sec: int32(t.Second()), Min: int32(t.Minute()), Hour: int32(t.Hour()), Mday: int32(t.Day()),
		Mon: int32(t.Month()) - 1, Year: int32(t.Year()) - 1900, Wday: int32(t.Weekday()), Yday: int32(t.YearDay()) - 1}
}

// goTime reads one; EINVAL if there is no such time.
func goTime(v *unix.RTCTime) (time.Time, error) {
	if v.Year < 70 || v.Year > 8099 {
		return time.Time{}, unix.EINVAL
	}
	t := time.Date(int(v.Year)+1900, time.Month(v.Mon+1), int(v.Mday), int(v.Hour), int(v.Min), int(v.Sec), 0, time.UTC)
	if r := rtcTime(t); r.Sec != v.Sec || r.Min != v.Min || r.Hour != v.Hour || r.Mday != v.Mday || r.Mon != v.Mon || r.Year != v.Year {
		return time.Time{}, unix.EINVAL
	}
	return t, nil
}

func putStruct(c vfs.Caller, addr uint64, v any) error {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		return unix.EINVAL
	}
	return uio.WriteFull(c.Mem(), b, addr)
}

func getStruct(c vfs.Caller, addr uint64, v any) error {
	b := make([]byte, binary.Size(v))
	if err := uio.ReadFull(c.Mem(), b, addr); err != nil {
		return err
	}
	return binary.Read(bytes.NewReader(b), binary.LittleEndian, v)
}
