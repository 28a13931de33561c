package netdrv

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// Set is the interfaces of a guest that have a transport.
type Set struct {
	mu   sync.Mutex
	devs map[string]*device // by the name that they were given with: "eth0", "vec1"
}

type device struct {
	index int
	spec  string // as Config takes it
	link  wire
}

// wire is the link of an interface, with its end.
type wire interface {
	inet.Link
	// End gives back what it holds of the host.
	End()
}

// Option adds an interface as an option of the command line says: "eth0=daemon", "vec0:transport=tap,ifname=tap0".
func (s *Set) Option(word string) error {
	kind := word[:min(3, len(word))]
	if kind != "eth" && kind != "vec" {
		return fmt.Errorf("%q is not an interface", word)
	}
	return s.add(kind, word[3:])
}

// add adds an interface; arg is the number and what follows it.
func (s *Set) add(kind, arg string) error {
	sep := map[string]string{"eth": "=", "vec": ":"}[kind]
	num, spec, ok := strings.Cut(arg, sep)
	n, err := strconv.ParseUint(num, 0, 15)
	if !ok || err != nil {
		return fmt.Errorf("%s%s: use %s<n>%s<transport>[,<options>]", kind, arg, kind, sep)
	}
	name := kind + strconv.FormatUint(n, 10)
	if err := s.open(kind, name, spec); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *Set) open(kind, name, spec string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devs[name] != nil {
		return errUsed
	}
	var p *plan
	var err error
	if kind == "eth" {
		p, err = parseEth(spec)
	} else {
		p, err = parseVec(spec)
	}
	if err != nil {
		return err
	}
	mac := chooseMAC(name, p.mac)
	l, text, err := p.open()
	if err != nil {
		return err
	}
	index, err := inet.Attach(name, l, mac, p.mtu)
	if err != nil {
		l.End()
		return err
	}
	if s.devs == nil {
		s.devs = map[string]*device{}
	}
	s.devs[name] = &device{index, spec, l}
	klog.Infof("Netdevice %s (%s) : %s", strings.TrimPrefix(name, kind), macText(mac), text)
	return nil
}

var errUsed = errors.New("the interface is there already")

// Close gives back what the interfaces hold of the host.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devs {
		d.link.End()
	}
}

// Drivers are the interfaces as the management console has them: config eth1=daemon, remove eth1.
func (s *Set) Drivers() []hotplug.Driver { return []hotplug.Driver{driver{s, "eth"}, driver{s, "vec"}} }

type driver struct {
	set  *Set
	kind string
}

// Name is hotplug.Driver's, as are the others.
func (d driver) Name() string { return d.kind }

// Config adds an interface.
func (d driver) Config(arg string) error {
	err := d.set.add(d.kind, arg)
	if errors.Is(err, errUsed) {
		return &hotplug.Error{Errno: unix.EBUSY, Text: err.Error()}
	}
	return err
}

// Query is the configuration of an interface.
func (d driver) Query(id string) (string, error) {
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	if x := d.set.devs[d.kind+id]; x != nil {
		return x.spec, nil
	}
	return "", nil
}

// Remove takes an interface away, which must be down.
func (d driver) Remove(id string) error {
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	x := d.set.devs[d.kind+id]
	if x == nil {
		return unix.ENODEV
	}
	if err := inet.Detach(x.index); err != nil {
		return err
	}
	delete(d.set.devs, d.kind+id)
	x.link.End()
	return nil
}

// plan is a checked configuration.
type plan struct {
	mac  string
	mtu  int
	open func() (l wire, text string, err error)
}

const defaultMTU = 1500

// fields cuts the arguments of a transport; those that are not given are empty. What is left over is an error.
func fields(spec string, n int, form string) ([]string, error) {
	f := strings.Split(spec, ",")
	if len(f) > n {
		return nil, fmt.Errorf("too many arguments: use eth<n>=%s", form)
	}
	return append(f, make([]string, n-len(f))...), nil
}

// parseEth reads what follows "eth<n>=".
func parseEth(spec string) (*plan, error) {
	transport, rest, _ := strings.Cut(spec, ",")
	p := &plan{mtu: defaultMTU}
	switch transport {
	case "tuntap":
		f, err := fields(rest, 3, "tuntap,<tap>,<mac>,<host address>")
		if err != nil {
			return nil, err
		}
		p.mac = f[1]
		return p, p.tuntap(f[0], f[2])
	case "daemon":
		f, err := fields(rest, 4, "daemon,<mac>,unix,<control socket>")
		if err != nil {
			return nil, err
		}
		p.mac = f[0]
		if f[1] != "" && f[1] != "unix" {
			return nil, fmt.Errorf("sockets of type %q are not there: use daemon,<mac>,unix,<control socket>", f[1])
		}
		if f[3] != "" {
			klog.Warnf("daemon: the data socket %s is ignored: the switch names it", f[3])
		}
		p.open = func() (wire, string, error) { return openDaemon(f[2]) }
		return p, nil
	case "mcast":
		f, err := fields(rest, 4, "mcast,<mac>,<group>,<port>,<ttl>")
		if err != nil {
			return nil, err
		}
		p.mac = f[0]
		return p, p.mcast(f[1], f[2], f[3])
	case "ucast":
		f, err := fields(rest, 4, "ucast,<mac>,<remote address>,<port>,<remote port>")
		if err != nil {
			return nil, err
		}
		p.mac = f[0]
		return p, p.ucast(f[1], f[2], f[3])
	case "user":
		return p, p.user(rest)
	case "slirp":
		return p, p.slirp(rest)
	case "slip", "ethertap", "vde", "pcap":
		return nil, fmt.Errorf("the transport %s is not there yet", transport)
	}
	return nil, fmt.Errorf("unknown transport %q: use user, tuntap, daemon, mcast or ucast", transport)
}

