package slirp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// senders are those on the host who send datagrams to a forwarded port.
type senders struct {
	net   *Net
	port  *net.UDPConn
	guest netip.AddrPort

	mu    sync.Mutex
	flows map[netip.AddrPort]*sender
}

// sender is one of them: its flow to the guest, and when that ends.
type sender struct {
	conn *gonet.UDPConn
	idle *time.Timer
}

func newSenders(n *Net, port *net.UDPConn, guest netip.AddrPort) *senders {
	return &senders{net: n, port: port, guest: guest, flows: map[netip.AddrPort]*sender{}}
}

func (s *senders) serve() {
	buf := make([]byte, 65536)
	for {
		k, from, err := s.port.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of an answer that found nobody
		}
		if f := s.flow(from); f != nil {
			f.idle.Reset(flowIdle)
			_, _ = f.conn.Write(buf[:k]) // lost, as on a wire
		}
	}
}

// flow is the flow of a sender; nil if there are too many.
func (s *senders) flow(from netip.AddrPort) *sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flows[from]; f != nil {
		return f
	}
	if !take(&s.net.flows, maxFlows) {
		return nil
	}
	conn, err := gonet.DialUDP(s.net.stack, &tcpip.FullAddress{NIC: nic, Addr: address(Router)},
		&tcpip.FullAddress{NIC: nic, Addr: address(s.guest.Addr()), Port: s.guest.Port()}, ipv4.ProtocolNumber)
	if err != nil {
		s.net.flows.Add(-1)
		return nil
	}
	f := &sender{conn, time.AfterFunc(flowIdle, func() { conn.Close() })}
	s.flows[from] = f
	go s.answers(from, f)
	return f
}

// answers carries what the guest sends back.
func (s *senders) answers(to netip.AddrPort, f *sender) {
	stop := context.AfterFunc(s.net.ctx, func() { f.conn.Close() })
	buf := make([]byte, 65536)
	for {
		k, err := f.conn.Read(buf)
		if err != nil {
			break
		}
		f.idle.Reset(flowIdle)
		_, _ = s.port.WriteToUDPAddrPort(buf[:k], to)
	}
	stop()
	s.mu.Lock()
	delete(s.flows, to)
	s.mu.Unlock()
	f.idle.Stop()
	f.conn.Close()
	s.net.flows.Add(-1)
}
