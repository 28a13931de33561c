package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Control characters that x/sys/unix has as indexes into Termios.Cc, for an index of our own names only what it lacks.
// A control character of 0 is disabled.
const disabled = 0

const (
	nccs       = 19 // of the kernel's struct termios
	termios1   = 36 // size of struct termios (TCGETS)
	termios2   = 44 // size of struct termios2 (TCGETS2)
	termioSize = 18 // size of struct termio (TCGETA)
	termioNCC  = 8
	tabDelay   = 0x1800 // TABDLY
	expandTabs = 0x1800 // XTABS
	extproc    = 0x10000
)

// StdTermios are the settings of a new terminal: canonical, with echo and signals, 38400 baud (termios(3), "sane").
func StdTermios() unix.Termios {
	t := unix.Termios{
		Iflag:  unix.ICRNL | unix.IXON,
		Oflag:  unix.OPOST | unix.ONLCR,
		Cflag:  unix.B38400 | unix.CS8 | unix.CREAD | unix.HUPCL,
		Lflag:  unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN,
		Ispeed: 38400, Ospeed: 38400,
	}
	for i, c := range map[int]byte{
		unix.VINTR: 3, unix.VQUIT: 0x1c, unix.VERASE: 0x7f, unix.VKILL: 0x15, unix.VEOF: 4, unix.VMIN: 1,
		unix.VSTART: 0x11, unix.VSTOP: 0x13, unix.VSUSP: 0x1a, unix.VREPRINT: 0x12, unix.VDISCARD: 0x0f,
		unix.VWERASE: 0x17, unix.VLNEXT: 0x16,
	} {
		t.Cc[i] = c
	}
	return t
}

// ptyTermios are those of a new pty slave.
func ptyTermios() unix.Termios {
	t := StdTermios()
	t.Cflag = unix.B38400 | unix.CS8 | unix.CREAD
	return t
}

// encodeTermios makes struct termios2, whose first part is struct termios.
func encodeTermios(t *unix.Termios) (b [termios2]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], t.Iflag)
	le.PutUint32(b[4:], t.Oflag)
	le.PutUint32(b[8:], t.Cflag)
	le.PutUint32(b[12:], t.Lflag)
	b[16] = t.Line
	copy(b[17:17+nccs], t.Cc[:])
	le.PutUint32(b[36:], t.Ispeed)
	le.PutUint32(b[40:], t.Ospeed)
	return b
}

// decodeTermios reads struct termios or termios2 over t, by the length of b.
func decodeTermios(t *unix.Termios, b []byte) {
	le := binary.LittleEndian
	t.Iflag = le.Uint32(b[0:])
	t.Oflag = le.Uint32(b[4:])
	t.Cflag = le.Uint32(b[8:])
	t.Lflag = le.Uint32(b[12:])
	t.Line = b[16]
	copy(t.Cc[:nccs], b[17:])
	if len(b) >= termios2 {
		t.Ispeed, t.Ospeed = le.Uint32(b[36:]), le.Uint32(b[40:])
	}
	fixSpeeds(t)
}

// encodeTermio makes struct termio (16-bit flags, 8 control characters).
func encodeTermio(t *unix.Termios) (b [termioSize]byte) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], uint16(t.Iflag))
	le.PutUint16(b[2:], uint16(t.Oflag))
	le.PutUint16(b[4:], uint16(t.Cflag))
	le.PutUint16(b[6:], uint16(t.Lflag))
	b[8] = t.Line
	copy(b[9:9+termioNCC], t.Cc[:termioNCC])
	return b
}

// decodeTermio sets the low 16 bits of the flags and the first control characters of t.
func decodeTermio(t *unix.Termios, b []byte) {
	le := binary.LittleEndian
	low := func(f *uint32, b []byte) { *f = *f&^0xffff | uint32(le.Uint16(b)) }
	low(&t.Iflag, b[0:])
	low(&t.Oflag, b[2:])
	low(&t.Cflag, b[4:])
	low(&t.Lflag, b[6:])
	t.Line = b[8]
	copy(t.Cc[:termioNCC], b[9:])
	fixSpeeds(t)
}

// bauds are the speeds of B0... and, from 0x1001 on, of B57600...
var bauds = [...]uint32{0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
	57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000,
	3500000, 4000000}

const cbaud, bother, ibshift = 0x100f, 0x1000, 16

// speed is the rate that a CBAUD value stands for; custom is that of BOTHER.
func speed(b, custom uint32) uint32 {
	if b == bother {
		return custom
	}
	i := b & 15
	if b&0x1000 != 0 {
		i += 15
	}
	if int(i) < len(bauds) {
		return bauds[i]
	}
	return 0
}

// fixSpeeds sets the numeric speeds from the bits of c_cflag; the input speed is the output speed if its bits are B0.
func fixSpeeds(t *unix.Termios) {
	t.Ospeed = speed(t.Cflag&cbaud, t.Ospeed)
	if in := t.Cflag >> ibshift & cbaud; in != 0 {
		t.Ispeed = speed(in, t.Ispeed)
	} else {
		t.Ispeed = t.Ospeed
	}
}

// keepLocked keeps what TIOCSLCKTRMIOS locked at its old value.
func keepLocked(t, old, lock *unix.Termios) {
	keep := func(n *uint32, o, l uint32) { *n = *n&^l | o&l }
	keep(&t.Iflag, old.Iflag, lock.Iflag)
	keep(&t.Oflag, old.Oflag, lock.Oflag)
	keep(&t.Cflag, old.Cflag, lock.Cflag)
	keep(&t.Lflag, old.Lflag, lock.Lflag)
	if lock.Line != 0 {
		t.Line = old.Line
	}
	for i := range t.Cc[:nccs] {
		if lock.Cc[i] != 0 {
			t.Cc[i] = old.Cc[i]
		}
	}
}

// setTermios installs new settings; mu is held.
func (t *TTY) setTermios(n unix.Termios) {
	old := t.termios
	keepLocked(&n, &old, &t.locked)
	if t.pty != nil {
		n.Cflag = n.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD
	}
	t.termios = n
	if (old.Lflag^n.Lflag)&(unix.ICANON|extproc) != 0 {
		t.in.modeChanged(n.Lflag)
	}
	t.in.setSpecial(&n)
	if n.Iflag&unix.IXON == 0 && old.Iflag&unix.IXON != 0 && t.stopped && !t.tcoStopped {
		t.startOutput()
	}
	if t.pty != nil {
		t.pty.settingsChanged(&old, &n)
	} else if l, ok := t.port.(LineControl); ok {
		l.SetLine(&n)
	}
	// A reader may find its condition fulfilled by the new mode.
	t.after.events |= readEvents | writeEvents
	t.receivePending()
}
