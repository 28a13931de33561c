package inet

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// taps are the packet sockets that want to see frames. The list is never changed in place.
var taps struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*packetSocket]
}

func setTapped(s *packetSocket, on bool) {
	taps.mu.Lock()
	defer taps.mu.Unlock()
	var l []*packetSocket
	if p := taps.list.Load(); p != nil {
		l = slices.DeleteFunc(slices.Clone(*p), func(x *packetSocket) bool { return x == s })
	}
	if on {
		l = append(l, s)
	}
	taps.list.Store(&l)
}

// tapped reports whether anybody wants to see frames.
func tapped() bool {
	p := taps.list.Load()
	return p != nil && len(*p) > 0
}

// tapFrame shows a frame to the packet sockets; kind is PACKET_HOST and so on.
func tapFrame(e *endpoint, frame []byte, kind int) {
	p := taps.list.Load()
	if p == nil {
		return
	}
	for _, s := range *p {
		s.deliver(e, frame, kind)
	}
}

const (
	packetAll = 3   // ETH_P_ALL, linux/if_ether.h
	sizeLL    = 20  // struct sockaddr_ll
	overhead  = 768 // what a queued frame costs beside its bytes, as a struct sk_buff does
)

// packetSocket is a socket of AF_PACKET (packet(7)).
type packetSocket struct {
	socket.Base
	q      wait.Queue
	cooked bool // SOCK_DGRAM: without Ethernet headers

	mu       sync.Mutex
	index    int    // of the device that it is bound to, 0 for all
	protocol uint16 // in host order, 0 for none
	filter   *Filter
	auxdata  bool
	noOut    bool // PACKET_IGNORE_OUTGOING
	queue    []capture
	bytes    int
	seen     uint32 // for PACKET_STATISTICS
	dropped  uint32
	promisc  []int // devices that it made promiscuous
	closed   bool
}

// capture is a frame in a queue.
type capture struct {
	data  []byte
	total int // before the filter cut it
	addr  [sizeLL]byte
}

func init() {
	socket.RegisterFamily(unix.AF_PACKET, &socket.Family{Name: "PACKET", New: func(c vfs.Caller, typ, protocol int) (socket.Socket, error) {
		if !c.Cred().Capable(unix.CAP_NET_RAW) {
			return nil, unix.EPERM
		}
		if typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM {
			return nil, unix.ESOCKTNOSUPPORT
		}
		s := &packetSocket{cooked: typ == unix.SOCK_DGRAM, protocol: uint16(protocol)<<8 | uint16(protocol)>>8&0xff}
		s.Init(unix.AF_PACKET, typ, protocol)
		if s.protocol != 0 {
			setTapped(s, true)
		}
		return s, nil
	}})
}

// deliver queues a frame if the socket wants it.
func (s *packetSocket) deliver(e *endpoint, frame []byte, kind int) {
	eth := header.Ethernet(frame)
	s.mu.Lock()
	if s.closed || s.index != 0 && s.index != e.index || s.protocol != packetAll && (kind == unix.PACKET_OUTGOING || s.protocol != uint16(eth.Type())) ||
		s.noOut && kind == unix.PACKET_OUTGOING {
		s.mu.Unlock()
		return
	}
	data := frame
	if s.cooked {
		data = frame[ethHeader:]
	}
	total := len(data)
	if s.filter != nil {
		n := s.filter.Run(data)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		data = data[:min(n, len(data))]
	}
	_, limit := s.Buffers()
	s.seen++
	if s.bytes+len(data)+overhead > limit || kmem.Full() {
		s.dropped++
		s.mu.Unlock()
		return
	}
	c := capture{data: slices.Clone(data), total: total}
	ne := binary.NativeEndian
	ne.PutUint16(c.addr[:], unix.AF_PACKET)
	binary.BigEndian.PutUint16(c.addr[2:], uint16(eth.Type()))
	ne.PutUint32(c.addr[4:], uint32(e.index))
	hatype := uint16(unix.ARPHRD_ETHER)
	if e.link == nil {
		hatype = unix.ARPHRD_LOOPBACK
	}
	ne.PutUint16(c.addr[8:], hatype)
	c.addr[10], c.addr[11] = byte(kind), 6
	copy(c.addr[12:], eth.SourceAddress())
	s.queue = append(s.queue, c)
	s.bytes += len(data) + overhead
	kmem.Add(len(data) + overhead)
	s.mu.Unlock()
	s.q.Notify(readable)
}

func (s *packetSocket) take(peek bool) (c capture, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return c, false
	}
	c = s.queue[0]
	if !peek {
		s.queue[0] = capture{}
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil
		}
		s.bytes -= len(c.data) + overhead
		kmem.Add(-len(c.data) - overhead)
	}
	return c, true
}

func (s *packetSocket) WaitQueue() *wait.Queue { return &s.q }

