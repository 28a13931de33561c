package inet

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// kind is what a socket speaks.
type kind int

const (
	kindTCP kind = iota
	kindUDP
	kindPing // SOCK_DGRAM with ICMP
	kindRaw
)

// Socket is a socket of AF_INET or AF_INET6.
type Socket struct {
	socket.Base
	q     wait.Queue
	v6    bool
	kind  kind
	uid   uint32 // of its creator
	wq    *waiter.Queue
	entry waiter.Entry
	// ep is replaced when a connection that failed is tried again: the stack's endpoints cannot do that.
	ep  atomic.Pointer[tcpip.Endpoint]
	ino atomic.Uint64
	// shut are shutRd and shutWr of shutdown(2).
	shut atomic.Uint32
	// device is what SO_BINDTODEVICE set.
	device atomic.Int32
	// backlog is what listen(2) asked for last.
	backlog atomic.Int32
	// zeroPort is set while a datagram socket is connected to port 0, which the stack cannot do.
	zeroPort atomic.Bool

	mu     sync.Mutex
	filter *Filter
	bound  *tcpip.FullAddress // what bind(2) asked for
	opts   map[option]int32   // options that are kept and shown
	cork   bool               // UDP_CORK
	begun  *datagram          // is being put together
}

// option is a socket option.
type option struct{ level, name int }

const (
	shutRd = 1 << iota
	shutWr
)

const (
	readable = wait.In | wait.RdNorm
	writable = wait.Out | wait.WrNorm
)

// PingGroups is the range of groups whose members may open ICMP sockets without privileges (net.ipv4.ping_group_range):
// the first in the high half. It is empty at first, as on Linux.
var PingGroups atomic.Uint64

// sockets are all that are open, for /proc/net.
var sockets struct {
	sync.Mutex
	m map[*Socket]struct{}
}

func init() {
	PingGroups.Store(1 << 32)
	sockets.m = map[*Socket]struct{}{}
	for _, af := range []int{unix.AF_INET, unix.AF_INET6} {
		name := map[int]string{unix.AF_INET: "TCP", unix.AF_INET6: "TCPv6"}[af]
		socket.RegisterFamily(af, &socket.Family{Name: name, New: func(c vfs.Caller, typ, protocol int) (socket.Socket, error) {
			s, err := newSocket(c, af, typ, protocol)
			if err != nil {
				return nil, err
			}
			return s, nil
		}})
	}
}

// choose finds what a socket speaks: as inet_create.
func choose(c vfs.Caller, af, typ, protocol int) (k kind, proto tcpip.TransportProtocolNumber, err error) {
	if protocol < 0 || protocol > 262 { // IPPROTO_MAX - 1
		return 0, 0, unix.EINVAL
	}
	ping, pingProto := unix.IPPROTO_ICMP, icmp.ProtocolNumber4
	if af == unix.AF_INET6 {
		ping, pingProto = unix.IPPROTO_ICMPV6, icmp.ProtocolNumber6
	}
	switch typ {
	case unix.SOCK_STREAM:
		if protocol == 0 || protocol == unix.IPPROTO_TCP {
			return kindTCP, tcp.ProtocolNumber, nil
		}
	case unix.SOCK_DGRAM:
		switch protocol {
		case 0, unix.IPPROTO_UDP:
			return kindUDP, udp.ProtocolNumber, nil
		case ping:
			if !mayPing(c.Cred()) {
				return 0, 0, unix.EACCES
			}
			return kindPing, pingProto, nil
		}
	case unix.SOCK_RAW:
		switch {
		case protocol == 0 || protocol > 255:
		case !c.Cred().Capable(unix.CAP_NET_RAW):
			return 0, 0, unix.EPERM
		default:
			return kindRaw, tcpip.TransportProtocolNumber(protocol), nil
		}
	default:
		return 0, 0, unix.ESOCKTNOSUPPORT
	}
	return 0, 0, unix.EPROTONOSUPPORT
}

// mayPing reports whether a group of the caller is in PingGroups.
func mayPing(c *cred.Cred) bool {
	r := PingGroups.Load()
	in := func(g uint32) bool { return uint64(g) >= r>>32 && uint64(g) <= r&(1<<32-1) }
	if in(c.EGID) {
		return true
	}
	for _, g := range c.Groups {
		if in(g) {
			return true
		}
	}
	return false
}

