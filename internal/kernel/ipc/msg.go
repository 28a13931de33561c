package ipc

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Flags of msgrcv(2).
const (
	MsgNoError = 0o10000
	MsgExcept  = 0o20000
	MsgCopy    = 0o40000
)

// Message is one message of a queue.
type Message struct {
	Type int64
	Text []byte
}

// cost is about how much memory a message in a queue takes.
func (m *Message) cost() int { return 64 + len(m.Text) }

// Queue is a message queue of System V.
type Queue struct {
	header
	msgs         []Message
	cbytes       int
	qbytes       int
	lspid, lrpid int32
	stime, rtime int64

	q wait.Queue // In: a message came; Out: there is room; both: removed
}

// MsgStat is what msgctl(2) IPC_STAT tells.
type MsgStat struct {
	Perm                   Perm
	Stime, Rtime, Ctime    int64
	CBytes, QNum, QBytes   uint64
	LastSendPID, LastRvPID int32
}

// Msgget implements msgget(2).
func (ns *Namespace) Msgget(c vfs.Caller, key int32, flags uint32) (int32, error) {
	return ns.msg.get(c.Cred(), key, flags, int(ns.Limits.MsgMni.Load()), func(*Queue) error { return nil },
		func() (*Queue, error) { return &Queue{qbytes: int(ns.Limits.MsgMnb.Load())}, nil })
}

// fits reports whether a message of n bytes may be added. mu is held.
func (q *Queue) fits(n int) bool { return q.cbytes+n <= q.qbytes && len(q.msgs)+1 <= q.qbytes }

// MaxMessage is the size of the largest message (MSGMAX).
func (ns *Namespace) MaxMessage() int64 { return ns.Limits.MsgMax.Load() }

// Msgsnd implements msgsnd(2). The message becomes the queue's.
func (ns *Namespace) Msgsnd(c vfs.Caller, id int32, m Message, flags uint32) error {
	if m.Type < 1 || int64(len(m.Text)) > ns.Limits.MsgMax.Load() {
		return unix.EINVAL
	}
	q, err := ns.msg.byID(id)
	if err != nil {
		return err
	}
	for {
		q.mu.Lock()
		if q.removed {
			q.mu.Unlock()
			return unix.EIDRM
		}
		if err := q.perm.check(c.Cred(), wantWrite); err != nil {
			q.mu.Unlock()
			return err
		}
		if q.fits(len(m.Text)) {
			if !kmem.Take(m.cost()) {
				q.mu.Unlock()
				return unix.ENOMEM
			}
			break
		}
		q.mu.Unlock()
		if flags&Nowait != 0 {
			return unix.EAGAIN
		}
		err := q.q.Wait(c, wait.Out, ktime.Forever, func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.removed || q.fits(len(m.Text))
		})
		if err != nil {
			return abi.ERESTARTNOHAND
		}
	}
	q.msgs = append(q.msgs, m)
	q.cbytes += len(m.Text)
	q.lspid, q.stime = c.PID(), now()
	q.mu.Unlock()
	q.q.Notify(wait.In)
	return nil
}

// find is the index of the message that msgrcv(2) with a type and flags takes, -1 if there is none. mu is held.
func (q *Queue) find(typ int64, flags uint32) int {
	switch {
	case flags&MsgCopy != 0:
		if typ >= 0 && typ < int64(len(q.msgs)) {
			return int(typ)
		}
		return -1
	case typ == 0:
		return min(len(q.msgs), 1) - 1
	case typ > 0:
		for i := range q.msgs {
			if (q.msgs[i].Type == typ) != (flags&MsgExcept != 0) {
				return i
			}
		}
		return -1
	}
	bound, best := -typ, -1
	if bound < 0 { // the lowest number has no opposite
		bound = 1<<63 - 1
	}
	for i := range q.msgs {
		if q.msgs[i].Type <= bound && (best < 0 || q.msgs[i].Type < q.msgs[best].Type) {
			best = i
		}
	}
	return best
}

// Msgrcv implements msgrcv(2): size is the room for the text.
func (ns *Namespace) Msgrcv(c vfs.Caller, id int32, size uint64, typ int64, flags uint32) (Message, error) {
	if flags&MsgCopy != 0 && (flags&MsgExcept != 0 || flags&Nowait == 0) {
		return Message{}, unix.EINVAL
	}
	q, err := ns.msg.byID(id)
	if err != nil {
		return Message{}, err
	}
	for {
		q.mu.Lock()
		if q.removed {
			q.mu.Unlock()
			return Message{}, unix.EIDRM
		}
		if err := q.perm.check(c.Cred(), wantRead); err != nil {
			q.mu.Unlock()
			return Message{}, err
		}
		if i := q.find(typ, flags); i >= 0 {
			m, err := q.takeLocked(c, i, size, flags)
			q.mu.Unlock()
			if err == nil && flags&MsgCopy == 0 {
				q.q.Notify(wait.Out)
			}
			return m, err
		}
		q.mu.Unlock()
		if flags&Nowait != 0 {
			return Message{}, unix.ENOMSG
		}
		err := q.q.Wait(c, wait.In, ktime.Forever, func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.removed || q.find(typ, flags) >= 0
		})
		if err != nil {
			return Message{}, abi.ERESTARTNOHAND
		}
	}
}

