package console

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// Drivers are how the management console sees the set: "con" and "ssl".
func (s *Set) Drivers() []hotplug.Driver { return []hotplug.Driver{lines{s, &s.con}, lines{s, &s.ssl}} }

// lines are the consoles or the serial lines of a set.
type lines struct {
	set *Set
	cfg *config
}

// Name is "con" or "ssl".
func (l lines) Name() string { return l.cfg.kind.option }

// number finds the line that an id means.
func (l lines) number(id string) (int, error) {
	n, ok := parseNumber(id)
	if !ok {
		return 0, errors.New("Couldn't parse device number")
	}
	if n >= l.cfg.kind.lines {
		return 0, fmt.Errorf("Invalid device number - must be between 0 and %d", l.cfg.kind.lines-1)
	}
	return n, nil
}

// Config makes a line or changes one that is not open: "1=pts".
func (l lines) Config(arg string) error {
	id, conf, ok := strings.Cut(arg, "=")
	if !ok {
		return errors.New("the form is <line>=<channel>[,<channel>]")
	}
	if id == "" {
		return errors.New("Can't configure all devices from mconsole")
	}
	n, err := l.number(id)
	if err != nil {
		return err
	}
	if _, err := parsePair(conf); err != nil {
		return err
	}
	if err := l.set.remove(lineName(l.cfg.kind, n)); err != nil && err != unix.ENODEV {
		return err
	}
	return l.set.register(l.cfg.kind, n, conf)
}

// Query is the configuration, with the host's device if the line has got one; "none" without the line.
func (l lines) Query(id string) (string, error) {
	n, err := l.number(id)
	if err != nil {
		return "", err
	}
	l.set.mu.Lock()
	p := l.set.ports[lineName(l.cfg.kind, n)]
	l.set.mu.Unlock()
	if p == nil {
		return "none", nil
	}
	return p.config(), nil
}

// Remove takes a line away that is not open.
func (l lines) Remove(id string) error {
	n, err := l.number(id)
	if err != nil {
		return err
	}
	return l.set.remove(lineName(l.cfg.kind, n))
}

func (s *Set) remove(line string) error {
	s.mu.Lock()
	t, p := s.ttys[line], s.ports[line]
	s.mu.Unlock()
	if t == nil {
		return unix.ENODEV
	}
	if err := tty.Unregister(t); err == unix.EBUSY {
		return &hotplug.Error{Errno: unix.EBUSY, Text: "Device is already open"}
	} else if err != nil {
		return err // somebody else was faster
	}
	s.mu.Lock()
	if s.ttys[line] == t {
		delete(s.ttys, line)
		delete(s.ports, line)
	}
	s.mu.Unlock()
	p.destroy()
	s.pruneListeners()
	return nil
}
