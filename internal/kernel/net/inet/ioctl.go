package inet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Layout of struct ifreq: a name and a union (netdevice(7)).
const (
	ifreqSize = 40
	ifreqData = unix.IFNAMSIZ
)

// Ioctls that x/sys lacks (linux/sockios.h).
const (
	siocSIFNAME = 0x8923
	siocEthtool = 0x8946
	siocGARP    = 0x8954
	siocSARP    = 0x8955
	siocDARP    = 0x8953
)

func init() { socket.DeviceIoctl = deviceIoctl }

// deviceIoctl has the ioctls of netdevice(7), and those of routes and ARP for IPv4.
func deviceIoctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case unix.SIOCGIFCONF:
		return 0, ifconf(c, arg)
	case unix.SIOCADDRT, unix.SIOCDELRT:
		return 0, routeIoctl(c, cmd == unix.SIOCADDRT, arg)
	case siocGARP, siocSARP, siocDARP:
		return 0, arpIoctl(c, cmd, arg)
	}
	if cmd < unix.SIOCGIFNAME || cmd > unix.SIOCSIFMAP {
		return 0, unix.ENOTTY
	}
	var b [ifreqSize]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return 0, err
	}
	if cmd == unix.SIOCGIFNAME {
		d, ok := ByIndex(int(int32(binary.NativeEndian.Uint32(b[ifreqData:]))))
		if !ok {
			return 0, unix.ENODEV
		}
		clear(b[:ifreqData])
		copy(b[:NameMax], d.Name)
		return 0, uio.WriteFull(c.Mem(), b[:], arg)
	}
	b[NameMax] = 0
	label := unix.ByteSliceToString(b[:ifreqData])
	name, _, alias := strings.Cut(label, ":")
	d, ok := ByName(name)
	if !ok {
		return 0, unix.ENODEV
	}
	data := b[ifreqData:]
	if getIfreq(&d, cmd, label, alias, data) {
		return 0, uio.WriteFull(c.Mem(), b[:], arg)
	}
	switch cmd {
	case unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR, unix.SIOCGIFDSTADDR:
		return 0, unix.EADDRNOTAVAIL
	}
	return 0, setIfreq(c, &d, cmd, label, alias, data)
}

// primary is the IPv4 address that ioctls mean: the first, or that of an alias.
func primary(d *Info, label string, alias bool) *Addr {
	for i := range d.Addrs {
		a := &d.Addrs[i]
		if a.Prefix.Addr().Is4() && (!alias || a.Label == label) {
			return a
		}
	}
	return nil
}

// putIn4 stores a struct sockaddr_in.
func putIn4(b []byte, ip netip.Addr) {
	clear(b[:sizeIn4])
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	if ip.Is4() {
		copy(b[4:], ip.AsSlice())
	}
}

func maskOf(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], ^uint32(0)<<(32-n))
	return netip.AddrFrom4(b)
}

// getIfreq answers what only reads.
func getIfreq(d *Info, cmd uint32, label string, alias bool, data []byte) bool {
	ne := binary.NativeEndian
	a := primary(d, label, alias)
	switch cmd {
	case unix.SIOCGIFFLAGS:
		ne.PutUint16(data, uint16(d.Flags))
	case unix.SIOCGIFMTU:
		ne.PutUint32(data, uint32(d.MTU))
	case unix.SIOCGIFINDEX:
		ne.PutUint32(data, uint32(d.Index))
	case unix.SIOCGIFTXQLEN:
		ne.PutUint32(data, uint32(d.TxQueue))
	case unix.SIOCGIFMETRIC:
		ne.PutUint32(data, 0)
	case unix.SIOCGIFMAP:
		clear(data)
	case unix.SIOCGIFHWADDR:
		clear(data[:sizeIn4])
		ne.PutUint16(data, d.Type)
		copy(data[2:], d.MAC[:])
	case unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR, unix.SIOCGIFDSTADDR:
		if a == nil {
			return false
		}
		ip := a.Prefix.Addr()
		switch cmd {
		case unix.SIOCGIFNETMASK:
			ip = maskOf(a.Prefix.Bits())
		case unix.SIOCGIFBRDADDR:
			ip = a.Broadcast
		case unix.SIOCGIFDSTADDR:
			if a.Peer.IsValid() {
				ip = a.Peer
			}
		}
		putIn4(data, ip)
	default:
		return false
	}
	return true
}

