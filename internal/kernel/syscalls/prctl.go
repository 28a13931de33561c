package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PRCTL:       {Name: "prctl", Fn: sysPrctl},
		unix.SYS_PERSONALITY: {Name: "personality", Fn: sysPersonality, Note: "kept, without effect"},
		unix.SYS_REBOOT:      {Name: "reboot", Fn: sysReboot, Note: "no kexec, no suspend"},
		unix.SYS_VHANGUP:     {Name: "vhangup", Fn: sysVhangup},
	})
}

func sysPrctl(t *task.Task, a *platform.Args) (uint64, error) {
	switch op := i32(a[0]); op {
	case unix.PR_SET_NAME:
		var b [16]byte
		n, _ := t.Mem().ReadAt(b[:15], a[1])
		for i := range n {
			if b[i] == 0 {
				t.SetComm(string(b[:i]))
				return 0, nil
			}
		}
		if n < 15 {
			return 0, unix.EFAULT
		}
		t.SetComm(string(b[:15]))
		return 0, nil
	case unix.PR_GET_NAME:
		var b [16]byte
		copy(b[:15], t.Comm())
		return 0, uio.WriteFull(t.Mem(), b[:], a[1])
	case unix.PR_SET_PDEATHSIG:
		if a[1] > arch.NSIG {
			return 0, unix.EINVAL
		}
		t.SetPdeathSignal(int32(a[1]))
		return 0, nil
	case unix.PR_GET_PDEATHSIG:
		return 0, writeU32(t, a[1], uint32(t.PdeathSignal()))
	case unix.PR_GET_DUMPABLE:
		return uint64(t.Group.Dumpable()), nil
	case unix.PR_SET_DUMPABLE:
		if a[1] > 1 {
			return 0, unix.EINVAL
		}
		t.Group.SetDumpable(int32(a[1]))
		return 0, nil
	case unix.PR_GET_KEEPCAPS:
		return uint64(t.Cred().Securebits & cred.SecbitKeepCaps / cred.SecbitKeepCaps), nil
	case unix.PR_SET_KEEPCAPS:
		if a[1] > 1 {
			return 0, unix.EINVAL
		}
		c := t.Cred().Copy()
		if c.Securebits&(cred.SecbitKeepCaps<<1) != 0 {
			return 0, unix.EPERM
		}
		c.Securebits = c.Securebits&^cred.SecbitKeepCaps | uint32(a[1])*cred.SecbitKeepCaps
		t.InstallCred(c)
		return 0, nil
	case unix.PR_GET_SECUREBITS:
		return uint64(t.Cred().Securebits), nil
	case unix.PR_SET_SECUREBITS:
		return setSecurebits(t, a[1])
	case unix.PR_SET_NO_NEW_PRIVS:
		if a[1] != 1 || a[2]|a[3]|a[4] != 0 {
			return 0, unix.EINVAL
		}
		t.SetNoNewPrivs()
		return 0, nil
	case unix.PR_GET_NO_NEW_PRIVS:
		if a[1]|a[2]|a[3]|a[4] != 0 {
			return 0, unix.EINVAL
		}
		if t.NoNewPrivs() {
			return 1, nil
		}
		return 0, nil
	case unix.PR_CAPBSET_READ:
		if a[1] >= 64 || cred.AllCaps>>a[1]&1 == 0 {
			return 0, unix.EINVAL
		}
		return uint64(t.Cred().Bounding >> a[1] & 1), nil
	case unix.PR_CAPBSET_DROP:
		if !t.Cred().Capable(unix.CAP_SETPCAP) {
			return 0, unix.EPERM
		}
		if a[1] >= 64 || cred.AllCaps>>a[1]&1 == 0 {
			return 0, unix.EINVAL
		}
		c := t.Cred().Copy()
		c.Bounding &^= 1 << a[1]
		t.InstallCred(c)
		return 0, nil
	case unix.PR_CAP_AMBIENT:
		return capAmbient(t, a)
	case unix.PR_SET_CHILD_SUBREAPER:
		t.Group.SetSubreaper(a[1] != 0)
		return 0, nil
	case unix.PR_GET_CHILD_SUBREAPER:
		v := uint32(0)
		if t.Group.Subreaper() {
			v = 1
		}
		return 0, writeU32(t, a[1], v)
	case unix.PR_SET_TIMERSLACK:
		t.SetTimerSlack(a[1])
		return 0, nil
	case unix.PR_GET_TIMERSLACK:
		return t.TimerSlack(), nil
	case unix.PR_GET_TIMING:
		return 0, nil
	case unix.PR_SET_TIMING:
		if a[1] != 0 {
			return 0, unix.EINVAL
		}
		return 0, nil
	case unix.PR_GET_TSC:
		return 0, writeU32(t, a[1], 1)
	case unix.PR_GET_SECCOMP:
		return uint64(t.SeccompMode()), nil
	case unix.PR_SET_SECCOMP:
		switch a[1] {
		case unix.SECCOMP_MODE_STRICT:
			return 0, t.SetStrict()
		case unix.SECCOMP_MODE_FILTER:
			return setFilter(t, 0, a[2])
		}
		return 0, unix.EINVAL
	case unix.PR_GET_TID_ADDRESS:
		return 0, writeU64(t, a[1], t.ClearTID())
	case unix.PR_SET_PTRACER:
		return 0, nil
	case unix.PR_SET_THP_DISABLE, unix.PR_GET_THP_DISABLE, unix.PR_MCE_KILL, unix.PR_MCE_KILL_GET, unix.PR_TASK_PERF_EVENTS_DISABLE, unix.PR_TASK_PERF_EVENTS_ENABLE:
		return 0, nil
	case prSetVMA:
		return 0, unix.EINVAL // names of anonymous mappings are not kept
	}
	return 0, unix.EINVAL
}

