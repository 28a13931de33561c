package console

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// tap is somebody who has joined a line.
type tap struct {
	*hostFD
	p *port
}

// Done is closed when it has ended.
func (t *tap) Done() <-chan struct{} { return t.closed() }

// Resize gives the guest's terminal the size of this window, until the line's own changes or this one ends.
func (t *tap) Resize(ws unix.Winsize) {
	select {
	case <-t.closed():
	default:
		if ws.Row != 0 && ws.Col != 0 {
			t.p.t.Resize(ws)
		}
	}
}

// Attach joins a terminal of the host to a line that the guest has open, beside the line's own channel: it sees what the guest writes,
// and what it sends is input.
func (l lines) Attach(id string, f *os.File) (hotplug.Attachment, error) {
	n, err := l.number(id)
	if err != nil {
		return nil, err
	}
	l.set.mu.Lock()
	p := l.set.ports[lineName(l.cfg.kind, n)]
	l.set.mu.Unlock()
	if p == nil {
		return nil, unix.ENODEV
	}
	fd, err := dupFile(f)
	if err != nil {
		return nil, err
	}
	h, err := newHostFD(fd, true)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	h.owned = append(h.owned, fd)
	t := &tap{h, p}
	p.mu.Lock()
	open := p.isOpen && p.t != nil
	if open {
		p.taps = append(p.taps, t)
		h.hold()
	}
	p.mu.Unlock()
	if !open {
		h.close()
		return nil, errors.New("Nobody in the guest has the device open")
	}
	go p.readTap(t)
	return t, nil
}

// tapLocked shows output to who has attached. Who does not read loses it: the guest waits only for the line's own channel.
func (p *port) tapLocked(b []byte) {
	for _, c := range p.taps {
		for rest := b; len(rest) > 0; {
			n, err := c.write(rest)
			if n == 0 || err != nil {
				break
			}
			rest = rest[n:]
		}
	}
}

// throttled is how long input of a tap waits for room: Unthrottle wakes only the line's own reader.
const throttled = 10 * time.Millisecond

// readTap feeds the terminal with the input of a tap until its end.
func (p *port) readTap(c *tap) {
	defer c.drop()
	buf := make([]byte, 4096)
	for c.wait(unix.POLLIN) {
		n, err := c.read(buf)
		if err == unix.EAGAIN {
			continue
		}
		if n == 0 || err != nil {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			if b = b[p.t.Receive(b):]; len(b) == 0 {
				break
			}
			select {
			case <-time.After(throttled):
			case <-c.closed():
				return
			}
		}
	}
	p.mu.Lock()
	i := slices.Index(p.taps, c)
	if i >= 0 {
		p.taps = slices.Delete(p.taps, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 { // else the port closes it
		c.close()
		if ws, ok := p.Size(); ok {
			p.t.Resize(ws)
		}
	}
}
