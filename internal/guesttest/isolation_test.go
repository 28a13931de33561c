package guesttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// image compiles one C program below testdata and returns an initramfs with it as /t/<name>.
func image(t *testing.T, source string) string {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(source), ".c")
	dir := filepath.Join(work, name+".d")
	need(t, compile(dir, []program{{name: name, source: filepath.Join(testdata, source)}}))
	path := filepath.Join(work, name+".initrd")
	need(t, initramfs(path, dir))
	return path
}

// backends are the kinds of guests that isolation and the fuzzer are tested with.
var backends = map[string][]string{"notify": {"seccomp=on"}, "ptrace": {"seccomp=off"}}

// TestIsolation runs a hostile program and looks at the stubs from the host's side.
func TestIsolation(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	initrd := image(t, "isolation/hostile.c")
	for name, args := range backends {
		t.Run(name, func(t *testing.T) {
			g := guest{args: args, initrd: initrd, command: "mkdir /tmp/h && cd /tmp/h && exec /t/hostile 1", unprivileged: os.Geteuid() == 0, limit: time.Minute}
			need(t, guest{args: args, unprivileged: g.unprivileged}.works(t))
			testIsolation(t, g, name == "notify")
		})
	}
}

func testIsolation(t *testing.T, g guest, seccomp bool) {
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	canary := filepath.Join(cmd.Dir, "canary")
	need(t, os.WriteFile(canary, []byte("canary"), 0o666))
	os.Chmod(canary, 0o666)
	before, err := os.ReadDir(cmd.Dir)
	need(t, err)
	var log strings.Builder
	cmd.Stderr = &log
	r, w, err := os.Pipe()
	need(t, err)
	cmd.Stdout = w
	need(t, cmd.Start())
	w.Close()

	pids := map[int]string{}
	var mu sync.Mutex
	stop := make(chan bool)
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			for _, p := range family(cmd.Process.Pid) {
				if s, ok := startTime(p.pid); ok {
					mu.Lock()
					pids[p.pid] = s
					mu.Unlock()
				}
			}
		}
	})
	out := &strings.Builder{}
	stubs := 0
	lines := bufio.NewScanner(io.TeeReader(r, out))
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "BROKEN"), strings.HasPrefix(line, "HANGS"):
			t.Error(line)
		case line == "holding":
			stubs = checkStubs(t, cmd.Process.Pid, seccomp)
		}
	}
	err = cmd.Wait()
	close(stop)
	sampler.Wait()
	if err != nil || !strings.HasSuffix(out.String(), "end\n") {
		t.Errorf("the guest: %v\n%s\n%s", err, tail(out.String()), tail(log.String()))
	}
	if line := broken(log.String()); line != "" {
		t.Errorf("the guest kernel said: %s", line)
	}
	if stubs == 0 {
		t.Error("no stub was seen")
	}
	if left := ended(pids, 5*time.Second); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	after, err := os.ReadDir(cmd.Dir)
	need(t, err)
	if fmt.Sprint(names(after)) != fmt.Sprint(names(before)) && !onlyEmpty(cmd.Dir, after, before) {
		t.Errorf("files before %v, after %v", names(before), names(after))
	}
	if b, err := os.ReadFile(canary); err != nil || string(b) != "canary" {
		t.Errorf("the canary is now %q, %v", b, err)
	}
}

// onlyEmpty reports whether what is new in a directory is the parent of the umid directories, and that empty.
func onlyEmpty(dir string, after, before []os.DirEntry) bool {
	old := names(before)
	for _, n := range names(after) {
		if strings.Contains(fmt.Sprint(old), n) {
			continue
		}
		below, err := os.ReadDir(filepath.Join(dir, n))
		if n != ".uml" || err != nil || len(below) > 0 {
			return false
		}
	}
	return true
}

func names(l []os.DirEntry) (s []string) {
	for _, e := range l {
		s = append(s, e.Name())
	}
	return s
}

// checkStubs looks at every process that runs guest code, which are those that are traced, and returns how many there are.
func checkStubs(t *testing.T, linux int, seccomp bool) (n int) {
	for _, p := range family(linux) {
		st := status(p.pid)
		if p.pid == linux || st["TracerPid"] == "0" || st["TracerPid"] == "" {
			continue
		}
		n++
		for _, c := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if st[c] != "0000000000000000" {
				t.Errorf("stub %d: %s %s", p.pid, c, st[c])
			}
		}
		if st["NoNewPrivs"] != "1" {
			t.Errorf("stub %d (%s, state %c): NoNewPrivs %s", p.pid, p.comm, p.state, st["NoNewPrivs"])
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
		for _, fd := range fds {
			// The keeper, which puts memory objects into the stubs' table, hears from the kernel by descriptor 0. The
			// listener is there so that a dying kernel's does not end before the stubs do: no call of theirs can use it.
			l, err := os.Readlink(fd)
			if err == nil && !strings.HasPrefix(l, "/memfd:") && l != "anon_inode:seccomp notify" && !(filepath.Base(fd) == "0" && strings.HasPrefix(l, "socket:")) {
				t.Errorf("stub %d: descriptor %s is %s", p.pid, filepath.Base(fd), l)
			}
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
		// What has no filter must have no guest memory either: the keeper and the zygote.
		if lines := strings.Count(string(b), "\n"); seccomp && st["Seccomp"] != "2" && lines > 8 {
			t.Errorf("stub %d: Seccomp %s, and %d mappings:\n%s", p.pid, st["Seccomp"], lines, b)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 6 || strings.HasPrefix(f[5], "/memfd:") || f[5] == "[vdso]" || f[5] == "[vsyscall]" || strings.HasPrefix(f[5], "[vvar") || strings.HasPrefix(f[5], "[heap]") || strings.HasPrefix(f[5], "[stack]") || strings.HasPrefix(f[5], "/dev/zero") {
				continue
			}
			t.Errorf("stub %d: maps %s", p.pid, line)
		}
	}
	return n
}
