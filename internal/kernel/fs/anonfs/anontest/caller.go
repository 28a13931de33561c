// Package anontest has a vfs.Caller for tests of files without names: pipes, sockets, epoll and the like.
package anontest

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Caller is a thread of a test.
type Caller struct {
	Creds *cred.Cred
	Pid   int32
	// Memory is guest memory at address 0; what is beyond it gives EFAULT.
	Memory Memory

	wake chan struct{}
	intr chan struct{}

	mu   sync.Mutex
	sigs []unix.Signal
}

// New makes a caller that is root.
func New() *Caller {
	return &Caller{Creds: cred.Root(), Pid: 1, wake: make(chan struct{}, 1), intr: make(chan struct{}, 1)}
}

// Sleep is wait.Sleeper's.
func (c *Caller) Sleep(deadline int64) error {
	var expired <-chan time.Time
	if deadline != ktime.Forever {
		t := time.NewTimer(time.Duration(deadline - ktime.Monotonic()))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-c.wake:
		return nil
	case <-c.intr:
		return abi.ERESTARTSYS
	case <-expired:
		return unix.ETIMEDOUT
	}
}

// Wake is wait.Sleeper's.
func (c *Caller) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Interrupt makes the current or next Sleep return ERESTARTSYS.
func (c *Caller) Interrupt() {
	select {
	case c.intr <- struct{}{}:
	default:
	}
}

func (c *Caller) Cred() *cred.Cred   { return c.Creds }
func (c *Caller) Mem() uio.Memory    { return c.Memory }
func (c *Caller) FS() *vfs.FSContext { return nil }
func (c *Caller) PID() int32         { return c.Pid }
func (c *Caller) Rlimit(int) uint64  { return 1024 }

// Signal records the signal.
func (c *Caller) Signal(sig unix.Signal) {
	c.mu.Lock()
	c.sigs = append(c.sigs, sig)
	c.mu.Unlock()
}

// Signals returns and forgets the signals sent so far.
func (c *Caller) Signals() []unix.Signal {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sigs
	c.sigs = nil
	return s
}

// Memory is guest memory from address 0.
type Memory []byte

func (m Memory) ReadAt(p []byte, addr uint64) (int, error) {
	if addr > uint64(len(m)) {
		return 0, unix.EFAULT
	}
	n := copy(p, m[addr:])
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (m Memory) WriteAt(p []byte, addr uint64) (int, error) {
	if addr > uint64(len(m)) {
		return 0, unix.EFAULT
	}
	n := copy(m[addr:], p)
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (m Memory) ReadV(p []byte, r []uio.Range) (done int, err error) {
	for _, x := range r {
		if len(p) == done {
			break
		}
		n, err := m.ReadAt(p[done:][:min(uint64(len(p)-done), x.Len)], x.Addr)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

func (m Memory) WriteV(p []byte, r []uio.Range) (done int, err error) {
	for _, x := range r {
		if len(p) == done {
			break
		}
		n, err := m.WriteAt(p[done:][:min(uint64(len(p)-done), x.Len)], x.Addr)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

var _ vfs.Caller = (*Caller)(nil)
