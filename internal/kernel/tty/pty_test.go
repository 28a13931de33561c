package tty

import (
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func TestSlaveClose(t *testing.T) {
	m, s, p := newPair(t, newProc(2, 2, 1), unix.O_NONBLOCK)
	if _, err := m.read(10); err != unix.EAGAIN {
		t.Error(err)
	}
	_, _ = s.write("bye")
	s.close()
	if got, err := m.read(10); got != "bye" || err != nil {
		t.Errorf("what was written before the close: %q %v", got, err)
	}
	if _, err := m.read(10); err != unix.EIO {
		t.Error("read:", err)
	}
	if ev := m.ops.Readiness(wait.In); ev != wait.Hup {
		t.Errorf("poll %x", ev)
	}
	if n, err := m.write("x"); n != 1 || err != nil {
		t.Error("write:", n, err)
	}
	s = openFile(t, s.c, unix.O_RDWR|unix.O_NONBLOCK, func(f *vfs.File) (vfs.FileOps, error) { return OpenSlave(s.c, f, p) })
	if got, err := m.read(10); got != "x" || err != nil {
		t.Errorf("echo after reopen: %q %v", got, err)
	}
	if _, err := m.read(10); err != unix.EAGAIN {
		t.Error("read after reopen:", err)
	}
}

func TestLock(t *testing.T) {
	m, _, p := newPair(t, newProc(2, 2, 1), 0)
	if err := m.ioctl(unix.TIOCSPTLCK, m.c.setInt(1)); err != nil {
		t.Fatal(err)
	}
	if err := m.ioctl(tiocgptlck, memBase); err != nil || m.c.int() != 1 {
		t.Error(err, m.c.int())
	}
	if _, err := OpenSlave(m.c, vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR), p); err != unix.EIO {
		t.Error("open of a locked slave:", err)
	}
}

func TestPacketMode(t *testing.T) {
	m, s, p := newPair(t, newProc(2, 2, 1), unix.O_NONBLOCK)
	if err := m.ioctl(unix.TIOCPKT, m.c.setInt(1)); err != nil {
		t.Fatal(err)
	}
	_, _ = s.write("ab")
	if got, _ := m.read(10); got != "\x00ab" {
		t.Errorf("data: %q", got)
	}
	_ = s.ioctl(unix.TCXONC, unix.TCOOFF)
	if ev := m.ops.Readiness(wait.Pri | wait.In); ev != wait.Pri|wait.In {
		t.Errorf("poll %x", ev)
	}
	if got, _ := m.read(10); got != string(rune(unix.TIOCPKT_STOP)) {
		t.Errorf("stop: %q", got)
	}
	_ = s.ioctl(unix.TCXONC, unix.TCOON)
	_ = s.ioctl(unix.TCFLSH, unix.TCIOFLUSH)
	if got, _ := m.read(10); got != string(rune(unix.TIOCPKT_START|unix.TIOCPKT_FLUSHREAD|unix.TIOCPKT_FLUSHWRITE)) {
		t.Errorf("start and flush: %q", got)
	}
	tm := p.slave.termios
	tm.Iflag &^= unix.IXON
	p.slave.mu.Lock()
	p.slave.setTermios(tm)
	p.slave.unlock()
	if got, _ := m.read(10); got != string(rune(unix.TIOCPKT_NOSTOP)) {
		t.Errorf("nostop: %q", got)
	}
	if _, err := m.read(10); err != unix.EAGAIN {
		t.Error(err)
	}
}

// noncanonical sets MIN and TIME.
func noncanonical(p *Pty, vmin, vtime byte) {
	tm := p.slave.termios
	tm.Lflag &^= unix.ICANON | unix.ECHO
	tm.Cc[unix.VMIN], tm.Cc[unix.VTIME] = vmin, vtime
	p.slave.mu.Lock()
	p.slave.setTermios(tm)
	p.slave.unlock()
}

