// Package slirp is a network of a guest's own behind the sockets of the user who runs it, as slirp(1) has it: no device, no
// rights and no helper of the host are needed. The guest is 10.0.2.15, which DHCP tells it, too; a second TCP/IP stack, of
// gVisor, is everybody else:
//
//   - 10.0.2.2 is the router. What the guest sends to addresses of the world, the stack takes in their name: each TCP
//     connection, each UDP flow and each ping becomes a socket of the host.
//   - 10.0.2.3 answers names, by the host's resolver.
//   - Forward opens ports of the host that lead into the guest.
//
// What listens on the host's loopback addresses is not for the guest, which need not be trusted: only Config.Loopback lets the
// router pass connections on to it. Nor are link-local addresses, where clouds tell a machine its secrets.
//
// Frames for the guest leave on a goroutine of their own: its stack, which has called Send, is never called back from there.
package slirp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

// The addresses of the network.
var (
	Network = netip.MustParsePrefix("10.0.2.0/24")
	Router  = netip.MustParseAddr("10.0.2.2")
	DNS     = netip.MustParseAddr("10.0.2.3")
	Guest   = netip.MustParseAddr("10.0.2.15")
)

// What a guest can make the host hold.
const (
	maxConns   = 512       // TCP connections
	maxFlows   = 512       // UDP flows
	maxPings   = 64        // sockets for pings
	bufferSize = 128 << 10 // of a TCP connection, each way
	queueLen   = 4096      // frames for the guest
	mtu        = 1500
	// timeWaitTime is how long the end of a connection is remembered (TIME-WAIT), which is not counted: segments are not late
	// on a way that leads through no network.
	timeWaitTime = time.Second
)

const nic = 1

// routerMAC is the router's Ethernet address, which is also that of the name server.
const routerMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

// Net is such a network. It is the link of one interface.
type Net struct {
	inet.Receiver

	config Config
	stack  *stack.Stack
	ep     *channel.Endpoint

	ctx    context.Context // ends with the network
	cancel context.CancelFunc

	conns, flows atomic.Int32

	pings pings
}

// New makes a network and opens its ports.
func New(config Config) (*Net, error) {
	n := &Net{config: config, ep: channel.New(queueLen, mtu, routerMAC)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := n.setUp(); err != nil {
		n.End()
		return nil, fmt.Errorf("user network: %s", err)
	}
	for _, f := range config.Forwards {
		if err := n.listen(f); err != nil {
			n.End()
			return nil, err
		}
	}
	go n.deliver()
	return n, nil
}

// setUp gives the stack its device, its addresses, and what it does with the packets for all others.
func (n *Net) setUp() tcpip.Error {
	s := n.stack
	sack, timeWait := tcpip.TCPSACKEnabled(true), tcpip.TCPTimeWaitTimeoutOption(timeWaitTime)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack,
		&timeWait,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: bufferSize, Max: bufferSize},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: bufferSize, Max: bufferSize},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return err
		}
	}
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, bufferSize, maxConns, n.tcp).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, n.udp).HandlePacket)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, n.ping)
	if err := s.CreateNIC(nic, ethernet.New(n.ep)); err != nil {
		return err
	}
	for _, a := range []netip.Addr{Router, DNS} {
		if err := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(a), PrefixLen: Network.Bits()},
		}, stack.AddressProperties{}); err != nil {
			return err
		}
	}
	// All addresses of the world are here, and nothing is further away than the guest.
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	if err := s.SetPromiscuousMode(nic, true); err != nil {
		return err
	}
	return s.SetSpoofing(nic, true)
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

// addr is the reverse of address.
func addr(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// deliver hands the frames for the guest over.
func (n *Net) deliver() {
	for {
		pkt := n.ep.ReadContext(n.ctx)
		if pkt == nil {
			return
		}
		v := pkt.ToView()
		pkt.DecRef()
		n.HandOver(v.AsSlice())
		v.Release()
	}
}

// queue has a frame delivered to the guest. It does not wait.
func (n *Net) queue(frame []byte) {
	var list stack.PacketBufferList
	list.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)}))
	_, _ = n.ep.WritePackets(list) // lost if there are too many
	list.Reset()
}

// Send takes a frame of the guest.
func (n *Net) Send(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize || n.ctx.Err() != nil {
		return false
	}
	eth := header.Ethernet(frame)
	switch eth.Type() {
	case header.ARPProtocolNumber:
		if !asksUs(frame[header.EthernetMinimumSize:]) {
			return true
		}
	case header.IPv4ProtocolNumber:
		if n.dhcp(eth) {
			return true
		}
	default:
		return true // nobody there speaks it
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	n.ep.InjectInbound(0, pkt) // the layer of Ethernet above it reads the protocol
	pkt.DecRef()
	return true
}

// asksUs reports whether an ARP packet is for one of the addresses that really are there. The stack, which answers for all the
// world, would also tell the guest that its own address is in use.
func asksUs(packet []byte) bool {
	h := header.ARP(packet)
	if !h.IsValid() {
		return false
	}
	if h.Op() != header.ARPRequest {
		return true
	}
	target := netip.AddrFrom4([4]byte(h.ProtocolAddressTarget()))
	return target == Router || target == DNS
}

// End ends the network and all its connections.
func (n *Net) End() {
	n.cancel()
	n.ep.Close()
	n.stack.Close()
}

// target is where on the host something for an address of the network or of the world goes.
func (n *Net) target(dst netip.AddrPort) (netip.AddrPort, bool) {
	ip := dst.Addr()
	switch {
	case ip == Router && n.config.Loopback:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port()), true
	case ip == DNS && dst.Port() == 53:
		return resolver(), true
	}
	return dst, worldly(ip)
}

// worldly reports whether an address is one host outside: not of this network, not this host, not many. Link-local addresses are
// not: clouds give a machine its credentials there.
func worldly(ip netip.Addr) bool {
	return ip.Is4() && !Network.Contains(ip) && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() &&
		ip.As4()[0] != 0 && ip.As4()[0] < 240
}

// resolvConf says who answers names on the host.
var resolvConf = "/etc/resolv.conf"

// resolver is the host's first name server. It is looked up each time: it is another one after the host has moved.
func resolver() netip.AddrPort {
	b, _ := os.ReadFile(resolvConf)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if ip, err := netip.ParseAddr(f[1]); err == nil {
				return netip.AddrPortFrom(ip, 53)
			}
		}
	}
	return netip.MustParseAddrPort("127.0.0.1:53") // resolv.conf(5): without one, this machine
}
