package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
	"github.com/user-mode-linux/linux/internal/kernel"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/syscalls"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
	"github.com/user-mode-linux/linux/internal/netdrv"
	"github.com/user-mode-linux/linux/internal/skas"
	"github.com/user-mode-linux/linux/internal/ubd"
	"github.com/user-mode-linux/linux/internal/watchdog"
)

// ending is how a guest ended.
type ending uint8

const (
	// halted: by halt or poweroff, or because the command of exec= ended.
	halted ending = iota
	// rebooted: the program is to start again.
	rebooted
	// panicked: the guest kernel's messages tell why.
	panicked
	// notBooted: it never started; the user has been told why.
	notBooted
)

// outcome is an ending and, for the first two, the exit status that the guest chose.
type outcome struct {
	how    ending
	status int
}

// drivers are what the guest's devices are on the host.
type drivers struct {
	consoles *console.Set
	disks    ubd.Set
	nets     netdrv.Set
	dog      *watchdog.Dog
}

// boot builds the drivers that the command line asks for, boots the guest kernel with them and returns when the guest has
// ended. dir is nil if there is no umid directory, root is nil if there is no built-in root file system.
func boot(cfg *cmdline.Config, dir *umid.Dir, root *io.SectionReader) outcome {
	ktime.Suspended = host.Suspended
	d := &drivers{consoles: console.New()}
	if dir != nil {
		d.consoles.Name = dir.Name()
	}
	if err := d.configure(cfg, dir); err != nil {
		warn(err.Error())
		return outcome{how: notBooted}
	}
	early := startLog(cfg)
	kcfg, err := guest(cfg, root)
	if err != nil {
		warn(err.Error())
		return outcome{how: notBooted}
	}
	notifier := newNotifier(cfg)
	if notifier != nil {
		kcfg.Mconsole = notifier.User
	}
	d.dog = watchdog.New(cfg.MconsoleNotify)
	kcfg.Watchdog = d.dog
	k := kernel.New(kcfg)
	k.BeforeRoot = func() {
		d.register(cfg)
		early()
		d.startConsole(k, dir, notifier)
	}
	host.Watch(host.Handlers{Winch: d.consoles.Resize})

	p, err := skas.New(platformConfig(cfg), k.Tasks)
	if err != nil {
		warn(fmt.Sprintf("guest programs cannot be run on this host: %v", err))
		return outcome{how: notBooted}
	}
	host.AtExit(p.Close)
	for _, s := range cfg.Log {
		klog.Printf(klog.Notice, "%s", s)
	}
	if err := k.Boot(p); err != nil && !kernel.Panicked(err) {
		warn(fmt.Sprintf("the guest cannot be started: %v", err))
		return outcome{how: notBooted}
	}
	o := k.Wait()
	d.consoles.Drain(time.Second)
	switch o.Kind {
	case task.HaltPanic:
		notifier.Panic(o.Text)
		return outcome{how: panicked}
	case task.HaltRestart:
		return outcome{rebooted, o.Status}
	}
	return outcome{halted, o.Status}
}

// startLog shows the kernel log where the command line wants it instead of on the console, or until early is called because
// the consoles are there.
func startLog(cfg *cmdline.Config) (early func()) {
	level := cfg.LogLevel
	if cfg.IgnoreLogLevel {
		level = 15
	}
	klog.SetConsoleLevel(klog.Level(level))
	var w io.Writer
	switch {
	case cfg.HasExec, cfg.EarlyStderr:
		w = host.Stderr
	case cfg.EarlyPrintk:
		w = os.Stdout
	default:
		return func() {}
	}
	remove := klog.AddSink(func(r klog.Record) { fmt.Fprintln(w, r) })
	if cfg.HasExec {
		return func() {}
	}
	return remove
}

// guest is what the kernel is to boot.
func guest(cfg *cmdline.Config, root *io.SectionReader) (kernel.Config, error) {
	k := kernel.Config{
		CommandLine: cfg.CommandLine,
		Memory:      cfg.Mem,
		CPU:         hostCPU(),
		Aux:         hostAux(),
		Root:        cfg.Root,
		RootFS:      cfg.RootFS,
		RootFlags:   cfg.RootFlags,
		ReadWrite:   cfg.ReadWrite,
		Init:        cfg.Init,
		RDInit:      cfg.RDInit,
		InitArgs:    cfg.InitArgs,
		InitEnv:     cfg.InitEnv,
		Exec:        cfg.Exec,
		HasExec:     cfg.HasExec,
		Stdio:       stdio,
		Hostname:    cfg.Hostname,
		PanicOnOops: cfg.PanicOnOops,
	}
	for _, s := range cfg.Sysctls {
		k.Sysctls = append(k.Sysctls, [2]string{s.Name, s.Value})
	}
	switch {
	case cfg.NoInitrd:
	case cfg.Initrd != "":
		f, err := os.Open(cfg.Initrd)
		if err != nil {
			return k, fmt.Errorf("initrd=: %w", err)
		}
		k.Initramfs = append(k.Initramfs, f)
	case !cfg.HasUBD(0) && cfg.Root == "":
		if root == nil {
			return k, errors.New("there is no disk (ubd0=<file>), no file root_fs, and this program was built without the built-in root (build it with make)")
		}
		k.Initramfs = append(k.Initramfs, root)
	}
	if k.Root == "" && cfg.HasUBD(0) {
		k.Root = "98:0"
	}
	return k, nil
}

// stdio makes the program's own standard streams those of the command of exec=. Its standard error goes to our standard
// output too: standard error is for messages of the kernel.
func stdio(t *task.Task) ([3]*vfs.File, error) {
	var files [3]*vfs.File
	for fd, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_WRONLY} {
		f, err := console.OpenStream(t, min(fd, 1), flags)
		if err != nil {
			return files, err
		}
		files[fd] = f
	}
	return files, nil
}

// platformConfig is how guest programs are to be run.
func platformConfig(cfg *cmdline.Config) skas.Config {
	c := skas.Config{Lanes: syscalls.Lanes(), NCPU: cfg.NCPUs, NoSysemu: cfg.NoSysemu}
	switch cfg.Seccomp {
	case "on":
		c.Seccomp = skas.On
	case "off":
		c.Seccomp = skas.Off
	}
	if !cfg.Quiet {
		c.Logf = func(format string, args ...any) { warn(strings.TrimSuffix(fmt.Sprintf(format, args...), "\n")) }
	}
	return c
}