func TestMinTime(t *testing.T) {
	m, s, p := newPair(t, newProc(2, 2, 1), 0)
	reader := s.as(newProc(3, 2, 1))

	noncanonical(p, 0, 1)
	if got, err := reader.read(10); got != "" || err != nil {
		t.Errorf("MIN 0 TIME 1, nothing typed: %q %v", got, err)
	}

	// MIN 3: the read returns when the third byte is there.
	noncanonical(p, 3, 0)
	if ev := s.ops.Readiness(wait.In); ev != 0 {
		t.Error("readable without input")
	}
	type result struct {
		s   string
		err error
	}
	start := func() chan result {
		ch := make(chan result, 1)
		go func() {
			got, err := reader.read(10)
			ch <- result{got, err}
		}()
		return ch
	}
	ch := start()
	_, _ = m.write("ab")
	for taken := false; !taken; time.Sleep(time.Millisecond) { // until the reader waits for more
		p.slave.mu.Lock()
		taken = p.slave.in.count() == 0
		p.slave.mu.Unlock()
	}
	select {
	case r := <-ch:
		t.Fatal("returned early", r)
	default:
	}
	_, _ = m.write("cd")
	if r := <-ch; r.s != "abcd" || r.err != nil {
		t.Error(r)
	}

	// MIN 3 TIME 1: a pause ends the read.
	noncanonical(p, 3, 1)
	ch = start()
	_, _ = m.write("ab")
	if r := <-ch; r.s != "ab" || r.err != nil {
		t.Error(r)
	}
	if _, _ = m.write("xyz"); s.ops.Readiness(wait.In) != wait.In {
		t.Error("not readable")
	}
	if got, _ := reader.read(2); got != "xy" {
		t.Errorf("MIN is more than asked for: %q", got)
	}
	_, _ = reader.read(2)

	// A signal interrupts a read that has nothing, and ends one that has something.
	noncanonical(p, 3, 0)
	reader.c.signaled <- struct{}{}
	if _, err := reader.read(10); err != abi.ERESTARTSYS {
		t.Error("interrupted read:", err)
	}
	_, _ = m.write("ab")
	reader.c.signaled <- struct{}{}
	if got, err := reader.read(10); got != "ab" || err != nil {
		t.Errorf("interrupted read with data: %q %v", got, err)
	}
}

func TestReadersWakeUp(t *testing.T) {
	for _, how := range []string{"line", "mode", "hangup", "eof"} {
		m, s, p := newPair(t, newProc(2, 2, 1), 0)
		ch := make(chan string, 1)
		reader := s.as(newProc(3, 2, 1))
		go func() {
			got, err := reader.read(10)
			if err != nil {
				got = err.Error()
			}
			ch <- got
		}()
		_, _ = m.write("ab")
		want := "ab"
		switch how {
		case "line":
			_, _ = m.write("\n")
			want = "ab\n"
		case "mode":
			for p.slave.queue.Empty() {
				time.Sleep(time.Millisecond)
			}
			noncanonical(p, 1, 0)
		case "hangup":
			for p.slave.queue.Empty() {
				time.Sleep(time.Millisecond)
			}
			m.close()
			want = unix.EIO.Error()
		case "eof":
			_, _ = m.write("\x04")
		}
		if got := <-ch; got != want {
			t.Errorf("%s: %q", how, got)
		}
	}
}

// TestThroughput moves more than all buffers hold, in both directions, through a slow reader.
func TestThroughput(t *testing.T) {
	m, s, p := newPair(t, newProc(2, 2, 1), 0)
	noncanonical(p, 1, 0)
	p.slave.termios.Oflag = 0
	data := strings.Repeat("0123456789abcdef", 10000)
	move := func(from, to *opened) {
		var wg sync.WaitGroup
		wg.Go(func() {
			if n, err := from.write(data); n != len(data) || err != nil {
				t.Error(n, err)
			}
		})
		var b strings.Builder
		for b.Len() < len(data) {
			got, err := to.read(777)
			if err != nil {
				t.Error(err)
				break
			}
			b.WriteString(got)
		}
		wg.Wait()
		if b.String() != data {
			t.Error("data differ")
		}
	}
	move(m.as(newProc(3, 2, 1)), s.as(newProc(4, 2, 1)))
	move(s.as(newProc(5, 2, 1)), m.as(newProc(6, 2, 1)))
}

