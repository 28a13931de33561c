package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// escape is the key that ends attach: Ctrl-].
const escape = 0x1d

// control is our end of a control stream, by which the server hears of the size of our window and of signals.
type control struct {
	theirs *os.File

	mu   sync.Mutex
	ours *os.File // nil when it is closed
}

func newControl() (*control, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &control{theirs: os.NewFile(uintptr(pair[1]), "control"), ours: os.NewFile(uintptr(pair[0]), "control")}, nil
}

func (c *control) send(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ours != nil {
		fmt.Fprintf(c.ours, format+"\n", args...) // a server that has gone does not answer either
	}
}

// size tells how large our window is, if fd is one.
func (c *control) size(fd int) {
	if w, h, err := term.GetSize(fd); err == nil {
		c.send("size %d %d", h, w)
	}
}

// close says that we have gone.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs.Close()
	if c.ours != nil {
		c.ours.Close()
		c.ours = nil
	}
}

// exec runs a command of the guest on our own streams; the exit status is the command's. Signals that would end us are the
// command's too.
func (s *session) exec(command string) int {
	ctl, err := newControl()
	if err != nil {
		return s.refused(err)
	}
	defer ctl.close()
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer close(sigs)
	defer signal.Stop(sigs)
	go func() {
		for sig := range sigs {
			ctl.send("signal %d", sig)
		}
	}()
	status, err := s.status("json exec "+command, s.in, os.Stdout, os.Stderr, ctl.theirs)
	if err != nil {
		return s.refused(err)
	}
	return status
}

// statusRefused is the exit status of exec if the command was not run, as that of env(1) and its like.
const statusRefused = 125

// status has the server run a command and returns its exit status, and why it was not run.
func (s *session) status(request string, files ...*os.File) (int, error) {
	c, err := Dial(s.path)
	if err != nil {
		return statusRefused, err
	}
	defer c.Close()
	var text strings.Builder
	_, err = c.Ask(request, func(t string) { text.WriteString(t) }, files...)
	if err != nil {
		return statusRefused, fmt.Errorf("Sending command to '%s' : %w", s.path, reason(err))
	}
	var answer struct {
		Message string
		Data    *struct{ Status int }
	}
	if json.Unmarshal([]byte(text.String()), &answer) != nil {
		answer.Message = text.String() // a server that does not know exec
	}
	if answer.Data == nil {
		return statusRefused, fmt.Errorf("ERR %s", answer.Message)
	}
	return answer.Data.Status, nil
}

// refused tells of an error of exec.
func (s *session) refused(err error) int {
	fmt.Fprintln(s.err, err)
	return statusRefused
}

// terminal is our terminal, or whatever our input is, joined to one of the guest by a socket and a control stream.
type terminal struct {
	s            *session
	ctl          *control
	sock         int
	theirs       *os.File
	end          []byte // keys that end it
	begun        bool
	shown, typed chan struct{}
	sigs         chan os.Signal
	restore      func()
}

func (s *session) newTerminal(end ...byte) (*terminal, error) {
	ctl, err := newControl()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		ctl.close()
		return nil, err
	}
	t := &terminal{s: s, ctl: ctl, sock: pair[0], theirs: os.NewFile(uintptr(pair[1]), "terminal"), end: end,
		shown: make(chan struct{}), typed: make(chan struct{}), sigs: make(chan os.Signal, 8), restore: func() {}}
	ctl.size(int(s.in.Fd()))
	return t, nil
}

// begin puts our terminal into raw mode and passes everything on, until the guest ends it, we are told to end, or an end key.
func (t *terminal) begin() {
	t.begun = true
	fd := int(t.s.in.Fd())
	if old, err := term.MakeRaw(fd); err == nil {
		t.restore = func() { term.Restore(fd, old) }
	}
	signal.Notify(t.sigs, unix.SIGWINCH, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		for sig := range t.sigs {
			if sig == unix.SIGWINCH {
				t.ctl.size(fd)
				continue
			}
			// The server finds both streams closed.
			t.restore()
			os.Exit(128 + int(sig.(unix.Signal)))
		}
	}()
	go func() {
		defer close(t.shown)
		buf := make([]byte, 16<<10)
		for {
			n, err := unix.Read(t.sock, buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 || err != nil {
				return
			}
			t.s.out.Write(buf[:n])
		}
	}()
	go func() {
		defer close(t.typed)
		t.sendInput()
		unix.Shutdown(t.sock, unix.SHUT_WR)
	}()
}

// finish waits for the last output and gives our terminal back.
func (t *terminal) finish() {
	t.theirs.Close()
	if t.begun {
		<-t.shown
		unix.Shutdown(t.sock, unix.SHUT_RDWR) // ends sendInput
		<-t.typed
		signal.Stop(t.sigs)
		close(t.sigs)
		t.restore()
	}
	unix.Close(t.sock)
	t.ctl.close()
}

// sendInput copies input until its end, an end key, or the end of the socket.
func (t *terminal) sendInput() {
	in := t.s.in
	buf := make([]byte, 1024)
	poll := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(t.sock), Events: unix.POLLRDHUP}}
	for {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[1].Revents != 0 {
			return
		}
		if poll[0].Revents == 0 {
			continue
		}
		n, err := in.Read(buf)
		b := buf[:n]
		i := bytes.IndexAny(b, string(t.end))
		if i >= 0 {
			b = b[:i]
		}
		for len(b) > 0 {
			k, err := unix.SendmsgN(t.sock, b, nil, nil, unix.MSG_NOSIGNAL)
			if err != nil && err != unix.EINTR {
				return
			}
			b = b[max(k, 0):]
		}
		if i >= 0 || err != nil {
			return
		}
	}
}

// execOnTerminal runs a command on a terminal of the guest that is ours here.
func (s *session) execOnTerminal(command string) int {
	if !term.IsTerminal(int(s.in.Fd())) {
		return s.refused(errors.New("ERR exec -t wants a terminal as standard input"))
	}
	t, err := s.newTerminal()
	if err != nil {
		return s.refused(err)
	}
	if name := os.Getenv("TERM"); name != "" && strings.Trim(name, termChars) == "" {
		command = "export TERM=" + name + "; " + command
	}
	t.begin()
	status, err := s.status("json exec -t "+command, t.theirs, t.ctl.theirs)
	t.finish()
	if err != nil {
		return s.refused(err)
	}
	return status
}

// termChars are what names of terminals are made of.
const termChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+"

// attach joins our terminal to a console of the guest until Ctrl-] or the end of the input.
func (s *session) attach(device string) int {
	c, err := Dial(s.path)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	defer c.Close()
	t, err := s.newTerminal(escape)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	text := ""
	number, err := c.Ask("attach "+device, func(part string) {
		if t.begun || part != "attached" {
			text += part
			return
		}
		if term.IsTerminal(int(s.in.Fd())) {
			fmt.Fprintf(s.err, "Attached to %s; Ctrl-] ends it.\n", device)
		}
		t.begin()
		t.theirs.Close()
	}, t.theirs, t.ctl.theirs)
	t.finish()
	if err != nil {
		fmt.Fprintf(s.err, "Sending command to '%s' : %v\n", s.path, reason(err))
		return 1
	}
	if number != 0 {
		fmt.Fprintf(s.err, "ERR %s\n", text)
	}
	return int(number) & 0xff
}
