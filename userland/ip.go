package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errSyntax is a call of ip that cannot be understood.
var errSyntax = errors.New("syntax")

// ip shows and sets interfaces, addresses, routes and neighbours with the syntax and output of iproute2's ip(8).
func ip(args []string) int {
	family := netlink.FAMILY_ALL
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		switch args[0] {
		case "-4":
			family = netlink.FAMILY_V4
		case "-6":
			family = netlink.FAMILY_V6
		default:
			return fail(fmt.Errorf("unknown option %s", args[0]))
		}
	}
	err := errSyntax
	if len(args) > 0 {
		object, rest := args[0], args[1:]
		switch {
		case abbreviates(object, "address", 1):
			err = ipAddress(family, rest)
		case abbreviates(object, "link", 1):
			err = ipLink(rest)
		case abbreviates(object, "route", 1):
			err = ipRoute(family, rest)
		case abbreviates(object, "neighbour", 1), abbreviates(object, "neighbor", 1):
			err = ipNeighbour(family, rest)
		}
	}
	if err == errSyntax {
		return usage("[-4|-6] address [show [DEV]] | address add|del ADDRESS/LEN dev DEV\n" +
			"       ip link [show [DEV]] | link set DEV [up|down] [mtu N] [address MAC] [name NAME]\n" +
			"       ip route [show] | route add|replace|del default|NET/LEN [via ADDRESS] [dev DEV] [src ADDRESS] [metric N] | route get ADDRESS\n" +
			"       ip neigh [show] | neigh add|del ADDRESS [lladdr MAC] dev DEV")
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// abbreviates reports whether s is word or its beginning, of at least n letters.
func abbreviates(s, word string, n int) bool { return len(s) >= n && strings.HasPrefix(word, s) }

// showing takes the word show or list from the front of args. It returns false if another command stands there.
func showing(args []string) ([]string, bool) {
	switch {
	case len(args) == 0:
		return nil, true
	case abbreviates(args[0], "show", 1), abbreviates(args[0], "list", 2), args[0] == "ls":
		return args[1:], true
	}
	return args, args[0] == "dev"
}

// carryOut does with x what the command says: add, replace or delete.
func carryOut[T any](command string, x *T, add, replace, del func(*T) error) error {
	switch {
	case abbreviates(command, "add", 1):
		return add(x)
	case abbreviates(command, "replace", 1):
		return replace(x)
	case abbreviates(command, "delete", 1):
		return del(x)
	}
	return errSyntax
}

// words takes pairs of a keyword and its value from args. What stands alone is the value of first.
func words(args []string, first string, keys ...string) (map[string]string, error) {
	w := map[string]string{}
	for ; len(args) > 0; args = args[1:] {
		key := args[0]
		if !slices.Contains(keys, key) && key != first {
			if _, ok := w[first]; ok || first == "" {
				return nil, errSyntax
			}
			w[first] = key
			continue
		}
		if len(args) < 2 {
			return nil, errSyntax
		}
		w[key], args = args[1], args[1:]
	}
	return w, nil
}

// links are all interfaces, or the one of that name.
func links(name string) ([]netlink.Link, error) {
	if name == "" {
		return netlink.LinkList()
	}
	l, err := device(name)
	if err != nil {
		return nil, err
	}
	return []netlink.Link{l}, nil
}

func device(name string) (netlink.Link, error) {
	if name == "" {
		return nil, errSyntax
	}
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) || err == syscall.ENODEV {
		return nil, fmt.Errorf("cannot find device %q", name)
	}
	return l, err
}

// deviceName is the name of an interface that may have gone.
func deviceName(index int) string {
	if l, err := netlink.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return "if" + strconv.Itoa(index)
}

