package tty

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// ioctl numbers that x/sys/unix does not have for this architecture (asm-generic/ioctls.h).
const (
	tiocslcktrm  = 0x5457
	tiocglcktrm  = 0x5456
	tiocvhangup  = 0x5437
	tiocgdev     = 0x80045432
	tiocsig      = 0x40045436
	tiocgptpeer  = 0x5441
	tiocgpkt     = 0x80045438
	tiocgptlck   = 0x80045439
	tiocgexcl    = 0x80045440
	tiocgsoftcar = 0x5419
	tiocssoftcar = 0x541a
)

// redirect is where output to /dev/console goes after TIOCCONS.
var redirect atomic.Pointer[file]

// redirected is the file that gets the console's output, nil if the console itself does.
func redirected() vfs.FileOps {
	if f := redirect.Load(); f != nil {
		return f
	}
	return nil
}

// args copies ioctl arguments.
type args struct {
	m   uio.Memory
	arg uint64
}

func (a args) in(b []byte) error  { return uio.ReadFull(a.m, b, a.arg) }
func (a args) out(b []byte) error { return uio.WriteFull(a.m, b, a.arg) }

func (a args) inInt() (int32, error) {
	var b [4]byte
	err := a.in(b[:])
	return int32(binary.LittleEndian.Uint32(b[:])), err
}

func (a args) outInt(v int32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(v))
	return a.out(b[:])
}

// Ioctl is ioctl(2) on a terminal (tty_ioctl(4)).
func (f *file) Ioctl(c vfs.Caller, vf *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	t := f.t
	if f.hung.Load() {
		if cmd == unix.TIOCSPGRP {
			return 0, unix.ENOTTY
		}
		return 0, unix.EIO
	}
	a := args{c.Mem(), arg}
	switch cmd {
	case unix.TIOCSETD, unix.TIOCSBRK, unix.TIOCCBRK, unix.TCSBRK, unix.TCSBRKP:
		if err := t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
		if cmd != unix.TIOCCBRK {
			if err := f.drain(c); err != nil {
				return 0, err
			}
		}
	}
	switch cmd {
	case unix.TIOCSBRK, unix.TIOCCBRK, unix.TCSBRK, unix.TCSBRKP:
		return 0, t.sendBreak(c, cmd, arg)
	case unix.TIOCSTI:
		return 0, f.simulateInput(c, a)
	case unix.TIOCCONS:
		return 0, f.redirectConsole(c)
	case unix.TIOCNOTTY:
		p := asProcess(c)
		if p == nil || p.ControllingTTY() != t {
			return 0, unix.ENOTTY
		}
		dropControlling(p)
		return 0, nil
	case unix.TIOCINQ:
		t.mu.Lock()
		n := t.in.queued(&t.termios)
		t.mu.Unlock()
		return 0, a.outInt(int32(n))
	case unix.TIOCOUTQ:
		t.mu.Lock()
		n := len(t.out.pending) + t.port.Pending()
		t.mu.Unlock()
		return 0, a.outInt(int32(n))
	case unix.TCXONC:
		return 0, t.flowControl(c, arg)
	case unix.TCFLSH:
		if err := t.checkChange(c, unix.SIGTTOU); err != nil {
			return 0, err
		}
		return 0, t.flush(arg)
	case unix.TIOCGEXCL, unix.TIOCEXCL, unix.TIOCNXCL:
		return 0, t.exclusiveIoctl(cmd, a)
	case tiocgdev:
		return 0, a.outInt(int32(t.EncodedDev()))
	case unix.TIOCGETD:
		return 0, a.outInt(0)
	case unix.TIOCSETD:
		if n, err := a.inInt(); err != nil {
			return 0, err
		} else if n != 0 {
			return 0, unix.EINVAL
		}
		return 0, nil
	case tiocvhangup:
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		t.Hangup()
		return 0, nil
	}
	return 0, t.commonIoctl(c, vf, cmd, a, false, f)
}