func newSocket(c vfs.Caller, af, typ, protocol int) (*Socket, error) {
	k, proto, err := choose(c, af, typ, protocol)
	if err != nil {
		return nil, err
	}
	s := &Socket{v6: af == unix.AF_INET6, kind: k, uid: c.Cred().EUID, wq: &waiter.Queue{}}
	s.Init(af, typ, int(proto))
	if k == kindTCP {
		s.SetBuffers(tcpSndDefault, tcpRcvDefault)
	}
	ep, err := s.newEndpoint()
	if err != nil {
		return nil, err
	}
	s.start(ep)
	return s, nil
}

// newEndpoint makes an endpoint of the stack for s.
func (s *Socket) newEndpoint() (ep tcpip.Endpoint, err error) {
	var e tcpip.Error
	proto := tcpip.TransportProtocolNumber(s.Protocol)
	if s.kind == kindRaw {
		ep, e = theStack().NewRawEndpoint(proto, netProto(s.v6), s.wq, proto != unix.IPPROTO_RAW)
	} else {
		ep, e = theStack().NewEndpoint(proto, netProto(s.v6), s.wq)
	}
	if e != nil {
		return nil, errno(e)
	}
	return ep, nil
}

// start makes s a working socket on an endpoint.
func (s *Socket) start(ep tcpip.Endpoint) {
	s.limitSend(ep)
	s.ep.Store(&ep)
	s.entry.Init(s, waiter.AllEvents)
	s.wq.EventRegister(&s.entry)
	sockets.Lock()
	sockets.m[s] = struct{}{}
	sockets.Unlock()
}

// NotifyEvent implements waiter.EventListener. The stack's events are poll's.
func (s *Socket) NotifyEvent(mask waiter.EventMask) {
	ev := wait.Events(mask)
	if ev&wait.Out != 0 {
		ev |= wait.WrBand
	}
	s.q.Notify(ev)
}

// SetInode is socket.InodeSetter's.
func (s *Socket) SetInode(ino uint64) { s.ino.Store(ino) }

func (s *Socket) endpoint() tcpip.Endpoint { return *s.ep.Load() }

func (s *Socket) stream() bool { return s.kind == kindTCP }

// tcpState is the state of a TCP socket.
func (s *Socket) tcpState() tcp.EndpointState { return tcp.EndpointState(s.endpoint().State()) }

// WaitQueue is where readiness is notified.
func (s *Socket) WaitQueue() *wait.Queue { return &s.q }

// Readiness is what tcp_poll and datagram_poll answer.
func (s *Socket) Readiness(mask wait.Events) (ev wait.Events) {
	ep := s.endpoint()
	if s.stream() {
		ev = s.streamReadiness(ep)
	} else {
		ev = wait.Events(ep.Readiness(waiter.ReadableEvents|waiter.WritableEvents)) & (readable | writable)
		if ev&wait.Out != 0 {
			ev |= wait.WrBand
		}
		s.collect(ep)
		switch shut := s.shut.Load(); {
		case shut == shutRd|shutWr:
			ev |= wait.Hup | wait.RdHup | readable
		case shut&shutRd != 0:
			ev |= wait.RdHup | readable
		}
	}
	if s.HasError() || ep.SocketOptions().PeekErr() != nil {
		ev |= wait.Err
	}
	return ev & mask
}

func (s *Socket) streamReadiness(ep tcpip.Endpoint) (ev wait.Events) {
	switch st := tcp.EndpointState(ep.State()); st {
	case tcp.StateListen:
		if s.shut.Load()&shutRd != 0 { // it does not listen any more
			return writable | wait.Hup
		}
		return wait.Events(ep.Readiness(waiter.ReadableEvents)) & readable
	case tcp.StateInitial, tcp.StateBound:
		return writable | wait.Hup
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return 0
	case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
		s.collect(ep)
		return readable | writable | wait.RdHup | wait.Hup
	default:
		ev = wait.Events(ep.Readiness(waiter.ReadableEvents|waiter.WritableEvents)) & (readable | writable)
		if ev&wait.In != 0 && s.Lowat() > 1 && !s.ended(st) && s.queued(ep) < s.Lowat() {
			ev &^= readable
		}
		ended := s.ended(st)
		if ended {
			ev |= wait.RdHup | readable
		}
		if ended && (s.shut.Load()&shutWr != 0 || st == tcp.StateLastAck || st == tcp.StateClosing) {
			ev |= wait.Hup | writable
		}
	}
	return ev
}

