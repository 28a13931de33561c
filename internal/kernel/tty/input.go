package tty

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

const (
	readEvents  = wait.In | wait.RdNorm
	writeEvents = wait.Out | wait.WrNorm

	// bufSize is the size of the line discipline's buffer; a line has at most bufSize-1 bytes and its delimiter.
	bufSize = 4096
	bufMask = bufSize - 1
	// flipSize bounds what waits in front of a full line discipline.
	flipSize = 8192
)

// input is the receiving half of the line discipline. TTY.mu guards it.
//
// buf is a ring; tail, canon and head are free-running: [tail, canon) are complete lines in canonical mode, [canon, head)
// is the line being edited. A bit in delim marks the end of a line in buf; an end of file is a marked zero byte.
type input struct {
	buf   *[bufSize]byte
	delim [bufSize / 64]uint64
	// marked: some bit of delim may be set.
	marked bool

	tail, canon, head uint32

	lnext   bool // the next byte is literal
	erasing bool // between the slashes of ECHOPRT
	push    bool // what was typed before the switch to canonical mode counts as a line

	special [256]bool // bytes that receiveSpecial must look at
	ready   bool      // special is set
	cooked  bool      // any processing at all is wanted

	busy     bool   // received bytes are being processed
	flip     []byte // received, not yet processed
	throttle bool   // the port was told to wait
}

func (in *input) at(i uint32) byte      { return in.buf[i&bufMask] }
func (in *input) isDelim(i uint32) bool { return in.delim[i&bufMask/64]>>(i%64)&1 != 0 }
func (in *input) setDelim(i uint32) {
	in.delim[i&bufMask/64] |= 1 << (i % 64)
	in.marked = true
}
func (in *input) clearDelim(i uint32)           { in.delim[i&bufMask/64] &^= 1 << (i % 64) }
func (in *input) count() int                    { return int(in.head - in.tail) }
func canonical(t *unix.Termios) bool            { return t.Lflag&(unix.ICANON|extproc) == unix.ICANON }
func continuation(t *unix.Termios, c byte) bool { return t.Iflag&unix.IUTF8 != 0 && c&0xc0 == 0x80 }

// put stores one byte; there is room (see space).
func (in *input) put(c byte) {
	in.clearDelim(in.head)
	in.buf[in.head&bufMask] = c
	in.head++
}

// putAll stores plain bytes; there is room.
func (in *input) putAll(p []byte) {
	if in.marked {
		for _, c := range p {
			in.put(c)
		}
		return
	}
	n := copy(in.buf[in.head&bufMask:], p)
	copy(in.buf[:], p[n:])
	in.head += uint32(len(p))
}

// unmark forgets all ends of lines.
func (in *input) unmark() {
	in.delim = [bufSize / 64]uint64{}
	in.marked = false
}

// reset throws all input away.
func (in *input) reset() {
	in.tail, in.canon, in.head = 0, 0, 0
	in.unmark()
	in.lnext, in.erasing, in.push = false, false, false
	in.flip = in.flip[:0]
}

// modeChanged follows a change of ICANON: what is in the buffer becomes one line, or lines become plain bytes.
func (in *input) modeChanged(lflag uint32) {
	in.unmark()
	if lflag&unix.ICANON == 0 || in.count() == 0 {
		in.canon, in.push = in.tail, false
	} else {
		in.setDelim(in.head - 1)
		in.canon, in.push = in.head, true
	}
	in.erasing, in.lnext = false, false
}

// available tells whether a read would return something. For poll, VMIN counts if there is no VTIME.
func (in *input) available(t *unix.Termios, poll bool) bool {
	if canonical(t) {
		return in.canon != in.tail
	}
	n := 1
	if poll && t.Cc[unix.VTIME] == 0 && t.Cc[unix.VMIN] != 0 {
		n = int(t.Cc[unix.VMIN])
	}
	return in.count() >= n
}

