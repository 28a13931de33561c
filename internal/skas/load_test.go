package skas

import (
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// Many sleepers are all moved out of the notify lane, and all come back.
func TestThousandSleepers(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 300 processes")
	}
	k := newKernel(t, Config{Seccomp: On, Shards: 2})
	var tasks []*task
	for range 300 {
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
	for _, s := range k.p.shards {
		s.lead.mu.Lock()
		if s.lead.blocked.n != 0 {
			t.Errorf("%d calls wait in notifications", s.lead.blocked.n)
		}
		s.lead.mu.Unlock()
	}
	for _, tk := range tasks {
		close(tk.wake)
	}
	for _, tk := range tasks {
		if got := tk.finish(); !slices.Equal(got, []int64{99}) {
			t.Fatal(got)
		}
	}
}

// Threads that loop on a call of the trace lane do not keep others from being served.
func TestTrapLoopers(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
			return platform.Return{Value: 1}, nr == unix.SYS_BRK
		}
		var loopers []*task
		for range 8 {
			tk := k.load(progBrkForever)
			tk.th.Resume()
			loopers = append(loopers, tk)
		}
		if got := k.run(progForks, 20); !slices.Equal(got, []int64{20}) {
			t.Fatal(got)
		}
		for _, tk := range loopers {
			tk.th.Kill()
			<-tk.proc.done
		}
	})
}

// A handler that takes long without telling (Block) does not stop the lane.
func TestLeaderStall(t *testing.T) {
	k := newKernel(t, Config{Seccomp: On})
	release := make(chan struct{})
	k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
		if nr == unix.SYS_NANOSLEEP {
			<-release
			return platform.Return{Value: 4}, true
		}
		return platform.Return{}, false
	}
	tk := k.load(progSleep, 0)
	tk.th.Resume()
	time.Sleep(5 * time.Millisecond)
	if got := k.run(progCount, 50); !slices.Equal(got, []int64{50}) {
		t.Fatal(got)
	}
	close(release)
	if got := tk.finish(); !slices.Equal(got, []int64{4}) {
		t.Fatal(got)
	}
}

// A watched thread shows its native calls, entry and exit, and nothing any more when nobody watches.
func TestWatch(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		var kinds []platform.EventKind
		k.onStop = func(th platform.Thread, ev *platform.Event) platform.Action {
			kinds = append(kinds, ev.Kind)
			r, err := th.Regs()
			if err != nil || ev.Kind != platform.Kicked && int32(r.Orig_rax) != unix.SYS_SCHED_YIELD {
				t.Errorf("%+v in call %d, %v", ev, int64(r.Orig_rax), err)
			}
			if len(kinds) == 6 {
				th.Watch(platform.WatchNone)
			}
			return platform.Resume
		}
		tk := k.load(progYield, 10)
		tk.th.Watch(platform.WatchAll)
		tk.th.Resume()
		if got := tk.finish(); !slices.Equal(got, []int64{10}) {
			t.Fatal(got)
		}
		en, ex := platform.SyscallEntry, platform.SyscallExit
		if !slices.Equal(kinds, []platform.EventKind{en, ex, en, ex, en, ex}) {
			t.Error(kinds)
		}
	})
}

// A watcher can refuse a native call at its entry.
func TestWatchRefuses(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		k.onStop = func(th platform.Thread, ev *platform.Event) platform.Action {
			r, _ := th.Regs()
			if ev.Kind == platform.SyscallEntry && int32(r.Orig_rax) == unix.SYS_MMAP {
				regs := *r
				regs.Rax = ^uint64(unix.EPERM) + 1
				_ = th.SetRegs(&regs)
			}
			return platform.Resume
		}
		tk := k.load(progAnon, 1)
		tk.th.Watch(platform.WatchAll)
		tk.th.Resume()
		if got := tk.finish(); !slices.Equal(got, []int64{-int64(unix.EPERM)}) {
			t.Fatal(got)
		}
	})
}

// Processes that share memory (vfork, CLONE_VM): the memory lives as long as one of them.
func TestSharedAddressSpace(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		var child platform.Thread
		got := make(chan platform.Thread, 1)
		k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
			if nr != unix.SYS_FORK {
				return platform.Return{}, false
			}
			c, err := th.Clone(platform.CloneSpec{VM: true, Data: &task{k: k, proc: &proc{tasks: 1, done: make(chan struct{})}}})
			if err != nil {
				t.Error(err)
				return errno(unix.EAGAIN), true
			}
			got <- c
			return platform.Return{Value: 1, Action: platform.Hold}, true
		}
		tk := k.load(progForks, 1)
		tk.th.Resume()
		child = <-got
		if child.AddressSpace() != tk.th.AddressSpace() {
			t.Error("two address spaces")
		}
		if child.HostTID() == tk.th.HostTID() {
			t.Error("one thread")
		}
		tk.th.Kill()
		<-tk.proc.done
		var b [4]byte
		if _, err := child.AddressSpace().ReadAt(b[:], imageBase); err != nil || b != [4]byte(guestImage) {
			t.Errorf("%v %v", b, err)
		}
		maps, err := child.AddressSpace().Mappings()
		if err != nil || len(maps) < 2 {
			t.Errorf("%v %v", maps, err)
		}
		u, err := child.AddressSpace().Usage()
		if err != nil || u.VM == 0 {
			t.Errorf("%+v %v", u, err)
		}
		child.Kill()
		<-child.Data().(*task).proc.done
		if _, err := child.AddressSpace().ReadAt(b[:], imageBase); err != unix.EFAULT {
			t.Errorf("memory of the dead: %v", err)
		}
	})
}

