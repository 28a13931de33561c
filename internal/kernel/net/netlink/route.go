package netlink

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

// Sizes of what stands before the attributes (rtnetlink(7)).
const (
	sizeIfinfo = unix.SizeofIfInfomsg
	sizeIfaddr = unix.SizeofIfAddrmsg
	sizeRtmsg  = unix.SizeofRtMsg
	sizeNdmsg  = unix.SizeofNdMsg
)

// route carries out a message of NETLINK_ROUTE.
func (r *request) route() error {
	const kindMask, get = 3, 2 // RTM_NEW, DEL, GET, SET of each object
	if (r.typ-unix.RTM_BASE)&kindMask != get && !r.c.Cred().Capable(unix.CAP_NET_ADMIN) {
		return unix.EPERM
	}
	switch r.typ {
	case unix.RTM_GETLINK:
		return r.getLink()
	case unix.RTM_NEWLINK, unix.RTM_SETLINK:
		return r.setLink()
	case unix.RTM_GETADDR:
		return r.getAddr()
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return r.changeAddr()
	case unix.RTM_GETROUTE:
		return r.getRoute()
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return r.changeRoute()
	case unix.RTM_GETNEIGH:
		return r.getNeigh()
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return r.changeNeigh()
	case unix.RTM_GETRULE:
		return r.getRule()
	case unix.RTM_GETQDISC, unix.RTM_GETTCLASS, unix.RTM_GETTFILTER:
		if r.dumps() {
			return r.done() // no queueing disciplines
		}
	}
	return unix.EOPNOTSUPP
}

// family is the first byte of every body.
func (r *request) family() uint8 {
	if len(r.body) == 0 {
		return unix.AF_UNSPEC
	}
	return r.body[0]
}

