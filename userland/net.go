package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ping asks a host for echoes: -c ends it after that many, -i is the interval and -W the time to wait for the last in
// seconds, -s the bytes of data. The status is 1 if nothing came back.
func ping(args []string) int {
	o, names, err := getopt(args, "46c:i:W:s:q")
	if err != nil {
		return fail(err)
	}
	if len(names) != 1 {
		return usage("[-46q] [-c count] [-i interval] [-s size] [-W timeout] host")
	}
	count, size := 0, 56
	for letter, to := range map[byte]*int{'c': &count, 's': &size} {
		if v, ok := o[letter]; ok {
			if *to, err = strconv.Atoi(v); err != nil || *to < 0 || *to > 65507-8 {
				return fail(fmt.Errorf("-%c %s is not a possible number", letter, v))
			}
		}
	}
	interval, wait := time.Second, 10*time.Second
	for letter, to := range map[byte]*time.Duration{'i': &interval, 'W': &wait} {
		if v, ok := o[letter]; ok {
			s, err := strconv.ParseFloat(v, 64)
			if err != nil || s < 0 || s > 1e6 {
				return fail(fmt.Errorf("-%c %s is not a time in seconds", letter, v))
			}
			*to = time.Duration(s * float64(time.Second))
		}
	}
	network := "ip"
	if o.has('4') {
		network = "ip4"
	} else if o.has('6') {
		network = "ip6"
	}
	to, err := net.ResolveIPAddr(network, names[0])
	if err != nil {
		return fail(err)
	}
	p, err := newPinger(to, size)
	if err != nil {
		return fail(err)
	}
	fmt.Fprintf(stdout, "PING %s (%s): %d data bytes\n", names[0], to, size)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go p.receive()
	begun := time.Now()
	failed := 0
	for seq := 1; ; seq++ {
		stdout.Flush()
		if err := p.send(uint16(seq)); err != nil {
			fail(err)
			failed++
		}
		pause, last := interval, count != 0 && seq >= count
		if last && p.received+failed >= seq {
			pause = 0
		} else if last {
			pause = wait
		}
		for timer := time.After(pause); timer != nil; {
			select {
			case e := <-p.echoes:
				p.count(e, o.has('q'))
				if stdout.Flush(); last && p.received+failed >= seq {
					timer = nil
				}
				continue
			case <-interrupted:
				last = true
			case <-timer:
			}
			timer = nil
		}
		if last {
			return p.summary(names[0], seq, time.Since(begun))
		}
	}
}

// pinger is one run of ping.
type pinger struct {
	fd      int
	to      unix.Sockaddr
	request byte
	reply   byte
	data    []byte
	echoes  chan pong
	raw     bool   // all of ICMP
	id      uint16 // that tells our echoes from others'; the host's if the socket is for echoes only

	received      int
	min, max, sum time.Duration
}

// pong is what came back, or why nothing can. took is 0 if the data had no room for the time.
type pong struct {
	from net.IP
	n    int
	seq  uint16
	took time.Duration
	err  error
}

// newPinger uses a socket for echoes only where net.ipv4.ping_group_range allows it, else one for all of ICMP, which needs
// privilege (icmp(7), raw(7)).
func newPinger(to *net.IPAddr, size int) (*pinger, error) {
	p := &pinger{request: 8, reply: 0, data: make([]byte, size), echoes: make(chan pong)}
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if a := to.IP.To4(); a != nil {
		p.to = &unix.SockaddrInet4{Addr: [4]byte(a)}
	} else {
		family, proto, p.request, p.reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		sa := &unix.SockaddrInet6{Addr: [16]byte(to.IP)}
		if i, err := net.InterfaceByName(to.Zone); err == nil {
			sa.ZoneId = uint32(i.Index)
		}
		p.to = sa
	}
	var err error
	if p.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto); err == unix.EACCES {
		p.raw, p.id = true, uint16(os.Getpid())
		p.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	}
	return p, err
}

func (p *pinger) send(seq uint16) error {
	m := make([]byte, 8+len(p.data))
	m[0] = p.request
	binary.BigEndian.PutUint16(m[4:], p.id)
	binary.BigEndian.PutUint16(m[6:], seq)
	if len(p.data) >= 8 {
		binary.BigEndian.PutUint64(m[8:], uint64(time.Now().UnixNano()))
	}
	// The socket fills in the checksum of ICMPv6, and one for echoes the identifier.
	if p.request == 8 {
		var sum uint32
		for i := 0; i < len(m); i += 2 {
			sum += uint32(m[i]) << 8
			if i+1 < len(m) {
				sum += uint32(m[i+1])
			}
		}
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	}
	return unix.Sendto(p.fd, m, 0, p.to)
}

// receive passes on what comes back until the program ends, or the socket cannot be read.
func (p *pinger) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			p.echoes <- pong{err: err}
			return
		}
		m := buf[:n]
		if p.raw && p.request == 8 && n > 0 { // with the header of IP
			m = m[min(n, int(m[0]&15)*4):]
		}
		if len(m) >= 8 && m[0] == p.reply && (!p.raw || binary.BigEndian.Uint16(m[4:]) == p.id) {
			e := pong{from: sockaddrIP(from), n: len(m), seq: binary.BigEndian.Uint16(m[6:])}
			if len(m) >= 16 {
				e.took = time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(m[8:]))))
			}
			p.echoes <- e
		}
	}
}

