package inet

import (
	"encoding/binary"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// streamSink takes what the stack has received; discard throws it away (MSG_TRUNC).
type streamSink struct {
	dst     *uio.Dst
	discard bool
}

func (w *streamSink) Write(p []byte) (n int, err error) {
	if w.discard {
		n = min(len(p), w.dst.Len())
		w.dst.Skip(n)
	} else {
		n, err = w.dst.CopyOut(p)
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// packetSink takes a packet; what has no room is dropped.
type packetSink struct {
	dst  *uio.Dst
	err  error
	keep *[]byte // if not nil, takes the packet in whole instead
}

func (w *packetSink) Write(p []byte) (int, error) {
	if w.keep != nil {
		*w.keep = append(*w.keep, p...)
		return len(p), nil
	}
	if w.err == nil {
		_, w.err = w.dst.CopyOut(p)
	}
	return len(p), nil
}

// Recv is recvmsg(2).
func (s *Socket) Recv(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	switch {
	case m.Flags&unix.MSG_ERRQUEUE != 0:
		return s.recvError(m, dst)
	case s.stream():
		return s.recvStream(c, m, dst)
	case m.Flags&unix.MSG_OOB != 0 && s.kind != kindUDP:
		return 0, unix.EOPNOTSUPP
	}
	return s.recvPacket(c, m, dst)
}

func (s *Socket) recvStream(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (done int, err error) {
	switch st := s.tcpState(); {
	case st == tcp.StateListen:
		return 0, unix.ENOTCONN
	case m.Flags&unix.MSG_OOB != 0:
		return 0, unix.EINVAL // no urgent data
	case st == tcp.StateInitial, st == tcp.StateBound:
		return 0, unix.ENOTCONN
	}
	target := max(min(s.Lowat(), dst.Len()), 1) // also without room, a receive waits for data
	if m.Flags&unix.MSG_WAITALL != 0 {
		target = dst.Len()
	}
	peek := m.Flags&unix.MSG_PEEK != 0
	sink := &streamSink{dst: dst, discard: m.Flags&unix.MSG_TRUNC != 0}
	t := s.RecvTimeout()
	nonblock := m.Flags&unix.MSG_DONTWAIT != 0
	for {
		ep := s.endpoint()
		var e tcpip.Error
		if peek && !nonblock && s.queued(ep) < target && !s.ended(s.tcpState()) {
			e = &tcpip.ErrWouldBlock{}
		} else {
			var res tcpip.ReadResult
			if dst.Len() == 0 && s.queued(ep) > 0 {
				return 0, nil
			}
			if res, e = ep.Read(sink, tcpip.ReadOptions{Peek: peek}); res.Count > 0 {
				done += res.Count
				if !peek {
					ep.ModerateRecvBuf(res.Count)
				}
			}
		}
		switch e.(type) {
		case nil:
			if peek || done >= target || dst.Len() == 0 {
				s.addInq(m, ep)
				return done, nil
			}
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrBadBuffer:
			err = unix.EFAULT
		case *tcpip.ErrClosedForReceive:
			if err = s.pending(); err == nil || done > 0 {
				return done, nil
			}
		default:
			s.pending() // the same once more, for SO_ERROR
			err = errno(e)
		}
		if err == nil && nonblock {
			err = unix.EAGAIN
		}
		if err == nil {
			err = t.Err(s.q.Wait(c, wait.Readable, t.Deadline, func() bool {
				n, st := s.queued(s.endpoint()), s.tcpState()
				return n > 0 && (!peek || n >= target) || s.ended(st) || s.HasError()
			}))
		}
		if err != nil {
			if done > 0 {
				s.addInq(m, ep)
				return done, nil
			}
			return 0, err
		}
	}
}

// addInq adds how much is left to be received, if TCP_INQ asks for it.
func (s *Socket) addInq(m *socket.Msg, ep tcpip.Endpoint) {
	if m.WantControl && s.kept(unix.IPPROTO_TCP, tcpInq) != 0 {
		m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.IPPROTO_TCP, Type: tcpInq, Data: socket.PutInt32(int32(s.queued(ep)))})
	}
}

const tcpInq = 36 // TCP_INQ, linux/tcp.h

func (s *Socket) recvPacket(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	peek := m.Flags&unix.MSG_PEEK != 0
	t := s.RecvTimeout()
	f := s.verdict()
	room := dst.Len()
	for {
		ep := s.endpoint()
		if err := s.pending(); err != nil {
			return 0, err
		}
		sink := &packetSink{dst: dst}
		var buf []byte
		if f != nil {
			sink.keep = &buf
		}
		res, e := ep.Read(sink, tcpip.ReadOptions{Peek: peek, NeedRemoteAddr: true})
		switch e.(type) {
		case nil:
			n := res.Total
			if f != nil {
				if !f.pass(buf) {
					if peek { // it is not to be seen, so it goes
						ep.Read(&packetSink{dst: uio.ToBytes(nil)}, tcpip.ReadOptions{})
					}
					continue
				}
				_, sink.err = dst.CopyOut(buf)
			}
			if sink.err != nil {
				return 0, unix.EFAULT
			}
			s.describe(m, &res)
			if n > room {
				m.OutFlags |= unix.MSG_TRUNC
				if m.Flags&unix.MSG_TRUNC == 0 {
					n = room
				}
			}
			return n, nil
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			return 0, nil
		default:
			return 0, errno(e)
		}
		if m.Flags&unix.MSG_DONTWAIT != 0 {
			return 0, unix.EAGAIN
		}
		if s.shut.Load()&shutRd != 0 {
			return 0, nil
		}
		err := s.q.Wait(c, wait.Readable, t.Deadline, func() bool { return s.Readiness(wait.Readable) != 0 })
		if err != nil {
			return 0, t.Err(err)
		}
	}
}

// describe fills in the source and the control messages of a packet.
func (s *Socket) describe(m *socket.Msg, res *tcpip.ReadResult) {
	if m.WantAddr {
		a := res.RemoteAddr
		if s.kind == kindPing || s.kind == kindRaw {
			a.Port = 0
		}
		m.Addr = encodeAddr(s.v6, a)
	}
	if !m.WantControl {
		return
	}
	add := func(level, typ int32, data []byte) {
		m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: level, Type: typ, Data: data})
	}
	cm := &res.ControlMessages
	if cm.HasTimestamp {
		s.addStamp(cm.Timestamp, add)
	}
	ne := binary.NativeEndian
	if cm.HasIPPacketInfo {
		b := ne.AppendUint32(nil, uint32(cm.PacketInfo.NIC))
		b = append(b, ipv4Of(cm.PacketInfo.LocalAddr)...)
		add(unix.IPPROTO_IP, unix.IP_PKTINFO, append(b, ipv4Of(cm.PacketInfo.DestinationAddr)...))
	}
	if cm.HasTTL {
		add(unix.IPPROTO_IP, unix.IP_TTL, socket.PutInt32(int32(cm.TTL)))
	}
	if cm.HasTOS {
		add(unix.IPPROTO_IP, unix.IP_TOS, []byte{cm.TOS})
	}
	if cm.HasIPv6PacketInfo {
		ip := fromStack(cm.IPv6PacketInfo.Addr)
		var ip16 [16]byte
		if ip.IsValid() {
			ip16 = ip.As16()
		}
		add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, ne.AppendUint32(ip16[:], uint32(cm.IPv6PacketInfo.NIC)))
	}
	if cm.HasHopLimit {
		add(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, socket.PutInt32(int32(cm.HopLimit)))
	}
	if cm.HasTClass {
		add(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, socket.PutInt32(int32(cm.TClass)))
	}
	if cm.HasOriginalDstAddress {
		level, typ := int32(unix.IPPROTO_IP), int32(unix.IP_RECVORIGDSTADDR)
		if s.v6 {
			level, typ = unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR
		}
		add(level, typ, encodeAddr(s.v6, cm.OriginalDstAddress))
	}
}

