package guesttest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the host may be seen to carry out for a stub: the native lane, and what the kernel itself has a stub do.
var (
	stubCalls = callSet(unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_RESTART_SYSCALL, unix.SYS_ARCH_PRCTL, unix.SYS_MEMBARRIER,
		unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MMAP, unix.SYS_MREMAP, unix.SYS_BRK,
		unix.SYS_CLONE, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_PRCTL, unix.SYS_FUTEX_WAITV, 454, 455, 456,
		// No call, and two that the host shows to no filter and refuses with a signal (uretprobe, uprobe).
		-1, 335, 336)
	// keeperCalls are of the process without a filter that only holds descriptors, and of its bell.
	keeperCalls = callSet(unix.SYS_RECVMSG, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_PAUSE)
)

// cloneFlags may be seen in a stub's clone: sharing of memory and of what stubs share, and no namespace.
const cloneFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM |
	unix.CLONE_PARENT | unix.CLONE_PTRACE | unix.CLONE_CHILD_CLEARTID | uint64(unix.SIGCHLD)

func callSet(list ...int) map[int]bool {
	m := map[int]bool{}
	for _, n := range list {
		m[n] = true
	}
	return m
}

// TestRecordedCalls has the host's own tracing record the system calls that stubs really execute while a hostile program
// runs.
func TestRecordedCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	const tracing = "/sys/kernel/tracing"
	dir := filepath.Join(tracing, "instances", fmt.Sprintf("guesttest%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Skipf("the host's tracing is not for us: %v", err)
	}
	defer os.Remove(dir)
	put := func(name, value string) {
		t.Helper()
		need(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0))
	}
	g := guest{args: []string{"seccomp=on"}, initrd: image(t, "isolation/hostile.c"), limit: time.Minute,
		command: "mkdir /tmp/h && cd /tmp/h && echo started && read go && exec /t/hostile"}
	need(t, guest{args: g.args}.works(t))
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	in, err := cmd.StdinPipe()
	need(t, err)
	out, err := cmd.StdoutPipe()
	need(t, err)
	var log strings.Builder
	cmd.Stderr = &log
	need(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "started" {
		t.Fatalf("the guest does not start: %q\n%s", lines.Text(), tail(log.String()))
	}
	keepers := map[int]bool{}
	var tids []string
	for _, p := range family(cmd.Process.Pid) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", p.pid))
		for _, d := range tasks {
			tid, _ := strconv.Atoi(filepath.Base(d))
			tids = append(tids, filepath.Base(d))
			keepers[tid] = p.pid != cmd.Process.Pid && status(tid)["Seccomp"] == "0"
		}
	}
	put("options/event-fork", "1")
	put("set_event_pid", strings.Join(tids, " "))
	put("events/raw_syscalls/sys_enter/enable", "1")
	pipe, err := os.OpenFile(filepath.Join(dir, "trace_pipe"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	need(t, err)
	seen := map[int]int{}
	stop := make(chan bool)
	var reader sync.WaitGroup
	reader.Go(func() { readCalls(t, pipe, keepers, seen, stop) })
	fmt.Fprintln(in, "go")
	last := ""
	for lines.Scan() {
		last = lines.Text()
		if strings.HasPrefix(last, "BROKEN") {
			t.Error(last)
		}
	}
	err = cmd.Wait()
	put("events/raw_syscalls/sys_enter/enable", "0")
	close(stop)
	reader.Wait()
	pipe.Close()
	if err != nil || last != "end" {
		t.Errorf("the guest: %v, last line %q\n%s", err, last, tail(log.String()))
	}
	if seen[unix.SYS_MMAP] == 0 || seen[unix.SYS_CLONE] == 0 {
		t.Errorf("nothing was recorded: %v", seen)
	}
	t.Logf("calls seen: %v", seen)
}

var sysEnter = regexp.MustCompile(`^\s*uml-stub-(\d+)\s.* sys_enter: NR (-?\d+) \(([0-9a-f]+),`)

// readCalls judges what the host has recorded, until it is told to stop and nothing is left.
func readCalls(t *testing.T, pipe *os.File, keepers map[int]bool, seen map[int]int, stop chan bool) {
	var text string
	buf := make([]byte, 64<<10)
	last := false
	for {
		n, _ := unix.Read(int(pipe.Fd()), buf)
		if n <= 0 {
			if last {
				return
			}
			select {
			case <-stop:
				last = true
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		text += string(buf[:n])
		for {
			line, rest, ok := strings.Cut(text, "\n")
			if !ok {
				break
			}
			text = rest
			m := sysEnter.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			tid, _ := strconv.Atoi(m[1])
			nr, _ := strconv.Atoi(m[2])
			first, _ := strconv.ParseUint(m[3], 16, 64)
			seen[nr]++
			switch {
			case keepers[tid] && keeperCalls[nr]:
			case !stubCalls[nr], nr == unix.SYS_CLONE && first&^cloneFlags != 0, nr == unix.SYS_PRCTL && first != unix.PR_SET_MM:
				t.Errorf("a stub made a call of its own: %s", strings.TrimSpace(line))
			}
		}
	}
}
