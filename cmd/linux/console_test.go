package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// runLinux in the environment makes the test binary the program.
const runLinux = "RUN_LINUX"

// testGuest is a running guest whose console is not on our terminal.
type testGuest struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string // umid directory
	out  bytes.Buffer
	done chan error
}

// patience is how long a guest may take for what it must do.
const patience = 60 * time.Second

func startGuest(t *testing.T, args ...string) *testGuest {
	t.Helper()
	return startGuestWith(t, nil, args...)
}

// startGuestWith hands it descriptors from 3 on, which are closed here.
func startGuestWith(t *testing.T, files []*os.File, args ...string) *testGuest {
	t.Helper()
	g := newGuest(t, args...)
	g.cmd.ExtraFiles = files
	g.start()
	for _, f := range files {
		f.Close()
	}
	return g
}

// newGuest is a guest that has not been started.
func newGuest(t *testing.T, args ...string) *testGuest {
	t.Helper()
	if userland() == nil {
		t.Skip("the built-in root was not built")
	}
	home := t.TempDir()
	g := &testGuest{t: t, dir: filepath.Join(home, ".uml", "box"), done: make(chan error, 1)}
	g.cmd = exec.Command("/proc/self/exe", append([]string{"quiet", "umid=box", "timeout=100"}, args...)...)
	g.cmd.Env = append(os.Environ(), runLinux+"=1", "HOME="+home)
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.out
	return g
}

func (g *testGuest) start() {
	g.t.Helper()
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { g.done <- g.cmd.Wait() }()
	g.t.Cleanup(func() { _ = g.cmd.Process.Kill() })
}

// where waits until a line is on the host.
func (g *testGuest) where(line string) string {
	g.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if to, err := os.Readlink(filepath.Join(g.dir, line)); err == nil {
			return to
		}
	}
	g.t.Fatalf("%s is nowhere; the guest said:\n%s", line, &g.out)
	return ""
}

// ended waits for an orderly end.
func (g *testGuest) ended() {
	g.t.Helper()
	select {
	case err := <-g.done:
		if err != nil {
			g.t.Errorf("the guest ended with %v:\n%s", err, &g.out)
		}
	case <-time.After(patience):
		g.t.Errorf("the guest did not end:\n%s", &g.out)
	}
}

// user sits at a terminal.
type user struct {
	t  *testing.T
	rw io.ReadWriter

	mu   sync.Mutex
	seen strings.Builder
	gone bool // the other end
}

func newUser(t *testing.T, rw io.ReadWriter) *user {
	u := &user{t: t, rw: rw}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := rw.Read(b)
			if err != nil {
				u.mu.Lock()
				u.gone = true
				u.mu.Unlock()
				return
			}
			u.mu.Lock()
			u.seen.Write(b[:n])
			u.mu.Unlock()
		}
	}()
	return u
}

// types types a line and waits for an answer.
func (u *user) types(line, answer string) {
	u.t.Helper()
	if _, err := io.WriteString(u.rw, line+"\r"); err != nil {
		u.t.Fatal(err)
	}
	if !u.sees(answer) {
		u.t.Fatalf("no answer %q to %q; seen: %q", answer, line, u.text())
	}
}

// sees waits for a text.
func (u *user) sees(text string) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if u.saw(text) {
			return true
		}
	}
	return false
}

func (u *user) saw(text string) bool { return strings.Contains(u.text(), text) }

// text is all that was seen.
func (u *user) text() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen.String()
}

func openPts(t *testing.T, name string) *user {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return newUser(t, f)
}

func connect(t *testing.T, where string) (*user, net.Conn) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(where, "telnet://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newUser(t, c), c
}

// off ends the guest from its shell.
const off = "echo off; poweroff -f"

func TestConsoleOnPts(t *testing.T) {
	g := startGuest(t, "con=pty")
	u := openPts(t, g.where("con0"))
	u.types("echo $((6*7))", "\r\n42\r\n")
	u.types(off, "\r\noff")
	g.ended()
	if !strings.Contains(g.out.String(), "Virtual console 0 assigned device '/dev/pts/") {
		t.Errorf("not announced:\n%s", &g.out)
	}
}

// TestConsoleOnPort: boot waits for a client; one that has a window, one that scans, one that vanishes, and the next.
func TestConsoleOnPort(t *testing.T) {
	g := startGuest(t, "con0=port:127.0.0.1:0")
	where := g.where("con0")
	for range 5 {
		_, c := connect(t, where)
		c.Close()
	}
	var first net.Conn
	for end := time.Now().Add(patience); ; {
		// A client that comes too early, or is taken for one who has gone, is sent away.
		u, c := connect(t, where)
		if _, err := c.Write([]byte("\xff\xfb\x1f\xff\xfa\x1f\x00\x65\x00\x21\xff\xf0")); err == nil && served(u) {
			u.types("echo size $(stty size) end", "size 33 101 end")
			first = c
			break
		}
		if time.Now().After(end) {
			t.Fatal("never served")
		}
	}
	other, _ := connect(t, where)
	other.types("", "No console is waiting")
	first.Close()
	for end := time.Now().Add(patience); ; {
		u, _ := connect(t, where)
		if served(u) {
			// An end of file, however it is sent, is not the end of the system.
			u.types("echo $((6*7))", "\r\n42\r\n")
			io.WriteString(u.rw, "\xff\xec")
			for again := time.Now().Add(patience); !u.saw("\r\n49\r\n") && time.Now().Before(again); time.Sleep(100 * time.Millisecond) {
				io.WriteString(u.rw, "echo $((7*7))\r") // what is typed before the next shell is there is lost
			}
			u.types(off, "\r\noff")
			break
		}
		if time.Now().After(end) {
			t.Fatal("never served again")
		}
	}
	g.ended()
}