func (q *Queue) takeLocked(c vfs.Caller, i int, size uint64, flags uint32) (Message, error) {
	m := q.msgs[i]
	if uint64(len(m.Text)) > size && flags&MsgNoError == 0 {
		return Message{}, unix.E2BIG
	}
	if flags&MsgCopy == 0 {
		copy(q.msgs[i:], q.msgs[i+1:])
		q.msgs[len(q.msgs)-1] = Message{}
		q.msgs = q.msgs[:len(q.msgs)-1]
		q.cbytes -= len(m.Text)
		kmem.Add(-m.cost())
		q.lrpid, q.rtime = c.PID(), now()
	}
	m.Text = m.Text[:min(uint64(len(m.Text)), size)]
	return m, nil
}

// MsgStat is IPC_STAT; with byIndex it is MSG_STAT, and any leaves out the permission check (MSG_STAT_ANY).
func (ns *Namespace) MsgStat(c vfs.Caller, id int32, byIndex, any bool) (s MsgStat, err error) {
	q, err := pick(&ns.msg, id, byIndex)
	if err != nil {
		return s, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !any {
		if err := q.perm.check(c.Cred(), wantRead); err != nil {
			return s, err
		}
	}
	return q.statLocked(), nil
}

func (q *Queue) statLocked() MsgStat {
	return MsgStat{Perm: q.perm, Stime: q.stime, Rtime: q.rtime, Ctime: q.ctime, CBytes: uint64(q.cbytes),
		QNum: uint64(len(q.msgs)), QBytes: uint64(q.qbytes), LastSendPID: q.lspid, LastRvPID: q.lrpid}
}

// pick finds an object by identifier or index.
func pick[T object](t *table[T], id int32, byIndex bool) (T, error) {
	if byIndex {
		return t.byIndex(id)
	}
	return t.byID(id)
}

// MsgSet is IPC_SET.
func (ns *Namespace) MsgSet(c vfs.Caller, id int32, uid, gid, mode uint32, qbytes uint64) error {
	q, err := ns.msg.byID(id)
	if err != nil {
		return err
	}
	q.mu.Lock()
	err = q.perm.checkOwner(c.Cred())
	switch {
	case err != nil:
	case qbytes > uint64(ns.Limits.MsgMnb.Load()) && !c.Cred().Capable(unix.CAP_SYS_RESOURCE):
		err = unix.EPERM
	case qbytes > 1<<31-1:
		err = unix.EINVAL
	default:
		if err = q.perm.set(uid, gid, mode); err == nil {
			q.qbytes, q.ctime = int(qbytes), now()
		}
	}
	q.mu.Unlock()
	q.q.Notify(wait.In | wait.Out)
	return err
}

// MsgRemove is IPC_RMID.
func (ns *Namespace) MsgRemove(c vfs.Caller, id int32) error {
	q, err := ns.msg.byID(id)
	if err != nil {
		return err
	}
	if err := ns.msg.remove(c, q); err != nil {
		return err
	}
	q.mu.Lock()
	for i := range q.msgs {
		kmem.Add(-q.msgs[i].cost())
	}
	q.msgs, q.cbytes = nil, 0
	q.mu.Unlock()
	q.q.Notify(wait.In | wait.Out)
	return nil
}

// remove takes an object out of the table, if c may.
func (t *table[T]) remove(c vfs.Caller, x T) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := x.head()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removed {
		return unix.EIDRM
	}
	if err := h.perm.checkOwner(c.Cred()); err != nil {
		return err
	}
	t.removeLocked(x)
	return nil
}

// MsgTotals are the numbers of queues, messages and bytes, and the highest index (MSG_INFO).
func (ns *Namespace) MsgTotals() (queues, msgs, bytes int, top int32) {
	for _, q := range ns.msg.all() {
		q.mu.Lock()
		queues, msgs, bytes = queues+1, msgs+len(q.msgs), bytes+q.cbytes
		q.mu.Unlock()
	}
	return queues, msgs, bytes, ns.msg.maxIndex()
}