// setIfreq carries out what changes a device.
func setIfreq(c vfs.Caller, d *Info, cmd uint32, label string, alias bool, data []byte) error {
	ne := binary.NativeEndian
	switch cmd {
	case siocEthtool:
		return unix.EOPNOTSUPP
	case unix.SIOCSIFFLAGS, unix.SIOCSIFMTU, unix.SIOCSIFHWADDR, unix.SIOCSIFTXQLEN, siocSIFNAME, unix.SIOCSIFADDR,
		unix.SIOCSIFNETMASK, unix.SIOCSIFBRDADDR, unix.SIOCSIFDSTADDR, unix.SIOCSIFMETRIC, unix.SIOCADDMULTI, unix.SIOCDELMULTI:
	default:
		return unix.ENOTTY
	}
	if !c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	switch cmd {
	case unix.SIOCSIFFLAGS:
		flags := uint32(ne.Uint16(data))
		if a := primary(d, label, alias); alias && flags&unix.IFF_UP == 0 && a != nil {
			return DelAddr(d.Index, a.Prefix.Addr(), a.Prefix.Bits())
		}
		return SetFlags(d.Index, flags, 0xffff)
	case unix.SIOCSIFMTU:
		return SetMTU(d.Index, int(int32(ne.Uint32(data))))
	case unix.SIOCSIFTXQLEN:
		return SetTxQueue(d.Index, int(int32(ne.Uint32(data))))
	case unix.SIOCSIFHWADDR:
		if ne.Uint16(data) != d.Type {
			return unix.EINVAL
		}
		return SetMAC(d.Index, [6]byte(data[2:8]))
	case siocSIFNAME:
		return SetName(d.Index, unix.ByteSliceToString(data[:NameMax+1]))
	case unix.SIOCSIFMETRIC, unix.SIOCADDMULTI, unix.SIOCDELMULTI:
		return unix.EOPNOTSUPP
	}
	if ne.Uint16(data) != unix.AF_INET {
		return unix.EINVAL
	}
	return setAddress(d, cmd, label, alias, address4(data[4:]))
}

// setAddress changes the primary IPv4 address, or a part of it.
func setAddress(d *Info, cmd uint32, label string, alias bool, ip netip.Addr) error {
	old := primary(d, label, alias)
	if cmd != unix.SIOCSIFADDR && old == nil {
		return unix.EADDRNOTAVAIL
	}
	a := Addr{Scope: unix.RT_SCOPE_UNIVERSE, Valid: Forever, Preferred: Forever}
	if old != nil {
		a = *old
	}
	switch cmd {
	case unix.SIOCSIFADDR:
		a.Prefix = netip.PrefixFrom(ip, classBits(ip))
		a.Peer, a.Broadcast, a.Flags = netip.Addr{}, netip.Addr{}, 0
		if d.Flags&unix.IFF_BROADCAST != 0 && a.Prefix.Bits() < 31 {
			a.Broadcast = lastOf(a.Prefix)
		}
		if d.Loopback {
			a.Scope = unix.RT_SCOPE_HOST
		}
		if a.Label = ""; alias {
			a.Label = label
		}
	case unix.SIOCSIFNETMASK:
		b := ip.As4()
		m := binary.BigEndian.Uint32(b[:])
		n := bits.OnesCount32(m)
		if m != 0 && m != ^uint32(0)<<(32-n) {
			return unix.EINVAL
		}
		was := a.Prefix
		a.Prefix = netip.PrefixFrom(a.Prefix.Addr(), n)
		if a.Broadcast.IsValid() && was.Bits() < 31 && a.Broadcast == lastOf(was) && n < 31 {
			a.Broadcast = lastOf(a.Prefix)
		}
	case unix.SIOCSIFBRDADDR:
		a.Broadcast = ip
	case unix.SIOCSIFDSTADDR:
		a.Peer = ip
	}
	if old != nil {
		if err := DelAddr(d.Index, old.Prefix.Addr(), old.Prefix.Bits()); err != nil {
			return err
		}
	}
	if cmd == unix.SIOCSIFADDR && ip.IsUnspecified() {
		return nil
	}
	return AddAddr(d.Index, a, false)
}

// classBits is the length of the network of an address by its class, as inet_abc_len.
func classBits(ip netip.Addr) int {
	switch b := ip.As4()[0]; {
	case ip.IsUnspecified():
		return 0
	case b < 128:
		return 8
	case b < 192:
		return 16
	case b < 224:
		return 24
	}
	return 32
}

// ifconf is SIOCGIFCONF: the devices with IPv4 addresses.
func ifconf(c vfs.Caller, arg uint64) error {
	var h [16]byte // struct ifconf
	if err := uio.ReadFull(c.Mem(), h[:], arg); err != nil {
		return err
	}
	room := int32(binary.NativeEndian.Uint32(h[:]))
	at := binary.NativeEndian.Uint64(h[8:])
	var out []byte
	for _, d := range Devices() {
		for _, a := range d.Addrs {
			if !a.Prefix.Addr().Is4() {
				continue
			}
			var b [ifreqSize]byte
			name := d.Name
			if a.Label != "" {
				name = a.Label
			}
			copy(b[:NameMax], name)
			putIn4(b[ifreqData:], a.Prefix.Addr())
			if at != 0 && len(out)+ifreqSize > int(room) {
				break
			}
			out = append(out, b[:]...)
		}
	}
	if at != 0 && len(out) > 0 {
		if err := uio.WriteFull(c.Mem(), out, at); err != nil {
			return err
		}
	}
	return uio.WriteFull(c.Mem(), socket.PutInt32(int32(len(out))), arg)
}

