package inet

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// NameMax is the longest name of a device (IFNAMSIZ without the 0).
const NameMax = unix.IFNAMSIZ - 1

// Limits of the MTU of Ethernet devices (if_ether.h: ETH_MIN_MTU, and what IPv4 can carry).
const (
	minMTU     = 68
	maxMTU     = 65521
	loopMTU    = 65536
	minIPv6MTU = 1280
)

// Addr is an address of a device.
type Addr struct {
	// Prefix has the address with all its bits and the length of its network.
	Prefix netip.Prefix
	// Peer is the other end of a point-to-point address, Broadcast that of its network; invalid for none.
	Peer, Broadcast netip.Addr
	Label           string // of an alias; "" is the name of the device
	Scope           uint8  // RT_SCOPE_*
	Flags           uint32 // IFA_F_*
	// Valid and Preferred are lifetimes in seconds that are shown, ^0 for ever. They do not run out here.
	Valid, Preferred uint32
}

// Forever is the lifetime of an address that does not end (INFINITY_LIFE_TIME).
const Forever = ^uint32(0)

// Info is a device as it is now.
type Info struct {
	Index    int
	Name     string
	Type     uint16 // ARPHRD_*
	Flags    uint32 // IFF_*
	MTU      int
	TxQueue  int
	MAC      [6]byte
	Addrs    []Addr
	Loopback bool
	Stats    Stats
}

// Up reports whether the device is up.
func (i *Info) Up() bool { return i.Flags&unix.IFF_UP != 0 }

// device is a network interface; all but ep is guarded by config.mu.
type device struct {
	Info
	ep      *endpoint
	created bool // the stack knows it
	promisc int  // packet sockets that want all frames
}

func (d *device) info() Info {
	i := d.Info
	i.Addrs = slices.Clone(d.Addrs)
	i.Stats = d.ep.stats()
	return i
}

var config struct {
	mu       sync.Mutex
	devices  []*device // by index
	next     int       // the next index
	routes   []Route
	watchers []func(Change)
}

// Change is a change of the configuration. Exactly one of the pointers to what changed is not nil.
type Change struct {
	Deleted bool
	Link    *Info
	Addr    *Addr
	Route   *Route
	// Index and Name are those of the device of an address.
	Index int
	Name  string
}

// Watch adds a receiver of all changes. It is called with locks held: it must only queue.
func Watch(f func(Change)) {
	config.mu.Lock()
	config.watchers = append(config.watchers, f)
	config.mu.Unlock()
}

func changedLocked(c Change) {
	for _, f := range config.watchers {
		f(c)
	}
}

func (d *device) linkChangedLocked() {
	i := d.info()
	changedLocked(Change{Link: &i, Index: d.Index})
}

func init() {
	d := &device{Info: Info{Name: "lo", Type: unix.ARPHRD_LOOPBACK, Flags: unix.IFF_LOOPBACK, MTU: loopMTU, TxQueue: 1000, Loopback: true}}
	addLocked(d, nil)
}

func addLocked(d *device, link Link) {
	config.next++
	d.Index = config.next
	d.ep = &endpoint{link: link, index: d.Index}
	d.ep.mtu.Store(uint32(d.MTU))
	d.ep.SetLinkAddress(tcpip.LinkAddress(d.MAC[:]))
	config.devices = append(config.devices, d)
	d.linkChangedLocked()
}

// Attach adds an Ethernet device, which is down: EINVAL for a bad name, EEXIST.
func Attach(name string, link Link, mac [6]byte, mtu int) (index int, err error) {
	if !validName(name) || mtu < minMTU || mtu > maxMTU {
		return 0, unix.EINVAL
	}
	config.mu.Lock()
	defer config.mu.Unlock()
	if byNameLocked(name) != nil {
		return 0, unix.EEXIST
	}
	d := &device{Info: Info{Name: name, Type: unix.ARPHRD_ETHER, Flags: unix.IFF_BROADCAST | unix.IFF_MULTICAST, MTU: mtu, TxQueue: 1000, MAC: mac}}
	addLocked(d, link)
	return d.Index, nil
}

// Detach takes a device away: ENODEV, EBUSY while it is up.
func Detach(index int) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	d := byIndexLocked(index)
	switch {
	case d == nil || d.Loopback:
		return unix.ENODEV
	case d.Up():
		return unix.EBUSY
	}
	for len(d.Addrs) > 0 {
		d.delAddrLocked(len(d.Addrs) - 1)
	}
	if d.created {
		theStack().RemoveNIC(tcpip.NICID(d.Index))
	}
	config.devices = slices.DeleteFunc(config.devices, func(x *device) bool { return x == d })
	i := d.info()
	changedLocked(Change{Deleted: true, Link: &i, Index: d.Index})
	return nil
}

