package skas

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 5000 {
		if cond() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatal("never: ", what)
}

// A storm of kicks on a process that reads byte after byte: no call may be lost or made twice.
func TestKickStorm(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		tk := k.load(progSum)
		tk.th.Resume()
		const n = 3000
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			for !stop.Load() {
				tk.th.Kick()
				time.Sleep(50 * time.Microsecond)
			}
		}()
		c := byte(1)
		for i := range n {
			k.in <- c
			if c++; c == 0 {
				c = 1
			}
			if i%64 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
		k.in <- 0
		got := tk.finish()
		stop.Store(true)
		<-done
		if !slices.Equal(got, []int64{n, 0}) {
			t.Fatal(got)
		}
		if tk.kicks == 0 {
			t.Error("no kick arrived")
		}
	})
}

// A blocked call moves into a ptrace stop and still returns its value.
func TestParkTransfer(t *testing.T) {
	k := newKernel(t, Config{})
	var tasks []*task
	for range 40 {
		tk := k.load(progSleep, 0)
		tk.th.Resume()
		tasks = append(tasks, tk)
	}
	for _, tk := range tasks {
		th := tk.th.(*Thread)
		eventually(t, "parked", func() bool {
			th.mu.Lock()
			defer th.mu.Unlock()
			return th.parked
		})
	}
	// With everybody parked the lane is as quick as ever; and calls work.
	if got := k.run(progCount, 100); !slices.Equal(got, []int64{100}) {
		t.Fatal(got)
	}
	for i, tk := range tasks {
		if i%2 == 0 {
			tk.th.Kick() // remembered until the call is over
		}
		close(tk.wake)
		if got := tk.finish(); !slices.Equal(got, []int64{99}) {
			t.Fatal(got)
		}
		if i%2 == 0 && tk.kicks != 1 {
			t.Errorf("%d kicks", tk.kicks)
		}
	}
}

// asleep waits until the host thread sleeps in a call.
func asleep(t *testing.T, tk *task) {
	t.Helper()
	eventually(t, "asleep", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tk.th.HostTID()))
		return bytes.Contains(b, []byte(") S "))
	})
}

// What a handler finds when it kicks a thread out of user code, a futex and a spin of native calls.
func TestKickedWhere(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		type seen struct {
			rax, orig int64
		}
		got := make(chan seen, 8)
		k.onStop = func(th platform.Thread, ev *platform.Event) platform.Action {
			r, err := th.Regs()
			if err != nil || ev.Kind != platform.Kicked {
				t.Error(err, ev)
				return platform.Dead
			}
			got <- seen{int64(r.Rax), int64(r.Orig_rax)}
			return platform.Hold
		}
		kick := func(prog int) (*task, seen) {
			tk := k.load(prog)
			tk.th.Resume()
			if prog == progFutex {
				asleep(t, tk)
			} else {
				time.Sleep(20 * time.Millisecond)
			}
			tk.th.Kick()
			select {
			case s := <-got:
				return tk, s
			case <-time.After(10 * time.Second):
				t.Fatal("no stop")
				return nil, seen{}
			}
		}
		tk, s := kick(progFutex)
		if s.orig != unix.SYS_FUTEX || s.rax != -512 {
			t.Errorf("in a futex: %+v", s)
		}
		// Resumed as it is, the host restarts the call; a kick shows it there again.
		tk.th.Resume()
		asleep(t, tk)
		tk.th.Kick()
		if s := <-got; s.orig != unix.SYS_FUTEX || s.rax != -512 {
			t.Errorf("in a futex again: %+v", s)
		}
		r, _ := tk.th.Regs()
		regs := *r
		regs.Rax = ^uint64(unix.EINTR) + 1
		if err := tk.th.SetRegs(&regs); err != nil {
			t.Fatal(err)
		}
		tk.th.Resume()
		if v := tk.finish(); !slices.Equal(v, []int64{-int64(unix.EINTR)}) {
			t.Errorf("futex returned %v", v)
		}
		tk, s = kick(progSpin)
		if s.orig != -1 {
			t.Errorf("in user code: %+v", s)
		}
		// Held, the thread's memory and registers can be used; Syscall and CompareAndSwap32 work.
		if v, err := tk.th.Syscall(unix.SYS_GETPID, platform.Args{}); err != nil || int(v) != tk.th.HostTID() {
			t.Errorf("Syscall: %d %v", v, err)
		}
		if _, err := tk.th.AddressSpace().WriteAt([]byte{7, 0, 0, 0}, imageBase+imageSize-8); err != nil {
			t.Error(err)
		}
		if v, err := tk.th.CompareAndSwap32(imageBase+imageSize-8, 7, 9); err != nil || v != 7 {
			t.Errorf("cmpxchg: %d %v", v, err)
		}
		if v, err := tk.th.CompareAndSwap32(imageBase+imageSize-8, 7, 9); err != nil || v != 9 {
			t.Errorf("cmpxchg: %d %v", v, err)
		}
		if _, err := tk.th.CompareAndSwap32(0x1000, 7, 9); err != unix.EFAULT {
			t.Errorf("cmpxchg of nothing: %v", err)
		}
		fp, err := tk.th.FPState()
		if err != nil || len(fp) < 512 {
			t.Errorf("FPState: %d %v", len(fp), err)
		}
		if err := tk.th.SetFPState(fp); err != nil {
			t.Error(err)
		}
		tk.th.Kill()
		<-tk.proc.done
	})
}

