package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/task"
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
	default:
		klog.Infof("sysrq: HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e) kill-all-tasks(i) poweroff(o) sync(s) show-task-states(t)")
	}
}

func (k *Kernel) signalAll(sig unix.Signal) {
	for _, g := range k.Tasks.Groups() {
		if g.PID() != 1 {
			g.SendKernelSignal(sig)
		}
	}
}
