package slirp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const guestMAC = tcpip.LinkAddress("\xfe\xfd\x00\x00\x00\x01")

// newGuest is a guest's stack on a network.
func newGuest(t *testing.T, c Config) (*stack.Stack, *Net) {
	t.Helper()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4},
	})
	ep := channel.New(1024, mtu, guestMAC)
	if err := s.CreateNIC(nic, ethernet.New(ep)); err != nil {
		t.Fatal(err)
	}
	s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(Guest), PrefixLen: 24}}, stack.AddressProperties{})
	subnet := tcpip.AddressWithPrefix{Address: address(Guest), PrefixLen: 24}.Subnet()
	s.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nic}, {Destination: header.IPv4EmptySubnet, Gateway: address(Router), NIC: nic}})
	n.Open(func(frame []byte) {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(bytes.Clone(frame))})
		ep.InjectInbound(0, pkt)
		pkt.DecRef()
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for pkt := ep.ReadContext(ctx); pkt != nil; pkt = ep.ReadContext(ctx) {
			v := pkt.ToView()
			pkt.DecRef()
			n.Send(v.AsSlice())
			v.Release()
		}
	}()
	t.Cleanup(func() {
		cancel()
		n.End()
		s.Close()
	})
	return s, n
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a.Addr()), Port: a.Port()}
}

func dial(t *testing.T, s *stack.Stack, to netip.AddrPort) (*gonet.TCPConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := gonet.DialContextTCP(ctx, s, full(to), ipv4.ProtocolNumber)
	if err == nil {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// upper serves one connection at a time: it reads all, then answers it in capitals, and ends.
func upper(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(b))
		c.Close()
	}
}

// upperUDP answers datagrams likewise.
func upperUDP(l net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		k, from, err := l.ReadFrom(buf)
		if err != nil {
			return
		}
		l.WriteTo(bytes.ToUpper(buf[:k]), from)
	}
}

func localTCP(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// TestTCP sends more than all buffers hold, ends one direction, and reads the answer; and sees a refusal.
func TestTCP(t *testing.T) {
	l, port := localTCP(t)
	go upper(l)
	s, _ := newGuest(t, Config{Loopback: true})
	c, err := dial(t, s, netip.AddrPortFrom(Router, port))
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 3<<20)
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, bytes.ToUpper(text)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	l.Close()
	if _, err := dial(t, s, netip.AddrPortFrom(Router, port)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port on which nobody listens: %v", err)
	}
}

// TestSettle has a guest end a connection without taking what it was sent: the connection counts until it does.
func TestSettle(t *testing.T) {
	l, port := localTCP(t)
	answered := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write(make([]byte, 64<<10))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c) // until the guest's end has come through
		c.Close()
		close(answered)
	}()
	s, n := newGuest(t, Config{Loopback: true})
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 4096, Max: 4096})
	c, err := dial(t, s, netip.AddrPortFrom(Router, port))
	if err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	<-answered
	for range 20 {
		if time.Sleep(10 * time.Millisecond); n.conns.Load() != 1 {
			t.Fatalf("%d connections, with %d bytes that nobody has taken", n.conns.Load(), 64<<10)
		}
	}
	if k, err := io.Copy(io.Discard, c); k != 64<<10 || err != nil {
		t.Error(k, err)
	}
	for end := time.Now().Add(20 * time.Second); n.conns.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections at the end", n.conns.Load())
		}
	}
}

// TestLoopbackIsClosed looks that a guest does not get at the services that are for the host alone.
func TestLoopbackIsClosed(t *testing.T) {
	l, port := localTCP(t)
	go upper(l)
	s, n := newGuest(t, Config{})
	if _, err := dial(t, s, netip.AddrPortFrom(Router, port)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the router: %v", err)
	}
	for a, ok := range map[string]bool{
		"127.0.0.1:22": false, "127.9.9.9:53": false, "0.0.0.0:22": false, "10.0.2.2:22": false, "10.0.2.3:22": false, "10.0.2.99:1": false,
		"224.0.0.1:5353": false, "255.255.255.255:9": false, "240.0.0.1:1": false, "169.254.169.254:80": false, "10.0.3.1:22": true, "192.0.2.7:80": true,
	} {
		to, got := n.target(netip.MustParseAddrPort(a))
		if got != ok || ok && to.String() != a {
			t.Errorf("%s: %v %v", a, to, got)
		}
	}
}

// TestBroadcast sends to all hosts of a network of the host.
func TestBroadcast(t *testing.T) {
	c, err := dialUDP(netip.MustParseAddrPort("127.255.255.255:9"))
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
}

