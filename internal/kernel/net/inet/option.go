package inet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// kept is the value of an option that is only kept.
func (s *Socket) kept(level, name int) int32 { return s.keptOr(level, name, 0) }

// keptOr is the same with a default.
func (s *Socket) keptOr(level, name int, def int32) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.opts[option{level, name}]; ok {
		return v
	}
	return def
}

func (s *Socket) keep(level, name int, v int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opts == nil {
		s.opts = map[option]int32{}
	}
	s.opts[option{level, name}] = v
}

// SetOption is setsockopt(2).
func (s *Socket) SetOption(c vfs.Caller, level, name int, val []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		return s.setSocketLevel(c, name, val)
	case unix.IPPROTO_TCP:
		if s.stream() {
			return s.setTCP(name, val)
		}
	case unix.IPPROTO_IP:
		return s.setIP(c, name, val)
	case unix.IPPROTO_IPV6:
		if s.v6 {
			return s.setIPv6(c, name, val)
		}
	case unix.IPPROTO_UDP:
		return s.setUDP(name, val)
	case unix.IPPROTO_ICMPV6, unix.SOL_RAW:
		return s.setRaw(level, name, val)
	}
	return unix.ENOPROTOOPT
}

// Option is getsockopt(2).
func (s *Socket) Option(_ vfs.Caller, level, name, max int) ([]byte, error) {
	switch level {
	case unix.SOL_SOCKET:
		return s.socketLevel(name, max)
	case unix.IPPROTO_TCP:
		if s.stream() {
			return s.tcpOption(name)
		}
		return nil, unix.EOPNOTSUPP
	case unix.IPPROTO_IP:
		return s.ipOption(name, max)
	case unix.IPPROTO_IPV6:
		if s.v6 {
			return s.ipv6Option(name)
		}
		return nil, unix.EOPNOTSUPP
	case unix.IPPROTO_UDP:
		if name == unix.UDP_CORK && s.kind == kindUDP {
			s.mu.Lock()
			defer s.mu.Unlock()
			return putBool(s.cork), nil
		}
	case unix.IPPROTO_ICMPV6, unix.SOL_RAW:
		if v, ok := s.rawFilter(level, name); ok {
			return v, nil
		}
	default:
		return nil, unix.EOPNOTSUPP
	}
	return nil, unix.ENOPROTOOPT
}

func (s *Socket) setSocketLevel(c vfs.Caller, name int, val []byte) error {
	so := s.endpoint().SocketOptions()
	switch name {
	case unix.SO_BINDTODEVICE:
		return s.bindToDevice(c, val)
	case unix.SO_BINDTOIFINDEX:
		index, err := socket.Int32(val)
		if err != nil || index < 0 {
			return unix.EINVAL
		}
		return s.bindToIndex(c, index)
	case unix.SO_ATTACH_FILTER:
		return s.attachFilter(c, val)
	case unix.SO_DETACH_FILTER:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.filter == nil {
			return unix.ENOENT
		}
		s.filter = nil
		return nil
	}
	if err := s.SetSocketOption(c, name, val); err != nil {
		return err
	}
	switch name {
	case unix.SO_REUSEADDR:
		so.SetReuseAddress(s.Flag(name))
	case unix.SO_REUSEPORT:
		so.SetReusePort(s.Flag(name))
	case unix.SO_KEEPALIVE:
		so.SetKeepAlive(s.Flag(name))
	case unix.SO_BROADCAST:
		so.SetBroadcast(s.Flag(name))
	case unix.SO_NO_CHECK:
		so.SetNoChecksum(s.Flag(name))
	case unix.SO_LINGER:
		on, d := s.Linger()
		so.SetLinger(tcpip.LingerOption{Enabled: on, Timeout: d})
	case unix.SO_SNDBUF, unix.SO_SNDBUFFORCE:
		snd, _ := s.Buffers()
		so.SetSendBufferSize(int64(snd), true)
		s.limitSend(s.endpoint())
	case unix.SO_RCVBUF, unix.SO_RCVBUFFORCE:
		_, rcv := s.Buffers()
		so.SetReceiveBufferSize(int64(rcv), true)
	}
	return nil
}

