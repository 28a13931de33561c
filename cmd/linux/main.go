// Linux is User-Mode Linux as one Go program: a Linux kernel that runs as a process and has guest programs for which it is
// the only kernel there is. Its arguments are a kernel command line; --help lists them.
//
// This package reads the command line, prepares the host process, joins the drivers to the kernel and turns the way the
// guest ended into the way the program ends.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/syscalls"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
)

func main() {
	host.Janitor()
	console.PortHelper()
	runTool()
	cfg, err := cmdline.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(host.StatusUsage)
	}
	switch cfg.Action {
	case cmdline.ShowHelp:
		cmdline.WriteHelp(os.Stdout)
	case cmdline.ShowVersion:
		fmt.Println(abi.Release)
	case cmdline.ShowConfig:
		cmdline.WriteConfig(os.Stdout)
	case cmdline.ShowSyscalls:
		syscalls.WriteList(os.Stdout)
	default:
		run(cfg)
	}
}

// run boots the guest and ends the program.
func run(cfg *cmdline.Config) {
	// An uncaught panic of this program is a panic of the guest: it ends by SIGABRT too.
	debug.SetTraceback("crash")
	for _, s := range cfg.Hints {
		fmt.Fprintln(os.Stderr, s)
	}
	for _, s := range cfg.Warnings {
		warn(s)
	}
	checkFiles(cfg)
	if !cfg.Quiet {
		reportLimits()
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/lib/uml") // where helpers of uml-utilities are
	dir := prepare(cfg)
	if cfg.Timeout > 0 {
		time.AfterFunc(cfg.Timeout, func() {
			warn(fmt.Sprintf("the guest was ended after %v (timeout=)", cfg.Timeout))
			host.Exit(host.StatusTimeout)
		})
	}
	end(cfg, boot(cfg, dir, userland()))
}

// prepare sets up the umid directory, the janitor and the host's signals. The directory is nil if there is none.
func prepare(cfg *cmdline.Config) *umid.Dir {
	mind, err := host.StartJanitor()
	if err != nil {
		warn(err.Error())
		mind = func(string) {}
	}
	parent, err := cfg.UMLDir, error(nil)
	if parent == "" {
		parent, err = umid.DefaultParent()
	}
	var dir *umid.Dir
	if err == nil {
		dir, err = umid.Create(parent, cfg.Umid, warn)
	}
	if err != nil {
		warn(fmt.Sprintf("no umid directory, and so no management console: %v", err))
	} else {
		mind(dir.Path())
		host.AtExit(dir.Remove)
	}
	host.Watch(host.Handlers{})
	return dir
}

// end ends the program as the guest ended.
func end(cfg *cmdline.Config, o outcome) {
	switch o.how {
	case halted:
		host.Exit(o.status & 0xff)
	case rebooted:
		if cfg.NoReboot || cfg.HasExec {
			host.Exit(o.status & 0xff)
		}
		warn(fmt.Sprintf("cannot start again: %v", host.Reexec()))
		host.Exit(host.StatusNoBoot)
	case panicked:
		switch {
		case cfg.PanicExit >= 0:
			host.Exit(cfg.PanicExit)
		case cfg.HasExec:
			host.Exit(host.StatusPanic)
		}
		host.Die(unix.SIGABRT)
	case notBooted:
		host.Exit(host.StatusNoBoot)
	}
}

// checkFiles warns of host files that are named on the command line and are not there; with strict it ends the program.
func checkFiles(cfg *cmdline.Config) {
	if cfg.Initrd == "" {
		return
	}
	if _, err := os.Stat(cfg.Initrd); err != nil {
		warn(fmt.Sprintf("initrd= is ignored: %v", err))
		cfg.Initrd = ""
		if cfg.Strict {
			os.Exit(host.StatusUsage)
		}
	}
}

// reportLimits prints the limits of core files, as every UML does at its start.
func reportLimits() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &l) != nil {
		return
	}
	text := func(n uint64) string {
		if n == unix.RLIM_INFINITY {
			return "NONE"
		}
		return fmt.Sprint(n)
	}
	fmt.Fprintf(os.Stderr, "Core dump limits :\n\tsoft - %s\n\thard - %s\n", text(l.Cur), text(l.Max))
}

// warn tells the user of something that is wrong.
func warn(s string) { fmt.Fprintln(host.Stderr, s) }