// TestUDP has datagrams carried there and back, in flows of their own.
func TestUDP(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go upperUDP(l)
	s, n := newGuest(t, Config{Loopback: true})
	to := full(netip.AddrPortFrom(Router, uint16(l.LocalAddr().(*net.UDPAddr).Port)))
	for i := range 3 {
		c, err := gonet.DialUDP(s, nil, &to, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		text := fmt.Sprintf("flow %d ", i) + strings.Repeat("x", i*4000) // the last ones are fragmented
		for range 2 {
			c.Write([]byte(text))
			buf := make([]byte, 65536)
			if k, err := c.Read(buf); err != nil || string(buf[:k]) != strings.ToUpper(text) {
				t.Fatalf("flow %d: %d bytes, %v", i, k, err)
			}
		}
	}
	if f := n.flows.Load(); f != 3 {
		t.Errorf("%d flows", f)
	}
}

// TestUDPRefused has the router refuse what it does not pass on.
func TestUDPRefused(t *testing.T) {
	s, _ := newGuest(t, Config{})
	to := full(netip.AddrPortFrom(Router, 9))
	c, err := gonet.DialUDP(s, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Write([]byte("x")); err != nil {
			if !strings.Contains(err.Error(), "refused") {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not refused")
		}
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, port := localTCP(t)
	l.Close()
	return port
}

// TestForward connects from the host to servers in the guest.
func TestForward(t *testing.T) {
	ports := []uint16{freePort(t), freePort(t), freePort(t)}
	var c Config
	for i, spec := range []string{"tcp::%d-:80", "udp:127.0.0.1:%d-10.0.2.15:53", ":0.0.0.0:%d-:81"} {
		f, err := ParseForward(fmt.Sprintf(spec, ports[i]))
		if err != nil {
			t.Fatal(err)
		}
		c.Forwards = append(c.Forwards, f)
	}
	s, n := newGuest(t, c)
	l, err := gonet.ListenTCP(s, full(netip.AddrPortFrom(Guest, 80)), ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go upper(l)
	call := func(port uint16) (string, error) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return "", err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write([]byte("hello"))
		c.(*net.TCPConn).CloseWrite()
		b, err := io.ReadAll(c)
		return string(b), err
	}
	if got, err := call(ports[0]); got != "HELLO" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := call(ports[2]); err == nil {
		t.Errorf("a port on which the guest does not listen: %q", got)
	}
	local := full(netip.AddrPortFrom(Guest, 53))
	u, err := gonet.DialUDP(s, &local, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go upperUDP(u)
	for _, text := range []string{"one", "two"} {
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", ports[1]))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write([]byte(text))
		buf := make([]byte, 100)
		if k, err := c.Read(buf); err != nil || string(buf[:k]) != strings.ToUpper(text) {
			t.Errorf("%q, %v", buf[:k], err)
		}
	}
	n.End()
	for deadline := time.Now().Add(20 * time.Second); n.flows.Load()+n.conns.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after the end: %d flows, %d connections", n.flows.Load(), n.conns.Load())
		}
	}
	if _, err := call(ports[0]); err == nil {
		t.Error("the port is still there after the end")
	}
}

func TestParseForward(t *testing.T) {
	f, err := ParseForward("tcp::8080-:80")
	if want := (Forward{"tcp", netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("10.0.2.15:80")}); err != nil || f != want {
		t.Errorf("%v, %v", f, err)
	}
	for _, s := range []string{"", "tcp", "tcp::80", "tcp::-:80", "tcp::0-:80", "tcp::70000-:80", "sctp::1-:1", "tcp:::1:1-:1", "tcp::1-10.0.3.1:1", "tcp:x:1-:1"} {
		if f, err := ParseForward(s); err == nil {
			t.Errorf("%q: %v", s, f)
		}
	}
}

// TestARP looks that nobody claims the guest's address or a free one.
func TestARP(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.End()
	got := make(chan netip.Addr, 8)
	n.Open(func(frame []byte) {
		if h := header.ARP(frame[header.EthernetMinimumSize:]); h.IsValid() && h.Op() == header.ARPReply {
			got <- netip.AddrFrom4([4]byte(h.ProtocolAddressSender()))
		}
	})
	for _, a := range []netip.Addr{Guest, netip.MustParseAddr("10.0.2.99"), netip.MustParseAddr("192.0.2.1"), DNS, Router} {
		frame := make([]byte, header.EthernetMinimumSize+header.ARPSize)
		header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
		h := header.ARP(frame[header.EthernetMinimumSize:])
		h.SetIPv4OverEthernet()
		h.SetOp(header.ARPRequest)
		copy(h.HardwareAddressSender(), guestMAC)
		copy(h.ProtocolAddressSender(), Guest.AsSlice())
		copy(h.ProtocolAddressTarget(), a.AsSlice())
		n.Send(frame)
	}
	for _, want := range []netip.Addr{DNS, Router} {
		select {
		case a := <-got:
			if a != want {
				t.Errorf("%v answers, not %v", a, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no answer from %v", want)
		}
	}
}

func TestResolver(t *testing.T) {
	old := resolvConf
	defer func() { resolvConf = old }()
	resolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	if r := resolver(); r.String() != "127.0.0.1:53" {
		t.Error(r)
	}
	for text, want := range map[string]string{
		"# x\nsearch a\nnameserver\nnameserver x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n": "192.0.2.1:53",
		"nameserver fe80::1%eth0\n": "[fe80::1%eth0]:53",
	} {
		if err := os.WriteFile(resolvConf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := resolver(); r.String() != want {
			t.Errorf("%q: %v", text, r)
		}
	}
}

// TestBusyPort has a clear error for a port that somebody has.
func TestBusyPort(t *testing.T) {
	_, port := localTCP(t)
	f, err := ParseForward(fmt.Sprintf("tcp::%d-:80", port))
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Forwards: []Forward{f}})
	var oe *net.OpError
	if !errors.As(err, &oe) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}
