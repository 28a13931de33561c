package skas

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Capabilities is what Probe found.
type Capabilities struct {
	seccomp bool
	sysemu  bool
}

func (c *Capabilities) backend() string {
	switch {
	case c.seccomp:
		return "seccomp user notification and ptrace"
	case c.sysemu:
		return "ptrace with SYSEMU"
	}
	return "ptrace"
}

// Probe finds out what the host allows, saying so line by line in the manner of UML.
func Probe(cfg *Config) (*Capabilities, error) {
	logf := cfg.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	c := &Capabilities{}
	var err error
	done := make(chan struct{})
	go func() { // ptrace needs one OS thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err = c.probePtrace(cfg, logf)
	}()
	<-done
	if err != nil {
		return nil, hostRefuses(err)
	}
	if cfg.Seccomp != Off {
		c.seccomp = hasNotifications()
		logf("Checking that seccomp filters can be installed...%s\n", okOr(c.seccomp, "not available"))
		if !c.seccomp && cfg.Seccomp == On {
			return nil, errors.New("skas: seccomp=on, but the host has no seccomp user notification; use seccomp=auto or seccomp=off")
		}
	}
	return c, nil
}

// probePtrace tries what the platform needs of ptrace on a process of its own.
func (c *Capabilities) probePtrace(cfg *Config, logf func(string, ...any)) error {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"uml-probe"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Ptrace: true, Setsid: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("starting a traced process: %w", err)
	}
	defer func() {
		unix.Kill(pid, unix.SIGKILL)
		reap(pid)
	}()
	if _, err := waitFor(pid); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	in := &injector{pid: pid}
	if err := ptraceGetRegs(pid, &in.regs); err != nil {
		return fmt.Errorf("PTRACE_GETREGS: %w", err)
	}
	in.rip = in.regs.Rip
	if err := in.poke(in.rip, []byte{0x0f, 0x05, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc}); err != nil {
		return fmt.Errorf("PTRACE_POKEDATA: %w", err)
	}
	changed := in.changesCall(unix.PTRACE_SYSCALL)
	logf("Checking that ptrace can change system call numbers...%s\n", okOr(changed, "failed"))
	if !changed {
		return errors.New("ptrace cannot change system call numbers")
	}
	if cfg.NoSysemu {
		logf("Checking syscall emulation patch for ptrace...disabled by nosysemu\n")
		return nil
	}
	c.sysemu = in.changesCall(ptraceSysemu)
	logf("Checking syscall emulation patch for ptrace...%s\n", okOr(c.sysemu, "missing"))
	return nil
}

// changesCall has the process call getpid under a request, which is to stop it there, and replaces the call (SYSCALL) or
// its result (SYSEMU).
func (in *injector) changesCall(req int) bool {
	const answer = 12345
	r := in.regs
	r.Rip, r.Rax, r.Orig_rax = in.rip, unix.SYS_GETPID, noCall
	if ptraceSetRegs(in.pid, &r) != nil || ptrace(req, in.pid, 0, 0) != nil {
		return false
	}
	if ws, err := waitFor(in.pid); err != nil || ws.StopSignal()&^0x80 != unix.SIGTRAP {
		return false
	}
	if ptraceGetRegs(in.pid, &r) != nil || r.Orig_rax != unix.SYS_GETPID {
		return false
	}
	want := uint64(unix.Getpid())
	r.Orig_rax = unix.SYS_GETPPID
	if req == ptraceSysemu {
		want = answer
		r.Rax = answer
	}
	if ptraceSetRegs(in.pid, &r) != nil || ptrace(unix.PTRACE_CONT, in.pid, 0, 0) != nil {
		return false
	}
	if ws, err := waitFor(in.pid); err != nil || ws.StopSignal() != unix.SIGTRAP {
		return false
	}
	return ptraceGetRegs(in.pid, &r) == nil && r.Rax == want && r.Rip == in.rip+3
}

func okOr(ok bool, otherwise string) string {
	if ok {
		return "OK"
	}
	return otherwise
}

// hasNotifications reports whether the host knows seccomp user notification.
func hasNotifications() bool {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	return actionAvailable(&action) && notifSizesMatch()
}
