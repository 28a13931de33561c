package netdrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// tap opens a TAP device of the host; without a name the host chooses one.
func tap(name string) (*link, string, error) {
	dev, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}})
	if err != nil {
		if name == "" {
			name = "tap%d"
		}
		return nil, "", fmt.Errorf("TAP device %s: %w", name, err)
	}
	defer dev.Close()
	file, ok := dev.ReadWriteCloser.(*os.File)
	if !ok {
		return nil, "", fmt.Errorf("TAP device %s: not a file", dev.Name())
	}
	// A descriptor of ours, which helper programs do not inherit.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	l, err := newLink(fd, write)
	return l, dev.Name(), err
}

// setHostAddr gives a device of the host an address, and sets it up.
func setHostAddr(dev string, ip netip.Addr) error {
	l, err := netlink.LinkByName(dev)
	if err == nil {
		addr := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
		err = netlink.AddrReplace(l, &netlink.Addr{IPNet: addr})
	}
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("address of %s: %w", dev, err)
	}
	return nil
}

// setHostRoute makes or removes the host's route to an address of the guest behind a device. Without it the guest can send
// to the host, and gets no answer; that it cannot be made is no reason to refuse the guest its address. The guest chooses the
// address: a route that the host has already stays as it is.
func setHostRoute(dev string, ip netip.Addr, there bool) {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}}
	if there {
		err = netlink.RouteAdd(r)
	} else {
		err = netlink.RouteDel(r)
	}
	if err != nil && there {
		klog.Warnf("%s: no route to %s on the host: %v", dev, ip, err)
	}
}

// The control protocol of uml_switch: a request names the socket of the port, the answer that of the switch.
const (
	switchMagic   = 0xfeedface
	switchVersion = 3
	switchNewPort = 0
	sizeUn        = 110 // struct sockaddr_un
	sizeRequest   = 124 // with the padding that C has
	switchTimeout = 5 * time.Second
)

// switchSockets are where a switch listens if nothing else is said: Debian's, and that of the program itself.
var switchSockets = []string{"/var/run/uml-utilities/uml_switch.ctl", "/tmp/uml.ctl"}

// daemon connects with a uml_switch.
func daemon(path string) (*link, error) {
	ctl, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fail := func(what string, err error, fds ...int) (*link, error) {
		for _, fd := range append(fds, ctl) {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("daemon_open : %s %s: %w", path, what, err)
	}
	tv := unix.NsecToTimeval(int64(switchTimeout))
	unix.SetsockoptTimeval(ctl, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	unix.SetsockoptTimeval(ctl, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	if err := unix.Connect(ctl, &unix.SockaddrUnix{Name: path}); err != nil {
		return fail("control connect failed", err)
	}
	data, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("data socket", err)
	}
	req := make([]byte, sizeRequest)
	binary.NativeEndian.PutUint32(req, switchMagic)
	binary.NativeEndian.PutUint32(req[4:], switchVersion)
	binary.NativeEndian.PutUint32(req[8:], switchNewPort)
	un := req[12 : 12+sizeUn]
	binary.NativeEndian.PutUint16(un, unix.AF_UNIX)
	// The name is abstract, of full length, and begins with the process id and the time, as in UML.
	binary.NativeEndian.PutUint32(un[2+4:], uint32(os.Getpid()))
	binary.NativeEndian.PutUint32(un[2+8:], uint32(time.Now().UnixNano()/1000))
	if err := bindUn(data, un); err != nil {
		return fail("data bind failed", err, data)
	}
	if _, err := unix.Write(ctl, req); err != nil {
		return fail("control request failed", err, data)
	}
	reply := make([]byte, sizeUn)
	for n := 0; n < sizeUn; {
		k, err := unix.Read(ctl, reply[n:])
		if err == nil && k == 0 {
			err = errors.New("the switch closed the connection")
		}
		if err != nil {
			return fail("no answer", err, data)
		}
		n += k
	}
	if binary.NativeEndian.Uint16(reply) != unix.AF_UNIX {
		return fail("bad answer", unix.EPROTO, data)
	}
	if err := connectUn(data, reply); err != nil {
		return fail("data connect failed", err, data)
	}
	return newLink(data, write, ctl)
}

// udpLink is a UDP socket on a port that sends to one address.
func udpLink(bind netip.AddrPort, to netip.AddrPort, prepare func(fd int) error) (*link, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = prepare(fd)
	}
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(bind.Port()), Addr: bind.Addr().As4()}); err != nil {
			err = fmt.Errorf("bind to %v: %w", bind, err)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	dst := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	return newLink(fd, func(fd int, frame []byte) error { return unix.Sendto(fd, frame, unix.MSG_DONTWAIT, dst) })
}

// mcast joins a group on which each datagram is a frame. What a guest sends comes back to it, and is dropped above.
func mcast(group netip.AddrPort, ttl int) (*link, error) {
	return udpLink(group, group, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, ttl); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptIPMreq(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: group.Addr().As4()}); err != nil {
			return fmt.Errorf("joining %v: %w (the host needs a route for multicast)", group.Addr(), err)
		}
		return nil
	})
}

// bess connects with a socket of messages; src, if given, is the name of the own end.
func bess(src, dst string) (*link, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if src != "" {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: src})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: dst})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", dst, err)
	}
	return newLink(fd, write)
}

// inherited is a descriptor that the program was started with.
func inherited(s string) (*link, error) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("fd=%s: not a descriptor", s)
	}
	fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("fd=%d: %w", n, err)
	}
	return newLink(fd, write)
}
