package console

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// kind is consoles or serial lines.
type kind struct {
	option string // "con", "ssl"
	what   string // in error texts
	label  string // in announcements
	lines  int
}

var (
	consoles = &kind{"con", "console", "Virtual console", 16}
	serials  = &kind{"ssl", "serial line", "Serial line", 64}
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
	fd   int
	text string
}

var errUnavailable = errors.New("not available in this version")

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
			return c, fmt.Errorf("channel type 'tty' (%s) is %w", s, errUnavailable)
		case chanPort:
			if !hasArg {
				return c, errors.New("port_init : channel type 'port' must specify a port number")
			}
			return c, fmt.Errorf("channel type 'port' (%s) is %w", s, errUnavailable)
		case chanXterm:
			return c, fmt.Errorf("channel type 'xterm' is %w", errUnavailable)
		}
		return c, nil
	}
	return channel{}, fmt.Errorf("parse_chan couldn't parse \"%s\"", s)
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
