package tty

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	// echoLimit bounds echo that the port has no room for, logLimit kernel messages; the rest is lost.
	echoLimit = 4096
	logLimit  = 256 << 10
	// minRoom is the least room that a write uses: a tab can become 8 spaces.
	minRoom = 8
	// chunk is how much of a write is processed at a time.
	chunk = 4096
)

// output is the sending half of the line discipline. TTY.mu guards it.
type output struct {
	column, canonColumn int
	// pending is echo and kernel messages, processed, that the port had no room for. It goes before anything else.
	pending []byte
	// sentColumn and sentCanon are the columns before pending, for when it is thrown away.
	sentColumn, sentCanon int
	// scratch holds processed bytes on their way to the port.
	scratch []byte
}

// stopOutput and startOutput are STOP and START.
func (t *TTY) stopOutput() {
	if !t.stopped {
		t.stopped = true
		if t.pty != nil {
			t.pty.status(unix.TIOCPKT_STOP, unix.TIOCPKT_START)
		}
	}
}

func (t *TTY) startOutput() {
	if t.stopped {
		if t.pty != nil {
			t.pty.status(unix.TIOCPKT_START, unix.TIOCPKT_STOP)
		}
		t.resumeOutput()
	}
}

// resumeOutput ends a stop of any kind. Echo that waited goes out when all that was received with the START has been
// processed: an interrupt character after it still throws that echo away.
func (t *TTY) resumeOutput() {
	t.stopped, t.tcoStopped = false, false
	if !t.in.busy {
		t.flushPending()
	}
	t.after.events |= writeEvents
}

// WriteWakeup says that the port has room again.
func (t *TTY) WriteWakeup() {
	t.mu.Lock()
	t.flushPending()
	if len(t.out.pending) == 0 && !t.stopped {
		t.after.events |= writeEvents
	}
	t.unlock()
}

// flushPending sends what had to wait.
func (t *TTY) flushPending() {
	if len(t.out.pending) == 0 || t.stopped {
		return
	}
	n := t.port.Write(t.out.pending)
	t.out.pending = t.out.pending[:copy(t.out.pending, t.out.pending[n:])]
	if len(t.out.pending) == 0 && cap(t.out.pending) > 2*echoLimit {
		t.out.pending = nil
	}
}

// dropPending throws away what waits, as if it had never been.
func (t *TTY) dropPending() {
	if o := &t.out; len(o.pending) > 0 {
		o.pending = o.pending[:0]
		o.column, o.canonColumn = o.sentColumn, o.sentCanon
	}
}

// roomLocked is how many bytes a write may send now.
func (t *TTY) roomLocked() int {
	if t.stopped {
		return 0
	}
	t.flushPending()
	if len(t.out.pending) > 0 {
		return 0
	}
	return t.port.Room()
}

// emit queues one processed byte of echo.
func (t *TTY) emit(c byte) {
	if len(t.out.pending) < echoLimit {
		t.out.pending = append(t.out.pending, c)
	}
}

// sendRaw sends a byte past everything (flow control characters).
func (t *TTY) sendRaw(c byte) {
	if c != disabled {
		t.port.Write([]byte{c})
	}
}

// echo shows a typed byte, control characters as ^X with ECHOCTL.
func (t *TTY) echo(c byte) {
	if t.termios.Lflag&unix.ECHOCTL != 0 && isControl(c) && c != '\t' {
		t.emit('^')
		t.emit(c ^ 0x40)
		t.out.column += 2
		return
	}
	t.echoRaw(c)
}

// echoRaw echoes through output processing only, which a byte of all ones does not pass.
func (t *TTY) echoRaw(c byte) {
	if c == 0xff {
		t.emit(c)
		t.out.column++
		return
	}
	if t.termios.Oflag&unix.OPOST == 0 {
		t.emit(c)
		return
	}
	var b [8]byte
	for _, c := range t.post(b[:0], c) {
		t.emit(c)
	}
}

// post is output processing (OPOST) of one byte: it appends what is to be sent, at most 8 bytes.
func (t *TTY) post(dst []byte, c byte) []byte {
	o, fl := &t.out, t.termios.Oflag
	switch c {
	case '\n':
		if fl&unix.ONLRET != 0 {
			o.column = 0
		}
		if fl&unix.ONLCR != 0 {
			o.column, o.canonColumn = 0, 0
			return append(dst, '\r', '\n')
		}
		o.canonColumn = o.column
	case '\r':
		if fl&unix.ONOCR != 0 && o.column == 0 {
			return dst
		}
		if fl&unix.OCRNL != 0 {
			c = '\n'
			if fl&unix.ONLRET != 0 {
				o.column, o.canonColumn = 0, 0
			}
		} else {
			o.column, o.canonColumn = 0, 0
		}
	case '\t':
		n := 8 - o.column&7
		o.column += n
		if fl&tabDelay == expandTabs {
			return append(dst, "        "[:n]...)
		}
	case '\b':
		if o.column > 0 {
			o.column--
		}
	default:
		if !isControl(c) {
			if fl&unix.OLCUC != 0 && isLower(c) {
				c -= 'a' - 'A'
			}
			if !continuation(&t.termios, c) {
				o.column++
			}
		}
	}
	return append(dst, c)
}

