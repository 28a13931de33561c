package console

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// kind is consoles or serial lines.
type kind struct {
	option string // "con", "ssl"
	what   string // in error texts
	label  string // in announcements
	title  string // of windows
	lines  int
}

var (
	consoles = &kind{"con", "console", "Virtual console", "Virtual Console", 16}
	serials  = &kind{"ssl", "serial line", "Serial line", "Serial Line", 64}
)

// channelKind is a keyword of the channel syntax.
type channelKind int

const (
	chanFD channelKind = iota
	chanNull
	chanPort
	chanPty
	chanPts
	chanTTY
	chanXterm
	chanNone
)

// keywords in the order in which they are tried as prefixes.
var keywords = [...]string{"fd", "null", "port", "pty", "pts", "tty", "xterm"}

// channel is one parsed channel.
type channel struct {
	kind channelKind
	text string
	fd   int    // of fd
	path string // of tty: the host's device
	addr string // of port: where to listen, "address:port"
}

// kept tells that the channel outlives its last use by the guest: who is attached to a pty, a window or a connection
// stays attached from one login to the next.
func (c *channel) kept() bool {
	switch c.kind {
	case chanPts, chanPty, chanPort, chanXterm:
		return true
	}
	return false
}

// comesLater tells that the other end comes when it likes.
func (c *channel) comesLater() bool { return c.kind == chanPort || c.kind == chanXterm }

// parseChannel parses one channel.
func parseChannel(s string) (channel, error) {
	for k, key := range keywords {
		rest, ok := strings.CutPrefix(s, key)
		if !ok {
			continue
		}
		c := channel{kind: channelKind(k), text: s}
		arg, hasArg := strings.CutPrefix(rest, ":")
		switch c.kind {
		case chanFD:
			if !hasArg {
				return c, errors.New("fd_init : channel type 'fd' must specify a file descriptor")
			}
			n, ok := parseNumber(arg)
			if !ok {
				return c, fmt.Errorf("fd_init : couldn't parse file descriptor '%s'", arg)
			}
			c.fd = n
		case chanTTY:
			if !hasArg {
				return c, errors.New("tty_init : channel type 'tty' must specify a device")
			}
			if arg == "" {
				return c, errors.New("tty_init : channel type 'tty' must specify a device")
			}
			c.path = arg
		case chanPort:
			if !hasArg {
				return c, errors.New("port_init : channel type 'port' must specify a port number")
			}
			addr, err := portAddress(arg)
			if err != nil {
				return c, err
			}
			c.addr = addr
		}
		return c, nil
	}
	return channel{}, fmt.Errorf("parse_chan couldn't parse \"%s\"", s)
}

// portAddress is where "<port>", "<address>:<port>" or "[<IPv6 address>]:<port>" listens: on the loopback interface if no
// address says otherwise, because whoever connects has the console.
func portAddress(arg string) (string, error) {
	host, port := "127.0.0.1", arg
	if i := strings.LastIndexByte(arg, ':'); i >= 0 {
		host, port = arg[:i], arg[i+1:]
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if _, err := netip.ParseAddr(host); err != nil {
			return "", fmt.Errorf("port_init : '%s' is not an address; the form is port:<port> or port:<address>:<port>", host)
		}
	}
	n, ok := parseNumber(port)
	if !ok || n > 65535 {
		return "", fmt.Errorf("port_init : couldn't parse port number '%s'", port)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// pair is the configuration of one line.
type pair struct {
	in, out channel
	same    bool // one channel for both directions
	text    string
}

// none reports that the device shall not exist.
func (p *pair) none() bool { return p.in.kind == chanNone }

func parsePair(s string) (pair, error) {
	if s == "none" {
		c := channel{kind: chanNone, text: s}
		return pair{in: c, out: c, same: true, text: s}, nil
	}
	first, second, two := strings.Cut(s, ",")
	in, err := parseChannel(first)
	if err != nil {
		return pair{}, err
	}
	if !two {
		return pair{in: in, out: in, same: true, text: s}, nil
	}
	out, err := parseChannel(second)
	return pair{in: in, out: out, text: s}, err
}

// parseNumber reads a number as strtoul does with base 0: 0x is hexadecimal, a leading 0 octal.
func parseNumber(s string) (int, bool) {
	if strings.ContainsAny(s, "_bBoO+-") && !strings.HasPrefix(strings.ToLower(s), "0x") || strings.Contains(s, "_") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 0, 31)
	return int(n), err == nil
}

// config has the options of one kind: the default of all lines ("" if not given), and those of single lines. con= moves
// console 0 too, unless con0= says otherwise, whatever the order.
type config struct {
	kind *kind
	all  string
	one  map[int]string
}

// of is the configuration text of line n.
func (c *config) of(n int) string {
	if s, ok := c.one[n]; ok {
		return s
	}
	switch {
	case c.all != "":
		return c.all
	case c.kind == consoles && n == 0:
		return builtinConsole
	}
	return builtinAll
}

// set parses what follows "con" or "ssl": "=<pair>" or "<n>=<pair>".
func (c *config) set(arg string) error {
	fail := func(why string) error {
		return fmt.Errorf("Failed to set up %s with configuration string \"%s\" : %s", c.kind.what, arg, why)
	}
	num, conf, ok := strings.Cut(arg, "=")
	if !ok {
		return fail("Couldn't parse device number")
	}
	if num == "" {
		c.all = conf
		return nil
	}
	n, ok := parseNumber(num)
	if !ok {
		return fail("Couldn't parse device number")
	}
	if n >= c.kind.lines {
		return fail("Device number out of range")
	}
	c.one[n] = conf
	return nil
}

// The configuration without options.
const (
	builtinConsole = "fd:0,fd:1"
	builtinAll     = "pts"
)
