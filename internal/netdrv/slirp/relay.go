package slirp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dialTimeout = 30 * time.Second
	// flowIdle is how long a UDP flow without datagrams is kept (RFC 4787 wants two minutes at least), and nameIdle one to a
	// name server, which has an answer and no more: resolvers ask each question from another port.
	flowIdle = 2 * time.Minute
	nameIdle = 10 * time.Second
	// settleTime is about how long a guest may take for the end of a connection.
	settleTime = time.Minute
)

func destination(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort)
}

// take counts one more of something that a guest can only have so many of.
func take(n *atomic.Int32, most int32) bool {
	if n.Add(1) > most {
		n.Add(-1)
		return false
	}
	return true
}

// tcp connects the guest with who it calls. It gets its answer only when the host has got one: a connection that the other side
// refuses is refused.
func (n *Net) tcp(r *tcp.ForwarderRequest) {
	to, ok := n.target(destination(r.ID()))
	if !ok || !take(&n.conns, maxConns) {
		r.Complete(true)
		return
	}
	defer n.conns.Add(-1)
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	out, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		// Nobody answered: neither do we, and the guest tries again for as long as it likes. All else is a refusal.
		r.Complete(!errors.Is(err, context.DeadlineExceeded))
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(terr != nil)
	if terr != nil {
		out.Close()
		return
	}
	// A guest that is gone without a word is found out.
	ep.SocketOptions().SetKeepAlive(true)
	n.join(gonet.NewTCPConn(&wq, ep), out.(*net.TCPConn))
	n.settle(ep)
}

// settle waits until the guest has acknowledged what it was sent last, so that it cannot have us keep that for more connections
// than it may have. One that does not for long is reset.
func (n *Net) settle(ep tcpip.Endpoint) {
	for wait := time.Millisecond; wait < settleTime; wait *= 2 {
		switch tcp.EndpointState(ep.State()) {
		case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
			return
		}
		select {
		case <-time.After(wait):
		case <-n.ctx.Done():
			return
		}
	}
	ep.Abort()
}

// stream is a connection that can be ended for one direction.
type stream interface {
	net.Conn
	CloseWrite() error
}

// join carries bytes both ways until both directions have ended.
func (n *Net) join(a, b stream) {
	both := func() { a.Close(); b.Close() }
	defer both()
	defer context.AfterFunc(n.ctx, both)()
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(a, b)
	}()
	oneWay(b, a)
	<-done
}

// oneWay carries bytes to dst. The end of the stream is passed on; an error ends both directions, as a reset does.
func oneWay(dst, src stream) {
	_, err := io.Copy(dst, src)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		dst.Close()
		src.Close()
	}
}

// udp makes a flow of the datagrams between two ports. It is called by the stack for the first of them, and does not wait.
func (n *Net) udp(r *udp.ForwarderRequest) bool {
	dst := destination(r.ID())
	to, ok := n.target(dst)
	if !ok {
		// Nobody listens there; but who sends to many is not told so.
		return !Network.Contains(dst.Addr()) || dst.Addr() == broadcast
	}
	if !take(&n.flows, maxFlows) {
		return true
	}
	out, err := dialUDP(to)
	if err != nil {
		n.flows.Add(-1)
		return errors.Is(err, unix.EACCES)
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		n.flows.Add(-1)
		out.Close()
		return true
	}
	idle := flowIdle
	if to.Port() == 53 {
		idle = nameIdle
	}
	go n.flow(gonet.NewUDPConn(&wq, ep), out, idle)
	return true
}

// dialUDP makes the host's end of a flow: EACCES if the address is the broadcast address of a network of the host, which only
// the host knows.
func dialUDP(to netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		// Package net allows it for all sockets.
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0) }); cerr != nil {
			return cerr
		}
		return err
	}}
	c, err := d.Dial("udp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// broadcast is the network's.
var broadcast = netip.MustParseAddr("10.0.2.255")

// flow carries datagrams until there have been none for a while.
func (n *Net) flow(guest *gonet.UDPConn, out *net.UDPConn, patience time.Duration) {
	defer n.flows.Add(-1)
	both := func() { guest.Close(); out.Close() }
	defer both()
	defer context.AfterFunc(n.ctx, both)()
	idle := time.AfterFunc(patience, both)
	defer idle.Stop()
	done := make(chan struct{})
	carry := func(dst, src net.Conn) {
		buf := make([]byte, 65536)
		for {
			k, err := src.Read(buf)
			switch {
			case err == nil:
				idle.Reset(patience)
				_, err = dst.Write(buf[:k])
				if err != nil && !errors.Is(err, net.ErrClosed) {
					continue // lost, as on a wire
				}
			case errors.Is(err, unix.ECONNREFUSED):
				continue // for an earlier datagram
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		defer close(done)
		carry(guest, out)
		both()
	}()
	carry(out, guest)
	both()
	<-done
}

// listen opens the port of a Forward.
func (n *Net) listen(f Forward) error {
	if f.Network == "udp" {
		return n.listenUDP(f)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(f.Host))
	if err != nil {
		return err
	}
	context.AfterFunc(n.ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(100 * time.Millisecond) // no descriptors, or no memory: later, perhaps
				continue
			}
			if !take(&n.conns, maxConns) {
				c.Close()
				continue
			}
			go func() {
				defer n.conns.Add(-1)
				n.callIn(c, f.Guest)
			}()
		}
	}()
	return nil
}

// callIn connects a connection from the host with the guest.
func (n *Net) callIn(c *net.TCPConn, guest netip.AddrPort) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	in, err := gonet.DialTCPWithBind(ctx, n.stack, tcpip.FullAddress{NIC: nic, Addr: address(Router)},
		tcpip.FullAddress{NIC: nic, Addr: address(guest.Addr()), Port: guest.Port()}, ipv4.ProtocolNumber)
	cancel()
	if err != nil {
		_ = c.SetLinger(0) // a reset: the guest does not listen
		c.Close()
		return
	}
	n.join(in, c)
}

// listenUDP opens a port whose datagrams go to the guest. Each sender has a flow of its own, so that answers find it.
func (n *Net) listenUDP(f Forward) error {
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(f.Host))
	if err != nil {
		return err
	}
	context.AfterFunc(n.ctx, func() { l.Close() })
	go newSenders(n, l, f.Guest).serve()
	return nil
}