func validName(name string) bool {
	return name != "" && len(name) <= NameMax && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r\x00")
}

func byIndexLocked(index int) *device {
	for _, d := range config.devices {
		if d.Index == index {
			return d
		}
	}
	return nil
}

func byNameLocked(name string) *device {
	for _, d := range config.devices {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Devices lists all devices, by index.
func Devices() []Info {
	config.mu.Lock()
	defer config.mu.Unlock()
	var l []Info
	for _, d := range config.devices {
		l = append(l, d.info())
	}
	return l
}

// ByIndex and ByName find a device.
func ByIndex(index int) (Info, bool) {
	config.mu.Lock()
	defer config.mu.Unlock()
	if d := byIndexLocked(index); d != nil {
		return d.info(), true
	}
	return Info{}, false
}

// ByName finds a device.
func ByName(name string) (Info, bool) {
	config.mu.Lock()
	defer config.mu.Unlock()
	if d := byNameLocked(name); d != nil {
		return d.info(), true
	}
	return Info{}, false
}

// change calls f with a device and tells of the change: ENODEV.
func change(index int, f func(d *device) error) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	d := byIndexLocked(index)
	if d == nil {
		return unix.ENODEV
	}
	if err := f(d); err != nil {
		return err
	}
	d.linkChangedLocked()
	return nil
}

// linkUp is IFF_LOWER_UP (linux/if.h).
const linkUp = 1 << 16

// settable are the flags that programs may set.
const settable = unix.IFF_UP | unix.IFF_DEBUG | unix.IFF_NOTRAILERS | unix.IFF_NOARP | unix.IFF_PROMISC | unix.IFF_ALLMULTI |
	unix.IFF_MULTICAST | unix.IFF_PORTSEL | unix.IFF_AUTOMEDIA | unix.IFF_DYNAMIC

// SetFlags sets those flags (IFF_*) of a device that are in mask; IFF_UP sets it up or down.
func SetFlags(index int, flags, mask uint32) error {
	return change(index, func(d *device) error {
		mask &= settable
		was := d.Up()
		d.Flags = d.Flags&^mask | flags&mask&^unix.IFF_UP
		if mask&unix.IFF_UP == 0 && was {
			d.Flags |= unix.IFF_UP
		}
		d.ep.promisc.Store(d.promisc > 0 || d.Flags&unix.IFF_PROMISC != 0)
		if mask&unix.IFF_UP == 0 {
			return nil
		}
		switch up := flags&unix.IFF_UP != 0; {
		case up && !was:
			return d.upLocked()
		case up:
			d.Flags |= unix.IFF_UP
		case was:
			d.downLocked()
		}
		return nil
	})
}

// SetLoopbackUp sets lo up, as an init does.
func SetLoopbackUp() error { return SetFlags(loopbackIndex, unix.IFF_UP, unix.IFF_UP) }

// createLocked makes the device known to the stack, where it is down.
func (d *device) createLocked() error {
	if d.created {
		return nil
	}
	err := theStack().CreateNICWithOptions(tcpip.NICID(d.Index), d.ep, stack.NICOptions{Name: d.Name, Disabled: true})
	d.created = err == nil
	return errno(err)
}

// upLocked sets the device up: its addresses go to the stack, and their routes come into being.
func (d *device) upLocked() error {
	s, id := theStack(), tcpip.NICID(d.Index)
	if err := d.createLocked(); err != nil {
		return err
	}
	if d.ep.link != nil {
		if err := d.ep.link.Open(d.ep.receive); err != nil {
			if e, ok := err.(unix.Errno); ok {
				return e
			}
			return unix.EIO
		}
	}
	d.ep.up.Store(true)
	if err := s.EnableNIC(id); err != nil {
		return errno(err)
	}
	d.Flags |= unix.IFF_UP | unix.IFF_RUNNING | linkUp
	for _, a := range d.Addrs {
		d.projectLocked(a)
	}
	for _, a := range d.automaticLocked() {
		d.addAddrLocked(a)
	}
	projectRoutesLocked()
	return nil
}

// automaticLocked are the addresses that a device gets by itself when it is set up.
func (d *device) automaticLocked() (l []Addr) {
	has4 := slices.ContainsFunc(d.Addrs, func(a Addr) bool { return a.Prefix.Addr().Is4() })
	const permanent = unix.IFA_F_PERMANENT
	if d.Loopback {
		if !has4 {
			l = append(l, Addr{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 8), Scope: unix.RT_SCOPE_HOST, Flags: permanent, Valid: Forever, Preferred: Forever})
		}
		return append(l, Addr{Prefix: netip.PrefixFrom(netip.IPv6Loopback(), 128), Scope: unix.RT_SCOPE_HOST, Flags: permanent, Valid: Forever, Preferred: Forever})
	}
	if d.MTU >= minIPv6MTU {
		ip := [16]byte{0: 0xfe, 1: 0x80, 8: d.MAC[0] ^ 2, 9: d.MAC[1], 10: d.MAC[2], 11: 0xff, 12: 0xfe, 13: d.MAC[3], 14: d.MAC[4], 15: d.MAC[5]}
		l = append(l, Addr{Prefix: netip.PrefixFrom(netip.AddrFrom16(ip), 64), Scope: unix.RT_SCOPE_LINK, Flags: permanent, Valid: Forever, Preferred: Forever})
	}
	return l
}

