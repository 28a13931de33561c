package guesttest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// containerEnv has this test program put itself under the filter of a container and run its arguments.
const containerEnv = "GUESTTEST_CONTAINER"

// refused are calls that the default seccomp profile of common container engines answers with EPERM without capabilities;
// clone3 gets ENOSYS there.
var refused = []uint32{
	unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME, unix.SYS_DELETE_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_FSMOUNT, unix.SYS_FSOPEN, unix.SYS_GET_MEMPOLICY, unix.SYS_INIT_MODULE, unix.SYS_IO_URING_ENTER,
	unix.SYS_IO_URING_REGISTER, unix.SYS_IO_URING_SETUP, unix.SYS_IOPERM, unix.SYS_IOPL, unix.SYS_KCMP, unix.SYS_KEXEC_LOAD,
	unix.SYS_KEYCTL, unix.SYS_MBIND, unix.SYS_MOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_MOVE_PAGES, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_OPEN_TREE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIVOT_ROOT, unix.SYS_PROCESS_MADVISE,
	unix.SYS_QUOTACTL, unix.SYS_REBOOT, unix.SYS_REQUEST_KEY, unix.SYS_SET_MEMPOLICY, unix.SYS_SETNS, unix.SYS_SETTIMEOFDAY,
	unix.SYS_SWAPOFF, unix.SYS_SWAPON, unix.SYS_SYSLOG, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_USERFAULTFD, unix.SYS_VHANGUP,
}

// container installs the filter and runs os.Args[1:]. It does not return.
func container() {
	const load, equal, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	prog := []unix.SockFilter{{Code: load}, // the number
		{Code: equal, K: unix.SYS_CLONE3, Jf: 1}, {Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}}
	for _, nr := range refused {
		prog = append(prog, unix.SockFilter{Code: equal, K: nr, Jf: 1},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	prog = append(prog, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	runtime.LockOSThread() // filters are of threads
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
		if _, _, e := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog))); e != 0 {
			err = e
		}
	}
	if err == nil {
		var path string
		if path, err = exec.LookPath(os.Args[1]); err == nil {
			err = unix.Exec(path, os.Args[1:], os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(1)
}

// TestContainer boots under the restrictions of a container engine's default profile.
func TestContainer(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	g := guest{args: []string{"seccomp=on"}, unprivileged: os.Geteuid() == 0, limit: time.Minute,
		command: `(sleep 100 & wait $!) & for i in 1 2 3 4 5; do echo $(ls / | wc -l) > /tmp/$i || exit 1; done; cat /tmp/[1-5] | sort -u | wc -l; kill %1 2>/dev/null; exit 7`}
	need(t, guest{args: g.args, unprivileged: g.unprivileged}.works(t))
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	self, err := os.Executable()
	need(t, err)
	cmd.Path, cmd.Args = self, append([]string{"container"}, cmd.Args...)
	cmd.Env = append(cmd.Env, containerEnv+"=1")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	if cmd.ProcessState.ExitCode() != 7 || out.String() != "1\n" {
		t.Errorf("%v\n%s%s", err, tail(out.String()), tail(log.String()))
	}
}

// TestFreeze freezes a guest with all that sleeps in it, as suspend and container engines do, and lets it go on. A call
// that is being served at that moment cannot be frozen (the kernel, which would answer it, is frozen, too): then the next
// attempt has to do.
func TestFreeze(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	group := ""
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := filepath.Join(root, fmt.Sprintf("guesttest%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		defer os.Remove(dir)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err == nil {
			group = dir
		}
	}
	if group == "" {
		t.Skip("no control group of version 2 can be made here")
	}
	for name, args := range backends {
		t.Run(name, func(t *testing.T) {
			need(t, guest{args: args}.works(t))
			testFreeze(t, group, guest{args: args, limit: 3 * time.Minute, command: `mkfifo /tmp/f
				for i in $(seq 30); do sleep 1000 & done; cat /tmp/f &
				echo ready; read line; echo "$line"`})
		})
	}
}

// calling reports whether a call of a guest is being served.
func calling(linux int) bool {
	for _, p := range family(linux) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", p.pid))
		for _, name := range tasks {
			if b, _ := os.ReadFile(name); strings.HasPrefix(string(b), "seccomp_do_user_notification") {
				return true
			}
		}
	}
	return false
}

func testFreeze(t *testing.T, group string, g guest) {
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `echo $$ > "$0"/cgroup.procs && exec "$@"`, group}, cmd.Args...)
	in, err := cmd.StdinPipe()
	need(t, err)
	out, err := cmd.StdoutPipe()
	need(t, err)
	need(t, cmd.Start())
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the guest does not start: %q", lines.Text())
	}
	freeze := func(value string) bool {
		t.Helper()
		need(t, os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte(value), 0))
		for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
			b, err := os.ReadFile(filepath.Join(group, "cgroup.events"))
			need(t, err)
			if strings.Contains(string(b), "frozen "+value) {
				return true
			}
			if time.Now().After(deadline) {
				return false
			}
		}
	}
	frozen := 0
	for range 20 {
		// Programs may still be starting, and what the freezer wakes repeats its call: the kernel needs its time to answer.
		for deadline := time.Now().Add(5 * time.Second); calling(cmd.Process.Pid) && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
		if freeze("1") {
			frozen++
		}
		if !freeze("0") {
			t.Fatal("does not thaw")
		}
		if frozen == 3 {
			break
		}
	}
	if frozen < 3 {
		t.Errorf("frozen %d times of 20", frozen)
	}
	fmt.Fprintln(in, "thawed")
	if !lines.Scan() || lines.Text() != "thawed" {
		t.Errorf("after the thaw: %q", lines.Text())
	}
	in.Close()
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