// queued is FIONREAD.
func (in *input) queued(t *unix.Termios) int {
	if !canonical(t) {
		return in.count()
	}
	n := 0
	for i := in.tail; i != in.canon; i++ {
		if !in.isDelim(i) || in.at(i) != disabled {
			n++
		}
	}
	return n
}

// setSpecial computes which bytes need more than being stored.
func (in *input) setSpecial(t *unix.Termios) {
	in.special = [256]bool{}
	mark := func(idx ...int) {
		for _, i := range idx {
			in.special[t.Cc[i]] = true
		}
	}
	ext := t.Lflag&unix.IEXTEN != 0
	if t.Iflag&(unix.IGNCR|unix.ICRNL) != 0 {
		in.special['\r'] = true
	}
	if t.Iflag&unix.INLCR != 0 {
		in.special['\n'] = true
	}
	if t.Lflag&unix.ICANON != 0 {
		in.special['\n'] = true
		mark(unix.VERASE, unix.VKILL, unix.VEOF, unix.VEOL)
		if ext {
			mark(unix.VWERASE, unix.VLNEXT, unix.VEOL2)
			if t.Lflag&unix.ECHO != 0 {
				mark(unix.VREPRINT)
			}
		}
	}
	if t.Iflag&unix.IXON != 0 {
		mark(unix.VSTART, unix.VSTOP)
	}
	if t.Lflag&unix.ISIG != 0 {
		mark(unix.VINTR, unix.VQUIT, unix.VSUSP)
	}
	in.special[disabled] = false
	in.cooked = t.Lflag&extproc == 0 && (t.Iflag&(unix.ISTRIP|unix.IUCLC|unix.IGNCR|unix.INLCR|unix.ICRNL|unix.IXON|
		unix.PARMRK) != 0 || t.Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) != 0)
	in.ready = true
}

// Receive takes input from the port and returns how much it took. If that is less than all, the port keeps the rest until
// Unthrottle is called.
func (t *TTY) Receive(p []byte) int {
	t.mu.Lock()
	n := min(len(p), flipSize-len(t.in.flip))
	if len(t.in.flip) == 0 && t.receiving() {
		// The usual case: straight into the line discipline.
		k := t.receive(p[:n])
		t.in.flip = append(t.in.flip, p[k:n]...)
	} else {
		t.in.flip = append(t.in.flip, p[:n]...)
		t.receivePending()
	}
	if n < len(p) {
		t.in.throttle = true
		if t.pty == nil && t.termios.Iflag&unix.IXOFF != 0 {
			t.sendRaw(t.termios.Cc[unix.VSTOP])
		}
	}
	t.unlock()
	return n
}

// ReceiveEOF says that the port will never have input again: when what was received has been read, reads return 0. It is
// for input that is not a terminal (a pipe, a file); the end of a terminal's input is a Hangup.
func (t *TTY) ReceiveEOF() {
	t.mu.Lock()
	t.eof = true
	t.after.events |= readEvents
	t.unlock()
}

// ReceiveBreak says that the line had a break.
func (t *TTY) ReceiveBreak() {
	t.mu.Lock()
	if t.receiving() {
		t.receiveBreak()
	}
	t.unlock()
}

// receiving tells whether input is processed: it waits unseen until somebody has opened the terminal, so that what is
// typed ahead is not lost.
func (t *TTY) receiving() bool { return len(t.files) > 0 || t.pty != nil && !t.hungUp }

// receivePending processes input that had to wait, as far as there is room now.
func (t *TTY) receivePending() {
	if len(t.in.flip) == 0 || !t.receiving() {
		return
	}
	n := t.receive(t.in.flip)
	if n == 0 {
		return
	}
	t.in.flip = t.in.flip[:copy(t.in.flip, t.in.flip[n:])]
	if t.in.throttle {
		t.in.throttle = false
		t.after.unthrottle = true
		if t.pty == nil && t.termios.Iflag&unix.IXOFF != 0 {
			t.sendRaw(t.termios.Cc[unix.VSTART])
		}
	} else if t.pty != nil {
		t.after.unthrottle = true
	}
}

