package netlink

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

const (
	sizeNL    = unix.SizeofSockaddrNetlink
	maxGroups = 64 // that a socket can be in; the highest group of rtnetlink is below
	// overhead is what a queued message costs beside its bytes.
	overhead = 512
)

const (
	readable = wait.In | wait.RdNorm
	writable = wait.Out | wait.WrNorm | wait.WrBand
)

// Socket is a socket of AF_NETLINK.
type Socket struct {
	socket.Base
	q wait.Queue

	mu       sync.Mutex
	pid      uint32 // its address, 0 before it has one
	groups   uint64 // bit n-1 is group n
	peer     uint32
	peerMask uint32
	filter   *inet.Filter
	opts     map[int]bool // of SOL_NETLINK
	queue    []message
	bytes    int
	closed   bool
}

// message is a datagram in a queue.
type message struct {
	data     []byte
	from     uint32
	group    int
	pid      int32 // credentials of the sender, zeros for the kernel
	uid, gid uint32
}

// table has the sockets of each protocol.
var table struct {
	mu    sync.Mutex
	socks map[*Socket]struct{}
}

func init() {
	table.socks = map[*Socket]struct{}{}
	socket.RegisterFamily(unix.AF_NETLINK, &socket.Family{Name: "NETLINK", New: func(_ vfs.Caller, typ, protocol int) (socket.Socket, error) {
		if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
			return nil, unix.ESOCKTNOSUPPORT
		}
		switch protocol {
		case unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT:
		default:
			return nil, unix.EPROTONOSUPPORT
		}
		s := &Socket{}
		s.Init(unix.AF_NETLINK, typ, protocol)
		table.mu.Lock()
		table.socks[s] = struct{}{}
		table.mu.Unlock()
		return s, nil
	}})
	inet.Watch(changed)
}

// decode reads a struct sockaddr_nl: EINVAL.
func decode(sa []byte) (pid, groups uint32, err error) {
	if len(sa) < sizeNL || ne.Uint16(sa) != unix.AF_NETLINK {
		return 0, 0, unix.EINVAL
	}
	return ne.Uint32(sa[4:]), ne.Uint32(sa[8:]), nil
}

func encode(pid, groups uint32) []byte {
	b := make([]byte, sizeNL)
	ne.PutUint16(b, unix.AF_NETLINK)
	ne.PutUint32(b[4:], pid)
	ne.PutUint32(b[8:], groups)
	return b
}

// setPid gives the socket an address: want, or the caller's process id, or another that is free.
func (s *Socket) setPid(c vfs.Caller, want uint32) error {
	table.mu.Lock()
	defer table.mu.Unlock()
	used := func(pid uint32) bool {
		for o := range table.socks {
			if o != s && o.Protocol == s.Protocol && o.address() == pid {
				return true
			}
		}
		return false
	}
	if want != 0 && used(want) {
		return unix.EADDRINUSE
	}
	if want == 0 {
		want = uint32(c.PID())
		for n := uint32(4096); used(want); n++ {
			want = -n // as Linux: addresses that cannot be process ids
		}
	}
	s.mu.Lock()
	s.pid = want
	s.mu.Unlock()
	return nil
}

func (s *Socket) address() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Bind is bind(2).
func (s *Socket) Bind(c vfs.Caller, sa []byte) error {
	pid, groups, err := decode(sa)
	if err != nil {
		return err
	}
	switch have := s.address(); {
	case have == 0:
		if err := s.setPid(c, pid); err != nil {
			return err
		}
	case pid != have:
		return unix.EINVAL
	}
	s.mu.Lock()
	s.groups = s.groups&^(1<<32-1) | uint64(groups)
	s.mu.Unlock()
	return nil
}

