package main

import (
	"bytes"
	"encoding/binary"
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
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/syscalls"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
	"github.com/user-mode-linux/linux/internal/skas"
	"github.com/user-mode-linux/linux/internal/ubd"
)

var le = binary.LittleEndian

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

// handlers are what the guest kernel does on host signals.
var handlers host.Handlers

// drainTime is how long the end of the guest waits for the host to take the last output.
const drainTime = 2 * time.Second

// boot builds the drivers that the command line asks for, boots the guest kernel with them and returns when the guest has
// ended.
func boot(cfg *cmdline.Config, _ *umid.Dir, builtin *io.SectionReader) outcome {
	raiseFiles()
	startLog(cfg)
	consoles := console.New()
	if cfg.Quiet {
		consoles.Stderr = nil
	}
	for _, w := range cfg.Consoles {
		if _, err := consoles.Option(w); err != nil {
			warn(err.Error())
		}
	}
	consoles.SerialNonRaw = cfg.SSLNonRaw
	disks := &ubd.Set{}
	defer disks.Close()
	for _, w := range diskWords(cfg) {
		if err := disks.Option(w); err != nil {
			warn(err.Error())
			klog.Errf("%v", err)
		}
	}
	initramfs, close, err := archives(cfg, builtin, len(disks.Units()) > 0)
	if err != nil {
		warn(err.Error())
		return outcome{how: notBooted}
	}
	defer close()
	k := kernel.New(kernelConfig(cfg, initramfs, len(disks.Units()) > 0))
	sc := skas.Config{Lanes: syscalls.Lanes(), NCPU: cfg.NCPUs, NoSysemu: cfg.NoSysemu}
	switch cfg.Seccomp {
	case "on":
		sc.Seccomp = skas.On
	case "off":
		sc.Seccomp = skas.Off
	}
	if !cfg.Quiet {
		sc.Logf = func(f string, a ...any) { fmt.Fprintf(host.Stderr, f, a...) }
	}
	p, err := skas.New(sc, k.Tasks)
	if err != nil {
		warn(err.Error())
		return outcome{how: notBooted}
	}
	defer p.Close()
	defer func() { consoles.Drain(drainTime); consoles.Close() }()
	k.BeforeRoot = func() {
		if err := consoles.Register(); err != nil {
			klog.Warnf("%v", err)
		}
		if cfg.HasExec {
			return // the log goes to stderr, the standard streams to the command
		}
		name := "tty0"
		if n := len(cfg.Console); n > 0 {
			name, _, _ = strings.Cut(cfg.Console[n-1], ",")
		}
		if err := consoles.SystemConsole(name); err != nil {
			klog.Warnf("console=%s: %v", name, err)
		}
	}
	if err := k.Boot(p); err != nil && !kernel.Panicked(err) {
		warn(fmt.Sprintf("cannot boot: %v", err))
		return outcome{how: notBooted}
	}
	o := k.Wait()
	switch o.Kind {
	case task.HaltRestart:
		return outcome{rebooted, o.Status}
	case task.HaltPanic:
		return outcome{how: panicked}
	}
	return outcome{halted, o.Status}
}

// startLog sends the boot log where the user sees it before and without consoles.
func startLog(cfg *cmdline.Config) {
	klog.SetConsoleLevel(klog.Level(cfg.LogLevel))
	if cfg.HasExec && !cfg.Quiet || cfg.EarlyStderr {
		klog.AddSink(func(r klog.Record) { fmt.Fprintln(host.Stderr, r) })
	} else if cfg.HasExec {
		// With quiet only what ends the guest is shown.
		klog.AddSink(func(r klog.Record) {
			if r.Level <= klog.Alert {
				fmt.Fprintln(host.Stderr, r)
			}
		})
	}
	for _, l := range cfg.Log {
		klog.Printf(klog.Notice, "%s", l)
	}
}

// diskWords are the ubd options, with the default root file if there is one.
func diskWords(cfg *cmdline.Config) []string {
	words := cfg.UBD
	if cfg.UBDSync {
		words = append([]string{"ubd=sync"}, words...)
	}
	for _, w := range words {
		if strings.HasPrefix(w, "ubd0") || strings.HasPrefix(w, "ubda") {
			return words
		}
	}
	if st, err := os.Stat("root_fs"); err == nil && st.Mode().IsRegular() {
		words = append(words, "ubd0=root_fs")
	}
	return words
}

// archives are the initramfs archives: initrd=, or the built-in root if there is nothing else to boot.
func archives(cfg *cmdline.Config, builtin *io.SectionReader, haveDisk bool) (r []io.Reader, close func(), err error) {
	close = func() {}
	if cfg.Initrd != "" && !cfg.NoInitrd {
		f, err := os.Open(cfg.Initrd)
		if err != nil {
			return nil, nil, err
		}
		return []io.Reader{f}, func() { f.Close() }, nil
	}
	if haveDisk || cfg.RootFS == "hostfs" {
		return nil, close, nil
	}
	if builtin == nil {
		return nil, nil, fmt.Errorf("nothing to boot: no ubd0= on the command line, no root_fs in this directory, and this program was built without the built-in root (build it with make)")
	}
	return []io.Reader{builtin}, close, nil
}

func kernelConfig(cfg *cmdline.Config, initramfs []io.Reader, haveDisk bool) kernel.Config {
	c := kernel.Config{
		CommandLine: cfg.CommandLine, Memory: cfg.Mem, Aux: hostAux(), CPU: hostCPU(),
		Initramfs: initramfs, RootFS: cfg.RootFS, RootFlags: cfg.RootFlags, ReadWrite: cfg.ReadWrite,
		Init: cfg.Init, RDInit: cfg.RDInit, InitArgs: cfg.InitArgs, InitEnv: cfg.InitEnv,
		Exec: cfg.Exec, HasExec: cfg.HasExec, Stdio: stdio,
	}
	if haveDisk {
		if c.Root = cfg.Root; c.Root == "" {
			c.Root = "98:0"
		}
	}
	return c
}

// stdio makes the standard streams of this program those of exec='s command.
func stdio(t *task.Task) (f [3]*vfs.File, err error) {
	for i, mode := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_WRONLY} {
		fd := i
		if i == 2 {
			fd = 1 // the guest's output is ours; our stderr is for messages of the kernel
		}
		if f[i], err = console.OpenStream(t, fd, mode); err != nil {
			return f, err
		}
	}
	return f, nil
}

// raiseFiles raises the limit of open files to what the host allows: mapped guest files take descriptors.
func raiseFiles() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	}
}

// hostAux reads this process's auxiliary vector.
func hostAux() (a arch.HostAux) {
	b, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return a
	}
	for ; len(b) >= 16; b = b[16:] {
		v := le.Uint64(b[8:])
		switch le.Uint64(b) {
		case arch.AT_HWCAP:
			a.HWCAP = v
		case arch.AT_HWCAP2:
			a.HWCAP2 = v
		case arch.AT_MINSIGSTKSZ:
			a.MinSigStack = v
		}
	}
	return a
}

// hostCPU reads what the host tells of its processor.
func hostCPU() (c procfs.CPU) {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(b) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !ok {
			break // only the first processor
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "flags":
			c.Flags = value
		case "cpu MHz":
			fmt.Sscan(value, &c.MHz)
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		c.Host = fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	return c
}
