package kernel

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Sysrq does what a magic SysRq key asks for (sysrq in the kernel's admin guide).
func (k *Kernel) Sysrq(key byte) {
	switch {
	case key >= '0' && key <= '9':
		klog.SetConsoleLevel(klog.Level(key - '0'))
		klog.Infof("sysrq: Changing Loglevel")
		klog.Infof("Loglevel set to %c", key)
	case key == 'b':
		klog.Infof("sysrq: Resetting")
		k.Tasks.Halt(task.Halt{Kind: task.HaltRestart})
	case key == 'o':
		klog.Infof("sysrq: Power Off")
		k.Tasks.Halt(task.Halt{Kind: task.HaltPowerOff})
	case key == 'c':
		klog.Infof("sysrq: Trigger a crash")
		k.Tasks.Panic("sysrq triggered crash")
	case key == 'e':
		klog.Infof("sysrq: Terminate All Tasks")
		k.signalAll(unix.SIGTERM)
	case key == 'i':
		klog.Infof("sysrq: Kill All Tasks")
		k.signalAll(unix.SIGKILL)
	case key == 's':
		klog.Infof("sysrq: Emergency Sync")
		vfs.Sync(nil)
		klog.Infof("Emergency Sync complete")
	case key == 't':
		klog.Infof("sysrq: Show State")
		for _, g := range k.Tasks.Groups() {
			for _, t := range g.Threads() {
				klog.Infof("task:%-15.15s state:%c pid:%-5d ppid:%d", t.Comm(), t.State(), t.TID(), g.PPID())
			}
		}
	case key == 'f':
		klog.Infof("sysrq: Manual OOM execution")
		k.Tasks.KillForMemory(k.Tasks.MM.Acct)
	case key == 'k':
		klog.Infof("sysrq: SAK")
		k.secureAttention()
	case key == 'l', key == 'w':
		what, show := "Blocked State", 'S'
		if key == 'l' {
			what, show = "backtrace of all active CPUs", 'R'
		}
		klog.Infof("sysrq: Show %s", what)
		k.showStacks(byte(show))
	case key == 'm':
		klog.Infof("sysrq: Show Memory")
		m := system.MemoryNow()
		klog.Infof("Mem-Info:")
		klog.Infof("active_anon:%dkB shmem:%dkB mapped:%dkB slab:%dkB", m.Anon/1024, m.Shmem/1024, m.Mapped/1024, m.Slab/1024)
		klog.Infof("free:%dkB available:%dkB total:%dkB", m.Free/1024, m.Available/1024, m.Total/1024)
	case key == 'u':
		klog.Infof("sysrq: Emergency Remount R/O")
		vfs.EmergencyRemount(&bootCaller{cred: cred.Root()})
		klog.Infof("Emergency Remount complete")
	default:
		klog.Infof("sysrq: HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e) memory-full-oom-kill(f) kill-all-tasks(i) " +
			"sak(k) show-backtrace-all-active-cpus(l) show-memory-usage(m) poweroff(o) sync(s) show-task-states(t) unmount(u) show-blocked-tasks(w)")
	}
}

// showStacks logs where in the kernel the threads in a state are.
func (k *Kernel) showStacks(state byte) {
	stacks := task.AllStacks()
	for _, g := range k.Tasks.Groups() {
		for _, t := range g.Threads() {
			calls := stacks.Of(t)
			if t.State() != state || len(calls) == 0 {
				continue
			}
			klog.Infof("task:%-15.15s state:%c pid:%-5d ppid:%d", t.Comm(), t.State(), t.TID(), g.PPID())
			klog.Infof("Call Trace:\n %s", strings.Join(calls, "\n "))
		}
	}
}

// secureAttention kills whatever has the system console as its terminal.
func (k *Kernel) secureAttention() {
	t := tty.Console()
	for _, g := range k.Tasks.Groups() {
		if t != nil && g.ControllingTTY() == t && g.PID() != 1 {
			g.SendKernelSignal(unix.SIGKILL)
		}
	}
}

func (k *Kernel) signalAll(sig unix.Signal) {
	for _, g := range k.Tasks.Groups() {
		if g.PID() != 1 {
			g.SendKernelSignal(sig)
		}
	}
}
