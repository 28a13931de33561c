// Package vfstest has a caller without a task behind it, for tests of file systems and of the vfs.
package vfstest

import (
	"sync"
	"sync/atomic"
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

	wake, intr chan struct{}

	mu   sync.Mutex
	sigs []unix.Signal
}

var nextPID atomic.Int32

// NoFS makes a caller without a file system, for tests of pipes, sockets and the like.
func NoFS() *Caller {
	return &Caller{Creds: cred.Root(), Pid: 100 + nextPID.Add(1), wake: make(chan struct{}, 1), intr: make(chan struct{}, 1)}
}

// New makes a caller at the root of a new name space that has sb as its root.
func New(sb vfs.SuperBlock) *Caller {
	c := NoFS()
	c.Ctx = vfs.NewFSContext(vfs.NewNamespace(sb, "rootfs", 0))
	return c
}

// Fork makes another caller with a copy of the context.
func (c *Caller) Fork() *Caller {
	n := NoFS()
	n.Creds, n.Ctx, n.Limits = c.Creds, c.Ctx.Copy(), c.Limits
	return n
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

// Interrupt makes the current or next Sleep return ERESTARTSYS, as a signal does.
func (c *Caller) Interrupt() {
	select {
	case c.intr <- struct{}{}:
	default:
	}
}

// Sleep implements wait.Sleeper.
func (c *Caller) Sleep(deadline int64) error {
	var timeout <-chan time.Time
	if deadline != ktime.Forever {
		t := time.NewTimer(time.Duration(deadline - ktime.Monotonic()))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-c.wake:
		return nil
	case <-c.intr:
		return abi.ERESTARTSYS
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

// Memory is guest memory from address 0; what is beyond it gives EFAULT.
type Memory []byte

// ReadAt, WriteAt, ReadV and WriteV implement uio.Memory.
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

// WriteAt copies.
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

// ReadV copies.
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

// WriteV copies.
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
