package syscalls

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	get := func(f func(*cred.Cred) uint32) Handler {
		return func(t *task.Task, _ *platform.Args) (uint64, error) { return uint64(f(t.Cred())), nil }
	}
	register(map[int]Entry{
		unix.SYS_GETUID:    {Name: "getuid", Fn: get(func(c *cred.Cred) uint32 { return c.UID })},
		unix.SYS_GETEUID:   {Name: "geteuid", Fn: get(func(c *cred.Cred) uint32 { return c.EUID })},
		unix.SYS_GETGID:    {Name: "getgid", Fn: get(func(c *cred.Cred) uint32 { return c.GID })},
		unix.SYS_GETEGID:   {Name: "getegid", Fn: get(func(c *cred.Cred) uint32 { return c.EGID })},
		unix.SYS_GETRESUID: {Name: "getresuid", Fn: sysGetresuid},
		unix.SYS_GETRESGID: {Name: "getresgid", Fn: sysGetresgid},
		unix.SYS_SETUID:    {Name: "setuid", Fn: sysSetuid},
		unix.SYS_SETGID:    {Name: "setgid", Fn: sysSetgid},
		unix.SYS_SETREUID:  {Name: "setreuid", Fn: sysSetreuid},
		unix.SYS_SETREGID:  {Name: "setregid", Fn: sysSetregid},
		unix.SYS_SETRESUID: {Name: "setresuid", Fn: sysSetresuid},
		unix.SYS_SETRESGID: {Name: "setresgid", Fn: sysSetresgid},
		unix.SYS_SETFSUID:  {Name: "setfsuid", Fn: sysSetfsuid},
		unix.SYS_SETFSGID:  {Name: "setfsgid", Fn: sysSetfsgid},
		unix.SYS_GETGROUPS: {Name: "getgroups", Fn: sysGetgroups},
		unix.SYS_SETGROUPS: {Name: "setgroups", Fn: sysSetgroups},
		unix.SYS_CAPGET:    {Name: "capget", Fn: sysCapget},
		unix.SYS_CAPSET:    {Name: "capset", Fn: sysCapset},
	})
}

// none is the id argument that changes nothing; as a new id it is invalid.
const none = ^uint32(0)

