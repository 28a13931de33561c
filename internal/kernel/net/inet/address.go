package inet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Sizes of addresses (ip(7), ipv6(7)); a struct sockaddr_in6 may come without its scope.
const (
	sizeIn4    = 16
	sizeIn6    = 28
	sizeIn6Old = 24
)

// endpointAddr is a decoded struct sockaddr_in or sockaddr_in6.
type endpointAddr struct {
	family uint16
	ip     netip.Addr
	port   uint16
	scope  uint32
}

// decodeAddr decodes an address: EINVAL if it is too short, EAFNOSUPPORT for other families. AF_UNSPEC is decoded as
// AF_INET and keeps its family; the caller decides.
func decodeAddr(sa []byte) (a endpointAddr, err error) {
	if len(sa) < 2 {
		return a, unix.EINVAL
	}
	a.family = binary.NativeEndian.Uint16(sa)
	switch a.family {
	case unix.AF_INET, unix.AF_UNSPEC:
		if len(sa) < sizeIn4 {
			return a, unix.EINVAL
		}
		a.port = binary.BigEndian.Uint16(sa[2:])
		a.ip = netip.AddrFrom4([4]byte(sa[4:8]))
	case unix.AF_INET6:
		if len(sa) < sizeIn6Old {
			return a, unix.EINVAL
		}
		a.port = binary.BigEndian.Uint16(sa[2:])
		a.ip = netip.AddrFrom16([16]byte(sa[8:24]))
		if len(sa) >= sizeIn6 {
			a.scope = binary.NativeEndian.Uint32(sa[24:])
		}
	default:
		return a, unix.EAFNOSUPPORT
	}
	return a, nil
}

// scoped reports whether an address only means something on one device.
func scoped(ip netip.Addr) bool {
	return ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast())
}

// stackAddr is an address as the stack has it: nothing for "any".
func stackAddr(ip netip.Addr) tcpip.Address {
	if !ip.IsValid() || ip.IsUnspecified() {
		return tcpip.Address{}
	}
	return plainAddr(ip)
}

// plainAddr is an address as the stack has it, also for 0.0.0.0.
func plainAddr(ip netip.Addr) tcpip.Address {
	if ip.Is4() {
		return tcpip.AddrFrom4(ip.As4())
	}
	return tcpip.AddrFrom16(ip.As16())
}

// fromStack is an address of the stack; the zero Addr for "any".
func fromStack(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// full is the address for a call of the stack. On a socket of AF_INET6 the IPv4 "any" is a mapped address.
func (a endpointAddr) full(v6 bool) tcpip.FullAddress {
	f := tcpip.FullAddress{Addr: stackAddr(a.ip), Port: a.port}
	if v6 && a.family == unix.AF_INET {
		f.Addr = tcpip.AddrFrom16(netip.AddrFrom16(a.ip.As16()).As16())
	}
	if scoped(a.ip) {
		f.NIC = tcpip.NICID(a.scope)
	}
	return f
}

// encodeAddr makes the sockaddr that a socket of a family shows.
func encodeAddr(v6 bool, a tcpip.FullAddress) []byte {
	ip := fromStack(a.Addr)
	if !v6 {
		b := make([]byte, sizeIn4)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port)
		if ip = ip.Unmap(); ip.Is4() {
			copy(b[4:], ip.AsSlice())
		}
		return b
	}
	b := make([]byte, sizeIn6)
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port)
	if ip.IsValid() {
		ip16 := ip.As16()
		copy(b[8:], ip16[:])
	}
	if scoped(ip) {
		binary.NativeEndian.PutUint32(b[24:], uint32(a.NIC))
	}
	return b
}

// loopbackOf is the loopback address of a family.
func loopbackOf(v6 bool) tcpip.Address {
	if v6 {
		return header.IPv6Loopback
	}
	return tcpip.AddrFrom4([4]byte{127, 0, 0, 1})
}