// linkFlags are the flags that ip(8) shows, in its order.
var linkFlags = []struct {
	bit  uint32
	name string
}{
	{unix.IFF_LOOPBACK, "LOOPBACK"}, {unix.IFF_BROADCAST, "BROADCAST"}, {unix.IFF_POINTOPOINT, "POINTOPOINT"},
	{unix.IFF_MULTICAST, "MULTICAST"}, {unix.IFF_NOARP, "NOARP"}, {unix.IFF_ALLMULTI, "ALLMULTI"}, {unix.IFF_PROMISC, "PROMISC"},
	{unix.IFF_UP, "UP"}, {unix.IFF_LOWER_UP, "LOWER_UP"},
}

func showLink(l netlink.Link) {
	a := l.Attrs()
	var flags []string
	if a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING == 0 {
		flags = append(flags, "NO-CARRIER")
	}
	for _, f := range linkFlags {
		if a.RawFlags&f.bit != 0 {
			flags = append(flags, f.name)
		}
	}
	fmt.Fprintf(stdout, "%d: %s: <%s> mtu %d", a.Index, a.Name, strings.Join(flags, ","), a.MTU)
	if a.MasterIndex != 0 {
		fmt.Fprintf(stdout, " master %s", deviceName(a.MasterIndex))
	}
	fmt.Fprintf(stdout, " state %s\n", strings.ToUpper(a.OperState.String()))
	kind, hw, bcast := "ether", a.HardwareAddr.String(), "ff:ff:ff:ff:ff:ff"
	if a.RawFlags&unix.IFF_LOOPBACK != 0 {
		kind, hw, bcast = "loopback", "00:00:00:00:00:00", "00:00:00:00:00:00"
	} else if hw == "" {
		kind, hw, bcast = "none", "", ""
	}
	fmt.Fprintf(stdout, "    link/%s", kind)
	if hw != "" {
		fmt.Fprintf(stdout, " %s brd %s", hw, bcast)
	}
	stdout.WriteByte('\n')
}

func ipLink(args []string) error {
	if rest, ok := showing(args); ok {
		w, err := words(rest, "dev")
		if err != nil {
			return err
		}
		list, err := links(w["dev"])
		for _, l := range list {
			showLink(l)
		}
		return err
	}
	if !abbreviates(args[0], "set", 3) || len(args) < 3 {
		return errSyntax
	}
	if args = args[1:]; args[0] == "dev" {
		args = args[1:]
	}
	l, err := device(args[0])
	for args = args[1:]; err == nil && len(args) > 0; args = args[1:] {
		switch args[0] {
		case "up":
			err = netlink.LinkSetUp(l)
			continue
		case "down":
			err = netlink.LinkSetDown(l)
			continue
		}
		if len(args) < 2 {
			return errSyntax
		}
		switch value := args[1]; args[0] {
		case "mtu":
			n, nerr := strconv.Atoi(value)
			if nerr != nil {
				return fmt.Errorf("mtu %s is not a number", value)
			}
			err = netlink.LinkSetMTU(l, n)
		case "address":
			hw, herr := net.ParseMAC(value)
			if herr != nil {
				return fmt.Errorf("%s is not an address like 02:00:00:00:00:01", value)
			}
			err = netlink.LinkSetHardwareAddr(l, hw)
		case "name":
			err = netlink.LinkSetName(l, value)
		default:
			return errSyntax
		}
		args = args[1:]
	}
	return err
}

func ipAddress(family int, args []string) error {
	if rest, ok := showing(args); ok {
		w, err := words(rest, "dev")
		if err != nil {
			return err
		}
		list, err := links(w["dev"])
		for _, l := range list {
			if err = showAddresses(l, family); err != nil {
				break
			}
		}
		return err
	}
	w, err := words(args[1:], "local", "dev", "broadcast", "brd", "peer", "label")
	if err != nil {
		return err
	}
	l, err := device(w["dev"])
	if err != nil {
		return err
	}
	if abbreviates(args[0], "flush", 1) {
		list, err := netlink.AddrList(l, family)
		for i := range list {
			err = errors.Join(err, netlink.AddrDel(l, &list[i]))
		}
		return err
	}
	a, err := parseAddr(w["local"])
	if err != nil {
		return err
	}
	a.Label = w["label"]
	if p := w["peer"]; p != "" {
		if a.Peer, err = parseNet(p); err != nil {
			return err
		}
	}
	switch b := w["broadcast"] + w["brd"]; b {
	case "":
	case "+":
		a.Broadcast = lastOf(a.IPNet)
	default:
		if a.Broadcast = net.ParseIP(b); a.Broadcast == nil {
			return fmt.Errorf("%s is not an address", b)
		}
	}
	on := func(f func(netlink.Link, *netlink.Addr) error) func(*netlink.Addr) error {
		return func(a *netlink.Addr) error { return f(l, a) }
	}
	return carryOut(args[0], a, on(netlink.AddrAdd), on(netlink.AddrReplace), on(netlink.AddrDel))
}

