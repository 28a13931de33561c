package console

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// maxWrite is what Port.Room promises when the host takes output; a short write is allowed all the same.
const maxWrite = 4096

// side is one channel of a line. port.mu guards all but ch.
type side struct {
	ch            *channel
	input, output bool
	conn          conn // nil if closed, without descriptor, or nobody has come yet
	device        string
	// cancel ends the wait for the other end; nil if there is none. turn numbers the waits, so that one who comes for a
	// wait that is over is sent away.
	cancel func()
	turn   int
	err    error // why nobody will come
}

// port is one line. It implements tty.Port, tty.Carrier and tty.LineControl.
type port struct {
	set     *Set
	kind    *kind
	n       int
	conf    pair
	in, out *side // the same if one channel serves both directions

	unthrottled chan struct{} // capacity 1

	mu      sync.Mutex
	t       *tty.TTY // set by the first Open
	isOpen  bool
	waiting bool // a goroutine waits for room
	taps    []*tap
	// size is what the line's own window was last.
	size unix.Winsize
}

func newPort(s *Set, k *kind, n int, conf pair) *port {
	p := &port{set: s, kind: k, n: n, conf: conf, unthrottled: make(chan struct{}, 1)}
	p.in = &side{ch: &p.conf.in, input: true, output: conf.same}
	p.out = p.in
	if !conf.same {
		p.out = &side{ch: &p.conf.out, output: true}
	}
	return p
}

// sides are the channels of the line, each once.
func (p *port) sides() []*side {
	if p.in == p.out {
		return []*side{p.in}
	}
	return []*side{p.in, p.out}
}

// name is "con1".
func (p *port) name() string { return lineName(p.kind, p.n) }

// label is "Virtual console 1".
func (p *port) label() string { return fmt.Sprintf("%s %d", p.kind.label, p.n) }

func (p *port) raw() bool { return p.kind == consoles || !p.set.SerialNonRaw }

// Open opens the channels of the line that are not open still. It does not wait for who comes later.
func (p *port) Open(t *tty.TTY) error {
	p.mu.Lock()
	if p.t == nil {
		p.t = t
	}
	p.isOpen = true
	p.mu.Unlock()
	for _, s := range p.sides() {
		if err := p.openSide(s); err != nil {
			klog.Errf("%s: %s: %v", p.label(), s.ch.text, err)
			p.Close()
			return unix.ENODEV
		}
	}
	ws, _ := p.Size()
	p.mu.Lock()
	p.size = ws
	p.mu.Unlock()
	return nil
}

func (p *port) openSide(s *side) error {
	p.mu.Lock()
	there := s.conn != nil || s.cancel != nil
	p.mu.Unlock()
	if there {
		return nil
	}
	if s.ch.comesLater() {
		return p.await(s)
	}
	c, device, err := p.openChannel(s)
	if c == nil || err != nil {
		return err
	}
	p.mu.Lock()
	s.conn, s.device = c, device
	p.mu.Unlock()
	if device != "" {
		p.set.announce(p, fmt.Sprintf("assigned device '%s'", device), device)
	}
	p.startReader(s, c)
	return nil
}

// openChannel opens a channel that is there at once. It returns nil for null, and the name of the host's device if there is
// one that users should know.
func (p *port) openChannel(s *side) (conn, string, error) {
	switch s.ch.kind {
	case chanNull:
		return nil, "", nil
	case chanFD:
		h, err := newHostFD(s.ch.fd, s.output)
		if err != nil {
			return nil, "", err
		}
		if s.input && p.raw() {
			h.raw()
		}
		return h, "", nil
	case chanPts, chanPty:
		c, name, err := openPts(p.raw(), p.resized)
		if err != nil {
			return nil, "", err
		}
		return c, name, nil
	case chanTTY:
		c, err := openTTY(s.ch.path, s.input, s.output, p.raw())
		if err != nil {
			return nil, "", err
		}
		return c, s.ch.path, nil
	}
	return nil, "", fmt.Errorf("no such channel")
}

