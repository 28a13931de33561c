package inet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Limits of the buffers of TCP connections in bytes, as net.ipv4.tcp_rmem and tcp_wmem give them. The stack's own buffers
// start larger than what Linux starts with and grows by measuring.
const (
	tcpMinBuf     = 4096
	tcpRcvDefault = 131072
	tcpSndDefault = 16384
	tcpBufStart   = 1 << 20
	tcpRcvMax     = 6 << 20
	tcpSndMax     = 4 << 20
)

// theStack makes the stack when it is first needed: a guest that never uses the network does not pay for it.
var theStack = sync.OnceValue(newStack)

func newStack() *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{}), // neither router advertisements nor duplicate address detection
			arp.NewProtocol,
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: true,
		RawFactory:  raw.EndpointFactory{},
	})
	sack := tcpip.TCPSACKEnabled(true)
	nagle := tcpip.TCPDelayEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &nagle, &moderate,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpMinBuf, Default: tcpBufStart, Max: tcpRcvMax},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcpMinBuf, Default: tcpBufStart, Max: tcpSndMax},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			panic(err.String())
		}
	}
	if err := s.SetPortRange(32768, 60999); err != nil { // net.ipv4.ip_local_port_range
		panic(err.String())
	}
	s.SetICMPLimit(1000) // net.ipv4.icmp_msgs_per_sec
	memory.stack.Store(s)
	return s
}

// netProto is the stack's number of an address family.
func netProto(v6 bool) tcpip.NetworkProtocolNumber {
	if v6 {
		return header.IPv6ProtocolNumber
	}
	return header.IPv4ProtocolNumber
}
