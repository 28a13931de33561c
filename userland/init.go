package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func reboot([]string) int { return restart(unix.LINUX_REBOOT_CMD_RESTART) }

// halt is halt and poweroff.
func halt([]string) int { return restart(unix.LINUX_REBOOT_CMD_POWER_OFF) }

func restart(cmd int) int {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fail(err)
	}
	return 0
}

// installLinks makes a link to the busybox for every command in a directory.
func installLinks(args []string) int {
	if len(args) != 1 {
		return usage("directory")
	}
	for name := range applets {
		os.Symlink("busybox", filepath.Join(args[0], name))
	}
	return 0
}

// initMain is process 1 of the built-in root: it mounts what a system has, sets lo up, keeps a shell on the console and collects
// orphans. When the shell ends, so does the system, unless users of the console come and go.
func initMain([]string) int {
	if os.Getpid() != 1 {
		return fail(errors.New("must be process 1"))
	}
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
		{"devpts", "/dev/pts", "devpts"}, {"tmpfs", "/dev/shm", "tmpfs"}, {"tmpfs", "/tmp", "tmpfs"}, {"tmpfs", "/run", "tmpfs"}} {
		os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[2], unix.MS_NOSUID, ""); err != nil && err != unix.EBUSY {
			fmt.Fprintf(os.Stderr, "init: cannot mount %s: %s\n", m[1], reason(err))
		}
	}
	os.Chmod("/tmp", 0o777|fs.ModeSticky)
	os.Chmod("/dev/shm", 0o777|fs.ModeSticky)
	if h, err := os.ReadFile("/etc/hostname"); err == nil {
		if old, _ := os.Hostname(); old == "(none)" || old == "" {
			unix.Sethostname([]byte(strings.TrimSpace(string(h))))
		}
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintf(os.Stderr, "init: cannot set lo up: %s\n", reason(err))
	}
	for k, v := range map[string]string{"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"} {
		os.Setenv(k, v)
	}
	if os.Getenv("TERM") == "" {
		os.Setenv("TERM", "linux")
	}
	os.Chdir("/root")
	signal.Ignore(unix.SIGHUP)
	cad := make(chan os.Signal, 1)
	signal.Notify(cad, unix.SIGINT) // Ctrl-Alt-Del of the kernel
	go func() {
		<-cad
		restart(unix.LINUX_REBOOT_CMD_RESTART)
	}()

	for {
		began := time.Now()
		shell, err := startShell(true)
		if err != nil {
			shell, err = startShell(false)
		}
		if err != nil {
			return fail(err)
		}
		for {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, 0, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid == shell {
				break
			}
		}
		if !usersComeAndGo() {
			return halt(nil)
		}
		time.Sleep(time.Until(began.Add(time.Second))) // one that cannot even begin
	}
}

// usersComeAndGo tells whether the console is a telnet port: what looks like an end of file there is the end of a user, or a scan of
// the port, and not of the system.
func usersComeAndGo() bool {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return false
	}
	all, first := "", ""
	for _, word := range strings.Fields(string(text)) {
		if v, ok := strings.CutPrefix(word, "con="); ok {
			all = v
		} else if v, ok := strings.CutPrefix(word, "con0="); ok {
			first = v
		}
	}
	return strings.HasPrefix(first, "port:") || first == "" && strings.HasPrefix(all, "port:")
}

// loopbackUp sets the loopback device up (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// startShell starts a login shell on the console, in a session of its own, with the console as its terminal if it can be.
func startShell(controlling bool) (int, error) {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		console = os.Stdin
	}
	p, err := os.StartProcess("/bin/sh", []string{"-sh"}, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{console, console, console},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: controlling, Ctty: 0},
	})
	if err != nil {
		return 0, err
	}
	return p.Pid, nil
}
