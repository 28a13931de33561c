package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ipc"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SHMGET:     {Name: "shmget", Fn: sysShmget, Note: "SHM_HUGETLB gives EINVAL"},
		unix.SYS_SHMAT:      {Name: "shmat", Fn: sysShmat, Lane: platform.Trace},
		unix.SYS_SHMDT:      {Name: "shmdt", Fn: sysShmdt, Lane: platform.Trace},
		unix.SYS_SHMCTL:     {Name: "shmctl", Fn: sysShmctl},
		unix.SYS_SEMGET:     {Name: "semget", Fn: sysSemget},
		unix.SYS_SEMOP:      {Name: "semop", Fn: sysSemop},
		unix.SYS_SEMTIMEDOP: {Name: "semtimedop", Fn: sysSemtimedop},
		unix.SYS_SEMCTL:     {Name: "semctl", Fn: sysSemctl},
		unix.SYS_MSGGET:     {Name: "msgget", Fn: sysMsgget},
		unix.SYS_MSGSND:     {Name: "msgsnd", Fn: sysMsgsnd},
		unix.SYS_MSGRCV:     {Name: "msgrcv", Fn: sysMsgrcv},
		unix.SYS_MSGCTL:     {Name: "msgctl", Fn: sysMsgctl},
	})
}

// Commands of the ctl calls (linux/ipc.h, shm.h, sem.h, msg.h).
const (
	ipcRmid = 0
	ipcSet  = 1
	ipcStat = 2
	ipcInfo = 3

	shmLock    = 11
	shmUnlock  = 12
	shmStat    = 13
	shmInfo    = 14
	shmStatAny = 15

	semGetPID  = 11
	semGetVal  = 12
	semGetAll  = 13
	semGetNCnt = 14
	semGetZCnt = 15
	semSetVal  = 16
	semSetAll  = 17
	semStat    = 18
	semInfo    = 19
	semStatAny = 20

	msgStat    = 11
	msgInfo    = 12
	msgStatAny = 13
)

// permSize is the size of struct ipc64_perm, with which the three _ds structures begin.
const permSize = 48

// appendPerm encodes struct ipc64_perm.
func appendPerm(b []byte, p *ipc.Perm) []byte {
	for _, v := range []uint32{uint32(p.Key), p.UID, p.GID, p.CUID, p.CGID, p.Mode, uint32(p.Seq), 0} {
		b = le.AppendUint32(b, v)
	}
	return append(b, make([]byte, 16)...)
}

// appendU64 appends 64-bit fields.
func appendU64(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = le.AppendUint64(b, v)
	}
	return b
}

// pids are two 32-bit fields that follow each other.
func pids(a, b int32) uint64 { return uint64(uint32(a)) | uint64(uint32(b))<<32 }

// readPerm copies in what IPC_SET takes from the permissions of a _ds structure of n bytes, which is returned.
func readPerm(t *task.Task, addr uint64, n int) (b []byte, uid, gid, mode uint32, err error) {
	b = make([]byte, n)
	if err = uio.ReadFull(t.Mem(), b, addr); err != nil {
		return nil, 0, 0, 0, err
	}
	return b, le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[20:]), nil
}

func id(v int32, err error) (uint64, error) { return uint64(uint32(v)), err }

// statID writes a structure and returns what the STAT commands do: 0 by identifier, the identifier by index.
func statID(t *task.Task, b []byte, addr uint64, p *ipc.Perm, byIndex bool) (uint64, error) {
	if err := uio.WriteFull(t.Mem(), b, addr); err != nil {
		return 0, err
	}
	if byIndex {
		return uint64(p.ID()), nil
	}
	return 0, nil
}

// info writes the structure of an INFO command; the result is the highest index in use.
func info(t *task.Task, b []byte, addr uint64, top int32) (uint64, error) {
	return uint64(top), uio.WriteFull(t.Mem(), b, addr)
}

func sysShmget(t *task.Task, a *platform.Args) (uint64, error) {
	return id(ipc.Init.Shmget(t, i32(a[0]), a[1], u32(a[2])))
}

func sysShmat(t *task.Task, a *platform.Args) (uint64, error) {
	if t.MustOffload() {
		return t.Offload()
	}
	return ipc.Init.Shmat(t.Thread(), t, t.MM(), i32(a[0]), a[1], u32(a[2]))
}

func sysShmdt(t *task.Task, a *platform.Args) (uint64, error) {
	if t.MustOffload() {
		return t.Offload()
	}
	return 0, ipc.Init.Shmdt(t.Thread(), t, t.MM(), a[0])
}