// copyOptions gives a new endpoint the options of the old one.
func (s *Socket) copyOptions(ep, old tcpip.Endpoint) {
	so, was := ep.SocketOptions(), old.SocketOptions()
	so.SetReuseAddress(was.GetReuseAddress())
	so.SetReusePort(was.GetReusePort())
	so.SetKeepAlive(was.GetKeepAlive())
	so.SetLinger(was.GetLinger())
	so.SetDelayOption(was.GetDelayOption())
	so.SetV6Only(was.GetV6Only())
	so.SetSendBufferSize(was.GetSendBufferSize(), false)
	so.SetReceiveBufferSize(was.GetReceiveBufferSize(), false)
	if d := s.device.Load(); d != 0 {
		so.SetBindToDevice(d)
	}
}

func (s *Socket) bindToDevice(c vfs.Caller, val []byte) error {
	name, _, _ := bytes.Cut(val[:min(len(val), NameMax+1)], []byte{0})
	index := int32(0)
	if len(name) > 0 {
		d, ok := ByName(string(name))
		if !ok {
			return unix.ENODEV
		}
		index = int32(d.Index)
	}
	return s.bindToIndex(c, index)
}

// bindToIndex binds to a device, 0 for none.
func (s *Socket) bindToIndex(c vfs.Caller, index int32) error {
	if s.device.Load() != 0 && !c.Cred().Capable(unix.CAP_NET_RAW) {
		return unix.EPERM
	}
	if index != 0 {
		s.createNIC(int(index))
	}
	if e := s.endpoint().SocketOptions().SetBindToDevice(index); e != nil {
		return unix.ENODEV
	}
	s.device.Store(index)
	return nil
}

// createNIC makes a device known to the stack, which otherwise happens when it is set up first.
func (s *Socket) createNIC(index int) {
	config.mu.Lock()
	defer config.mu.Unlock()
	if d := byIndexLocked(index); d != nil {
		d.createLocked()
	}
}

func (s *Socket) socketLevel(name, max int) ([]byte, error) {
	switch name {
	case unix.SO_ACCEPTCONN:
		return putBool(s.stream() && s.tcpState() == tcp.StateListen), nil
	case unix.SO_ERROR:
		s.collect(s.endpoint())
	case unix.SO_BINDTODEVICE:
		d, ok := ByIndex(int(s.device.Load()))
		if !ok {
			return []byte{}, nil
		}
		if max < NameMax+1 {
			return nil, unix.EINVAL
		}
		return append([]byte(d.Name), 0), nil
	case unix.SO_BINDTOIFINDEX:
		return socket.PutInt32(s.device.Load()), nil
	case unix.SO_PEERCRED:
		b := socket.PutInt32(0)
		return append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), nil
	case unix.SO_COOKIE:
		return binary.NativeEndian.AppendUint64(nil, s.ino.Load()), nil
	case unix.SO_INCOMING_NAPI_ID:
		return socket.PutInt32(0), nil
	}
	return s.SocketOption(name)
}

func putBool(v bool) []byte {
	if v {
		return socket.PutInt32(1)
	}
	return socket.PutInt32(0)
}

// Options of TCP that x/sys lacks (linux/tcp.h).
const (
	tcpCongestionMax = 16
	tcpUlp           = 31
)

