package unixsock

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Bits of Socket.shut: no more receiving, no more sending.
const (
	shutRd = 1 << iota
	shutWr
	shutBoth = shutRd | shutWr
)

// state of a socket.
type state int32

const (
	unconnected state = iota
	listening
	connected
	closed
)

// Socket is one AF_UNIX socket.
type Socket struct {
	socket.Base
	q  wait.Queue
	rx queue

	ino      atomic.Uint64
	inFlight atomic.Int64 // charge of its packets in queues
	sndbuf   atomic.Int64 // SO_SNDBUF
	shut     atomic.Uint32
	st       atomic.Int32 // state; changed under mu
	peer     atomic.Pointer[Socket]
	addr     atomic.Pointer[address]
	passcred atomic.Bool
	stamps   atomic.Bool // SO_TIMESTAMP or SO_TIMESTAMPNS
	// peercred is what SO_PEERCRED says; groups what SO_PEERGROUPS says.
	peercred atomic.Pointer[peerID]

	mu sync.Mutex
	// backlog of a listener: accepted ends of connections, not yet behind a file.
	backlog    []*Socket
	maxBacklog int
	// senders are the datagram sockets connected to this one; they are told when the queue has room again.
	senders map[*Socket]struct{}
}

type peerID struct {
	cred   ucred
	groups []uint32
}

func callerCred(c vfs.Caller) ucred {
	cr := c.Cred()
	return ucred{c.PID(), cr.EUID, cr.EGID}
}

func callerID(c vfs.Caller) *peerID { return &peerID{callerCred(c), c.Cred().Groups} }

// maxDgramQueue is net.unix.max_dgram_qlen.
const maxDgramQueue = 10

func init() {
	socket.RegisterFamily(unix.AF_UNIX, &socket.Family{Name: "UNIX",
		New: func(c vfs.Caller, typ, protocol int) (socket.Socket, error) {
			s, err := newSocket(typ, protocol)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Pair: newPair,
	})
}

func newSocket(typ, protocol int) (*Socket, error) {
	if protocol != 0 && protocol != unix.AF_UNIX {
		return nil, unix.EPROTONOSUPPORT
	}
	switch typ {
	case unix.SOCK_RAW: // as in BSD
		typ = unix.SOCK_DGRAM
	case unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET:
	default:
		return nil, unix.ESOCKTNOSUPPORT
	}
	s := &Socket{maxBacklog: maxDgramQueue}
	s.Init(unix.AF_UNIX, typ, 0)
	s.sndbuf.Store(socket.DefaultBuf)
	sockets.add(s)
	return s, nil
}

func newPair(c vfs.Caller, typ, protocol int) (socket.Socket, socket.Socket, error) {
	a, err := newSocket(typ, protocol)
	if err != nil {
		return nil, nil, err
	}
	b, _ := newSocket(typ, protocol)
	id := callerID(c)
	for _, x := range [...][2]*Socket{{a, b}, {b, a}} {
		x[0].peer.Store(x[1])
		x[0].peercred.Store(id)
		if typ != unix.SOCK_DGRAM {
			x[0].st.Store(int32(connected))
		} else {
			x[0].senders = map[*Socket]struct{}{x[1]: {}}
		}
	}
	return a, b, nil
}

// SetInode is socket.InodeSetter's.
func (s *Socket) SetInode(ino uint64) { s.ino.Store(ino) }

func (s *Socket) state() state { return state(s.st.Load()) }

// stream and dgram tell the type; a seqpacket socket is neither.
func (s *Socket) stream() bool { return s.Type == unix.SOCK_STREAM }
func (s *Socket) dgram() bool  { return s.Type == unix.SOCK_DGRAM }

// WaitQueue is where readiness is notified.
func (s *Socket) WaitQueue() *wait.Queue { return &s.q }

// Readiness is unix_poll's answer.
func (s *Socket) Readiness(mask wait.Events) (ev wait.Events) {
	if s.HasError() {
		ev |= wait.Err
	}
	shut := s.shut.Load()
	if shut == shutBoth {
		ev |= wait.Hup
	}
	if shut&shutRd != 0 {
		ev |= wait.RdHup | readable
	}
	st := s.state()
	if st == listening {
		s.mu.Lock()
		if len(s.backlog) > 0 {
			ev |= readable
		}
		s.mu.Unlock()
		return ev & mask
	}
	s.rx.mu.Lock()
	if s.rx.n > 0 {
		ev |= readable
	}
	s.rx.mu.Unlock()
	if !s.dgram() && st == unconnected {
		ev |= wait.Hup
	}
	if s.isWritable() && (!s.dgram() || !s.peerFull()) {
		ev |= writable
	}
	return ev & mask
}

// peerFull reports whether a datagram socket is connected to one that has no room, and is not connected back.
func (s *Socket) peerFull() bool {
	p := s.peer.Load()
	if p == nil || p.peer.Load() == s {
		return false
	}
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	return p.rx.n > maxDgramQueue
}

// Listen is listen(2).
func (s *Socket) Listen(c vfs.Caller, backlog int) error {
	const somaxconn = 4096
	if s.dgram() {
		return unix.EOPNOTSUPP
	}
	if s.addr.Load() == nil {
		return unix.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.state(); st != unconnected && st != listening {
		return unix.EINVAL
	}
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	if backlog > s.maxBacklog {
		s.q.Notify(writable)
	}
	s.maxBacklog = backlog
	s.peercred.Store(callerID(c))
	s.st.Store(int32(listening))
	return nil
}

// Accept is accept(2).
func (s *Socket) Accept(c vfs.Caller, nonblock bool) (socket.Socket, error) {
	if s.dgram() {
		return nil, unix.EOPNOTSUPP
	}
	if s.state() != listening {
		return nil, unix.EINVAL
	}
	var got *Socket
	var failed error
	take := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.backlog) > 0 {
			got = s.backlog[0]
			s.backlog[0] = nil
			s.backlog = s.backlog[1:]
			return true
		}
		if s.shut.Load()&shutRd != 0 || s.state() != listening {
			failed = unix.EINVAL
			return true
		}
		return false
	}
	if !take() {
		if nonblock {
			return nil, unix.EAGAIN
		}
		t := s.RecvTimeout()
		if err := s.q.Wait(c, wait.Readable, t.Deadline, take); err != nil {
			return nil, t.Err(err)
		}
	}
	if failed != nil {
		return nil, failed
	}
	s.q.Notify(writable) // a connect that waits for room in the backlog
	return got, nil
}

