package tty

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// proc is a fake process. Its memory is a small buffer at address 0x1000.
type proc struct {
	pid, pgrp, sid int32
	cred           *cred.Cred
	ctty           *TTY
	blocked        bool
	orphaned       bool
	mem            [4096]byte

	wake     chan struct{}
	signaled chan struct{}
}

func newProc(pid, pgrp, sid int32) *proc {
	return &proc{pid: pid, pgrp: pgrp, sid: sid, cred: cred.Root(), wake: make(chan struct{}, 1), signaled: make(chan struct{}, 1)}
}

func (p *proc) Sleep(deadline int64) error {
	var timeout <-chan time.Time
	if deadline != ktime.Forever {
		timeout = time.After(time.Duration(deadline - ktime.Monotonic()))
	}
	select {
	case <-p.wake:
		return nil
	case <-p.signaled:
		return abi.ERESTARTSYS
	case <-timeout:
		return unix.ETIMEDOUT
	}
}

func (p *proc) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *proc) Cred() *cred.Cred                        { return p.cred }
func (p *proc) Mem() uio.Memory                         { return p }
func (p *proc) FS() *vfs.FSContext                      { return nil }
func (p *proc) PID() int32                              { return p.pid }
func (p *proc) Rlimit(int) uint64                       { return 1 << 20 }
func (p *proc) Signal(unix.Signal)                      {}
func (p *proc) PgrpID() int32                           { return p.pgrp }
func (p *proc) SessionID() int32                        { return p.sid }
func (p *proc) IsSessionLeader() bool                   { return p.pid == p.sid }
func (p *proc) ControllingTTY() *TTY                    { return p.ctty }
func (p *proc) SetControllingTTY(t *TTY)                { p.ctty = t }
func (p *proc) SignalBlockedOrIgnored(unix.Signal) bool { return p.blocked }
func (p *proc) PgrpOrphaned() bool                      { return p.orphaned }
func (p *proc) ReadV([]byte, []uio.Range) (int, error)  { return 0, unix.EFAULT }
func (p *proc) WriteV([]byte, []uio.Range) (int, error) { return 0, unix.EFAULT }

const memBase = 0x1000

func (p *proc) ReadAt(b []byte, addr uint64) (int, error) {
	if addr < memBase || addr+uint64(len(b)) > memBase+uint64(len(p.mem)) {
		return 0, unix.EFAULT
	}
	return copy(b, p.mem[addr-memBase:]), nil
}

func (p *proc) WriteAt(b []byte, addr uint64) (int, error) {
	if addr < memBase || addr+uint64(len(b)) > memBase+uint64(len(p.mem)) {
		return 0, unix.EFAULT
	}
	return copy(p.mem[addr-memBase:], b), nil
}

func (p *proc) setInt(v int32) uint64 {
	binary.LittleEndian.PutUint32(p.mem[:], uint32(v))
	return memBase
}

func (p *proc) int() int32 { return int32(binary.LittleEndian.Uint32(p.mem[:])) }

// sent is a signal that the fake controller was asked to send.
type sent struct {
	to  string // "pgrp" or "leader"
	id  int32
	sig unix.Signal
}

// fakeController records signals; pgrps says which groups exist, in which session.
type fakeController struct {
	mu    sync.Mutex
	log   []sent
	pgrps map[int32]int32
	procs []*proc
}

func (f *fakeController) SignalPgrp(id int32, s unix.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, sent{"pgrp", id, s})
}

func (f *fakeController) SignalLeader(id int32, s unix.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, sent{"leader", id, s})
}

func (f *fakeController) SessionOfPgrp(id int32) (int32, bool) {
	s, ok := f.pgrps[id]
	return s, ok
}

func (f *fakeController) ClearControllingTTY(sid int32, t *TTY) {
	for _, p := range f.procs {
		if p.sid == sid && p.ctty == t {
			p.ctty = nil
		}
	}
}