func (p *pinger) count(e pong, quiet bool) {
	if e.err != nil {
		fail(e.err)
		return
	}
	text := fmt.Sprintf("%d bytes from %s: seq=%d", e.n, e.from, e.seq)
	if e.took != 0 {
		if p.received == 0 {
			p.min = e.took
		}
		p.min, p.max, p.sum = min(p.min, e.took), max(p.max, e.took), p.sum+e.took
		text += fmt.Sprintf(" time=%.3f ms", milliseconds(e.took))
	}
	if p.received++; !quiet {
		stdout.WriteString(text + "\n")
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sockaddrIP(sa unix.Sockaddr) net.IP {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Addr[:]
	case *unix.SockaddrInet6:
		return sa.Addr[:]
	}
	return nil
}

func (p *pinger) summary(name string, sent int, took time.Duration) int {
	fmt.Fprintf(stdout, "\n--- %s ping statistics ---\n%d packets transmitted, %d received, %d%% packet loss, time %dms\n", name, sent,
		p.received, max(0, sent-p.received)*100/sent, took.Milliseconds())
	if p.received == 0 {
		return 1
	}
	if p.max > 0 {
		fmt.Fprintf(stdout, "round-trip min/avg/max = %.3f/%.3f/%.3f ms\n", milliseconds(p.min), milliseconds(p.sum)/float64(p.received), milliseconds(p.max))
	}
	return 0
}

// nc joins standard input and output to a connection: to host and port, or with -l from the first that comes. -u is UDP,
// -U a local socket, -z only looks whether somebody listens, -w the seconds to wait for a connection, -N closes at the end of input.
func nc(args []string) int {
	o, names, err := getopt(args, "luzNUvnp:w:s:46")
	if err != nil {
		return fail(err)
	}
	network, host, port := "tcp", "", o['p']
	switch {
	case o.has('U') && len(names) == 1:
		network, host = "unix", names[0]
	case o.has('U'):
		return usage("-U [-l] path")
	case o.has('l') && len(names) == 1 && port == "":
		port = names[0]
	case o.has('l') && len(names) == 0 && port != "":
	case len(names) == 2:
		host, port = names[0], names[1]
	default:
		return usage("[-46Nuvz] [-w seconds] host port\n       nc -l [-46Nuv] [-s address] [-p] port\n       nc -U [-l] path")
	}
	if o.has('u') {
		network = "udp"
	}
	if network != "unix" {
		if o.has('4') {
			network += "4"
		} else if o.has('6') {
			network += "6"
		}
		if o.has('l') && host == "" {
			host = o['s']
		}
		host = net.JoinHostPort(host, port)
	}
	var timeout time.Duration
	if w, ok := o['w']; ok {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 {
			return fail(fmt.Errorf("-w %s is not a number of seconds", w))
		}
		timeout = time.Duration(n) * time.Second
	}
	var c net.Conn
	switch {
	case o.has('l') && o.has('u'):
		c, err = firstDatagram(network, host)
	case o.has('l'):
		var l net.Listener
		if l, err = net.Listen(network, host); err == nil {
			c, err = l.Accept()
			l.Close()
		}
	default:
		c, err = net.DialTimeout(network, host, timeout)
	}
	if err != nil {
		return fail(socketError(err))
	}
	defer c.Close()
	if o.has('v') {
		fmt.Fprintf(os.Stderr, "nc: connected to %s\n", c.RemoteAddr())
	}
	if o.has('z') {
		return 0
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(c, os.Stdin)
		if h, ok := c.(interface{ CloseWrite() error }); ok {
			h.CloseWrite()
		} else if o.has('N') {
			c.Close()
		}
	}()
	if _, err := io.Copy(os.Stdout, c); err != nil && !errors.Is(err, net.ErrClosed) {
		return fail(socketError(err))
	}
	// The other side has ended its half. What stands in a pipe or file is still sent.
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		<-sent
	}
	return 0
}

// socketError is the reason in an error of the net package.
func socketError(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// datagrams is a UDP socket that talks to the sender of the first datagram.
type datagrams struct {
	*net.UDPConn
	peer  net.Addr
	first []byte
}

func firstDatagram(network, host string) (net.Conn, error) {
	a, err := net.ResolveUDPAddr(network, host)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP(network, a)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1<<16)
	n, from, err := c.ReadFrom(b)
	return &datagrams{c, from, b[:n]}, err
}

func (d *datagrams) RemoteAddr() net.Addr { return d.peer }

func (d *datagrams) Read(p []byte) (int, error) {
	if d.first != nil {
		n := copy(p, d.first)
		d.first = nil
		return n, nil
	}
	n, _, err := d.ReadFrom(p)
	return n, err
}

func (d *datagrams) Write(p []byte) (int, error) { return d.WriteTo(p, d.peer) }
