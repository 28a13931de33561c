package mconsole

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

const (
	// maxClients and maxQueued bound what is not yet answered.
	maxClients = 256
	maxQueued  = 16
	// patience is how long a client may leave its packets unread.
	patience = 10 * time.Second
)

// Server is a management console.
type Server struct {
	guest   Guest
	drivers []hotplug.Driver // longest name first
	path    string
	sock    *socket
	uid     uint32
	quit    chan struct{}

	mu      sync.Mutex
	clients map[address]*client // those with requests that are not answered yet

	freezeMu sync.Mutex
	frozen   bool

	sysrqMu sync.Mutex
}

// client is the requests of one address that wait while another one is served.
type client struct{ waiting []*request }

// New makes a server for a guest, whose devices are changed by drivers, and its socket. It answers after Serve.
func New(path string, g Guest, drivers ...hotplug.Driver) (*Server, error) {
	if len(path) >= unix.SizeofSockaddrUnix-2 {
		return nil, fmt.Errorf("the path of the management socket, %s, is too long: choose a shorter uml_dir= or umid=", path)
	}
	sock, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{guest: g, path: path, sock: sock, uid: uint32(os.Getuid()), quit: make(chan struct{}), clients: map[address]*client{}}
	s.drivers = sortDrivers(drivers)
	return s, nil
}

// Serve answers requests until Close.
func (s *Server) Serve() {
	klog.Infof("mconsole (version %d) initialized on %s", wire.Version, s.path)
	// One byte more than any request, to see that one is too long.
	buf := make([]byte, wire.RequestSize+1)
	for {
		d, err := s.sock.receive(buf)
		select {
		case <-s.quit:
			return
		default:
		}
		if err != nil {
			klog.Once("mconsole receive", "mconsole: receive: %v", err)
			time.Sleep(time.Millisecond)
			continue
		}
		s.accept(&d)
	}
}

// Close ends Serve. Requests that are being served end by themselves.
func (s *Server) Close() {
	close(s.quit)
	s.sock.close()
}

// errForeign is what other users are told.
var errForeign = &hotplug.Error{Errno: unix.EPERM, Text: "Operation not permitted: the guest belongs to another user"}

var errBusy = &hotplug.Error{Errno: unix.EAGAIN, Text: "Too many requests"}

// accept checks a datagram and queues its request.
func (s *Server) accept(d *datagram) {
	r := &request{s: s, from: d.from, files: d.files}
	line, err := wire.DecodeRequest(d.data)
	switch {
	case d.cred == nil || d.cred.Uid != s.uid && d.cred.Uid != 0:
		err = errForeign
	case err == nil && len(d.data) > wire.RequestSize:
		err = wire.ErrTooLarge
	}
	if err == nil {
		r.line, r.pid = line, int(d.cred.Pid)
		if s.queue(r) {
			return
		}
		err = errBusy
	}
	r.close()
	if !d.from.named() {
		return
	}
	// Here nobody waits for a client that does not read.
	answer := (&wire.Reply{Err: number(err), Text: err.Error()}).Encode()
	if errors.Is(err, wire.ErrUnversioned) {
		answer = wire.UnversionedReply()
	}
	_ = s.sock.send(answer, &d.from)
}

// queue has r served after the client's other requests; false if there are too many.
func (s *Server) queue(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[r.from]
	if c == nil {
		if len(s.clients) >= maxClients {
			return false
		}
		s.clients[r.from] = &client{}
		go s.work(r)
		return true
	}
	if len(c.waiting) >= maxQueued {
		return false
	}
	c.waiting = append(c.waiting, r)
	return true
}

// work serves the requests of a client until none is left.
func (s *Server) work(r *request) {
	for r != nil {
		s.serve(r)
		r.close()
		s.mu.Lock()
		c := s.clients[r.from]
		if len(c.waiting) == 0 {
			delete(s.clients, r.from)
			r = nil
		} else {
			r, c.waiting = c.waiting[0], c.waiting[1:]
		}
		s.mu.Unlock()
	}
}

// send gives a client a packet, waiting while it has not read earlier ones.
func (s *Server) send(b []byte, to *address) error {
	if !to.named() {
		return nil
	}
	end := time.Now().Add(patience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := s.sock.send(b, to)
		if err == unix.EAGAIN {
			err = sendApart(b, to)
		}
		if err != unix.EAGAIN && err != unix.ENOBUFS || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-s.quit:
			return os.ErrClosed
		}
	}
}

// sendApart sends a packet by a socket of its own. What clients leave unread counts against the sender's buffer: those who do
// not read could fill the server's, and nobody would get an answer any more. Clients that are connected to the server's socket take
// nothing from another one: EAGAIN.
func sendApart(b []byte, to *address) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return unix.EAGAIN
	}
	defer unix.Close(fd)
	if err := sendto(fd, b, to); err != unix.EPERM {
		return err
	}
	return unix.EAGAIN
}

// number is the err field for an error: a negative errno, or 1.
func number(err error) int32 {
	var e unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e) && e != 0:
		return -int32(e)
	}
	return 1
}
