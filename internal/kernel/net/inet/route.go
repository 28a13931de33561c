package inet

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// Route is a route as rtnetlink(7) has it.
type Route struct {
	Dst           netip.Prefix // masked
	Gateway       netip.Addr   // invalid for none
	Dev           int          // index of the device
	Metric, Table uint32
	Protocol      uint8 // RTPROT_*
	Scope, Type   uint8 // RT_SCOPE_*, RTN_*
	PrefSrc       netip.Addr
	OnLink        bool
	MTU           uint32
}

const maxRoutes = 16384

// same reports whether two routes cannot both be there.
func (r *Route) same(o *Route) bool {
	return r.Dst == o.Dst && r.Metric == o.Metric && r.Table == o.Table && (r.Dst.Addr().Is4() || r.Gateway == o.Gateway && r.Dev == o.Dev)
}

// Routes lists the routes of all tables: those that were added, and those to local addresses.
func Routes() []Route {
	config.mu.Lock()
	defer config.mu.Unlock()
	l := slices.Clone(config.routes)
	for _, d := range config.devices {
		if d.Up() {
			l = append(l, d.localRoutesLocked()...)
		}
	}
	return l
}

// localRoutesLocked are the entries of the table "local".
func (d *device) localRoutesLocked() (l []Route) {
	add := func(ip netip.Addr, bits int, typ, scope uint8, src netip.Addr) {
		r := Route{Dst: netip.PrefixFrom(ip, bits).Masked(), Dev: d.Index, Table: unix.RT_TABLE_LOCAL, Protocol: unix.RTPROT_KERNEL, Type: typ, Scope: scope, PrefSrc: src}
		if !slices.ContainsFunc(l, func(x Route) bool { return x.Dst == r.Dst && x.Type == r.Type }) {
			l = append(l, r)
		}
	}
	for _, a := range d.Addrs {
		ip := a.Prefix.Addr()
		if ip.Is6() {
			add(ip, 128, unix.RTN_LOCAL, unix.RT_SCOPE_UNIVERSE, netip.Addr{})
			continue
		}
		if d.Loopback {
			add(ip, a.Prefix.Bits(), unix.RTN_LOCAL, unix.RT_SCOPE_HOST, ip)
		}
		add(ip, 32, unix.RTN_LOCAL, unix.RT_SCOPE_HOST, ip)
		if a.Prefix.Bits() < 31 {
			add(lastOf(a.Prefix), 32, unix.RTN_BROADCAST, unix.RT_SCOPE_LINK, ip)
		}
	}
	if !d.Loopback && d.MTU >= minIPv6MTU {
		add(netip.AddrFrom16([16]byte{0xff}), 8, unix.RTN_MULTICAST, unix.RT_SCOPE_UNIVERSE, netip.Addr{})
		l[len(l)-1].Metric = 256
	}
	return l
}

// lastOf is the last address of an IPv4 network, to which broadcasts go.
func lastOf(p netip.Prefix) netip.Addr {
	ip := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		ip[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(ip)
}

// AddRoute adds a route: EEXIST, ENETUNREACH for a gateway that cannot be reached, ENETDOWN, ENODEV. Without a device it is
// that of the gateway. With replace an equal one is replaced; with excl cleared and append set another is put behind.
func AddRoute(r Route, replace bool) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	r.Dst = r.Dst.Masked()
	if r.Type != unix.RTN_UNICAST {
		return unix.EOPNOTSUPP
	}
	if r.Dev == 0 {
		if !r.Gateway.IsValid() {
			return unix.ENODEV
		}
		if r.Dev = deviceOfLocked(r.Gateway); r.Dev == 0 {
			return unix.ENETUNREACH
		}
	}
	d := byIndexLocked(r.Dev)
	switch {
	case d == nil:
		return unix.ENODEV
	case !d.Up():
		return unix.ENETDOWN
	case r.Gateway.IsValid() && !r.OnLink && !(r.Gateway.Is6() && r.Gateway.IsLinkLocalUnicast()) && deviceOfLocked(r.Gateway) != r.Dev:
		return unix.ENETUNREACH
	case r.PrefSrc.IsValid() && !localLocked(r.PrefSrc):
		return unix.EINVAL
	}
	if r.Dst.Addr().Is6() && r.Metric == 0 {
		r.Metric = 1024 // IP6_RT_PRIO_USER
	}
	if i := slices.IndexFunc(config.routes, func(x Route) bool { return x.same(&r) }); i >= 0 {
		if !replace {
			return unix.EEXIST
		}
		config.routes[i] = r
		changedLocked(Change{Route: &r})
		projectRoutesLocked()
		return nil
	}
	if len(config.routes) >= maxRoutes {
		return unix.ENOBUFS
	}
	insertRouteLocked(r)
	projectRoutesLocked()
	return nil
}

