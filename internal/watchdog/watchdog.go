// Package watchdog is the watchdog of a guest: a host process, the helper, that acts when the guest has not pinged it for a minute. It is
// a process of its own so that it also sees when the guest's kernel hangs.
//
// Helper and guest talk as those of the C implementation do, so each works with the other's: the helper is started as
// "uml_watchdog -pid <pid>" or "uml_watchdog -mconsole <notify socket>", writes a byte when it is ready, and is sent a byte for each ping. At
// the end of its input it ends. The environment variable UML_WATCHDOG names another program than this one.
//
// Lock order: Dog.mu is a leaf.
package watchdog

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/user-mode-linux/linux/internal/host"
)

// Timeout is how long the helper waits for a ping, Name what it is called.
const (
	Timeout = 60 * time.Second
	Name    = "uml_watchdog"
)

// startPatience is how long a helper may take until it is ready.
const startPatience = 5 * time.Second

// Dog is the guest's side. It implements chrdev.Dog.
type Dog struct {
	notify string

	mu   sync.Mutex
	in   *os.File // the helper's input, nil while there is none
	hold chan struct{}
}

// New makes a Dog that has not been started. notify is the socket of mconsole=notify:, which is told of hangs; "": the guest is ended.
func New(notify string) *Dog { return &Dog{notify: notify} }

// Timeout is in seconds.
func (d *Dog) Timeout() int { return int(Timeout / time.Second) }

// Start starts the helper and waits until it is ready. If it runs already it is pinged.
func (d *Dog) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in != nil && d.pingLocked() == nil {
		return nil
	}
	path, args := os.Getenv("UML_WATCHDOG"), []string{Name, "-pid", strconv.Itoa(os.Getpid())}
	if path == "" {
		path = "/proc/self/exe"
	}
	if d.notify != "" {
		args = []string{Name, "-mconsole", d.notify}
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return err
	}
	defer outR.Close()
	_, ended, err := host.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{inR, outW, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true}})
	outW.Close()
	if err == nil {
		outR.SetReadDeadline(time.Now().Add(startPatience))
		if _, err = outR.Read(make([]byte, 1)); err != nil {
			err = fmt.Errorf("%s did not become ready: %w", path, err)
		}
	}
	if err != nil {
		inW.Close()
		return err
	}
	d.in = inW
	go func() {
		<-ended
		d.mu.Lock()
		if d.in == inW {
			d.stopLocked()
		}
		d.mu.Unlock()
	}()
	return nil
}

// errGone is an error of pings.
var errGone = errors.New("the watchdog process has ended")

// Ping tells the helper that the guest lives.
func (d *Dog) Ping() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pingLocked()
}

func (d *Dog) pingLocked() error {
	if d.in == nil {
		return errGone
	}
	// A helper that reads nothing for thousands of pings is stopped itself; the guest must not wait for it.
	d.in.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := d.in.Write([]byte{'\n'}); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return errGone
	}
	return nil
}

// Stop ends the helper.
func (d *Dog) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopLocked()
}

func (d *Dog) stopLocked() {
	if d.in != nil {
		d.in.Close()
		d.in = nil
	}
}

// Hold keeps the helper quiet while the guest is stopped on purpose.
func (d *Dog) Hold(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hold != nil {
		close(d.hold)
		d.hold = nil
		_ = d.pingLocked()
	}
	if !on {
		return
	}
	end := make(chan struct{})
	d.hold = end
	go func() {
		tick := time.NewTicker(Timeout / 6)
		defer tick.Stop()
		for {
			_ = d.Ping() // there may be no helper
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
}
