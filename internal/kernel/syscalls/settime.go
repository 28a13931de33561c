package syscalls

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// latestSec is the highest time that the clock can be set to, in seconds, latest in nanoseconds: some thirty years before
// numbers end.
const (
	latestSec = math.MaxInt64/1_000_000_000 - 30*365*24*3600
	latest    = latestSec * 1_000_000_000
)

// stepClock moves CLOCK_REALTIME. EINVAL if it would show a time before the guest's boot in 1970 or one that is too late.
func stepClock(t *task.Task, delta int64) error {
	if now := ktime.Realtime(); delta > 0 && now > latest-delta || now+delta < ktime.Monotonic() {
		return unix.EINVAL
	}
	ktime.Step(delta)
	return nil
}

// mayStep is the permission to change clocks: EPERM.
func mayStep(t *task.Task) error {
	if !t.Cred().Capable(unix.CAP_SYS_TIME) {
		return unix.EPERM
	}
	return nil
}

// sysClockSettime implements clock_settime(2). The clock is the guest's alone.
func sysClockSettime(t *task.Task, a *platform.Args) (uint64, error) {
	clock := i32(a[0])
	if clock > unix.CLOCK_REALTIME || clock < 0 && clock&7 == 3 {
		return 0, unix.EINVAL
	}
	ns, err := readTimespec(t, a[1])
	if err != nil {
		return 0, err
	}
	if clock < 0 { // a CPU-time clock
		if _, err := cpuClock(t, clock); err != nil {
			return 0, err
		}
		return 0, unix.EPERM
	}
	if err := mayStep(t); err != nil {
		return 0, err
	}
	return 0, stepClock(t, ns-ktime.Realtime())
}

// sysSettimeofday implements settimeofday(2). The time zone is not used.
func sysSettimeofday(t *task.Task, a *platform.Args) (uint64, error) {
	var b [16]byte
	if a[0] != 0 {
		if err := uio.ReadFull(t.Mem(), b[:], a[0]); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		var zone [8]byte
		if err := uio.ReadFull(t.Mem(), zone[:], a[1]); err != nil {
			return 0, err
		}
	}
	sec, usec := int64(le.Uint64(b[:])), int64(le.Uint64(b[8:]))
	if usec < 0 || usec > 1e6 || sec < 0 || sec > latestSec {
		return 0, unix.EINVAL
	}
	if err := mayStep(t); err != nil || a[0] == 0 {
		return 0, err
	}
	return 0, stepClock(t, sec*1e9+usec*1e3-ktime.Realtime())
}

// Modes and fields of struct timex (adjtimex(2)); offsets in bytes.
const (
	adjOffset     = 0x1
	adjFrequency  = 0x2
	adjMaxerror   = 0x4
	adjEsterror   = 0x8
	adjStatus     = 0x10
	adjTimeconst  = 0x20
	adjSetoffset  = 0x100
	adjMicro      = 0x1000
	adjNano       = 0x2000
	adjTick       = 0x4000
	adjSingleshot = 0x8001
	adjSsRead     = 0xa001

	timexSize      = 208
	timexOffset    = 8
	timexFreq      = 16
	timexMaxerror  = 24
	timexEsterror  = 32
	timexStatus    = 40
	timexConstant  = 48
	timexPrecision = 56
	timexTolerance = 64
	timexTime      = 72
	timexTick      = 88

	staUnsync = 0x40
	staNano   = 0x2000
	staRW     = 0xff // the bits of status that programs set
)

// discipline is what programs have told about the clock's rate, which is the host's to steer.
var discipline struct {
	mu                                       sync.Mutex
	freq, maxerror, esterror, constant, tick int64
	status                                   uint32
}

func init() {
	discipline.maxerror, discipline.esterror, discipline.tick, discipline.status = 16e6, 16e6, 10000, staUnsync
}

// sysAdjtimex implements adjtimex(2).
func sysAdjtimex(t *task.Task, a *platform.Args) (uint64, error) { return adjtimex(t, a[0]) }

// sysClockAdjtime implements clock_adjtime(2).
func sysClockAdjtime(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[0]) != unix.CLOCK_REALTIME {
		return 0, unix.EINVAL
	}
	return adjtimex(t, a[1])
}

func adjtimex(t *task.Task, addr uint64) (uint64, error) {
	var b [timexSize]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return 0, err
	}
	modes := le.Uint32(b[:])
	field := func(off int) int64 { return int64(le.Uint64(b[off:])) }
	put := func(off int, v int64) { le.PutUint64(b[off:], uint64(v)) }
	if modes != 0 && modes != adjSsRead {
		if err := mayStep(t); err != nil {
			return 0, err
		}
		step, err := timexStep(modes, field)
		if err == nil && step != 0 {
			err = stepClock(t, step)
		}
		if err != nil {
			return 0, err
		}
	}
	d := &discipline
	d.mu.Lock()
	defer d.mu.Unlock()
	if modes != adjSingleshot && modes != adjSsRead {
		for _, f := range []struct {
			mode uint32
			off  int
			to   *int64
		}{{adjFrequency, timexFreq, &d.freq}, {adjMaxerror, timexMaxerror, &d.maxerror}, {adjEsterror, timexEsterror, &d.esterror},
			{adjTimeconst, timexConstant, &d.constant}, {adjTick, timexTick, &d.tick}} {
			if modes&f.mode != 0 {
				*f.to = field(f.off)
			}
		}
		if modes&adjStatus != 0 {
			d.status = d.status&^staRW | le.Uint32(b[timexStatus:])&staRW
		}
		if modes&adjNano != 0 {
			d.status |= staNano
		} else if modes&adjMicro != 0 {
			d.status &^= staNano
		}
	}
	clear(b[4:])
	put(timexFreq, d.freq)
	put(timexMaxerror, d.maxerror)
	put(timexEsterror, d.esterror)
	le.PutUint32(b[timexStatus:], d.status)
	put(timexConstant, d.constant)
	put(timexPrecision, 1)
	put(timexTolerance, 500<<16) // parts per million
	now := ktime.Realtime()
	put(timexTime, now/1e9)
	fraction := now % 1e9
	if d.status&staNano == 0 {
		fraction /= 1e3
	}
	put(timexTime+8, fraction)
	put(timexTick, d.tick)
	state := uint64(0) // TIME_OK
	if d.status&staUnsync != 0 {
		state = 5 // TIME_ERROR
	}
	return state, uio.WriteFull(t.Mem(), b[:], addr)
}

// timexStep is by how many nanoseconds the clock is to be moved. Small offsets, which Linux works off slowly, are too.
func timexStep(modes uint32, field func(int) int64) (int64, error) {
	unit := int64(1e3)
	if modes&adjNano != 0 && modes != adjSingleshot {
		unit = 1
	}
	switch {
	case modes == adjSingleshot:
		if v := field(timexOffset); v > -1e12 && v < 1e12 {
			return v * unit, nil
		}
		return 0, unix.EINVAL
	case modes&adjSetoffset != 0:
		sec, part := field(timexTime), field(timexTime+8)
		if part < 0 || part >= 1e9/unit || sec > latestSec || sec < -latestSec {
			return 0, unix.EINVAL
		}
		return sec*1e9 + part*unit, nil
	case modes&adjOffset != 0:
		return max(min(field(timexOffset), 5e8/unit), -5e8/unit) * unit, nil
	}
	return 0, nil
}
