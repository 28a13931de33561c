package tty

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// TTY is one terminal.
type TTY struct {
	// Immutable.
	name         string
	major, minor uint32
	port         Port
	pty          *Pty // of a pty slave, else nil

	// queue is notified of all changes of readiness and of the end of a write.
	queue wait.Queue
	// writer serialises writes. busy is guarded by mu.
	busy bool
	wbuf []byte // scratch of the writer

	// openMu serialises opening and closing the port. It comes before mu.
	openMu   sync.Mutex
	portOpen bool // guarded by openMu
	held     bool // the kernel's log keeps the port open; guarded by openMu
	removed  bool // there is no such device any more; guarded by openMu
	// carrierSeen: somebody has been there (see Carrier).
	carrierSeen atomic.Bool

	mu sync.Mutex
	// files are the open files that were not hung up, opened counts them and those that were.
	files         map[*file]struct{}
	opened        int
	hungUp        bool // and not opened since
	session, pgrp int32
	termios       unix.Termios
	locked        unix.Termios // TIOCSLCKTRMIOS
	winsize       unix.Winsize
	exclusive     bool
	stopped       bool // by STOP or TCOOFF
	tcoStopped    bool // by TCOOFF
	otherClosed   bool // pty slave: the master is closed
	eof           bool // the port has no more input, for ever

	in    input
	out   output
	after after
}

// after is what TTY.unlock has to do once the lock is free.
type after struct {
	signals    uint64 // bit per signal for the foreground group
	pgrp       int32
	events     wait.Events
	unthrottle bool
}

// newTTY makes a terminal with the standard settings.
func newTTY(name string, major, minor uint32, port Port, initial unix.Termios) *TTY {
	return &TTY{name: name, major: major, minor: minor, port: port, termios: initial}
}

// New makes a terminal on a port that belongs to no driver table; Register does the same and gives it a device.
func New(name string, major, minor uint32, port Port) *TTY {
	return newTTY(name, major, minor, port, StdTermios())
}

// Name is the name below /dev ("tty0", "pts/3").
func (t *TTY) Name() string { return t.name }

// Dev is the device number.
func (t *TTY) Dev() uint64 { return unix.Mkdev(t.major, t.minor) }

// EncodedDev is the device number in the form of /proc/<pid>/stat and TIOCGDEV.
func (t *TTY) EncodedDev() uint32 { return encodeDev(t.major, t.minor) }

func encodeDev(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

// Session is the id of the session whose controlling terminal t is, 0 if none.
func (t *TTY) Session() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session
}

// ForegroundPgrp is the foreground process group, 0 if none.
func (t *TTY) ForegroundPgrp() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pgrp
}

// Users is how many open file descriptions the terminal has, without those that were hung up.
func (t *TTY) Users() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.files)
}

// Size is the window size.
func (t *TTY) Size() unix.Winsize {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.winsize
}

// signal notes a signal for the foreground group.
func (t *TTY) signal(sig unix.Signal) {
	if t.pgrp != 0 {
		t.after.signals |= 1 << uint(sig)
		t.after.pgrp = t.pgrp
	}
}

// unlock releases mu and does what was noted under it.
func (t *TTY) unlock() {
	a := t.after
	t.after = after{}
	t.mu.Unlock()
	if a.events != 0 {
		t.queue.Notify(a.events)
	}
	if a.unthrottle {
		t.port.Unthrottle()
	}
	for s := 1; a.signals != 0; s++ {
		if a.signals&(1<<uint(s)) != 0 {
			a.signals &^= 1 << uint(s)
			ctl().SignalPgrp(a.pgrp, unix.Signal(s))
		}
	}
}

// file is one open file description of a terminal.
type file struct {
	vfs.FileBase
	t *TTY
	// hung: the terminal was hung up under it.
	hung atomic.Bool
	// console files were opened as /dev/console: they survive hangups and follow TIOCCONS.
	console bool
}