// Threads and forks on several shards, while everything is kicked.
func TestKickedForksAndThreads(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		cfg.Shards = 2
		k := newKernel(t, cfg)
		var tasks []*task
		for i := range 4 {
			tk := k.load([]int{progForks, progThreads}[i%2], 40)
			tk.th.Resume()
			tasks = append(tasks, tk)
		}
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				for _, tk := range tasks {
					tk.th.Kick()
				}
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
			}
		}()
		for _, tk := range tasks {
			if got := tk.finish(); !slices.Equal(got, []int64{40}) {
				t.Error(got)
			}
		}
		close(stop)
		<-done
	})
}

// File mappings of many files: numbers are dropped with their files.
func TestHostFileNumbers(t *testing.T) {
	k := newKernel(t, Config{})
	tk := k.load(progSpin)
	for range 50 {
		m, err := k.p.NewMemfile("short")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		op := platform.MapOp{Kind: platform.MapFile, Addr: 0x10000000, Len: 4096, Prot: 1, File: m.Host()}
		if err := tk.th.Map([]platform.MapOp{op}); err != nil {
			t.Fatal(err)
		}
		if n := m.Host().Installed.(*installed).ro[0]; n > 4 {
			t.Fatalf("number %d", n)
		}
		// A read-only file cannot be mapped for writing.
		ro := *m.Host()
		ro.RW, ro.Installed = -1, nil
		op.File, op.Shared, op.Writable = &ro, true, true
		if err := tk.th.Map([]platform.MapOp{op}); err != unix.EACCES {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tk.th.Kill()
	<-tk.proc.done
}

// Map stops at the first error and reaches nothing above what a guest may map.
func TestMapErrors(t *testing.T) {
	k := newKernel(t, Config{})
	tk := k.load(progSpin)
	for _, op := range []platform.MapOp{
		{Kind: platform.Unmap, Addr: stubBase, Len: 4096},
		{Kind: platform.MapAnon, Addr: userMax - 4096, Len: 8192},
		{Kind: platform.Unmap, Addr: 4096, Len: ^uint64(0)},
		{Kind: platform.MapAnon, Len: 1 << 63, Anywhere: true},
	} {
		if err := tk.th.Map([]platform.MapOp{op}); err != unix.ENOMEM {
			t.Errorf("%+v: %v", op, err)
		}
	}
	ops := []platform.MapOp{
		{Kind: platform.MapAnon, Addr: 0x20000000, Len: 4096, Prot: 3},
		{Kind: platform.MapAnon, Addr: imageBase, Len: 4096, Prot: 3, NoReplace: true},
		{Kind: platform.MapAnon, Addr: 0x30000000, Len: 4096, Prot: 3},
	}
	if err := tk.th.Map(ops); err != unix.EEXIST {
		t.Error(err)
	}
	as := tk.th.AddressSpace()
	if _, err := as.WriteAt([]byte{1}, 0x20000000); err != nil {
		t.Error(err)
	}
	if _, err := as.WriteAt([]byte{1}, 0x30000000); err != unix.EFAULT {
		t.Error(err)
	}
	if n, err := as.ReadAt(make([]byte, 8192), 0x20000000); n != 4096 || err != unix.EFAULT {
		t.Error(n, err)
	}
	if _, err := as.ReadAt(make([]byte, 1), stubBase); err != unix.EFAULT {
		t.Error(err)
	}
	tk.th.Kill()
	<-tk.proc.done
}

// A platform starts and ends with a table that names no call.
func TestEmptyTable(t *testing.T) {
	for range 10 {
		p, err := New(Config{Shards: 2}, &miniKernel{t: t})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// The signals with which the Go runtime preempts goroutines interrupt host calls of the notify lane; no answer is lost.
func TestSignalsLoseNoAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 300 processes")
	}
	k := newKernel(t, Config{Seccomp: On, Shards: 1})
	var stuck atomic.Int32
	release := make(chan struct{})
	k.onCall = func(th platform.Thread, nr int32, a *platform.Args) (platform.Return, bool) {
		if nr != unix.SYS_NANOSLEEP {
			return platform.Return{}, false
		}
		stuck.Add(1)
		<-release
		return platform.Return{Value: 99}, true
	}
	var tasks []*task
	start := func(prog int, arg uint64) {
		tk := k.load(prog, arg)
		tk.th.Resume()
		tasks = append(tasks, tk)
	}
	// Calls that wait in their notifications make the host hold the listener's lock for long, so that others meet it.
	sleepers, counters, calls := 300, 16, uint64(500)
	if os.Getenv("SKASTEST_LONG") != "" {
		sleepers, counters, calls = 1500, 64, 3000
	}
	for range sleepers {
		start(progSleep, 0)
	}
	eventually(t, "all sleep", func() bool { return int(stuck.Load()) == sleepers })
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			list, _ := os.ReadDir("/proc/self/task")
			for _, e := range list {
				if tid, err := strconv.Atoi(e.Name()); err == nil {
					tgkill(os.Getpid(), tid, unix.SIGURG)
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	defer func() { close(done); <-ended }()
	for range counters {
		start(progCount, calls)
	}
	for _, tk := range tasks[sleepers:] {
		if got := tk.finish(); !slices.Equal(got, []int64{int64(calls)}) {
			t.Error(got)
		}
	}
	close(release)
	for _, tk := range tasks[:sleepers] {
		if got := tk.finish(); !slices.Equal(got, []int64{99}) {
			t.Fatal(got)
		}
	}
}
