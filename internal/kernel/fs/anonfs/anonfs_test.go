package anonfs

import (
	"encoding/binary"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func read(c vfs.Caller, f *vfs.File) (uint64, error) {
	var b [8]byte
	_, err := f.Ops.Read(c, f, uio.ToBytes(b[:]), 0)
	return binary.LittleEndian.Uint64(b[:]), err
}

func write(c vfs.Caller, f *vfs.File, v uint64) error {
	_, err := f.Ops.Write(c, f, uio.FromBytes(binary.LittleEndian.AppendUint64(nil, v)), 0)
	return err
}

func TestEventFD(t *testing.T) {
	c := vfstest.NoFS()
	f := NewEventFD(c, 3, unix.EFD_NONBLOCK)
	if v, err := read(c, f); v != 3 || err != nil {
		t.Fatal(v, err)
	}
	if _, err := read(c, f); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if err := write(c, f, math.MaxUint64); err != unix.EINVAL {
		t.Fatal(err)
	}
	if err := write(c, f, eventMax); err != nil {
		t.Fatal(err)
	}
	if err := write(c, f, 1); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if ev := f.Ops.Readiness(wait.All); ev != wait.In {
		t.Fatalf("%x", ev)
	}
	f.Ops.(*EventFD).Add(5)
	if ev := f.Ops.Readiness(wait.All); ev != wait.In|wait.Err {
		t.Fatalf("%x", ev)
	}
	s := NewEventFD(c, 2, unix.EFD_SEMAPHORE)
	for range 2 {
		if v, err := read(c, s); v != 1 || err != nil {
			t.Fatal(v, err)
		}
	}
	c.Interrupt()
	if _, err := read(c, s); err != abi.ERESTARTSYS {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { write(vfstest.NoFS(), s, 1) })
	if v, err := read(c, s); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	wg.Wait()
}

func TestTimerFD(t *testing.T) {
	c := vfstest.NoFS()
	f, err := NewTimerFD(c, unix.CLOCK_REALTIME, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := TimerFDOf(f)
	x.Set(0, 1000, 0)
	if v, err := read(c, f); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	if v, i := x.Get(); v != 0 || i != 0 {
		t.Fatal(v, i)
	}
	x.Set(0, 1, 1)
	for range 3 {
		if v, err := read(c, f); v == 0 || err != nil {
			t.Fatal(v, err)
		}
	}
	if v, i := x.Set(unix.TFD_TIMER_ABSTIME, math.MaxInt64, 7); v == 0 || i != 1 {
		t.Fatal(v, i)
	}
	if f.Ops.Readiness(wait.In) != 0 {
		t.Fatal("expired too early")
	}
	if v, _ := x.Get(); v < 1e18 {
		t.Fatal(v)
	}
	f.DecRef()
	c.Creds = c.Creds.Copy()
	c.Creds.Effective = 0
	if _, err := NewTimerFD(c, unix.CLOCK_BOOTTIME_ALARM, 0); err != unix.EPERM {
		t.Fatal(err)
	}
}

// signals is a SignalSource.
type signals struct {
	q       wait.Queue
	mu      sync.Mutex
	pending []arch.Siginfo
}

func (s *signals) DequeueSignal(mask arch.SigSet) (arch.Siginfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 || !mask.Has(unix.Signal(s.pending[0].Signo)) {
		return arch.Siginfo{}, false
	}
	i := s.pending[0]
	s.pending = s.pending[1:]
	return i, true
}

func (s *signals) PendingSignals() (set arch.SigSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pending {
		set |= arch.SigBit(unix.Signal(s.pending[i].Signo))
	}
	return set
}

func (s *signals) SignalQueue() *wait.Queue { return &s.q }

func TestSignalFD(t *testing.T) {
	c, src := vfstest.NoFS(), &signals{}
	f := NewSignalFD(c, src, arch.SigBit(unix.SIGUSR1)|arch.SigBit(unix.SIGKILL), unix.SFD_NONBLOCK)
	if SignalFDOf(f).sigset() != arch.SigBit(unix.SIGUSR1) {
		t.Fatal("SIGKILL in the set")
	}
	buf := make([]byte, 300)
	if _, err := f.Ops.Read(c, f, uio.ToBytes(buf), 0); err != unix.EAGAIN {
		t.Fatal(err)
	}
	src.pending = []arch.Siginfo{arch.InfoKernel(unix.SIGUSR1), arch.InfoKernel(unix.SIGUSR1), arch.InfoKernel(unix.SIGUSR1)}
	if f.Ops.Readiness(wait.In) == 0 {
		t.Fatal("not readable")
	}
	if n, err := f.Ops.Read(c, f, uio.ToBytes(buf), 0); n != 256 || err != nil || buf[128] != byte(unix.SIGUSR1) {
		t.Fatal(n, err)
	}
	if _, err := f.Ops.Read(c, f, uio.ToBytes(buf[:127]), 0); err != unix.EINVAL {
		t.Fatal(err)
	}
	SignalFDOf(f).SetMask(0)
	if f.Ops.Readiness(wait.In) != 0 {
		t.Fatal("readable")
	}
}
