package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/seccomp"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SECCOMP: {Name: "seccomp", Fn: sysSeccomp, Note: "no user notification"},
	})
}

// Sizes of struct seccomp_notif, seccomp_notif_resp and seccomp_data.
const (
	notifSize     = 80
	notifRespSize = 24
	notifDataSize = 64
)

func sysSeccomp(t *task.Task, a *platform.Args) (uint64, error) {
	flags, arg := u32(a[1]), a[2]
	switch u32(a[0]) {
	case unix.SECCOMP_SET_MODE_STRICT:
		if flags != 0 || arg != 0 {
			return 0, unix.EINVAL
		}
		return 0, t.SetStrict()
	case unix.SECCOMP_SET_MODE_FILTER:
		return setFilter(t, flags, arg)
	case unix.SECCOMP_GET_ACTION_AVAIL:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		action, err := readU32(t, arg)
		if err != nil {
			return 0, err
		}
		if !seccomp.Known(action) {
			return 0, unix.EOPNOTSUPP
		}
		return 0, nil
	case unix.SECCOMP_GET_NOTIF_SIZES:
		if flags != 0 {
			return 0, unix.EINVAL
		}
		b := le.AppendUint16(nil, notifSize)
		b = le.AppendUint16(b, notifRespSize)
		b = le.AppendUint16(b, notifDataSize)
		return 0, uio.WriteFull(t.Mem(), b, arg)
	}
	return 0, unix.EINVAL
}

// setFilter installs the filter of a struct sock_fprog.
func setFilter(t *task.Task, flags uint32, addr uint64) (uint64, error) {
	const known = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	if flags&^known != 0 {
		return 0, unix.EINVAL
	}
	var b [16]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return 0, err
	}
	n, insns := int(le.Uint16(b[:])), le.Uint64(b[8:])
	if n == 0 || n > seccomp.MaxInsns {
		return 0, unix.EINVAL
	}
	if !t.NoNewPrivs() && !t.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EACCES
	}
	raw := make([]byte, 8*n)
	if err := uio.ReadFull(t.Mem(), raw, insns); err != nil {
		return 0, err
	}
	prog := make([]unix.SockFilter, n)
	for i := range prog {
		p := raw[8*i:]
		prog[i] = unix.SockFilter{Code: le.Uint16(p), Jt: p[2], Jf: p[3], K: le.Uint32(p[4:])}
	}
	culprit, err := t.AddFilter(prog, flags&unix.SECCOMP_FILTER_FLAG_LOG != 0, flags&unix.SECCOMP_FILTER_FLAG_TSYNC != 0)
	if err == unix.EBUSY {
		if flags&unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH != 0 {
			return 0, unix.ESRCH
		}
		return uint64(culprit), nil
	}
	return 0, err
}
