package syscalls

import (
	"math/bits"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/poll"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func init() {
	register(map[int]Entry{
		unix.SYS_POLL:     {Name: "poll", Fn: sysPoll},
		unix.SYS_PPOLL:    {Name: "ppoll", Fn: sysPpoll},
		unix.SYS_SELECT:   {Name: "select", Fn: sysSelect},
		unix.SYS_PSELECT6: {Name: "pselect6", Fn: sysPselect6},
	})
}

// deadlineIn is the deadline that comes in ns nanoseconds: 0, for no waiting, if that is now.
func deadlineIn(ns int64) int64 {
	if ns <= 0 {
		return 0
	}
	return ktime.After(time.Duration(ns))
}

// millis is the deadline of a timeout in milliseconds; a negative one never comes.
func millis(ms int32) int64 {
	if ms < 0 {
		return ktime.Forever
	}
	return deadlineIn(int64(ms) * 1e6)
}

// withSigmask runs f with the signal mask at addr, or with the present one if that is 0.
func withSigmask(t *task.Task, addr, size uint64, f func() (uint64, error)) (uint64, error) {
	if addr == 0 {
		return f()
	}
	if size != 8 {
		return 0, unix.EINVAL
	}
	mask, err := readSigset(t, addr)
	if err != nil {
		return 0, err
	}
	return t.WithSigmask(arch.SigSet(mask), f)
}

// pollSet is the working memory of one call.
type pollSet struct{ items []poll.Item }

var pollSets = sync.Pool{New: func() any { return new(pollSet) }}

// getPollSet makes room for n items, which are zero.
func getPollSet(n int) *pollSet {
	p := pollSets.Get().(*pollSet)
	if cap(p.items) < n {
		p.items = make([]poll.Item, n)
	}
	p.items = p.items[:n]
	return p
}

func (p *pollSet) put() {
	for i := range p.items {
		if f := p.items[i].File; f != nil {
			f.DecRef()
		}
		p.items[i] = poll.Item{}
	}
	if cap(p.items) <= 256 {
		pollSets.Put(p)
	}
}

// sysPoll implements poll(2).
func sysPoll(t *task.Task, a *platform.Args) (uint64, error) {
	return pollUntil(t, a[0], u32(a[1]), millis(i32(a[2])))
}

// pollUntil is poll with a deadline; restart_syscall goes on with the same one.
func pollUntil(t *task.Task, addr uint64, n uint32, deadline int64) (uint64, error) {
	v, err := doPoll(t, addr, n, deadline)
	if err == abi.ERESTARTSYS {
		t.SetRestart(func(t *task.Task) (uint64, error) { return pollUntil(t, addr, n, deadline) })
		err = abi.ERESTART_RESTARTBLOCK
	}
	return v, err
}

// sysPpoll implements ppoll(2).
func sysPpoll(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := ktime.Forever
	if a[2] != 0 {
		ns, err := readTimespec(t, a[2])
		if err != nil {
			return 0, err
		}
		deadline = deadlineIn(ns)
	}
	return withSigmask(t, a[3], a[4], func() (uint64, error) {
		v, err := doPoll(t, a[0], u32(a[1]), deadline)
		if a[2] != 0 {
			_ = writeTimespec(t, a[2], remaining(deadline)) // as in Linux, a read-only timeout is no error
		}
		return v, noHand(err)
	})
}

// remaining is the time to a deadline, for calls that tell it.
func remaining(deadline int64) int64 { return max(deadline-ktime.Monotonic(), 0) }

// noHand makes an interrupted call one that is restarted only if no handler runs.
func noHand(err error) error {
	if err == abi.ERESTARTSYS {
		return abi.ERESTARTNOHAND
	}
	return err
}

// doPoll polls the n struct pollfd at addr.
func doPoll(t *task.Task, addr uint64, n uint32, deadline int64) (uint64, error) {
	if uint64(n) > t.Rlimit(unix.RLIMIT_NOFILE) || n > 1<<20 {
		return 0, unix.EINVAL
	}
	s := getScratch()
	defer s.put()
	raw := s.buf[:]
	if 8*int(n) > len(raw) {
		raw = make([]byte, 8*n)
	}
	raw = raw[:8*n]
	if n > 0 {
		if err := uio.ReadFull(t.Mem(), raw, addr); err != nil {
			return 0, err
		}
	}
	set := getPollSet(int(n))
	defer set.put()
	bad := 0
	for i := range set.items {
		p := raw[8*i:]
		le.PutUint16(p[6:], 0)
		fd := int32(le.Uint32(p))
		if fd < 0 {
			continue
		}
		f, err := openFile(t, uint64(uint32(fd)))
		if err != nil {
			le.PutUint16(p[6:], unix.POLLNVAL)
			bad++
			continue
		}
		set.items[i].File, set.items[i].Mask = f, wait.Events(le.Uint16(p[4:]))
	}
	if bad > 0 {
		deadline = 0
	}
	got, err := poll.Wait(t, set.items, deadline)
	if err != nil {
		return 0, err
	}
	for i := range set.items {
		if ev := set.items[i].Got; ev != 0 {
			le.PutUint16(raw[8*i+6:], uint16(ev))
		}
	}
	if n > 0 {
		if err := uio.WriteFull(t.Mem(), raw, addr); err != nil {
			return 0, err
		}
	}
	return uint64(got + bad), nil
}