func TestBlockedWriter(t *testing.T) {
	port := &fakePort{room: 10}
	line := New("tty9", 4, 9, port)
	c := newProc(2, 2, 1)
	s := openFile(t, c, unix.O_RDWR|unix.O_NONBLOCK, func(f *vfs.File) (vfs.FileOps, error) { return line.open(c, f, false, true) })
	if n, err := s.write("0123\n67\n"); n != 8 || err != nil || string(port.out) != "0123\r\n67\r\n" {
		t.Errorf("%d %v %q", n, err, port.out)
	}
	if _, err := s.write("x"); err != unix.EAGAIN {
		t.Error(err)
	}
	if s.ops.Readiness(wait.Out) != 0 {
		t.Error("writable")
	}
	// Echo and kernel messages wait in order, and go first.
	line.Receive([]byte("e"))
	line.Inject([]byte("log\r\n"))
	done := make(chan struct{})
	s.f = vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR)
	go func() {
		if n, err := s.write("\tz"); n != 2 || err != nil {
			t.Error(n, err)
		}
		close(done)
	}()
	port.mu.Lock()
	port.room = 100
	port.mu.Unlock()
	line.WriteWakeup()
	<-done
	if got := string(port.out[10:]); got != "elog\r\n\tz" {
		t.Errorf("%q", got)
	}
}

func TestInputBeforeOpenAndEndOfInput(t *testing.T) {
	port := &fakePort{room: 1000, size: unix.Winsize{Row: 10, Col: 20}}
	line := New("tty9", 4, 9, port)
	if n := line.Receive([]byte("early\nlast")); n != 10 || len(port.out) != 0 {
		t.Error(n, port.out)
	}
	line.ReceiveEOF()
	c := newProc(2, 2, 1)
	s := openFile(t, c, unix.O_RDWR, func(f *vfs.File) (vfs.FileOps, error) { return line.open(c, f, false, true) })
	if line.Size() != port.size {
		t.Error("size of the port not taken")
	}
	for _, want := range []string{"early\n", "", ""} {
		if got, err := s.read(100); got != want || err != nil {
			t.Errorf("%q %v, want %q", got, err, want)
		}
	}
	// A port that gives more than fits is told when to go on.
	line.eof = false
	noise := make([]byte, bufSize+flipSize+1000)
	n := line.Receive([]byte(strings.Repeat("x", 4000) + "\n"))
	for n > 0 && n < len(noise) {
		k := line.Receive([]byte(strings.Repeat("y", 1000) + "\n"))
		if k < 1001 {
			break
		}
		n += k
	}
	if port.wakes != 0 {
		t.Error("woken early")
	}
	_, _ = s.read(bufSize)
	if port.wakes == 0 {
		t.Error("not woken")
	}
}

func TestSettings(t *testing.T) {
	_, s, p := newPair(t, newProc(2, 2, 1), 0)
	if err := s.ioctl(unix.TCGETS2, memBase); err != nil || s.c.mem[36] != 0 || s.c.mem[37] != 0x96 {
		t.Error("TCGETS2: speed", s.c.mem[36:44], err)
	}
	s.c.mem[8] = unix.B9600 // c_cflag
	if err := s.ioctl(unix.TCSETS, memBase); err != nil {
		t.Fatal(err)
	}
	if tm := p.slave.termios; tm.Ospeed != 9600 || tm.Ispeed != 9600 || tm.Cflag&unix.CREAD == 0 {
		t.Errorf("%+v", tm)
	}
	if err := s.ioctl(unix.TCGETA, memBase); err != nil {
		t.Fatal(err)
	}
	s.c.mem[6] &^= unix.ECHO
	if err := s.ioctl(unix.TCSETAF, memBase); err != nil || p.slave.termios.Lflag&unix.ECHO != 0 ||
		p.slave.termios.Lflag&unix.IEXTEN == 0 || p.slave.termios.Cc[unix.VWERASE] != 0x17 {
		t.Error("TCSETAF:", err)
	}
	for _, cmd := range []uint32{unix.TIOCMGET, 0x4b3b, 0x5600, unix.TIOCGSERIAL, 0x1234, unix.TIOCGPTN} {
		if err := s.ioctl(cmd, memBase); err != unix.ENOTTY {
			t.Errorf("%x: %v", cmd, err)
		}
	}
	if err := s.ioctl(unix.TIOCSETD, s.c.setInt(3)); err != unix.EINVAL {
		t.Error("TIOCSETD:", err)
	}
	if err := s.ioctl(unix.TCXONC, 7); err != unix.EINVAL {
		t.Error("TCXONC:", err)
	}
	if err := s.ioctl(unix.TCFLSH, 7); err != unix.EINVAL {
		t.Error("TCFLSH:", err)
	}
	_ = s.ioctl(unix.TIOCEXCL, 0)
	user := newProc(5, 5, 1)
	user.cred = user.cred.Copy()
	user.cred.Effective = 0
	if _, err := OpenSlave(user, vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR), p); err != unix.EBUSY {
		t.Error("exclusive:", err)
	}
}