// open makes an open file of the terminal, opening the port if it is the first. It waits until somebody is there to use the
// terminal (Carrier), unless the file is non-blocking.
func (t *TTY) open(c vfs.Caller, f *vfs.File, console, noctty bool) (vfs.FileOps, error) {
	var tf *file
	for {
		tf = &file{t: t, console: console}
		if err := t.openFile(c, tf); err != nil {
			return nil, err
		}
		again, err := tf.awaitCarrier(c, f.Nonblock())
		if err == nil && !again {
			break
		}
		tf.Release(nil)
		if err != nil {
			return nil, err
		}
	}
	if t.pty != nil {
		t.pty.slaveIsOpen()
	}
	if p := asProcess(c); p != nil && !noctty && f.Readable() && p.IsSessionLeader() && p.ControllingTTY() == nil {
		t.acquire(p)
	}
	return tf, nil
}

// openFile adds a file to those of the terminal, and opens the port if it is the first.
func (t *TTY) openFile(c vfs.Caller, tf *file) error {
	t.openMu.Lock()
	defer t.openMu.Unlock()
	if t.removed {
		return unix.ENXIO
	}
	t.mu.Lock()
	gone := t.otherClosed
	busy := t.exclusive && len(t.files) > 0
	t.mu.Unlock()
	switch {
	case gone:
		return unix.EIO
	case busy && !c.Cred().Capable(unix.CAP_SYS_ADMIN):
		return unix.EBUSY
	}
	if err := t.openPortLocked(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	if t.otherClosed {
		return unix.EIO
	}
	if t.files == nil {
		t.files = make(map[*file]struct{})
	}
	if r := recording(); r != nil && len(t.files) == 0 {
		r.Open(t.EncodedDev(), currentDev(c))
	}
	t.files[tf] = struct{}{}
	t.opened++
	t.hungUp = false
	t.receivePending()
	return nil
}

// currentDev is the number of the caller's controlling terminal, 0 if it has none.
func currentDev(c vfs.Caller) uint32 {
	if p := asProcess(c); p != nil {
		if t := p.ControllingTTY(); t != nil {
			return t.EncodedDev()
		}
	}
	return 0
}

// awaitCarrier waits until somebody uses the terminal. again is true if it was hung up meanwhile: who came has gone. A file of
// /dev/console only waits for the first one ever, so that the system goes on when its user leaves.
func (f *file) awaitCarrier(c vfs.Caller, nonblock bool) (again bool, err error) {
	t := f.t
	port, ok := t.port.(Carrier)
	if !ok || nonblock || f.console && t.carrierSeen.Load() {
		return false, nil
	}
	var bad error
	over := func() bool {
		var there bool
		there, bad = port.Carrier()
		return there || bad != nil || f.hung.Load()
	}
	if !over() {
		if err := t.queue.Wait(c, wait.All, ktime.Forever, over); err != nil {
			return false, err
		}
	}
	return bad == nil && f.hung.Load(), bad
}

// noUser tells that output would wait for somebody to come.
func (t *TTY) noUser() bool {
	port, ok := t.port.(Carrier)
	if !ok {
		return false
	}
	there, _ := port.Carrier()
	return !there
}

// CarrierChanged says that the port's user has come, or will not come.
func (t *TTY) CarrierChanged() {
	if port, ok := t.port.(Carrier); ok {
		if there, _ := port.Carrier(); there {
			t.carrierSeen.Store(true)
		}
	}
	t.mu.Lock()
	t.flushPending()
	t.after.events |= wait.All
	t.unlock()
}

// openPortLocked opens the port if it is closed; openMu is held.
func (t *TTY) openPortLocked() error {
	if t.portOpen {
		return nil
	}
	if err := t.port.Open(t); err != nil {
		return err
	}
	t.portOpen = true
	if l, ok := t.port.(LineControl); ok {
		t.mu.Lock()
		l.SetLine(&t.termios)
		t.mu.Unlock()
	}
	if ws, ok := t.port.Size(); ok {
		t.mu.Lock()
		t.winsize = ws
		t.mu.Unlock()
	}
	return nil
}

// Release closes an open file; the last one closes the port and gives the terminal back.
func (f *file) Release(*vfs.File) {
	t := f.t
	redirect.CompareAndSwap(f, nil)
	t.openMu.Lock()
	t.mu.Lock()
	_, was := t.files[f]
	delete(t.files, f)
	t.opened--
	last, unused := was && len(t.files) == 0, t.opened == 0
	if last {
		if r := recording(); r != nil {
			r.Close(t.EncodedDev())
		}
		if t.pty == nil { // the state of a slave lives as long as its master
			t.exclusive = false
			t.resumeOutput()
		}
	}
	t.unlock()
	if last && t.portOpen && !t.held {
		t.port.Close()
		t.portOpen = false
	}
	t.openMu.Unlock()
	if last {
		ctlMu.Lock()
		if t.Users() == 0 {
			if sid, _ := t.disown(); sid != 0 {
				ctl().ClearControllingTTY(sid, t)
			}
		}
		ctlMu.Unlock()
	}
	if unused && t.pty != nil {
		t.pty.slaveIsClosed()
	}
}

// Hangup hangs the terminal up: open files are dead, its session has lost it, the port is closed.
func (t *TTY) Hangup() { t.hangup(false) }

func (t *TTY) hangup(leaderExits bool) {
	t.releaseSession(leaderExits)
	t.openMu.Lock()
	t.mu.Lock()
	opened := len(t.files)
	for f := range t.files {
		if !f.console {
			f.hung.Store(true)
			delete(t.files, f)
		}
	}
	consoles := len(t.files)
	if r := recording(); r != nil && opened > 0 && consoles == 0 {
		r.Close(t.EncodedDev())
	}
	t.in.reset()
	// What the port was told to wait for has gone, and so may who writes to the master.
	t.in.throttle = false
	t.after.unthrottle = true
	t.out.pending = t.out.pending[:0]
	t.port.Discard()
	if t.pty != nil {
		// Settings are those of a new one, and input waits for the next open; size and flow control stay.
		t.termios = ptyTermios()
		t.in.ready = false
		t.hungUp = true
		t.pty.forgetStatus()
	} else {
		t.stopped, t.tcoStopped = false, false
	}
	t.after.events |= wait.All
	t.unlock()
	if t.portOpen && !t.held && consoles == 0 {
		t.port.Close()
		t.portOpen = false
	}
	t.openMu.Unlock()
}

// inUse tells whether there are open file descriptions, hung up or not.
func (t *TTY) inUse() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened > 0
}

