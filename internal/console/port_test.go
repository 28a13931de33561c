package console

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// guest is a caller without job control.
type guest struct {
	wake, signaled chan struct{}
	signals        []unix.Signal
}

func newGuest() *guest {
	return &guest{wake: make(chan struct{}, 1), signaled: make(chan struct{}, 1)}
}

func (g *guest) Sleep(deadline int64) error {
	var timeout <-chan time.Time
	if deadline != ktime.Forever {
		timeout = time.After(time.Duration(deadline - ktime.Monotonic()))
	}
	select {
	case <-g.wake:
		return nil
	case <-g.signaled:
		return abi.ERESTARTSYS
	case <-timeout:
		return unix.ETIMEDOUT
	}
}

func (g *guest) Wake() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}
func (g *guest) Cred() *cred.Cred     { return cred.Root() }
func (g *guest) Mem() uio.Memory      { return nil }
func (g *guest) FS() *vfs.FSContext   { return nil }
func (g *guest) PID() int32           { return 1 }
func (g *guest) Rlimit(int) uint64    { return 1 << 20 }
func (g *guest) Signal(s unix.Signal) { g.signals = append(g.signals, s) }

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// blocking makes the descriptor of f what a shell would hand over.
func blocking(f *os.File) int { return int(f.Fd()) }

// open opens a line as the guest's /dev/console would.
func open(t *testing.T, s *Set, conf string) (*tty.TTY, *port) {
	t.Helper()
	pr, err := parsePair(conf)
	if err != nil {
		t.Fatal(err)
	}
	p := newPort(s, consoles, 1, pr)
	line := tty.New("tty1", 4, 1, p)
	if err := p.Open(line); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.destroy)
	return line, p
}

func TestFdChannel(t *testing.T) {
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	s := New()
	conf := "fd:" + strconv.Itoa(blocking(inR)) + ",fd:" + strconv.Itoa(blocking(outW))
	line, p := open(t, s, conf)
	line.Inject([]byte("hello\r\n"))
	b := make([]byte, 100)
	if n, err := outR.Read(b); string(b[:n]) != "hello\r\n" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	if _, err := inW.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := unix.FcntlInt(inR.Fd(), unix.F_GETFL, 0); err != nil {
		t.Error("the descriptor was closed:", err)
	}
}

// TestFullPipe: output to a pipe that nobody reads does not block; it goes on when there is room.
func TestFullPipe(t *testing.T) {
	outR, outW := pipe(t)
	line, p := open(t, New(), "null,fd:"+strconv.Itoa(blocking(outW)))
	sent := 0
	chunk := bytes.Repeat([]byte("x"), 4096)
	for {
		n := p.Write(chunk)
		sent += n
		if n < len(chunk) {
			break
		}
	}
	if p.Room() != 0 {
		t.Error("room in a full pipe")
	}
	line.Inject([]byte("last"))
	if line.Unsent() != 4 {
		t.Error("unsent:", line.Unsent())
	}
	got := make([]byte, sent+4)
	if _, err := io.ReadFull(outR, got); err != nil || string(got[sent:]) != "last" {
		t.Errorf("%q %v", got[max(0, len(got)-10):], err)
	}
}

// TestTerminal: a host terminal is raw while the line is open and as before afterwards; its size is the line's.
func TestTerminal(t *testing.T) {
	m, sl, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer m.Close()
	defer sl.Close()
	_ = pty.Setsize(m, &pty.Winsize{Rows: 33, Cols: 101})
	fd := blocking(sl)
	lflag := func() uint32 {
		tm, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return tm.Lflag
	}
	old := lflag()
	line, p := open(t, New(), "fd:"+strconv.Itoa(fd))
	if lflag()&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("not raw")
	}
	if ws, ok := p.Size(); !ok || ws.Row != 33 || ws.Col != 101 {
		t.Error("size", ws, ok)
	}
	line.Inject([]byte("x"))
	b := make([]byte, 10)
	if n, err := m.Read(b); string(b[:n]) != "x" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	RestoreTerminals()
	if lflag() != old {
		t.Error("not restored")
	}
	p.Close()
}

