package inet

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// Link is what a driver implements: it carries the Ethernet frames of one device.
type Link interface {
	// Open is called when the device is set up. From then on the link calls in with each frame that comes, from one
	// goroutine at a time; the frame is the link's again when in returns. An error is an errno.
	Open(in func(frame []byte)) error
	// Close is called when the device is set down. in is not called any more after it has returned.
	Close()
	// Send sends a frame, which is the caller's again when it returns. It must not wait: what cannot be sent at once is
	// lost, and then it returns false.
	Send(frame []byte) bool
}

// Receiver is the half of a Link that hands frames over; the zero value is a device that is down.
type Receiver struct {
	// mu is held while a frame is handed over, so that Close returns after the last one.
	mu sync.Mutex
	in func(frame []byte)
}

// Open is Link's.
func (r *Receiver) Open(in func(frame []byte)) error {
	r.mu.Lock()
	r.in = in
	r.mu.Unlock()
	return nil
}

// Close is Link's.
func (r *Receiver) Close() {
	r.mu.Lock()
	r.in = nil
	r.mu.Unlock()
}

// HandOver gives the device a frame. While the device is down it is dropped.
func (r *Receiver) HandOver(frame []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.in != nil {
		r.in(frame)
	}
}

// Addressed is a Link that hears of the IPv4 addresses of its device while that is up: the host may need routes to them.
// It is called with the stack locked, and must not wait.
type Addressed interface {
	AddrChanged(ip netip.Addr, there bool)
}

// tellLink passes on that an address is there, or is not any more.
func (d *device) tellLink(ip netip.Addr, there bool) {
	if l, ok := d.ep.link.(Addressed); ok && ip.Is4() {
		l.AddrChanged(ip, there)
	}
}

// ethHeader is the size of an Ethernet header. Frames without checksum are at most ethHeader more than the MTU.
const ethHeader = header.EthernetMinimumSize

// Stats are the counters of a device, as in /proc/net/dev.
type Stats struct {
	RxBytes, RxPackets, RxDropped, TxBytes, TxPackets, TxDropped uint64
}

// counters are Stats that change.
type counters struct {
	rxBytes, rxPackets, rxDropped, txBytes, txPackets, txDropped atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{c.rxBytes.Load(), c.rxPackets.Load(), c.rxDropped.Load(), c.txBytes.Load(), c.txPackets.Load(), c.txDropped.Load()}
}

func (c *counters) received(n int) {
	c.rxPackets.Add(1)
	c.rxBytes.Add(uint64(n))
}

func (c *counters) sent(n int) {
	c.txPackets.Add(1)
	c.txBytes.Add(uint64(n))
}

// endpoint is a device as the stack sees it. With a nil link it is the loopback device, which turns what is sent into what
// is received.
type endpoint struct {
	link  Link
	index int
	counters

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	mtu        atomic.Uint32
	mac        atomic.Pointer[tcpip.LinkAddress]
	up         atomic.Bool
	promisc    atomic.Bool
}

func (e *endpoint) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		e.dispatcher.Store(nil)
		return
	}
	e.dispatcher.Store(&d)
}

func (e *endpoint) IsAttached() bool                     { return e.dispatcher.Load() != nil }
func (e *endpoint) MTU() uint32                          { return e.mtu.Load() }
func (e *endpoint) SetMTU(mtu uint32)                    { e.mtu.Store(mtu) }
func (e *endpoint) LinkAddress() tcpip.LinkAddress       { return *e.mac.Load() }
func (e *endpoint) SetLinkAddress(mac tcpip.LinkAddress) { e.mac.Store(&mac) }
func (*endpoint) Wait()                                  {}
func (*endpoint) Close()                                 {}
func (*endpoint) SetOnCloseAction(func())                {}
func (e *endpoint) deliver() (d stack.NetworkDispatcher, ok bool) {
	p := e.dispatcher.Load()
	if p == nil || !e.up.Load() {
		return nil, false
	}
	return *p, true
}

