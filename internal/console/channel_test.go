package console

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// TestMain lets the test binary be the helper in a terminal window.
func TestMain(m *testing.M) {
	PortHelper()
	os.Exit(m.Run())
}

// limit is how long a test waits for what must come.
const limit = 20 * time.Second

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// places notes where lines are on the host.
type places struct {
	mu sync.Mutex
	m  map[string]string
}

func (p *places) set(line, where string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[string]string{}
	}
	p.m[line] = where
}

func (p *places) of(line string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m[line]
}

// configured makes a line of a set as the management console would.
func configured(t *testing.T, s *Set, arg string) (*port, *tty.TTY, *places) {
	t.Helper()
	where := &places{}
	s.Assigned = where.set
	s.Stderr = nil
	d := s.Drivers()[0]
	if err := d.Config(arg); err != nil {
		t.Fatal(err)
	}
	id, _, _ := strings.Cut(arg, "=")
	t.Cleanup(func() { _ = d.Remove(id); s.Close() })
	return s.ports["con"+id], s.ttys["con"+id], where
}

// session is a client on a telnet line.
type session struct {
	t *testing.T
	c net.Conn
}

func dial(t *testing.T, where string) *session {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(where, "telnet://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return &session{t, c}
}

func (s *session) expect(want string) {
	s.t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(s.c, b); string(b[:n]) != want {
		s.t.Fatalf("got %q, %v, want %q", b[:n], err, want)
	}
}

func (s *session) send(text string) {
	s.t.Helper()
	if _, err := s.c.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// greeting is what the server begins with: WILL ECHO, SGA, BINARY; DO NAWS, BINARY; DONT LINEMODE.
const greeting = "\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x1f\xff\xfd\x00\xff\xfe\x22"

// TestTelnet is a whole conversation: window size, commands in the middle of input, 8-bit bytes, a second client that is sent
// away, a client that vanishes, the next one.
func TestTelnet(t *testing.T) {
	p, line, where := configured(t, New(), "3=port:0")
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	if there, err := p.Carrier(); there || err != nil {
		t.Fatal("carrier before anybody came:", err)
	}
	line.Inject([]byte("boot\r\n")) // waits for who comes
	if !strings.HasPrefix(where.of("con3"), "telnet://127.0.0.1:") {
		t.Fatal(where.of("con3"))
	}
	a := dial(t, where.of("con3"))
	a.expect(greeting + "boot\r\n")
	b := dial(t, where.of("con3"))
	b.expect(notice)
	if n, err := b.c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Error("not sent away:", n, err)
	}

	// The client agrees to the window size and sends it, split where it hurts; 255 columns are two bytes.
	a.send("\xff\xfb\x1f\xff\xfa\x1f\x00\xff")
	a.send("\xff\x00\x28\xff\xf0")
	eventually(t, "the window size", func() bool { return line.Size() == unix.Winsize{Row: 40, Col: 255} })
	a.send("\xff\xf6")
	a.expect("\r\n[yes]\r\n")
	a.send("\xff\xfd\x05") // DO STATUS
	a.expect("\xff\xfc\x05")
	a.send("\xff\xfb\x18") // WILL TERMINAL-TYPE
	a.expect("\xff\xfe\x18")
	a.send("\xff\xfd\x01\xff\xfd\x03") // agreed: no answer
	line.Inject([]byte("a\rb\r\nc\xff"))
	a.expect("a\r\x00b\r\nc\xff\xff")
	a.send("\xff\xfd\x00") // DO BINARY
	a.send("\xff\xf6")
	a.expect("\r\n[yes]\r\n")
	line.Inject([]byte("a\rb"))
	a.expect("a\rb")

	a.c.Close()
	eventually(t, "the loss of the client", func() bool { there, _ := p.Carrier(); return !there })
	eventually(t, "the wait for the next", func() bool {
		l, _ := p.set.listener("127.0.0.1:0")
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting) == 1
	})
	line.Inject([]byte("meanwhile"))
	c := dial(t, where.of("con3"))
	c.expect(greeting + "meanwhile")
}