// space is how many bytes may be processed now. In canonical mode without a complete line it is never 0: more bytes
// overwrite the last one, so that the delimiter can always be typed.
func (t *TTY) space() int {
	in := &t.in
	room := bufSize - in.count()
	if t.termios.Iflag&unix.PARMRK != 0 {
		room = (room + 2) / 3
	}
	if room--; room > 0 {
		return room
	}
	if t.termios.Lflag&unix.ICANON != 0 && in.canon == in.tail {
		if room < 0 {
			in.head--
		}
		return 1
	}
	return 0
}

// receive passes bytes through the line discipline until it is full.
func (t *TTY) receive(p []byte) int {
	in := &t.in
	if in.buf == nil {
		in.buf = new([bufSize]byte)
	}
	if !in.ready {
		in.setSpecial(&t.termios)
	}
	if len(t.out.pending) == 0 {
		t.out.sentColumn, t.out.sentCanon = t.out.column, t.out.canonColumn
	}
	in.busy = true
	done := 0
	for done < len(p) {
		n := min(t.space(), len(p)-done)
		if n == 0 {
			break
		}
		if in.cooked {
			for _, c := range p[done : done+n] {
				t.receiveByte(c)
			}
		} else {
			in.putAll(p[done : done+n])
		}
		done += n
	}
	in.busy = false
	if in.available(&t.termios, false) {
		t.after.events |= readEvents
	}
	t.flushPending()
	return done
}

// receiveByte is the line discipline for one byte.
func (t *TTY) receiveByte(c byte) {
	in, tm := &t.in, &t.termios
	if in.lnext {
		in.lnext = false
		t.receivePlain(t.mapped(c), false)
		return
	}
	c = t.mapped(c)
	if in.special[c] {
		if !t.receiveSpecial(&c) {
			t.receivePlain(c, c == '\n')
		}
		return
	}
	if tm.Iflag&unix.IXANY != 0 {
		t.restart()
	}
	t.receivePlain(c, false)
}

// mapped applies ISTRIP and IUCLC.
func (t *TTY) mapped(c byte) byte {
	if t.termios.Iflag&unix.ISTRIP != 0 {
		c &= 0x7f
	}
	if t.termios.Iflag&unix.IUCLC != 0 && t.termios.Lflag&unix.IEXTEN != 0 && isUpper(c) {
		c += 'a' - 'A'
	}
	return c
}

// restart starts output that STOP had stopped.
func (t *TTY) restart() {
	if t.termios.Iflag&unix.IXON != 0 && t.stopped && !t.tcoStopped {
		t.startOutput()
	}
}

// receivePlain stores and echoes a byte without meaning. newline is true for a carriage return that became one: it is echoed
// as a new line, while one that was typed as such shows as ^J.
func (t *TTY) receivePlain(c byte, newline bool) {
	in := &t.in
	if t.termios.Lflag&unix.ECHO != 0 {
		t.finishErasing()
		if in.canon == in.head {
			t.out.canonColumn = t.out.column
		}
		if newline {
			t.echoRaw('\n')
		} else {
			t.echo(c)
		}
	}
	t.store(c)
}

// store puts a byte into the buffer, doubled if PARMRK makes it ambiguous and there is room for two.
func (t *TTY) store(c byte) {
	if c == 0xff && t.termios.Iflag&unix.PARMRK != 0 && t.in.count() < bufSize-1 {
		t.in.put(c)
	}
	t.in.put(c)
}