// sendBreak is a break, begun, ended, or of 250 ms (TCSBRK) or arg tenths of a second (TCSBRKP). To a port without a line it
// means nothing.
func (t *TTY) sendBreak(c vfs.Caller, cmd uint32, arg uint64) error {
	line, ok := t.port.(LineControl)
	if !ok || cmd == unix.TCSBRK && arg != 0 {
		return nil
	}
	length := 250 * time.Millisecond
	switch cmd {
	case unix.TIOCSBRK, unix.TIOCCBRK:
		line.SetBreak(cmd == unix.TIOCSBRK)
		return nil
	case unix.TCSBRKP:
		if arg != 0 {
			length = time.Duration(min(arg, maxBreak)) * 100 * time.Millisecond
		}
	}
	if !line.SetBreak(true) {
		return nil
	}
	defer line.SetBreak(false)
	if err := t.queue.Wait(c, 0, ktime.After(length), func() bool { return false }); err != unix.ETIMEDOUT {
		return unix.EINTR
	}
	return nil
}

// maxBreak bounds TCSBRKP, in tenths of a second.
const maxBreak = 36000

// commonIoctl has what works on either side of a pty and always means the slave.
func (t *TTY) commonIoctl(c vfs.Caller, vf *vfs.File, cmd uint32, a args, fromMaster bool, f *file) error {
	switch cmd {
	case unix.TIOCGWINSZ:
		ws := t.Size()
		var b [8]byte
		for i, v := range [...]uint16{ws.Row, ws.Col, ws.Xpixel, ws.Ypixel} {
			binary.LittleEndian.PutUint16(b[2*i:], v)
		}
		return a.out(b[:])
	case unix.TIOCSWINSZ:
		var b [8]byte
		if err := a.in(b[:]); err != nil {
			return err
		}
		u := func(i int) uint16 { return binary.LittleEndian.Uint16(b[2*i:]) }
		t.Resize(unix.Winsize{Row: u(0), Col: u(1), Xpixel: u(2), Ypixel: u(3)})
		return nil
	case unix.TIOCSCTTY:
		p := asProcess(c)
		if p == nil {
			return unix.EPERM
		}
		return t.setControlling(p, vf.Readable(), a.arg)
	case unix.TIOCGPGRP, unix.TIOCGSID:
		p := asProcess(c)
		if !fromMaster && (p == nil || p.ControllingTTY() != t) {
			return unix.ENOTTY
		}
		if cmd == unix.TIOCGPGRP {
			return a.outInt(t.ForegroundPgrp())
		}
		sid := t.Session()
		if sid == 0 {
			return unix.ENOTTY
		}
		return a.outInt(sid)
	case unix.TIOCSPGRP:
		return t.setForeground(c, a)
	}
	return t.termiosIoctl(c, cmd, a, f)
}

