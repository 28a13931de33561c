package ubd

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// Set is the disks of a guest.
type Set struct {
	mu sync.Mutex
	// +checklocks:mu
	sync bool // ubd=sync: every disk is opened with O_SYNC
	// +checklocks:mu
	units map[int]*unit
}

type unit struct {
	spec *Spec
	disk *bdev.Disk
	dev  Device
}

// Device is an opened disk.
type Device interface {
	bdev.Device
	Close() error
}

// Option takes a word of the command line that begins with "ubd" or "udb". It opens the files and registers the disk.
// The error is the whole message to show.
func (s *Set) Option(word string) error {
	if rest, ok := strings.CutPrefix(word, "udb"); ok {
		return fmt.Errorf("udb%s specified on command line is almost certainly a ubd -> udb TYPO", rest)
	}
	rest, ok := strings.CutPrefix(word, "ubd")
	if !ok {
		return initError(word, errNotAnUbd)
	}
	if value, ok := strings.CutPrefix(rest, "="); ok {
		if value != "sync" {
			return errFakeUbd
		}
		s.mu.Lock()
		s.sync = true
		for n, u := range s.units {
			if !u.spec.Sync {
				klog.Warnf("ubd%d was configured before ubd=sync and is not synchronous", n)
			}
		}
		s.mu.Unlock()
		return nil
	}
	return s.Configure(rest)
}

// Configure adds a disk from the option without its prefix: "0r=file".
func (s *Set) Configure(option string) error {
	spec, err := Parse(option)
	if err != nil {
		return initError(option, err)
	}
	if octal(option) {
		klog.Warnf("ubd%s: the number is octal: this is ubd%d (%s)", option, spec.Unit, bdev.DiskName(spec.Unit))
	}
	if err := s.Add(spec); err != nil {
		return initError(option, err)
	}
	return nil
}

// Add opens and registers a disk.
func (s *Set) Add(spec *Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[spec.Unit] != nil {
		return errReused
	}
	sp := *spec
	sp.Sync = sp.Sync || s.sync
	dev, err := Open(&sp)
	if err != nil {
		return err
	}
	d := &bdev.Disk{Dev: dev, Index: sp.Unit, Serial: sp.Serial}
	if err := bdev.Register(d); err != nil {
		_ = dev.Close()
		return fmt.Errorf("%s: cannot be registered: %w", dev.Name(), err)
	}
	if s.units == nil {
		s.units = map[int]*unit{}
	}
	s.units[sp.Unit] = &unit{spec: &sp, disk: d, dev: dev}
	mode := "read-write"
	if dev.ReadOnly() {
		mode = "read-only"
	}
	klog.Infof("%s: %s, %d sectors, %s", dev.Name(), sp.String(), dev.Size()/bdev.SectorSize, mode)
	return nil
}

// DefaultFile is the image of unit 0 when no option names one.
const DefaultFile = "root_fs"

// Default adds DefaultFile of the current directory as unit 0 if there is such a file and unit 0 is not configured. It
// reports whether there is a unit 0 then.
func (s *Set) Default() (bool, error) {
	if s.Query(0) != "" {
		return true, nil
	}
	err := s.Add(&Spec{File: DefaultFile})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("Failed to initialize ubd device 0 :%w", err)
	}
	return true, nil
}

// Query is the configuration of a unit, "" if there is none.
func (s *Set) Query(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.units[n]; u != nil {
		return u.spec.String()
	}
	return ""
}

// Units lists the configured units in order.
func (s *Set) Units() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for n := range s.units {
		out = append(out, n)
	}
	sort.Ints(out)
	return out
}

// Remove takes a disk away: EBUSY if it is in use, ENODEV if there is none.
func (s *Set) Remove(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[n]
	if u == nil {
		return unix.ENODEV
	}
	if err := bdev.Unregister(u.disk); err != nil {
		return err
	}
	delete(s.units, n)
	if err := u.dev.Flush(); err != nil {
		klog.Errf("%s: flush at the end failed: %v", u.dev.Name(), err)
	}
	return u.dev.Close()
}

// Close flushes and closes all disks, also those in use: the guest is gone.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, u := range s.units {
		if err := u.dev.Flush(); err != nil {
			klog.Errf("%s: flush at the end failed: %v", u.dev.Name(), err)
		}
		_ = u.dev.Close()
		delete(s.units, n)
	}
}

// ParseUnit reads a unit as the management console's "remove ubd<n>" has it.
func ParseUnit(s string) (int, error) {
	n, rest, ok := parseUnit(s)
	if !ok || rest != "" {
		return 0, errUnit
	}
	if n >= MaxUnits {
		return 0, errInvalid
	}
	return n, nil
}