func familyOf(ip netip.Addr) uint8 {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// wants reports whether a list of a family (AF_UNSPEC for all) has an address.
func wants(family uint8, ip netip.Addr) bool {
	return family == unix.AF_UNSPEC || family == familyOf(ip)
}

func (r *request) getLink() error {
	if r.dumps() {
		if f := r.family(); f != unix.AF_BRIDGE {
			for _, d := range inet.Devices() {
				r.begin(unix.RTM_NEWLINK)
				putLink(&r.out, &d)
				r.out.end()
			}
		}
		return r.done()
	}
	d, err := r.device()
	if err != nil {
		return err
	}
	r.begin(unix.RTM_NEWLINK)
	putLink(&r.out, &d)
	r.out.end()
	return nil
}

// device is the interface that a struct ifinfomsg names: ENODEV.
func (r *request) device() (inet.Info, error) {
	a, err := parse(r.body, sizeIfinfo)
	if err != nil {
		return inet.Info{}, err
	}
	var d inet.Info
	ok := false
	const altName = 53 // IFLA_ALT_IFNAME
	switch index := int(int32(ne.Uint32(r.body[4:]))); {
	case index != 0:
		d, ok = inet.ByIndex(index)
	case a[unix.IFLA_IFNAME] != nil:
		d, ok = inet.ByName(a.name(unix.IFLA_IFNAME))
	case a[altName] != nil:
		d, ok = inet.ByName(a.name(altName))
	default:
		return d, unix.EINVAL
	}
	if !ok {
		return d, unix.ENODEV
	}
	return d, nil
}

// States of interfaces (RFC 2863, linux/if.h).
const (
	operUnknown = 0
	operDown    = 2
	operUp      = 6
)

// putLink adds what RTM_NEWLINK tells of an interface.
func putLink(m *builder, d *inet.Info) {
	m.raw(unix.AF_UNSPEC, 0)
	m.raw16(d.Type)
	m.raw32(uint32(d.Index))
	m.raw32(d.Flags)
	m.raw32(0)
	m.attrString(unix.IFLA_IFNAME, d.Name)
	m.attr32(unix.IFLA_TXQLEN, uint32(d.TxQueue))
	oper, carrier := uint8(operDown), uint8(0)
	qdisc := "noop"
	if d.Up() {
		oper, carrier, qdisc = operUp, 1, "pfifo_fast"
	}
	if d.Loopback {
		oper, carrier = operUnknown, 1
		if d.Up() {
			qdisc = "noqueue"
		} else {
			oper = operDown
		}
	}
	m.attr8(unix.IFLA_OPERSTATE, oper)
	m.attr8(unix.IFLA_LINKMODE, 0)
	m.attr32(unix.IFLA_MTU, uint32(d.MTU))
	m.attr32(unix.IFLA_GROUP, 0)
	m.attr32(unix.IFLA_PROMISCUITY, 0)
	m.attr32(unix.IFLA_NUM_TX_QUEUES, 1)
	m.attr32(unix.IFLA_NUM_RX_QUEUES, 1)
	m.attr8(unix.IFLA_CARRIER, carrier)
	m.attrString(unix.IFLA_QDISC, qdisc)
	m.attr(unix.IFLA_ADDRESS, d.MAC[:])
	bcast := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if d.Loopback {
		bcast = make([]byte, 6)
	}
	m.attr(unix.IFLA_BROADCAST, bcast)
	s := d.Stats
	var long, short []byte
	for _, v := range []uint64{s.RxPackets, s.TxPackets, s.RxBytes, s.TxBytes, 0, 0, s.RxDropped, s.TxDropped} {
		long, short = ne.AppendUint64(long, v), ne.AppendUint32(short, uint32(v))
	}
	// struct rtnl_link_stats64 and rtnl_link_stats have more counters, of errors that cannot be here.
	m.attr(unix.IFLA_STATS64, append(long, make([]byte, 25*8-len(long))...))
	m.attr(unix.IFLA_STATS, append(short, make([]byte, 24*4-len(short))...))
}

// setLink changes an interface. There are no interfaces that programs could make.
func (r *request) setLink() error {
	a, err := parse(r.body, sizeIfinfo)
	if err != nil {
		return err
	}
	d, err := r.device()
	if err != nil {
		if err == unix.ENODEV && r.flags&unix.NLM_F_CREATE != 0 {
			return unix.EOPNOTSUPP
		}
		return err
	}
	if r.has(unix.NLM_F_CREATE | unix.NLM_F_EXCL) {
		return unix.EEXIST
	}
	for typ := range a {
		switch typ {
		case unix.IFLA_MASTER, unix.IFLA_NET_NS_FD, unix.IFLA_NET_NS_PID, unix.IFLA_LINKINFO, unix.IFLA_XDP:
			return unix.EOPNOTSUPP
		}
	}
	flags, mask := ne.Uint32(r.body[8:]), ne.Uint32(r.body[12:])
	if mask == 0 && flags != 0 {
		mask = ^uint32(0)
	}
	if b := a[unix.IFLA_ADDRESS]; b != nil {
		if len(b) < 6 {
			return unix.EINVAL
		}
		if err := inet.SetMAC(d.Index, [6]byte(b)); err != nil {
			return err
		}
	}
	if v, ok, err := a.u32(unix.IFLA_MTU); err != nil {
		return err
	} else if ok {
		if err := inet.SetMTU(d.Index, int(int32(v))); err != nil {
			return err
		}
	}
	if v, ok, err := a.u32(unix.IFLA_TXQLEN); err != nil {
		return err
	} else if ok {
		if err := inet.SetTxQueue(d.Index, int(int32(v))); err != nil {
			return err
		}
	}
	if ne.Uint32(r.body[4:]) != 0 && a[unix.IFLA_IFNAME] != nil {
		if err := inet.SetName(d.Index, a.name(unix.IFLA_IFNAME)); err != nil {
			return err
		}
	}
	if mask != 0 {
		return inet.SetFlags(d.Index, flags, mask)
	}
	return nil
}

func (r *request) getAddr() error {
	if !r.dumps() {
		return unix.EOPNOTSUPP
	}
	family := r.family()
	index := 0
	if r.strict() && len(r.body) >= sizeIfaddr {
		index = int(int32(ne.Uint32(r.body[4:])))
	}
	for _, d := range inet.Devices() {
		for _, a := range d.Addrs {
			if wants(family, a.Prefix.Addr()) && (index == 0 || index == d.Index) {
				r.begin(unix.RTM_NEWADDR)
				putAddr(&r.out, d.Index, d.Name, &a)
				r.out.end()
			}
		}
	}
	return r.done()
}

// strict reports whether the socket asked that the bodies of lists are looked at (NETLINK_GET_STRICT_CHK).
func (r *request) strict() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.opts[unix.NETLINK_GET_STRICT_CHK]
}

