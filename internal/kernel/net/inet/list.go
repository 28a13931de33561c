package inet

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// SockInfo is an open socket, for /proc/net and sock_diag(7).
type SockInfo struct {
	Family, Type, Protocol int
	Local, Remote          netip.AddrPort
	State                  uint8 // as in /proc/net/tcp
	TxQueue, RxQueue       int
	UID                    uint32
	Inode                  uint64
	Device                 int // of SO_BINDTODEVICE
	Backlog                int // of a listener
}

// Sockets lists the open sockets of AF_INET and AF_INET6, in a fixed order.
func Sockets() []SockInfo {
	sockets.Lock()
	all := make([]*Socket, 0, len(sockets.m))
	for s := range sockets.m {
		all = append(all, s)
	}
	sockets.Unlock()
	l := make([]SockInfo, 0, len(all))
	for _, s := range all {
		l = append(l, s.info())
	}
	slices.SortFunc(l, func(a, b SockInfo) int { return int(int64(a.Inode) - int64(b.Inode)) })
	return l
}

// closed is the state of a socket without connection (TCP_CLOSE).
const closed = uint8(tcp.StateClose)

func (s *Socket) info() SockInfo {
	ep := s.endpoint()
	i := SockInfo{Family: s.Family, Type: s.Type, Protocol: s.Protocol, State: closed, UID: s.uid, Inode: s.ino.Load(), Device: int(s.device.Load())}
	any := netip.IPv4Unspecified()
	if s.v6 {
		any = netip.IPv6Unspecified()
	}
	port := func(a tcpip.FullAddress, e tcpip.Error) netip.AddrPort {
		ip := fromStack(a.Addr)
		if e != nil || !ip.IsValid() {
			ip = any
		} else if s.v6 && ip.Is4() {
			ip = netip.AddrFrom16(ip.As16())
		}
		if e != nil {
			a.Port = 0
		}
		return netip.AddrPortFrom(ip, a.Port)
	}
	i.Local = port(ep.GetLocalAddress())
	remote, e := ep.GetRemoteAddress()
	i.Remote = port(remote, e)
	if s.stream() {
		i.State = linuxState(s.tcpState())
		if i.State == uint8(tcp.StateListen) {
			i.Backlog = int(s.backlog.Load())
		}
	} else if e == nil {
		i.State = uint8(tcp.StateEstablished)
	}
	if s.kind == kindRaw {
		i.Local = netip.AddrPortFrom(i.Local.Addr(), uint16(s.Protocol))
	}
	i.RxQueue = s.queued(ep)
	if n, err := ep.GetSockOptInt(tcpip.SendQueueSizeOption); err == nil {
		i.TxQueue = n
	}
	return i
}

// Counters are the figures of the protocols for /proc/net/snmp, by the names that it has.
func Counters() map[string]map[string]uint64 {
	s := theStack().Stats()
	v := func(c *tcpip.StatCounter) uint64 { return c.Value() }
	established := uint64(0)
	for _, i := range Sockets() {
		if i.Type == unix.SOCK_STREAM && (i.State == uint8(tcp.StateEstablished) || i.State == uint8(tcp.StateCloseWait)) {
			established++
		}
	}
	return map[string]map[string]uint64{
		"Ip": {
			"InReceives": v(s.IP.PacketsReceived), "InAddrErrors": v(s.IP.InvalidDestinationAddressesReceived), "ForwDatagrams": v(s.IP.Forwarding.Errors),
			"InDelivers": v(s.IP.PacketsDelivered), "OutRequests": v(s.IP.PacketsSent), "OutDiscards": v(s.IP.OutgoingPacketErrors),
		},
		"Tcp": {
			"ActiveOpens": v(s.TCP.ActiveConnectionOpenings), "PassiveOpens": v(s.TCP.PassiveConnectionOpenings),
			"AttemptFails": v(s.TCP.FailedConnectionAttempts), "EstabResets": v(s.TCP.EstablishedResets), "CurrEstab": established,
			"InSegs": v(s.TCP.ValidSegmentsReceived), "OutSegs": v(s.TCP.SegmentsSent), "RetransSegs": v(s.TCP.Retransmits),
			"InErrs": v(s.TCP.InvalidSegmentsReceived), "OutRsts": v(s.TCP.ResetsSent),
		},
		"Udp": {
			"InDatagrams": v(s.UDP.PacketsReceived), "NoPorts": v(s.UDP.UnknownPortErrors), "InErrors": v(s.UDP.MalformedPacketsReceived),
			"OutDatagrams": v(s.UDP.PacketsSent), "RcvbufErrors": v(s.UDP.ReceiveBufferErrors), "InCsumErrors": v(s.UDP.ChecksumErrors),
		},
	}
}

// ForwardIPv4 makes the guest a router for IPv4 (net.ipv4.ip_forward); ForwardIPv6 for IPv6.
func ForwardIPv4(on bool) { theStack().SetForwardingDefaultAndAllNICs(netProto(false), on) }

// ForwardIPv6 makes the guest a router for IPv6.
func ForwardIPv6(on bool) { theStack().SetForwardingDefaultAndAllNICs(netProto(true), on) }

// SetPortRange sets the ports that sockets get without bind (net.ipv4.ip_local_port_range): EINVAL.
func SetPortRange(lo, hi uint16) error { return errno(theStack().SetPortRange(lo, hi)) }