// await begins to wait for the other end of a channel.
func (p *port) await(s *side) error {
	p.mu.Lock()
	s.turn++
	turn := s.turn
	s.err = nil
	p.mu.Unlock()
	var cancel func()
	switch s.ch.kind {
	case chanPort:
		l, err := p.set.listener(s.ch.addr)
		if err != nil {
			return err
		}
		cancel = l.wait(func(fd int) {
			c, err := newTelnet(fd)
			if err != nil {
				p.arrived(s, turn, nil, err)
				return
			}
			c.onBreak = func() { p.t.ReceiveBreak() }
			c.onSize = p.resized
			p.arrived(s, turn, c, nil)
		})
		p.set.announce(p, fmt.Sprintf("waits for a connection (telnet) at %s", l.addr()), "telnet://"+l.addr())
	case chanXterm:
		var err error
		title := fmt.Sprintf("%s #%d (%s)", p.kind.title, p.n, p.set.Name)
		cancel, err = openWindow(p.set.Xterm, title, p.raw(), func(c conn, err error) { p.arrived(s, turn, c, err) }, p.resized)
		if err != nil {
			return err
		}
	}
	p.mu.Lock()
	over := s.turn != turn || !p.isOpen
	if !over && s.conn == nil && s.err == nil {
		s.cancel = cancel
	}
	p.mu.Unlock()
	if over {
		cancel()
	}
	return nil
}

// arrived is the end of a wait: c is the other end, or err tells why there will be none.
func (p *port) arrived(s *side, turn int, c conn, err error) {
	p.mu.Lock()
	if s.turn != turn || !p.isOpen {
		p.mu.Unlock()
		if c != nil {
			c.close()
		}
		return
	}
	s.conn, s.err, s.cancel = c, err, nil
	t := p.t
	p.mu.Unlock()
	if err != nil {
		klog.Errf("%s: %s: %v", p.label(), s.ch.text, err)
	} else {
		p.startReader(s, c)
		p.resized()
	}
	t.CarrierChanged()
}

// Carrier tells whether all who come later have come.
func (p *port) Carrier() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sides() {
		if s.err != nil {
			return false, unix.ENODEV
		}
		if s.ch.comesLater() && s.conn == nil {
			return false, nil
		}
	}
	return true, nil
}

// Close closes the channels that are not kept, and ends all waiting. Readers end by themselves.
func (p *port) Close() { p.shut(false) }

// destroy closes everything for good.
func (p *port) destroy() {
	p.shut(true)
	p.set.retract(p)
}

func (p *port) shut(all bool) {
	var conns []conn
	var cancels []func()
	p.mu.Lock()
	p.isOpen = false
	for _, c := range p.taps {
		conns = append(conns, c)
	}
	p.taps = nil
	for _, s := range p.sides() {
		if s.cancel != nil {
			cancels = append(cancels, s.cancel)
			s.cancel = nil
		}
		s.turn++
		s.err = nil
		if s.conn != nil && (all || !s.ch.kept()) {
			conns = append(conns, s.conn)
			s.conn, s.device = nil, ""
		}
	}
	p.mu.Unlock()
	for _, f := range cancels {
		f()
	}
	for _, c := range conns {
		c.close()
	}
}

// startReader reads from a channel that can have input, or that can tell us by its end that its user has gone.
func (p *port) startReader(s *side, c conn) {
	if c.neverInput() || !s.input && !s.ch.kept() {
		return
	}
	c.hold()
	go p.readInput(s, c)
}

// readInput feeds the terminal until the channel is closed or the input ends.
func (p *port) readInput(s *side, c conn) {
	defer c.drop()
	buf := make([]byte, 4096)
	for c.wait(unix.POLLIN) {
		n, err := c.read(buf)
		if err == unix.EAGAIN {
			continue
		}
		if n == 0 || err != nil {
			if c.hangsUp() {
				p.lost(s, c)
			} else {
				p.t.ReceiveEOF()
			}
			return
		}
		p.resized()
		if !s.input {
			continue
		}
		for b := buf[:n]; len(b) > 0; {
			if b = b[p.t.Receive(b):]; len(b) == 0 {
				break
			}
			select {
			case <-p.unthrottled:
			case <-c.closed():
				return
			}
		}
	}
}