func (s *Socket) setTCP(name int, val []byte) error {
	ep := s.endpoint()
	so := ep.SocketOptions()
	switch name {
	case unix.TCP_CONGESTION:
		if len(val) == 0 {
			return unix.EINVAL
		}
		algo, _, _ := bytes.Cut(val[:min(len(val), tcpCongestionMax-1)], []byte{0})
		v := tcpip.CongestionControlOption(algo)
		if ep.SetSockOpt(&v) != nil {
			return unix.ENOENT
		}
		return nil
	case tcpUlp:
		return unix.ENOENT // no protocol to put on top
	}
	v, err := socket.Int32(val)
	if err != nil {
		return err
	}
	switch name {
	case unix.TCP_NODELAY:
		so.SetDelayOption(v == 0)
	case unix.TCP_CORK:
		so.SetCorkOption(v != 0)
	case unix.TCP_QUICKACK:
		so.SetQuickAck(v != 0)
	case unix.TCP_MAXSEG:
		if v != 0 && (v < 88 || v > 32767) {
			return unix.EINVAL
		}
		s.keep(unix.IPPROTO_TCP, name, v)
		if v != 0 {
			ep.SetSockOptInt(tcpip.MaxSegOption, int(v))
		}
	case unix.TCP_KEEPIDLE:
		if v < 1 || v > 32767 {
			return unix.EINVAL
		}
		o := tcpip.KeepaliveIdleOption(time.Duration(v) * time.Second)
		return errno(ep.SetSockOpt(&o))
	case unix.TCP_KEEPINTVL:
		if v < 1 || v > 32767 {
			return unix.EINVAL
		}
		o := tcpip.KeepaliveIntervalOption(time.Duration(v) * time.Second)
		return errno(ep.SetSockOpt(&o))
	case unix.TCP_KEEPCNT:
		if v < 1 || v > 127 {
			return unix.EINVAL
		}
		return errno(ep.SetSockOptInt(tcpip.KeepaliveCountOption, int(v)))
	case unix.TCP_USER_TIMEOUT:
		if v < 0 {
			return unix.EINVAL
		}
		o := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
		return errno(ep.SetSockOpt(&o))
	case unix.TCP_LINGER2:
		o := tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second)
		return errno(ep.SetSockOpt(&o))
	case unix.TCP_DEFER_ACCEPT:
		o := tcpip.TCPDeferAcceptOption(time.Duration(max(v, 0)) * time.Second)
		return errno(ep.SetSockOpt(&o))
	case unix.TCP_SYNCNT:
		if v < 1 || v > 127 {
			return unix.EINVAL
		}
		return errno(ep.SetSockOptInt(tcpip.TCPSynCountOption, int(v)))
	case unix.TCP_WINDOW_CLAMP:
		return errno(ep.SetSockOptInt(tcpip.TCPWindowClampOption, int(v)))
	case tcpInq, unix.TCP_NOTSENT_LOWAT, unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_THIN_DUPACK, unix.TCP_TIMESTAMP:
		s.keep(unix.IPPROTO_TCP, name, v)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (s *Socket) tcpOption(name int) ([]byte, error) {
	ep := s.endpoint()
	so := ep.SocketOptions()
	num := func(o tcpip.SockOptInt) ([]byte, error) {
		v, err := ep.GetSockOptInt(o)
		return socket.PutInt32(int32(v)), errno(err)
	}
	switch name {
	case unix.TCP_NODELAY:
		return putBool(!so.GetDelayOption()), nil
	case unix.TCP_CORK:
		return putBool(so.GetCorkOption()), nil
	case unix.TCP_QUICKACK:
		return putBool(so.GetQuickAck()), nil
	case unix.TCP_MAXSEG:
		if st := s.tcpState(); st == tcp.StateInitial || st == tcp.StateBound || st == tcp.StateListen {
			if v := s.kept(unix.IPPROTO_TCP, name); v != 0 {
				return socket.PutInt32(v), nil
			}
			return socket.PutInt32(536), nil // TCP_MSS_DEFAULT
		}
		return num(tcpip.MaxSegOption)
	case unix.TCP_KEEPIDLE:
		var o tcpip.KeepaliveIdleOption
		err := ep.GetSockOpt(&o)
		return seconds(time.Duration(o)), errno(err)
	case unix.TCP_KEEPINTVL:
		var o tcpip.KeepaliveIntervalOption
		err := ep.GetSockOpt(&o)
		return seconds(time.Duration(o)), errno(err)
	case unix.TCP_KEEPCNT:
		return num(tcpip.KeepaliveCountOption)
	case unix.TCP_USER_TIMEOUT:
		var o tcpip.TCPUserTimeoutOption
		err := ep.GetSockOpt(&o)
		return socket.PutInt32(int32(time.Duration(o).Milliseconds())), errno(err)
	case unix.TCP_LINGER2:
		var o tcpip.TCPLingerTimeoutOption
		err := ep.GetSockOpt(&o)
		return seconds(time.Duration(o)), errno(err)
	case unix.TCP_DEFER_ACCEPT:
		var o tcpip.TCPDeferAcceptOption
		err := ep.GetSockOpt(&o)
		return seconds(time.Duration(o)), errno(err)
	case unix.TCP_SYNCNT:
		return num(tcpip.TCPSynCountOption)
	case unix.TCP_WINDOW_CLAMP:
		return num(tcpip.TCPWindowClampOption)
	case unix.TCP_CONGESTION:
		var o tcpip.CongestionControlOption
		err := ep.GetSockOpt(&o)
		return append([]byte(o), make([]byte, max(tcpCongestionMax-len(o), 0))...), errno(err)
	case unix.TCP_INFO:
		return s.tcpInfo(), nil
	case tcpInq, unix.TCP_NOTSENT_LOWAT, unix.TCP_THIN_LINEAR_TIMEOUTS, unix.TCP_THIN_DUPACK, unix.TCP_TIMESTAMP, unix.TCP_FASTOPEN:
		return socket.PutInt32(s.kept(unix.IPPROTO_TCP, name)), nil
	}
	return nil, unix.ENOPROTOOPT
}

func seconds(d time.Duration) []byte { return socket.PutInt32(int32(d / time.Second)) }

// linuxState is the number of a state in /proc/net/tcp and TCP_INFO (net/tcp_states.h).
func linuxState(st tcp.EndpointState) uint8 {
	switch st {
	case tcp.StateConnecting:
		return uint8(tcp.StateSynSent)
	case tcp.StateInitial, tcp.StateBound, tcp.StateError:
		return uint8(tcp.StateClose)
	}
	return uint8(st)
}

// tcpInfo is struct tcp_info (linux/tcp.h) as far as the stack knows what is in it.
func (s *Socket) tcpInfo() []byte {
	var o tcpip.TCPInfoOption
	ep := s.endpoint()
	ep.GetSockOpt(&o)
	b := make([]byte, 248)
	ne := binary.NativeEndian
	us := func(at int, d time.Duration) { ne.PutUint32(b[at:], uint32(d.Microseconds())) }
	b[0] = linuxState(s.tcpState())
	b[5] = 1 | 2 | 4 // TCPI_OPT_TIMESTAMPS, SACK, WSCALE
	us(8, o.RTO)
	us(12, 40*time.Millisecond) // ato
	mss, _ := ep.GetSockOptInt(tcpip.MaxSegOption)
	ne.PutUint32(b[16:], uint32(mss))
	ne.PutUint32(b[20:], uint32(mss))
	ne.PutUint32(b[60:], uint32(mss)+40) // pmtu
	us(68, o.RTT)
	us(72, o.RTTVar)
	ne.PutUint32(b[76:], o.SndSsthresh)
	ne.PutUint32(b[80:], o.SndCwnd)
	ne.PutUint32(b[84:], uint32(mss)) // advmss
	ne.PutUint32(b[88:], 3)           // reordering
	return b
}

func (s *Socket) setUDP(name int, val []byte) error {
	if s.kind != kindUDP || name != unix.UDP_CORK {
		return unix.ENOPROTOOPT
	}
	v, err := socket.Int32(val)
	if err != nil {
		return err
	}
	if v == 0 {
		return s.uncork()
	}
	s.mu.Lock()
	s.cork = true
	s.mu.Unlock()
	return nil
}

// int or byte, as many options of IP allow.
func intOrByte(val []byte) (int32, error) {
	switch {
	case len(val) >= 4:
		return socket.Int32(val)
	case len(val) >= 1:
		return int32(val[0]), nil
	}
	return 0, unix.EINVAL
}

// address4 is an IPv4 address in an option.
func address4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }
