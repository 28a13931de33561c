package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ipc/mqueue"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_MQ_OPEN:         {Name: "mq_open", Fn: sysMqOpen},
		unix.SYS_MQ_UNLINK:       {Name: "mq_unlink", Fn: sysMqUnlink},
		unix.SYS_MQ_TIMEDSEND:    {Name: "mq_timedsend", Fn: sysMqTimedsend},
		unix.SYS_MQ_TIMEDRECEIVE: {Name: "mq_timedreceive", Fn: sysMqTimedreceive},
		unix.SYS_MQ_NOTIFY:       {Name: "mq_notify", Fn: sysMqNotify},
		unix.SYS_MQ_GETSETATTR:   {Name: "mq_getsetattr", Fn: sysMqGetsetattr},
	})
}

// mqAttrSize is the size of struct mq_attr: flags, maxmsg, msgsize, curmsgs and four reserved fields.
const mqAttrSize = 64

func sysMqOpen(t *task.Task, a *platform.Args) (uint64, error) {
	name, err := copyPath(t, a[0])
	if err != nil {
		return 0, err
	}
	var attr *mqueue.Attr
	if a[3] != 0 {
		var b [mqAttrSize]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[3]); err != nil {
			return 0, err
		}
		attr = &mqueue.Attr{MaxMsg: int64(le.Uint64(b[8:])), MsgSize: int64(le.Uint64(b[16:]))}
	}
	f, err := mqueue.Open(t, name, u32(a[1]), u32(a[2])&0o7777, attr)
	if err != nil {
		return 0, err
	}
	return install(t, f, true)
}

func sysMqUnlink(t *task.Task, a *platform.Args) (uint64, error) {
	name, err := copyPath(t, a[0])
	if err != nil {
		return 0, err
	}
	return 0, mqueue.Unlink(t, name)
}

// mqFile returns the queue of a descriptor with a reference to its file: EBADF for other files.
func mqFile(t *task.Task, fd uint64) (*vfs.File, *mqueue.Queue, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	q := mqueue.Of(f)
	if q == nil {
		f.DecRef()
		return nil, nil, unix.EBADF
	}
	return f, q, nil
}

// mqDeadline reads the absolute timeout of a call.
func mqDeadline(t *task.Task, addr uint64) (int64, error) {
	if addr == 0 {
		return ktime.Forever, nil
	}
	ns, err := readTimespec(t, addr)
	if err != nil {
		return 0, err
	}
	return task.MonotonicDeadline(unix.CLOCK_REALTIME, ns), nil
}

func sysMqTimedsend(t *task.Task, a *platform.Args) (uint64, error) {
	deadline, err := mqDeadline(t, a[4])
	if err != nil {
		return 0, err
	}
	if u32(a[3]) >= mqueue.PrioMax {
		return 0, unix.EINVAL
	}
	f, q, err := mqFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Writable() {
		return 0, unix.EBADF
	}
	if a[2] > uint64(q.MsgSize()) {
		return 0, unix.EMSGSIZE
	}
	m := mqueue.Message{Text: make([]byte, a[2]), Prio: u32(a[3])}
	if err := uio.ReadFull(t.Mem(), m.Text, a[1]); err != nil {
		return 0, err
	}
	return 0, q.Send(t, m, f.Nonblock(), deadline)
}

func sysMqTimedreceive(t *task.Task, a *platform.Args) (uint64, error) {
	deadline, err := mqDeadline(t, a[4])
	if err != nil {
		return 0, err
	}
	f, q, err := mqFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Readable() {
		return 0, unix.EBADF
	}
	m, err := q.Receive(t, a[2], f.Nonblock(), deadline)
	if err != nil {
		return 0, err
	}
	if a[3] != 0 {
		if err := writeU32(t, a[3], m.Prio); err != nil {
			return 0, err
		}
	}
	return uint64(len(m.Text)), uio.WriteFull(t.Mem(), m.Text, a[1])
}

func sysMqNotify(t *task.Task, a *platform.Args) (uint64, error) {
	var n *mqueue.Notification
	if a[1] != 0 {
		var err error
		if n, err = readNotification(t, a[1]); err != nil {
			return 0, err
		}
	}
	f, q, err := mqFile(t, a[0])
	if err == nil {
		err = q.Notify(t, n)
		f.DecRef()
	}
	if err != nil && n != nil && n.Sink != nil {
		n.Sink.DecRef()
	}
	return 0, err
}

// readNotification reads a struct sigevent. For SIGEV_THREAD the C library gives a netlink socket in the place of the
// signal, and a cookie in that of the value.
func readNotification(t *task.Task, addr uint64) (*mqueue.Notification, error) {
	var b [16]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return nil, err
	}
	n := &mqueue.Notification{Target: t.Group, PID: t.PID(), Value: le.Uint64(b[:]), Signal: unix.Signal(le.Uint32(b[8:])),
		How: int32(le.Uint32(b[12:]))}
	switch n.How {
	case mqueue.SigevNone:
	case mqueue.SigevSignal:
		if n.Signal < 0 || n.Signal > arch.NSIG {
			return nil, unix.EINVAL
		}
	case mqueue.SigevThread:
		if err := uio.ReadFull(t.Mem(), n.Cookie[:], n.Value); err != nil {
			return nil, err
		}
		f, err := t.Files().Get(int32(n.Signal))
		if err != nil {
			return nil, err
		}
		if _, ok := f.Ops.(mqueue.CookieSink); !ok {
			f.DecRef()
			return nil, unix.ENOTSOCK
		}
		n.Sink = f
	default:
		return nil, unix.EINVAL
	}
	return n, nil
}

func sysMqGetsetattr(t *task.Task, a *platform.Args) (uint64, error) {
	var flags uint64
	if a[1] != 0 {
		var b [mqAttrSize]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[1]); err != nil {
			return 0, err
		}
		if flags = le.Uint64(b[:]); flags&^unix.O_NONBLOCK != 0 {
			return 0, unix.EINVAL
		}
	}
	f, q, err := mqFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	old := q.Sizes()
	oldFlags := uint64(f.Flags() & unix.O_NONBLOCK)
	if a[1] != 0 {
		if err := f.SetFlag(unix.O_NONBLOCK, flags != 0); err != nil {
			return 0, err
		}
	}
	if a[2] == 0 {
		return 0, nil
	}
	b := appendU64(make([]byte, 0, mqAttrSize), oldFlags, uint64(old.MaxMsg), uint64(old.MsgSize), uint64(old.CurMsgs), 0, 0, 0, 0)
	return 0, uio.WriteFull(t.Mem(), b, a[2])
}