func (s *packetSocket) Readiness(mask wait.Events) wait.Events {
	ev := writable | wait.WrBand
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

// Bind is bind(2) with a struct sockaddr_ll.
func (s *packetSocket) Bind(_ vfs.Caller, sa []byte) error {
	if len(sa) < sizeLL {
		return unix.EINVAL
	}
	if binary.NativeEndian.Uint16(sa) != unix.AF_PACKET {
		return unix.EINVAL
	}
	index := int(int32(binary.NativeEndian.Uint32(sa[4:])))
	if index != 0 {
		d, ok := ByIndex(index)
		if !ok {
			return unix.ENODEV
		}
		if !d.Up() {
			s.SetError(unix.ENETDOWN)
		}
	}
	s.mu.Lock()
	s.index = index
	if p := binary.BigEndian.Uint16(sa[2:]); p != 0 {
		s.protocol = p
	}
	on := s.protocol != 0
	s.mu.Unlock()
	setTapped(s, on)
	return nil
}

// Recv is recvmsg(2).
func (s *packetSocket) Recv(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EINVAL
	}
	var got capture
	if err := s.Await(c, &s.q, m.Flags, func(peek bool) (ok bool) { got, ok = s.take(peek); return ok }); err != nil {
		return 0, err
	}
	n, err := dst.CopyOut(got.data)
	if err != nil {
		return 0, err
	}
	if n < len(got.data) {
		m.OutFlags |= unix.MSG_TRUNC
	}
	if m.Flags&unix.MSG_TRUNC != 0 {
		n = len(got.data)
	}
	if m.WantAddr {
		m.Addr = slices.Clone(got.addr[:])
	}
	s.mu.Lock()
	aux := s.auxdata
	s.mu.Unlock()
	if aux && m.WantControl {
		b := make([]byte, 20) // struct tpacket_auxdata
		ne := binary.NativeEndian
		ne.PutUint32(b, 1) // TP_STATUS_USER
		if binary.NativeEndian.Uint32(got.addr[4:]) == loopbackIndex {
			ne.PutUint32(b, 1|8) // TP_STATUS_CSUMNOTREADY
		}
		ne.PutUint32(b[4:], uint32(got.total))
		ne.PutUint32(b[8:], uint32(len(got.data)))
		if !s.cooked {
			ne.PutUint16(b[14:], ethHeader)
		}
		m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.SOL_PACKET, Type: unix.PACKET_AUXDATA, Data: b})
	}
	return n, nil
}

// Send is sendmsg(2): a frame, or with SOCK_DGRAM what it carries.
func (s *packetSocket) Send(_ vfs.Caller, m *socket.Msg, src *uio.Src) (int, error) {
	s.mu.Lock()
	index, protocol := s.index, s.protocol
	s.mu.Unlock()
	var mac [6]byte
	if m.Addr != nil {
		if len(m.Addr) < sizeLL-2 { // a hardware address of Ethernet needs no more
			return 0, unix.EINVAL
		}
		index = int(int32(binary.NativeEndian.Uint32(m.Addr[4:])))
		protocol = binary.BigEndian.Uint16(m.Addr[2:])
		copy(mac[:], m.Addr[12:])
	} else if s.cooked {
		return 0, unix.EDESTADDRREQ
	}
	config.mu.Lock()
	d := byIndexLocked(index)
	var i Info
	if d != nil {
		i = d.info()
	}
	config.mu.Unlock()
	switch {
	case d == nil:
		return 0, unix.ENXIO
	case !i.Up():
		return 0, unix.ENETDOWN
	}
	n := src.Len()
	room := i.MTU + ethHeader + vlanTag
	if s.cooked {
		room = i.MTU
	}
	if n > room {
		return 0, unix.EMSGSIZE
	}
	frame := make([]byte, 0, ethHeader+n)
	if s.cooked {
		frame = append(append(frame, mac[:]...), i.MAC[:]...)
		frame = binary.BigEndian.AppendUint16(frame, protocol)
	}
	body := frame[len(frame) : len(frame)+n]
	if _, err := src.CopyIn(body); err != nil {
		return 0, err
	}
	if frame = frame[:len(frame)+n]; len(frame) < ethHeader {
		return 0, unix.EINVAL
	}
	if d.ep.link != nil {
		if !d.ep.send(frame) {
			return 0, unix.ENOBUFS
		}
		return n, nil
	}
	d.ep.inject(frame)
	return n, nil
}

// inject loops a frame that a packet socket sends on the loopback device.
func (e *endpoint) inject(frame []byte) {
	d, ok := e.deliver()
	if !ok {
		return
	}
	e.sent(len(frame))
	e.received(len(frame))
	tapFrame(e, frame, unix.PACKET_OUTGOING)
	tapFrame(e, frame, unix.PACKET_HOST)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame[ethHeader:])})
	d.DeliverNetworkPacket(tcpip.NetworkProtocolNumber(header.Ethernet(frame).Type()), pkt)
	pkt.DecRef()
}