// downLocked sets the device down. IPv4 addresses stay with the device, IPv6 addresses and all routes go.
func (d *device) downLocked() {
	for i := len(d.Addrs) - 1; i >= 0; i-- {
		if d.Addrs[i].Prefix.Addr().Is6() {
			d.delAddrLocked(i)
		} else {
			theStack().RemoveAddress(tcpip.NICID(d.Index), plainAddr(d.Addrs[i].Prefix.Addr()))
			d.tellLink(d.Addrs[i].Prefix.Addr(), false)
		}
	}
	dropRoutesLocked(func(r *Route) bool { return r.Dev == d.Index })
	d.Flags &^= unix.IFF_UP | unix.IFF_RUNNING | linkUp
	d.ep.up.Store(false)
	theStack().DisableNIC(tcpip.NICID(d.Index))
	projectRoutesLocked()
	if d.ep.link != nil {
		d.ep.link.Close()
	}
}

// projectLocked tells the stack of an address of a device that is up, and makes the route to its network.
func (d *device) projectLocked(a Addr) error {
	ip := a.Prefix.Addr()
	p := tcpip.ProtocolAddress{Protocol: netProto(ip.Is6()), AddressWithPrefix: tcpip.AddressWithPrefix{Address: plainAddr(ip), PrefixLen: a.Prefix.Bits()}}
	if err := theStack().AddProtocolAddress(tcpip.NICID(d.Index), p, stack.AddressProperties{}); err != nil {
		return errno(err)
	}
	d.tellLink(ip, true)
	if r, ok := d.connected(a); ok {
		insertRouteLocked(r)
	}
	return nil
}

// connected is the route to the network of an address.
func (d *device) connected(a Addr) (Route, bool) {
	ip := a.Prefix.Addr()
	dst := a.Prefix.Masked()
	if a.Peer.IsValid() && a.Peer != ip {
		dst = netip.PrefixFrom(a.Peer, a.Peer.BitLen())
	}
	r := Route{Dst: dst, Dev: d.Index, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL, Type: unix.RTN_UNICAST}
	if ip.Is6() {
		r.Metric = 256
		return r, true
	}
	r.Scope, r.PrefSrc = unix.RT_SCOPE_LINK, ip
	return r, !d.Loopback && dst.Addr() != ip && a.Flags&unix.IFA_F_NOPREFIXROUTE == 0
}

// AddAddr adds an address: EEXIST, unless replace is set, ENODEV, EADDRNOTAVAIL for one that a device cannot have.
func AddAddr(index int, a Addr, replace bool) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	d := byIndexLocked(index)
	if d == nil {
		return unix.ENODEV
	}
	ip := a.Prefix.Addr()
	if !a.Prefix.IsValid() || ip.IsMulticast() || ip.Is4In6() || ip.Is6() && ip.IsUnspecified() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return unix.EADDRNOTAVAIL
	}
	if len(d.Addrs) >= maxAddrs {
		return unix.ENOBUFS
	}
	if i := slices.IndexFunc(d.Addrs, func(b Addr) bool { return a.Prefix == b.Prefix || ip.Is6() && b.Prefix.Addr() == ip }); i >= 0 {
		if !replace {
			return unix.EEXIST
		}
		a.Prefix = d.Addrs[i].Prefix
		d.Addrs[i] = a
		changedLocked(Change{Addr: &a, Index: index, Name: d.Name})
		return nil
	}
	return d.addAddrLocked(a)
}

// maxAddrs bounds what a guest can make the stack keep for each device; maxRoutes and so on likewise.
const maxAddrs = 4096

