package netdrv

import (
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxFrame is the longest frame that a transport takes from the host.
const maxFrame = 65536 + 18

// link is an inet.Link on a descriptor.
type link struct {
	// send writes a frame; false if the host does not take it.
	send func(fd int, frame []byte) bool
	// also are descriptors that live as long as the link.
	also []int
	// route, if not nil, makes or removes the host's route to an address of the guest.
	route func(ip netip.Addr, there bool)

	fd   int
	file *os.File // the same, for the poller

	// mu is held while a frame is handed over, so that Close returns after the last one.
	mu sync.Mutex
	in func(frame []byte)

	// closeMu guards the descriptor against its end.
	closeMu sync.RWMutex
	closed  bool
}

// newLink starts a link on a descriptor, which it owns.
func newLink(fd int, send func(fd int, frame []byte) bool, also ...int) (*link, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &link{fd: fd, file: os.NewFile(uintptr(fd), "network transport"), send: send, also: also}
	go l.receive()
	return l, nil
}

// receive hands frames over until the link ends. What comes while the device is down is dropped.
func (l *link) receive() {
	buf := make([]byte, maxFrame)
	for {
		n, err := l.file.Read(buf)
		switch {
		case n > 0:
			l.mu.Lock()
			if l.in != nil {
				l.in(buf[:n])
			}
			l.mu.Unlock()
		case err == nil, isErr(err, unix.ECONNREFUSED), isErr(err, unix.EIO), isErr(err, unix.ENETDOWN):
			if l.ended() {
				return
			}
			if isErr(err, unix.EIO) { // the host's side of a TAP device is down
				unix.Poll(nil, 100)
			}
		default:
			return
		}
	}
}

func isErr(err error, e unix.Errno) bool {
	pe, ok := err.(*os.PathError)
	return ok && pe.Err == e
}

func (l *link) ended() bool {
	l.closeMu.RLock()
	defer l.closeMu.RUnlock()
	return l.closed
}

// Open, Close and Send are inet.Link's.
func (l *link) Open(in func(frame []byte)) error {
	l.mu.Lock()
	l.in = in
	l.mu.Unlock()
	return nil
}

// Close stops the hand-over.
func (l *link) Close() {
	l.mu.Lock()
	l.in = nil
	l.mu.Unlock()
}

// Send sends a frame.
func (l *link) Send(frame []byte) bool {
	l.closeMu.RLock()
	defer l.closeMu.RUnlock()
	return !l.closed && l.send(l.fd, frame)
}

// AddrChanged is inet.Addressed's.
func (l *link) AddrChanged(ip netip.Addr, there bool) {
	if l.route != nil {
		l.route(ip, there)
	}
}

// end gives the descriptors back.
func (l *link) end() {
	l.closeMu.Lock()
	defer l.closeMu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.file.Close()
	for _, fd := range l.also {
		unix.Close(fd)
	}
}

// write sends a frame by write(2).
func write(fd int, frame []byte) bool {
	_, err := unix.Write(fd, frame)
	return err == nil
}
