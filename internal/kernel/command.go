package kernel

import (
	"io"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// shell runs commands that come from outside.
const shell = "/bin/sh"

// bootPatience is how long commands from outside wait for the end of the boot.
const bootPatience = 10 * time.Second

// Command is a command from outside. It leads a session of its own.
type Command struct {
	k   *Kernel
	pid int32
}

// Signal sends a signal to its process group.
func (c *Command) Signal(sig unix.Signal) { task.Controller{K: c.k.Tasks}.SignalPgrp(c.pid, sig) }

// Exec runs a command with the guest's shell, as root, in the root directory of init. stdio makes its descriptors 0, 1 and 2.
// ended is told its exit status, 128+n for a signal; it must not sleep. ENOENT: there is no shell. While the guest is still
// booting it waits; EAGAIN if that takes too long.
func (k *Kernel) Exec(command string, stdio func(t *task.Task) ([3]*vfs.File, error), ended func(status int)) (*Command, error) {
	select {
	case <-k.started:
	case <-time.After(bootPatience):
		return nil, unix.EAGAIN
	}
	init := k.Tasks.FindTask(1)
	if init == nil {
		return nil, unix.ESRCH
	}
	fs := init.FS().Copy()
	fs.SetCwd(fs.Root())
	probe, err := vfs.OpenExec(&bootCaller{fs: fs, cred: cred.Root()}, nil, shell, 0)
	if err != nil {
		fs.Release()
		return nil, err
	}
	probe.DecRef()
	t, err := k.Tasks.NewOrphan(fs, vfs.NewFDTable())
	if err != nil {
		return nil, err
	}
	t.SetComm(path.Base(shell))
	files, err := stdio(t)
	if err == nil {
		for _, f := range files {
			if _, e := t.Files().Install(t, f, 0, false); e != nil {
				err = e
			}
		}
	}
	pid := t.PID()
	if err == nil {
		t.Group.OnExit = func(status int32) { ended(exitStatus(status)) }
		err = k.start(t, shell, []string{path.Base(shell), "-c", command}, k.shellEnv())
	}
	if err != nil {
		t.Group.OnExit = nil
		t.Group.SendKernelSignal(unix.SIGKILL)
		return nil, err
	}
	return &Command{k, pid}, nil
}

// exitStatus is what a shell makes of a wait status.
func exitStatus(status int32) int {
	if sig := status & 0x7f; sig != 0 {
		return 128 + int(sig)
	}
	return int(status >> 8 & 0xff)
}

// ExecOnTerminal is Exec on a new pseudoterminal of the guest, whose master is the caller's. ENODEV: the guest has no /dev/pts.
func (k *Kernel) ExecOnTerminal(command string, size unix.Winsize, ended func(status int)) (*Command, *Terminal, error) {
	var term *Terminal
	c, err := k.Exec(command, func(t *task.Task) (files [3]*vfs.File, err error) {
		m, err := vfs.Open(t, nil, "/dev/ptmx", vfs.OpenHow{Flags: unix.O_RDWR})
		if err != nil {
			return files, unix.ENODEV
		}
		p := tty.PtyOf(m.Ops)
		if p == nil {
			m.DecRef()
			return files, unix.ENODEV
		}
		p.Unlock()
		p.Slave().Resize(size)
		slave, err := p.OpenPeer(t, unix.O_RDWR)
		if err != nil {
			m.DecRef()
			return files, err
		}
		term = newTerminal(m, p)
		return [3]*vfs.File{slave, slave.IncRef(), slave.IncRef()}, nil
	}, ended)
	if err != nil && term != nil {
		term.Close()
	}
	return c, term, err
}

// Terminal is a pseudoterminal of the guest from outside: the master. One goroutine may read and another one write.
type Terminal struct {
	pty                *tty.Pty
	master             *vfs.File
	reading, writing   *kernelThread
	ending, closing    chan struct{}
	endOnce, closeOnce sync.Once
	using              sync.RWMutex // held while the master is read or written, and by Close
	closed             bool         // guarded by using
}

func newTerminal(master *vfs.File, p *tty.Pty) *Terminal {
	t := &Terminal{pty: p, master: master, ending: make(chan struct{}), closing: make(chan struct{})}
	t.reading, t.writing = newKernelThread(t.ending), newKernelThread(t.closing)
	return t
}

// Read reads what programs write. io.EOF: no program has the terminal open any more, or there is nothing after End.
func (t *Terminal) Read(p []byte) (int, error) {
	return t.use(func() (int, error) { return vfs.Read(t.reading, t.master, uio.ToBytes(p)) })
}

// Write types, waiting while no program reads. io.EOF: after Close.
func (t *Terminal) Write(p []byte) (int, error) {
	return t.use(func() (int, error) { return vfs.Write(t.writing, t.master, uio.FromBytes(p)) })
}

func (t *Terminal) use(f func() (int, error)) (int, error) {
	t.using.RLock()
	defer t.using.RUnlock()
	if t.closed {
		return 0, io.EOF
	}
	n, err := f()
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// End makes reads give what there is, and then io.EOF.
func (t *Terminal) End() { t.endOnce.Do(func() { close(t.ending) }) }

// Close hangs the terminal up.
func (t *Terminal) Close() {
	t.End()
	t.closeOnce.Do(func() {
		close(t.closing)
		t.using.Lock()
		t.closed = true
		t.using.Unlock()
		t.master.DecRef()
	})
}

// Resize sets the window size.
func (t *Terminal) Resize(ws unix.Winsize) { t.pty.Slave().Resize(ws) }

// kernelThread is a vfs.Caller of the kernel that can wait, until stop is closed. It keeps no deadlines.
type kernelThread struct {
	bootCaller
	wake chan struct{}
	stop <-chan struct{}
}

func newKernelThread(stop <-chan struct{}) *kernelThread {
	return &kernelThread{bootCaller{cred: cred.Root()}, make(chan struct{}, 1), stop}
}

func (t *kernelThread) Sleep(int64) error {
	select {
	case <-t.wake:
		return nil
	case <-t.stop:
		return unix.EINTR
	}
}

func (t *kernelThread) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}
