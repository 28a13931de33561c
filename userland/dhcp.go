package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a DHCP client has to know of the layout of messages (RFC 2131 2, RFC 2132).
const (
	dhcpCookie   = 0x63825363
	dhcpFixed    = 240 // bytes before the options
	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpAck      = 5
	dhcpNak      = 6

	optMask, optRouter, optDNS, optDomain  = 1, 3, 6, 15
	optAddress, optLease, optType, optFrom = 50, 51, 53, 54
	optWanted, optEnd                      = 55, 255
	dhcpServerPort, dhcpClientPort         = 67, 68
	ipHeader, udpHeader                    = 20, 8
)

// resolvConf is what udhcpc writes the name servers to.
var resolvConf = "/etc/resolv.conf"

// udhcpc asks for an address by DHCP, sets it with its route and name servers, and ends: leases are not renewed. -i is the
// interface (eth0), -t how often to ask (5), -T the seconds between (3).
func udhcpc(args []string) int {
	o, rest, err := getopt(args, "i:t:T:nqf")
	if err != nil {
		return fail(err)
	}
	if len(rest) > 0 {
		return usage("[-i DEV] [-t TRIES] [-T SECONDS]")
	}
	name, tries, pause := "eth0", 5, 3
	if v, ok := o['i']; ok {
		name = v
	}
	for letter, to := range map[byte]*int{'t': &tries, 'T': &pause} {
		if v, ok := o[letter]; ok {
			if *to, err = strconv.Atoi(v); err != nil || *to < 1 || *to > 1e6 {
				return fail(fmt.Errorf("-%c %s is not a possible number", letter, v))
			}
		}
	}
	l, err := device(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fail(err)
	}
	c, err := newDHCPClient(l, time.Duration(pause)*time.Second)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(c.fd)
	lease, err := c.ask(tries)
	if err == nil {
		err = lease.set(l)
	}
	if err != nil {
		return fail(err)
	}
	fmt.Fprintf(stdout, "lease of %s from %s obtained, lease time %d\n", lease.address, lease.option(optFrom), lease.seconds())
	return 0
}

// dhcpClient is a client on an interface that has no address yet: it sends and receives packets as they are on the wire.
type dhcpClient struct {
	fd    int
	index int
	mac   net.HardwareAddr
	xid   [4]byte
	pause time.Duration
}

func newDHCPClient(l netlink.Link, pause time.Duration) (*dhcpClient, error) {
	c := &dhcpClient{index: l.Attrs().Index, mac: l.Attrs().HardwareAddr, pause: pause}
	if len(c.mac) != 6 {
		return nil, fmt.Errorf("%s is not an Ethernet", l.Attrs().Name)
	}
	rand.Read(c.xid[:])
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: c.index}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.fd = fd
	return c, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// ask gets a lease.
func (c *dhcpClient) ask(tries int) (*lease, error) {
	for range tries {
		offer, err := c.exchange(dhcpDiscover, nil, dhcpOffer)
		if err != nil {
			return nil, err
		}
		if offer == nil {
			continue
		}
		ack, err := c.exchange(dhcpRequest, offer, dhcpAck, dhcpNak)
		if err != nil {
			return nil, err
		}
		if ack != nil && ack.kind() == dhcpAck {
			return ack, nil
		}
	}
	return nil, errors.New("no lease: no answer of a DHCP server")
}

// exchange sends a message and waits for an answer of one of the kinds; nil if none comes.
func (c *dhcpClient) exchange(kind byte, offer *lease, answers ...byte) (*lease, error) {
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: c.index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(c.fd, c.packet(kind, offer), 0, to); err != nil {
		return nil, err
	}
	buf := make([]byte, 65536)
	for end := time.Now().Add(c.pause); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil, nil
		}
		tv := unix.NsecToTimeval(max(int64(left), 1000))
		if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l := c.answer(buf[:n]); l != nil && bytes.IndexByte(answers, l.kind()) >= 0 {
			return l, nil
		}
	}
}