const prSetVMA = 0x53564d41

func setSecurebits(t *task.Task, v uint64) (uint64, error) {
	old := t.Cred()
	locked := old.Securebits & cred.SecbitsLocks
	if v&^cred.SecbitsAll != 0 || uint32(v)&locked != locked ||
		(uint32(v)^old.Securebits)&(locked>>1) != 0 || !old.Capable(unix.CAP_SETPCAP) {
		return 0, unix.EPERM
	}
	c := old.Copy()
	c.Securebits = uint32(v)
	t.InstallCred(c)
	return 0, nil
}

func capAmbient(t *task.Task, a *platform.Args) (uint64, error) {
	c := t.Cred().Copy()
	if a[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		if a[2]|a[3]|a[4] != 0 {
			return 0, unix.EINVAL
		}
		c.Ambient = 0
		t.InstallCred(c)
		return 0, nil
	}
	if a[3]|a[4] != 0 || a[2] >= 64 || cred.AllCaps>>a[2]&1 == 0 {
		return 0, unix.EINVAL
	}
	bit := cred.CapSet(1) << a[2]
	switch a[1] {
	case unix.PR_CAP_AMBIENT_IS_SET:
		if c.Ambient&bit != 0 {
			return 1, nil
		}
		return 0, nil
	case unix.PR_CAP_AMBIENT_RAISE:
		if c.Permitted&c.Inheritable&bit == 0 || c.Securebits&cred.SecbitNoCapAmbientRaise != 0 {
			return 0, unix.EPERM
		}
		c.Ambient |= bit
	case unix.PR_CAP_AMBIENT_LOWER:
		c.Ambient &^= bit
	default:
		return 0, unix.EINVAL
	}
	t.InstallCred(c)
	return 0, nil
}

func sysPersonality(t *task.Task, a *platform.Args) (uint64, error) {
	old := t.Personality()
	if u32(a[0]) != 0xffffffff {
		t.SetPersonality(u32(a[0]))
	}
	return uint64(old), nil
}

func sysReboot(t *task.Task, a *platform.Args) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_BOOT) {
		return 0, unix.EPERM
	}
	if u32(a[0]) != unix.LINUX_REBOOT_MAGIC1 {
		return 0, unix.EINVAL
	}
	switch u32(a[1]) {
	case 672274793, 85072278, 369367448, 537993216: // LINUX_REBOOT_MAGIC2 and its variants
	default:
		return 0, unix.EINVAL
	}
	switch u32(a[2]) {
	case unix.LINUX_REBOOT_CMD_RESTART:
		klog.Printf(klog.Emerg, "reboot: Restarting system")
		t.K.Halt(task.Halt{Kind: task.HaltRestart})
	case unix.LINUX_REBOOT_CMD_RESTART2:
		s, err := copyPath(t, a[3])
		if err != nil {
			return 0, err
		}
		klog.Printf(klog.Emerg, "reboot: Restarting system with command '%s'", s)
		t.K.Halt(task.Halt{Kind: task.HaltRestart})
	case unix.LINUX_REBOOT_CMD_HALT:
		klog.Printf(klog.Emerg, "reboot: System halted")
		t.K.Halt(task.Halt{Kind: task.HaltHalt})
	case unix.LINUX_REBOOT_CMD_POWER_OFF:
		klog.Printf(klog.Emerg, "reboot: System halted")
		t.K.Halt(task.Halt{Kind: task.HaltPowerOff})
	case unix.LINUX_REBOOT_CMD_CAD_ON:
		t.K.SetCtrlAltDel(true)
		return 0, nil
	case unix.LINUX_REBOOT_CMD_CAD_OFF:
		t.K.SetCtrlAltDel(false)
		return 0, nil
	default:
		return 0, unix.EINVAL
	}
	return sysPause(t, a)
}

func sysVhangup(t *task.Task, _ *platform.Args) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_TTY_CONFIG) {
		return 0, unix.EPERM
	}
	if y := t.ControllingTTY(); y != nil {
		y.Hangup()
	}
	return 0, nil
}