func openDaemon(path string) (wire, string, error) {
	paths := switchSockets
	if path != "" {
		paths = []string{path}
	}
	var first error
	for _, path := range paths {
		l, err := daemon(path)
		if err == nil {
			return l, fmt.Sprintf("daemon backend (uml_switch version %d) - unix:%s", switchVersion, path), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, "", first
}

func (p *plan) tuntap(name, host string) error {
	var ip netip.Addr
	if host != "" {
		var err error
		if ip, err = netip.ParseAddr(host); err != nil || !ip.Is4() {
			return fmt.Errorf("%q is not an IPv4 address of the host: use tuntap,<tap>,<mac>,<host address>", host)
		}
	}
	p.open = func() (wire, string, error) {
		l, dev, err := tap(name)
		if err != nil {
			return nil, "", err
		}
		if name == "" && ip.IsValid() {
			if err := setHostAddr(dev, ip); err != nil {
				l.End()
				return nil, "", err
			}
			near := netip.PrefixFrom(ip, 24)
			l.route = func(guest netip.Addr, there bool) {
				if near.Contains(guest) {
					setHostRoute(dev, guest, there)
				} else if there {
					klog.Warnf("%s: %s is not in %s: the host needs a route to it: ip route add %s dev %s", dev, guest, near.Masked(), guest, dev)
				}
			}
		}
		text := "TUN/TAP backend - " + dev
		if ip.IsValid() {
			text += ", IP = " + ip.String()
		}
		return l, text, nil
	}
	return nil
}

// number reads a number with a default.
func number(s, what string, def, least, most int) (int, error) {
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil || int(n) < least || int(n) > most {
		return 0, fmt.Errorf("%q is not a %s (%d to %d)", s, what, least, most)
	}
	return int(n), nil
}

func (p *plan) mcast(group, port, ttl string) error {
	if group == "" {
		group = "239.192.168.1"
	}
	ip, err := netip.ParseAddr(group)
	if err != nil || !ip.Is4() || !ip.IsMulticast() {
		return fmt.Errorf("%q is not a multicast address", group)
	}
	n, err := number(port, "port", 1102, 1, 65535)
	if err != nil {
		return err
	}
	t, err := number(ttl, "TTL", 1, 0, 255)
	if err != nil {
		return err
	}
	to := netip.AddrPortFrom(ip, uint16(n))
	p.open = func() (wire, string, error) {
		l, err := mcast(to, t)
		return l, fmt.Sprintf("mcast backend - multicast address %v, TTL %d", to, t), err
	}
	return nil
}

func (p *plan) ucast(remote, port, remotePort string) error {
	ip, err := netip.ParseAddr(remote)
	if err != nil || !ip.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", remote)
	}
	n, err := number(port, "port", 1102, 1, 65535)
	if err != nil {
		return err
	}
	to, err := number(remotePort, "port", 1102, 1, 65535)
	if err != nil {
		return err
	}
	peer := netip.AddrPortFrom(ip, uint16(to))
	p.open = func() (wire, string, error) {
		l, err := udpLink(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n)), peer, func(int) error { return nil })
		return l, fmt.Sprintf("ucast backend - port %d to %v", n, peer), err
	}
	return nil
}

// parseVec reads what follows "vec<n>:".
func parseVec(spec string) (*plan, error) {
	keys := map[string]string{}
	for kv := range strings.SplitSeq(spec, ",") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not <key>=<value>", kv)
		}
		keys[k] = v
	}
	p := &plan{mac: keys["mac"]}
	var err error
	if p.mtu, err = number(keys["mtu"], "MTU", defaultMTU, 576, 65521); err != nil {
		return nil, err
	}
	switch t := keys["transport"]; t {
	case "tap":
		p.open = func() (wire, string, error) {
			l, dev, err := tap(keys["ifname"])
			return l, "tap - " + dev, err
		}
	case "bess":
		if keys["dst"] == "" {
			return nil, errors.New("bess needs dst=<socket>")
		}
		p.open = func() (wire, string, error) {
			l, err := bess(keys["src"], keys["dst"])
			return l, "bess - " + keys["dst"], err
		}
	case "fd":
		p.open = func() (wire, string, error) {
			l, err := inherited(keys["fd"])
			return l, "fd - " + keys["fd"], err
		}
	case "raw", "hybrid", "gre", "l2tpv3", "vde":
		return nil, fmt.Errorf("the transport %s is not there yet", t)
	default:
		return nil, fmt.Errorf("unknown transport %q: use transport=tap, bess or fd", t)
	}
	return p, nil
}

// chooseMAC is the address that was asked for, if an interface can have it, or a random one.
func chooseMAC(name, s string) (mac [6]byte) {
	if s != "" {
		if f := strings.Split(s, ":"); len(f) == 6 {
			ok := true
			for i, x := range f {
				v, err := strconv.ParseUint(x, 16, 8)
				ok = ok && err == nil
				mac[i] = byte(v)
			}
			switch {
			case ok && mac[0]&1 != 0:
				klog.Warnf("Attempt to assign a multicast ethernet address to a device disallowed")
				ok = false
			case ok && mac == [6]byte{}:
				ok = false
			case ok && mac[0]&2 == 0:
				klog.Warnf("Warning: Assigning a globally valid ethernet address to a device")
			}
			if ok {
				return mac
			}
		} else {
			klog.Warnf("%s: %q is not an ethernet address: use xx:xx:xx:xx:xx:xx", name, s)
		}
	}
	klog.Infof("Choosing a random ethernet address for device %s", name)
	mac = [6]byte{0xfe, 0xfd}
	rand.Read(mac[2:])
	return mac
}

func macText(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}