// Connect is connect(2).
func (s *Socket) Connect(c vfs.Caller, sa []byte, nonblock bool) error {
	if len(sa) < 2 {
		return unix.EINVAL
	}
	if s.dgram() {
		return s.connectDgram(c, sa)
	}
	a, err := parseAddress(sa)
	if err != nil {
		return err
	}
	if s.passcred.Load() && s.addr.Load() == nil {
		if err := s.autobind(); err != nil {
			return err
		}
	}
	t := s.SendTimeout()
	for {
		l, err := a.find(c, s.Type)
		if err != nil {
			return err
		}
		full, err := s.connectTo(c, l)
		if !full {
			return err
		}
		if nonblock {
			return unix.EAGAIN
		}
		err = l.q.Wait(c, wait.Writable, t.Deadline, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.state() != listening || l.shut.Load()&shutRd != 0 || len(l.backlog) <= l.maxBacklog
		})
		if err != nil {
			return t.Err(err)
		}
	}
}

// connectTo connects s to a listener; full says that its backlog is full and nothing was done.
func (s *Socket) connectTo(c vfs.Caller, l *Socket) (full bool, err error) {
	if s == l {
		return false, unix.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state() {
	case connected:
		return false, unix.EISCONN
	case listening, closed:
		return false, unix.EINVAL
	}
	l.mu.Lock()
	if l.state() != listening || l.shut.Load()&shutRd != 0 {
		l.mu.Unlock()
		return false, unix.ECONNREFUSED
	}
	if len(l.backlog) > l.maxBacklog {
		l.mu.Unlock()
		return true, nil
	}
	e, _ := newSocket(s.Type, 0)
	e.CopyOptions(&l.Base)
	snd, _ := e.Buffers()
	e.sndbuf.Store(int64(snd))
	e.passcred.Store(l.passcred.Load())
	e.addr.Store(l.addr.Load())
	e.peercred.Store(callerID(c))
	e.peer.Store(s)
	e.st.Store(int32(connected))
	s.peercred.Store(l.peercred.Load())
	s.peer.Store(e)
	s.st.Store(int32(connected))
	l.backlog = append(l.backlog, e)
	l.mu.Unlock()
	l.q.Notify(readable)
	s.q.Notify(writable)
	return false, nil
}

// connectDgram sets or clears the peer of a datagram socket.
func (s *Socket) connectDgram(c vfs.Caller, sa []byte) error {
	var p *Socket
	if binary.LittleEndian.Uint16(sa) != unix.AF_UNSPEC {
		a, err := parseAddress(sa)
		if err != nil {
			return err
		}
		if s.passcred.Load() && s.addr.Load() == nil {
			if err := s.autobind(); err != nil {
				return err
			}
		}
		if p, err = a.find(c, s.Type); err != nil {
			return err
		}
		if x := p.peer.Load(); x != nil && x != s {
			return unix.EPERM
		}
	}
	s.setDgramPeer(p)
	return nil
}

// setDgramPeer makes p (or nobody) the peer. What the old peer sent and is still in the queue is lost, as in Linux.
func (s *Socket) setDgramPeer(p *Socket) {
	old := s.peer.Swap(p)
	if old == p {
		return
	}
	if old != nil {
		old.mu.Lock()
		delete(old.senders, s)
		old.mu.Unlock()
		s.drop()
	}
	if p != nil {
		p.mu.Lock()
		if p.senders == nil {
			p.senders = map[*Socket]struct{}{}
		}
		p.senders[s] = struct{}{}
		p.mu.Unlock()
	}
	s.q.Notify(writable)
}

// drop empties the receive queue.
func (s *Socket) drop() (dropped bool) {
	var free []*packet
	var files []*vfs.File
	s.rx.readMu.Lock()
	rightsMu.Lock()
	s.rx.mu.Lock()
	for s.rx.head != nil {
		p := s.rx.popLocked()
		files = append(files, p.takeFiles()...)
		free = append(free, p)
	}
	s.rx.mu.Unlock()
	rightsMu.Unlock()
	s.rx.readMu.Unlock()
	for _, p := range free {
		p.free()
	}
	for _, f := range files {
		f.DecRef()
	}
	return len(free) > 0
}

// Shutdown is shutdown(2).
func (s *Socket) Shutdown(_ vfs.Caller, how int) error {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	mode := uint32(how + 1)
	s.setShut(mode)
	if p := s.peer.Load(); p != nil && !s.dgram() {
		// What one end does not send the other does not receive.
		p.setShut(mode>>1 | mode<<1&shutBoth)
	}
	return nil
}

// setShut adds to the shutdown state and tells all waiters.
func (s *Socket) setShut(mode uint32) {
	s.rx.mu.Lock() // so that no sender appends after it
	s.shut.Or(mode)
	s.rx.mu.Unlock()
	s.q.Notify(wait.All)
}

// Close ends the socket.
func (s *Socket) Close() {
	s.mu.Lock()
	s.st.Store(int32(closed))
	backlog := s.backlog
	s.backlog = nil
	senders := s.senders
	s.senders = nil
	s.mu.Unlock()
	s.unbind()
	sockets.remove(s)
	s.rx.mu.Lock()
	s.rx.closed = true
	s.shut.Store(shutBoth)
	s.rx.mu.Unlock()
	unread := s.drop()
	if p := s.peer.Load(); p != nil {
		if s.dgram() {
			p.mu.Lock()
			delete(p.senders, s)
			p.mu.Unlock()
			s.peer.Store(nil)
		} else {
			s.resetPeer(p, unread)
		}
	}
	for _, e := range backlog {
		e.Close()
		if p := e.peer.Load(); p != nil {
			e.resetPeer(p, true)
		}
	}
	s.q.Notify(wait.All)
	for p := range senders {
		p.q.Notify(writable)
	}
	collect()
}

// resetPeer tells the peer of a connection that s is gone.
func (s *Socket) resetPeer(p *Socket, unread bool) {
	if unread {
		p.SetError(unix.ECONNRESET)
	}
	p.setShut(shutBoth)
}

// Ioctl has SIOCINQ and SIOCOUTQ.
func (s *Socket) Ioctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error) {
	var n int
	switch cmd {
	case unix.SIOCOUTQ:
		n = int(s.inFlight.Load())
	case unix.SIOCINQ:
		if s.state() == listening {
			return 0, unix.EINVAL
		}
		s.rx.mu.Lock()
		switch {
		case s.stream():
			n = s.rx.bytes
		case s.rx.head != nil:
			n = len(s.rx.head.data)
		}
		s.rx.mu.Unlock()
	default:
		return 0, unix.ENOTTY
	}
	return 0, uio.WriteFull(c.Mem(), socket.PutInt32(int32(n)), arg)
}

// SetOption is setsockopt(2).
func (s *Socket) SetOption(c vfs.Caller, level, name int, val []byte) error {
	if level != unix.SOL_SOCKET {
		return unix.EOPNOTSUPP
	}
	if err := s.SetSocketOption(c, name, val); err != nil {
		return err
	}
	switch name {
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		snd, _ := s.Buffers()
		s.sndbuf.Store(int64(snd))
		s.q.Notify(writable)
	case unix.SO_PASSCRED:
		s.passcred.Store(s.Flag(unix.SO_PASSCRED))
	case unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMP_NEW, unix.SO_TIMESTAMPNS_NEW:
		on := false
		for _, o := range stampOptions {
			on = on || s.Flag(o.name)
		}
		s.stamps.Store(on)
	}
	return nil
}

// Option is getsockopt(2).
func (s *Socket) Option(_ vfs.Caller, level, name, max int) ([]byte, error) {
	if level != unix.SOL_SOCKET {
		return nil, unix.EOPNOTSUPP
	}
	switch name {
	case unix.SO_ACCEPTCONN:
		if s.state() == listening {
			return socket.PutInt32(1), nil
		}
		return socket.PutInt32(0), nil
	case unix.SO_PEERCRED:
		cr := ucred{0, ^uint32(0), ^uint32(0)}
		if id := s.peercred.Load(); id != nil {
			cr = id.cred
		}
		return cr.encode(), nil
	case unix.SO_PEERGROUPS:
		id := s.peercred.Load()
		if id == nil {
			return nil, unix.ENODATA
		}
		if max < 4*len(id.groups) {
			return nil, unix.ERANGE
		}
		var b []byte
		for _, g := range id.groups {
			b = binary.LittleEndian.AppendUint32(b, g)
		}
		return b, nil
	}
	return s.SocketOption(name)
}

func (u ucred) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(u.pid))
	b = binary.LittleEndian.AppendUint32(b, u.uid)
	return binary.LittleEndian.AppendUint32(b, u.gid)
}

var _ socket.Socket = (*Socket)(nil)