// receiveSpecial handles a byte that has a meaning with these settings. It returns false if *c is to be stored after all.
func (t *TTY) receiveSpecial(c *byte) bool {
	in, tm := &t.in, &t.termios
	is := func(i int) bool { return *c != disabled && *c == tm.Cc[i] }
	if tm.Iflag&unix.IXON != 0 {
		switch {
		case is(unix.VSTART):
			if t.stopped && !t.tcoStopped {
				t.startOutput()
			}
			return true
		case is(unix.VSTOP):
			t.stopOutput()
			return true
		}
	}
	if tm.Lflag&unix.ISIG != 0 {
		switch {
		case is(unix.VINTR):
			t.receiveSignal(*c, unix.SIGINT)
			return true
		case is(unix.VQUIT):
			t.receiveSignal(*c, unix.SIGQUIT)
			return true
		case is(unix.VSUSP):
			t.receiveSignal(*c, unix.SIGTSTP)
			return true
		}
	}
	if tm.Iflag&unix.IXANY != 0 {
		t.restart()
	}
	switch {
	case *c == '\r':
		if tm.Iflag&unix.IGNCR != 0 {
			return true
		}
		if tm.Iflag&unix.ICRNL != 0 {
			*c = '\n'
		}
	case *c == '\n' && tm.Iflag&unix.INLCR != 0:
		*c = '\r'
	}
	if tm.Lflag&unix.ICANON == 0 {
		return false
	}
	ext, echo := tm.Lflag&unix.IEXTEN != 0, tm.Lflag&unix.ECHO != 0
	switch {
	case is(unix.VERASE), is(unix.VKILL), ext && is(unix.VWERASE):
		t.erase(*c)
	case ext && is(unix.VLNEXT):
		in.lnext = true
		if echo {
			t.finishErasing()
			if tm.Lflag&unix.ECHOCTL != 0 {
				t.echoRaw('^')
				t.echoRaw('\b')
			}
		}
	case ext && echo && is(unix.VREPRINT):
		t.finishErasing()
		t.echo(*c)
		t.echoRaw('\n')
		for i := in.canon; i != in.head; i++ {
			t.echo(in.at(i))
		}
	case *c == '\n':
		if tm.Lflag&(unix.ECHO|unix.ECHONL) != 0 {
			t.echoRaw('\n')
		}
		t.endLine('\n')
	case is(unix.VEOF):
		t.endLine(disabled)
	case is(unix.VEOL), ext && is(unix.VEOL2):
		if echo {
			if in.canon == in.head {
				t.out.canonColumn = t.out.column
			}
			t.echo(*c)
		}
		if *c == 0xff && tm.Iflag&unix.PARMRK != 0 {
			in.put(*c)
		}
		t.endLine(*c)
	default:
		return false
	}
	return true
}

// endLine stores a delimiter and makes the line readable.
func (t *TTY) endLine(c byte) {
	in := &t.in
	in.put(c)
	in.setDelim(in.head - 1)
	in.canon = in.head
}

// receiveSignal handles INTR, QUIT and SUSP: signal the foreground group and, without NOFLSH, throw away input and output.
func (t *TTY) receiveSignal(c byte, sig unix.Signal) {
	t.interrupt(sig)
	if t.termios.Iflag&unix.IXON != 0 && t.stopped && !t.tcoStopped {
		t.startOutput()
	}
	if t.termios.Lflag&unix.ECHO != 0 {
		t.echo(c)
	}
}

// interrupt is the effect of a signal character but for its echo.
func (t *TTY) interrupt(sig unix.Signal) {
	t.signal(sig)
	if t.termios.Lflag&unix.NOFLSH != 0 {
		return
	}
	t.dropPending()
	t.port.Discard()
	t.flushInputLocked(false)
	t.after.events |= writeEvents
}

// flushInputLocked throws received input away, with flip also what waits to be processed.
func (t *TTY) flushInputLocked(flip bool) {
	keep := t.in.flip
	t.in.reset()
	if !flip {
		t.in.flip = keep
	} else if t.in.throttle || (t.pty != nil && len(keep) > 0) {
		t.in.throttle = false
		t.after.unthrottle = true
	}
	if t.pty != nil {
		t.pty.status(unix.TIOCPKT_FLUSHREAD, 0)
	}
}

// receiveBreak: IGNBRK, BRKINT, PARMRK.
func (t *TTY) receiveBreak() {
	tm := &t.termios
	switch {
	case tm.Iflag&unix.IGNBRK != 0:
		return
	case tm.Iflag&unix.BRKINT != 0:
		t.interrupt(unix.SIGINT)
		return
	}
	if t.in.buf == nil {
		t.in.buf = new([bufSize]byte)
	}
	if bufSize-t.in.count() < 4 {
		return
	}
	if tm.Iflag&unix.PARMRK != 0 {
		t.in.put(0xff)
		t.in.put(0)
	}
	t.in.put(0)
	t.after.events |= readEvents
}

