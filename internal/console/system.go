package console

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
)

// SystemConsoles takes the values of console= and shows the log on each: on terminals ("tty0", "ttyS1"), on the host's standard
// error ("stderr0"), or to clients of the management console ("mc"), which does that by itself. The last terminal among
// them becomes the system console, /dev/console; without one there is none.
func (s *Set) SystemConsoles(names []string, stderr io.Writer) error {
	var system *tty.TTY
	var errs []error
	for _, name := range names {
		name, _, _ = strings.Cut(name, ",") // speed and format of a serial line
		if name == "mc" || name == "stderr0" || name == "stderr" {
			if name != "mc" {
				s.LogShown = true
				klog.AddSink(func(r klog.Record) { fmt.Fprintln(stderr, r) })
			}
			continue
		}
		t, p := s.device(name)
		if t == nil {
			errs = append(errs, fmt.Errorf("console=%s: there is no such device", name))
			continue
		}
		system = t
		s.mu.Lock()
		s.visible = s.visible || p.conf.out.kind == chanFD
		s.mu.Unlock()
		if err := tty.Hold(t); err != nil {
			errs = append(errs, fmt.Errorf("console=%s: the channel %s cannot be opened", name, p.conf.text))
		}
		klog.AddSink(tty.LogSink(t))
	}
	if system == nil {
		system, _ = s.device("tty0")
	}
	if system != nil {
		tty.SetConsole(system)
	}
	return errors.Join(errs...)
}

// device is the line whose terminal has a name below /dev.
func (s *Set) device(name string) (*tty.TTY, *port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line, t := range s.ttys {
		if t.Name() == name {
			return t, s.ports[line]
		}
	}
	return nil, nil
}