func (d *device) addAddrLocked(a Addr) error {
	ip := a.Prefix.Addr()
	for _, b := range d.Addrs {
		if ip.Is4() && b.Prefix.Addr().Is4() && b.Flags&unix.IFA_F_SECONDARY == 0 && a.Prefix.Masked() == b.Prefix.Masked() {
			a.Flags |= unix.IFA_F_SECONDARY
		}
	}
	a.Flags |= unix.IFA_F_PERMANENT
	if a.Valid != Forever {
		a.Flags &^= unix.IFA_F_PERMANENT
	}
	a.Flags &^= unix.IFA_F_TENTATIVE
	if d.Up() {
		known := slices.ContainsFunc(d.Addrs, func(b Addr) bool { return b.Prefix.Addr() == ip })
		if !known {
			if err := d.projectLocked(a); err != nil {
				return err
			}
		}
	}
	d.Addrs = append(d.Addrs, a)
	changedLocked(Change{Addr: &a, Index: d.Index, Name: d.Name})
	projectRoutesLocked()
	return nil
}

// DelAddr removes an address, with all its secondary ones: ENODEV, EADDRNOTAVAIL. The length -1 stands for any.
func DelAddr(index int, ip netip.Addr, bits int) error {
	config.mu.Lock()
	defer config.mu.Unlock()
	d := byIndexLocked(index)
	if d == nil {
		return unix.ENODEV
	}
	i := slices.IndexFunc(d.Addrs, func(a Addr) bool {
		return a.Prefix.Addr() == ip && (bits < 0 || a.Prefix.Bits() == bits)
	})
	if i < 0 {
		return unix.EADDRNOTAVAIL
	}
	gone := d.Addrs[i]
	d.delAddrLocked(i)
	if ip.Is4() && gone.Flags&unix.IFA_F_SECONDARY == 0 {
		for j := len(d.Addrs) - 1; j >= 0; j-- {
			if a := d.Addrs[j]; a.Flags&unix.IFA_F_SECONDARY != 0 && a.Prefix.Masked() == gone.Prefix.Masked() {
				d.delAddrLocked(j)
			}
		}
	}
	projectRoutesLocked()
	return nil
}

func (d *device) delAddrLocked(i int) {
	a := d.Addrs[i]
	ip := a.Prefix.Addr()
	d.Addrs = slices.Delete(slices.Clone(d.Addrs), i, i+1)
	if !slices.ContainsFunc(d.Addrs, func(b Addr) bool { return b.Prefix.Addr() == ip }) && d.created {
		theStack().RemoveAddress(tcpip.NICID(d.Index), plainAddr(ip))
		d.tellLink(ip, false)
	}
	if r, ok := d.connected(a); ok && !slices.ContainsFunc(d.Addrs, func(b Addr) bool { return b.Prefix.Masked() == a.Prefix.Masked() }) {
		dropRoutesLocked(func(x *Route) bool {
			return x.Dst == r.Dst && x.Dev == r.Dev && x.Protocol == r.Protocol && x.Table == r.Table
		})
	}
	dropRoutesLocked(func(x *Route) bool { return x.Dev == d.Index && x.PrefSrc == ip })
	changedLocked(Change{Deleted: true, Addr: &a, Index: d.Index, Name: d.Name})
}

// SetMTU sets the MTU: EINVAL for one that the device cannot have.
func SetMTU(index, mtu int) error {
	return change(index, func(d *device) error {
		if mtu < minMTU || mtu > maxMTU && !d.Loopback || mtu > 1<<31-1 {
			return unix.EINVAL
		}
		d.MTU = mtu
		d.ep.mtu.Store(uint32(mtu))
		return nil
	})
}

// SetMAC sets the hardware address: EADDRNOTAVAIL for a multicast or zero address, EBUSY while the device is up.
func SetMAC(index int, mac [6]byte) error {
	return change(index, func(d *device) error {
		switch {
		case d.Loopback:
			return unix.EOPNOTSUPP
		case mac[0]&1 != 0 || mac == [6]byte{}:
			return unix.EADDRNOTAVAIL
		case d.Up():
			return unix.EBUSY
		}
		d.MAC = mac
		d.ep.SetLinkAddress(tcpip.LinkAddress(mac[:]))
		return nil
	})
}

// SetName renames a device: EINVAL, EEXIST, EBUSY while it is up.
func SetName(index int, name string) error {
	return change(index, func(d *device) error {
		switch {
		case !validName(name):
			return unix.EINVAL
		case d.Name == name:
			return nil
		case byNameLocked(name) != nil:
			return unix.EEXIST
		case d.Up():
			return unix.EBUSY
		}
		d.Name = name
		return nil
	})
}

// SetTxQueue sets the length of the send queue, which is only shown.
func SetTxQueue(index, n int) error {
	return change(index, func(d *device) error {
		if n < 0 {
			return unix.EINVAL
		}
		d.TxQueue = n
		return nil
	})
}