func sysShmctl(t *task.Task, a *platform.Args) (uint64, error) {
	ns, host := ipc.Init, t.MM().Host()
	n, cmd, addr := i32(a[0]), i32(a[1]), a[2]
	if n < 0 || cmd < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipcRmid:
		return 0, ns.ShmRemove(t, host, n)
	case ipcSet:
		_, uid, gid, mode, err := readPerm(t, addr, 112)
		if err != nil {
			return 0, err
		}
		return 0, ns.ShmSet(t, n, uid, gid, mode)
	case ipcStat, shmStat, shmStatAny:
		s, err := ns.ShmStat(t, host, n, cmd != ipcStat, cmd == shmStatAny)
		if err != nil {
			return 0, err
		}
		b := appendU64(appendPerm(nil, &s.Perm), s.Size, uint64(s.Atime), uint64(s.Dtime), uint64(s.Ctime), pids(s.CPID, s.LPID),
			s.Attached, 0, 0)
		return statID(t, b, addr, &s.Perm, cmd != ipcStat)
	case ipcInfo:
		l := &ns.Limits
		_, _, _, top := ns.ShmTotals()
		mni := uint64(l.ShmMni.Load())
		return info(t, appendU64(nil, l.ShmMax.Load(), ipc.ShmMin, mni, mni, l.ShmAll.Load(), 0, 0, 0, 0), addr, top)
	case shmInfo:
		used, pages, resident, top := ns.ShmTotals()
		return info(t, appendU64(nil, uint64(used), pages, resident, 0, 0, 0), addr, top)
	case shmLock, shmUnlock:
		return 0, ns.ShmLock(t, n, cmd == shmLock)
	}
	return 0, unix.EINVAL
}

func sysSemget(t *task.Task, a *platform.Args) (uint64, error) {
	return id(ipc.Init.Semget(t, i32(a[0]), i32(a[1]), u32(a[2])))
}

func sysSemop(t *task.Task, a *platform.Args) (uint64, error) { return semop(t, a, ktime.Forever) }

func sysSemtimedop(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := ktime.Forever
	if a[3] != 0 {
		ns, err := readTimespec(t, a[3])
		if err != nil {
			return 0, err
		}
		deadline = after(ns)
	}
	return semop(t, a, deadline)
}

func semop(t *task.Task, a *platform.Args, deadline int64) (uint64, error) {
	n := u32(a[2])
	switch {
	case n < 1 || i32(a[0]) < 0:
		return 0, unix.EINVAL
	case int64(n) > ipc.Init.MaxSemOps():
		return 0, unix.E2BIG
	}
	b := make([]byte, 6*n)
	if err := uio.ReadFull(t.Mem(), b, a[1]); err != nil {
		return 0, err
	}
	ops := make([]ipc.SemOp, n)
	for i := range ops {
		p := b[6*i:]
		ops[i] = ipc.SemOp{Num: le.Uint16(p), Op: int16(le.Uint16(p[2:])), Flags: int16(le.Uint16(p[4:]))}
	}
	return 0, ipc.Init.Semop(t, i32(a[0]), ops, deadline, t.SemUndo)
}

func sysSemctl(t *task.Task, a *platform.Args) (uint64, error) {
	ns := ipc.Init
	n, num, cmd, arg := i32(a[0]), i32(a[1]), i32(a[2]), a[3]
	if n < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipcRmid:
		return 0, ns.SemRemove(t, n)
	case ipcSet:
		_, uid, gid, mode, err := readPerm(t, arg, 104)
		if err != nil {
			return 0, err
		}
		return 0, ns.SemSet(t, n, uid, gid, mode)
	case ipcStat, semStat, semStatAny:
		s, err := ns.SemStat(t, n, cmd != ipcStat, cmd == semStatAny)
		if err != nil {
			return 0, err
		}
		b := appendU64(appendPerm(nil, &s.Perm), uint64(s.Otime), 0, uint64(s.Ctime), 0, s.NSems, 0, 0)
		return statID(t, b, arg, &s.Perm, cmd != ipcStat)
	case ipcInfo, semInfo:
		return semctlInfo(t, ns, cmd, arg)
	case semGetPID:
		return id(ns.SemPID(t, n, num))
	case semGetVal:
		return id(ns.SemVal(t, n, num))
	case semGetNCnt, semGetZCnt:
		return id(ns.SemWaiters(t, n, num, cmd == semGetZCnt))
	case semGetAll:
		vals, err := ns.SemValues(t, n)
		if err != nil {
			return 0, err
		}
		b := make([]byte, 0, 2*len(vals))
		for _, v := range vals {
			b = le.AppendUint16(b, v)
		}
		return 0, uio.WriteFull(t.Mem(), b, arg)
	case semSetVal:
		return 0, ns.SemSetVal(t, n, num, i32(arg))
	case semSetAll:
		return 0, ns.SemSetValues(t, n, func(n int) ([]uint16, error) {
			b := make([]byte, 2*n)
			if err := uio.ReadFull(t.Mem(), b, arg); err != nil {
				return nil, err
			}
			vals := make([]uint16, n)
			for i := range vals {
				vals[i] = le.Uint16(b[2*i:])
			}
			return vals, nil
		})
	}
	return 0, unix.EINVAL
}