// Actions of a notify-lane handler: Stop shows the value at a Kicked stop, Hold keeps the thread until Resume.
func TestStopAndHoldActions(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		for _, act := range []platform.Action{platform.Stop, platform.Hold} {
			values := make(chan uint64, 1)
			var called atomic.Bool
			k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
				if nr != unix.SYS_GETPPID {
					return platform.Return{}, false
				}
				called.Store(true)
				return platform.Return{Value: 5, Action: act}, true
			}
			k.onStop = func(th platform.Thread, ev *platform.Event) platform.Action {
				r, _ := th.Regs()
				values <- r.Rax
				r.Rax = 6
				_ = th.SetRegs(r)
				return platform.Resume
			}
			tk := k.load(progCount, 1)
			tk.th.Resume()
			want := int64(6)
			if act == platform.Hold {
				eventually(t, "held", func() bool { return called.Load() && tk.th.Held() })
				tk.th.Resume()
				want = 5
			} else if v := <-values; v != 5 {
				t.Errorf("stopped with %d", v)
			}
			if got := tk.finish(); !slices.Equal(got, []int64{want}) {
				t.Errorf("action %d: %v", act, got)
			}
		}
	})
}

// Single steps.
func TestResumeStep(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		steps := make(chan uint64, 8)
		k.onStop = func(th platform.Thread, ev *platform.Event) platform.Action {
			if ev.Kind != platform.Step {
				t.Errorf("%+v", ev)
			}
			r, _ := th.Regs()
			steps <- r.Rip
			return platform.Hold
		}
		tk := k.load(progCount, 10)
		last := uint64(0)
		for range 5 {
			tk.th.ResumeStep()
			rip := <-steps
			if rip == last {
				t.Error("did not move")
			}
			last = rip
		}
		tk.th.Resume()
		if got := tk.finish(); !slices.Equal(got, []int64{10}) {
			t.Error(got)
		}
	})
}

// Hosts before 6.18 may forget an answer that comes together with a signal, and leave the call to be made again. The stop
// that must follow puts that right.
func TestForgottenAnswer(t *testing.T) {
	k := newKernel(t, Config{Seccomp: On})
	k.onStop = func(platform.Thread, *platform.Event) platform.Action { return platform.Hold }
	tk := k.load(progSpin)
	tk.th.Resume()
	time.Sleep(5 * time.Millisecond)
	tk.th.Kick()
	eventually(t, "held", tk.th.Held)
	th := tk.th.(*Thread)
	th.s.call(func() {
		r := th.regs
		r.Rax, r.Orig_rax = ^uint64(511), unix.SYS_READ
		if err := ptraceSetRegs(th.tid, &r); err != nil {
			t.Error(err)
		}
		th.mu.Lock()
		th.state, th.fix, th.fixValue, th.kicked = running, true, 77, true
		th.mu.Unlock()
		th.s.kickStop(th)
		if th.regs.Rax != 77 || th.regs.Orig_rax != noCall || !th.dirty || th.regs.Rip != r.Rip {
			t.Errorf("rax %d, orig_rax %d", th.regs.Rax, th.regs.Orig_rax)
		}
		// The same without an answer: the call has not happened.
		if err := ptraceSetRegs(th.tid, &r); err != nil {
			t.Error(err)
		}
		th.mu.Lock()
		th.state, th.kicked = running, true
		th.mu.Unlock()
		th.s.kickStop(th)
		if th.regs.Rax != unix.SYS_READ || th.regs.Orig_rax != noCall || th.regs.Rip != r.Rip-2 {
			t.Errorf("rax %d, orig_rax %d, rip %#x", th.regs.Rax, th.regs.Orig_rax, th.regs.Rip)
		}
	})
	tk.th.Kill()
	<-tk.proc.done
}

// On hosts before Linux 5.19 whatever wakes a thread takes it out of its call, even if that is being served: the freezer, a
// signal from outside. The call is made once for all that.
func TestInterruptedCalls(t *testing.T) {
	flags := filterFlags
	filterFlags = flags[1:]
	defer func() { filterFlags = flags }()
	k := newKernel(t, Config{Seccomp: On, Shards: 1})
	var calls atomic.Int32
	release := make(chan struct{})
	k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
		if nr != unix.SYS_NANOSLEEP {
			return platform.Return{}, false
		}
		calls.Add(1)
		<-release
		return platform.Return{Value: 99}, true
	}
	for _, c := range []struct {
		name        string
		early, kick bool // the answer comes while the thread is out of its call; so does a kick
	}{{"answered later", false, false}, {"answered meanwhile", true, false}, {"kicked meanwhile", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			calls.Store(0)
			tk := k.load(progSleep, 0)
			th := tk.th.(*Thread)
			th.Resume()
			eventually(t, "called", func() bool { return calls.Load() == 1 })
			id := func() uint64 {
				th.mu.Lock()
				defer th.mu.Unlock()
				return th.notifyID
			}
			first := id()
			held, hold := make(chan struct{}), make(chan struct{})
			goOn := sync.OnceFunc(func() { close(hold) })
			defer goOn()
			if c.early { // the tracer leaves the thread where the signal stops it
				th.s.post(func() { close(held); <-hold })
				<-held
			}
			tgkill(th.proc.tgid, th.tid, unix.SIGWINCH)
			if c.early {
				eventually(t, "out of its call", func() bool { return !notifValid(th.s.fam.listener, first) })
				release <- struct{}{}
				eventually(t, "kept", func() bool {
					th.mu.Lock()
					defer th.mu.Unlock()
					return th.kept
				})
				if c.kick {
					th.Kick()
				}
				goOn()
			} else {
				eventually(t, "called again", func() bool { return id() != first })
				release <- struct{}{}
			}
			if got := tk.finish(); !slices.Equal(got, []int64{99}) || calls.Load() != 1 {
				t.Errorf("%v, %d calls", got, calls.Load())
			}
		})
	}
}