// Flags of struct rtentry (linux/route.h).
const (
	rtfGateway = 2
	rtfHost    = 4
	rtfMTU     = 0x40
	rtfReject  = 0x200
)

// routeIoctl is SIOCADDRT and SIOCDELRT with a struct rtentry.
func routeIoctl(c vfs.Caller, add bool, arg uint64) error {
	if !c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	var b [120]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	ne := binary.NativeEndian
	flags := ne.Uint16(b[56:])
	dst, gw, mask := address4(b[8+4:]), address4(b[24+4:]), address4(b[40+4:]).As4()
	m := binary.BigEndian.Uint32(mask[:])
	n := bits.OnesCount32(m)
	if ne.Uint16(b[8:]) != unix.AF_INET {
		return unix.EAFNOSUPPORT
	}
	if flags&rtfHost != 0 {
		n = 32
	} else if m != 0 && m != ^uint32(0)<<(32-n) {
		return unix.EINVAL
	}
	r := Route{Dst: netip.PrefixFrom(dst, n), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_LINK}
	if flags&rtfReject != 0 {
		return unix.EOPNOTSUPP
	}
	if r.Dst.Masked().Addr() != dst {
		return unix.EINVAL
	}
	if flags&rtfGateway != 0 && ne.Uint16(b[24:]) == unix.AF_INET && !gw.IsUnspecified() {
		r.Gateway, r.Scope = gw, unix.RT_SCOPE_UNIVERSE
	}
	if metric := int16(ne.Uint16(b[80:])); metric > 0 {
		r.Metric = uint32(metric) - 1
	}
	if flags&rtfMTU != 0 {
		r.MTU = uint32(min(ne.Uint64(b[96:]), 1<<16))
	}
	if at := ne.Uint64(b[88:]); at != 0 {
		var name [NameMax + 1]byte
		if n, err := c.Mem().ReadAt(name[:], at); n == 0 && err != nil {
			return unix.EFAULT
		}
		dev, _, _ := strings.Cut(unix.ByteSliceToString(name[:NameMax]), ":")
		d, ok := ByName(dev)
		if !ok {
			return unix.ENODEV
		}
		r.Dev = d.Index
	}
	if add {
		return AddRoute(r, false)
	}
	metric := ne.Uint16(b[80:])
	return DelRoute(func(x *Route) bool {
		return x.Dst == r.Dst && x.Table == r.Table && (r.Dev == 0 || x.Dev == r.Dev) && (!r.Gateway.IsValid() || x.Gateway == r.Gateway) &&
			(metric == 0 || x.Metric == r.Metric)
	})
}

// arpIoctl reads, adds or removes an entry of the ARP table: struct arpreq (arp(7)).
func arpIoctl(c vfs.Caller, cmd uint32, arg uint64) error {
	var b [68]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	if cmd != siocGARP && !c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	ne := binary.NativeEndian
	if ne.Uint16(b[:]) != unix.AF_INET {
		return unix.EPFNOSUPPORT
	}
	ip := address4(b[4:])
	dev := 0
	if name := unix.ByteSliceToString(b[52:]); name != "" {
		d, ok := ByName(name)
		if !ok {
			return unix.ENODEV
		}
		dev = d.Index
	} else if r, err := Lookup(ip); err == nil {
		dev = r.Dev
	}
	switch cmd {
	case siocSARP:
		return AddNeighbor(Neighbor{Dev: dev, IP: ip, MAC: b[18:24:24]})
	case siocDARP:
		return DelNeighbor(dev, ip)
	}
	for _, n := range Neighbors() {
		if n.Dev == dev && n.IP == ip {
			clear(b[16:32])
			ne.PutUint16(b[16:], unix.ARPHRD_ETHER)
			copy(b[18:], n.MAC)
			ne.PutUint32(b[32:], ARPFlags(n))
			d, _ := ByIndex(dev)
			clear(b[52:])
			copy(b[52:67], d.Name)
			return uio.WriteFull(c.Mem(), b[:], arg)
		}
	}
	return unix.ENXIO
}

// ARPFlags are the flags of a neighbour in /proc/net/arp: ATF_COM and ATF_PERM (linux/if_arp.h).
func ARPFlags(n Neighbor) uint32 {
	switch {
	case n.State&NUDPermanent != 0:
		return 2 | 4
	case len(n.MAC) > 0:
		return 2
	}
	return 0
}
