package netlink

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

type sink struct{}

func (sink) Open(func([]byte)) error { return nil }
func (sink) Close()                  {}
func (sink) Send([]byte) bool        { return true }

func open(t testing.TB, protocol int) (*vfstest.Caller, *Socket) {
	t.Helper()
	c := vfstest.NoFS()
	f, err := socket.New(c, unix.AF_NETLINK, unix.SOCK_RAW, protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.DecRef)
	s, _ := socket.Of(f)
	return c, s.(*Socket)
}

// TestUnread asks for lists and reads no answer: what waits is bounded, and the socket hears of it.
func TestUnread(t *testing.T) {
	was := kmem.Bytes()
	c, s := open(t, unix.NETLINK_ROUTE)
	var m builder
	for range 1000 {
		m.begin(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 7, 0)
		m.b = append(m.b, 0, 0, 0, 0)
		m.end()
	}
	for range 20 {
		if _, err := s.Send(c, &socket.Msg{}, uio.FromBytes(m.b)); err != nil {
			t.Fatal(err)
		}
	}
	if n := kmem.Bytes() - was; n > 1<<20 {
		t.Errorf("%d bytes wait", n)
	}
	if err := s.TakeError(); err != unix.ENOBUFS {
		t.Errorf("error %v", err)
	}
	s.Close()
	if n := kmem.Bytes() - was; n > 8<<10 {
		t.Errorf("%d bytes are left", n)
	}
}

// answer is one message that came back.
type answer struct {
	header
	body []byte
}

// ask sends a message and returns all answers.
func ask(t testing.TB, c *vfstest.Caller, s *Socket, typ, flags uint16, build func(m *builder)) (l []answer) {
	t.Helper()
	var m builder
	m.begin(typ, flags|unix.NLM_F_REQUEST, 7, 0)
	build(&m)
	m.end()
	if _, err := s.Send(c, &socket.Msg{}, uio.FromBytes(m.b)); err != nil {
		t.Fatal(err)
	}
	for {
		p := make([]byte, 1<<16)
		n, err := s.Recv(c, &socket.Msg{Flags: unix.MSG_DONTWAIT}, uio.ToBytes(p))
		if err == unix.EAGAIN {
			return l
		}
		if err != nil {
			t.Fatal(err)
		}
		for b := p[:n]; len(b) > 0; {
			h, body, rest, ok := next(b)
			if !ok || h.seq != 7 {
				t.Fatalf("%x", b)
			}
			l = append(l, answer{h, body})
			b = rest
		}
	}
}

// code is the errno of the one answer.
func code(t *testing.T, l []answer) unix.Errno {
	t.Helper()
	if len(l) != 1 || l[0].typ != unix.NLMSG_ERROR {
		t.Fatalf("%+v", l)
	}
	return unix.Errno(-int32(ne.Uint32(l[0].body)))
}

func ifaddr(index int, ip string, bits uint8) func(m *builder) {
	return func(m *builder) {
		a := netip.MustParseAddr(ip)
		m.raw(familyOf(a), bits, 0, 0)
		m.raw32(uint32(index))
		m.attr(unix.IFA_LOCAL, a.AsSlice())
	}
}

