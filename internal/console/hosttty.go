package console

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ttyConn is a terminal device of the host, often a real serial line: it follows the guest's speed and format.
type ttyConn struct {
	*hostFD
	raw bool // false: leave the settings alone
}

// openTTY opens a device of the host for the directions that are wanted.
func openTTY(path string, input, output, raw bool) (*ttyConn, error) {
	flags := unix.O_RDWR
	switch {
	case !output:
		flags = unix.O_RDONLY
	case !input:
		flags = unix.O_WRONLY
	}
	fd, err := unix.Open(path, flags|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	h, err := ownHostFD(fd)
	if err != nil {
		return nil, err
	}
	if raw {
		h.raw()
	}
	return &ttyConn{h, raw && h.tty}, nil
}

// lineBits are the parts of c_cflag that are on the wire.
const lineBits = unix.CSIZE | unix.CSTOPB | unix.PARENB | unix.PARODD | unix.CMSPAR | unix.CRTSCTS | unix.CBAUD | unix.CBAUDEX |
	unix.CIBAUD

// setLine gives the host's line the speed and format of the guest's.
func (t *ttyConn) setLine(guest *unix.Termios) {
	if !t.raw {
		return
	}
	tm, err := unix.IoctlGetTermios(t.fd, unix.TCGETS2)
	if err != nil {
		return
	}
	now := *tm
	tm.Cflag = tm.Cflag&^lineBits | guest.Cflag&lineBits
	tm.Ispeed, tm.Ospeed = guest.Ispeed, guest.Ospeed
	if *tm != now {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETS2, tm) // what the device cannot do it leaves
	}
}

// setBreak begins or ends a break.
func (t *ttyConn) setBreak(on bool) {
	req := uint(unix.TIOCCBRK)
	if on {
		req = unix.TIOCSBRK
	}
	_ = unix.IoctlSetInt(t.fd, req, 0) // not every terminal has breaks
}
