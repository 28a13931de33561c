package inet

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Neighbor is what is known about the hardware address of a host on the network of a device.
type Neighbor struct {
	Dev   int
	IP    netip.Addr
	MAC   []byte // empty while it is being asked for
	State uint16 // NUD_*
}

// States of neighbours (linux/neighbour.h).
const (
	NUDIncomplete = 0x01
	NUDReachable  = 0x02
	NUDStale      = 0x04
	NUDDelay      = 0x08
	NUDProbe      = 0x10
	NUDFailed     = 0x20
	NUDNoARP      = 0x40
	NUDPermanent  = 0x80
)

var nudStates = map[stack.NeighborState]uint16{
	stack.Incomplete: NUDIncomplete, stack.Reachable: NUDReachable, stack.Stale: NUDStale, stack.Delay: NUDDelay,
	stack.Probe: NUDProbe, stack.Static: NUDPermanent, stack.Unreachable: NUDFailed,
}

// Neighbors lists the neighbours of all devices.
func Neighbors() (l []Neighbor) {
	for _, d := range Devices() {
		if d.Loopback || !d.Up() {
			continue
		}
		for _, v6 := range []bool{false, true} {
			entries, _ := theStack().Neighbors(tcpip.NICID(d.Index), netProto(v6))
			for _, e := range entries {
				l = append(l, Neighbor{d.Index, fromStack(e.Addr), []byte(e.LinkAddr), nudStates[e.State]})
			}
		}
	}
	return l
}

// AddNeighbor adds a permanent neighbour: ENODEV, ENETDOWN, EINVAL.
func AddNeighbor(n Neighbor) error {
	d, ok := ByIndex(n.Dev)
	switch {
	case !ok:
		return unix.ENODEV
	case !d.Up():
		return unix.ENETDOWN
	case d.Loopback || len(n.MAC) != 6 || !n.IP.IsValid():
		return unix.EINVAL
	}
	return errno(theStack().AddStaticNeighbor(tcpip.NICID(n.Dev), netProto(n.IP.Is6()), plainAddr(n.IP), tcpip.LinkAddress(n.MAC)))
}

// DelNeighbor removes a neighbour: ENOENT.
func DelNeighbor(dev int, ip netip.Addr) error {
	if d, ok := ByIndex(dev); !ok || !d.Up() || d.Loopback {
		return unix.ENOENT
	}
	if theStack().RemoveNeighbor(tcpip.NICID(dev), netProto(ip.Is6()), plainAddr(ip)) != nil {
		return unix.ENOENT
	}
	return nil
}
