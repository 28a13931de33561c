package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// Set is the consoles and serial lines of the guest.
type Set struct {
	// SerialNonRaw is ssl-non-raw: the channels of serial lines are not put into raw mode.
	SerialNonRaw bool
	// Stderr gets the announcements of assigned devices if the system console is not there to show them; nil for none.
	Stderr io.Writer
	// Assigned, if not nil, is told of each host device assigned to a line ("con1", "/dev/pts/4").
	Assigned func(line, device string)

	con, ssl config

	mu      sync.Mutex
	ports   map[string]*port // by line name
	ttys    map[string]*tty.TTY
	winch   chan os.Signal
	visible bool // the system console is a host descriptor
}

// New is a Set with the built-in configuration.
func New() *Set {
	return &Set{
		Stderr: os.Stderr,
		con:    config{kind: consoles, one: map[int]string{}},
		ssl:    config{kind: serials, one: map[int]string{}},
		ports:  map[string]*port{},
		ttys:   map[string]*tty.TTY{},
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

// Help is the text of --help.
const Help = `con[0-9]*=<channel description>, ssl[0-9]*=<channel description>
    Attach a console or serial line to a host channel: fd:<descriptor>, null, none, pts or pty; <in>,<out> uses two.
    Without a number it is the default of all lines. Built in: con0=fd:0,fd:1 con=pts ssl=pts.

ssl-non-raw
    Do not put the host terminals of serial lines into raw mode.
`

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
	p := &port{set: s, kind: k, n: n, conf: conf, unthrottled: make(chan struct{}, 1)}
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

// SystemConsole makes the terminal with a name below /dev ("tty0", "ttyS0") the system console and shows the log there.
func (s *Set) SystemConsole(name string) error {
	for _, t := range tty.Devices() {
		if t.Name() != name {
			continue
		}
		s.mu.Lock()
		for line, p := range s.ports {
			if s.ttys[line] == t {
				s.visible = p.conf.out.kind == chanFD
			}
		}
		s.mu.Unlock()
		err := tty.SetConsole(t)
		klog.AddSink(tty.LogSink(t))
		return err
	}
	return fmt.Errorf("console %s: no such device", name)
}

// announce tells which host device a line got.
func (s *Set) announce(k *kind, n int, device string) {
	text := fmt.Sprintf("%s %d assigned device '%s'", k.label, n, device)
	s.mu.Lock()
	visible := s.visible
	s.mu.Unlock()
	if !visible && s.Stderr != nil {
		fmt.Fprintln(s.Stderr, text)
	}
	if s.Assigned != nil {
		s.Assigned(lineName(k, n), device)
	}
	klog.Infof("%s", text)
}

// watchSize starts to follow the window size of host terminals.
func (s *Set) watchSize() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.winch != nil {
		return
	}
	s.winch = make(chan os.Signal, 1)
	signal.Notify(s.winch, unix.SIGWINCH)
	go func(c chan os.Signal) {
		for range c {
			s.Resize()
		}
	}(s.winch)
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
		p.mu.Lock()
		t := p.t
		p.mu.Unlock()
		if t != nil {
			p.resize(t)
		}
	}
}

// Configure is mconsole's "config conN=<pair>": it replaces an unused line.
func (s *Set) Configure(word string) error {
	c, arg := s.configFor(word)
	if c == nil {
		return fmt.Errorf("no such device")
	}
	num, conf, ok := strings.Cut(arg, "=")
	n, good := parseNumber(num)
	if !ok || !good {
		return errors.New("Couldn't parse device number")
	}
	if n >= c.kind.lines {
		return errors.New("Device number out of range")
	}
	if _, err := parsePair(conf); err != nil {
		return err
	}
	if err := s.remove(lineName(c.kind, n)); err != nil {
		return err
	}
	return s.register(c.kind, n, conf)
}

// Remove is mconsole's "remove conN".
func (s *Set) Remove(line string) error { return s.remove(line) }

func (s *Set) remove(line string) error {
	s.mu.Lock()
	t := s.ttys[line]
	s.mu.Unlock()
	if t == nil {
		return nil
	}
	if tty.Unregister(t) == unix.EBUSY {
		return errors.New("Device is already open")
	}
	s.mu.Lock()
	delete(s.ttys, line)
	delete(s.ports, line)
	s.mu.Unlock()
	return nil
}

// Config is mconsole's "config conN": the configuration, with the host device if there is one; "none" without the line.
func (s *Set) Config(line string) string {
	s.mu.Lock()
	p := s.ports[line]
	s.mu.Unlock()
	if p == nil {
		return "none"
	}
	return p.config()
}

// Drain waits until the host has taken what the terminals have sent, at most for d. It is for the end of the guest.
func (s *Set) Drain(d time.Duration) {
	end := time.Now().Add(d)
	for _, t := range tty.Devices() {
		for t.Unsent() > 0 && time.Now().Before(end) {
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
	if s.winch != nil {
		signal.Stop(s.winch)
		close(s.winch)
		s.winch = nil
	}
	s.mu.Unlock()
	for _, p := range ports {
		p.Close()
	}
	RestoreTerminals()
}
