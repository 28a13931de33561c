package skas

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
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
	err := probeLimits()
	if err != nil {
		return nil, fmt.Errorf("skas: %w", err)
	}
	done := make(chan struct{})
	go func() { // ptrace needs one OS thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err = c.probePtrace(cfg, logf)
	}()
	<-done
	if err != nil {
		return nil, hostRefuses(err, os.ReadFile)
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
	if err := probeMemory(pid, in.regs.Rsp); err != nil {
		return err
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

// probeMemory reads and writes memory of a process, which some sandboxes refuse although they let it be traced.
func probeMemory(pid int, addr uint64) error {
	var b [8]byte
	r := [1]uio.Range{{Addr: addr, Len: uint64(len(b))}}
	if _, e := processVM(unix.SYS_PROCESS_VM_READV, pid, b[:], r[:]); e != 0 {
		return fmt.Errorf("process_vm_readv: %w", e)
	}
	if _, e := processVM(unix.SYS_PROCESS_VM_WRITEV, pid, b[:], r[:]); e != 0 {
		return fmt.Errorf("process_vm_writev: %w", e)
	}
	return nil
}

// leastProcesses is how many threads and processes a kernel has that runs one program. The Go runtime crashes when it
// can make no more threads.
const leastProcesses = 64

// mostThreads is how many threads guests may have with the host's limit for the user: what is left when the kernel has its own.
// Other programs of the user count for the limit, too, which nobody tells us of.
func mostThreads() int64 {
	var lim unix.Rlimit
	if os.Geteuid() == 0 || unix.Getrlimit(unix.RLIMIT_NPROC, &lim) != nil || lim.Cur > math.MaxInt32 {
		return math.MaxInt64
	}
	return max(int64(lim.Cur)-leastProcesses, leastProcesses/4)
}

// crowded reports whether guests have all threads that they may have.
func (p *Platform) crowded() bool {
	n := int64(0)
	for _, s := range p.shards {
		n += int64(s.threads.Load())
	}
	if n < p.mostThreads {
		return false
	}
	p.crowd.Do(func() {
		p.cfg.Logf("skas: the guest has %d processes and threads: the host's limit for the user does not allow more (ulimit -u)\n", n)
	})
	return true
}

// probeLimits looks for limits with which nothing can run.
func probeLimits() error {
	var lim unix.Rlimit
	if os.Geteuid() != 0 && unix.Getrlimit(unix.RLIMIT_NPROC, &lim) == nil && lim.Cur < leastProcesses {
		return fmt.Errorf("the user may have only %d processes and threads: raise the limit (ulimit -u)", lim.Cur)
	}
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
