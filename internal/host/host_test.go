package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/user-mode-linux/linux/internal/mconsole/umid"
)

// TestMain lets the test binary be the program under test (HOST_TEST says how it ends) and its janitor.
func TestMain(m *testing.M) {
	Janitor()
	if mode := os.Getenv("HOST_TEST"); mode != "" {
		program(mode)
	}
	os.Exit(m.Run())
}

func program(mode string) {
	mind, err := StartJanitor()
	if err != nil {
		panic(err)
	}
	d, err := umid.Create(os.Getenv("HOST_TEST_DIR"), "box", func(s string) { panic(s) })
	if err != nil {
		panic(err)
	}
	mind(d.Path())
	AtExit(d.Remove)
	terminate := 0
	Watch(Handlers{
		Winch: func() { fmt.Println("winch") },
		Wake:  func() { fmt.Println("wake") },
		Terminate: func() bool {
			terminate++
			fmt.Println("terminate", terminate)
			return mode == "polite"
		},
	})
	old, err := term.MakeRaw(0)
	if err != nil {
		panic(err)
	}
	AtExit(func() { term.Restore(0, old) })
	switch mode {
	case "exit":
		Exit(7)
	case "die":
		Die(unix.SIGABRT)
	case "panic":
		var p *int
		*p = 1
	case "reboot":
		os.Setenv("HOST_TEST", "exit")
		panic(Reexec())
	}
	fmt.Println("ready")
	select {}
}

type run struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	before *unix.Termios
	dir    string
	out    *bufio.Reader
}

// start runs the program with a terminal as its input and a pipe as its output.
func start(t *testing.T, mode string) *run {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer slave.Close()
	r := &run{t: t, master: master, dir: t.TempDir()}
	if r.before, err = unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command("/proc/self/exe")
	r.cmd.Env = append(os.Environ(), "HOST_TEST="+mode, "HOST_TEST_DIR="+r.dir)
	r.cmd.Stdin = slave
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout = pw
	r.out = bufio.NewReader(pr)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	t.Cleanup(func() { r.cmd.Process.Kill(); pr.Close(); master.Close() })
	return r
}

func (r *run) line(want string) {
	r.t.Helper()
	s, err := r.out.ReadString('\n')
	if s != want+"\n" {
		r.t.Fatalf("got %q, %v, want %q", s, err, want)
	}
}

// end waits for the program's end and for that of everything that has its output open, and checks that it left nothing.
func (r *run) end() syscall.WaitStatus {
	r.t.Helper()
	r.cmd.Wait()
	if rest, err := io.ReadAll(r.out); err != nil || len(rest) > 0 {
		r.t.Errorf("after the end: %q, %v", rest, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	var left []string
	for time.Now().Before(deadline) {
		left = r.leftovers()
		if len(left) == 0 {
			return r.cmd.ProcessState.Sys().(syscall.WaitStatus)
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Errorf("left behind: %v", left)
	return r.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func (r *run) leftovers() []string {
	var left []string
	if _, err := os.Stat(filepath.Join(r.dir, "box")); err == nil {
		left = append(left, "the umid directory")
	}
	if now, err := unix.IoctlGetTermios(int(r.master.Fd()), unix.TCGETS); err != nil || *now != *r.before {
		left = append(left, "the terminal's mode")
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		if text, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(text), fmt.Sprintf("%s\x00%d\x00", janitorName, r.cmd.Process.Pid)) {
			left = append(left, "the janitor")
		}
	}
	return left
}

func TestSignals(t *testing.T) {
	r := start(t, "wait")
	r.line("ready")
	if now, err := unix.IoctlGetTermios(int(r.master.Fd()), unix.TCGETS); err != nil || now.Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) != 0 {
		t.Errorf("the terminal is not raw: %+v, %v", now, err)
	}
	pid := r.cmd.Process.Pid
	unix.Kill(pid, unix.SIGHUP)
	unix.Kill(pid, unix.SIGPIPE)
	unix.Kill(pid, unix.SIGWINCH)
	r.line("winch")
	unix.Kill(pid, unix.SIGUSR1)
	r.line("wake")
	unix.Kill(pid, unix.SIGTERM)
	r.line("terminate 1")
	if ws := r.end(); !ws.Exited() || ws.ExitStatus() != 1 {
		t.Errorf("SIGTERM: %#x", ws)
	}
}

func TestTwoInterrupts(t *testing.T) {
	r := start(t, "polite")
	r.line("ready")
	unix.Kill(r.cmd.Process.Pid, unix.SIGINT)
	r.line("terminate 1")
	unix.Kill(r.cmd.Process.Pid, unix.SIGINT)
	if ws := r.end(); !ws.Exited() || ws.ExitStatus() != 1 {
		t.Errorf("second SIGINT: %#x", ws)
	}
}

func TestDeadlySignals(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGQUIT, unix.SIGUSR2, unix.SIGALRM, unix.SIGSEGV} {
		r := start(t, "wait")
		r.line("ready")
		unix.Kill(r.cmd.Process.Pid, sig)
		ws := r.end()
		if sig != unix.SIGSEGV && (!ws.Signaled() || ws.Signal() != sig) {
			t.Errorf("%v: %#x", sig, ws)
		}
	}
}

func TestWaysOut(t *testing.T) {
	for mode, ok := range map[string]func(syscall.WaitStatus) bool{
		"exit":   func(ws syscall.WaitStatus) bool { return ws.Exited() && ws.ExitStatus() == 7 },
		"die":    func(ws syscall.WaitStatus) bool { return ws.Signaled() && ws.Signal() == unix.SIGABRT },
		"panic":  func(ws syscall.WaitStatus) bool { return ws.Exited() && ws.ExitStatus() == 2 },
		"reboot": func(ws syscall.WaitStatus) bool { return ws.Exited() && ws.ExitStatus() == 7 },
	} {
		if ws := start(t, mode).end(); !ok(ws) {
			t.Errorf("%s: %#x", mode, ws)
		}
	}
}

func TestTermiosText(t *testing.T) {
	want := unix.Termios{Iflag: 1, Oflag: 2, Cflag: 3, Lflag: 4, Line: 5, Cc: [19]uint8{6, 7}, Ispeed: 8, Ospeed: 9}
	got, err := decodeTermios(encodeTermios(&want))
	if err != nil || *got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, s := range []string{"", "zz", "00"} {
		if _, err := decodeTermios(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
