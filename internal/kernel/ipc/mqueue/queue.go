package mqueue

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Message is one message.
type Message struct {
	Text []byte
	Prio uint32
}

// Queue is a message queue. It is a vfs.Inode.
type Queue struct {
	vfs.InodeBase
	s               *Super
	name            string // immutable, as are the following
	maxMsg, msgSize int
	user            uint32
	charged         uint64

	q wait.Queue // readiness

	mu        sync.Mutex
	attr      vfs.Attr
	opens     int
	freed     bool
	msgs      []Message // highest priority first, oldest first among equals
	bytes     int
	receivers []*waiter // wait for a message
	senders   []*waiter // wait for room, with their messages
	notify    *notification
}

// waiter is a call that waits. Guarded by Queue.mu.
type waiter struct {
	q    wait.Queue
	msg  Message
	done bool
}

// Target is a process that can be told of a message.
type Target interface {
	SendSignal(info arch.Siginfo) error
}

// Notification says whom and how to tell of a message on an empty queue (mq_notify(3)).
type Notification struct {
	Target Target
	PID    int32
	How    int32 // unix.SIGEV_*
	Signal unix.Signal
	Value  uint64
	// Sink and Cookie are for SIGEV_THREAD: the C library reads the cookie from a netlink socket.
	Sink   *vfs.File
	Cookie [CookieLen]byte
}

// CookieLen is the length of the cookie of SIGEV_THREAD (NOTIFY_COOKIE_LEN); its last byte is set to what happened.
const CookieLen = 32

const (
	notifyWokenUp = 1
	notifyRemoved = 2
)

// How a process is told (sigevent(7)).
const (
	SigevSignal = 0
	SigevNone   = 1
	SigevThread = 2
)

// CookieSink are the FileOps of a netlink socket that can be told of messages.
type CookieSink interface {
	// DeliverCookie puts a datagram into the socket's receive buffer. It does not sleep.
	DeliverCookie(p []byte)
}

type notification struct{ Notification }

// tell delivers the cookie; what is what happened.
func (n *notification) tell(what byte) {
	if n.How != SigevThread {
		return
	}
	n.Cookie[CookieLen-1] = what
	n.Sink.Ops.(CookieSink).DeliverCookie(n.Cookie[:])
	n.Sink.DecRef()
}

// Super implements vfs.Inode, as do the methods that follow.
func (q *Queue) Super() vfs.SuperBlock { return q.s }

// Attr are the attributes of the file.
func (q *Queue) Attr() vfs.Attr { q.mu.Lock(); defer q.mu.Unlock(); return q.attr }

// SetAttr changes mode, owner and times.
func (q *Queue) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	sa.Apply(&q.attr)
	return nil
}

// Open opens the queue through the mounted file system.
func (q *Queue) Open(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	q.hold()
	return &file{q: q}, nil
}

func (q *Queue) hold() { q.mu.Lock(); q.opens++; q.mu.Unlock() }

// drop is called when an open file is gone.
func (q *Queue) drop() {
	q.mu.Lock()
	q.opens--
	gone := q.freeLocked()
	q.mu.Unlock()
	if gone {
		q.s.uncharge(q.user, q.charged)
	}
}

// free gives the user's bytes back once the queue has neither a name nor an open file. Super.mu is held.
func (q *Queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.freeLocked() {
		if q.s.bytes[q.user] -= q.charged; q.s.bytes[q.user] == 0 {
			delete(q.s.bytes, q.user)
		}
	}
}

func (q *Queue) freeLocked() bool {
	if q.opens > 0 || q.attr.Nlink > 0 || q.freed {
		return false
	}
	q.freed, q.msgs, q.bytes = true, nil, 0
	return true
}

// file is an open queue.
type file struct {
	vfs.FileBase
	q *Queue
}

// Of returns the queue of an open file, nil if it is none.
func Of(f *vfs.File) *Queue {
	if o, ok := f.Ops.(*file); ok {
		return o.q
	}
	return nil
}

// Read gives a line of text about the queue.
func (o *file) Read(_ vfs.Caller, f *vfs.File, dst *uio.Dst, off int64) (int, error) {
	q := o.q
	q.mu.Lock()
	var n Notification
	if q.notify != nil {
		n = q.notify.Notification
	}
	signo := 0
	if q.notify != nil && n.How == SigevSignal {
		signo = int(n.Signal)
	}
	s := fmt.Sprintf("QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", q.bytes, n.How, signo, n.PID)
	q.attr.Atime = abi.Timespec(ktime.Now())
	q.mu.Unlock()
	if off < 0 || off >= int64(len(s)) {
		return 0, nil
	}
	return dst.CopyOut([]byte(s)[off:])
}

// Readiness implements wait.Pollable.
func (o *file) Readiness(mask wait.Events) (ev wait.Events) {
	q := o.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.msgs) > 0 {
		ev |= wait.In | wait.RdNorm
	}
	if len(q.msgs) < q.maxMsg {
		ev |= wait.Out | wait.WrNorm
	}
	return ev & mask
}

// WaitQueue implements wait.Pollable.
func (o *file) WaitQueue() *wait.Queue { return &o.q.q }