// sysSelect implements select(2).
func sysSelect(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := ktime.Forever
	if a[4] != 0 {
		var b [16]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[4]); err != nil {
			return 0, err
		}
		sec, usec := int64(le.Uint64(b[:])), int64(le.Uint64(b[8:]))
		// As in Linux whole seconds may be in the microseconds.
		if sec, usec = sec+usec/1e6, usec%1e6; sec < 0 || usec < 0 {
			return 0, unix.EINVAL
		}
		if sec < ktime.Forever/1e9 {
			deadline = deadlineIn(sec*1e9 + usec*1e3)
		}
	}
	v, err := doSelect(t, a, deadline)
	if a[4] != 0 {
		var b [16]byte
		_ = uio.WriteFull(t.Mem(), appendTimeval(b[:0], remaining(deadline)), a[4]) // a read-only timeout is no error
	}
	return v, noHand(err)
}

// sysPselect6 implements pselect(2).
func sysPselect6(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := ktime.Forever
	if a[4] != 0 {
		ns, err := readTimespec(t, a[4])
		if err != nil {
			return 0, err
		}
		deadline = deadlineIn(ns)
	}
	var mask, size uint64
	if a[5] != 0 {
		var b [16]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[5]); err != nil {
			return 0, err
		}
		mask, size = le.Uint64(b[:]), le.Uint64(b[8:])
	}
	return withSigmask(t, mask, size, func() (uint64, error) {
		v, err := doSelect(t, a, deadline)
		if a[4] != 0 {
			_ = writeTimespec(t, a[4], remaining(deadline)) // a read-only timeout is no error
		}
		return v, noHand(err)
	})
}

// The events of the three sets of select, as Linux has them.
var selectEvents = [3]wait.Events{
	wait.RdNorm | wait.RdBand | wait.In | wait.Hup | wait.Err,
	wait.WrBand | wait.WrNorm | wait.Out | wait.Err,
	wait.Pri,
}

// doSelect polls the sets at a[1..3], of a[0] descriptors.
func doSelect(t *task.Task, a *platform.Args, deadline int64) (uint64, error) {
	n := int(i32(a[0]))
	if n < 0 {
		return 0, unix.EINVAL
	}
	n = min(n, t.Files().Size())
	words := (n + 63) / 64
	sets := make([]uint64, 3*words)
	raw := make([]byte, 8*words)
	for i := range 3 {
		if a[1+i] == 0 || n == 0 {
			continue
		}
		if err := uio.ReadFull(t.Mem(), raw, a[1+i]); err != nil {
			return 0, err
		}
		for w := range words {
			sets[i*words+w] = le.Uint64(raw[8*w:])
		}
		if n%64 != 0 {
			sets[(i+1)*words-1] &= 1<<(n%64) - 1
		}
	}
	count := 0
	for w := range words {
		count += bits.OnesCount64(sets[w] | sets[words+w] | sets[2*words+w])
	}
	set := getPollSet(count)
	defer set.put()
	fds := make([]int, 0, count)
	for fd := range n {
		w, bit := fd/64, uint64(1)<<(fd%64)
		var mask wait.Events
		for i := range 3 {
			if sets[i*words+w]&bit != 0 {
				mask |= selectEvents[i]
			}
		}
		if mask == 0 {
			continue
		}
		f, err := openFile(t, uint64(fd))
		if err != nil {
			return 0, err
		}
		it := &set.items[len(fds)]
		it.File, it.Mask, it.Exact = f, mask, true
		fds = append(fds, fd)
	}
	total, err := selectWait(t, set.items, fds, sets, words, deadline)
	if err != nil {
		return 0, err
	}
	for i := range 3 {
		if a[1+i] == 0 || n == 0 {
			continue
		}
		for w := range words {
			le.PutUint64(raw[8*w:], sets[i*words+w])
		}
		if err := uio.WriteFull(t.Mem(), raw, a[1+i]); err != nil {
			return 0, err
		}
	}
	return uint64(total), nil
}

// selectWait waits and leaves in sets the bits that are ready; it returns how many.
func selectWait(t *task.Task, items []poll.Item, fds []int, sets []uint64, words int, deadline int64) (total int, err error) {
	if _, err := poll.Wait(t, items, deadline); err != nil {
		return 0, err
	}
	for k, fd := range fds {
		w, bit := fd/64, uint64(1)<<(fd%64)
		for i := range 3 {
			p := &sets[i*words+w]
			if *p&bit == 0 {
				continue
			}
			if items[k].Got&selectEvents[i] != 0 {
				total++
			} else {
				*p &^= bit
			}
		}
	}
	return total, nil
}