// SetOption is setsockopt(2).
func (s *packetSocket) SetOption(c vfs.Caller, level, name int, val []byte) error {
	if level == unix.SOL_SOCKET {
		switch name {
		case unix.SO_ATTACH_FILTER:
			f, err := NewFilter(c, val)
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
		case unix.SO_BINDTODEVICE:
			d, ok := ByName(unix.ByteSliceToString(val))
			if !ok {
				return unix.ENODEV
			}
			s.mu.Lock()
			s.index = d.Index
			s.mu.Unlock()
			return nil
		}
		return s.SetSocketOption(c, name, val)
	}
	if level != unix.SOL_PACKET {
		return unix.ENOPROTOOPT
	}
	switch name {
	case unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_DROP_MEMBERSHIP:
		return s.membership(val, name == unix.PACKET_ADD_MEMBERSHIP)
	case unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING:
		v, err := socket.Int32(val)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if name == unix.PACKET_AUXDATA {
			s.auxdata = v != 0
		} else {
			s.noOut = v != 0
		}
		return nil
	}
	return unix.ENOPROTOOPT // among them the rings
}

// membership is struct packet_mreq: groups need nothing, as the stack's filter of groups is above the device.
func (s *packetSocket) membership(val []byte, add bool) error {
	if len(val) < 16 {
		return unix.EINVAL
	}
	index := int(int32(binary.NativeEndian.Uint32(val)))
	if _, ok := ByIndex(index); !ok {
		return unix.ENODEV
	}
	if binary.NativeEndian.Uint16(val[4:]) != unix.PACKET_MR_PROMISC {
		return nil
	}
	s.mu.Lock()
	at := slices.Index(s.promisc, index)
	switch {
	case add && at < 0:
		s.promisc = append(s.promisc, index)
	case !add && at >= 0:
		s.promisc = slices.Delete(s.promisc, at, at+1)
	default:
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	addPromisc(index, add)
	return nil
}

// addPromisc counts those who want a device to be promiscuous.
func addPromisc(index int, add bool) {
	config.mu.Lock()
	defer config.mu.Unlock()
	d := byIndexLocked(index)
	if d == nil {
		return
	}
	if add {
		d.promisc++
	} else {
		d.promisc--
	}
	d.ep.promisc.Store(d.promisc > 0 || d.Flags&unix.IFF_PROMISC != 0)
}

// Option is getsockopt(2).
func (s *packetSocket) Option(_ vfs.Caller, level, name, _ int) ([]byte, error) {
	if level == unix.SOL_SOCKET {
		return s.SocketOption(name)
	}
	if level != unix.SOL_PACKET {
		return nil, unix.ENOPROTOOPT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name {
	case unix.PACKET_STATISTICS:
		b := binary.NativeEndian.AppendUint32(nil, s.seen)
		b = binary.NativeEndian.AppendUint32(b, s.dropped)
		s.seen, s.dropped = 0, 0
		return b, nil
	case unix.PACKET_AUXDATA:
		return putBool(s.auxdata), nil
	case unix.PACKET_IGNORE_OUTGOING:
		return putBool(s.noOut), nil
	}
	return nil, unix.ENOPROTOOPT
}

// Name is getsockname(2).
func (s *packetSocket) Name(vfs.Caller) ([]byte, error) {
	s.mu.Lock()
	index, protocol := s.index, s.protocol
	s.mu.Unlock()
	b := make([]byte, sizeLL)
	binary.NativeEndian.PutUint16(b, unix.AF_PACKET)
	binary.BigEndian.PutUint16(b[2:], protocol)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	d, ok := ByIndex(index)
	if !ok {
		return b[:sizeLL-8], nil
	}
	binary.NativeEndian.PutUint16(b[8:], d.Type)
	b[11] = 6
	copy(b[12:], d.MAC[:])
	return b[:sizeLL-2], nil
}

// Ioctl has SIOCINQ; those of devices are for all families.
func (s *packetSocket) Ioctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error) {
	var n int
	switch cmd {
	case unix.SIOCINQ:
		s.mu.Lock()
		if len(s.queue) > 0 {
			n = len(s.queue[0].data)
		}
		s.mu.Unlock()
	case unix.SIOCOUTQ:
	default:
		return 0, unix.ENOTTY
	}
	return 0, uio.WriteFull(c.Mem(), socket.PutInt32(int32(n)), arg)
}

// Close ends the socket.
func (s *packetSocket) Close() {
	setTapped(s, false)
	s.mu.Lock()
	promisc := s.promisc
	kmem.Add(-s.bytes)
	s.promisc, s.queue, s.bytes, s.closed = nil, nil, 0, true
	s.mu.Unlock()
	for _, index := range promisc {
		addPromisc(index, false)
	}
	s.q.Notify(wait.All)
}

// Connect and the like are not for packets.
func (*packetSocket) Connect(vfs.Caller, []byte, bool) error { return unix.EOPNOTSUPP }
func (*packetSocket) Listen(vfs.Caller, int) error           { return unix.EOPNOTSUPP }
func (*packetSocket) Accept(vfs.Caller, bool) (socket.Socket, error) {
	return nil, unix.EOPNOTSUPP
}
func (*packetSocket) Shutdown(vfs.Caller, int) error      { return unix.EOPNOTSUPP }
func (*packetSocket) PeerName(vfs.Caller) ([]byte, error) { return nil, unix.EOPNOTSUPP }

var _ socket.Socket = (*packetSocket)(nil)
