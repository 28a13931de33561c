package console

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ptsConn is the master of a host pty. Its slave is kept open, so that the line lives on when a terminal program detaches.
type ptsConn struct {
	*hostFD
	slave int
	watch *ptsWatch // nil if the host cannot tell who uses the pty
}

// openPts makes a host pty and returns it with the name of its slave. changed is called when somebody opens it.
func openPts(raw bool, changed func()) (*ptsConn, string, error) {
	m, s, err := pty.Open()
	if err != nil {
		return nil, "", fmt.Errorf("no host pty: %w", err)
	}
	defer m.Close()
	defer s.Close()
	// Descriptors of our own, which the runtime's poller does not know.
	fd, err := unix.FcntlInt(m.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, "", err
	}
	h, err := ownHostFD(fd)
	if err != nil {
		return nil, "", err
	}
	slave, err := unix.FcntlInt(s.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		h.close()
		return nil, "", err
	}
	h.owned = append(h.owned, slave)
	p := &ptsConn{hostFD: h, slave: slave}
	if raw {
		p.raw()
	}
	var left chan struct{} // closed when the last user goes
	p.watch = watchPts(h, s.Name(), func(users int32) {
		if users > 0 {
			changed()
			if left == nil {
				left = make(chan struct{})
				go pollSize(h, left, changed)
			}
			return
		}
		if left != nil {
			close(left)
			left = nil
		}
		if raw {
			// A terminal program may have left the pty with echo, which would send our own output back to us.
			_, _ = term.MakeRaw(slave)
		}
	})
	return p, s.Name(), nil
}

// sizePoll is how often the size of a pty that somebody uses is looked at: the host tells its own programs of a change, but not
// the master.
const sizePoll = 500 * time.Millisecond

func pollSize(h *hostFD, left <-chan struct{}, changed func()) {
	tick := time.NewTicker(sizePoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			changed()
		case <-left:
			return
		case <-h.done:
			return
		}
	}
}

// write throws away what nobody reads: if the pty is full and no program has it open, the guest would wait for a user who
// may never come. What was written last is kept for the next one.
func (p *ptsConn) write(b []byte) (int, error) {
	n, err := p.hostFD.write(b)
	if err == unix.EAGAIN && p.abandoned() {
		_ = unix.IoctlSetInt(p.slave, unix.TCFLSH, unix.TCIFLUSH)
		return p.hostFD.write(b)
	}
	return n, err
}

func (p *ptsConn) ready(ev int16) bool {
	return p.hostFD.ready(ev) || ev == unix.POLLOUT && p.abandoned()
}

func (p *ptsConn) abandoned() bool { return p.watch != nil && p.watch.users.Load() <= 0 }

// ptsWatch counts the programs that have a pty open, beside ourselves.
type ptsWatch struct{ users atomic.Int32 }

// watchPts counts from now on until h is closed; nil if the host has no inotify for us. changed is told of every change.
func watchPts(h *hostFD, name string, changed func(users int32)) *ptsWatch {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_OPEN|unix.IN_CLOSE); err != nil {
		unix.Close(fd)
		return nil
	}
	in, err := newHostFD(fd, false)
	if err != nil {
		unix.Close(fd)
		return nil
	}
	in.owned = append(in.owned, fd)
	w := &ptsWatch{}
	go func() {
		<-h.done
		in.close()
	}()
	in.hold()
	go func() {
		defer in.drop()
		buf := make([]byte, 4096)
		for in.wait(unix.POLLIN) {
			n, err := in.read(buf)
			if err == unix.EAGAIN {
				continue
			}
			if err != nil {
				return
			}
			for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
				// struct inotify_event: wd, mask, cookie, len; a watch of a file comes without a name.
				w.count(binary.NativeEndian.Uint32(b[4:]), changed)
				b = b[unix.SizeofInotifyEvent:]
			}
		}
	}()
	return w
}

func (w *ptsWatch) count(mask uint32, changed func(users int32)) {
	switch {
	case mask&unix.IN_OPEN != 0:
		changed(w.users.Add(1))
	case mask&unix.IN_CLOSE != 0:
		changed(w.users.Add(-1))
	}
}