// served tells whether a connection has got a console, which shows in the telnet greeting.
func served(u *user) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		u.mu.Lock()
		s, gone := u.seen.String(), u.gone
		u.mu.Unlock()
		if s != "" || gone {
			return strings.HasPrefix(s, "\xff\xfb")
		}
	}
	return false
}

func TestConsoleOnTTY(t *testing.T) {
	m, s, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer m.Close()
	defer s.Close()
	g := startGuest(t, "con0=tty:"+s.Name())
	u := newUser(t, m)
	u.types("echo $((6*7))", "\r\n42\r\n")
	u.types(off, "\r\noff")
	g.ended()
}

func TestConsoleOnPipes(t *testing.T) {
	r1, w1, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w1.Close()
	defer r2.Close()
	g := startGuestWith(t, []*os.File{r1, w2}, "con=null", "con0=fd:3,fd:4")
	u := newUser(t, struct {
		io.Reader
		io.Writer
	}{r2, w1})
	u.types("echo $((6*7))", "\r\n42\r\n")
	u.types(off, "\r\noff")
	g.ended()
}

// TestUnreadConsoles: nobody reads what the guest writes to a pty, a connection that is stuck, and a console without a user;
// the guest goes on.
func TestUnreadConsoles(t *testing.T) {
	g := startGuest(t, "con1=pts", "con2=port:127.0.0.1:0", "con3=null", fmt.Sprintf("exec=%s", strings.Join([]string{
		"yes 0123456789 | head -c 500000 > /dev/tty1",
		"(yes 0123456789 | head -c 9000000 > /dev/tty2) &",
		"yes 0123456789 | head -c 500000 > /dev/tty3",
		"echo went on",
	}, "\n")))
	_, c := connect(t, g.where("con2"))
	_ = c.(*net.TCPConn).SetReadBuffer(1024)
	g.ended()
	if !strings.Contains(g.out.String(), "went on") {
		t.Errorf("%s", &g.out)
	}
}

// client is our uml_mconsole with a command for the guest.
func (g *testGuest) client(args ...string) *exec.Cmd {
	g.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(g.dir, "mconsole")); err == nil {
			break
		}
	}
	cmd := exec.Command("/proc/self/exe", append([]string{g.dir}, args...)...)
	cmd.Args[0] = "uml_mconsole"
	cmd.Env = append(os.Environ(), runLinux+"=1", "TERM=vt100")
	return cmd
}

// clientUser sits at a terminal, 67 columns and 21 rows, on which a client runs.
func (g *testGuest) clientUser(args ...string) (u *user, m *os.File, cmd *exec.Cmd) {
	g.t.Helper()
	cmd = g.client(args...)
	m, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 21, Cols: 67})
	if err != nil {
		g.t.Skip(err)
	}
	g.t.Cleanup(func() { m.Close() })
	return newUser(g.t, m), m, cmd
}

// halt ends the guest from outside.
func (g *testGuest) halt() {
	g.t.Helper()
	if out, err := g.client("halt").CombinedOutput(); err != nil {
		g.t.Error(string(out), err)
	}
	g.ended()
}

// TestExecOnTerminal: a command of the management console has a terminal, its size, its keys and its end.
func TestExecOnTerminal(t *testing.T) {
	g := startGuest(t, "con0=null")
	if out, err := g.client("exec", "until ls /dev/pts/ptmx; do sleep 0.05; done").CombinedOutput(); err != nil {
		t.Fatal(string(out), err) // init is about to mount it
	}
	u, m, cmd := g.clientUser("exec", "-t", "sh")
	u.types("tty; stty size", "/dev/pts/0\r\n21 67\r\n")
	if err := pty.Setsize(m, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	u.types("until stty size | grep '30 100'; do sleep 0.05; done", "\r\n30 100\r\n")
	u.types("sleep 1000", "sleep 1000")
	for end := time.Now().Add(patience); !u.saw("st2"); time.Sleep(20 * time.Millisecond) {
		io.WriteString(m, "\x03echo st$((1+1))\r") // it may come before the command has begun
		if time.Now().After(end) {
			t.Fatal("Ctrl-C did not reach the command")
		}
	}
	u.types("exit 9", "")
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 9" {
		t.Errorf("ended with %v", err)
	}
	// Who goes away hangs up.
	u, _, cmd = g.clientUser("exec", "-t", "echo re''ady; sleep 4321")
	u.types("", "ready")
	_ = cmd.Process.Kill()
	cmd.Wait()
	if out, err := g.client("exec", "while ps | grep 'sleep 432[1]'; do sleep 0.05; done").CombinedOutput(); err != nil {
		t.Error(string(out), err)
	}
	g.halt()
}

// TestAttachSize: the window of who attaches to a console is the console's.
func TestAttachSize(t *testing.T) {
	g := startGuest(t, "con0=null")
	u, m, cmd := g.clientUser("attach", "con0")
	u.types("", "Attached to con0")
	u.types("until stty size | grep '21 67'; do sleep 0.05; done", "\r\n21 67\r\n")
	if err := pty.Setsize(m, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	u.types("until stty size | grep '30 100'; do sleep 0.05; done", "\r\n30 100\r\n")
	io.WriteString(m, "\x1d")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	g.halt()
}

// TestPtsSize: a change of the window of a pseudoterminal is noticed.
func TestPtsSize(t *testing.T) {
	g := startGuest(t, "con=pts")
	name := g.where("con0")
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u := newUser(t, f)
	u.types("echo re''ady", "ready")
	if err := pty.Setsize(f, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	u.types("until stty size | grep '30 100'; do sleep 0.05; done", "\r\n30 100\r\n")
	g.halt()
}
