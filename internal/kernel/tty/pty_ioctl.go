package tty

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Ioctl is ioctl(2) on a master. Settings, window size and job control are the slave's.
func (m *master) Ioctl(c vfs.Caller, vf *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	p, t := m.p, m.p.slave
	a := args{c.Mem(), arg}
	switch cmd {
	case unix.TIOCGPTN:
		return 0, a.outInt(int32(p.index))
	case unix.TIOCSPTLCK, unix.TIOCPKT:
		v, err := a.inInt()
		if err != nil {
			return 0, err
		}
		p.mu.Lock()
		if cmd == unix.TIOCSPTLCK {
			p.locked = v != 0
		} else if on := v != 0; on != p.packet {
			p.packet, p.pktStatus = on, 0
		}
		p.mu.Unlock()
		return 0, nil
	case tiocgptlck, tiocgpkt:
		p.mu.Lock()
		on := p.locked
		if cmd == tiocgpkt {
			on = p.packet
		}
		p.mu.Unlock()
		return 0, a.outInt(int32(b2i(on)))
	case tiocgptpeer:
		return p.openPeer(c, uint32(arg))
	case tiocsig:
		switch unix.Signal(arg) {
		case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP:
		default:
			return 0, unix.EINVAL // only what a key could send
		}
		if pgrp := t.ForegroundPgrp(); pgrp != 0 {
			ctl().SignalPgrp(pgrp, unix.Signal(arg))
		}
		return 0, nil
	case unix.TIOCINQ:
		p.mu.Lock()
		n := p.used()
		p.mu.Unlock()
		return 0, a.outInt(int32(n))
	case unix.TIOCOUTQ:
		return 0, a.outInt(0)
	case unix.TCFLSH:
		return 0, m.flush(arg)
	case unix.TCSBRK, unix.TCSBRKP, unix.TIOCSBRK, unix.TIOCCBRK, unix.TIOCEXCL, unix.TIOCNXCL:
		return 0, nil // a master is opened only once
	case unix.TIOCGEXCL:
		return 0, a.outInt(0)
	case unix.TIOCSETD:
		if n, err := a.inInt(); err != nil {
			return 0, err
		} else if n != 0 {
			return 0, unix.EINVAL
		}
		return 0, nil
	case unix.TIOCGETD:
		return 0, a.outInt(0)
	case unix.TCXONC:
		return 0, m.flowControl(arg)
	case unix.TIOCCONS:
		return 0, unix.EINVAL
	case unix.TIOCSTI:
		// Input of the master is what the slave writes. It is nobody's controlling terminal.
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		var b [1]byte
		if err := a.in(b[:]); err != nil {
			return 0, err
		}
		p.Write(b[:])
		return 0, nil
	case unix.TIOCNOTTY:
		return 0, unix.ENOTTY
	case tiocgdev:
		return 0, a.outInt(int32(encodeDev(128, uint32(p.index))))
	}
	return 0, t.commonIoctl(c, vf, cmd, a, true, nil)
}

// flowControl is TCXONC on a master: TCIOFF and TCION type STOP and START into the slave. Its output is what the program
// behind it writes by itself, so there is nothing for TCOOFF to stop.
func (m *master) flowControl(arg uint64) error {
	t := m.p.slave
	switch arg {
	case unix.TCOOFF, unix.TCOON:
	case unix.TCIOFF:
		t.Receive([]byte{0x13})
	case unix.TCION:
		t.Receive([]byte{0x11})
	default:
		return unix.EINVAL
	}
	return nil
}

// flush is TCFLSH on a master: its input is the slave's output, and the other way round.
func (m *master) flush(arg uint64) error {
	if arg > unix.TCIOFLUSH {
		return unix.EINVAL
	}
	p, t := m.p, m.p.slave
	if arg != unix.TCOFLUSH {
		p.mu.Lock()
		p.rd, p.full = p.wr, false
		p.mu.Unlock()
		t.WriteWakeup()
	}
	if arg != unix.TCIFLUSH {
		t.mu.Lock()
		t.in.flip = t.in.flip[:0]
		t.in.throttle = false
		t.after.unthrottle = true
		t.unlock()
	}
	return nil
}

// fileTable is what a caller must have for TIOCGPTPEER.
type fileTable interface{ Files() *vfs.FDTable }

// openPeer is TIOCGPTPEER.
func (p *Pty) openPeer(c vfs.Caller, flags uint32) (uint64, error) {
	ft, ok := c.(fileTable)
	if !ok {
		return 0, unix.EIO
	}
	f, err := p.OpenPeer(c, flags)
	if err != nil {
		return 0, err
	}
	fd, err := ft.Files().Install(c, f, 0, flags&unix.O_CLOEXEC != 0)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uint64(fd), nil
}

// OpenPeer opens the slave without its name, also while that is locked.
func (p *Pty) OpenPeer(c vfs.Caller, flags uint32) (*vfs.File, error) {
	in := p.host.PtyInode(p.index)
	if in == nil {
		return nil, unix.EIO
	}
	probe := vfs.NewFile(vfs.Path{}, in, nil, flags)
	ops, err := p.slave.open(c, probe, false, flags&unix.O_NOCTTY != 0)
	if err != nil {
		return nil, err
	}
	return vfs.NewAnonFileAt("/dev/"+p.slave.name, in, ops, flags&^unix.O_CLOEXEC), nil
}

// PtyOf is the pair whose master has ops, nil if they are not of a master.
func PtyOf(ops vfs.FileOps) *Pty {
	if m, ok := ops.(*master); ok {
		return m.p
	}
	return nil
}

// Unlock is unlockpt(3).
func (p *Pty) Unlock() {
	p.mu.Lock()
	p.locked = false
	p.mu.Unlock()
}
