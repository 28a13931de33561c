package chrdev

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func TestRTC(t *testing.T) {
	c := root()
	ops, err := openRTC(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRTC(c, nil); err != unix.EBUSY {
		t.Error("opened twice:", err)
	}
	r := ops.(rtcFile)
	f := file(r, unix.O_RDONLY|unix.O_NONBLOCK)
	ioctl := func(cmd uint32, in any) error {
		if in != nil {
			b, err := binary.Append(nil, binary.LittleEndian, in)
			if err != nil {
				t.Fatal(err)
			}
			copy(c.mem[:], b)
		}
		_, err := r.Ioctl(c, f, cmd, 0x1000)
		return err
	}
	read := func() (v unix.RTCTime) {
		t.Helper()
		if err := ioctl(unix.RTC_RD_TIME, nil); err != nil {
			t.Fatal(err)
		}
		binary.Read(bytes.NewReader(c.mem[:]), binary.LittleEndian, &v)
		return v
	}
	v := read()
	if now, err := goTime(&v); err != nil || ktime.Now().Sub(now).Abs() > time.Minute {
		t.Errorf("%+v", v)
	}
	want := unix.RTCTime{Sec: 59, Min: 59, Hour: 23, Mday: 29, Mon: 1, Year: 128, Wday: 2, Yday: 59}
	if err := ioctl(unix.RTC_SET_TIME, want); err != nil {
		t.Fatal(err)
	}
	if v := read(); v.Year != 128 || v.Yday < 59 || v.Yday > 60 {
		t.Errorf("%+v", v)
	}
	// The guest's clock is another one.
	ktime.Step(int64(1000 * time.Hour))
	if v := read(); v.Year != 128 || v.Yday < 59 || v.Yday > 60 {
		t.Errorf("set with CLOCK_REALTIME: %+v", v)
	}
	ktime.Step(-int64(1000 * time.Hour))
	for _, bad := range []unix.RTCTime{{}, {Mday: 30, Mon: 1, Year: 128}, {Mday: 1, Mon: 12, Year: 128}, {Sec: 60, Mday: 1, Year: 128}, {Mday: 1, Year: -5}, {Mday: 1, Year: 1 << 30}} {
		if err := ioctl(unix.RTC_SET_TIME, bad); err != unix.EINVAL {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	c.cred = &cred.Cred{UID: 1000}
	if err := ioctl(unix.RTC_SET_TIME, want); err != unix.EACCES {
		t.Error(err)
	}
	// An alarm that has passed, one that comes, and the interrupts of seconds.
	past := wakeAlarm{Enabled: 1, Time: rtcTime(RTCNow().Add(-time.Hour))}
	if err := ioctl(unix.RTC_WKALM_SET, past); err != unix.ETIME {
		t.Error(err)
	}
	next := wakeAlarm{Enabled: 1, Time: rtcTime(RTCNow().Add(time.Hour))}
	if err := ioctl(unix.RTC_WKALM_SET, next); err != nil {
		t.Error(err)
	}
	var got wakeAlarm
	if err := ioctl(unix.RTC_WKALM_RD, nil); err != nil {
		t.Error(err)
	}
	if binary.Read(bytes.NewReader(c.mem[:]), binary.LittleEndian, &got); got != next {
		t.Errorf("%+v, want %+v", got, next)
	}
	b := make([]byte, 8)
	if _, err := r.Read(c, f, uio.ToBytes(b), 0); err != unix.EAGAIN {
		t.Error(err)
	}
	rtc.mu.Lock()
	rtc.update, rtc.alarm, rtc.last = true, rtcNowLocked().Unix(), 0
	rtc.mu.Unlock()
	rtcTick()
	if r.Readiness(wait.In) != wait.In {
		t.Error("not readable")
	}
	if n, err := r.Read(c, f, uio.ToBytes(b), 0); n != 8 || err != nil || binary.LittleEndian.Uint64(b) != 1<<8|rtcIRQ|rtcAlarm|rtcUpdate {
		t.Errorf("%x %d %v", b, n, err)
	}
	if _, err := r.Read(c, f, uio.ToBytes(b[:3]), 0); err != unix.EINVAL {
		t.Error(err)
	}
	if err := ioctl(0x1234, nil); err != unix.ENOTTY {
		t.Error(err)
	}
	r.Release(f)
	// Periodic interrupts.
	set := func(cmd uint32, arg uint64) error { _, err := r.Ioctl(c, f, cmd, arg); return err }
	if err := set(unix.RTC_IRQP_SET, 65); err != unix.EACCES {
		t.Error(err)
	}
	c.cred = root().cred
	for _, bad := range []uint64{0, 8193, 1 << 40} {
		if err := set(unix.RTC_IRQP_SET, bad); err != unix.EINVAL {
			t.Error(bad, err)
		}
	}
	if err := set(unix.RTC_IRQP_SET, 1024); err != nil {
		t.Error(err)
	}
	if err := set(unix.RTC_IRQP_READ, 0x1000); err != nil || binary.LittleEndian.Uint64(c.mem[:]) != 1024 {
		t.Error(err, c.mem[:8])
	}
	if err := set(unix.RTC_PIE_ON, 0); err != nil {
		t.Error(err)
	}
	count := uint64(0)
	for end := time.Now().Add(20 * time.Second); count < 20 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, err := r.Read(c, f, uio.ToBytes(b), 0); err == nil && n == 8 {
			v := binary.LittleEndian.Uint64(b)
			if v&0xff != rtcIRQ|rtcPeriod {
				t.Errorf("%x", v)
			}
			count += v >> 8
		}
	}
	if err := set(unix.RTC_PIE_OFF, 0); err != nil || count < 20 {
		t.Error(err, count)
	}
	if _, err := r.Read(c, f, uio.ToBytes(b[:5]), 0); err != unix.EINVAL {
		t.Error(err)
	}
	if rtc.timer != nil {
		t.Error("the timer runs on")
	}
}

// testDog notes what is done to it.
type testDog struct{ did string }

func (d *testDog) Start() error { d.did += "start "; return nil }
func (d *testDog) Ping() error  { d.did += "ping "; return nil }
func (d *testDog) Stop()        { d.did += "stop " }
func (d *testDog) Timeout() int { return 60 }

func TestWatchdog(t *testing.T) {
	c := root()
	if _, err := openWatchdog(c, nil); err != unix.ENODEV {
		t.Error(err)
	}
	d := &testDog{}
	SetDog(d)
	for _, v := range []struct {
		writes []string
		did    string
	}{
		{nil, "start ping "}, {[]string{"x", "y"}, "start ping ping ping "}, {[]string{"xVx"}, "start ping stop "}, {[]string{"V", "x"}, "start ping ping ping "},
		{[]string{""}, "start ping "},
	} {
		d.did = ""
		ops, err := openWatchdog(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openWatchdog(c, nil); err != unix.EBUSY {
			t.Error(err)
		}
		w := ops.(*watchdog)
		for _, s := range v.writes {
			if n, err := w.Write(c, nil, uio.FromBytes([]byte(s)), 0); n != len(s) || err != nil {
				t.Error(n, err)
			}
		}
		w.Release(nil)
		if d.did != v.did {
			t.Errorf("%q: %q, want %q", v.writes, d.did, v.did)
		}
	}
	ops, _ := openWatchdog(c, nil)
	w := ops.(*watchdog)
	defer w.Release(nil)
	if _, err := w.Ioctl(c, nil, unix.WDIOC_GETSUPPORT, 0x1000); err != nil || string(c.mem[8:29]) != "UML Hardware Watchdog" {
		t.Errorf("%q %v", c.mem[:40], err)
	}
	if _, err := w.Ioctl(c, nil, unix.WDIOC_GETTIMEOUT, 0x1000); err != nil || c.mem[0] != 60 {
		t.Error(err)
	}
	d.did = ""
	if _, err := w.Ioctl(c, nil, unix.WDIOC_KEEPALIVE, 0); err != nil || d.did != "ping " {
		t.Error(err)
	}
	if _, err := w.Ioctl(c, nil, unix.TCGETS, 0); err != unix.ENOTTY {
		t.Error(err)
	}
	d.did = ""
	for _, v := range []struct {
		options byte
		err     error
	}{{0, unix.EINVAL}, {wdDisableCard, nil}, {wdEnableCard, nil}, {wdDisableCard, nil}} {
		copy(c.mem[:], []byte{v.options, 0, 0, 0})
		if _, err := w.Ioctl(c, nil, unix.WDIOC_SETOPTIONS, 0x1000); err != v.err {
			t.Errorf("options %d: %v", v.options, err)
		}
		_, _ = w.Ioctl(c, nil, unix.WDIOC_KEEPALIVE, 0)
	}
	if d.did != "ping stop start ping stop " {
		t.Errorf("%q", d.did)
	}
}

func TestHwrng(t *testing.T) {
	c := root()
	b := make([]byte, 64)
	if n, err := (hwrng{}).Read(c, nil, uio.ToBytes(b), 0); n != 64 || err != nil || bytes.Equal(b, make([]byte, 64)) {
		t.Error(n, err)
	}
	if _, err := (hwrng{}).Ioctl(c, nil, rndGetEntCnt, 0x1000); err != unix.ENOTTY {
		t.Error(err)
	}
}