// addStamp adds the time of a packet in the forms that were asked for.
func (s *Socket) addStamp(at time.Time, add func(level, typ int32, data []byte)) {
	for _, o := range []struct {
		name int
		unit int64
	}{{unix.SO_TIMESTAMPNS, 1e9}, {unix.SO_TIMESTAMPNS_NEW, 1e9}, {unix.SO_TIMESTAMP, 1e6}, {unix.SO_TIMESTAMP_NEW, 1e6}} {
		if !s.Flag(o.name) {
			continue
		}
		b := binary.NativeEndian.AppendUint64(nil, uint64(at.Unix()))
		add(unix.SOL_SOCKET, int32(o.name), binary.NativeEndian.AppendUint64(b, uint64(int64(at.Nanosecond())/(1e9/o.unit))))
	}
}

// ipv4Of are the bytes of an IPv4 address, zeros for none.
func ipv4Of(a tcpip.Address) []byte {
	if ip := fromStack(a).Unmap(); ip.Is4() {
		return ip.AsSlice()
	}
	return make([]byte, 4)
}

// recvError is recvmsg with MSG_ERRQUEUE: the packet that an error came for, and the error as a control message.
func (s *Socket) recvError(m *socket.Msg, dst *uio.Dst) (int, error) {
	so := s.endpoint().SocketOptions()
	q := so.DequeueErr()
	if q == nil {
		return 0, unix.EAGAIN
	}
	var data []byte
	if q.Payload != nil {
		data = q.Payload.ToSlice()
		q.Payload.Release()
	}
	if next := so.PeekErr(); next == nil {
		s.TakeError()
	}
	m.OutFlags |= unix.MSG_ERRQUEUE
	if len(data) > dst.Len() {
		m.OutFlags |= unix.MSG_TRUNC
	}
	n, err := dst.CopyOut(data)
	if err != nil {
		return 0, err
	}
	v6 := q.NetProto == header.IPv6ProtocolNumber
	if m.WantAddr {
		m.Addr = encodeAddr(s.v6, q.Dst)
	}
	if !m.WantControl {
		return n, nil
	}
	code, _ := errno(q.Err).(unix.Errno)
	b := binary.NativeEndian.AppendUint32(nil, uint32(code)) // struct sock_extended_err
	b = append(b, byte(q.Cause.Origin()), q.Cause.Type(), q.Cause.Code(), 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(min(q.Cause.Info(), math.MaxUint32)))
	b = binary.NativeEndian.AppendUint32(b, 0)
	cm := socket.Cmsg{Level: unix.IPPROTO_IP, Type: unix.IP_RECVERR}
	if v6 {
		cm.Level, cm.Type = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	if q.Cause.Origin().IsICMPErr() {
		off := q.Offender
		off.Port = 0
		b = append(b, encodeAddr(v6, off)...)
	} else {
		b = append(b, make([]byte, sizeIn4)...)
	}
	cm.Data = b
	m.Cmsgs = append(m.Cmsgs, cm)
	return n, nil
}
