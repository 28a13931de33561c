package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestClients: the terminal programs of the host, as they are, at a console: what is typed gets to the guest's shell, and what it
// says comes back. Programs that are not installed are skipped.
func TestClients(t *testing.T) {
	for _, v := range []struct {
		name, channel string
		args          []string // <pts> is the device, <host> and <port> the address
		size          string   // what the guest sees of the window, if the program tells
	}{
		{"screen", "pts", []string{"-c", "/dev/null", "<pts>"}, ""},
		{"minicom", "pts", []string{"-o", "-p", "<pts>"}, ""},
		{"socat", "pts", []string{"-,raw,echo=0", "<pts>,raw,echo=0"}, ""},
		{"telnet", "port:127.0.0.1:0", []string{"<host>", "<port>"}, "size 21 67"},
		{"socat", "port:127.0.0.1:0", []string{"-,raw,echo=0", "TCP:<host>:<port>"}, ""},
	} {
		t.Run(v.name+" "+v.channel, func(t *testing.T) {
			exe, err := exec.LookPath(v.name)
			if err != nil {
				t.Skip(err)
			}
			g := startGuest(t, "con0=null", "con1="+v.channel)
			if err := g.client("exec", "sh -i </dev/tty1 >/dev/tty1 2>&1").Start(); err != nil {
				t.Fatal(err)
			}
			where := g.where("con1")
			at := strings.TrimPrefix(where, "telnet://")
			host, port, _ := strings.Cut(at, ":")
			var args []string
			for _, a := range v.args {
				args = append(args, strings.NewReplacer("<pts>", where, "<host>", host, "<port>", port).Replace(a))
			}
			cmd := exec.Command(exe, args...)
			cmd.Env = append(os.Environ(), "TERM=vt100", "HOME="+t.TempDir(), "SCREENDIR="+private(t))
			m, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 21, Cols: 67})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
			u := newUser(t, m)
			// What is typed before the program has set itself up is lost.
			for end := time.Now().Add(patience); !u.saw("got 42"); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("no answer; seen: %q", u.text())
				}
				fmt.Fprint(m, "echo got $((6*7))\r")
			}
			if v.size != "" {
				u.types("echo size $(stty size)", v.size)
			}
			g.halt()
		})
	}
}

// private is a directory that only we may use, which screen wants for its sockets.
func private(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestXterm: a real window on a display of its own, in which the guest's output shows.
func TestXterm(t *testing.T) {
	for _, need := range []string{"Xvfb", "xterm", "xwd"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skip(err)
		}
	}
	display := newDisplay(t)
	shot := func() []byte {
		b, _ := exec.Command("xwd", "-display", display, "-name", "Virtual Console #1 (box)").Output()
		return b
	}
	g := newGuest(t, "con0=null", "con1=xterm")
	g.cmd.Env = append(g.cmd.Env, "DISPLAY="+display)
	g.start()
	if out, err := g.client("exec", "stty size </dev/tty1").CombinedOutput(); err != nil || !strings.Contains(string(out), "24 80") {
		t.Fatalf("size of the window: %s %v\n%s", out, err, g.log())
	}
	empty := shot()
	if len(empty) == 0 {
		t.Fatal("there is no window")
	}
	g.run("yes MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM | head -20 >/dev/tty1")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if now := shot(); len(now) == len(empty) && differing(now, empty) > 1000 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing to be seen in the window")
		}
	}
	g.halt()
}

// log is what the guest's kernel said.
func (g *testGuest) log() string {
	out, _ := g.client("exec", "dmesg").CombinedOutput()
	return g.out.String() + string(out)
}

// differing is how many bytes differ.
func differing(a, b []byte) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// newDisplay starts an X server without a screen and returns its name.
func newDisplay(t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-nolisten", "tcp", "-screen", "0", "800x600x24")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = new(bytes.Buffer)
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b := make([]byte, 16)
	n := 0
	for n < len(b) && !bytes.Contains(b[:n], []byte("\n")) {
		k, err := r.Read(b[n:])
		if err != nil {
			break
		}
		n += k
	}
	num, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		t.Skipf("Xvfb does not start here: %s", cmd.Stderr)
	}
	return ":" + strconv.Itoa(num)
}

// TestTheirWatchdog: the uml_watchdog of uml-utilities ends a guest that stops writing to its watchdog.
func TestTheirWatchdog(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: its patience is a minute")
	}
	const exe = "/usr/bin/uml_watchdog" // by its path: the name is ours, too
	if _, err := os.Stat(exe); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	g := startGuest(t, "con0=null")
	g.run("true")
	pid, err := os.ReadFile(filepath.Join(g.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	dog := exec.Command(exe, "-pid", strings.TrimSpace(string(pid)))
	in, err := dog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dog.Start(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-g.done:
		if d := time.Since(start); err == nil || d < 55*time.Second {
			t.Errorf("ended with %v after %v", err, d)
		}
	case <-time.After(2 * patience):
		t.Error("the guest was not ended")
	}
	in.Close()
	_ = dog.Wait()
}

// TestTheirPortHelper: the helper of uml-utilities, as it is, hands its terminal over to a guest. The terminal emulator that runs it
// is a script and the test, so that no display is needed.
func TestTheirPortHelper(t *testing.T) {
	const helper = "/usr/lib/uml/port-helper"
	if _, err := os.Stat(helper); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	emulator, socket := filepath.Join(dir, "emulator"), filepath.Join(dir, "socket")
	// emulator -T <title> -e <our helper> -uml-socket <path>
	script := fmt.Sprintf("#!/bin/sh\necho \"$6\" >%s.new && mv %[1]s.new %[1]s\nexec sleep 100\n", socket)
	if err := os.WriteFile(emulator, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, "con0=null", "con1=xterm", "xterm="+emulator+",-T,-e")
	g.cmd.Env = append(g.cmd.Env, "DISPLAY=none")
	g.start()
	if err := g.client("exec", "sh -i </dev/tty1 >/dev/tty1 2>&1").Start(); err != nil {
		t.Fatal(err)
	}
	var path []byte
	for end := time.Now().Add(patience); len(path) == 0; time.Sleep(10 * time.Millisecond) {
		if path, _ = os.ReadFile(socket); time.Now().After(end) {
			t.Fatalf("no terminal emulator is started\n%s", g.log())
		}
	}
	cmd := exec.Command(helper, "-uml-socket", strings.TrimSpace(string(path)))
	m, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	u := newUser(t, m)
	u.types("echo got $((6*7))", "got 42")
	g.halt()
}