func write3(t *task.Task, a *platform.Args, v ...uint32) (uint64, error) {
	for i, x := range v {
		if err := writeU32(t, a[i], x); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func sysGetresuid(t *task.Task, a *platform.Args) (uint64, error) {
	c := t.Cred()
	return write3(t, a, c.UID, c.EUID, c.SUID)
}

func sysGetresgid(t *task.Task, a *platform.Args) (uint64, error) {
	c := t.Cred()
	return write3(t, a, c.GID, c.EGID, c.SGID)
}

// setUIDs installs new user ids with what that does to capabilities and dumpability.
func setUIDs(t *task.Task, n *cred.Cred) (uint64, error) {
	old := t.Cred()
	cred.FixCaps(old, n)
	t.InstallCred(n)
	return 0, nil
}

func sysSetuid(t *task.Task, a *platform.Args) (uint64, error) {
	old, id := t.Cred(), u32(a[0])
	if id == none {
		return 0, unix.EINVAL
	}
	n := old.Copy()
	switch {
	case old.Capable(unix.CAP_SETUID):
		n.UID, n.SUID = id, id
	case id != old.UID && id != old.SUID:
		return 0, unix.EPERM
	}
	n.EUID, n.FSUID = id, id
	return setUIDs(t, n)
}

func sysSetgid(t *task.Task, a *platform.Args) (uint64, error) {
	old, id := t.Cred(), u32(a[0])
	if id == none {
		return 0, unix.EINVAL
	}
	n := old.Copy()
	switch {
	case old.Capable(unix.CAP_SETGID):
		n.GID, n.SGID = id, id
	case id != old.GID && id != old.SGID:
		return 0, unix.EPERM
	}
	n.EGID, n.FSGID = id, id
	t.InstallCred(n)
	return 0, nil
}

func sysSetreuid(t *task.Task, a *platform.Args) (uint64, error) {
	old, r, e := t.Cred(), u32(a[0]), u32(a[1])
	priv := old.Capable(unix.CAP_SETUID)
	n := old.Copy()
	if r != none {
		if r != old.UID && r != old.EUID && !priv {
			return 0, unix.EPERM
		}
		n.UID = r
	}
	if e != none {
		if e != old.UID && e != old.EUID && e != old.SUID && !priv {
			return 0, unix.EPERM
		}
		n.EUID = e
	}
	if r != none || e != none && e != old.UID {
		n.SUID = n.EUID
	}
	n.FSUID = n.EUID
	return setUIDs(t, n)
}

func sysSetregid(t *task.Task, a *platform.Args) (uint64, error) {
	old, r, e := t.Cred(), u32(a[0]), u32(a[1])
	priv := old.Capable(unix.CAP_SETGID)
	n := old.Copy()
	if r != none {
		if r != old.GID && r != old.EGID && !priv {
			return 0, unix.EPERM
		}
		n.GID = r
	}
	if e != none {
		if e != old.GID && e != old.EGID && e != old.SGID && !priv {
			return 0, unix.EPERM
		}
		n.EGID = e
	}
	if r != none || e != none && e != old.GID {
		n.SGID = n.EGID
	}
	n.FSGID = n.EGID
	t.InstallCred(n)
	return 0, nil
}

func sysSetresuid(t *task.Task, a *platform.Args) (uint64, error) {
	old := t.Cred()
	n := old.Copy()
	for i, p := range []*uint32{&n.UID, &n.EUID, &n.SUID} {
		id := u32(a[i])
		if id == none {
			continue
		}
		if id != old.UID && id != old.EUID && id != old.SUID && !old.Capable(unix.CAP_SETUID) {
			return 0, unix.EPERM
		}
		*p = id
	}
	n.FSUID = n.EUID
	return setUIDs(t, n)
}

func sysSetresgid(t *task.Task, a *platform.Args) (uint64, error) {
	old := t.Cred()
	n := old.Copy()
	for i, p := range []*uint32{&n.GID, &n.EGID, &n.SGID} {
		id := u32(a[i])
		if id == none {
			continue
		}
		if id != old.GID && id != old.EGID && id != old.SGID && !old.Capable(unix.CAP_SETGID) {
			return 0, unix.EPERM
		}
		*p = id
	}
	n.FSGID = n.EGID
	t.InstallCred(n)
	return 0, nil
}

func sysSetfsuid(t *task.Task, a *platform.Args) (uint64, error) {
	old, id := t.Cred(), u32(a[0])
	if id != none && (id == old.UID || id == old.EUID || id == old.SUID || id == old.FSUID || old.Capable(unix.CAP_SETUID)) {
		n := old.Copy()
		n.FSUID = id
		cred.FixFSCaps(old, n)
		t.InstallCred(n)
	}
	return uint64(old.FSUID), nil
}

func sysSetfsgid(t *task.Task, a *platform.Args) (uint64, error) {
	old, id := t.Cred(), u32(a[0])
	if id != none && (id == old.GID || id == old.EGID || id == old.SGID || id == old.FSGID || old.Capable(unix.CAP_SETGID)) {
		n := old.Copy()
		n.FSGID = id
		t.InstallCred(n)
	}
	return uint64(old.FSGID), nil
}

// ngroupsMax is /proc/sys/kernel/ngroups_max.
const ngroupsMax = 65536

func sysGetgroups(t *task.Task, a *platform.Args) (uint64, error) {
	g, size := t.Cred().Groups, i32(a[0])
	if size < 0 {
		return 0, unix.EINVAL
	}
	if size == 0 {
		return uint64(len(g)), nil
	}
	if int(size) < len(g) {
		return 0, unix.EINVAL
	}
	b := make([]byte, 0, 4*len(g))
	for _, x := range g {
		b = le.AppendUint32(b, x)
	}
	return uint64(len(g)), uio.WriteFull(t.Mem(), b, a[1])
}

func sysSetgroups(t *task.Task, a *platform.Args) (uint64, error) {
	n := i32(a[0])
	old := t.Cred()
	if !old.Capable(unix.CAP_SETGID) {
		return 0, unix.EPERM
	}
	if n < 0 || n > ngroupsMax {
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*n)
	if err := uio.ReadFull(t.Mem(), b, a[1]); n > 0 && err != nil {
		return 0, err
	}
	c := old.Copy()
	c.Groups = make([]uint32, n)
	for i := range c.Groups {
		c.Groups[i] = le.Uint32(b[4*i:])
	}
	slices.Sort(c.Groups)
	t.InstallCred(c)
	return 0, nil
}

// Versions of struct __user_cap_header_struct.
const (
	capV1 = 0x19980330
	capV2 = 0x20071026
	capV3 = 0x20080522
)

// capHeader reads the header of capget and capset: the number of words of each set, and the thread.
func capHeader(t *task.Task, addr uint64) (words int, pid int32, err error) {
	var b [8]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return 0, 0, err
	}
	pid = int32(le.Uint32(b[4:]))
	switch le.Uint32(b[:]) {
	case capV1:
		return 1, pid, nil
	case capV2, capV3:
		return 2, pid, nil
	}
	// An unknown version is answered with the one that the kernel prefers.
	if err := writeU32(t, addr, capV3); err != nil {
		return 0, 0, err
	}
	return 0, pid, unix.EINVAL
}

func sysCapget(t *task.Task, a *platform.Args) (uint64, error) {
	words, pid, err := capHeader(t, a[0])
	if err != nil {
		if a[1] == 0 && err == unix.EINVAL {
			return 0, nil
		}
		return 0, err
	}
	x := t
	if pid < 0 {
		return 0, unix.EINVAL
	}
	if pid != 0 {
		if x = t.K.FindTask(pid); x == nil {
			return 0, unix.ESRCH
		}
	}
	c := x.Cred()
	var b []byte
	for i := range words {
		for _, s := range []cred.CapSet{c.Effective, c.Permitted, c.Inheritable} {
			b = le.AppendUint32(b, uint32(s>>(32*i)))
		}
	}
	if a[1] == 0 {
		return 0, nil
	}
	return 0, uio.WriteFull(t.Mem(), b, a[1])
}

func sysCapset(t *task.Task, a *platform.Args) (uint64, error) {
	words, pid, err := capHeader(t, a[0])
	if err != nil {
		return 0, err
	}
	if pid != 0 && pid != t.TID() {
		return 0, unix.EPERM
	}
	b := make([]byte, 12*words)
	if err := uio.ReadFull(t.Mem(), b, a[1]); err != nil {
		return 0, err
	}
	var e, p, i cred.CapSet
	for w := range words {
		e |= cred.CapSet(le.Uint32(b[12*w:])) << (32 * w)
		p |= cred.CapSet(le.Uint32(b[12*w+4:])) << (32 * w)
		i |= cred.CapSet(le.Uint32(b[12*w+8:])) << (32 * w)
	}
	old := t.Cred()
	e, p, i = e&cred.AllCaps, p&cred.AllCaps, i&cred.AllCaps
	switch {
	case p&^old.Permitted != 0, e&^p != 0,
		i&^(old.Inheritable|old.Permitted) != 0 && !old.Capable(unix.CAP_SETPCAP),
		i&^(old.Inheritable|old.Bounding) != 0:
		return 0, unix.EPERM
	}
	n := old.Copy()
	n.Effective, n.Permitted, n.Inheritable = e, p, i
	n.Ambient &= p & i
	t.InstallCred(n)
	return 0, nil
}