// putAddr adds what RTM_NEWADDR tells of an address.
func putAddr(m *builder, index int, name string, a *inet.Addr) {
	ip := a.Prefix.Addr()
	m.raw(familyOf(ip), uint8(a.Prefix.Bits()), uint8(a.Flags), a.Scope)
	m.raw32(uint32(index))
	peer := ip
	if a.Peer.IsValid() {
		peer = a.Peer
	}
	m.attr(unix.IFA_ADDRESS, peer.AsSlice())
	if ip.Is4() || peer != ip {
		m.attr(unix.IFA_LOCAL, ip.AsSlice())
	}
	if a.Broadcast.IsValid() {
		m.attr(unix.IFA_BROADCAST, a.Broadcast.AsSlice())
	}
	if ip.Is4() {
		if a.Label != "" {
			name = a.Label
		}
		m.attrString(unix.IFA_LABEL, name)
	}
	m.attr32(unix.IFA_FLAGS, a.Flags)
	var b []byte
	for _, v := range []uint32{a.Preferred, a.Valid, 0, 0} { // struct ifa_cacheinfo
		b = ne.AppendUint32(b, v)
	}
	m.attr(unix.IFA_CACHEINFO, b)
}

func (r *request) changeAddr() error {
	a, err := parse(r.body, sizeIfaddr)
	if err != nil {
		return err
	}
	family, bits, scope := r.body[0], int(r.body[1]), r.body[3]
	index := int(int32(ne.Uint32(r.body[4:])))
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return unix.EAFNOSUPPORT
	}
	local, err := a.addr(unix.IFA_LOCAL, family)
	if err != nil {
		return err
	}
	peer, err := a.addr(unix.IFA_ADDRESS, family)
	if err != nil {
		return err
	}
	if !local.IsValid() {
		local = peer
	}
	bcast, err := a.addr(unix.IFA_BROADCAST, family)
	if err != nil || !local.IsValid() || bits > local.BitLen() {
		return unix.EINVAL
	}
	if r.typ == unix.RTM_DELADDR {
		return inet.DelAddr(index, local, bits)
	}
	n := inet.Addr{Prefix: netip.PrefixFrom(local, bits), Broadcast: bcast, Scope: scope, Flags: uint32(r.body[2]), Valid: inet.Forever, Preferred: inet.Forever}
	if peer.IsValid() && peer != local {
		n.Peer = peer
	}
	if l := a.name(unix.IFA_LABEL); l != "" && len(l) <= inet.NameMax {
		if d, ok := inet.ByIndex(index); ok && d.Name != l {
			n.Label = l
		}
	}
	if f, ok, err := a.u32(unix.IFA_FLAGS); err != nil {
		return err
	} else if ok {
		n.Flags = f
	}
	if b := a[unix.IFA_CACHEINFO]; len(b) >= 8 {
		n.Preferred, n.Valid = ne.Uint32(b), ne.Uint32(b[4:])
		if n.Valid == 0 || n.Preferred > n.Valid {
			return unix.EINVAL
		}
	}
	if family == unix.AF_INET6 {
		n.Scope = unix.RT_SCOPE_UNIVERSE
		if local.IsLinkLocalUnicast() {
			n.Scope = unix.RT_SCOPE_LINK
		}
	}
	return inet.AddAddr(index, n, r.has(unix.NLM_F_REPLACE))
}

func (r *request) getRoute() error {
	family := r.family()
	if !r.dumps() {
		return r.lookup()
	}
	if family == unix.AF_UNSPEC || family == unix.AF_INET || family == unix.AF_INET6 {
		for _, x := range inet.Routes() {
			if wants(family, x.Dst.Addr()) {
				r.begin(unix.RTM_NEWROUTE)
				putRoute(&r.out, &x)
				r.out.end()
			}
		}
	}
	return r.done()
}

// lookup answers how a packet would go ("ip route get").
func (r *request) lookup() error {
	a, err := parse(r.body, sizeRtmsg)
	if err != nil {
		return err
	}
	dst, err := a.addr(unix.RTA_DST, r.body[0])
	if err != nil || !dst.IsValid() {
		return unix.EINVAL
	}
	x, err := inet.Lookup(dst)
	if err != nil {
		return err
	}
	x.Dst = netip.PrefixFrom(dst, dst.BitLen())
	r.begin(unix.RTM_NEWROUTE)
	putRoute(&r.out, &x)
	r.out.end()
	return nil
}

