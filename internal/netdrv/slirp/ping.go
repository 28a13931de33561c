package slirp

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// pingIdle is how long the socket of a ping is kept.
const pingIdle = 30 * time.Second

// pings are the pings of the guest that are out.
type pings struct {
	mu     sync.Mutex
	flows  map[pingKey]*os.File
	denied sync.Once
}

// pingKey is who pings whom, and the number of the series.
type pingKey struct {
	guest, to tcpip.Address
	id        uint16
}

// ping takes an ICMP message of the guest; false leaves it to the stack, which answers for the router. An echo request for
// somebody in the world is sent by a socket that the host has for this (icmp(7): net.ipv4.ping_group_range), if it lets us.
func (n *Net) ping(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4Echo {
		return false
	}
	ip := header.IPv4(pkt.NetworkHeader().Slice())
	key := pingKey{ip.SourceAddress(), ip.DestinationAddress(), h.Ident()}
	if !worldly(addr(key.to)) {
		return false
	}
	v := pkt.Data().AsRange().ToView()
	defer v.Release()
	msg := append([]byte(nil), h...)
	msg = append(msg, v.AsSlice()...)
	n.pings.mu.Lock()
	defer n.pings.mu.Unlock()
	f := n.pings.flows[key]
	if f == nil {
		if len(n.pings.flows) >= maxPings || n.ctx.Err() != nil {
			return true
		}
		var err error
		if f, err = pingSocket(key.to); err != nil {
			n.pings.denied.Do(func() {
				klog.Warnf("user network: no ping: %v (the host's net.ipv4.ping_group_range says who may)", err)
			})
			return true
		}
		if n.pings.flows == nil {
			n.pings.flows = map[pingKey]*os.File{}
		}
		n.pings.flows[key] = f
		go n.pongs(key, f)
	}
	_ = f.SetReadDeadline(time.Now().Add(pingIdle))
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), msg, unix.MSG_DONTWAIT, nil) }) // lost, as on a wire
	}
	return true
}

func pingSocket(to tcpip.Address) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "ping"), nil
}

// pongs carries the answers to a series of pings.
func (n *Net) pongs(key pingKey, f *os.File) {
	defer context.AfterFunc(n.ctx, func() { f.Close() })()
	buf := make([]byte, 65536)
	for {
		k, err := f.Read(buf)
		if err != nil {
			break
		}
		h := header.ICMPv4(buf[:k])
		if k < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4EchoReply {
			continue
		}
		h.SetIdent(key.id) // the host has a number of its own
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(h, 0))
		n.sendICMP(key, h)
	}
	n.pings.mu.Lock()
	delete(n.pings.flows, key)
	n.pings.mu.Unlock()
	f.Close()
}

// sendICMP sends the guest a message in the name of who was pinged.
func (n *Net) sendICMP(key pingKey, msg []byte) {
	r, err := n.stack.FindRoute(nic, key.to, key.guest, ipv4.ProtocolNumber, false)
	if err != nil {
		return
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(msg),
	})
	defer pkt.DecRef()
	_ = r.WritePacket(stack.NetworkHeaderParams{Protocol: header.ICMPv4ProtocolNumber, TTL: r.DefaultTTL()}, pkt)
}