// TestPts: the line gets a host pty, which is announced, and works in both directions.
func TestPts(t *testing.T) {
	var mu sync.Mutex
	var stderr bytes.Buffer
	s := New()
	s.Stderr = writerFunc(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return stderr.Write(b) })
	assigned := ""
	s.Assigned = func(line, dev string) { assigned = line + " " + dev }
	line, p := open(t, s, "pts")
	mu.Lock()
	text := stderr.String()
	mu.Unlock()
	dev := strings.TrimSuffix(strings.TrimPrefix(text, "Virtual console 1 assigned device '"), "'\n")
	if !strings.HasPrefix(dev, "/dev/pts/") || assigned != "con1 "+dev {
		t.Fatalf("announced %q, %q", text, assigned)
	}
	if got := p.config(); got != "pts:"+dev {
		t.Error(got)
	}
	user, err := os.OpenFile(dev, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	line.Inject([]byte("login: "))
	b := make([]byte, 20)
	if n, err := user.Read(b); string(b[:n]) != "login: " || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func streamFile(t *testing.T, fd int, flags uint32) (*Stream, *vfs.File) {
	t.Helper()
	s, err := NewStream(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := vfs.NewFile(vfs.Path{}, nil, s, flags)
	t.Cleanup(func() { s.Release(f) })
	return s, f
}

// TestStreamCopies: bytes from a file and from a pipe to a pipe arrive as they are, and the end is the end.
func TestStreamCopies(t *testing.T) {
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	name := t.TempDir() + "/in"
	if err := os.WriteFile(name, data, 0600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pr, pw := pipe(t)
	go func() { _, _ = pw.Write(data); pw.Close() }()
	for _, in := range []*os.File{file, pr} {
		outR, outW := pipe(t)
		src, sf := streamFile(t, blocking(in), unix.O_RDONLY)
		dst, df := streamFile(t, blocking(outW), unix.O_WRONLY)
		got := make(chan []byte)
		go func() { b, _ := io.ReadAll(outR); got <- b }()
		c := newGuest()
		buf := make([]byte, 10_000)
		for {
			n, err := src.Read(c, sf, uio.ToBytes(buf), 0)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if k, err := dst.Write(c, df, uio.FromBytes(buf[:n]), 0); k != n || err != nil {
				t.Fatal(k, err)
			}
		}
		outW.Close()
		if !bytes.Equal(<-got, data) {
			t.Error("data differ")
		}
	}
}

func TestStreamWaits(t *testing.T) {
	r, w := pipe(t)
	s, f := streamFile(t, blocking(r), unix.O_RDONLY|unix.O_NONBLOCK)
	c := newGuest()
	b := make([]byte, 10)
	if _, err := s.Read(c, f, uio.ToBytes(b), 0); err != unix.EAGAIN {
		t.Error(err)
	}
	e := wait.Entry{Callback: wait.WakeCallback, Data: c}
	s.WaitQueue().Register(&e, wait.In)
	if s.Readiness(wait.In) != 0 {
		t.Error("readable")
	}
	_, _ = w.WriteString("x")
	for s.Readiness(wait.In) == 0 {
		if err := c.Sleep(ktime.Forever); err != nil {
			t.Fatal(err)
		}
	}
	s.WaitQueue().Unregister(&e)
	if n, err := s.Read(c, f, uio.ToBytes(b), 0); n != 1 || err != nil {
		t.Error(n, err)
	}
	blocked := vfs.NewFile(vfs.Path{}, nil, s, unix.O_RDONLY)
	c.signaled <- struct{}{}
	if _, err := s.Read(c, blocked, uio.ToBytes(b), 0); err != abi.ERESTARTSYS {
		t.Error("interrupted:", err)
	}
	w.Close()
	if n, err := s.Read(c, blocked, uio.ToBytes(b), 0); n != 0 || err != nil {
		t.Error("end of file:", n, err)
	}
}

func TestStreamBrokenPipe(t *testing.T) {
	r, w := pipe(t)
	s, f := streamFile(t, blocking(w), unix.O_WRONLY)
	r.Close()
	c := newGuest()
	if _, err := s.Write(c, f, uio.FromBytes([]byte("x")), 0); err != unix.EPIPE {
		t.Error(err)
	}
	if len(c.signals) != 1 || c.signals[0] != unix.SIGPIPE {
		t.Error(c.signals)
	}
}
