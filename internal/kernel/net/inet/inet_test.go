package inet

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// wire is a Link whose frames the test sees.
type wire struct {
	in  func([]byte)
	out chan []byte
}

func (w *wire) Open(in func([]byte)) error { w.in = in; return nil }
func (w *wire) Close()                     { w.in = nil }
func (w *wire) Send(f []byte) bool {
	select {
	case w.out <- append([]byte(nil), f...):
		return true
	default:
		return false
	}
}

// next is the next frame of an EtherType.
func (w *wire) next(t *testing.T, typ uint16) []byte {
	t.Helper()
	for {
		select {
		case f := <-w.out:
			if binary.BigEndian.Uint16(f[12:]) == typ {
				return f
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no frame of type %04x", typ)
		}
	}
}

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
)

func in4(ip string, port uint16) []byte {
	b := make([]byte, sizeIn4)
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	binary.BigEndian.PutUint16(b[2:], port)
	a := netip.MustParseAddr(ip).As4()
	copy(b[4:], a[:])
	return b
}

func attach(t *testing.T, name string) (int, *wire) {
	t.Helper()
	w := &wire{out: make(chan []byte, 64)}
	index, err := Attach(name, w, [6]byte{0xfe, 0xfd, 0, 0, 0, 1}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		SetFlags(index, 0, unix.IFF_UP)
		if err := Detach(index); err != nil {
			t.Error(err)
		}
	})
	return index, w
}

func addr(s string) Addr {
	return Addr{Prefix: netip.MustParsePrefix(s), Valid: Forever, Preferred: Forever}
}

