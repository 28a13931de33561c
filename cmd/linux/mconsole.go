package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
	"github.com/user-mode-linux/linux/internal/kernel"
	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/mconsole"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
	"github.com/user-mode-linux/linux/internal/watchdog"
)

// newNotifier is what mconsole=notify: asks for, nil without it.
func newNotifier(cfg *cmdline.Config) *mconsole.Notifier {
	if cfg.MconsoleNotify == "" {
		return nil
	}
	n, err := mconsole.NewNotifier(cfg.MconsoleNotify)
	if err != nil {
		warn(err.Error())
	}
	return n
}

// startConsole starts the management console of a guest.
func (d *drivers) startConsole(k *kernel.Kernel, dir *umid.Dir, n *mconsole.Notifier) {
	if dir == nil {
		return
	}
	devices := append(d.consoles.Drivers(), d.disks.Driver(), mconsole.MemoryDriver(k))
	devices = append(devices, d.nets.Drivers()...)
	s, err := mconsole.New(dir.File("mconsole"), managed{k, d.dog}, devices...)
	if err != nil {
		warn(fmt.Sprintf("no management console: %v", err))
		return
	}
	host.AtExit(s.Close)
	go s.Serve()
	n.Ready(s)
}

// managed is a guest as the management console acts on it.
type managed struct {
	*kernel.Kernel
	dog *watchdog.Dog
}

func (g managed) Halt()       { g.Tasks.Halt(task.Halt{Kind: task.HaltHalt}) }
func (g managed) Reboot()     { g.Tasks.Halt(task.Halt{Kind: task.HaltRestart}) }
func (g managed) CtrlAltDel() { g.Tasks.CtrlAltDel() }

func (g managed) Thaw() {
	g.Tasks.Thaw()
	g.dog.Hold(false)
}

func (g managed) Freeze() error {
	g.dog.Hold(true)
	if !g.Tasks.Freeze() {
		return fmt.Errorf("a thread does not stop: %w", unix.EAGAIN)
	}
	return nil
}

// command is a command that runs in the guest. It implements mconsole.Process.
type command struct {
	*kernel.Command
	*kernel.Terminal // nil without a terminal
	ended            chan int
	shown            chan struct{} // closed when what came from the terminal has gone to the client
}

func (c *command) Wait() int {
	status := <-c.ended
	if c.Terminal != nil {
		c.End()
		<-c.shown
		c.Close()
	}
	return status
}

func (c *command) Resize(ws unix.Winsize) {
	if c.Terminal != nil {
		c.Terminal.Resize(ws)
	}
}

func (c *command) Hangup() {
	if c.Terminal != nil {
		c.Close()
		return
	}
	c.Signal(unix.SIGHUP)
	c.Signal(unix.SIGCONT)
}

func (g managed) Exec(line string, stdio [3]*os.File) (mconsole.Process, error) {
	c := &command{ended: make(chan int, 1)}
	var err error
	c.Command, err = g.Kernel.Exec(line, func(t *task.Task) ([3]*vfs.File, error) {
		var files [3]*vfs.File
		for i, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_WRONLY} {
			f, err := console.OpenFile(t, stdio[i], flags)
			if err != nil {
				for _, f := range files[:i] {
					f.DecRef()
				}
				return files, err
			}
			files[i] = f
		}
		return files, nil
	}, func(st int) { c.ended <- st })
	if err != nil {
		return nil, fmt.Errorf("the guest cannot run it: %w", err)
	}
	return c, nil
}

func (g managed) ExecOnTerminal(line string, f *os.File, size unix.Winsize) (mconsole.Process, error) {
	c := &command{ended: make(chan int, 1), shown: make(chan struct{})}
	var err error
	c.Command, c.Terminal, err = g.Kernel.ExecOnTerminal(line, size, func(st int) { c.ended <- st })
	if err == unix.ENODEV {
		return nil, errors.New("the guest has no terminal to give: is /dev/pts mounted?")
	}
	if err != nil {
		return nil, fmt.Errorf("the guest cannot run it: %w", err)
	}
	go func() {
		io.Copy(f, c.Terminal)
		close(c.shown)
		// Who has gone gets nothing more, and keeps no program waiting.
		io.Copy(io.Discard, c.Terminal)
	}()
	go func() {
		io.Copy(c.Terminal, f)
		c.Hangup() // or the command has ended
	}()
	return c, nil
}

func (g managed) Status() mconsole.Status {
	m := system.MemoryNow()
	threads, _ := g.Tasks.Counts()
	return mconsole.Status{
		Sysname: abi.Sysname, Nodename: system.Hostname(), Release: abi.Release, Version: abi.Version, Machine: abi.Machine,
		Uptime: ktime.Uptime().Seconds(), Load: system.LoadAverages(), MemTotal: m.Total, MemAvailable: m.Available,
		Threads: threads, Running: g.Tasks.Running(),
	}
}