func showAddresses(l netlink.Link, family int) error {
	list, err := netlink.AddrList(l, family)
	if err != nil || len(list) == 0 && family != netlink.FAMILY_ALL {
		return err
	}
	showLink(l)
	for _, a := range list {
		name, lifetime := "inet", func(seconds int) string {
			if seconds <= 0 || uint32(seconds) == ^uint32(0) {
				return "forever"
			}
			return strconv.Itoa(seconds) + "sec"
		}
		if a.IP.To4() == nil {
			name = "inet6"
		}
		fmt.Fprintf(stdout, "    %s %s", name, a.IPNet)
		if a.Peer != nil && !a.Peer.IP.Equal(a.IP) {
			fmt.Fprintf(stdout, " peer %s", a.Peer)
		}
		if a.Broadcast != nil {
			fmt.Fprintf(stdout, " brd %s", a.Broadcast)
		}
		fmt.Fprintf(stdout, " scope %s", scopeName(netlink.Scope(a.Scope)))
		if a.Label != "" {
			stdout.WriteString(" " + a.Label)
		}
		fmt.Fprintf(stdout, "\n       valid_lft %s preferred_lft %s\n", lifetime(a.ValidLft), lifetime(a.PreferedLft))
	}
	return nil
}

// scopeName is a scope as ip(8) calls it.
func scopeName(s netlink.Scope) string {
	if s == netlink.SCOPE_UNIVERSE {
		return "global"
	}
	return s.String()
}

// parseAddr reads an address with the length of its net, which is that of the whole address if it is missing.
func parseAddr(s string) (*netlink.Addr, error) {
	n, err := parseNet(s)
	if err != nil {
		return nil, err
	}
	return &netlink.Addr{IPNet: n}, nil
}

// parseNet is parseAddr's, and keeps the bits after the net.
func parseNet(s string) (*net.IPNet, error) {
	if s == "" {
		return nil, errSyntax
	}
	if !strings.Contains(s, "/") {
		a := net.ParseIP(s)
		if a4 := a.To4(); a4 != nil {
			return &net.IPNet{IP: a4, Mask: net.CIDRMask(32, 32)}, nil
		} else if a != nil {
			return &net.IPNet{IP: a, Mask: net.CIDRMask(128, 128)}, nil
		}
	} else if a, n, err := net.ParseCIDR(s); err == nil {
		if a4 := a.To4(); a4 != nil {
			a = a4
		}
		return &net.IPNet{IP: a, Mask: n.Mask}, nil
	}
	return nil, fmt.Errorf("%s is not an address like 10.0.0.1/24", s)
}

// lastOf is the broadcast address of a net.
func lastOf(n *net.IPNet) net.IP {
	last := slices.Clone(n.IP)
	for i := range last {
		last[i] |= ^n.Mask[len(n.Mask)-len(last)+i]
	}
	return last
}