// TestEthernet sends a datagram through a device: it asks for the neighbour by ARP, then sends, and receives the answer.
func TestEthernet(t *testing.T) {
	c := vfstest.NoFS()
	index, w := attach(t, "eth9")
	if err := AddAddr(index, addr("10.9.0.1/24"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := Lookup(netip.MustParseAddr("10.9.0.2")); err != unix.ENETUNREACH {
		t.Error("a device that is down has a route:", err)
	}
	if err := SetFlags(index, unix.IFF_UP, unix.IFF_UP); err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(c, unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Send(c, &socket.Msg{Addr: in4("10.9.0.2", 7)}, uio.FromBytes([]byte("ping"))); err != nil {
		t.Fatal(err)
	}
	arp := w.next(t, typeARP)
	if string(arp[38:42]) != "\x0a\x09\x00\x02" {
		t.Fatalf("ARP request for %x", arp[38:42])
	}
	reply := append([]byte{}, arp...)
	peer := []byte{0xfe, 0xfd, 0, 0, 0, 2}
	copy(reply, arp[6:12])
	copy(reply[6:], peer)
	reply[21] = 2
	copy(reply[22:], peer)
	copy(reply[28:], arp[38:42])
	copy(reply[32:], arp[22:32])
	w.in(reply)
	f := w.next(t, typeIPv4)
	if string(f[:6]) != string(peer) || !strings.HasSuffix(string(f), "ping") {
		t.Fatalf("%x", f)
	}
	// Answer: addresses and ports exchanged. The checksums stay right, as they are sums of words.
	back := append([]byte{}, f...)
	copy(back, f[6:12])
	copy(back[6:], f[:6])
	copy(back[26:], f[30:34])
	copy(back[30:], f[26:30])
	copy(back[34:], f[36:38])
	copy(back[36:], f[34:36])
	w.in(back)
	p := make([]byte, 10)
	m := &socket.Msg{WantAddr: true, Flags: unix.MSG_DONTWAIT}
	n, err := s.Recv(c, m, uio.ToBytes(p))
	if err != nil || string(p[:n]) != "ping" || string(m.Addr) != string(in4("10.9.0.2", 7)) {
		t.Fatal(n, err, m.Addr)
	}
	if n := Neighbors(); len(n) != 1 || n[0].IP.String() != "10.9.0.2" || string(n[0].MAC) != string(peer) {
		t.Error(n)
	}
	d, _ := ByIndex(index)
	if d.Stats.RxPackets != 2 || d.Stats.TxPackets < 2 {
		t.Errorf("%+v", d.Stats)
	}
	// Frames that are nobody's business, and broken ones.
	back[5]++
	w.in(back)
	for i := range back {
		w.in(back[:i])
	}
	if d, _ := ByIndex(index); d.Stats.RxDropped != 14 {
		t.Errorf("%+v", d.Stats)
	}
}

// TestPacketSocket sees and sends frames.
func TestPacketSocket(t *testing.T) {
	c := vfstest.NoFS()
	index, w := attach(t, "eth9")
	if err := SetFlags(index, unix.IFF_UP, unix.IFF_UP); err != nil {
		t.Fatal(err)
	}
	fam, err := socket.New(c, unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := socket.Of(fam)
	s := x.(*packetSocket)
	defer fam.DecRef()
	ll := make([]byte, sizeLL)
	binary.NativeEndian.PutUint16(ll, unix.AF_PACKET)
	binary.BigEndian.PutUint16(ll[2:], typeARP)
	binary.NativeEndian.PutUint32(ll[4:], uint32(index))
	if err := s.Bind(c, ll); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 60)
	copy(frame, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x08\x06")
	w.in(frame)
	if ev := s.Readiness(wait.In); ev != wait.In {
		t.Error(ev)
	}
	p := make([]byte, 100)
	m := &socket.Msg{WantAddr: true}
	if n, err := s.Recv(c, m, uio.ToBytes(p)); n != 60 || err != nil || m.Addr[10] != unix.PACKET_BROADCAST || m.Addr[17] != 9 {
		t.Fatal(n, err, m.Addr)
	}
	frame[13] = 0 // IPv4, which it did not ask for
	w.in(frame)
	if _, err := s.Recv(c, &socket.Msg{Flags: unix.MSG_DONTWAIT}, uio.ToBytes(p)); err != unix.EAGAIN {
		t.Error(err)
	}
	frame[13] = 0x99
	if n, err := s.Send(c, &socket.Msg{}, uio.FromBytes(frame)); n != 60 || err != nil {
		t.Fatal(n, err)
	}
	if got := w.next(t, 0x0899); len(got) != 60 {
		t.Error(len(got))
	}
	if _, err := s.Send(c, &socket.Msg{}, uio.FromBytes(make([]byte, 1600))); err != unix.EMSGSIZE {
		t.Error(err)
	}
	if _, err := s.Send(c, &socket.Msg{}, uio.FromBytes(frame[:5])); err != unix.EINVAL {
		t.Error(err)
	}
}

// TestRoutes adds and removes addresses and routes.
func TestRoutes(t *testing.T) {
	index, _ := attach(t, "eth9")
	route := func(dst, gw string) Route {
		r := Route{Dst: netip.MustParsePrefix(dst), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST}
		if gw != "" {
			r.Gateway = netip.MustParseAddr(gw)
		} else {
			r.Dev = index
		}
		return r
	}
	check := func(got, want error) {
		t.Helper()
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(AddRoute(route("0.0.0.0/0", ""), false), unix.ENETDOWN)
	check(AddAddr(index, addr("10.9.0.1/24"), false), nil)
	check(AddAddr(index, addr("10.9.0.1/24"), false), unix.EEXIST)
	check(AddAddr(99, addr("10.9.0.1/24"), false), unix.ENODEV)
	check(AddAddr(index, addr("224.0.0.1/24"), false), unix.EADDRNOTAVAIL)
	check(SetFlags(index, unix.IFF_UP, unix.IFF_UP), nil)
	check(AddRoute(route("0.0.0.0/0", "10.8.0.1"), false), unix.ENETUNREACH)
	check(AddRoute(route("0.0.0.0/0", "10.9.0.254"), false), nil)
	check(AddRoute(route("0.0.0.0/0", "10.9.0.253"), false), unix.EEXIST)
	check(AddRoute(route("0.0.0.0/0", "10.9.0.253"), true), nil)
	r, err := Lookup(netip.MustParseAddr("8.8.8.8"))
	if check(err, nil); r.Gateway.String() != "10.9.0.253" || r.PrefSrc.String() != "10.9.0.1" {
		t.Errorf("%+v", r)
	}
	check(SetMAC(index, [6]byte{2}), unix.EBUSY)
	check(SetName(index, "eth8"), unix.EBUSY)
	check(SetMTU(index, 10), unix.EINVAL)
	check(Detach(index), unix.EBUSY)
	check(AddAddr(index, addr("10.9.0.7/24"), false), nil)
	check(DelAddr(index, netip.MustParseAddr("10.9.0.1"), 24), nil) // and the second one with it
	if d, _ := ByIndex(index); len(d.Addrs) != 1 || !d.Addrs[0].Prefix.Addr().Is6() {
		t.Errorf("%+v", d.Addrs)
	}
	check(SetFlags(index, 0, unix.IFF_UP), nil)
	for _, r := range Routes() {
		if r.Dev == index {
			t.Errorf("left: %+v", r)
		}
	}
	check(SetName(index, "no/name"), unix.EINVAL)
	check(SetName(index, "lo"), unix.EEXIST)
}

// TestLoopback connects over lo, and not before it is up.
func TestLoopback(t *testing.T) {
	c := vfstest.NoFS()
	s, err := newSocket(c, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	SetFlags(loopbackIndex, 0, unix.IFF_UP)
	if err := s.Bind(c, in4("127.0.0.1", 0)); err != unix.EADDRNOTAVAIL {
		t.Error("bind while lo is down:", err)
	}
	if err := SetLoopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(c, in4("127.0.0.1", 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(c, 1); err != nil {
		t.Fatal(err)
	}
	name, _ := s.Name(c)
	x, _ := newSocket(c, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := x.Connect(c, name, false); err != nil {
		t.Fatal(err)
	}
	got, err := s.Accept(c, false)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := x.Send(c, &socket.Msg{}, uio.FromBytes([]byte("hello"))); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	p := make([]byte, 5)
	if n, err := got.Recv(c, &socket.Msg{Flags: unix.MSG_WAITALL}, uio.ToBytes(p)); n != 5 || err != nil || string(p) != "hello" {
		t.Fatal(n, err, p)
	}
	if l := Sockets(); len(l) < 3 {
		t.Error(l)
	}
	x.Close()
	if n, err := got.Recv(c, &socket.Msg{}, uio.ToBytes(p)); n != 0 || err != nil {
		t.Error(n, err)
	}
	got.Close()
}

// TestMemory fills connections that nobody accepts, and closes them: what they hold counts, and ends at the limit.
func TestMemory(t *testing.T) {
	c := vfstest.NoFS()
	if err := SetLoopbackUp(); err != nil {
		t.Fatal(err)
	}
	l, err := newSocket(c, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Bind(c, in4("127.0.0.1", 0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(c, 1000); err != nil {
		t.Fatal(err)
	}
	name, _ := l.Name(c)
	kmem.SetLimit(16 << 20)
	defer kmem.SetLimit(0)
	data, total := make([]byte, 1<<20), 0
	for range 500 {
		s, err := newSocket(c, unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(c, name, false); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			var n int
			n, err = s.Send(c, &socket.Msg{Flags: unix.MSG_DONTWAIT}, uio.FromBytes(data))
			total += n
		}
		s.Close()
		if err == unix.ENOBUFS {
			break
		}
		if total > 256<<20 {
			t.Fatalf("%d bytes were taken", total)
		}
		memory.next = time.Time{} // whatever the speed of the machine
		CountMemory()
	}
	if !kmem.Full() {
		t.Errorf("%d bytes were taken, and %d are counted", total, kmem.Bytes())
	}
	l.Close()
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"))
	f.Add([]byte("\xfe\xfd\x00\x00\x00\x01\x02\x00\x00\x00\x00\x09\x08\x00\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x09\x00\x02\x0a\x09\x00\x01"))
	w := &wire{out: make(chan []byte, 1)}
	index, err := Attach("eth7", w, [6]byte{0xfe, 0xfd, 0, 0, 0, 1}, 1500)
	if err != nil {
		f.Fatal(err)
	}
	AddAddr(index, addr("10.9.0.1/24"), false)
	SetFlags(index, unix.IFF_UP, unix.IFF_UP)
	f.Fuzz(func(t *testing.T, frame []byte) { w.in(frame) })
}