// Connect is connect(2).
func (s *Socket) Connect(c vfs.Caller, sa []byte, _ bool) error {
	if len(sa) >= 2 && ne.Uint16(sa) == unix.AF_UNSPEC {
		s.mu.Lock()
		s.peer, s.peerMask = 0, 0
		s.mu.Unlock()
		return nil
	}
	pid, groups, err := decode(sa)
	if err != nil {
		return err
	}
	if groups != 0 && !c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	if s.address() == 0 {
		if err := s.setPid(c, 0); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.peer, s.peerMask = pid, groups
	s.mu.Unlock()
	return nil
}

// Send is sendmsg(2): to the kernel, or to other sockets.
func (s *Socket) Send(c vfs.Caller, m *socket.Msg, src *uio.Src) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	s.mu.Lock()
	pid, groups := s.peer, s.peerMask
	s.mu.Unlock()
	if m.Addr != nil {
		var err error
		if pid, groups, err = decode(m.Addr); err != nil {
			return 0, err
		}
	}
	if (groups != 0 || pid != 0 && s.Protocol != unix.NETLINK_ROUTE) && !c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return 0, unix.EPERM
	}
	if s.address() == 0 {
		if err := s.setPid(c, 0); err != nil {
			return 0, err
		}
	}
	n := src.Len()
	if snd, _ := s.Buffers(); n > snd-32 {
		return 0, unix.EMSGSIZE
	}
	b := make([]byte, n)
	if _, err := src.CopyIn(b); err != nil {
		return 0, err
	}
	cr := c.Cred()
	msg := message{data: b, from: s.address(), pid: c.PID(), uid: cr.EUID, gid: cr.EGID}
	if groups != 0 {
		for g := 1; g <= 32; g++ {
			if groups>>(g-1)&1 != 0 {
				msg.group = g
				multicast(s.Protocol, msg, s)
			}
		}
	}
	if pid != 0 {
		return n, s.unicast(pid, msg)
	}
	if groups == 0 {
		s.toKernel(c, b)
	}
	return n, nil
}

// unicast sends to the socket with an address: ECONNREFUSED.
func (s *Socket) unicast(pid uint32, msg message) error {
	table.mu.Lock()
	defer table.mu.Unlock()
	for o := range table.socks {
		if o.Protocol == s.Protocol && o.address() == pid {
			if !o.put(msg, false) {
				return unix.ENOBUFS
			}
			return nil
		}
	}
	return unix.ECONNREFUSED
}

// multicast sends to all sockets of a group, but not to the sender.
func multicast(protocol int, msg message, sender *Socket) {
	table.mu.Lock()
	defer table.mu.Unlock()
	for o := range table.socks {
		if o == sender || o.Protocol != protocol {
			continue
		}
		o.mu.Lock()
		in := o.groups>>(msg.group-1)&1 != 0
		o.mu.Unlock()
		if in && !o.put(msg, false) {
			o.overrun()
		}
	}
}

// overrun tells a receiver that it missed something.
func (s *Socket) overrun() {
	s.mu.Lock()
	quiet := s.opts[unix.NETLINK_NO_ENOBUFS]
	s.mu.Unlock()
	if !quiet {
		s.SetError(unix.ENOBUFS)
		s.q.Notify(wait.Err)
	}
}

// full reports whether the socket has so much to receive that it must not ask for more.
func (s *Socket) full() bool {
	_, limit := s.Buffers()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes > limit || kmem.Full()
}

// put queues a message; false if there is no room. An answer is queued whatever there is: the socket asked for it.
func (s *Socket) put(msg message, answer bool) bool {
	_, limit := s.Buffers()
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return true
	case !answer && s.bytes+len(msg.data)+overhead > limit:
		s.mu.Unlock()
		return false
	case s.filter != nil:
		n := s.filter.Run(msg.data)
		if n == 0 {
			s.mu.Unlock()
			return true
		}
		msg.data = msg.data[:min(n, len(msg.data))]
	}
	s.queue = append(s.queue, msg)
	s.bytes += len(msg.data) + overhead
	kmem.Add(len(msg.data) + overhead)
	s.mu.Unlock()
	s.q.Notify(readable)
	return true
}

func (s *Socket) take(peek bool) (m message, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return m, false
	}
	m = s.queue[0]
	if !peek {
		s.queue[0] = message{}
		s.queue = s.queue[1:]
		s.bytes -= len(m.data) + overhead
		kmem.Add(-len(m.data) - overhead)
	}
	return m, true
}

// Recv is recvmsg(2).
func (s *Socket) Recv(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	var got message
	if err := s.Await(c, &s.q, m.Flags, func(peek bool) (ok bool) { got, ok = s.take(peek); return ok }); err != nil {
		return 0, err
	}
	n, err := dst.CopyOut(got.data)
	if err != nil {
		return 0, err
	}
	if n < len(got.data) {
		m.OutFlags |= unix.MSG_TRUNC
		if m.Flags&unix.MSG_TRUNC != 0 {
			n = len(got.data)
		}
	}
	mask := uint32(0)
	if got.group > 0 && got.group <= 32 {
		mask = 1 << (got.group - 1)
	}
	if m.WantAddr {
		m.Addr = encode(got.from, mask)
	}
	if m.WantControl {
		if s.Flag(unix.SO_PASSCRED) {
			b := ne.AppendUint32(nil, uint32(got.pid))
			b = ne.AppendUint32(b, got.uid)
			m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.SOL_SOCKET, Type: unix.SCM_CREDENTIALS, Data: ne.AppendUint32(b, got.gid)})
		}
		s.mu.Lock()
		info := s.opts[unix.NETLINK_PKTINFO]
		s.mu.Unlock()
		if info {
			m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.SOL_NETLINK, Type: unix.NETLINK_PKTINFO, Data: ne.AppendUint32(nil, uint32(got.group))})
		}
	}
	return n, nil
}

