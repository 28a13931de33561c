package console

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// Set is the consoles and serial lines of the guest.
type Set struct {
	// SerialNonRaw is ssl-non-raw: the channels of serial lines are not put into raw mode.
	SerialNonRaw bool
	// Xterm is the terminal emulator of the channel xterm, Name what its windows are called in their titles.
	Xterm [3]string
	Name  string
	// Stderr gets the announcements of lines if no log on the host shows them; nil for none. LogShown says that the log is
	// shown on the host, otherwise than on a console.
	Stderr   io.Writer
	LogShown bool
	// Assigned, if not nil, is told where each line is on the host ("con1", "/dev/pts/4"), and "" when it is gone.
	Assigned func(line, device string)

	con, ssl config

	mu        sync.Mutex
	ports     map[string]*port // by line name
	ttys      map[string]*tty.TTY
	listeners map[string]*listener // by configured address
	announced map[string]string    // by line name
	visible   bool                 // the system console is a host descriptor
}

// New is a Set with the built-in configuration.
func New() *Set {
	return &Set{
		Stderr:    os.Stderr,
		Xterm:     DefaultXterm,
		con:       config{kind: consoles, one: map[int]string{}},
		ssl:       config{kind: serials, one: map[int]string{}},
		ports:     map[string]*port{},
		ttys:      map[string]*tty.TTY{},
		listeners: map[string]*listener{},
		announced: map[string]string{},
	}
}

// Option takes a command-line word. ok is false if it is not an option of this package; err tells what is wrong with it.
func (s *Set) Option(word string) (ok bool, err error) {
	if word == "ssl-non-raw" {
		s.SerialNonRaw = true
		return true, nil
	}
	c, arg := s.configFor(word)
	if c == nil {
		return false, nil
	}
	return true, c.set(arg)
}

// configFor finds "con..." and "ssl..." words: the keyword is followed by a number or by "=".
func (s *Set) configFor(word string) (*config, string) {
	for _, c := range []*config{&s.con, &s.ssl} {
		if arg, ok := strings.CutPrefix(word, c.kind.option); ok && arg != "" && (arg[0] == '=' || arg[0] >= '0' && arg[0] <= '9') {
			return c, arg
		}
	}
	return nil, ""
}

// Register makes the terminals of all lines. Lines that can not be configured do not exist; the joined errors tell which.
func (s *Set) Register() error {
	var errs []error
	for _, c := range []*config{&s.con, &s.ssl} {
		for n := range c.kind.lines {
			if err := s.register(c.kind, n, c.of(n)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Set) register(k *kind, n int, text string) error {
	conf, err := parsePair(text)
	if err != nil {
		return fmt.Errorf("setup_one_line failed for device %d : failed to parse channel pair: %w", n, err)
	}
	if conf.none() {
		return nil
	}
	p := newPort(s, k, n, conf)
	for _, side := range p.sides() {
		if side.ch.kind == chanPort {
			// From now on, so that nobody is refused who comes before the guest opens the line.
			if _, err := s.listener(side.ch.addr); err != nil {
				return fmt.Errorf("%s: %w", p.label(), err)
			}
		}
	}
	reg := tty.RegisterConsole
	if k == serials {
		reg = tty.RegisterSerial
	}
	t, err := reg(n, p)
	if err != nil {
		return fmt.Errorf("%s%d: %w", k.option, n, err)
	}
	s.mu.Lock()
	s.ports[lineName(k, n)] = p
	s.ttys[lineName(k, n)] = t
	s.mu.Unlock()
	return nil
}

func lineName(k *kind, n int) string { return fmt.Sprintf("%s%d", k.option, n) }

// announce tells where a line is on the host, once for each place.
func (s *Set) announce(p *port, what, device string) {
	s.mu.Lock()
	known := s.announced[p.name()] == device
	s.announced[p.name()] = device
	shown := (s.visible || s.LogShown) && klog.ConsoleLevel() > klog.Info
	s.mu.Unlock()
	if known {
		return
	}
	text := p.label() + " " + what
	if !shown && s.Stderr != nil {
		fmt.Fprintln(s.Stderr, text)
	}
	if s.Assigned != nil {
		s.Assigned(p.name(), device)
	}
	klog.Infof("%s", text)
}

// retract says that a line is no longer on the host.
func (s *Set) retract(p *port) {
	s.mu.Lock()
	_, known := s.announced[p.name()]
	delete(s.announced, p.name())
	s.mu.Unlock()
	if known && s.Assigned != nil {
		s.Assigned(p.name(), "")
	}
}

// listener is the one for an address, started if need be.
func (s *Set) listener(addr string) (*listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.listeners[addr]; l != nil {
		return l, nil
	}
	l, err := listen(addr)
	if err != nil {
		return nil, err
	}
	s.listeners[addr] = l
	return l, nil
}

// pruneListeners closes those that no line uses any more.
func (s *Set) pruneListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, l := range s.listeners {
		used := false
		for _, p := range s.ports {
			used = used || p.conf.in.addr == addr || p.conf.out.addr == addr
		}
		if !used {
			l.close()
			delete(s.listeners, addr)
		}
	}
}

// Resize passes the window sizes of all open host terminals on to the guest.
func (s *Set) Resize() {
	s.mu.Lock()
	ports := make([]*port, 0, len(s.ports))
	for _, p := range s.ports {
		ports = append(ports, p)
	}
	s.mu.Unlock()
	for _, p := range ports {
		p.resized()
	}
}

// Drain waits until the host has taken what the terminals have sent, at most for d. It is for the end of the guest.
func (s *Set) Drain(d time.Duration) {
	end := time.Now().Add(d)
	s.mu.Lock()
	ttys := maps.Clone(s.ttys)
	ports := maps.Clone(s.ports)
	s.mu.Unlock()
	for line, t := range ttys {
		for t.Unsent() > 0 && time.Now().Before(end) {
			if there, _ := ports[line].Carrier(); !there {
				break
			}
			t.WriteWakeup()
			time.Sleep(time.Millisecond)
		}
	}
}

// Close closes all lines and restores the host's terminals.
func (s *Set) Close() {
	s.mu.Lock()
	ports := s.ports
	s.ports = map[string]*port{}
	s.mu.Unlock()
	for _, p := range ports {
		p.destroy()
	}
	s.pruneListeners()
	RestoreTerminals()
}
