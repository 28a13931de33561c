package tty

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// bufPool has buffers in which bytes travel between a terminal and guest memory, outside the terminal's lock.
var bufPool = sync.Pool{New: func() any { return new([bufSize]byte) }}

// Read is read(2) on a terminal.
func (f *file) Read(c vfs.Caller, vf *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	t := f.t
	if f.hung.Load() {
		return 0, nil
	}
	if !f.console {
		if err := t.checkChange(c, unix.SIGTTIN); err != nil {
			return 0, err
		}
	}
	if dst.Len() == 0 {
		return 0, nil
	}
	buf := bufPool.Get().(*[bufSize]byte)
	defer bufPool.Put(buf)

	t.mu.Lock()
	m := readModeOf(&t.termios)
	t.mu.Unlock()
	deadline := m.firstDeadline()
	done := 0
	for {
		t.mu.Lock()
		n, end := t.take(buf[:min(dst.Len(), bufSize)])
		t.unlock()
		if n > 0 {
			if r := recording(); r != nil {
				r.Data(t.EncodedDev(), true, buf[:n])
			}
			k, err := dst.CopyOut(buf[:n])
			if done += k; err != nil {
				if done > 0 {
					return done, nil
				}
				return 0, err
			}
			if end || done >= m.need && n < bufSize || dst.Len() == 0 {
				return done, nil
			}
			if m.between > 0 {
				deadline = ktime.After(m.between)
			}
			continue
		}
		switch {
		case end && done == 0 && t.masterClosed():
			return 0, unix.EIO
		case end, done > 0 && done >= m.need, m.poll:
			return done, nil
		case vf.Nonblock() && done > 0:
			return done, nil
		case vf.Nonblock():
			return 0, unix.EAGAIN
		}
		err := t.queue.Wait(c, wait.Readable, deadline, func() bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.in.available(&t.termios, false) || t.eof || t.otherClosed || f.hung.Load() ||
				canonical(&t.termios) != m.canon
		})
		switch {
		case err == nil && f.hung.Load() && done == 0 && t.masterClosed():
			return 0, unix.EIO // the reader saw the master go; later reads return 0
		case err == unix.ETIMEDOUT, err != nil && done > 0, err == nil && f.hung.Load():
			return done, nil
		case err != nil:
			return 0, err
		}
		t.mu.Lock()
		if canonical(&t.termios) != m.canon {
			// The mode was changed under the reader: go on by its rules.
			m = readModeOf(&t.termios)
			deadline = m.firstDeadline()
		}
		t.mu.Unlock()
	}
}

// masterClosed tells whether the other side of a pty is gone.
func (t *TTY) masterClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.otherClosed
}

// readMode says when a read is complete (termios(3), "Canonical and noncanonical mode").
type readMode struct {
	canon   bool
	need    int           // bytes
	poll    bool          // do not wait at all (MIN 0, TIME 0)
	first   time.Duration // how long to wait for the first byte, 0 for ever (MIN 0, TIME n)
	between time.Duration // how long for each further one (MIN n, TIME n)
}

func readModeOf(t *unix.Termios) readMode {
	m := readMode{canon: canonical(t), need: 1}
	if m.canon {
		return m
	}
	vmin, vtime := int(t.Cc[unix.VMIN]), time.Duration(t.Cc[unix.VTIME])*100*time.Millisecond
	switch {
	case vmin > 0:
		m.need, m.between = vmin, vtime
	case vtime > 0:
		m.first = vtime
	default:
		m.poll = true
	}
	return m
}

func (m *readMode) firstDeadline() int64 {
	if m.first > 0 {
		return ktime.After(m.first)
	}
	return ktime.Forever
}

// take moves input to p. end is true if the read is over: a line was read, or nothing will come any more.
func (t *TTY) take(p []byte) (n int, end bool) {
	in := &t.in
	if in.available(&t.termios, false) {
		if canonical(&t.termios) {
			n, end = in.takeLine(p), true
		} else {
			n = min(len(p), in.count())
			k := copy(p[:n], in.buf[in.tail&bufMask:])
			copy(p[k:n], in.buf[:])
			in.tail += uint32(n)
			in.canon = in.tail
		}
		t.receivePending()
		return n, end
	}
	return 0, t.eof || t.otherClosed
}

// takeLine moves a line, or as much of it as fits, to p.
func (in *input) takeLine(p []byte) (n int) {
	for in.tail != in.canon {
		delim, c := in.isDelim(in.tail), in.at(in.tail)
		if delim && c == disabled && !in.push {
			// End of file: it ends the read, also one that is full already.
			in.tail++
			return n
		}
		if n == len(p) {
			return n
		}
		p[n] = c
		n++
		in.tail++
		if delim {
			in.push = false
			return n
		}
	}
	return n
}