func (e *endpoint) Capabilities() stack.LinkEndpointCapabilities {
	if e.link == nil {
		return stack.CapabilityLoopback | stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	}
	return stack.CapabilityResolutionRequired
}

func (e *endpoint) MaxHeaderLength() uint16 {
	if e.link == nil {
		return 0
	}
	return ethHeader
}

func (e *endpoint) ARPHardwareType() header.ARPHardwareType {
	if e.link == nil {
		return header.ARPHardwareLoopback
	}
	return header.ARPHardwareEther
}

func (e *endpoint) AddHeader(pkt *stack.PacketBuffer) {
	if e.link == nil {
		return
	}
	eth := header.Ethernet(pkt.LinkHeader().Push(ethHeader))
	eth.Encode(&header.EthernetFields{SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber})
}

func (e *endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	if e.link == nil {
		return true
	}
	_, ok := pkt.LinkHeader().Consume(ethHeader)
	return ok
}

// WritePackets sends what the stack has to send.
func (e *endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		if e.link == nil {
			e.loop(pkt)
			continue
		}
		v := pkt.ToView()
		e.send(v.AsSlice())
		v.Release()
	}
	return pkts.Len(), nil
}

// send sends a frame through the driver.
func (e *endpoint) send(frame []byte) bool {
	if !e.up.Load() {
		return false
	}
	tapFrame(e, frame, unix.PACKET_OUTGOING)
	if !e.link.Send(frame) {
		e.txDropped.Add(1)
		return false
	}
	e.sent(len(frame))
	return true
}

// loop receives what was sent on the loopback device.
func (e *endpoint) loop(pkt *stack.PacketBuffer) {
	d, ok := e.deliver()
	if !ok {
		return
	}
	n := pkt.Size() + ethHeader // Linux's loopback frames have an Ethernet header of zeros
	e.sent(n)
	e.received(n)
	if tapped() {
		v := pkt.ToView()
		frame := make([]byte, ethHeader, n)
		header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: zeroMAC, DstAddr: zeroMAC, Type: pkt.NetworkProtocolNumber})
		frame = append(frame, v.AsSlice()...)
		v.Release()
		tapFrame(e, frame, unix.PACKET_OUTGOING)
		tapFrame(e, frame, unix.PACKET_HOST)
	}
	in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
	d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, in)
	in.DecRef()
}

// receive takes a frame from the driver. It is not trusted: the stack checks all headers above the first.
func (e *endpoint) receive(frame []byte) {
	d, ok := e.deliver()
	if !ok || len(frame) < ethHeader || len(frame) > int(e.mtu.Load())+ethHeader+vlanTag || len(frame) > smallFrame && kmem.Full() {
		e.rxDropped.Add(1)
		return
	}
	eth := header.Ethernet(frame)
	if eth.SourceAddress() == e.LinkAddress() {
		return // its own, come back from a group
	}
	e.received(len(frame))
	kind, pktType := unix.PACKET_HOST, tcpip.PacketHost
	switch dst := eth.DestinationAddress(); {
	case dst == header.EthernetBroadcastAddress:
		kind, pktType = unix.PACKET_BROADCAST, tcpip.PacketBroadcast
	case header.IsMulticastEthernetAddress(dst):
		kind, pktType = unix.PACKET_MULTICAST, tcpip.PacketMulticast
	case dst != e.LinkAddress():
		if !e.promisc.Load() {
			return
		}
		kind, pktType = unix.PACKET_OTHERHOST, tcpip.PacketOtherHost
	}
	tapFrame(e, frame, kind)
	if pktType == tcpip.PacketOtherHost {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	pkt.PktType = pktType
	if e.ParseHeader(pkt) {
		d.DeliverNetworkPacket(eth.Type(), pkt)
	}
	pkt.DecRef()
}

const (
	// smallFrame is what comes in when there is no memory for more: acknowledgements make some free.
	smallFrame = 128

	vlanTag = 4
	zeroMAC = tcpip.LinkAddress("\x00\x00\x00\x00\x00\x00")
)

var _ stack.LinkEndpoint = (*endpoint)(nil)