// These classify bytes as Latin-1, which is what the kernel's line discipline goes by.
func isUpper(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 0xc0 && c <= 0xde && c != 0xd7
}

func isLower(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 0xdf && c != 0xf7
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7f }

func isWord(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		return true
	}
	return c >= 0xc0 && c != 0xd7 && c != 0xf7
}

// erase handles ERASE, WERASE and KILL.
func (t *TTY) erase(c byte) {
	in, tm := &t.in, &t.termios
	if in.head == in.canon {
		return
	}
	one, word := c == tm.Cc[unix.VERASE], false
	if !one {
		word = tm.Lflag&unix.IEXTEN != 0 && c == tm.Cc[unix.VWERASE]
	}
	echo := tm.Lflag&unix.ECHO != 0
	const all = unix.ECHOK | unix.ECHOKE | unix.ECHOE
	if !one && !word && (!echo || tm.Lflag&all != all) {
		in.head = in.canon
		if echo {
			t.finishErasing()
			t.echo(tm.Cc[unix.VKILL])
			if tm.Lflag&unix.ECHOK != 0 {
				t.echoRaw('\n')
			}
		}
		return
	}
	for seen := false; in.head != in.canon; {
		head := in.head - 1
		for continuation(tm, in.at(head)) && head != in.canon {
			head--
		}
		ch := in.at(head)
		if continuation(tm, ch) {
			break // the beginning of the character is not ours to erase
		}
		if word {
			if isWord(ch) {
				seen = true
			} else if seen {
				break
			}
		}
		old := in.head
		in.head = head
		if echo {
			t.echoErase(ch, head, old, one)
		}
		if one {
			break
		}
	}
	if in.head == in.canon && echo {
		t.finishErasing()
	}
}

// echoErase shows that the character ch in [from, to) of the buffer is gone.
func (t *TTY) echoErase(ch byte, from, to uint32, one bool) {
	in, tm := &t.in, &t.termios
	ctl := tm.Lflag&unix.ECHOCTL != 0
	switch {
	case tm.Lflag&unix.ECHOPRT != 0:
		if !in.erasing {
			t.echoRaw('\\')
			in.erasing = true
		}
		t.echo(ch)
		for i := from + 1; i != to; i++ {
			t.echoRaw(in.at(i))
			if t.out.column > 0 {
				t.out.column--
			}
		}
	case one && tm.Lflag&unix.ECHOE == 0:
		t.echo(tm.Cc[unix.VERASE])
	case ch == '\t':
		t.echoEraseTab(from)
	default:
		if isControl(ch) && ctl {
			t.echoBackspace()
		}
		if !isControl(ch) || ctl {
			t.echoBackspace()
		}
	}
}

func (t *TTY) echoBackspace() {
	t.echoRaw('\b')
	t.echoRaw(' ')
	t.echoRaw('\b')
}

// echoEraseTab moves back over a tab that stood at buffer position tab: how wide it was follows from what is before it.
func (t *TTY) echoEraseTab(tab uint32) {
	in, tm := &t.in, &t.termios
	width, afterTab := 0, false
	for i := tab; i != in.canon; {
		i--
		c := in.at(i)
		if c == '\t' {
			afterTab = true
			break
		}
		switch {
		case isControl(c):
			if tm.Lflag&unix.ECHOCTL != 0 {
				width += 2
			}
		case !continuation(tm, c):
			width++
		}
	}
	if !afterTab {
		width += t.out.canonColumn
	}
	for n := 8 - width&7; n > 0; n-- {
		t.emit('\b')
		if t.out.column > 0 {
			t.out.column--
		}
	}
}

// finishErasing ends an ECHOPRT sequence.
func (t *TTY) finishErasing() {
	if t.in.erasing {
		t.echoRaw('/')
		t.in.erasing = false
	}
}
