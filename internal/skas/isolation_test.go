package skas

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// addFile makes guest descriptors fd (read-only) and fd+1 (read-write) of a new memory object.
func (k *miniKernel) addFile(fd int, content string) platform.Memfile {
	k.t.Helper()
	m, err := k.p.NewMemfile("test")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { m.Close() })
	if err := m.Truncate(8192); err != nil {
		k.t.Fatal(err)
	}
	if _, err := m.WriteAt([]byte(content), 0); err != nil {
		k.t.Fatal(err)
	}
	k.files[fd] = platform.MapOp{Kind: platform.MapFile, File: m.Host()}
	k.files[fd+1] = platform.MapOp{Kind: platform.MapFile, File: m.Host(), Writable: true}
	return m
}

// A mapping through a read-only descriptor can be made writable neither by mprotect nor by MADV_REMOVE.
func TestFileMappings(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		m := k.addFile(100, "x")
		got := k.run(progFiles, 100)
		want := []int64{1, 'x', -int64(unix.EACCES), -int64(unix.ENOSYS), 'y', 0}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		var b [2]byte
		if _, err := m.ReadAt(b[:], 0); err != nil || string(b[:]) != "xy" {
			t.Fatalf("%q %v", b, err)
		}
	})
}

func TestHostileCalls(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		got := k.run(progHostile, stubBase)
		if len(got) < 10 {
			t.Fatal(got)
		}
		for i, v := range got[:9] {
			if v >= 0 {
				t.Errorf("attempt %d succeeded: %d", i, v)
			}
		}
		// The last one is a plain fork, and the child reports too (to its own list).
		if got[9] < 100 {
			t.Errorf("clone with high bits: %d", got[9])
		}
	})
}

// Every number with garbage in the high half of rax must be judged by its low half.
func TestHostFdsAreOutOfReach(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		k.addFile(100, "secret")
		k.run(progFiles, 100) // the object is in the stubs' table now, under a small number
		for fd := range uint64(8) {
			got := k.run(progFiles, fd)
			if len(got) > 0 && got[0] == 1 {
				t.Fatalf("host descriptor %d could be mapped", fd)
			}
		}
	})
}

// A fresh stub and its fork have no memory but the stub area.
func TestFreshStubMaps(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		th, err := k.p.NewProcess(&task{proc: &proc{tasks: 1, done: make(chan struct{})}})
		if err != nil {
			t.Fatal(err)
		}
		areas, err := readMaps(th.HostTID())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range areas {
			inside := a.start >= stubBase && a.end <= stubEnd
			if !inside && a.name != "[vsyscall]" {
				t.Errorf("%x-%x %s %s", a.start, a.end, a.perms, a.name)
			}
			if inside && strings.Contains(a.perms, "w") {
				t.Errorf("writable stub area: %x-%x %s", a.start, a.end, a.perms)
			}
		}
		maps, err := th.AddressSpace().Mappings()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range maps {
			if !m.VDSO {
				t.Errorf("visible mapping %x-%x", m.Start, m.End)
			}
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", th.HostTID()))
		for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Seccomp:\t2",
			"SigBlk:\t0000000000000000"} {
			if strings.HasPrefix(want, "Seccomp") && cfg.Seccomp == Off {
				continue
			}
			if want == "CapBnd:\t0000000000000000" && os.Getuid() != 0 {
				continue // only who has CAP_SETPCAP can drop the bounding set; with no_new_privs it is moot
			}
			if !strings.Contains(string(status), want) {
				t.Errorf("no %q in\n%s", want, status)
			}
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", th.HostTID()))
		want := 1 // the keeper's socket
		if k.p.shards[0].fam.listener >= 0 {
			want++
		}
		if err == nil && len(fds) != want {
			t.Errorf("descriptors: %v", fds)
		}
		if sid, err := unix.Getsid(th.HostTID()); err != nil || sid == os.Getpid() {
			t.Errorf("session %d %v", sid, err)
		}
		th.Kill()
		select {
		case <-th.Data().(*task).proc.done:
		case <-time.After(10 * time.Second):
			t.Fatal("no Exited")
		}
	})
}