// lost hangs the guest's terminal up, because the user of a channel has gone. If the terminal stays open all the same, as that
// of the system console does, the line waits for the next user.
func (p *port) lost(s *side, c conn) {
	p.mu.Lock()
	if s.conn != c {
		p.mu.Unlock()
		return
	}
	if s.ch.kept() {
		s.conn, s.device = nil, ""
	}
	p.mu.Unlock()
	if s.ch.kept() {
		c.close()
	}
	p.t.Hangup()
	p.mu.Lock()
	again := p.isOpen && s.conn == nil && s.cancel == nil && s.ch.kept()
	p.mu.Unlock()
	if !again {
		return
	}
	if err := p.openSide(s); err != nil {
		klog.Errf("%s: %s: %v", p.label(), s.ch.text, err)
	}
}

// Unthrottle lets the reader go on.
func (p *port) Unthrottle() {
	select {
	case p.unthrottled <- struct{}{}:
	default:
	}
}

// Write writes what the host takes at once. If that is not all, somebody waits for room and wakes the terminal; if nobody is
// there yet to read, that is who comes.
func (p *port) Write(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.out.conn
	if c == nil {
		if p.out.ch.comesLater() && len(p.taps) == 0 {
			return 0
		}
		p.tapLocked(b)
		return len(b)
	}
	done := 0
	defer func() { p.tapLocked(b[:done]) }()
	for done < len(b) {
		n, err := c.write(b[done:])
		done += n
		if err == unix.EAGAIN || err == nil && n == 0 {
			p.waitRoomLocked(c)
			return done
		}
		if err != nil {
			return len(b) // nobody is there to see it
		}
	}
	return done
}

// Room is how much Write takes.
func (p *port) Room() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.out.conn
	switch {
	case c == nil && p.out.ch.comesLater() && len(p.taps) == 0:
		return 0
	case c == nil || c.ready(unix.POLLOUT):
		return maxWrite
	}
	p.waitRoomLocked(c)
	return 0
}

// waitRoomLocked makes sure that WriteWakeup is called when the host takes output again.
func (p *port) waitRoomLocked(c conn) {
	if p.waiting {
		return
	}
	p.waiting = true
	t := p.t
	c.hold()
	go func() {
		c.wait(unix.POLLOUT)
		c.drop()
		p.mu.Lock()
		p.waiting = false
		p.mu.Unlock()
		t.WriteWakeup()
	}()
}

// Pending and Discard: what Write took is with the host.
func (p *port) Pending() int { return 0 }

// Discard has nothing to discard.
func (p *port) Discard() {}

// Size is the window size of the host terminal.
func (p *port) Size() (unix.Winsize, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sides() {
		if s.conn == nil {
			continue
		}
		if ws, ok := s.conn.size(); ok {
			return ws, true
		}
	}
	return unix.Winsize{}, false
}

// resized passes the window size on if it is a new one.
func (p *port) resized() {
	ws, ok := p.Size()
	p.mu.Lock()
	t := p.t
	changed := ok && ws != p.size
	if changed {
		p.size = ws
	}
	p.mu.Unlock()
	if changed && t != nil {
		t.Resize(ws)
	}
}

// SetLine passes the speed and format of a line on to the host's, if it is a real one. SetBreak begins and ends a break.
func (p *port) SetLine(tm *unix.Termios) { p.eachTTY(func(c *ttyConn) { c.setLine(tm) }) }

// SetBreak reports false if the line has no breaks.
func (p *port) SetBreak(on bool) bool {
	found := false
	p.eachTTY(func(c *ttyConn) { found = true; c.setBreak(on) })
	return found
}

func (p *port) eachTTY(f func(*ttyConn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sides() {
		if c, ok := s.conn.(*ttyConn); ok {
			f(c)
		}
	}
}

// config is what mconsole's "config conN" shows: the configuration, with the devices that the host has chosen.
func (p *port) config() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := ""
	for i, s := range p.sides() {
		if i > 0 {
			text += ","
		}
		if text += s.ch.text; s.device != "" && s.ch.kind != chanTTY {
			text = text[:len(text)-len(s.ch.text)] + "pts:" + s.device
		}
	}
	return text
}