// send processes and sends as much of p as there is room for.
func (t *TTY) send(p []byte) int {
	room := t.roomLocked()
	if room < minRoom {
		return 0
	}
	if t.termios.Oflag&unix.OPOST == 0 {
		return t.port.Write(p[:min(room, len(p))])
	}
	if t.out.scratch == nil {
		t.out.scratch = make([]byte, 0, 2*chunk)
	}
	b := t.out.scratch[:0]
	limit := min(room, cap(b))
	n := 0
	for n < len(p) {
		if k := plainRun(p[n:], limit-len(b)); k > 0 && t.termios.Oflag&unix.OLCUC == 0 {
			b = append(b, p[n:n+k]...)
			t.out.column += t.width(p[n : n+k])
			n += k
			continue
		}
		c := p[n]
		need := 1
		switch c {
		case '\n':
			need = 2
		case '\t':
			need = 8
		}
		if len(b)+need > limit {
			break
		}
		b = t.post(b, c)
		n++
	}
	k := t.port.Write(b)
	// Room was promised; what does not fit nevertheless waits in front of all other output.
	t.out.pending = append(t.out.pending, b[k:]...)
	return n
}

// plainRun is how many bytes at the beginning of p, at most limit, output processing passes as they are.
func plainRun(p []byte, limit int) int {
	p = p[:min(len(p), limit)]
	for i, c := range p {
		if isControl(c) {
			return i
		}
	}
	return len(p)
}

// width is how many columns plain bytes take.
func (t *TTY) width(p []byte) int {
	n := len(p)
	if t.termios.Iflag&unix.IUTF8 != 0 {
		for _, c := range p {
			if c&0xc0 == 0x80 {
				n--
			}
		}
	}
	return n
}

// Write is write(2) on a terminal.
func (f *file) Write(c vfs.Caller, vf *vfs.File, src *uio.Src, _ int64) (int, error) {
	t := f.t
	if f.console {
		if r := redirected(); r != nil {
			return r.Write(c, vf, src, 0)
		}
	} else {
		if f.hung.Load() {
			return 0, unix.EIO
		}
		t.mu.Lock()
		tostop := t.termios.Lflag&unix.TOSTOP != 0
		t.mu.Unlock()
		if tostop {
			if err := t.checkChange(c, unix.SIGTTOU); err != nil {
				return 0, err
			}
		}
	}
	if src.Len() == 0 {
		return 0, nil
	}
	if err := t.lockWriter(c, vf.Nonblock()); err != nil {
		return 0, err
	}
	defer t.unlockWriter()
	if t.wbuf == nil {
		t.wbuf = make([]byte, chunk)
	}
	return src.Each(t.wbuf, func(p []byte) (int, error) {
		n, err := f.writeChunk(c, vf.Nonblock(), p)
		if r := recording(); r != nil && n > 0 {
			r.Data(t.EncodedDev(), false, p[:n])
		}
		return n, err
	})
}

// writeChunk sends p, waiting for room.
func (f *file) writeChunk(c vfs.Caller, nonblock bool, p []byte) (int, error) {
	t := f.t
	done := 0
	for done < len(p) {
		t.mu.Lock()
		if f.dead() {
			t.mu.Unlock()
			return done, unix.EIO
		}
		k := t.send(p[done:])
		t.unlock()
		if done += k; done == len(p) {
			break
		}
		if k > 0 {
			continue
		}
		if f.console && t.noUser() {
			return len(p), nil // the system does not stop because nobody watches
		}
		if nonblock {
			return done, unix.EAGAIN
		}
		err := t.queue.Wait(c, writeEvents, ktime.Forever, func() bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			return f.dead() || t.roomLocked() >= minRoom || f.console && t.noUser()
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// dead tells whether output can not go anywhere any more.
func (f *file) dead() bool { return f.hung.Load() || f.t.otherClosed }

// drain waits until all output is sent (tcdrain).
func (f *file) drain(c vfs.Caller) error {
	t := f.t
	return t.queue.Wait(c, writeEvents, ktime.Forever, func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.flushPending()
		// What STOP holds back does not count: nobody could change the settings of a stopped terminal.
		return f.dead() || t.stopped || len(t.out.pending) == 0 && t.port.Pending() == 0
	})
}

// Inject writes kernel text to the terminal past its settings, as printk does: lines end in CR LF.
func (t *TTY) Inject(p []byte) {
	t.mu.Lock()
	if len(t.out.pending) == 0 {
		p = p[t.port.Write(p):]
	}
	if len(t.out.pending)+len(p) <= logLimit {
		t.out.pending = append(t.out.pending, p...)
	}
	t.out.column, t.out.canonColumn = 0, 0
	t.unlock()
}

// Unsent is how many bytes of output the port has not taken yet, for the end of the kernel.
func (t *TTY) Unsent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.out.pending) + t.port.Pending()
}
