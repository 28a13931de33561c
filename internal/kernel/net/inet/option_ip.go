package inet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func (s *Socket) setIP(c vfs.Caller, name int, val []byte) error {
	ep := s.endpoint()
	so := ep.SocketOptions()
	switch name {
	case unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP:
		return s.membership(val, name == unix.IP_ADD_MEMBERSHIP)
	case unix.IP_MULTICAST_IF:
		return s.multicastIf(val)
	case unix.IP_OPTIONS:
		if len(val) == 0 {
			return nil
		}
		return unix.EOPNOTSUPP
	case unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP:
		return s.groupReq(val, name == unix.MCAST_JOIN_GROUP)
	}
	v, err := intOrByte(val)
	if err != nil {
		return err
	}
	on := v != 0
	switch name {
	case unix.IP_TOS:
		if s.stream() {
			v &^= 3 // ECN is the stack's
		}
		return errno(ep.SetSockOptInt(tcpip.IPv4TOSOption, int(uint8(v))))
	case unix.IP_TTL:
		if v != -1 && (v < 1 || v > 255) {
			return unix.EINVAL
		}
		return errno(ep.SetSockOptInt(tcpip.IPv4TTLOption, int(max(v, 0))))
	case unix.IP_MULTICAST_TTL:
		if s.stream() || v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v == -1 {
			v = 1
		}
		return errno(ep.SetSockOptInt(tcpip.MulticastTTLOption, int(v)))
	case unix.IP_MULTICAST_LOOP:
		so.SetMulticastLoop(on)
	case unix.IP_PKTINFO:
		so.SetReceivePacketInfo(on)
	case unix.IP_RECVTTL:
		so.SetReceiveTTL(on)
	case unix.IP_RECVTOS:
		so.SetReceiveTOS(on)
	case unix.IP_RECVERR:
		so.SetIPv4RecvError(on)
	case unix.IP_RECVORIGDSTADDR:
		so.SetReceiveOriginalDstAddress(on)
	case unix.IP_HDRINCL:
		if s.kind != kindRaw {
			return unix.ENOPROTOOPT
		}
		so.SetHeaderIncluded(on)
	case unix.IP_MTU_DISCOVER:
		if v < 0 || v > 5 {
			return unix.EINVAL
		}
		s.keep(unix.IPPROTO_IP, name, v)
	case unix.IP_TRANSPARENT:
		if on && !c.Cred().Capable(unix.CAP_NET_ADMIN) && !c.Cred().Capable(unix.CAP_NET_RAW) {
			return unix.EPERM
		}
		if on {
			return unix.EOPNOTSUPP
		}
	case unix.IP_MINTTL:
		if v < 0 || v > 255 {
			return unix.EINVAL
		}
		s.keep(unix.IPPROTO_IP, name, v)
	case unix.IP_MULTICAST_ALL, unix.IP_BIND_ADDRESS_NO_PORT, unix.IP_NODEFRAG, unix.IP_RECVOPTS, unix.IP_RETOPTS, unix.IP_CHECKSUM,
		unix.IP_RECVFRAGSIZE, unix.IP_PASSSEC:
		if v = 0; on {
			v = 1
		}
		s.keep(unix.IPPROTO_IP, name, v)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (s *Socket) ipOption(name, max int) ([]byte, error) {
	ep := s.endpoint()
	so := ep.SocketOptions()
	num := func(o tcpip.SockOptInt) ([]byte, error) {
		v, err := ep.GetSockOptInt(o)
		if err != nil {
			return nil, errno(err)
		}
		if max > 0 && max < 4 && v >= 0 && v <= 255 {
			return []byte{byte(v)}, nil
		}
		return socket.PutInt32(int32(v)), nil
	}
	switch name {
	case unix.IP_TOS:
		return num(tcpip.IPv4TOSOption)
	case unix.IP_TTL:
		b, err := num(tcpip.IPv4TTLOption)
		if err == nil && b[0] == 0 {
			b[0] = 64 // net.ipv4.ip_default_ttl
		}
		return b, err
	case unix.IP_MULTICAST_TTL:
		return num(tcpip.MulticastTTLOption)
	case unix.IP_MULTICAST_LOOP:
		return putBool(so.GetMulticastLoop()), nil
	case unix.IP_MULTICAST_IF:
		var o tcpip.MulticastInterfaceOption
		err := ep.GetSockOpt(&o)
		return ipv4Of(o.InterfaceAddr), errno(err)
	case unix.IP_PKTINFO:
		return putBool(so.GetReceivePacketInfo()), nil
	case unix.IP_RECVTTL:
		return putBool(so.GetReceiveTTL()), nil
	case unix.IP_RECVTOS:
		return putBool(so.GetReceiveTOS()), nil
	case unix.IP_RECVERR:
		return putBool(so.GetIPv4RecvError()), nil
	case unix.IP_RECVORIGDSTADDR:
		return putBool(so.GetReceiveOriginalDstAddress()), nil
	case unix.IP_HDRINCL:
		if s.kind != kindRaw {
			return nil, unix.ENOPROTOOPT
		}
		return putBool(so.GetHeaderIncluded()), nil
	case unix.IP_OPTIONS:
		return []byte{}, nil
	case unix.IP_MTU_DISCOVER:
		return socket.PutInt32(s.keptOr(unix.IPPROTO_IP, name, unix.IP_PMTUDISC_WANT)), nil
	case unix.IP_MTU:
		return s.routeMTU()
	case unix.IP_MULTICAST_ALL:
		return socket.PutInt32(1), nil
	case unix.IP_TRANSPARENT, unix.IP_FREEBIND, unix.IP_BIND_ADDRESS_NO_PORT, unix.IP_MINTTL, unix.IP_NODEFRAG, unix.IP_RECVOPTS,
		unix.IP_RETOPTS, unix.IP_CHECKSUM, unix.IP_RECVFRAGSIZE, unix.IP_PASSSEC:
		return socket.PutInt32(s.kept(unix.IPPROTO_IP, name)), nil
	}
	return nil, unix.ENOPROTOOPT
}

// routeMTU is the MTU of the way to the peer.
func (s *Socket) routeMTU() ([]byte, error) {
	a, e := s.endpoint().GetRemoteAddress()
	if e != nil {
		return nil, unix.ENOTCONN
	}
	r, err := Lookup(fromStack(a.Addr).Unmap())
	if err != nil {
		return nil, err
	}
	d, _ := ByIndex(r.Dev)
	return socket.PutInt32(int32(d.MTU)), nil
}

// membership joins or leaves a group: struct ip_mreq or ip_mreqn.
func (s *Socket) membership(val []byte, join bool) error {
	if s.stream() {
		return unix.EPROTO
	}
	if len(val) < 8 {
		return unix.EINVAL
	}
	group, ifaddr := address4(val), address4(val[4:])
	nic := uint32(0)
	if len(val) >= 12 {
		nic = binary.NativeEndian.Uint32(val[8:])
	}
	if !group.IsMulticast() {
		return unix.EINVAL
	}
	return s.joinOrLeave(tcpip.NICID(nic), stackAddr(ifaddr), plainAddr(group), join)
}

func (s *Socket) joinOrLeave(nic tcpip.NICID, ifaddr, group tcpip.Address, join bool) error {
	m := tcpip.MembershipOption{NIC: nic, InterfaceAddr: ifaddr, MulticastAddr: group}
	var e tcpip.Error
	if join {
		o := tcpip.AddMembershipOption(m)
		e = s.endpoint().SetSockOpt(&o)
	} else {
		o := tcpip.RemoveMembershipOption(m)
		e = s.endpoint().SetSockOpt(&o)
	}
	switch e.(type) {
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrInvalidOptionValue:
		return unix.EADDRNOTAVAIL
	}
	return errno(e)
}

// groupReq is the same for struct group_req, which has any family.
func (s *Socket) groupReq(val []byte, join bool) error {
	const size = 8 + socket.MaxAddr
	if len(val) < size {
		return unix.EINVAL
	}
	a, err := decodeAddr(val[8:])
	if err != nil || !a.ip.IsMulticast() {
		return unix.EINVAL
	}
	return s.joinOrLeave(tcpip.NICID(binary.NativeEndian.Uint32(val)), tcpip.Address{}, plainAddr(a.ip), join)
}

// multicastIf chooses the device of multicast packets: struct in_addr, ip_mreq or ip_mreqn.
func (s *Socket) multicastIf(val []byte) error {
	if s.stream() || len(val) < 4 {
		return unix.EINVAL
	}
	var o tcpip.MulticastInterfaceOption
	switch {
	case len(val) >= 12:
		o.NIC = tcpip.NICID(binary.NativeEndian.Uint32(val[8:]))
		o.InterfaceAddr = stackAddr(address4(val[4:]))
	case len(val) >= 8:
		o.InterfaceAddr = stackAddr(address4(val[4:]))
	default:
		o.InterfaceAddr = stackAddr(address4(val))
	}
	return errno(s.endpoint().SetSockOpt(&o))
}

func (s *Socket) setIPv6(c vfs.Caller, name int, val []byte) error {
	ep := s.endpoint()
	so := ep.SocketOptions()
	switch name {
	case unix.IPV6_JOIN_GROUP, unix.IPV6_LEAVE_GROUP:
		if s.stream() {
			return unix.EPROTO
		}
		if len(val) < 20 {
			return unix.EINVAL
		}
		group := netip.AddrFrom16([16]byte(val[:16]))
		if !group.IsMulticast() {
			return unix.EINVAL
		}
		return s.joinOrLeave(tcpip.NICID(binary.NativeEndian.Uint32(val[16:])), tcpip.Address{}, plainAddr(group), name == unix.IPV6_JOIN_GROUP)
	case unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP:
		return s.groupReq(val, name == unix.MCAST_JOIN_GROUP)
	}
	v, err := socket.Int32(val)
	if err != nil {
		return err
	}
	on := v != 0
	switch name {
	case unix.IPV6_V6ONLY:
		if a, e := ep.GetLocalAddress(); e == nil && a.Port != 0 || s.stream() && s.tcpState() != tcp.StateInitial {
			return unix.EINVAL
		}
		so.SetV6Only(on)
	case unix.IPV6_UNICAST_HOPS:
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		return errno(ep.SetSockOptInt(tcpip.IPv6HopLimitOption, int(v)))
	case unix.IPV6_MULTICAST_HOPS:
		if s.stream() {
			return unix.ENOPROTOOPT
		}
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		if v == -1 {
			v = 1
		}
		return errno(ep.SetSockOptInt(tcpip.MulticastTTLOption, int(v)))
	case unix.IPV6_MULTICAST_LOOP:
		if v < 0 || v > 1 {
			return unix.EINVAL
		}
		so.SetMulticastLoop(on)
	case unix.IPV6_MULTICAST_IF:
		if s.stream() {
			return unix.ENOPROTOOPT
		}
		if _, ok := ByIndex(int(v)); !ok && v != 0 {
			return unix.ENODEV
		}
		return errno(ep.SetSockOptInt(tcpip.IPv6MulticastInterfaceOption, int(v)))
	case unix.IPV6_RECVPKTINFO:
		so.SetIPv6ReceivePacketInfo(on)
	case unix.IPV6_RECVHOPLIMIT:
		so.SetReceiveHopLimit(on)
	case unix.IPV6_RECVTCLASS:
		so.SetReceiveTClass(on)
	case unix.IPV6_RECVORIGDSTADDR:
		so.SetReceiveOriginalDstAddress(on)
	case unix.IPV6_RECVERR:
		so.SetIPv6RecvError(on)
	case unix.IPV6_TCLASS:
		if v < -1 || v > 255 {
			return unix.EINVAL
		}
		return errno(ep.SetSockOptInt(tcpip.IPv6TrafficClassOption, int(max(v, 0))))
	case unix.IPV6_HDRINCL:
		if s.kind != kindRaw {
			return unix.ENOPROTOOPT
		}
		so.SetHeaderIncluded(on)
	case unix.IPV6_CHECKSUM:
		return errno(ep.SetSockOptInt(tcpip.IPv6Checksum, int(v)))
	case unix.IPV6_TRANSPARENT:
		if on && !c.Cred().Capable(unix.CAP_NET_ADMIN) && !c.Cred().Capable(unix.CAP_NET_RAW) {
			return unix.EPERM
		}
		if on {
			return unix.EOPNOTSUPP
		}
	case unix.IPV6_MTU_DISCOVER:
		if v < 0 || v > 5 {
			return unix.EINVAL
		}
		s.keep(unix.IPPROTO_IPV6, name, v)
	case unix.IPV6_DONTFRAG, unix.IPV6_AUTOFLOWLABEL, unix.IPV6_ADDR_PREFERENCES, unix.IPV6_MINHOPCOUNT,
		unix.IPV6_RECVPATHMTU, unix.IPV6_RECVFRAGSIZE, ipv6FlowSend, ipv6FlowInfo, unix.IPV6_RECVRTHDR, unix.IPV6_RECVHOPOPTS,
		unix.IPV6_RECVDSTOPTS, unix.IPV6_MULTICAST_ALL:
		s.keep(unix.IPPROTO_IPV6, name, v)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// Options that x/sys lacks (linux/in6.h).
const (
	ipv6FlowInfo = 11 // IPV6_FLOWINFO
	ipv6FlowSend = 33 // IPV6_FLOWINFO_SEND
)

func (s *Socket) ipv6Option(name int) ([]byte, error) {
	ep := s.endpoint()
	so := ep.SocketOptions()
	num := func(o tcpip.SockOptInt) ([]byte, error) {
		v, err := ep.GetSockOptInt(o)
		return socket.PutInt32(int32(v)), errno(err)
	}
	switch name {
	case unix.IPV6_V6ONLY:
		return putBool(so.GetV6Only()), nil
	case unix.IPV6_UNICAST_HOPS:
		v, err := ep.GetSockOptInt(tcpip.IPv6HopLimitOption)
		if v < 0 {
			v = 64
		}
		return socket.PutInt32(int32(v)), errno(err)
	case unix.IPV6_MULTICAST_HOPS:
		return num(tcpip.MulticastTTLOption)
	case unix.IPV6_MULTICAST_LOOP:
		return putBool(so.GetMulticastLoop()), nil
	case unix.IPV6_MULTICAST_IF:
		return num(tcpip.IPv6MulticastInterfaceOption)
	case unix.IPV6_RECVPKTINFO:
		return putBool(so.GetIPv6ReceivePacketInfo()), nil
	case unix.IPV6_RECVHOPLIMIT:
		return putBool(so.GetReceiveHopLimit()), nil
	case unix.IPV6_RECVTCLASS:
		return putBool(so.GetReceiveTClass()), nil
	case unix.IPV6_RECVORIGDSTADDR:
		return putBool(so.GetReceiveOriginalDstAddress()), nil
	case unix.IPV6_RECVERR:
		return putBool(so.GetIPv6RecvError()), nil
	case unix.IPV6_TCLASS:
		return num(tcpip.IPv6TrafficClassOption)
	case unix.IPV6_MTU:
		return s.routeMTU()
	case unix.IPV6_MULTICAST_ALL:
		return socket.PutInt32(1), nil
	case unix.IPV6_MTU_DISCOVER:
		return socket.PutInt32(s.keptOr(unix.IPPROTO_IPV6, name, unix.IPV6_PMTUDISC_WANT)), nil
	case unix.IPV6_DONTFRAG, unix.IPV6_AUTOFLOWLABEL, unix.IPV6_ADDR_PREFERENCES, unix.IPV6_MINHOPCOUNT,
		unix.IPV6_RECVPATHMTU, unix.IPV6_RECVFRAGSIZE, ipv6FlowSend, ipv6FlowInfo, unix.IPV6_RECVRTHDR, unix.IPV6_RECVHOPOPTS,
		unix.IPV6_RECVDSTOPTS, unix.IPV6_TRANSPARENT, unix.IPV6_FREEBIND:
		return socket.PutInt32(s.kept(unix.IPPROTO_IPV6, name)), nil
	}
	return nil, unix.ENOPROTOOPT
}