// WaitQueue is where readiness is notified.
func (s *Socket) WaitQueue() *wait.Queue { return &s.q }

// Readiness is datagram_poll's answer.
func (s *Socket) Readiness(mask wait.Events) wait.Events {
	ev := writable
	s.mu.Lock()
	if len(s.queue) > 0 {
		ev |= readable
	}
	s.mu.Unlock()
	if s.HasError() {
		ev |= wait.Err
	}
	return ev & mask
}

// SetOption is setsockopt(2).
func (s *Socket) SetOption(c vfs.Caller, level, name int, val []byte) error {
	if level == unix.SOL_SOCKET {
		return s.setSocketLevel(c, name, val)
	}
	if level != unix.SOL_NETLINK {
		return unix.ENOPROTOOPT
	}
	v, err := socket.Int32(val)
	if err != nil {
		return err
	}
	switch name {
	case unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP:
		if v < 1 || v > maxGroups {
			return unix.EINVAL
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if name == unix.NETLINK_ADD_MEMBERSHIP {
			s.groups |= 1 << (v - 1)
		} else {
			s.groups &^= 1 << (v - 1)
		}
		return nil
	case unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK,
		unix.NETLINK_GET_STRICT_CHK:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.opts == nil {
			s.opts = map[int]bool{}
		}
		s.opts[name] = v != 0
		return nil
	}
	return unix.ENOPROTOOPT
}

func (s *Socket) setSocketLevel(c vfs.Caller, name int, val []byte) error {
	switch name {
	case unix.SO_ATTACH_FILTER:
		f, err := inet.NewFilter(c, val)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.filter = f
		s.mu.Unlock()
		return nil
	case unix.SO_DETACH_FILTER:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.filter == nil {
			return unix.ENOENT
		}
		s.filter = nil
		return nil
	}
	return s.SetSocketOption(c, name, val)
}

// Option is getsockopt(2).
func (s *Socket) Option(_ vfs.Caller, level, name, _ int) ([]byte, error) {
	if level == unix.SOL_SOCKET {
		return s.SocketOption(name)
	}
	if level != unix.SOL_NETLINK {
		return nil, unix.ENOPROTOOPT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name {
	case unix.NETLINK_LIST_MEMBERSHIPS:
		return binary.NativeEndian.AppendUint64(nil, s.groups), nil
	case unix.NETLINK_PKTINFO, unix.NETLINK_BROADCAST_ERROR, unix.NETLINK_NO_ENOBUFS, unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK,
		unix.NETLINK_GET_STRICT_CHK:
		if s.opts[name] {
			return socket.PutInt32(1), nil
		}
		return socket.PutInt32(0), nil
	}
	return nil, unix.ENOPROTOOPT
}

// Name is getsockname(2).
func (s *Socket) Name(vfs.Caller) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return encode(s.pid, uint32(s.groups)), nil
}

// PeerName is getpeername(2).
func (s *Socket) PeerName(vfs.Caller) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return encode(s.peer, s.peerMask), nil
}

// Close ends the socket.
func (s *Socket) Close() {
	table.mu.Lock()
	delete(table.socks, s)
	table.mu.Unlock()
	s.mu.Lock()
	kmem.Add(-s.bytes)
	s.closed, s.queue, s.bytes = true, nil, 0
	s.mu.Unlock()
	s.q.Notify(wait.All)
}

// Listen and the like are not for netlink.
func (*Socket) Listen(vfs.Caller, int) error                     { return unix.EOPNOTSUPP }
func (*Socket) Accept(vfs.Caller, bool) (socket.Socket, error)   { return nil, unix.EOPNOTSUPP }
func (*Socket) Shutdown(vfs.Caller, int) error                   { return unix.EOPNOTSUPP }
func (*Socket) Ioctl(vfs.Caller, uint32, uint64) (uint64, error) { return 0, unix.ENOTTY }

// Uevent tells udev of a device: the header "action@path" and the lines of the event, each ended by a 0.
func Uevent(text []byte) {
	multicast(unix.NETLINK_KOBJECT_UEVENT, message{data: text, group: 1}, nil)
}

var _ socket.Socket = (*Socket)(nil)
