// Package vfstest has a caller without a task behind it, for tests of file systems and of the vfs.
package vfstest

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

// Caller is a vfs.Caller: root at the root of a name space, with no limits, unless it is changed. Fields may be changed
// while nothing runs on it.
type Caller struct {
	Creds  *cred.Cred
	Ctx    *vfs.FSContext
	Pid    int32
	Limits map[int]uint64
	Memory uio.Memory

	wake chan struct{}
	mu   sync.Mutex
	sigs []unix.Signal
	intr bool
}

var nextPID int32 = 100

// New makes a caller at the root of a new name space that has sb as its root.
func New(sb vfs.SuperBlock) *Caller {
	return &Caller{Creds: cred.Root(), Ctx: vfs.NewFSContext(vfs.NewNamespace(sb, "rootfs", 0)), Pid: nextPID,
		wake: make(chan struct{}, 1)}
}

// Fork makes another caller with a copy of the context.
func (c *Caller) Fork() *Caller {
	nextPID++
	return &Caller{Creds: c.Creds, Ctx: c.Ctx.Copy(), Pid: nextPID, Limits: c.Limits, wake: make(chan struct{}, 1)}
}

// As is Fork with the ids of an ordinary user, who has no capabilities.
func (c *Caller) As(uid, gid uint32, groups ...uint32) *Caller {
	n := c.Fork()
	n.Creds = &cred.Cred{UID: uid, EUID: uid, SUID: uid, FSUID: uid, GID: gid, EGID: gid, SGID: gid, FSGID: gid,
		Groups: groups, Bounding: cred.AllCaps}
	return n
}

// Cred, Mem, FS, PID, Rlimit and Signal implement vfs.Caller.
func (c *Caller) Cred() *cred.Cred { return c.Creds }

// Mem is the memory that a test has set.
func (c *Caller) Mem() uio.Memory { return c.Memory }

// FS is the context.
func (c *Caller) FS() *vfs.FSContext { return c.Ctx }

// PID is the process id.
func (c *Caller) PID() int32 { return c.Pid }

// Rlimit is unlimited unless set.
func (c *Caller) Rlimit(resource int) uint64 {
	if l, ok := c.Limits[resource]; ok {
		return l
	}
	return unix.RLIM_INFINITY
}

// Signal notes the signal.
func (c *Caller) Signal(sig unix.Signal) {
	c.mu.Lock()
	c.sigs = append(c.sigs, sig)
	c.mu.Unlock()
}

// Signals returns the signals since the last call.
func (c *Caller) Signals() []unix.Signal {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sigs
	c.sigs = nil
	return s
}

// Interrupt makes sleeps return ERESTARTSYS, as a signal does.
func (c *Caller) Interrupt() {
	c.mu.Lock()
	c.intr = true
	c.mu.Unlock()
	c.Wake()
}

// Sleep implements wait.Sleeper.
func (c *Caller) Sleep(deadline int64) error {
	c.mu.Lock()
	intr := c.intr
	c.mu.Unlock()
	if intr {
		return abi.ERESTARTSYS
	}
	var timeout <-chan time.Time
	if deadline != ktime.Forever {
		timeout = time.After(time.Duration(deadline - ktime.Monotonic()))
	}
	select {
	case <-c.wake:
		return nil
	case <-timeout:
		return unix.ETIMEDOUT
	}
}

// Wake implements wait.Sleeper.
func (c *Caller) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
