package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_UNAME:         {Name: "uname", Fn: sysUname},
		unix.SYS_SETHOSTNAME:   {Name: "sethostname", Fn: sysSethostname},
		unix.SYS_SETDOMAINNAME: {Name: "setdomainname", Fn: sysSetdomainname},
		unix.SYS_SYSINFO:       {Name: "sysinfo", Fn: sysSysinfo},
		unix.SYS_SYSLOG:        {Name: "syslog", Fn: sysSyslog},
		unix.SYS_GETRANDOM:     {Name: "getrandom", Fn: sysGetrandom},
		unix.SYS_GETCPU:        {Name: "getcpu", Fn: sysGetcpu},

		// Programs fall back to older ways when they see ENOSYS here.
		unix.SYS_QUOTACTL:          {Name: "quotactl", Fn: sysNone, Note: "no quotas"},
		unix.SYS_QUOTACTL_FD:       {Name: "quotactl_fd", Fn: sysNone, Note: "no quotas"},
		unix.SYS_FSOPEN:            {Name: "fsopen", Fn: sysNone, Note: "use mount"},
		unix.SYS_FSCONFIG:          {Name: "fsconfig", Fn: sysNone, Note: "use mount"},
		unix.SYS_FSMOUNT:           {Name: "fsmount", Fn: sysNone, Note: "use mount"},
		unix.SYS_FSPICK:            {Name: "fspick", Fn: sysNone, Note: "use mount"},
		unix.SYS_OPEN_TREE:         {Name: "open_tree", Fn: sysNone, Note: "use mount"},
		unix.SYS_MOVE_MOUNT:        {Name: "move_mount", Fn: sysNone, Note: "use mount"},
		unix.SYS_MOUNT_SETATTR:     {Name: "mount_setattr", Fn: sysNone, Note: "use mount"},
		unix.SYS_IO_URING_SETUP:    {Name: "io_uring_setup", Fn: sysNone, Note: "no io_uring"},
		unix.SYS_IO_URING_ENTER:    {Name: "io_uring_enter", Fn: sysNone, Note: "no io_uring"},
		unix.SYS_IO_URING_REGISTER: {Name: "io_uring_register", Fn: sysNone, Note: "no io_uring"},
		unix.SYS_IO_SETUP:          {Name: "io_setup", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_IO_DESTROY:        {Name: "io_destroy", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_IO_GETEVENTS:      {Name: "io_getevents", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_IO_PGETEVENTS:     {Name: "io_pgetevents", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_IO_SUBMIT:         {Name: "io_submit", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_IO_CANCEL:         {Name: "io_cancel", Fn: sysNone, Note: "no kernel AIO"},
		unix.SYS_SYSFS:             {Name: "sysfs", Fn: sysNone, Note: "obsolete"},
	})
}

// sysNone is a call that this kernel does not have.
func sysNone(*task.Task, *platform.Args) (uint64, error) { return 0, unix.ENOSYS }

// encodeUname puts struct new_utsname into b.
func encodeUname(b []byte, host, domain string) {
	const field = system.NameMax + 1
	clear(b[:6*field])
	for i, s := range [...]string{abi.Sysname, host, abi.Release, abi.Version, abi.Machine, domain} {
		copy(b[i*field:(i+1)*field-1], s)
	}
}

// sysUname implements uname(2).
func sysUname(t *task.Task, a *platform.Args) (uint64, error) {
	s := getScratch()
	defer s.put()
	encodeUname(s.buf[:], system.Hostname(), system.Domainname())
	return 0, uio.WriteFull(t.Mem(), s.buf[:6*(system.NameMax+1)], a[0])
}

// sysSethostname implements sethostname(2), sysSetdomainname setdomainname(2).
func sysSethostname(t *task.Task, a *platform.Args) (uint64, error) {
	return setName(t, a, system.SetHostname)
}

func sysSetdomainname(t *task.Task, a *platform.Args) (uint64, error) {
	return setName(t, a, system.SetDomainname)
}

func setName(t *task.Task, a *platform.Args, set func(string) error) (uint64, error) {
	if !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	n := i32(a[1])
	if n < 0 || n > system.NameMax {
		return 0, unix.EINVAL
	}
	b := make([]byte, n)
	if n > 0 {
		if err := uio.ReadFull(t.Mem(), b, a[0]); err != nil {
			return 0, err
		}
	}
	for i, c := range b {
		if c == 0 {
			b = b[:i]
			break
		}
	}
	return 0, set(string(b))
}

const sysinfoSize = 112

// encodeSysinfo puts struct sysinfo (linux/sysinfo.h) into b.
func encodeSysinfo(b []byte, uptime int64, loads [3]uint64, m *system.Memory, procs int) {
	clear(b[:sysinfoSize])
	le.PutUint64(b[0:], uint64(uptime))
	for i, l := range loads {
		le.PutUint64(b[8+8*i:], l)
	}
	for i, v := range [...]uint64{m.Total, m.Free, m.Shmem, m.Buffers, m.SwapTotal, m.SwapFree} {
		le.PutUint64(b[32+8*i:], v)
	}
	le.PutUint16(b[80:], uint16(min(procs, 0xffff)))
	le.PutUint32(b[104:], 1) // mem_unit
}

// sysSysinfo implements sysinfo(2). The loads have 16 bits after the binary point.
func sysSysinfo(t *task.Task, a *platform.Args) (uint64, error) {
	threads, _ := t.K.Counts()
	m := system.MemoryNow()
	var loads [3]uint64
	for i, l := range system.LoadAverages() {
		loads[i] = uint64(l * 65536)
	}
	s := getScratch()
	defer s.put()
	encodeSysinfo(s.buf[:], (int64(ktime.Uptime())+999999999)/1e9, loads, &m, threads)
	return 0, uio.WriteFull(t.Mem(), s.buf[:sysinfoSize], a[0])
}

// sysSyslog implements syslog(2).
func sysSyslog(t *task.Task, a *platform.Args) (uint64, error) {
	return chrdev.Syslog(t, int(i32(a[0])), a[1], i32(a[2]))
}

// sysGetrandom implements getrandom(2): the pool is always ready.
func sysGetrandom(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[2])
	if flags&^(unix.GRND_NONBLOCK|unix.GRND_RANDOM|unix.GRND_INSECURE) != 0 ||
		flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return 0, unix.EINVAL
	}
	s := getScratch()
	defer s.put()
	s.dst.Reset(t.Mem(), a[0], min(a[1], maxRW))
	return moved(chrdev.ReadRandom(&s.dst))
}

// sysGetcpu implements getcpu(2). There is one node.
func sysGetcpu(t *task.Task, a *platform.Args) (uint64, error) {
	if a[0] != 0 {
		if err := writeU32(t, a[0], uint32(t.Thread().CPU())); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		return 0, writeU32(t, a[1], 0)
	}
	return 0, nil
}