// putRoute adds what RTM_NEWROUTE tells of a route.
func putRoute(m *builder, x *inet.Route) {
	ip := x.Dst.Addr()
	table := x.Table
	if table > 255 {
		table = 252 // RT_TABLE_COMPAT
	}
	m.raw(familyOf(ip), uint8(x.Dst.Bits()), 0, 0, uint8(table), x.Protocol, x.Scope, x.Type)
	flags := uint32(0)
	if x.OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	m.raw32(flags)
	m.attr32(unix.RTA_TABLE, x.Table)
	if x.Dst.Bits() > 0 {
		m.attr(unix.RTA_DST, ip.AsSlice())
	}
	if x.Metric != 0 {
		m.attr32(unix.RTA_PRIORITY, x.Metric)
	}
	if x.PrefSrc.IsValid() {
		m.attr(unix.RTA_PREFSRC, x.PrefSrc.AsSlice())
	}
	if x.Gateway.IsValid() {
		m.attr(unix.RTA_GATEWAY, x.Gateway.AsSlice())
	}
	if x.Dev != 0 {
		m.attr32(unix.RTA_OIF, uint32(x.Dev))
	}
	if x.MTU != 0 {
		end := m.nest(unix.RTA_METRICS)
		m.attr32(unix.RTAX_MTU, x.MTU)
		end()
	}
	if ip.Is6() {
		m.attr8(unix.RTA_PREF, 0)
	}
}

func (r *request) changeRoute() error {
	a, err := parse(r.body, sizeRtmsg)
	if err != nil {
		return err
	}
	family, bits := r.body[0], int(r.body[1])
	x := inet.Route{Table: uint32(r.body[4]), Protocol: r.body[5], Scope: r.body[6], Type: r.body[7], OnLink: ne.Uint32(r.body[8:])&unix.RTNH_F_ONLINK != 0}
	dst := netip.IPv4Unspecified()
	switch family {
	case unix.AF_INET:
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return unix.EAFNOSUPPORT
	}
	if ip, err := a.addr(unix.RTA_DST, family); err != nil {
		return err
	} else if ip.IsValid() {
		dst = ip
	}
	if bits > dst.BitLen() {
		return unix.EINVAL
	}
	x.Dst = netip.PrefixFrom(dst, bits)
	if x.Dst.Masked() != x.Dst {
		return unix.EINVAL
	}
	if x.Gateway, err = a.addr(unix.RTA_GATEWAY, family); err != nil {
		return err
	}
	if x.PrefSrc, err = a.addr(unix.RTA_PREFSRC, family); err != nil {
		return err
	}
	if x.Metric, _, err = a.u32(unix.RTA_PRIORITY); err != nil {
		return err
	}
	if t, ok, err := a.u32(unix.RTA_TABLE); err != nil {
		return err
	} else if ok {
		x.Table = t
	}
	if x.Table == unix.RT_TABLE_UNSPEC {
		x.Table = unix.RT_TABLE_MAIN
	}
	dev, _, err := a.u32(unix.RTA_OIF)
	if err != nil {
		return err
	}
	x.Dev = int(int32(dev))
	if m, ok := a[unix.RTA_METRICS]; ok {
		metrics, err := parse(m, 0)
		if err != nil {
			return err
		}
		if x.MTU, _, err = metrics.u32(unix.RTAX_MTU); err != nil {
			return err
		}
	}
	if a[unix.RTA_MULTIPATH] != nil || a[unix.RTA_ENCAP] != nil || a[unix.RTA_VIA] != nil {
		return unix.EOPNOTSUPP
	}
	if r.typ == unix.RTM_NEWROUTE {
		return inet.AddRoute(x, r.has(unix.NLM_F_REPLACE))
	}
	return inet.DelRoute(func(o *inet.Route) bool {
		return o.Dst == x.Dst && o.Table == x.Table && (x.Dev == 0 || o.Dev == x.Dev) && (!x.Gateway.IsValid() || o.Gateway == x.Gateway) &&
			(x.Metric == 0 || o.Metric == x.Metric) && (x.Protocol == 0 || o.Protocol == x.Protocol) &&
			(!x.PrefSrc.IsValid() || o.PrefSrc == x.PrefSrc) && (x.Type == 0 || o.Type == x.Type)
	})
}