// localLocked reports whether an address is one of the guest's.
func localLocked(ip netip.Addr) bool {
	for _, d := range config.devices {
		for _, a := range d.Addrs {
			if a.Prefix.Addr() == ip || d.Loopback && ip.Is4() && a.Prefix.Contains(ip) {
				return true
			}
		}
	}
	return false
}

// deviceOfLocked is the device on whose network an address is, 0 for none.
func deviceOfLocked(ip netip.Addr) int {
	best, bits := 0, -1
	for _, r := range config.routes {
		if !r.Gateway.IsValid() && r.Dst.Contains(ip) && r.Dst.Bits() > bits {
			best, bits = r.Dev, r.Dst.Bits()
		}
	}
	return best
}

// insertRouteLocked adds a route unless it is there.
func insertRouteLocked(r Route) {
	if slices.ContainsFunc(config.routes, func(x Route) bool { return x.same(&r) }) {
		return
	}
	config.routes = append(config.routes, r)
	slices.SortStableFunc(config.routes, func(a, b Route) int {
		if a.Dst.Bits() != b.Dst.Bits() {
			return b.Dst.Bits() - a.Dst.Bits()
		}
		return cmp.Or(a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Metric, b.Metric))
	})
	changedLocked(Change{Route: &r})
}

// DelRoute removes the first route that match accepts: ESRCH. match is called with locks held.
func DelRoute(match func(*Route) bool) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	i := slices.IndexFunc(config.routes, func(r Route) bool { return match(&r) })
	if i < 0 {
		return unix.ESRCH
	}
	r := config.routes[i]
	config.routes = slices.Delete(config.routes, i, i+1)
	changedLocked(Change{Deleted: true, Route: &r})
	projectRoutesLocked()
	return nil
}

func dropRoutesLocked(match func(*Route) bool) {
	config.routes = slices.DeleteFunc(config.routes, func(r Route) bool {
		if !match(&r) {
			return false
		}
		changedLocked(Change{Deleted: true, Route: &r})
		return true
	})
}

// projectRoutesLocked gives the stack its route table. It takes the first route that fits, and config.routes is sorted so
// that this is the best one.
func projectRoutesLocked() {
	var t []tcpip.Route
	for _, r := range config.routes {
		if r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_DEFAULT {
			continue
		}
		t = append(t, tcpip.Route{Destination: subnet(r.Dst), Gateway: stackAddr(r.Gateway), NIC: tcpip.NICID(r.Dev), SourceHint: stackAddr(r.PrefSrc), MTU: r.MTU})
	}
	for _, d := range config.devices {
		if d.Up() && !d.Loopback {
			t = append(t, tcpip.Route{Destination: subnet(netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)), NIC: tcpip.NICID(d.Index)})
		}
	}
	theStack().SetRouteTable(t)
}

func subnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: plainAddr(p.Addr()), PrefixLen: p.Bits()}.Subnet()
}

// Lookup is the route that packets to an address take: ENETUNREACH.
func Lookup(dst netip.Addr) (Route, error) {
	config.mu.Lock()
	defer config.mu.Unlock()
	for _, d := range config.devices {
		if !d.Up() {
			continue
		}
		for _, r := range d.localRoutesLocked() {
			if r.Dst.Contains(dst) {
				r.Dst = netip.PrefixFrom(dst, dst.BitLen())
				if r.Type == unix.RTN_LOCAL {
					r.Dev = loopbackIndex
					if !r.PrefSrc.IsValid() || d.Loopback {
						r.PrefSrc = dst
					}
				}
				return r, nil
			}
		}
	}
	for _, r := range config.routes {
		if (r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_DEFAULT) && r.Dst.Contains(dst) {
			if !r.PrefSrc.IsValid() {
				r.PrefSrc = sourceLocked(r.Dev, dst)
			}
			return r, nil
		}
	}
	return Route{}, unix.ENETUNREACH
}

// loopbackIndex is the index of lo, the first device.
const loopbackIndex = 1

// sourceLocked is the address of a device that packets to dst have as source.
func sourceLocked(dev int, dst netip.Addr) (best netip.Addr) {
	d := byIndexLocked(dev)
	if d == nil {
		return best
	}
	for _, a := range d.Addrs {
		ip := a.Prefix.Addr()
		if ip.Is4() == dst.Is4() && (!best.IsValid() || a.Prefix.Contains(dst)) {
			best = ip
		}
	}
	return best
}
