package console

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Telnet commands and options (RFC 854, 857, 858, 856, 1073, 1184).
const (
	cmdEOF  = 236
	cmdSUSP = 237
	cmdABRT = 238
	cmdSE   = 240
	cmdBRK  = 243
	cmdIP   = 244
	cmdAO   = 245
	cmdAYT  = 246
	cmdEC   = 247
	cmdEL   = 248
	cmdSB   = 250
	cmdWILL = 251
	cmdWONT = 252
	cmdDO   = 253
	cmdDONT = 254
	cmdIAC  = 255

	optBinary   = 0
	optEcho     = 1
	optSGA      = 3
	optNAWS     = 31
	optLinemode = 34
)

const (
	// maxSub is the longest subnegotiation that is looked at; the rest of a longer one is dropped.
	maxSub = 64
	// maxUnsent bounds what waits for the client, output and answers together: one that asks for ever and never reads is
	// let go.
	maxUnsent = 64 << 10
)

// telnetConn is the server's end of a telnet connection. It echoes nothing itself (the guest's terminal does), asks for
// single characters and the window size, and passes 8 bits if the client can.
type telnetConn struct {
	*hostFD
	// onBreak is called for a break, onSize for a new window size, both on the reader's goroutine.
	onBreak, onSize func()

	// The reader's.
	state byte // what the next byte is: see the constants
	cmd   byte
	sub   []byte
	cr    bool // the last byte was a carriage return

	winsize atomic.Uint64 // columns << 32 | rows, 0 if unknown

	mu sync.Mutex
	// talks: the client has sent a telnet command. One that has not (nc, socat) gets plain bytes.
	talks   bool
	us, him [256]bool // options in effect on our side and on the client's
	asked   [256]bool // we asked first: the answer needs none
	unsent  []byte    // for the client, encoded
}

const (
	stData byte = iota
	stIAC
	stOption // after WILL, WONT, DO, DONT
	stSub    // in a subnegotiation
	stSubIAC
)

// newTelnet begins the conversation on a connected socket, which becomes its own.
func newTelnet(fd int) (*telnetConn, error) {
	h, err := ownHostFD(fd)
	if err != nil {
		return nil, err
	}
	t := &telnetConn{hostFD: h}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range []byte{optEcho, optSGA, optBinary} {
		t.us[o], t.asked[o] = o != optBinary, true
		t.send(cmdIAC, cmdWILL, o)
	}
	for _, o := range []byte{optNAWS, optBinary} {
		t.send(cmdIAC, cmdDO, o)
	}
	t.send(cmdIAC, cmdDONT, optLinemode)
	t.flush()
	return t, nil
}

func (t *telnetConn) hangsUp() bool { return true }

func (t *telnetConn) size() (unix.Winsize, bool) {
	v := t.winsize.Load()
	return unix.Winsize{Row: uint16(v), Col: uint16(v >> 32)}, v != 0
}

// send queues bytes for the client; mu is held.
func (t *telnetConn) send(b ...byte) { t.unsent = append(t.unsent, b...) }

// flush sends what the socket takes; mu is held.
func (t *telnetConn) flush() {
	for len(t.unsent) > 0 {
		n, err := t.hostFD.write(t.unsent)
		t.unsent = t.unsent[:copy(t.unsent, t.unsent[n:])]
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			t.unsent = t.unsent[:0] // the reader will see the end
			return
		}
	}
}

// write encodes output of the guest and sends it. What was encoded is taken.
func (t *telnetConn) write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
	if len(t.unsent) > 0 {
		return 0, unix.EAGAIN
	}
	b = b[:min(len(b), maxWrite)]
	for i, c := range b {
		t.send(c)
		switch {
		case c == cmdIAC:
			t.send(cmdIAC)
		case c == '\r' && t.talks && !t.us[optBinary] && (i+1 == len(b) || b[i+1] != '\n'):
			t.send(0) // a carriage return alone (RFC 854)
		}
	}
	t.flush()
	return len(b), nil
}

// ready for output means that all earlier output is gone.
func (t *telnetConn) ready(ev int16) bool {
	if ev == unix.POLLOUT {
		t.mu.Lock()
		t.flush()
		full := len(t.unsent) > 0
		t.mu.Unlock()
		if full {
			return false
		}
	}
	return t.hostFD.ready(ev)
}

