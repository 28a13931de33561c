package console

import (
	"fmt"
	"sync"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// maxWrite is what Port.Room promises when the host takes output; a short write is allowed all the same.
const maxWrite = 4096

// port is one line. It implements tty.Port.
type port struct {
	set  *Set
	kind *kind
	n    int
	conf pair
	t    *tty.TTY // set by the first Open, then immutable

	unthrottled chan struct{} // capacity 1

	mu      sync.Mutex
	in, out *hostFD // nil if closed or without descriptor
	device  string  // host device assigned, "" if none
	waiting bool    // a goroutine waits for room
}

// Open opens the channels of the line.
func (p *port) Open(t *tty.TTY) error {
	in, device, err := p.openChannel(&p.conf.in, true, p.conf.same)
	if err != nil {
		return err
	}
	out := in
	if !p.conf.same {
		var dev string
		if out, dev, err = p.openChannel(&p.conf.out, false, true); err != nil {
			if in != nil {
				in.close()
			}
			return err
		}
		if dev != "" {
			device = dev
		}
	}
	p.mu.Lock()
	p.t, p.in, p.out, p.device = t, in, out, device
	p.mu.Unlock()
	if in != nil && !in.neverInput() {
		in.hold()
		go p.readInput(t, in)
	}
	if device != "" {
		p.set.announce(p.kind, p.n, device)
	}
	p.set.watchSize()
	return nil
}

// openChannel opens one channel. It returns nil for null, and the name of the host device that was assigned.
func (p *port) openChannel(c *channel, input, output bool) (*hostFD, string, error) {
	raw := p.kind == consoles || !p.set.SerialNonRaw
	switch c.kind {
	case chanNull:
		return nil, "", nil
	case chanFD:
		h, err := newHostFD(c.fd, output)
		if err != nil {
			klog.Errf("%s %d: fd:%d: %v", p.kind.label, p.n, c.fd, err)
			return nil, "", unix.ENODEV
		}
		if input && raw {
			h.raw()
		}
		return h, "", nil
	case chanPts, chanPty:
		return p.openPts(raw)
	}
	return nil, "", unix.ENODEV
}

// openPts makes a host pty. The slave side is kept open, so that the line lives on when a terminal program detaches.
func (p *port) openPts(raw bool) (*hostFD, string, error) {
	m, s, err := pty.Open()
	if err != nil {
		klog.Errf("%s %d: no host pty: %v", p.kind.label, p.n, err)
		return nil, "", unix.ENODEV
	}
	defer m.Close()
	defer s.Close()
	mfd, err := unix.FcntlInt(m.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, "", unix.ENODEV
	}
	sfd, err := unix.FcntlInt(s.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		unix.Close(mfd)
		return nil, "", unix.ENODEV
	}
	_ = unix.SetNonblock(mfd, true) // its own description: nobody else has it
	h, err := newHostFD(mfd, false)
	if err != nil {
		unix.Close(mfd)
		unix.Close(sfd)
		return nil, "", unix.ENODEV
	}
	h.owned = append(h.owned, mfd, sfd)
	if raw {
		h.raw()
	}
	return h, s.Name(), nil
}

// Close closes the channels; the reader ends by itself.
func (p *port) Close() {
	p.mu.Lock()
	in, out := p.in, p.out
	p.in, p.out, p.device = nil, nil, ""
	p.mu.Unlock()
	if in != nil {
		in.close()
	}
	if out != nil && out != in {
		out.close()
	}
}

// readInput feeds the terminal until the line is closed or the input ends.
func (p *port) readInput(t *tty.TTY, h *hostFD) {
	defer h.drop()
	buf := make([]byte, 4096)
	for h.wait(unix.POLLIN) {
		n, err := h.read(buf)
		if err == unix.EAGAIN {
			continue
		}
		if n == 0 || err != nil {
			if h.tty {
				t.Hangup()
			} else {
				t.ReceiveEOF()
			}
			return
		}
		p.resize(t)
		for b := buf[:n]; len(b) > 0; {
			if b = b[t.Receive(b):]; len(b) == 0 {
				break
			}
			select {
			case <-p.unthrottled:
			case <-h.done:
				return
			}
		}
	}
}

// Unthrottle lets the reader go on.
func (p *port) Unthrottle() {
	select {
	case p.unthrottled <- struct{}{}:
	default:
	}
}

// Write writes what the host takes at once. If that is not all, somebody waits for room and wakes the terminal.
func (p *port) Write(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return len(b)
	}
	done := 0
	for done < len(b) {
		n, err := p.out.write(b[done:])
		done += n
		if err == unix.EAGAIN || err == nil && n == 0 {
			p.waitRoomLocked()
			return done
		}
		if err != nil {
			return len(b) // nobody is there to see it
		}
	}
	return done
}

// Room is how much Write takes.
func (p *port) Room() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || p.out.mode == unix.S_IFREG || p.out.ready(unix.POLLOUT) {
		return maxWrite
	}
	p.waitRoomLocked()
	return 0
}

// waitRoomLocked makes sure that WriteWakeup is called when the host takes output again.
func (p *port) waitRoomLocked() {
	if p.waiting {
		return
	}
	p.waiting = true
	h, t := p.out, p.t
	h.hold()
	go func() {
		h.wait(unix.POLLOUT)
		h.drop()
		p.mu.Lock()
		p.waiting = false
		p.mu.Unlock()
		t.WriteWakeup()
	}()
}

// Pending and Discard: what Write took is with the host.
func (p *port) Pending() int { return 0 }

// Discard has nothing to discard.
func (p *port) Discard() {}

// Size is the window size of the host terminal.
func (p *port) Size() (unix.Winsize, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range []*hostFD{p.in, p.out} {
		if h == nil || !h.tty {
			continue
		}
		if ws, err := unix.IoctlGetWinsize(h.fd, unix.TIOCGWINSZ); err == nil && (ws.Row != 0 || ws.Col != 0) {
			return *ws, true
		}
	}
	return unix.Winsize{}, false
}

// resize passes a new window size on.
func (p *port) resize(t *tty.TTY) {
	if ws, ok := p.Size(); ok && ws != t.Size() {
		t.Resize(ws)
	}
}

// config is what mconsole's "config conN" shows.
func (p *port) config() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device != "" && p.conf.same {
		return fmt.Sprintf("pts:%s", p.device)
	}
	return p.conf.text
}