// packet is an IP packet to all with a message.
func (c *dhcpClient) packet(kind byte, offer *lease) []byte {
	m := make([]byte, dhcpFixed, 300)
	m[0], m[1], m[2] = 1, 1, 6 // a request, over Ethernet
	copy(m[4:], c.xid[:])
	m[10] = 0x80 // answers to all: the address is not set yet
	copy(m[28:], c.mac)
	binary.BigEndian.PutUint32(m[236:], dhcpCookie)
	option := func(code byte, v ...byte) { m = append(append(m, code, byte(len(v))), v...) }
	option(optType, kind)
	if offer != nil {
		option(optAddress, offer.address...)
		option(optFrom, offer.option(optFrom)...)
	}
	option(optWanted, optMask, optRouter, optDNS, optDomain)
	m = append(m, optEnd)
	m = append(m, make([]byte, max(0, 300-len(m)))...)

	p := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(m))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(cap(p)))
	copy(p[16:], net.IPv4bcast.To4())
	binary.BigEndian.PutUint16(p[10:], checksum(p[:ipHeader]))
	u := p[ipHeader:]
	binary.BigEndian.PutUint16(u, dhcpClientPort)
	binary.BigEndian.PutUint16(u[2:], dhcpServerPort)
	binary.BigEndian.PutUint16(u[4:], uint16(udpHeader+len(m))) // no checksum, as IPv4 allows
	return append(p, m...)
}

// checksum is that of the Internet.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// answer is what an IP packet has for this client; nil if nothing.
func (c *dhcpClient) answer(p []byte) *lease {
	if len(p) < ipHeader || p[0]>>4 != 4 || p[9] != unix.IPPROTO_UDP {
		return nil
	}
	header := int(p[0]&15) * 4
	if header < ipHeader || len(p) < header+udpHeader+dhcpFixed || binary.BigEndian.Uint16(p[header+2:]) != dhcpClientPort {
		return nil
	}
	m := p[header+udpHeader:]
	if m[0] != 2 || !bytes.Equal(m[4:8], c.xid[:]) || !bytes.Equal(m[28:34], c.mac) || binary.BigEndian.Uint32(m[236:]) != dhcpCookie {
		return nil
	}
	l := &lease{address: bytes.Clone(m[16:20]), options: map[byte][]byte{}}
	for o := m[dhcpFixed:]; len(o) > 1 && o[0] != optEnd; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			return nil
		}
		l.options[o[0]] = bytes.Clone(o[2 : 2+o[1]])
		o = o[2+o[1]:]
	}
	return l
}

// lease is an offer of a server, or its acknowledgement.
type lease struct {
	address net.IP
	options map[byte][]byte
}

// option is an option that is an address; 0.0.0.0 without it.
func (l *lease) option(code byte) net.IP {
	if v := l.options[code]; len(v) >= 4 {
		return net.IP(v[:4])
	}
	return net.IPv4zero.To4()
}

func (l *lease) kind() byte {
	if v := l.options[optType]; len(v) == 1 {
		return v[0]
	}
	return 0
}

func (l *lease) seconds() uint32 {
	if v := l.options[optLease]; len(v) == 4 {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// set gives the interface what was leased.
func (l *lease) set(link netlink.Link) error {
	mask := net.IPMask(l.options[optMask])
	if ones, bits := mask.Size(); len(mask) != 4 || ones == 0 && bits == 0 {
		mask = l.address.DefaultMask()
	}
	n := &net.IPNet{IP: l.address, Mask: mask}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: n, Broadcast: lastOf(n)}); err != nil {
		return fmt.Errorf("address %s: %w", n, err)
	}
	if gw := l.option(optRouter); !gw.IsUnspecified() {
		all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: gw}); err != nil {
			return fmt.Errorf("route via %s: %w", gw, err)
		}
	}
	var text strings.Builder
	if d := l.options[optDomain]; len(d) > 0 && !bytes.ContainsAny(d, " \t\n\x00") {
		fmt.Fprintf(&text, "search %s\n", d)
	}
	for v := l.options[optDNS]; len(v) >= 4; v = v[4:] {
		fmt.Fprintf(&text, "nameserver %s\n", net.IP(v[:4]))
	}
	if text.Len() == 0 {
		return nil
	}
	return os.WriteFile(resolvConf, []byte(text.String()), 0o644)
}