// setForeground is TIOCSPGRP.
func (t *TTY) setForeground(c vfs.Caller, a args) error {
	if err := t.checkChange(c, unix.SIGTTOU); err == unix.EIO {
		return unix.ENOTTY
	} else if err != nil {
		return err
	}
	pgrp, err := a.inInt()
	if err != nil {
		return err
	}
	if pgrp < 0 {
		return unix.EINVAL
	}
	p := asProcess(c)
	if p == nil || p.ControllingTTY() != t || t.Session() != p.SessionID() {
		return unix.ENOTTY
	}
	sid, ok := ctl().SessionOfPgrp(pgrp)
	if !ok {
		return unix.ESRCH
	}
	if sid != p.SessionID() {
		return unix.EPERM
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != sid {
		return unix.ENOTTY
	}
	t.pgrp = pgrp
	return nil
}

// termiosIoctl reads and changes the settings. f, of the slave, waits for output to be sent; nil on a master.
func (t *TTY) termiosIoctl(c vfs.Caller, cmd uint32, a args, f *file) error {
	t.mu.Lock()
	cur, lock := t.termios, t.locked
	t.mu.Unlock()
	switch cmd {
	case unix.TCGETS:
		b := encodeTermios(&cur)
		return a.out(b[:termios1])
	case unix.TCGETS2:
		b := encodeTermios(&cur)
		return a.out(b[:])
	case unix.TCGETA:
		b := encodeTermio(&cur)
		return a.out(b[:])
	case unix.TCSETS, unix.TCSETSW, unix.TCSETSF:
		return t.changeSettings(c, a, f, cmd-unix.TCSETS, termios1)
	case unix.TCSETS2, unix.TCSETSW2, unix.TCSETSF2:
		return t.changeSettings(c, a, f, cmd-unix.TCSETS2, termios2)
	case unix.TCSETA, unix.TCSETAW, unix.TCSETAF:
		return t.changeSettings(c, a, f, cmd-unix.TCSETA, termioSize)
	case tiocglcktrm:
		b := encodeTermios(&lock)
		return a.out(b[:termios1])
	case tiocslcktrm:
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		var b [termios1]byte
		if err := a.in(b[:]); err != nil {
			return err
		}
		var n unix.Termios
		decodeTermios(&n, b[:])
		t.mu.Lock()
		t.locked = n
		t.mu.Unlock()
		return nil
	case tiocgsoftcar:
		if cur.Cflag&unix.CLOCAL != 0 {
			return a.outInt(1)
		}
		return a.outInt(0)
	case tiocssoftcar:
		on, err := a.inInt()
		if err != nil {
			return err
		}
		t.mu.Lock()
		if t.termios.Cflag &^= unix.CLOCAL; on != 0 {
			t.termios.Cflag |= unix.CLOCAL
		}
		t.mu.Unlock()
		return nil
	}
	return unix.ENOTTY
}

// changeSettings is TCSETS and its kin: when is 0 for now, 1 after output is sent, 2 also throwing input away.
func (t *TTY) changeSettings(c vfs.Caller, a args, f *file, when uint32, size int) error {
	if err := t.checkChange(c, unix.SIGTTOU); err != nil {
		return err
	}
	var raw [termios2]byte
	b := raw[:size]
	if err := a.in(b); err != nil {
		return err
	}
	if when > 0 && f != nil {
		if err := f.drain(c); err != nil {
			return err
		}
		if f.dead() {
			return unix.EIO
		}
	}
	t.mu.Lock()
	if when == 2 {
		t.flushInputLocked(true)
	}
	n := t.termios
	if size == termioSize {
		decodeTermio(&n, b)
	} else {
		decodeTermios(&n, b)
	}
	t.setTermios(n)
	t.unlock()
	return nil
}

// LegacyTIOCSTI is the setting dev.tty.legacy_tiocsti: whether TIOCSTI works without CAP_SYS_ADMIN.
var LegacyTIOCSTI atomic.Bool

func init() { LegacyTIOCSTI.Store(true) }

// simulateInput is TIOCSTI: only on the own controlling terminal, or with CAP_SYS_ADMIN.
func (f *file) simulateInput(c vfs.Caller, a args) error {
	if !LegacyTIOCSTI.Load() && !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EIO
	}
	p := asProcess(c)
	if (p == nil || p.ControllingTTY() != f.t) && !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	var b [1]byte
	if err := a.in(b[:]); err != nil {
		return err
	}
	f.t.Receive(b[:])
	return nil
}

// redirectConsole is TIOCCONS: on another terminal it takes over the console's output, on the console it gives it back.
func (f *file) redirectConsole(c vfs.Caller) error {
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	if f.console {
		redirect.Store(nil)
		return nil
	}
	if !redirect.CompareAndSwap(nil, f) {
		return unix.EBUSY
	}
	return nil
}

// flowControl is TCXONC.
func (t *TTY) flowControl(c vfs.Caller, arg uint64) error {
	if err := t.checkChange(c, unix.SIGTTOU); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	switch arg {
	case unix.TCOOFF:
		t.tcoStopped = true
		t.stopOutput()
	case unix.TCOON:
		if t.tcoStopped {
			t.startOutput()
		}
	case unix.TCIOFF:
		t.sendRaw(t.termios.Cc[unix.VSTOP])
	case unix.TCION:
		t.sendRaw(t.termios.Cc[unix.VSTART])
	default:
		return unix.EINVAL
	}
	return nil
}

// flush is TCFLSH.
func (t *TTY) flush(arg uint64) error {
	if arg > unix.TCIOFLUSH {
		return unix.EINVAL
	}
	t.mu.Lock()
	defer t.unlock()
	if arg != unix.TCOFLUSH {
		t.flushInputLocked(true)
	}
	if arg != unix.TCIFLUSH {
		t.out.pending = t.out.pending[:0]
		t.port.Discard()
		t.after.events |= writeEvents
	}
	return nil
}

// exclusiveIoctl is TIOCEXCL, TIOCNXCL, TIOCGEXCL.
func (t *TTY) exclusiveIoctl(cmd uint32, a args) error {
	t.mu.Lock()
	was := t.exclusive
	switch cmd {
	case unix.TIOCEXCL:
		t.exclusive = true
	case unix.TIOCNXCL:
		t.exclusive = false
	}
	t.mu.Unlock()
	if cmd == unix.TIOCGEXCL {
		return a.outInt(int32(b2i(was)))
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