// ended reports whether nothing more will be received.
func (s *Socket) ended(st tcp.EndpointState) bool {
	switch st {
	case tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing, tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return s.shut.Load()&shutRd != 0
}

// queued is how many bytes can be received.
func (s *Socket) queued(ep tcpip.Endpoint) int {
	n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if err != nil {
		return 0
	}
	return n
}

// collect takes an error that the stack has for the socket, so that it can be looked at (POLLERR) and taken once.
func (s *Socket) collect(ep tcpip.Endpoint) {
	if s.stream() && tcp.EndpointState(ep.State()) != tcp.StateError {
		return // a soft error: the connection goes on
	}
	err := ep.LastError()
	if err == nil {
		return
	}
	if s.stream() {
		ep.LastError() // the same error, kept for SO_ERROR
	}
	if e, ok := errno(err).(unix.Errno); ok {
		s.SetError(e)
	}
}

// pending takes the error that a call is to return first, if there is one.
func (s *Socket) pending() error {
	s.collect(s.endpoint())
	return s.TakeError()
}

// Bind is bind(2).
func (s *Socket) Bind(c vfs.Caller, sa []byte) error {
	a, err := s.bindAddr(sa)
	if err != nil {
		return err
	}
	if a.port > 0 && a.port < 1024 && s.kind != kindRaw && !c.Cred().Capable(unix.CAP_NET_BIND_SERVICE) {
		return unix.EACCES
	}
	f := a.full(s.v6)
	if s.kind == kindRaw {
		f.Port = 0
	}
	switch e := s.endpoint().Bind(f); e.(type) {
	case nil:
	case *tcpip.ErrNoPortAvailable:
		return unix.EADDRINUSE
	default:
		return errno(e)
	}
	s.mu.Lock()
	s.bound = &f
	s.mu.Unlock()
	return nil
}

func (s *Socket) bindAddr(sa []byte) (endpointAddr, error) {
	least := sizeIn4
	if s.v6 {
		least = sizeIn6Old
	}
	if len(sa) < least {
		return endpointAddr{}, unix.EINVAL
	}
	if family := int(binary.NativeEndian.Uint16(sa)); family == unix.AF_INET6 && !s.v6 {
		return endpointAddr{}, unix.EAFNOSUPPORT
	}
	a, err := decodeAddr(sa)
	if err != nil {
		return a, err
	}
	switch {
	case int(a.family) == s.Family:
	case a.family == unix.AF_UNSPEC && !s.v6 && a.ip.IsUnspecified():
		a.family = unix.AF_INET
	default:
		return a, unix.EAFNOSUPPORT
	}
	if a.ip.Is4In6() && s.endpoint().SocketOptions().GetV6Only() {
		return a, unix.EINVAL
	}
	if a.ip.Is6() && a.ip.IsLinkLocalUnicast() && a.scope == 0 {
		if a.scope = uint32(s.device.Load()); a.scope == 0 {
			return a, unix.EINVAL
		}
	}
	return a, nil
}

// destination decodes the address of a connect or send. "any" is this host.
func (s *Socket) destination(sa []byte) (f tcpip.FullAddress, err error) {
	if len(sa) >= sizeIn4 && !s.v6 && binary.NativeEndian.Uint16(sa) == unix.AF_INET6 {
		return f, unix.EAFNOSUPPORT
	}
	a, err := decodeAddr(sa)
	if err != nil {
		return f, err
	}
	switch {
	case a.family == unix.AF_UNSPEC && !s.v6:
		a.family = unix.AF_INET
	case s.v6 && a.family == unix.AF_INET && !s.stream():
	case int(a.family) != s.Family:
		return f, unix.EAFNOSUPPORT
	}
	if s.v6 && (a.family == unix.AF_INET || a.ip.Is4In6()) && s.endpoint().SocketOptions().GetV6Only() {
		return f, unix.ENETUNREACH
	}
	f = a.full(s.v6)
	if a.ip.IsUnspecified() && s.kind != kindRaw {
		f.Addr = loopbackOf(s.v6 && a.family == unix.AF_INET6)
	}
	if scoped(a.ip) && f.NIC == 0 {
		if f.NIC = tcpip.NICID(s.device.Load()); f.NIC == 0 {
			return f, unix.EINVAL
		}
	}
	return f, nil
}

// Connect is connect(2).
func (s *Socket) Connect(c vfs.Caller, sa []byte, nonblock bool) error {
	if len(sa) < 2 {
		return unix.EINVAL
	}
	if binary.NativeEndian.Uint16(sa) == unix.AF_UNSPEC {
		return s.disconnect()
	}
	f, err := s.destination(sa)
	if err != nil {
		return err
	}
	if !s.stream() {
		zero := f.Port == 0 && s.kind == kindUDP
		if zero {
			f.Port = 1
		}
		if e := s.endpoint().Connect(f); e != nil {
			return errno(e)
		}
		s.zeroPort.Store(zero)
		return nil
	}
	return s.connectStream(c, f, nonblock)
}

func (s *Socket) connectStream(c vfs.Caller, f tcpip.FullAddress, nonblock bool) error {
	if s.tcpState() == tcp.StateListen {
		return unix.EISCONN
	}
	if s.tcpState() == tcp.StateError {
		if err := s.pending(); err != nil {
			return err
		}
		if err := s.renew(); err != nil {
			return err
		}
	}
	if ip := fromStack(f.Addr).Unmap(); ip.IsMulticast() || ip == broadcast {
		return unix.ENETUNREACH
	}
	again := false
	switch e := s.endpoint().Connect(f); e.(type) {
	case *tcpip.ErrConnectStarted:
	case *tcpip.ErrAlreadyConnecting:
		again = true
	case *tcpip.ErrNoPortAvailable:
		return unix.EADDRNOTAVAIL
	case *tcpip.ErrInvalidEndpointState:
		return unix.EISCONN
	default:
		return errno(e)
	}
	if nonblock {
		if again {
			return unix.EALREADY
		}
		return unix.EINPROGRESS
	}
	t := s.SendTimeout()
	err := s.q.Wait(c, wait.Writable|wait.Readable, t.Deadline, func() bool {
		switch s.tcpState() {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			return false
		}
		return true
	})
	if err != nil {
		if err == unix.ETIMEDOUT && again {
			return unix.EALREADY
		}
		if err == unix.ETIMEDOUT {
			return unix.EINPROGRESS
		}
		return t.Err(err)
	}
	if s.tcpState() == tcp.StateError {
		err := s.pending()
		if e := s.renew(); e != nil {
			return e
		}
		if err == nil {
			err = unix.ECONNABORTED
		}
		return err
	}
	s.endpoint().Connect(f) // tells the endpoint that the result is known
	return nil
}

var broadcast = fromStack(header.IPv4Broadcast)

// renew gives a socket whose connection failed a fresh endpoint.
func (s *Socket) renew() error {
	ep, err := s.newEndpoint()
	if err != nil {
		return err
	}
	old := s.endpoint()
	s.copyOptions(ep, old)
	old.Close()
	s.mu.Lock()
	bound := s.bound
	s.mu.Unlock()
	if bound != nil {
		if e := ep.Bind(*bound); e != nil {
			ep.Close()
			return errno(e)
		}
	}
	s.ep.Store(&ep)
	return nil
}

// disconnect dissolves the association of a socket (connect to AF_UNSPEC).
func (s *Socket) disconnect() error {
	if s.stream() {
		if st := s.tcpState(); st == tcp.StateInitial || st == tcp.StateBound {
			return nil
		}
		s.endpoint().Abort()
		s.shut.Store(0)
		return s.renew()
	}
	s.zeroPort.Store(false)
	return errno(s.endpoint().Disconnect())
}

// Listen is listen(2).
func (s *Socket) Listen(_ vfs.Caller, backlog int) error {
	const somaxconn = 4096
	if !s.stream() {
		return unix.EOPNOTSUPP
	}
	if backlog < 0 || backlog > somaxconn {
		backlog = somaxconn
	}
	ep := s.endpoint()
	if st := s.tcpState(); st == tcp.StateInitial {
		if e := ep.Bind(tcpip.FullAddress{}); e != nil {
			return unix.EADDRINUSE
		}
	}
	s.shut.And(^uint32(shutRd)) // a listener that was shut down listens again
	s.backlog.Store(int32(backlog))
	switch e := ep.Listen(backlog + 1); e.(type) { // a queue of n has room for n+1
	case *tcpip.ErrPortInUse:
		return unix.EADDRINUSE
	default:
		return errno(e)
	}
}

// Accept is accept(2).
func (s *Socket) Accept(c vfs.Caller, nonblock bool) (socket.Socket, error) {
	if !s.stream() {
		return nil, unix.EOPNOTSUPP
	}
	var ep tcpip.Endpoint
	var wq *waiter.Queue
	var e tcpip.Error
	take := func() bool {
		ep, wq, e = s.endpoint().Accept(nil)
		_, empty := e.(*tcpip.ErrWouldBlock)
		return !empty
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
	if e != nil {
		return nil, errno(e)
	}
	n := &Socket{v6: s.v6, kind: kindTCP, uid: s.uid, wq: wq}
	n.Init(s.Family, s.Type, s.Protocol)
	n.CopyOptions(&s.Base)
	n.device.Store(s.device.Load())
	n.start(ep)
	return n, nil
}

// Shutdown is shutdown(2).
func (s *Socket) Shutdown(_ vfs.Caller, how int) error {
	if how < unix.SHUT_RD || how > unix.SHUT_RDWR {
		return unix.EINVAL
	}
	mode := uint32(how + 1)
	ep := s.endpoint()
	if !s.stream() { // it receives datagrams all the same, and the state is set even if the call fails
		s.shut.Or(mode)
		s.q.Notify(wait.All)
		if _, e := ep.GetRemoteAddress(); e != nil {
			return unix.ENOTCONN
		}
		return nil
	}
	var flags tcpip.ShutdownFlags
	if mode&shutRd != 0 {
		flags |= tcpip.ShutdownRead
	}
	if mode&shutWr != 0 {
		flags |= tcpip.ShutdownWrite
	}
	if st := s.tcpState(); st == tcp.StateError || st == tcp.StateClose || st == tcp.StateTimeWait {
		return unix.ENOTCONN
	}
	e := ep.Shutdown(flags)
	if e == nil {
		s.shut.Or(mode)
	}
	s.q.Notify(wait.All)
	return errno(e)
}

// Close ends the socket. What a connection still has to send is sent by the stack; SO_LINGER with a time does not make
// close wait.
func (s *Socket) Close() {
	sockets.Lock()
	delete(sockets.m, s)
	sockets.Unlock()
	s.wq.EventUnregister(&s.entry)
	s.endpoint().Close()
	s.q.Notify(wait.All)
}

// Name is getsockname(2).
func (s *Socket) Name(vfs.Caller) ([]byte, error) {
	a, e := s.endpoint().GetLocalAddress()
	if e != nil {
		return nil, errno(e)
	}
	if s.kind == kindRaw {
		a.Port = uint16(s.Protocol)
	}
	return encodeAddr(s.v6, a), nil
}

// PeerName is getpeername(2).
func (s *Socket) PeerName(vfs.Caller) ([]byte, error) {
	a, e := s.endpoint().GetRemoteAddress()
	if e != nil {
		return nil, unix.ENOTCONN
	}
	if s.stream() && !connected(s.tcpState()) {
		return nil, unix.ENOTCONN
	}
	if s.zeroPort.Load() || s.kind == kindPing || s.kind == kindRaw {
		a.Port = 0
	}
	return encodeAddr(s.v6, a), nil
}

// connected reports whether a TCP socket has a connection, or what is left of one.
func connected(st tcp.EndpointState) bool {
	switch st {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing, tcp.StateSynRecv:
		return true
	}
	return false
}

// Ioctl has SIOCINQ and SIOCOUTQ; those of devices are for all families.
func (s *Socket) Ioctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error) {
	var opt tcpip.SockOptInt
	switch cmd {
	case unix.SIOCINQ:
		opt = tcpip.ReceiveQueueSizeOption
	case unix.SIOCOUTQ:
		opt = tcpip.SendQueueSizeOption
	case siocAtMark:
		if !s.stream() {
			return 0, unix.ENOTTY
		}
		return 0, uio.WriteFull(c.Mem(), socket.PutInt32(0), arg) // there are no marks without urgent data
	default:
		return 0, unix.ENOTTY
	}
	if s.stream() && s.tcpState() == tcp.StateListen {
		return 0, unix.EINVAL
	}
	n, err := s.endpoint().GetSockOptInt(opt)
	if err != nil {
		n = 0
	}
	return 0, uio.WriteFull(c.Mem(), socket.PutInt32(int32(n)), arg)
}

const siocAtMark = 0x8905 // SIOCATMARK, asm-generic/sockios.h

var _ socket.Socket = (*Socket)(nil)