// Flush ends the notification of a process that closes the queue.
func (o *file) Flush(c vfs.Caller, _ *vfs.File) error {
	o.q.unnotify(c.PID())
	return nil
}

// Release implements vfs.FileOps.
func (o *file) Release(*vfs.File) { o.q.drop() }

// unnotify removes the notification that a process has asked for.
func (q *Queue) unnotify(pid int32) {
	q.mu.Lock()
	n := q.notify
	if n == nil || n.PID != pid {
		q.mu.Unlock()
		return
	}
	q.notify = nil
	q.mu.Unlock()
	n.tell(notifyRemoved)
}

// Notify implements mq_notify(2); nil ends it. The reference to Sink is taken over if there is no error.
func (q *Queue) Notify(c vfs.Caller, n *Notification) error {
	if n == nil {
		q.unnotify(c.PID())
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.notify != nil {
		return unix.EBUSY
	}
	q.notify = &notification{*n}
	q.attr.Atime = abi.Timespec(ktime.Now())
	q.attr.Ctime = q.attr.Atime
	return nil
}

// Sizes is what mq_getattr(3) tells.
func (q *Queue) Sizes() Attr {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Attr{MaxMsg: int64(q.maxMsg), MsgSize: int64(q.msgSize), CurMsgs: int64(len(q.msgs))}
}

// insertLocked adds a message behind those of the same or a higher priority.
func (q *Queue) insertLocked(m Message) {
	i, _ := slices.BinarySearchFunc(q.msgs, m.Prio, func(x Message, p uint32) int {
		if x.Prio >= p {
			return -1
		}
		return 1
	})
	q.msgs = slices.Insert(q.msgs, i, m)
	q.bytes += len(m.Text)
}

// Send implements mq_timedsend(2). deadline is monotonic; the text becomes the queue's.
func (q *Queue) Send(c vfs.Caller, m Message, nonblock bool, deadline int64) error {
	q.mu.Lock()
	if len(q.msgs) >= q.maxMsg {
		if nonblock {
			q.mu.Unlock()
			return unix.EAGAIN
		}
		w := &waiter{msg: m}
		q.senders = append(q.senders, w)
		q.mu.Unlock()
		return q.wait(c, w, &q.senders, deadline)
	}
	now := abi.Timespec(ktime.Now())
	q.attr.Atime, q.attr.Mtime, q.attr.Ctime = now, now, now
	if len(q.receivers) > 0 {
		w := q.receivers[0]
		q.receivers = q.receivers[1:]
		w.msg, w.done = m, true
		q.mu.Unlock()
		w.q.Notify(wait.In)
		return nil
	}
	q.insertLocked(m)
	n := q.arrivedLocked()
	q.mu.Unlock()
	q.q.Notify(wait.In | wait.RdNorm)
	if n != nil {
		if n.How == SigevSignal {
			cr := c.Cred()
			_ = n.Target.SendSignal(arch.InfoQueue(n.Signal, arch.SI_MESGQ, c.PID(), cr.UID, n.Value)) // its queue may be full
		}
		n.tell(notifyWokenUp)
	}
	return nil
}

// arrivedLocked is who is to be told of the message that was just added.
func (q *Queue) arrivedLocked() *notification {
	if len(q.msgs) != 1 {
		return nil
	}
	n := q.notify
	q.notify = nil
	return n
}

// Receive implements mq_timedreceive(2). size is the room that the program has: EMSGSIZE if a message may be larger.
func (q *Queue) Receive(c vfs.Caller, size uint64, nonblock bool, deadline int64) (Message, error) {
	if size < uint64(q.msgSize) {
		return Message{}, unix.EMSGSIZE
	}
	q.mu.Lock()
	if len(q.msgs) == 0 {
		if nonblock {
			q.mu.Unlock()
			return Message{}, unix.EAGAIN
		}
		w := &waiter{}
		q.receivers = append(q.receivers, w)
		q.mu.Unlock()
		err := q.wait(c, w, &q.receivers, deadline)
		return w.msg, err
	}
	m := q.msgs[0]
	q.msgs = slices.Delete(q.msgs, 0, 1)
	q.bytes -= len(m.Text)
	now := abi.Timespec(ktime.Now())
	q.attr.Atime, q.attr.Mtime, q.attr.Ctime = now, now, now
	var w *waiter
	if len(q.senders) > 0 {
		w = q.senders[0]
		q.senders = q.senders[1:]
		q.insertLocked(w.msg)
		w.done = true
	}
	q.mu.Unlock()
	if w != nil {
		w.q.Notify(wait.In)
	} else {
		q.q.Notify(wait.Out | wait.WrNorm)
	}
	return m, nil
}

// wait sleeps until w is done; if it is not, it leaves the line.
func (q *Queue) wait(c vfs.Caller, w *waiter, line *[]*waiter, deadline int64) error {
	err := w.q.Wait(c, wait.In, deadline, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return w.done
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.done {
		return nil
	}
	if i := slices.Index(*line, w); i >= 0 {
		*line = slices.Delete(*line, i, i+1)
	}
	return err
}

// MsgSize is the size of the largest message.
func (q *Queue) MsgSize() int { return q.msgSize }