// The stubs end with the kernel, whatever ends it.
func TestStubsDieWithKernel(t *testing.T) {
	if os.Getenv("SKAS_VICTIM") != "" {
		k := newKernel(t, Config{})
		tk := k.load(progSpin)
		tk.th.Resume()
		fmt.Printf("stub %d %d %d\n", tk.th.HostTID(), k.p.shards[0].fam.zygote, k.p.shards[0].fam.keeper)
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestStubsDieWithKernel$", "-test.v")
	cmd.Env = append(os.Environ(), "SKAS_VICTIM=1")
	out, err := cmd.Output()
	if ee, ok := err.(*exec.ExitError); !ok || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v %s", err, out)
	}
	var pids [3]int
	i := strings.Index(string(out), "stub ")
	if i < 0 {
		t.Fatalf("%s", out)
	}
	if _, err := fmt.Sscanf(string(out[i:]), "stub %d %d %d", &pids[0], &pids[1], &pids[2]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		alive := true
		for range 500 {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(b), ") Z ") || strings.Contains(string(b), ") X ") {
				alive = false
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if alive {
			t.Errorf("process %d outlives the kernel", pid)
		}
	}
}

// While the kernel dies no call of a stub returns: what programs would do about a wrong answer can be seen in files of the
// host that they have mapped.
func TestNoAnswerFromTheDead(t *testing.T) {
	path := os.Getenv("SKAS_WITNESS")
	if path != "" {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		k := newKernel(t, Config{Seccomp: On, Shards: 2})
		k.files[100] = platform.MapOp{Kind: platform.MapFile, Writable: true, File: &platform.HostFile{RO: fd, RW: fd}}
		for range 6 {
			k.load(progWitness, 100).th.Resume()
		}
		time.Sleep(5 * time.Millisecond)
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	path = filepath.Join(t.TempDir(), "page")
	rounds := 8
	if os.Getenv("SKASTEST_LONG") != "" {
		rounds = 100
	}
	for i := range rounds {
		if err := os.WriteFile(path, make([]byte, pageSize), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoAnswerFromTheDead$")
		cmd.Env = append(os.Environ(), "SKAS_WITNESS="+path)
		out, err := cmd.CombinedOutput()
		if ee, ok := err.(*exec.ExitError); !ok || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%v %s", err, out)
		}
		time.Sleep(10 * time.Millisecond)
		if b, err := os.ReadFile(path); err != nil || b[0] != 0 {
			t.Fatalf("round %d: a program went on without a kernel", i)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	k := newKernel(t, Config{Shards: 2})
	var pids []int
	for range 4 {
		tk := k.load(progSpin)
		tk.th.Resume()
		pids = append(pids, tk.th.HostTID())
	}
	for _, s := range k.p.shards {
		pids = append(pids, s.fam.zygote, s.fam.keeper)
	}
	k.p.Close()
	for _, pid := range pids {
		if unix.Kill(pid, 0) != unix.ESRCH {
			t.Errorf("process %d is left", pid)
		}
	}
}

// Whatever stands above the low half of rax, no call gets past the kernel.
func TestHighBitsOfCallNumbers(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		if got := k.run(progFuzz, 12345); len(got) != 0 {
			t.Errorf("calls that did something: %v", got)
		}
	})
}

// The interpreter and the host agree about the filter's structure: every jump lands inside, and foreign calls are refused.
func TestFilterDecisions(t *testing.T) {
	l := lanes()
	l[unix.SYS_BRK] = platform.Native
	prog := buildFilter(&l, true)
	const hi = 0x7fff << 32
	const anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	for _, c := range []struct {
		nr   int32
		arch uint32
		args platform.Args
		want uint32
	}{
		{unix.SYS_GETPID, auditArchX86_64, platform.Args{}, retNotify},
		{unix.SYS_GETPID, 0x40000003, platform.Args{}, unix.SECCOMP_RET_TRAP},
		{unix.SYS_SCHED_YIELD, 0x40000003, platform.Args{}, unix.SECCOMP_RET_TRAP},
		{unix.SYS_SCHED_YIELD | x32Bit, auditArchX86_64, platform.Args{}, retENOSYS},
		{-1, auditArchX86_64, platform.Args{}, retAllow},
		{unix.SYS_FORK, auditArchX86_64, platform.Args{}, retTrace},
		{unix.SYS_FUTEX, auditArchX86_64, platform.Args{1: 0}, retAllow},
		{unix.SYS_FUTEX, auditArchX86_64, platform.Args{1: 0xffffffff00000081}, retAllow},
		{unix.SYS_FUTEX, auditArchX86_64, platform.Args{1: 6}, retTrace},   // LOCK_PI
		{unix.SYS_FUTEX, auditArchX86_64, platform.Args{1: 265}, retAllow}, // WAIT_BITSET on CLOCK_REALTIME
		{unix.SYS_ARCH_PRCTL, auditArchX86_64, platform.Args{0x1002}, retAllow},
		{unix.SYS_ARCH_PRCTL, auditArchX86_64, platform.Args{0x2001}, retTrace},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 4096, 3, anon}, retAllow},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 1 << 32, 3, anon}, retTrace},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 4096, 3, unix.MAP_PRIVATE}, retTrace},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 4096, 3, anon | 1<<40}, retTrace},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 4096, 3, anon | unix.MAP_GROWSDOWN}, retTrace},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{0, 4096, 3, anon, mapCookie<<32 | 3}, retNotify},
		{unix.SYS_MMAP, auditArchX86_64, platform.Args{hi, 4096, 3, anon | unix.MAP_FIXED}, retTrace},
		{unix.SYS_MUNMAP, auditArchX86_64, platform.Args{userMax, 4096}, retTrace},
		{unix.SYS_MUNMAP, auditArchX86_64, platform.Args{userMax - 4096, 4096}, retAllow},
		{unix.SYS_MUNMAP, auditArchX86_64, platform.Args{1 << 63, 4096}, retTrace},
		{unix.SYS_MPROTECT, auditArchX86_64, platform.Args{4096, 4096, 8}, retTrace},
		{unix.SYS_MPROTECT, auditArchX86_64, platform.Args{4096, 4096, 7 | 1<<32}, retTrace},
		{unix.SYS_BRK, auditArchX86_64, platform.Args{}, retAllow},
		{unix.SYS_BRK, auditArchX86_64, platform.Args{userMax - 1}, retAllow},
		{unix.SYS_BRK, auditArchX86_64, platform.Args{userMax}, retTrace},
		{unix.SYS_BRK, auditArchX86_64, platform.Args{1 << 63}, retTrace},
		{unix.SYS_MADVISE, auditArchX86_64, platform.Args{4096, 4096, 4}, retAllow},
		{unix.SYS_MADVISE, auditArchX86_64, platform.Args{4096, 4096, 9}, retTrace},
		{unix.SYS_MADVISE, auditArchX86_64, platform.Args{4096, 4096, 100}, retTrace},
	} {
		if got := runFilter(prog, c.nr, c.arch, &c.args); got != c.want {
			t.Errorf("call %d %#x: %#x, want %#x", c.nr, c.args, got, c.want)
		}
	}
	if got := runFilter(buildFilter(&l, false), unix.SYS_BRK, auditArchX86_64, &platform.Args{}); got != retTrace {
		t.Errorf("brk without HostBrk: %#x", got)
	}
}

// A child that was started from a thread which then becomes a tracer is neither reaped nor waited for.
func TestForeignChildren(t *testing.T) {
	cmds := make(chan *exec.Cmd, 64)
	var wg sync.WaitGroup
	for range 8 { // on as many threads as there are
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			c := exec.Command("/proc/self/exe", "-test.run=^TestForeignChildren$")
			c.Env = append(os.Environ(), "SKAS_SLEEP=1")
			in, err := c.StdinPipe()
			if err != nil || c.Start() != nil {
				t.Error("no child")
				return
			}
			_ = in
			cmds <- c
		})
	}
	wg.Wait()
	close(cmds)
	k := newKernel(t, Config{})
	if got := k.run(progForks, 5); !slices.Equal(got, []int64{5}) {
		t.Error(got)
	}
	k.p.Close()
	for c := range cmds {
		_ = c.Process.Kill()
		if err := c.Wait(); err == nil || c.ProcessState == nil {
			t.Errorf("child was lost: %v", err)
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("SKAS_SLEEP") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}