// TestTelnetInput: what arrives at the guest for what is sent.
func TestTelnetInput(t *testing.T) {
	for _, c := range []struct{ name, sent, want string }{
		{"line ends", "a\r\nb\r\x00c\rd\n", "a\rb\rc\rd\n"},
		{"escaped 255", "a\xff\xffb", "a\xffb"},
		{"in binary mode", "\xff\xfb\x00a\r\nb\r\x00", "a\r\nb\r\x00"},
		{"keys", "\xff\xf4\xff\xf7\xff\xf8", "\x03\x7f\x15"},
		{"commands without meaning", "a\xff\xf1b\xff\xf9c\xff\xf5d", "abcd"},
		{"long subnegotiation", "\xff\xfa\x27" + strings.Repeat("x", 10000) + "\xff\xf0y", "y"},
		{"subnegotiation broken off", "\xff\xfa\x1f\x00\xff\xfd\x01z", "z"},
	} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		tn, err := newTelnet(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		tn.onSize, tn.onBreak = func() {}, func() {}
		// Byte by byte, and all at once.
		for _, size := range []int{1, len(c.sent)} {
			tn.him = [256]bool{}
			tn.state, tn.cr = stData, false
			var got []byte
			for rest := []byte(c.sent); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := unix.Write(fds[1], rest[:min(size, len(rest))]); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, len(c.sent))
				n, err := tn.read(b)
				if err != nil && err != unix.EAGAIN {
					t.Fatal(err)
				}
				got = append(got, b[:n]...)
			}
			if string(got) != c.want {
				t.Errorf("%s, %d bytes at a time: %q, want %q", c.name, size, got, c.want)
			}
		}
		tn.close()
		unix.Close(fds[1])
	}
}

