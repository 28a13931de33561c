package console

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Attach joins a terminal of the host to a line that the guest has open, beside the line's own channel: it sees what the guest writes,
// and what it sends is input. done is closed when the other end of f or the guest closes it. The file stays the caller's.
func (l lines) Attach(id string, f *os.File) (done <-chan struct{}, err error) {
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
	p.mu.Lock()
	open := p.isOpen && p.t != nil
	if open {
		p.taps = append(p.taps, h)
		h.hold()
	}
	p.mu.Unlock()
	if !open {
		h.close()
		return nil, errors.New("Nobody in the guest has the device open")
	}
	go p.readTap(h)
	return h.closed(), nil
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
func (p *port) readTap(c conn) {
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
	}
}
