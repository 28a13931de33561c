package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
)

// configure hands the drivers their options. An error is one that the guest cannot be started with.
func (d *drivers) configure(cfg *cmdline.Config, dir *umid.Dir) error {
	if !cfg.HasUBD(0) && cfg.Root == "" && cfg.Initrd == "" {
		if fi, err := os.Stat("root_fs"); err == nil && fi.Mode().IsRegular() {
			cfg.UBD = append(cfg.UBD, "ubd0=root_fs")
		}
	}
	if err := hostRoot(cfg); err != nil {
		return err
	}
	d.consoles.SerialNonRaw = cfg.SSLNonRaw
	d.consoles.Xterm = cfg.Xterm
	d.consoles.Stderr, d.consoles.LogShown = host.Stderr, cfg.HasExec
	host.AtExit(d.consoles.Close)
	if cfg.HasExec {
		// The standard streams are the command's.
		cfg.Consoles = append([]string{"con0=null"}, cfg.Consoles...)
	}
	for _, word := range cfg.Consoles {
		if _, err := d.consoles.Option(word); err != nil {
			warn(err.Error())
		}
	}
	if err := recordTerminals(cfg); err != nil {
		return err
	}
	if dir != nil {
		d.consoles.Assigned = func(line, device string) {
			link := dir.File(line)
			os.Remove(link)
			if device == "" {
				return
			}
			if err := os.Symlink(device, link); err != nil {
				klog.Warnf("%s: %v", line, err)
			}
		}
	}
	return nil
}

// recordTerminals starts what tty_log_fd= and tty_log_dir= ask for; the descriptor comes first.
func recordTerminals(cfg *cmdline.Config) error {
	var r *console.Recorder
	var err error
	switch {
	case cfg.HasTTYLogFD:
		r, err = console.RecordToFD(cfg.TTYLogFD)
	case cfg.TTYLogDir != "":
		r, err = console.RecordToDir(cfg.TTYLogDir)
	default:
		return nil
	}
	if err != nil {
		return err // who asks for a record wants no session without
	}
	tty.SetRecorder(r)
	host.AtExit(r.Stop)
	return nil
}

// register makes the guest's devices, when the kernel is ready for them.
func (d *drivers) register(cfg *cmdline.Config) {
	if err := d.consoles.Register(); err != nil {
		klog.Errf("%v", err)
		warn(err.Error())
	}
	if !cfg.HasExec {
		names := cfg.Console
		if len(names) == 0 {
			names = []string{"tty0"}
		}
		if err := d.consoles.SystemConsoles(names, host.Stderr); err != nil {
			klog.Errf("%v", err)
			warn(err.Error())
		}
	}
	registerHostfs(cfg)
	host.AtExit(d.nets.Close)
	for _, word := range cfg.Nets {
		if err := d.nets.Option(word); err != nil {
			klog.Errf("%v", err)
			warn(err.Error())
		}
	}
	host.AtExit(d.disks.Close)
	if cfg.UBDSync {
		if err := d.disks.Option("ubd=sync"); err != nil {
			klog.Errf("%v", err)
		}
	}
	for _, word := range cfg.UBD {
		if err := d.disks.Option(word); err != nil {
			klog.Errf("%v", err)
			warn(err.Error())
		}
	}
}

// Keys of the auxiliary vector (elf.h).
const (
	atHWCAP       = 16
	atHWCAP2      = 26
	atMinSigStack = 51
)

// hostAux is what the host tells programs about its CPU.
func hostAux() arch.HostAux {
	var a arch.HostAux
	vec, err := unix.Auxv()
	if err != nil {
		return a
	}
	for _, e := range vec {
		switch e[0] {
		case atHWCAP:
			a.HWCAP = uint64(e[1])
		case atHWCAP2:
			a.HWCAP2 = uint64(e[1])
		case atMinSigStack:
			a.MinSigStack = uint64(e[1])
		}
	}
	return a
}

// hostCPU is what /proc/cpuinfo tells about the host: not its name, only the kernel and the processor's features.
func hostCPU() procfs.CPU {
	var c procfs.CPU
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		c.Host = fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch strings.TrimSpace(name) {
		case "flags":
			c.Flags = strings.TrimSpace(value)
		case "cpu MHz":
			fmt.Sscan(value, &c.MHz)
		case "":
			return c // the first processor is enough
		}
	}
	return c
}