func (f *fakeController) take() []sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.log
	f.log = nil
	return l
}

func withController(t *testing.T, procs ...*proc) *fakeController {
	f := &fakeController{pgrps: map[int32]int32{}, procs: procs}
	for _, p := range procs {
		f.pgrps[p.pgrp] = p.sid
	}
	SetController(f)
	t.Cleanup(func() { SetController(nobody{}) })
	return f
}

// fakeHost is a devpts without files.
type fakeHost struct {
	vfs.SuperBlock
	mu     sync.Mutex
	next   int
	hidden map[int]bool
	freed  map[int]bool
}

func (h *fakeHost) AllocPty(vfs.Caller, *Pty) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	return h.next - 1, nil
}

func (h *fakeHost) HidePty(i int)          { h.mu.Lock(); h.hidden[i] = true; h.mu.Unlock() }
func (h *fakeHost) FreePty(i int)          { h.mu.Lock(); h.freed[i] = true; h.mu.Unlock() }
func (h *fakeHost) PtyInode(int) vfs.Inode { return nil }

// fakePort records output, up to room bytes.
type fakePort struct {
	mu     sync.Mutex
	out    []byte
	room   int
	opens  int
	closes int
	wakes  int
	size   unix.Winsize
}

func (p *fakePort) Open(*TTY) error { p.opens++; return nil }
func (p *fakePort) Close()          { p.closes++ }
func (p *fakePort) Write(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(b), p.room)
	p.out = append(p.out, b[:n]...)
	p.room -= n
	return n
}
func (p *fakePort) Room() int                  { p.mu.Lock(); defer p.mu.Unlock(); return p.room }
func (p *fakePort) Pending() int               { return 0 }
func (p *fakePort) Discard()                   {}
func (p *fakePort) Unthrottle()                { p.wakes++ }
func (p *fakePort) Size() (unix.Winsize, bool) { return p.size, p.size != unix.Winsize{} }

// opened is an open file with its operations, for short tests.
type opened struct {
	t   *testing.T
	c   *proc
	f   *vfs.File
	ops vfs.FileOps
}

func openFile(t *testing.T, c *proc, flags uint32, open func(f *vfs.File) (vfs.FileOps, error)) *opened {
	t.Helper()
	f := vfs.NewFile(vfs.Path{}, nil, nil, flags)
	ops, err := open(f)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return &opened{t, c, f, ops}
}

func (o *opened) write(s string) (int, error) {
	return o.ops.Write(o.c, o.f, uio.FromBytes([]byte(s)), 0)
}

func (o *opened) read(n int) (string, error) {
	b := make([]byte, n)
	k, err := o.ops.Read(o.c, o.f, uio.ToBytes(b), 0)
	return string(b[:k]), err
}

func (o *opened) ioctl(cmd uint32, arg uint64) error {
	_, err := o.ops.(vfs.Ioctler).Ioctl(o.c, o.f, cmd, arg)
	return err
}

func (o *opened) close() { o.ops.Release(o.f) }

// as is the same file used by another process.
func (o *opened) as(c *proc) *opened { n := *o; n.c = c; return &n }

// newPair makes an unlocked pty.
func newPair(t *testing.T, c *proc, flags uint32) (m, s *opened, p *Pty) {
	t.Helper()
	h := &fakeHost{hidden: map[int]bool{}, freed: map[int]bool{}}
	m = openFile(t, c, flags|unix.O_RDWR, func(f *vfs.File) (vfs.FileOps, error) { return OpenMaster(c, f, h) })
	p = m.ops.(*master).p
	if err := m.ioctl(unix.TIOCSPTLCK, c.setInt(0)); err != nil {
		t.Fatal(err)
	}
	s = openFile(t, c, flags|unix.O_RDWR, func(f *vfs.File) (vfs.FileOps, error) { return OpenSlave(c, f, p) })
	return m, s, p
}
