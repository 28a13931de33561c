package netdrv

import (
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestParse looks for clear errors.
func TestParse(t *testing.T) {
	for spec, want := range map[string]string{
		"tuntap,tap0":                        "",
		"tuntap,,fe:fd:0:0:0:1,10.0.0.1":     "",
		"tuntap,,,":                          "",
		"tuntap,,,,":                         "too many arguments",
		"tuntap,,,host":                      "not an IPv4 address of the host",
		"tuntap. 192":                        "unknown transport",
		"daemon":                             "",
		"daemon,,unix,/run/x":                "",
		"daemon,,inet,/run/x":                "sockets of type",
		"mcast":                              "",
		"mcast,,10.0.0.1":                    "not a multicast address",
		"mcast,,,99999":                      "not a port",
		"mcast,,,1102,300":                   "not a TTL",
		"ucast,,127.0.0.1":                   "",
		"ucast":                              "not an IPv4 address",
		"slirp":                              "",
		"slirp,,/usr/bin/slirp,-x":           "",
		"user":                               "",
		"user,fe:fd:0:0:0:1,loopback":        "",
		"user,,hostfwd=tcp::8080-:80":        "",
		"user,hostfwd=tcp:8080-:80":          "use hostfwd=",
		"user,hostfwd=tcp::8080-10.0.0.1:80": "use hostfwd=",
		"user,loopbak":                       "use eth<n>=user",
		"vde":                                "not there yet",
		"":                                   "unknown transport",
	} {
		_, err := parseEth(spec)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("eth0=%s: %v", spec, err)
		}
	}
	for spec, want := range map[string]string{
		"transport=tap,ifname=tap0":  "",
		"transport=bess,dst=/run/x":  "",
		"transport=bess":             "needs dst",
		"transport=fd,fd=3,mtu=9000": "",
		"transport=fd,mtu=10":        "not a MTU",
		"transport=gre":              "not there yet",
		"transport=x":                "unknown transport",
		"tap":                        "not <key>=<value>",
	} {
		_, err := parseVec(spec)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("vec0:%s: %v", spec, err)
		}
	}
	if mac := chooseMAC("eth0", "3f:2a:bb:00:00:00"); mac[0] != 0xfe {
		t.Error("a multicast address is accepted")
	}
	if mac := chooseMAC("eth0", "fe:fd:0:0:0:1"); mac != [6]byte{0xfe, 0xfd, 0, 0, 0, 1} {
		t.Error(mac)
	}
}

// collect opens a link and returns what it hands over.
func collect(t *testing.T, l *link) chan string {
	t.Helper()
	t.Cleanup(l.End)
	got := make(chan string, 16)
	l.Open(func(f []byte) { got <- string(f) })
	return got
}

func want(t *testing.T, got chan string, s string) {
	t.Helper()
	select {
	case f := <-got:
		if f != s {
			t.Fatalf("%q, want %q", f, s)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no frame; want %q", s)
	}
}

// TestSwitch plays uml_switch: it reads a request of version 3 and answers with its data socket.
func TestSwitch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctl")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(data)
	un := make([]byte, sizeUn)
	binary.NativeEndian.PutUint16(un, unix.AF_UNIX)
	copy(un[3:], "switch-"+filepath.Base(filepath.Dir(path)))
	if err := bindUn(data, un); err != nil {
		t.Fatal(err)
	}
	asked := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		req := make([]byte, 200)
		n, _ := c.Read(req)
		c.Write(un[:50])
		c.Write(un[50:])
		asked <- req[:n]
		c.Read(req) // until the port goes
	}()
	l, err := daemon(path)
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, l)
	req := <-asked
	if len(req) != sizeRequest || binary.NativeEndian.Uint32(req) != switchMagic || binary.NativeEndian.Uint32(req[4:]) != 3 {
		t.Fatalf("%x", req)
	}
	if !l.Send([]byte("out")) {
		t.Fatal("not sent")
	}
	buf := make([]byte, 100)
	if n, err := unix.Read(data, buf); err != nil || string(buf[:n]) != "out" {
		t.Fatal(n, err)
	}
	if err := connectUn(data, req[12:]); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(data, []byte("in")); err != nil {
		t.Fatal(err)
	}
	want(t, got, "in")
	l.Close()
	unix.Write(data, []byte("down"))
	l.End()
	if l.Send([]byte("x")) {
		t.Error("sent after the end")
	}
	if _, err := daemon(path + "none"); err == nil || !strings.Contains(err.Error(), "control connect failed") {
		t.Error(err)
	}
}

// TestUcast connects two ends.
func TestUcast(t *testing.T) {
	free := func() uint16 {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	x, y := netip.AddrPortFrom(ip, free()), netip.AddrPortFrom(ip, free())
	none := func(int) error { return nil }
	a, err := udpLink(x, y, none)
	if err != nil {
		t.Fatal(err)
	}
	gotA := collect(t, a)
	a.Send([]byte("nobody")) // the error that comes back does not end the link
	b, err := udpLink(y, x, none)
	if err != nil {
		t.Fatal(err)
	}
	gotB := collect(t, b)
	a.Send(nil) // an empty datagram is no frame, and does not end the link either
	a.Send([]byte("to b"))
	want(t, gotB, "to b")
	b.Send([]byte("to a"))
	want(t, gotA, "to a")
}

// TestBess connects with a socket of messages, and passes a descriptor.
func TestBess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bess")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l, err := bess("", path)
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, l)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("frame"))
	want(t, got, "frame")
	l.Send([]byte("back"))
	buf := make([]byte, 10)
	if n, _ := c.Read(buf); string(buf[:n]) != "back" {
		t.Error(n)
	}
	if _, err := inherited("99999"); err == nil {
		t.Error("no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tuntap,tap0,fe:fd:0:0:0:1,10.0.0.1")
	f.Add("transport=fd,fd=3,mac=1:2:3:4:5:6,mtu=1500")
	f.Fuzz(func(_ *testing.T, s string) {
		parseEth(s)
		parseVec(s)
		chooseMAC("eth0", s)
	})
}

// TestBurst sends more frames than the host takes at once, as to a switch, and has more sent than the stack takes at once:
// nothing is lost, and all comes in order.
func TestBurst(t *testing.T) {
	const n = 500
	number := func(f []byte) int { return int(binary.NativeEndian.Uint32(f)) }
	path := filepath.Join(t.TempDir(), "switch")
	sw, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	out, err := newLink(fd, write)
	if err != nil {
		t.Fatal(err)
	}
	defer out.End()
	frame := make([]byte, 1514)
	for i := range n {
		binary.NativeEndian.PutUint32(frame, uint32(i))
		if !out.Send(frame) {
			t.Fatalf("frame %d is not taken", i)
		}
	}
	sw.SetReadDeadline(time.Now().Add(20 * time.Second))
	for i := range n {
		if _, err := sw.Read(frame); err != nil || number(frame) != i {
			t.Fatalf("frame %d came as %d: %v", number(frame), i, err)
		}
	}

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	in, err := newLink(pair[0], write)
	if err != nil {
		t.Fatal(err)
	}
	defer in.End()
	busy, got := make(chan bool), make(chan int, n)
	in.Open(func(f []byte) { <-busy; got <- number(f) })
	unix.SetsockoptTimeval(pair[1], unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 20})
	for i := range n {
		binary.NativeEndian.PutUint32(frame, uint32(i))
		if _, err := unix.Write(pair[1], frame); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	close(busy)
	for i := range n {
		if k := <-got; k != i {
			t.Fatalf("frame %d came as %d", k, i)
		}
	}
}