// semctlInfo writes struct seminfo.
func semctlInfo(t *task.Task, ns *ipc.Namespace, cmd int32, addr uint64) (uint64, error) {
	l := &ns.Limits
	sets, sems, top := ns.SemTotals()
	mns := uint32(l.SemMns.Load())
	usz, aem := uint32(ipc.SemUsz), uint32(ipc.SemAEM)
	if cmd == semInfo {
		usz, aem = uint32(sets), uint32(sems)
	}
	var b []byte
	for _, v := range []uint32{mns, uint32(l.SemMni.Load()), mns, mns, uint32(l.SemMsl.Load()), uint32(l.SemOpm.Load()),
		uint32(l.SemOpm.Load()), usz, ipc.SemVMX, aem} {
		b = le.AppendUint32(b, v)
	}
	return info(t, b, addr, top)
}

func sysMsgget(t *task.Task, a *platform.Args) (uint64, error) {
	return id(ipc.Init.Msgget(t, i32(a[0]), u32(a[1])))
}

func sysMsgsnd(t *task.Task, a *platform.Args) (uint64, error) {
	size := a[2]
	if size > uint64(ipc.Init.MaxMessage()) || i32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	b := make([]byte, 8+size)
	if err := uio.ReadFull(t.Mem(), b, a[1]); err != nil {
		return 0, err
	}
	m := ipc.Message{Type: int64(le.Uint64(b)), Text: b[8:]}
	return 0, ipc.Init.Msgsnd(t, i32(a[0]), m, u32(a[3]))
}

func sysMsgrcv(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[2]) < 0 || i32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	m, err := ipc.Init.Msgrcv(t, i32(a[0]), a[2], int64(a[3]), u32(a[4]))
	if err != nil {
		return 0, err
	}
	b := append(le.AppendUint64(make([]byte, 0, 8+len(m.Text)), uint64(m.Type)), m.Text...)
	return uint64(len(m.Text)), uio.WriteFull(t.Mem(), b, a[1])
}

func sysMsgctl(t *task.Task, a *platform.Args) (uint64, error) {
	ns := ipc.Init
	n, cmd, addr := i32(a[0]), i32(a[1]), a[2]
	if n < 0 || cmd < 0 {
		return 0, unix.EINVAL
	}
	switch cmd {
	case ipcRmid:
		return 0, ns.MsgRemove(t, n)
	case ipcSet:
		b, uid, gid, mode, err := readPerm(t, addr, 120)
		if err != nil {
			return 0, err
		}
		return 0, ns.MsgSet(t, n, uid, gid, mode, le.Uint64(b[permSize+5*8:]))
	case ipcStat, msgStat, msgStatAny:
		s, err := ns.MsgStat(t, n, cmd != ipcStat, cmd == msgStatAny)
		if err != nil {
			return 0, err
		}
		b := appendU64(appendPerm(nil, &s.Perm), uint64(s.Stime), uint64(s.Rtime), uint64(s.Ctime), s.CBytes, s.QNum, s.QBytes,
			pids(s.LastSendPID, s.LastRvPID), 0, 0)
		return statID(t, b, addr, &s.Perm, cmd != ipcStat)
	case ipcInfo, msgInfo:
		l := &ns.Limits
		queues, msgs, bytes, top := ns.MsgTotals()
		v := [7]uint32{ipc.MsgPool, ipc.MsgMap, uint32(l.MsgMax.Load()), uint32(l.MsgMnb.Load()), uint32(l.MsgMni.Load()), ipc.MsgSsz, ipc.MsgTql}
		if cmd == msgInfo {
			v[0], v[1], v[6] = uint32(queues), uint32(msgs), uint32(bytes)
		}
		var b []byte
		for _, x := range v {
			b = le.AppendUint32(b, x)
		}
		return info(t, le.AppendUint32(b, ipc.MsgSeg), addr, top)
	}
	return 0, unix.EINVAL
}
