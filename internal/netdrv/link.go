package netdrv

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

const (
	// maxFrame is the longest frame that a transport takes from the host.
	maxFrame = 65536 + 18
	// maxWaiting bounds the frames that wait until the host takes them, as an interface's txqueuelen does.
	maxWaiting = 1000
)

// link is an inet.Link on a descriptor.
type link struct {
	// send writes a frame; EAGAIN if the host does not take one now.
	send func(fd int, frame []byte) error
	// also are descriptors that live as long as the link.
	also []int
	// route, if not nil, makes or removes the host's route to an address of the guest.
	route func(ip netip.Addr, there bool)

	inet.Receiver

	fd   int
	file *os.File // the same, for the poller
	// datagrams: an empty read is an empty datagram, which anybody may have sent, and not the end.
	datagrams bool

	// sendMu keeps frames in order. waiting are those that the host did not take at once: the receive queue of a socket of
	// datagrams, as that of a switch, holds 10 of them, and a burst would lose the rest.
	sendMu  sync.Mutex
	waiting [][]byte

	// closeMu guards the descriptor against its end.
	closeMu sync.RWMutex
	closed  bool
}

// newLink starts a link on a descriptor, which it owns.
func newLink(fd int, send func(fd int, frame []byte) error, also ...int) (*link, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE) // none, for a TAP device
	l := &link{fd: fd, file: os.NewFile(uintptr(fd), "network transport"), send: send, also: also, datagrams: kind == unix.SOCK_DGRAM}
	go l.receive()
	return l, nil
}

// receive takes frames from the host until the link ends. They are handed over by another goroutine: what a switch sends while
// the stack is busy is lost once some 90 frames are not yet taken. What comes while the device is down is dropped.
func (l *link) receive() {
	frames := make(chan []byte, maxWaiting)
	defer close(frames)
	go l.handOver(frames)
	buf := make([]byte, maxFrame)
	for {
		n, err := l.file.Read(buf)
		switch {
		case n > 0:
			frame := buffer(n)
			copy(frame, buf)
			select {
			case frames <- frame:
			default:
			}
		case err == io.EOF && l.datagrams:
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

// handOver hands frames over, in their order.
func (l *link) handOver(frames <-chan []byte) {
	for frame := range frames {
		l.HandOver(frame)
		if cap(frame) == usualFrame {
			buffers.Put((*[usualFrame]byte)(frame[:usualFrame]))
		}
	}
}

// usualFrame is room for a frame of an Ethernet without jumbo frames.
const usualFrame = 2048

var buffers = sync.Pool{New: func() any { return new([usualFrame]byte) }}

// buffer is room for a frame of n bytes.
func buffer(n int) []byte {
	if n > usualFrame {
		return make([]byte, n)
	}
	return buffers.Get().(*[usualFrame]byte)[:n]
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

// Send sends a frame, or has it wait for its turn.
func (l *link) Send(frame []byte) bool {
	l.closeMu.RLock()
	defer l.closeMu.RUnlock()
	if l.closed {
		return false
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	n := len(l.waiting)
	if n == 0 {
		if err := l.send(l.fd, frame); err != unix.EAGAIN {
			return err == nil
		}
		go l.sendWaiting()
	}
	if n == maxWaiting {
		return false
	}
	l.waiting = append(l.waiting, slices.Clone(frame))
	return true
}

// sendWaiting sends what waits, until nothing does or the link ends. The frame that is being sent stays the first that waits, so
// that no other overtakes it.
func (l *link) sendWaiting() {
	conn, err := l.file.SyscallConn()
	if err != nil {
		return // closed
	}
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	for len(l.waiting) > 0 {
		frame := l.waiting[0]
		l.sendMu.Unlock()
		err := conn.Write(func(fd uintptr) bool { return l.send(int(fd), frame) != unix.EAGAIN })
		l.sendMu.Lock()
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		if err != nil {
			l.waiting = nil
		}
	}
	l.waiting = nil
}

// AddrChanged is inet.Addressed's.
func (l *link) AddrChanged(ip netip.Addr, there bool) {
	if l.route != nil {
		l.route(ip, there)
	}
}

// End gives the descriptors back.
func (l *link) End() {
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
func write(fd int, frame []byte) error {
	_, err := unix.Write(fd, frame)
	return err
}