func ipRoute(family int, args []string) error {
	if rest, ok := showing(args); ok {
		w, err := words(rest, "", "dev", "table")
		if err != nil {
			return err
		}
		return showRoutes(family, w)
	}
	if args[0] == "get" && len(args) == 2 {
		to := net.ParseIP(args[1])
		if to == nil {
			return fmt.Errorf("%s is not an address", args[1])
		}
		list, err := netlink.RouteGet(to)
		for _, r := range list {
			stdout.WriteString(to.String() + routeText(r) + "\n")
		}
		return err
	}
	w, err := words(args[1:], "to", "via", "dev", "src", "metric", "table", "scope", "proto")
	if err != nil || w["to"] == "" {
		return errSyntax
	}
	r := netlink.Route{}
	if w["to"] != "default" {
		if r.Dst, err = parseNet(w["to"]); err != nil {
			return err
		}
	} else if family == netlink.FAMILY_V6 || strings.Contains(w["via"], ":") {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	} else {
		r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	for key, to := range map[string]*net.IP{"via": &r.Gw, "src": &r.Src} {
		if v, ok := w[key]; ok {
			if *to = net.ParseIP(v); *to == nil {
				return fmt.Errorf("%s %s is not an address", key, v)
			}
		}
	}
	for key, to := range map[string]*int{"metric": &r.Priority, "table": &r.Table} {
		if v, ok := w[key]; ok {
			if *to, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("%s %s is not a number", key, v)
			}
		}
	}
	if name := w["dev"]; name != "" {
		l, err := device(name)
		if err != nil {
			return err
		}
		r.LinkIndex = l.Attrs().Index
	}
	if abbreviates(args[0], "delete", 1) {
		r.Scope = netlink.SCOPE_NOWHERE // any
	} else if r.Gw == nil && r.Dst.IP.To4() != nil {
		r.Scope = netlink.SCOPE_LINK
	}
	return carryOut(args[0], &r, netlink.RouteAdd, netlink.RouteReplace, netlink.RouteDel)
}

func showRoutes(family int, w map[string]string) error {
	if family == netlink.FAMILY_ALL {
		family = netlink.FAMILY_V4
	}
	filter, mask := netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE
	switch t := w["table"]; t {
	case "", "main":
	case "local":
		filter.Table = unix.RT_TABLE_LOCAL
	case "all":
		filter.Table = unix.RT_TABLE_UNSPEC
	default:
		n, err := strconv.Atoi(t)
		if err != nil {
			return errSyntax
		}
		filter.Table = n
	}
	if name := w["dev"]; name != "" {
		l, err := device(name)
		if err != nil {
			return err
		}
		filter.LinkIndex, mask = l.Attrs().Index, mask|netlink.RT_FILTER_OIF
	}
	list, err := netlink.RouteListFiltered(family, &filter, mask)
	for _, r := range list {
		to := "default"
		if r.Dst != nil {
			if ones, bits := r.Dst.Mask.Size(); ones == bits {
				to = r.Dst.IP.String()
			} else if ones != 0 {
				to = r.Dst.String()
			}
		}
		stdout.WriteString(to + routeText(r) + "\n")
	}
	return err
}

// routeText is a route without its destination.
func routeText(r netlink.Route) string {
	var s strings.Builder
	if r.Gw != nil {
		fmt.Fprintf(&s, " via %s", r.Gw)
	}
	if r.LinkIndex != 0 {
		fmt.Fprintf(&s, " dev %s", deviceName(r.LinkIndex))
	}
	if r.Protocol > unix.RTPROT_REDIRECT && r.Protocol != unix.RTPROT_BOOT {
		fmt.Fprintf(&s, " proto %s", r.Protocol)
	}
	if r.Scope != netlink.SCOPE_UNIVERSE {
		fmt.Fprintf(&s, " scope %s", scopeName(r.Scope))
	}
	if r.Src != nil {
		fmt.Fprintf(&s, " src %s", r.Src)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&s, " metric %d", r.Priority)
	}
	return s.String()
}

// neighStates are the states of a neighbour as ip(8) names them.
var neighStates = map[int]string{
	netlink.NUD_INCOMPLETE: "INCOMPLETE", netlink.NUD_REACHABLE: "REACHABLE", netlink.NUD_STALE: "STALE", netlink.NUD_DELAY: "DELAY",
	netlink.NUD_PROBE: "PROBE", netlink.NUD_FAILED: "FAILED", netlink.NUD_NOARP: "NOARP", netlink.NUD_PERMANENT: "PERMANENT",
}