// Resize sets the window size and tells the foreground group if it changed (SIGWINCH).
func (t *TTY) Resize(ws unix.Winsize) {
	t.mu.Lock()
	if ws != t.winsize {
		t.winsize = ws
		t.signal(unix.SIGWINCH)
	}
	t.unlock()
}

// Readiness is poll(2).
func (f *file) Readiness(mask wait.Events) wait.Events {
	if f.hung.Load() {
		return mask & (wait.In | wait.RdNorm | wait.Out | wait.WrNorm | wait.Err | wait.Hup)
	}
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	var ev wait.Events
	if t.in.available(&t.termios, true) || t.eof || t.otherClosed {
		ev |= wait.In | wait.RdNorm
	}
	if t.otherClosed {
		ev |= wait.Hup
	}
	if t.roomLocked() >= minRoom {
		ev |= wait.Out | wait.WrNorm
	}
	return ev & (mask | wait.Hup | wait.Err)
}

// Async: the file has O_ASYNC, until it is hung up.
func (f *file) Async() error {
	if f.hung.Load() {
		return unix.ENOTTY
	}
	return nil
}

// WaitQueue is where changes of Readiness are notified.
func (f *file) WaitQueue() *wait.Queue { return &f.t.queue }

// Stream marks terminals as having no position.
func (*file) Stream() {}

// Of is the terminal that ops are of, nil if they are not of a terminal.
func Of(ops vfs.FileOps) *TTY {
	if f, ok := ops.(*file); ok {
		return f.t
	}
	return nil
}

// lockWriter takes the lock that keeps writes from mixing.
func (t *TTY) lockWriter(c vfs.Caller, nonblock bool) error {
	try := func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.busy {
			return false
		}
		t.busy = true
		return true
	}
	if try() {
		return nil
	}
	if nonblock {
		return unix.EAGAIN
	}
	return t.queue.Wait(c, wait.All, ktime.Forever, try)
}

func (t *TTY) unlockWriter() {
	t.mu.Lock()
	t.busy = false
	t.mu.Unlock()
	t.queue.Notify(wait.Out | wait.WrNorm)
}

func (t *TTY) String() string { return fmt.Sprintf("%s (%d:%d)", t.name, t.major, t.minor) }
