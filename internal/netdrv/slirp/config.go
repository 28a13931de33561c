package slirp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Config is what a network is allowed.
type Config struct {
	// Loopback has the router pass on what comes for it to 127.0.0.1 of the host.
	Loopback bool
	// Forwards are ports of the host that lead into the guest.
	Forwards []Forward
}

// Forward is a port of the host that leads to one of the guest.
type Forward struct {
	Network string // "tcp" or "udp"
	Host    netip.AddrPort
	Guest   netip.AddrPort
}

const forwardForm = "hostfwd=tcp:[<host address>]:<port>-[<guest address>]:<port>"

// ParseForward reads what follows "hostfwd=", which is QEMU's form: tcp::8080-:80. Without an address it is 127.0.0.1 of the
// host, so that nobody else on its networks gets in, and the guest's own.
func ParseForward(s string) (Forward, error) {
	bad := fmt.Errorf("hostfwd=%s: use %s (or udp)", s, forwardForm)
	network, rest, ok := strings.Cut(s, ":")
	host, guest, ok2 := strings.Cut(rest, "-")
	if !ok || !ok2 || network != "tcp" && network != "udp" && network != "" {
		return Forward{}, bad
	}
	f := Forward{Network: network}
	if network == "" {
		f.Network = "tcp"
	}
	var err error
	if f.Host, err = endpoint(host, netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
		return Forward{}, bad
	}
	if f.Guest, err = endpoint(guest, Guest); err != nil || !Network.Contains(f.Guest.Addr()) {
		return Forward{}, bad
	}
	return f, nil
}

// endpoint reads an IPv4 address, which may be empty, a colon and a port.
func endpoint(s string, def netip.Addr) (netip.AddrPort, error) {
	a, p, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not a port", p)
	}
	ip := def
	if a != "" {
		if ip, err = netip.ParseAddr(a); err != nil || !ip.Is4() {
			return netip.AddrPort{}, fmt.Errorf("%q is not an IPv4 address", a)
		}
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}