func ipNeighbour(family int, args []string) error {
	if rest, ok := showing(args); ok {
		w, err := words(rest, "", "dev")
		if err != nil {
			return err
		}
		index := 0
		if name := w["dev"]; name != "" {
			l, err := device(name)
			if err != nil {
				return err
			}
			index = l.Attrs().Index
		}
		list, err := netlink.NeighList(index, family)
		for _, n := range list {
			if n.State == netlink.NUD_NOARP {
				continue
			}
			fmt.Fprintf(stdout, "%s dev %s", n.IP, deviceName(n.LinkIndex))
			if len(n.HardwareAddr) > 0 {
				fmt.Fprintf(stdout, " lladdr %s", n.HardwareAddr)
			}
			stdout.WriteString(" " + neighStates[n.State] + "\n")
		}
		return err
	}
	w, err := words(args[1:], "to", "lladdr", "dev")
	if err != nil {
		return err
	}
	l, err := device(w["dev"])
	if err != nil {
		return err
	}
	n := netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(w["to"]), State: netlink.NUD_PERMANENT}
	if n.IP == nil {
		return fmt.Errorf("%q is not an address", w["to"])
	}
	if hw, ok := w["lladdr"]; ok {
		if n.HardwareAddr, err = net.ParseMAC(hw); err != nil {
			return fmt.Errorf("%s is not an address like 02:00:00:00:00:01", hw)
		}
	}
	return carryOut(args[0], &n, netlink.NeighAdd, netlink.NeighSet, netlink.NeighDel)
}

// ifconfig shows interfaces, or sets one's address, netmask, MTU and state, as the older tool does.
func ifconfig(args []string) int {
	if len(args) > 0 && args[0] == "-a" {
		args = args[1:]
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	list, err := links(name)
	if err != nil {
		return fail(err)
	}
	if len(args) < 2 {
		for _, l := range list {
			if err := showAddresses(l, netlink.FAMILY_ALL); err != nil {
				return fail(err)
			}
		}
		return 0
	}
	if err = configure(list[0], args[1:]); err == errSyntax {
		return usage("[DEV [ADDRESS[/LEN] [netmask MASK]] [mtu N] [up|down]]")
	} else if err != nil {
		return fail(err)
	}
	return 0
}

// configure is ifconfig's with the words after the interface. An address replaces those that are there and sets the interface up.
func configure(l netlink.Link, args []string) error {
	var addr *net.IPNet
	up := ""
	for ; len(args) > 0; args = args[1:] {
		switch a := args[0]; {
		case a == "up", a == "down":
			up = a
		case a == "netmask" && len(args) > 1 && addr != nil:
			m := net.ParseIP(args[1]).To4()
			if ones, bits := net.IPMask(m).Size(); m == nil || ones == 0 && bits == 0 {
				return fmt.Errorf("%s is not a netmask", args[1])
			}
			addr.Mask, args = net.IPMask(m), args[1:]
		case a == "mtu" && len(args) > 1:
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("mtu %s is not a number", args[1])
			}
			if err := netlink.LinkSetMTU(l, n); err != nil {
				return err
			}
			args = args[1:]
		case addr == nil:
			n, err := parseNet(a)
			if err != nil {
				return err
			}
			if addr = n; !strings.Contains(a, "/") && n.IP.To4() != nil {
				addr.Mask = n.IP.DefaultMask()
			}
			if up == "" {
				up = "up"
			}
		default:
			return errSyntax
		}
	}
	if addr != nil {
		old, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for i := range old {
			if addr.IP.To4() != nil {
				if err := netlink.AddrDel(l, &old[i]); err != nil {
					return err
				}
			}
		}
		a := &netlink.Addr{IPNet: addr}
		if ones, bits := addr.Mask.Size(); bits == 32 && ones < 31 {
			a.Broadcast = lastOf(addr)
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	switch up {
	case "up":
		return netlink.LinkSetUp(l)
	case "down":
		return netlink.LinkSetDown(l)
	}
	return nil
}