func (r *request) getNeigh() error {
	if !r.dumps() {
		return unix.EOPNOTSUPP
	}
	family := r.family()
	for _, n := range inet.Neighbors() {
		if wants(family, n.IP) {
			r.begin(unix.RTM_NEWNEIGH)
			putNeigh(&r.out, &n)
			r.out.end()
		}
	}
	return r.done()
}

func putNeigh(m *builder, n *inet.Neighbor) {
	m.raw(familyOf(n.IP), 0, 0, 0)
	m.raw32(uint32(n.Dev))
	m.raw16(n.State)
	m.raw(0, unix.RTN_UNICAST)
	m.attr(unix.NDA_DST, n.IP.AsSlice())
	if len(n.MAC) > 0 {
		m.attr(unix.NDA_LLADDR, n.MAC)
	}
	m.attr(unix.NDA_CACHEINFO, make([]byte, 16))
}

func (r *request) changeNeigh() error {
	a, err := parse(r.body, sizeNdmsg)
	if err != nil {
		return err
	}
	family := r.body[0]
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return unix.EAFNOSUPPORT
	}
	ip, err := a.addr(unix.NDA_DST, family)
	if err != nil || !ip.IsValid() {
		return unix.EINVAL
	}
	dev := int(int32(ne.Uint32(r.body[4:])))
	if r.typ == unix.RTM_DELNEIGH {
		return inet.DelNeighbor(dev, ip)
	}
	return inet.AddNeighbor(inet.Neighbor{Dev: dev, IP: ip, MAC: a[unix.NDA_LLADDR]})
}

// getRule lists the rules that are always there: the tables local, main and default in turn.
func (r *request) getRule() error {
	if !r.dumps() {
		return unix.EOPNOTSUPP
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if f := r.family(); f != unix.AF_UNSPEC && f != family {
			continue
		}
		for _, rule := range []struct {
			prio  uint32
			table uint8
		}{{0, unix.RT_TABLE_LOCAL}, {32766, unix.RT_TABLE_MAIN}, {32767, unix.RT_TABLE_DEFAULT}} {
			if family == unix.AF_INET6 && rule.table == unix.RT_TABLE_DEFAULT {
				continue
			}
			r.begin(unix.RTM_NEWRULE)
			const toTable = 1 // FR_ACT_TO_TBL
			r.out.raw(family, 0, 0, 0, rule.table, 0, 0, toTable)
			r.out.raw32(0)
			r.out.attr32(unix.FRA_TABLE, uint32(rule.table))
			if rule.prio != 0 {
				r.out.attr32(unix.FRA_PRIORITY, rule.prio)
			}
			r.out.end()
		}
	}
	return r.done()
}

// changed tells those who listen of a change of the network. It is called with locks of inet held.
func changed(c inet.Change) {
	var m builder
	typ := func(add, del uint16) uint16 {
		if c.Deleted {
			return del
		}
		return add
	}
	group := 0
	six := func(ip netip.Addr, v4, v6 int) int {
		if ip.Is4() {
			return v4
		}
		return v6
	}
	switch {
	case c.Link != nil:
		group = unix.RTNLGRP_LINK
		m.begin(typ(unix.RTM_NEWLINK, unix.RTM_DELLINK), 0, 0, 0)
		putLink(&m, c.Link)
	case c.Addr != nil:
		group = six(c.Addr.Prefix.Addr(), unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
		m.begin(typ(unix.RTM_NEWADDR, unix.RTM_DELADDR), 0, 0, 0)
		putAddr(&m, c.Index, c.Name, c.Addr)
	case c.Route != nil:
		group = six(c.Route.Dst.Addr(), unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
		m.begin(typ(unix.RTM_NEWROUTE, unix.RTM_DELROUTE), 0, 0, 0)
		putRoute(&m, c.Route)
	}
	m.end()
	multicast(unix.NETLINK_ROUTE, message{data: m.b, group: group}, nil)
}
