package tty

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// PtyHost owns the names and numbers of pseudo-terminals: a mounted devpts.
type PtyHost interface {
	vfs.SuperBlock
	// AllocPty gives p a number and a name. ENOSPC if there are too many.
	AllocPty(c vfs.Caller, p *Pty) (index int, err error)
	// HidePty removes the name: the master was closed.
	HidePty(index int)
	// FreePty frees the number: both sides are closed.
	FreePty(index int)
	// PtyInode is the inode of a slave, nil if it is hidden.
	PtyInode(index int) vfs.Inode
}

// ptyBuf is how much output of the slave waits for the master; ptyKeep of it survives a flush, as it would already have
// reached the master's line discipline.
const (
	ptyBuf  = 16384
	ptyKeep = 4095
)

// Ptys counts the pairs of all mounts of devpts, and limits them (Documentation/admin-guide/sysctl/kernel.rst, pty): Reserve
// of them are for the mounts of the first mount name space.
var Ptys struct{ Max, Reserve, Count atomic.Int64 }

func init() {
	Ptys.Max.Store(4096)
	Ptys.Reserve.Store(1024)
}

// Pty is a pseudo-terminal pair (pty(7)). It is the Port of its slave.
type Pty struct {
	// Immutable.
	slave *TTY
	host  PtyHost
	index int

	// queue is the master's.
	queue wait.Queue

	mu          sync.Mutex
	buf         []byte // ring: output of the slave
	rd, wr      uint32
	full        bool // the slave was refused room
	locked      bool // unlockpt was not called yet
	packet      bool // TIOCPKT
	pktStatus   byte
	slaveClosed bool // was open, is not any more
	masterGone  bool
	freed       bool
}

// OpenMaster makes a new pair and returns its master side: open(2) of a ptmx device.
func OpenMaster(c vfs.Caller, f *vfs.File, host PtyHost) (vfs.FileOps, error) {
	p := &Pty{host: host, locked: true}
	p.slave = newTTY("", 136, 0, p, ptyTermios())
	p.slave.pty = p
	i, err := host.AllocPty(c, p)
	if err != nil {
		return nil, err
	}
	p.mu.Lock() // OpenSlave may be looking already
	p.index = i
	p.slave.name = "pts/" + strconv.Itoa(i)
	p.slave.minor = uint32(i)
	p.mu.Unlock()
	return &master{p: p}, nil
}

// OpenSlave is open(2) of a slave device.
func OpenSlave(c vfs.Caller, f *vfs.File, p *Pty) (vfs.FileOps, error) {
	p.mu.Lock()
	bad := p.locked || p.masterGone
	p.mu.Unlock()
	if bad {
		return nil, unix.EIO
	}
	return p.slave.open(c, f, false, f.Flags()&unix.O_NOCTTY != 0)
}

// Slave is the terminal of the pair.
func (p *Pty) Slave() *TTY { return p.slave }

// Open, Close, Unthrottle, Size, Pending: Port.
func (p *Pty) Open(*TTY) error { return nil }

// Close has nothing to close.
func (p *Pty) Close() {}

// Unthrottle tells writers of the master that the slave takes input again.
func (p *Pty) Unthrottle() { p.queue.Notify(writeEvents) }

// Size is not the port's to know.
func (p *Pty) Size() (unix.Winsize, bool) { return unix.Winsize{}, false }

// Pending is 0: what the master can read counts as sent.
func (p *Pty) Pending() int { return 0 }

func (p *Pty) used() int { return int(p.wr - p.rd) }

// Room is the space in the master's buffer.
func (p *Pty) Room() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := ptyBuf - p.used()
	p.full = p.full || n < minRoom
	return n
}

// Write gives the slave's output to the master.
func (p *Pty) Write(b []byte) int {
	p.mu.Lock()
	if p.masterGone {
		p.mu.Unlock()
		return len(b)
	}
	if p.buf == nil {
		p.buf = make([]byte, ptyBuf)
	}
	n := min(len(b), ptyBuf-p.used())
	at := p.wr % ptyBuf
	k := copy(p.buf[at:], b[:n])
	copy(p.buf, b[k:n])
	p.wr += uint32(n)
	p.full = p.full || n < len(b)
	p.mu.Unlock()
	if n > 0 {
		p.queue.Notify(readEvents)
	}
	return n
}

// Discard throws output away that the master has not seen.
func (p *Pty) Discard() {
	p.mu.Lock()
	if p.used() > ptyKeep {
		p.wr = p.rd + ptyKeep
	}
	p.mu.Unlock()
	p.status(unix.TIOCPKT_FLUSHWRITE, 0)
}

// status sets and clears bits that a master in packet mode reads.
func (p *Pty) status(set, clear byte) {
	p.mu.Lock()
	on := p.packet
	if on {
		p.pktStatus = p.pktStatus&^clear | set
	}
	p.mu.Unlock()
	if on {
		p.queue.Notify(readEvents | wait.Pri)
	}
}