// read reads input and answers commands.
func (t *telnetConn) read(b []byte) (int, error) {
	n, err := t.hostFD.read(b)
	if n == 0 || err != nil {
		return n, err
	}
	in := b[:n]
	out := b[:0] // never longer than what was decoded
	for _, c := range in {
		if d, ok := t.decode(c); ok {
			out = append(out, d)
		}
	}
	t.mu.Lock()
	t.flush()
	flooded := len(t.unsent) > maxUnsent
	t.mu.Unlock()
	if flooded {
		return 0, unix.EPROTO
	}
	if len(out) == 0 {
		return 0, unix.EAGAIN
	}
	return len(out), nil
}

// decode is one byte from the client: ok if it is a byte of input.
func (t *telnetConn) decode(c byte) (byte, bool) {
	switch t.state {
	case stData:
		if c == cmdIAC {
			t.state = stIAC
			return 0, false
		}
		after := t.cr
		t.cr = c == '\r'
		// The end of a line is CR LF or CR NUL; the guest wants what the key sends. Clients that are no telnet send
		// what they mean.
		if after && (c == 0 || c == '\n') && !t.himBinary() {
			return 0, false
		}
		return c, true
	case stIAC:
		return t.command(c)
	case stOption:
		t.state = stData
		t.negotiate(t.cmd, c)
	case stSub:
		if c == cmdIAC {
			t.state = stSubIAC
		} else {
			t.addSub(c)
		}
	case stSubIAC:
		switch c {
		case cmdIAC:
			t.state = stSub
			t.addSub(c)
		case cmdSE:
			t.state = stData
			t.subnegotiation()
		default: // not allowed here: begin anew
			return t.command(c)
		}
	}
	return 0, false
}

func (t *telnetConn) himBinary() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.him[optBinary]
}

func (t *telnetConn) addSub(c byte) {
	if len(t.sub) < maxSub {
		t.sub = append(t.sub, c)
	}
}

// command is the byte after IAC.
func (t *telnetConn) command(c byte) (byte, bool) {
	t.state = stData
	if c == cmdIAC {
		t.cr = false
		return c, true
	}
	t.mu.Lock()
	t.talks = true
	if c == cmdAYT {
		t.send([]byte("\r\n[yes]\r\n")...)
	}
	t.mu.Unlock()
	switch c {
	case cmdWILL, cmdWONT, cmdDO, cmdDONT:
		t.state, t.cmd = stOption, c
	case cmdSB:
		t.state, t.sub = stSub, t.sub[:0]
	case cmdBRK:
		t.onBreak()
	// The usual characters: the guest's settings are not for the line to know.
	case cmdEOF:
		return 0x04, true
	case cmdSUSP:
		return 0x1a, true
	case cmdABRT:
		return 0x1c, true
	case cmdIP:
		return 0x03, true
	case cmdEC:
		return 0x7f, true
	case cmdEL:
		return 0x15, true
	}
	return 0, false
}

// negotiate answers WILL, WONT, DO and DONT. Only a change is answered, so that two peers cannot do so for ever.
func (t *telnetConn) negotiate(cmd, opt byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch cmd {
	case cmdDO:
		switch opt {
		case optEcho, optSGA, optBinary:
			if !t.us[opt] && !t.asked[opt] {
				t.send(cmdIAC, cmdWILL, opt)
			}
			t.us[opt] = true
		default:
			t.send(cmdIAC, cmdWONT, opt)
		}
		t.asked[opt] = false
	case cmdDONT:
		if t.us[opt] && !t.asked[opt] {
			t.send(cmdIAC, cmdWONT, opt)
		}
		t.us[opt], t.asked[opt] = false, false
	case cmdWILL:
		switch opt {
		case optNAWS, optBinary:
			t.him[opt] = true // we asked for it
		case optSGA:
			if !t.him[opt] {
				t.send(cmdIAC, cmdDO, opt)
			}
			t.him[opt] = true
		default:
			t.send(cmdIAC, cmdDONT, opt)
		}
	case cmdWONT:
		if t.him[opt] {
			t.send(cmdIAC, cmdDONT, opt)
		}
		t.him[opt] = false
	}
}

// subnegotiation is a complete one: only the window size means something.
func (t *telnetConn) subnegotiation() {
	if len(t.sub) != 5 || t.sub[0] != optNAWS {
		return
	}
	cols, rows := uint64(t.sub[1])<<8|uint64(t.sub[2]), uint64(t.sub[3])<<8|uint64(t.sub[4])
	t.winsize.Store(cols<<32 | rows)
	t.onSize()
}
