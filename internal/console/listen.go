package console

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// notice is what a connection gets that no line waits for.
const notice = "No console is waiting for a connection here.\r\n" +
	"Either all consoles on this port have their connections,\r\n" +
	"or no program in the guest has opened one yet.\r\n" +
	"Please try again later.\r\n"

// listener is a TCP port on which lines wait for their users. Several lines can share it: a connection goes to the one that
// waits longest.
type listener struct {
	ln *net.TCPListener

	mu      sync.Mutex
	waiting []*waiter
}

// waiter is a line that waits; take gets the connected socket.
type waiter struct{ take func(fd int) }

// listen starts to listen on addr. It goes on until close.
func listen(addr string) (*listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &listener{ln: ln.(*net.TCPListener)}
	go l.serve()
	return l, nil
}

// addr is where it listens, with the port that the host chose for port 0.
func (l *listener) addr() string { return l.ln.Addr().String() }

func (l *listener) close() { l.ln.Close() }

// wait puts a line at the end of the queue; cancel takes it out again.
func (l *listener) wait(take func(fd int)) (cancel func()) {
	w := &waiter{take}
	l.mu.Lock()
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		l.waiting = slices.DeleteFunc(l.waiting, func(x *waiter) bool { return x == w })
		l.mu.Unlock()
	}
}

func (l *listener) next() *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	w := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	return w
}

func (l *listener) serve() {
	for {
		c, err := l.ln.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // out of descriptors, or a client that left again
			continue
		}
		l.accepted(c)
	}
}

// accepted hands a connection to a line, or sends it away.
func (l *listener) accepted(c *net.TCPConn) {
	defer c.Close()
	w := l.next()
	if w == nil {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(notice))
		_ = c.CloseWrite()
		return
	}
	// A user whose machine has gone must not keep the console for ever.
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3})
	fd, err := dupConn(c)
	if err != nil {
		klog.Errf("port %s: %v", l.addr(), err)
		l.mu.Lock()
		l.waiting = slices.Insert(l.waiting, 0, w)
		l.mu.Unlock()
		return
	}
	w.take(fd)
}

// dupConn is a descriptor of a connection that the network poller does not know.
func dupConn(c syscall.Conn) (int, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := rc.Control(func(f uintptr) { fd, dupErr = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, fmt.Errorf("dup: %w", dupErr)
	}
	return fd, nil
}
