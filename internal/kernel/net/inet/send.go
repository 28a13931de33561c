package inet

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// source is guest memory as the stack reads it.
type source struct{ *uio.Src }

func (s source) Read(p []byte) (int, error) {
	n, err := s.CopyIn(p)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Send is sendmsg(2).
func (s *Socket) Send(c vfs.Caller, m *socket.Msg, src *uio.Src) (int, error) {
	if m.Flags&(unix.MSG_OOB|unix.MSG_FASTOPEN) != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if s.stream() {
		return s.sendStream(c, m, src)
	}
	return s.sendPacket(c, m, src)
}

func (s *Socket) sendStream(c vfs.Caller, m *socket.Msg, src *uio.Src) (done int, err error) {
	if _, err := s.parseControl(m); err != nil {
		return 0, err
	}
	// The stack holds the connection's lock while it reads: what it takes is sent in order.
	opts := tcpip.WriteOptions{Atomic: true, More: m.Flags&unix.MSG_MORE != 0, EndOfRecord: m.Flags&unix.MSG_EOR != 0}
	t := s.SendTimeout()
	if st := s.tcpState(); src.Len() == 0 && (!connected(st) || s.shut.Load()&shutWr != 0) {
		if err = s.pending(); err == nil {
			err = unix.EPIPE
		}
	}
	for src.Len() > 0 {
		ep := s.endpoint()
		if err = s.TakeError(); err != nil {
			break
		}
		if kmem.Full() {
			err = unix.ENOBUFS
			break
		}
		n, e := ep.Write(source{src}, opts)
		done += int(n)
		sent(int(n))
		switch e.(type) {
		case nil:
			if n > 0 {
				continue
			}
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrBadBuffer:
			err = unix.EFAULT
		default:
			if err = s.pending(); err == nil {
				err = errno(e)
			}
			if err == unix.EPIPE || err == unix.ENOTCONN || err == unix.EINVAL {
				err = unix.EPIPE // also if there was never a connection
			}
		}
		if err != nil {
			break
		}
		if m.Flags&unix.MSG_DONTWAIT != 0 {
			err = unix.EAGAIN
			break
		}
		err = t.Err(s.q.Wait(c, wait.Writable, t.Deadline, func() bool {
			return s.Readiness(wait.Writable) != 0 || s.tcpState() == tcp.StateError
		}))
		if err != nil {
			break
		}
	}
	if done > 0 {
		return done, nil
	}
	if err == unix.EPIPE && m.Flags&unix.MSG_NOSIGNAL == 0 {
		c.Signal(unix.SIGPIPE)
	}
	return 0, err
}

func (s *Socket) sendPacket(c vfs.Caller, m *socket.Msg, src *uio.Src) (int, error) {
	opts, err := s.parseControl(m)
	if err != nil {
		return 0, err
	}
	ep := s.endpoint()
	if m.Addr != nil {
		f, err := s.destination(m.Addr)
		if err != nil {
			return 0, err
		}
		if f.NIC == 0 {
			f.NIC = opts.NIC
		}
		if s.kind == kindUDP && f.Port == 0 {
			return 0, unix.EINVAL
		}
		opts.To = &f
	} else if s.zeroPort.Load() {
		return 0, unix.EINVAL
	}
	if err := s.pending(); err != nil {
		return 0, err
	}
	if s.shut.Load()&shutWr != 0 {
		if _, e := ep.GetRemoteAddress(); e != nil && opts.To == nil {
			return 0, unix.EDESTADDRREQ
		}
		return 0, s.broken(c, m)
	}
	if kmem.Full() {
		return 0, unix.ENOBUFS
	}
	n := src.Len()
	payload := tcpip.Payloader(source{src})
	if s.kind == kindUDP {
		d, err := s.gather(m.Flags&unix.MSG_MORE != 0, opts, src)
		if err != nil {
			return 0, err
		}
		if d != nil {
			if !d.whole {
				return n, nil
			}
			payload, opts = bytes.NewReader(d.data), d.opts
		}
	}
	t := s.SendTimeout()
	for {
		_, e := ep.Write(payload, opts.WriteOptions)
		switch e.(type) {
		case nil:
			return n, nil
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForSend:
			return 0, s.broken(c, m)
		case *tcpip.ErrNotConnected:
			return 0, unix.EDESTADDRREQ
		default:
			return 0, errno(e)
		}
		if m.Flags&unix.MSG_DONTWAIT != 0 {
			return 0, unix.EAGAIN
		}
		if err := s.q.Wait(c, wait.Writable, t.Deadline, func() bool { return s.Readiness(writable) != 0 }); err != nil {
			return 0, t.Err(err)
		}
	}
}

// datagram is one that several sends put together (MSG_MORE, UDP_CORK). It goes where the first of them says.
type datagram struct {
	data  []byte
	opts  sendOptions
	whole bool
}

// gather adds what src has to the datagram that is being put together. It returns nil if there is none: then the send is one
// by itself. EMSGSIZE, which ends it too.
func (s *Socket) gather(more bool, opts sendOptions, src *uio.Src) (*datagram, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more = more || s.cork
	d := s.begun
	if d == nil && !more {
		return nil, nil
	}
	if d == nil {
		d = &datagram{opts: opts}
	}
	s.begun = nil
	at, n := len(d.data), src.Len()
	if n > maxUDP-at {
		return nil, unix.EMSGSIZE
	}
	d.data = append(d.data, make([]byte, n)...)
	if _, err := src.CopyIn(d.data[at:]); err != nil {
		return nil, err
	}
	if more {
		s.begun = d
	} else {
		d.whole = true
	}
	return d, nil
}

// maxUDP is the most that a UDP datagram of IPv4 can carry.
const maxUDP = 65507

// uncork sends what is put together (UDP_CORK is taken off).
func (s *Socket) uncork() error {
	s.mu.Lock()
	d := s.begun
	s.begun, s.cork = nil, false
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	_, e := s.endpoint().Write(bytes.NewReader(d.data), d.opts.WriteOptions)
	return errno(e)
}

// broken is the result of sending after shutdown.
func (s *Socket) broken(c vfs.Caller, m *socket.Msg) error {
	if m.Flags&unix.MSG_NOSIGNAL == 0 {
		c.Signal(unix.SIGPIPE)
	}
	return unix.EPIPE
}

// sendOptions are what the control messages of a send say.
type sendOptions struct {
	tcpip.WriteOptions
	NIC tcpip.NICID
}

// parseControl decodes control messages: EINVAL for those that are wrong, or not of the family.
func (s *Socket) parseControl(m *socket.Msg) (o sendOptions, err error) {
	for rest := m.Control; ; {
		cm, next, ok, err := socket.NextCmsg(rest)
		if err != nil || !ok {
			return o, err
		}
		rest = next
		switch cm.Level {
		case unix.SOL_SOCKET:
			switch cm.Type {
			case unix.SCM_RIGHTS, unix.SCM_CREDENTIALS:
				// Ignored, as Linux does.
			case unix.SO_MARK, unix.SO_TIMESTAMPING, unix.SO_TIMESTAMPING_NEW, unix.SO_TXTIME:
			default:
				return o, unix.EINVAL
			}
		case unix.IPPROTO_IP:
			err = o.ip(cm)
		case unix.IPPROTO_IPV6:
			if s.v6 {
				err = o.ipv6(cm)
			}
		}
		if err != nil {
			return o, err
		}
	}
}

func (o *sendOptions) ip(cm socket.Cmsg) error {
	cmo := &o.ControlMessages
	switch cm.Type {
	case unix.IP_PKTINFO:
		if len(cm.Data) != 12 {
			return unix.EINVAL
		}
		o.NIC = tcpip.NICID(binary.NativeEndian.Uint32(cm.Data))
	case unix.IP_TTL:
		v, err := socket.Int32(cm.Data)
		if err != nil || v < 1 || v > 255 {
			return unix.EINVAL
		}
		cmo.HasTTL, cmo.TTL = true, uint8(v)
	case unix.IP_TOS:
		if len(cm.Data) != 1 && len(cm.Data) != 4 {
			return unix.EINVAL
		}
	case unix.IP_RETOPTS:
	default:
		return unix.EINVAL
	}
	return nil
}

func (o *sendOptions) ipv6(cm socket.Cmsg) error {
	cmo := &o.ControlMessages
	switch cm.Type {
	case unix.IPV6_PKTINFO:
		if len(cm.Data) < 20 {
			return unix.EINVAL
		}
		o.NIC = tcpip.NICID(binary.NativeEndian.Uint32(cm.Data[16:]))
		src := netip.AddrFrom16([16]byte(cm.Data[:16]))
		if !src.IsUnspecified() && !src.Is4In6() {
			cmo.HasIPv6PacketInfo = true
			cmo.IPv6PacketInfo = tcpip.IPv6PacketInfo{Addr: stackAddr(src), NIC: o.NIC}
		}
	case unix.IPV6_HOPLIMIT:
		v, err := socket.Int32(cm.Data)
		if err != nil || v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v >= 0 {
			cmo.HasHopLimit, cmo.HopLimit = true, uint8(v)
		}
	case unix.IPV6_TCLASS, unix.IPV6_DONTFRAG:
		if len(cm.Data) != 4 {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	return nil
}
