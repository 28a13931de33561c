package mconsole

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// control is a stream by which a client goes on talking to what it has started (exec) or joined (attach). It has lines:
// "size <rows> <columns>" is the size of the client's window, "signal <number>" is a signal for the command. Its end is the
// client's end.
type control struct {
	f   *os.File
	buf []byte
}

// maxControl is longer than any line.
const maxControl = 64

// newControl follows a stream that was passed with a request; nil if none was.
func newControl(files []*os.File, at int) (*control, error) {
	if len(files) <= at {
		return nil, nil
	}
	f, err := pollable(files[at])
	if err != nil {
		return nil, err
	}
	return &control{f: f}, nil
}

// pollable is a duplicate of a socket or pipe that was passed, whose reads end when it is closed.
func pollable(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(old uintptr) {
		if fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3); dupErr == nil {
			dupErr = unix.SetNonblock(fd, true)
		}
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// message is a line: either field is set.
type message struct {
	size   unix.Winsize
	signal unix.Signal
}

// line takes a complete line out of the buffer. What is no message is skipped.
func (c *control) line() (m message, ok bool) {
	for {
		line, rest, found := bytes.Cut(c.buf, []byte{'\n'})
		if !found {
			if len(c.buf) > maxControl {
				c.buf = c.buf[:0]
			}
			return m, false
		}
		c.buf = rest
		if _, err := fmt.Sscanf(string(line), "size %d %d", &m.size.Row, &m.size.Col); err == nil {
			return m, true
		}
		m = message{}
		if _, err := fmt.Sscanf(string(line), "signal %d", &m.signal); err == nil && m.signal > 0 && m.signal <= 64 {
			return m, true
		}
		m = message{}
	}
}

// firstSize is the size of the client's window, if it has sent one with its request.
func (c *control) firstSize() (ws unix.Winsize) {
	conn, err := c.f.SyscallConn()
	if err != nil {
		return ws
	}
	b := make([]byte, maxControl)
	_ = conn.Read(func(fd uintptr) bool {
		if n, err := unix.Read(int(fd), b); err == nil && n > 0 {
			c.buf = append(c.buf, b[:n]...)
		}
		return true // what comes later comes later
	})
	m, _ := c.line()
	return m.size
}

// follow calls each with every message until the stream is at its end, and then gone, or until it is closed.
func (c *control) follow(each func(message), gone func()) {
	b := make([]byte, 4*maxControl)
	for {
		for m, ok := c.line(); ok; m, ok = c.line() {
			each(m)
		}
		n, err := c.f.Read(b)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				gone()
			}
			return
		}
		c.buf = append(c.buf, b[:n]...)
	}
}

func (c *control) close() {
	if c != nil {
		c.f.Close()
	}
}