func TestRoute(t *testing.T) {
	index, err := inet.Attach("eth5", sink{}, [6]byte{2, 0, 0, 0, 0, 5}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	c, s := open(t, unix.NETLINK_ROUTE)
	_, listener := open(t, unix.NETLINK_ROUTE)
	if err := listener.Bind(c, encode(0, 1<<(unix.RTNLGRP_LINK-1)|1<<(unix.RTNLGRP_IPV4_IFADDR-1))); err != nil {
		t.Fatal(err)
	}
	link := func(flags, mask uint32) func(m *builder) {
		return func(m *builder) {
			m.raw(0, 0, 0, 0)
			m.raw32(uint32(index))
			m.raw32(flags)
			m.raw32(mask)
		}
	}
	if e := code(t, ask(t, c, s, unix.RTM_NEWADDR, unix.NLM_F_ACK, ifaddr(index, "10.5.0.1", 24))); e != 0 {
		t.Fatal(e)
	}
	if e := code(t, ask(t, c, s, unix.RTM_NEWADDR, unix.NLM_F_ACK, ifaddr(index, "10.5.0.1", 24))); e != unix.EEXIST {
		t.Fatal(e)
	}
	if e := code(t, ask(t, c, s, unix.RTM_NEWADDR, unix.NLM_F_ACK, ifaddr(index, "10.5.0.1", 33))); e != unix.EINVAL {
		t.Fatal(e)
	}
	if e := code(t, ask(t, c, s, unix.RTM_NEWLINK, unix.NLM_F_ACK, link(unix.IFF_UP, unix.IFF_UP))); e != 0 {
		t.Fatal(e)
	}
	l := ask(t, c, s, unix.RTM_GETLINK, unix.NLM_F_DUMP, link(0, 0))
	if len(l) != 3 || l[0].typ != unix.RTM_NEWLINK || l[2].typ != unix.NLMSG_DONE || l[0].flags != unix.NLM_F_MULTI {
		t.Fatalf("%+v", l)
	}
	a, err := parse(l[1].body, sizeIfinfo)
	if err != nil || a.name(unix.IFLA_IFNAME) != "eth5" || len(a[unix.IFLA_STATS64]) != 200 || ne.Uint32(l[1].body[8:])&unix.IFF_UP == 0 {
		t.Errorf("%v %+v", err, a)
	}
	l = ask(t, c, s, unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m *builder) { m.raw(unix.AF_INET, 0, 0, 0, 0, 0, 0, 0) })
	if len(l) != 2 {
		t.Fatalf("%+v", l)
	}
	gw := func(m *builder) {
		m.raw(unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, 0, unix.RTN_UNICAST, 0, 0, 0, 0)
		m.attr(unix.RTA_GATEWAY, []byte{10, 5, 0, 254})
	}
	if e := code(t, ask(t, c, s, unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, gw)); e != 0 {
		t.Fatal(e)
	}
	l = ask(t, c, s, unix.RTM_GETROUTE, 0, func(m *builder) {
		m.raw(unix.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		m.attr(unix.RTA_DST, []byte{8, 8, 8, 8})
	})
	if len(l) != 1 {
		t.Fatalf("%+v", l)
	}
	if a, err = parse(l[0].body, sizeRtmsg); err != nil || string(a[unix.RTA_GATEWAY]) != "\x0a\x05\x00\xfe" || string(a[unix.RTA_PREFSRC]) != "\x0a\x05\x00\x01" {
		t.Errorf("%v %+v", err, a)
	}
	if e := code(t, ask(t, c, s, unix.RTM_DELROUTE, unix.NLM_F_ACK, gw)); e != 0 {
		t.Fatal(e)
	}
	if e := code(t, ask(t, c, s, unix.RTM_DELROUTE, unix.NLM_F_ACK, gw)); e != unix.ESRCH {
		t.Fatal(e)
	}
	if e := code(t, ask(t, c, s, unix.RTM_GETRULE+100, 0, gw)); e != unix.EOPNOTSUPP {
		t.Fatal(e)
	}
	inet.SetFlags(index, 0, unix.IFF_UP)
	if err := inet.Detach(index); err != nil {
		t.Fatal(err)
	}
	// The listener heard of addresses and the link, in order.
	want := []uint16{unix.RTM_NEWADDR, unix.RTM_NEWLINK, unix.RTM_NEWLINK, unix.RTM_DELADDR, unix.RTM_DELLINK}
	for _, typ := range want {
		m, ok := listener.take(false)
		if h, _, _, _ := next(m.data); !ok || h.typ != typ {
			t.Errorf("heard of %d, want %d", h.typ, typ)
		}
	}
}

func TestUevent(t *testing.T) {
	c, s := open(t, unix.NETLINK_KOBJECT_UEVENT)
	if err := s.Bind(c, encode(0, 1)); err != nil {
		t.Fatal(err)
	}
	s.SetSocketOption(c, unix.SO_PASSCRED, socket.PutInt32(1))
	Uevent([]byte("add@/devices/x\x00ACTION=add\x00"))
	p := make([]byte, 100)
	m := &socket.Msg{WantAddr: true, WantControl: true}
	n, err := s.Recv(c, m, uio.ToBytes(p))
	if err != nil || n != 26 || ne.Uint32(m.Addr[8:]) != 1 || len(m.Cmsgs) != 1 {
		t.Fatal(n, err, m)
	}
	// From one program to others, as udevd does.
	_, o := open(t, unix.NETLINK_KOBJECT_UEVENT)
	if err := o.Bind(c, encode(0, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(c, &socket.Msg{Addr: encode(0, 2)}, uio.FromBytes([]byte("libudev"))); err != nil {
		t.Fatal(err)
	}
	if m, ok := o.take(false); !ok || string(m.data) != "libudev" || m.from != s.pid {
		t.Error(m, ok)
	}
}

func FuzzMessages(f *testing.F) {
	var m builder
	m.begin(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1, 0)
	m.raw(make([]byte, sizeIfinfo)...)
	m.attrString(unix.IFLA_IFNAME, "lo")
	m.end()
	f.Add(uint8(0), m.b)
	m = builder{}
	m.begin(diagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1, 0)
	m.raw(append([]byte{unix.AF_INET, unix.IPPROTO_TCP}, make([]byte, sizeDiagReq-2)...)...)
	m.end()
	f.Add(uint8(1), m.b)
	for _, typ := range []uint16{unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.RTM_NEWNEIGH, unix.RTM_SETLINK} {
		m = builder{}
		m.begin(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, 0)
		ifaddr(1, "10.0.0.1", 24)(&m)
		m.end()
		f.Add(uint8(0), m.b)
	}
	f.Fuzz(func(t *testing.T, protocol uint8, b []byte) {
		c, s := open(t, []int{unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT}[protocol%3])
		s.Send(c, &socket.Msg{}, uio.FromBytes(b))
		for {
			m, ok := s.take(false)
			if !ok {
				return
			}
			if _, _, _, ok := next(m.data); !ok {
				t.Fatalf("%x", m.data)
			}
		}
	})
}
