package mconsole

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// Notifier sends notifications to the datagram socket of mconsole=notify:.
type Notifier struct {
	path string
	fd   int
}

// NewNotifier makes a Notifier for a socket, which need not be there yet.
func NewNotifier(path string) (*Notifier, error) {
	if len(path) >= unix.SizeofSockaddrUnix-2 {
		return nil, fmt.Errorf("mconsole=notify: the path %s is too long", path)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("mconsole=notify: %w", err)
	}
	return &Notifier{path, fd}, nil
}

// send sends one notification. It never waits. Who sent it is not told when it fails: the guest's log is.
func (n *Notifier) send(t wire.NotifyType, data []byte) {
	if n == nil {
		return
	}
	m := wire.Notify{Type: t, Data: data}
	if err := unix.Sendto(n.fd, m.Encode(), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: n.path}); err != nil {
		klog.Once("mconsole notify "+err.Error(), "mconsole: a notification to %s was lost: %v", n.path, err)
	}
}

// Ready tells that the server's socket is there; Panic that the guest has panicked; Hang that a watchdog has expired; User
// what the guest wrote to /proc/mconsole. A nil Notifier sends nothing.
func (n *Notifier) Ready(s *Server) { n.send(wire.NotifySocket, append([]byte(s.path), 0)) }

// Panic has the text of the panic.
func (n *Notifier) Panic(text string) { n.send(wire.NotifyPanic, append([]byte(text), 0)) }

// Hang has no more to tell.
func (n *Notifier) Hang() { n.send(wire.NotifyHang, nil) }

// User has what the guest wrote.
func (n *Notifier) User(data []byte) { n.send(wire.NotifyUser, data) }