// TestTelnetFlood: a client that asks and never reads is let go, and does not make us grow.
func TestTelnetFlood(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	tn, err := newTelnet(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer tn.close()
	defer unix.Close(fds[1])
	ask := bytes.Repeat([]byte("\xff\xf6"), 2000)
	b := make([]byte, 4096)
	for range 10000 {
		if _, err := unix.Write(fds[1], ask); err != nil {
			t.Fatal(err)
		}
		if _, err := tn.read(b); err == unix.EPROTO {
			if len(tn.unsent) > 2*maxUnsent {
				t.Error("grew to", len(tn.unsent))
			}
			return
		}
	}
	t.Error("was not let go")
}

// FuzzTelnet: no input of a client does harm.
func FuzzTelnet(f *testing.F) {
	f.Add([]byte("\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0hello\r\n\xff\xfd\x01\xff\xf3"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := newHostFD(0, false)
		if err != nil {
			t.Skip()
		}
		defer h.close()
		tn := &telnetConn{hostFD: h, onBreak: func() {}, onSize: func() {}}
		for _, c := range in {
			tn.decode(c)
		}
		if len(tn.sub) > maxSub || len(tn.unsent) > 16*len(in) {
			t.Errorf("grew: %d, %d", len(tn.sub), len(tn.unsent))
		}
	})
}

// TestSharedPort: connections go to the lines in the order in which they wait.
func TestSharedPort(t *testing.T) {
	s := New()
	p1, line1, where := configured(t, s, "4=port:0")
	if err := s.Drivers()[1].Config("4=port:0"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Drivers()[1].Remove("4") }()
	p2, line2 := s.ports["ssl4"], s.ttys["ssl4"]
	for _, o := range []struct {
		p *port
		t *tty.TTY
	}{{p2, line2}, {p1, line1}} {
		if err := o.p.Open(o.t); err != nil {
			t.Fatal(err)
		}
	}
	if where.of("con4") != where.of("ssl4") {
		t.Fatal("two ports:", where.of("con4"), where.of("ssl4"))
	}
	line1.Inject([]byte("one"))
	line2.Inject([]byte("two"))
	dial(t, where.of("con4")).expect(greeting + "two")
	dial(t, where.of("con4")).expect(greeting + "one")
	dial(t, where.of("con4")).expect(notice)
}

// TestScanner: connections that end at once do not end the line.
func TestScanner(t *testing.T) {
	p, line, where := configured(t, New(), "5=port:0")
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		c, err := net.Dial("tcp", strings.TrimPrefix(where.of("con5"), "telnet://"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	line.Inject([]byte("still here"))
	eventually(t, "a connection that serves", func() bool {
		c := dial(t, where.of("con5"))
		b, _ := io.ReadAll(io.LimitReader(c.c, int64(len(greeting))))
		return string(b) == greeting
	})
}

// TestPortRemoved: a line that is removed does not listen any more, and one that is open is not removed.
func TestPortRemoved(t *testing.T) {
	s := New()
	_, _, _ = configured(t, s, "6=port:0")
	l, err := s.listener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := s.Drivers()[0]
	if got, err := d.Query("6"); got != "port:0" || err != nil {
		t.Error(got, err)
	}
	if err := d.Remove("6"); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", l.addr()); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
	for id, want := range map[string]string{"16": "Invalid device number - must be between 0 and 15", "x": "Couldn't parse device number"} {
		if err := d.Remove(id); err == nil || err.Error() != want {
			t.Errorf("remove con%s: %v", id, err)
		}
	}
	if err := d.Remove("6"); err != unix.ENODEV {
		t.Error("removed twice:", err)
	}
	if got, err := d.Query("6"); got != "none" || err != nil {
		t.Error(got, err)
	}
	for arg, want := range map[string]string{"=pts": "Can't configure all devices from mconsole", "6": "the form is", "99=pts": "Invalid device number", "6=foo": "couldn't parse"} {
		if err := d.Config(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("config con%s: %v", arg, err)
		}
	}
}

// TestBusyLine: a line that is in use cannot be changed.
func TestBusyLine(t *testing.T) {
	s := New()
	defer s.Close()
	d := s.Drivers()[0]
	if err := d.Config("12=null"); err != nil {
		t.Skip("in use since the last time that this test ran:", err)
	}
	if err := tty.Hold(s.ttys["con12"]); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{d.Config("12=pts"), d.Remove("12")} {
		var busy *hotplug.Error
		if !errors.As(err, &busy) || busy.Errno != unix.EBUSY || busy.Text != "Device is already open" {
			t.Error(err)
		}
	}
}

// TestPortInUse: an address that cannot be had is an error of the line.
func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := New()
	defer s.Close()
	if err := s.Drivers()[0].Config("7=port:" + strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)); !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
}

// TestHostTTY: a terminal device of the host follows the guest's speed and format, and its end hangs the guest's up.
func TestHostTTY(t *testing.T) {
	m, sl, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer m.Close()
	p, line, where := configured(t, New(), "8=tty:"+sl.Name())
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	if where.of("con8") != sl.Name() {
		t.Error(where.of("con8"))
	}
	line.Inject([]byte("hello"))
	b := make([]byte, 10)
	if n, err := m.Read(b); string(b[:n]) != "hello" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	guest := tty.StdTermios()
	guest.Cflag = unix.B115200 | unix.CS8 | unix.CSTOPB | unix.CREAD
	guest.Ispeed, guest.Ospeed = 115200, 115200
	p.SetLine(&guest)
	tm, err := unix.IoctlGetTermios(int(sl.Fd()), unix.TCGETS2)
	if err != nil || tm.Ospeed != 115200 || tm.Cflag&unix.CSTOPB == 0 || tm.Lflag&(unix.ICANON|unix.ECHO) != 0 {
		t.Errorf("%+v, %v", tm, err)
	}
	if !p.SetBreak(true) || !p.SetBreak(false) {
		t.Error("no breaks")
	}
	sl.Close()
	p.Close()
	if err := p.Open(line); err != nil {
		t.Fatal("opened again:", err)
	}
}

func TestMissingTTY(t *testing.T) {
	p, line, _ := configured(t, New(), "8=tty:/dev/does-not-exist")
	if err := p.Open(line); err != unix.ENODEV {
		t.Error(err)
	}
}

// TestUnreadPts: a pty that nobody has opened takes everything and keeps what came last; with a user there is flow control.
func TestUnreadPts(t *testing.T) {
	p, line, where := configured(t, New(), "9=pts")
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	name := where.of("con9")
	if c := p.in.conn.(*ptsConn); c.watch == nil {
		t.Skip("the host cannot tell who uses a pty")
	}
	chunk := bytes.Repeat([]byte("0123456\r\n"), 400)
	for range 300 {
		line.Inject(chunk)
	}
	line.Inject([]byte("the end"))
	if n := line.Unsent(); n != 0 {
		t.Error("waits for nobody:", n)
	}
	user, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, buf := []byte(nil), make([]byte, 65536)
	eventually(t, "the last output", func() bool {
		n, _ := user.Read(buf)
		got = append(got, buf[:n]...)
		return bytes.HasSuffix(got, []byte("the end"))
	})
	eventually(t, "the pty to have a user", func() bool { return !p.in.conn.(*ptsConn).abandoned() })
	for range 300 {
		line.Inject(chunk)
	}
	if line.Unsent() == 0 {
		t.Error("output for a user was thrown away")
	}
	user.Close()
	eventually(t, "the rest to go nowhere", func() bool { line.WriteWakeup(); return line.Unsent() == 0 })
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Open(line); err != nil || where.of("con9") != name {
		t.Error("another pty for the next login:", where.of("con9"), err)
	}
}

// TestXterm: the emulator gets title and command, its terminal becomes the line's, the window's size is followed, and its end
// hangs the line up.
func TestXterm(t *testing.T) {
	m, sl, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer m.Close()
	_ = pty.Setsize(m, &pty.Winsize{Rows: 30, Cols: 90})
	dir := t.TempDir()
	// An emulator: it runs the command on a terminal, which becomes that of its session.
	emu := filepath.Join(dir, "emulator")
	script := "#!/bin/sh\necho \"$1 $2 $3\" > " + dir + "/args\nshift 3\nexec \"$@\" <> " + sl.Name() + "\n"
	if err := os.WriteFile(emu, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := New()
	s.Xterm, s.Name = [3]string{emu, "-t", "-x"}, "box"
	t.Setenv("DISPLAY", ":0")
	t.Setenv("TMPDIR", dir)
	p, line, _ := configured(t, s, "10=xterm")
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the window", func() bool {
		there, err := p.Carrier()
		if err != nil {
			t.Fatal(err)
		}
		return there
	})
	if args, _ := os.ReadFile(dir + "/args"); string(args) != "-t Virtual Console #10 (box) -x\n" {
		t.Errorf("%q", args)
	}
	if left, _ := filepath.Glob(dir + "/xterm-pipe*"); len(left) > 0 {
		t.Error("left behind:", left)
	}
	line.Inject([]byte("hello"))
	b := make([]byte, 10)
	if n, err := m.Read(b); string(b[:n]) != "hello" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	eventually(t, "its size", func() bool { return line.Size() == unix.Winsize{Row: 30, Col: 90} })
	_ = pty.Setsize(m, &pty.Winsize{Rows: 50, Cols: 132})
	eventually(t, "its new size", func() bool { return line.Size() == unix.Winsize{Row: 50, Col: 132} })
	p.destroy()
	sl.Close()
	eventually(t, "the end of the helper", func() bool { _, err := m.Read(b); return err != nil })
}

func TestXtermFails(t *testing.T) {
	s := New()
	t.Setenv("DISPLAY", "")
	p, line, _ := configured(t, s, "11=xterm")
	if err := p.Open(line); err != unix.ENODEV {
		t.Error("without DISPLAY:", err)
	}
	t.Setenv("DISPLAY", ":0")
	s.Xterm = [3]string{"false", "-T", "-e"}
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure", func() bool { _, err := p.Carrier(); return err == unix.ENODEV })
}