// settingsChanged tells a master in packet mode about flow control and EXTPROC.
func (p *Pty) settingsChanged(old, n *unix.Termios) {
	flow := func(t *unix.Termios) bool {
		return t.Iflag&unix.IXON != 0 && t.Cc[unix.VSTOP] == 0x13 && t.Cc[unix.VSTART] == 0x11
	}
	if was, is := flow(old), flow(n); is && !was {
		p.status(unix.TIOCPKT_DOSTOP, unix.TIOCPKT_NOSTOP)
	} else if was && !is {
		p.status(unix.TIOCPKT_NOSTOP, unix.TIOCPKT_DOSTOP)
	}
	if old.Lflag&extproc != n.Lflag&extproc || n.Lflag&extproc != 0 {
		p.status(unix.TIOCPKT_IOCTL, 0)
	}
}

// forgetStatus forgets what a master in packet mode has not read.
func (p *Pty) forgetStatus() {
	p.mu.Lock()
	p.pktStatus = 0
	p.mu.Unlock()
}

// slaveIsOpen and slaveIsClosed follow the first open and the last close of the slave, whose files count until they are
// closed, even if they were hung up.
func (p *Pty) slaveIsOpen() {
	p.mu.Lock()
	p.slaveClosed = false
	p.mu.Unlock()
}

func (p *Pty) slaveIsClosed() {
	if p.slave.inUse() {
		return
	}
	p.mu.Lock()
	p.slaveClosed = true
	free := p.masterGone && !p.freed
	p.freed = p.freed || free
	p.mu.Unlock()
	p.queue.Notify(readEvents | wait.Hup)
	if free {
		p.host.FreePty(p.index)
	}
}

// master is the open master side. It is opened exactly once.
type master struct {
	vfs.FileBase
	p *Pty
}

// Stream marks it as having no position.
func (*master) Stream() {}

// Release closes the master: the slave is hung up.
func (m *master) Release(*vfs.File) {
	p := m.p
	p.mu.Lock()
	p.masterGone = true
	p.buf, p.rd, p.wr = nil, 0, 0
	p.mu.Unlock()
	t := p.slave
	t.mu.Lock()
	t.otherClosed = true
	t.unlock()
	p.host.HidePty(p.index)
	t.Hangup()
	p.slaveIsClosed()
}

// Read returns output of the slave, in packet mode with a byte that tells what follows (tty_ioctl(4), TIOCPKT).
func (m *master) Read(c vfs.Caller, vf *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	p := m.p
	buf := bufPool.Get().(*[bufSize]byte)
	defer bufPool.Put(buf)
	for {
		n, eof, wake := p.take(buf[:min(dst.Len(), bufSize)])
		if wake {
			p.slave.WriteWakeup()
		}
		if n > 0 {
			return dst.CopyOut(buf[:n])
		}
		if eof {
			return 0, unix.EIO
		}
		if vf.Nonblock() {
			return 0, unix.EAGAIN
		}
		err := p.queue.Wait(c, wait.Readable|wait.Pri, ktime.Forever, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.used() > 0 || p.pktStatus != 0 || p.slaveClosed
		})
		if err != nil {
			return 0, err
		}
	}
}

// take moves what the master may read to b. wake tells that the slave waits for the room.
func (p *Pty) take(b []byte) (n int, eof, wake bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packet && p.pktStatus != 0 {
		b[0], p.pktStatus = p.pktStatus, 0
		return 1, false, false
	}
	if p.used() == 0 {
		return 0, p.slaveClosed, false
	}
	if p.packet {
		b[0] = unix.TIOCPKT_DATA
		n = 1
	}
	k := min(len(b)-n, p.used())
	at := p.rd % ptyBuf
	i := copy(b[n:n+k], p.buf[at:])
	copy(b[n+i:n+k], p.buf)
	p.rd += uint32(k)
	wake, p.full = p.full, false
	return n + k, false, wake
}

// Write types into the slave.
func (m *master) Write(c vfs.Caller, vf *vfs.File, src *uio.Src, _ int64) (int, error) {
	t := m.p.slave
	buf := bufPool.Get().(*[bufSize]byte)
	defer bufPool.Put(buf)
	return src.Each(buf[:], func(b []byte) (done int, err error) {
		for {
			done += t.Receive(b[done:])
			if done == len(b) {
				return done, nil
			}
			if vf.Nonblock() {
				return done, unix.EAGAIN
			}
			if err := m.p.queue.Wait(c, writeEvents, ktime.Forever, func() bool { return t.inputRoom() > 0 }); err != nil {
				return done, err
			}
		}
	})
}

// inputRoom is how much Receive would take.
func (t *TTY) inputRoom() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return flipSize - len(t.in.flip)
}

// Readiness is poll(2).
func (m *master) Readiness(mask wait.Events) wait.Events {
	p := m.p
	var ev wait.Events
	p.mu.Lock()
	if p.used() > 0 {
		ev |= readEvents
	}
	if p.packet && p.pktStatus != 0 {
		ev |= readEvents | wait.Pri
	}
	if p.slaveClosed {
		ev |= wait.Hup
	}
	p.mu.Unlock()
	if mask&writeEvents != 0 && p.slave.inputRoom() > 0 {
		ev |= writeEvents
	}
	return ev & (mask | wait.Hup | wait.Err)
}

// Async: the file has O_ASYNC.
func (m *master) Async() error { return nil }

// WaitQueue is where changes of Readiness are notified.
func (m *master) WaitQueue() *wait.Queue { return &m.p.queue }
