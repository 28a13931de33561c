package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// fault turns a CPU exception into a signal, or into memory if the kernel still owes the page. False: it must run where it
// may sleep.
func (t *Task) fault(th platform.Thread, ev *platform.Event) bool {
	info, resolved, err := t.MM().HandleFault(th, ev)
	if err != nil {
		return false
	}
	if resolved {
		return true
	}
	sig := unix.Signal(info.Signo)
	t.faultErr, t.faultTrapno, t.faultAddr = ev.Err, ev.Trapno, ev.Addr
	if showFault(t, sig) {
		if r, err := th.Regs(); err == nil {
			klog.Infof("%s[%d]: %s at %x ip %x sp %x error %x", t.Comm(), t.PID(), faultName(sig), ev.Addr, r.Rip, r.Rsp, ev.Err)
		}
	}
	t.force(info)
	return true
}

// showFault reports whether a fault is logged: it will kill, and nobody handles it.
func showFault(t *Task, sig unix.Signal) bool {
	return !t.trace.traced.Load() && t.Group.actions().get(sig).Handler <= arch.SIG_IGN
}

func faultName(sig unix.Signal) string {
	switch sig {
	case unix.SIGSEGV:
		return "segfault"
	case unix.SIGBUS:
		return "bus error"
	case unix.SIGILL:
		return "trap invalid opcode"
	case unix.SIGFPE:
		return "trap divide error"
	}
	return "trap"
}
