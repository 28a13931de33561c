package syscalls

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/poll"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_EPOLL_CREATE:  {Name: "epoll_create", Fn: sysEpollCreate},
		unix.SYS_EPOLL_CREATE1: {Name: "epoll_create1", Fn: sysEpollCreate1},
		unix.SYS_EPOLL_CTL:     {Name: "epoll_ctl", Fn: sysEpollCtl},
		unix.SYS_EPOLL_WAIT:    {Name: "epoll_wait", Fn: sysEpollWait},
		unix.SYS_EPOLL_PWAIT:   {Name: "epoll_pwait", Fn: sysEpollPwait},
		unix.SYS_EPOLL_PWAIT2:  {Name: "epoll_pwait2", Fn: sysEpollPwait2},
	})
}

// epollEventSize is the size of struct epoll_event, which is packed on x86-64.
const epollEventSize = 12

// sysEpollCreate implements epoll_create(2).
func sysEpollCreate(t *task.Task, a *platform.Args) (uint64, error) {
	if i32(a[0]) <= 0 {
		return 0, unix.EINVAL
	}
	return install(t, poll.NewEPoll(t), false)
}

// sysEpollCreate1 implements epoll_create1(2).
func sysEpollCreate1(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[0])
	if flags&^unix.EPOLL_CLOEXEC != 0 {
		return 0, unix.EINVAL
	}
	return install(t, poll.NewEPoll(t), flags&unix.EPOLL_CLOEXEC != 0)
}

// sysEpollCtl implements epoll_ctl(2).
func sysEpollCtl(t *task.Task, a *platform.Args) (uint64, error) {
	var ev poll.Event
	op := int(i32(a[1]))
	if op != unix.EPOLL_CTL_DEL {
		var b [epollEventSize]byte
		if err := uio.ReadFull(t.Mem(), b[:], a[3]); err != nil {
			return 0, err
		}
		ev = poll.Event{Events: le.Uint32(b[:]), Data: le.Uint64(b[4:])}
	}
	epf, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer epf.DecRef()
	f, err := openFile(t, a[2])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if f.Ops.WaitQueue() == nil {
		return 0, unix.EPERM
	}
	ep := poll.Of(epf)
	if ep == nil || epf == f {
		return 0, unix.EINVAL
	}
	return 0, ep.Ctl(op, f, i32(a[2]), ev)
}

// sysEpollWait implements epoll_wait(2).
func sysEpollWait(t *task.Task, a *platform.Args) (uint64, error) {
	return epollWait(t, a, millis(i32(a[3])))
}

// sysEpollPwait implements epoll_pwait(2).
func sysEpollPwait(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := millis(i32(a[3]))
	return withSigmask(t, a[4], a[5], func() (uint64, error) { return epollWait(t, a, deadline) })
}

// sysEpollPwait2 implements epoll_pwait2(2).
func sysEpollPwait2(t *task.Task, a *platform.Args) (uint64, error) {
	deadline := ktime.Forever
	if a[3] != 0 {
		ns, err := readTimespec(t, a[3])
		if err != nil {
			return 0, err
		}
		deadline = deadlineIn(ns)
	}
	return withSigmask(t, a[4], a[5], func() (uint64, error) { return epollWait(t, a, deadline) })
}

func epollWait(t *task.Task, a *platform.Args, deadline int64) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n := i32(a[2])
	if n <= 0 || n > math.MaxInt32/epollEventSize {
		return 0, unix.EINVAL
	}
	ep := poll.Of(f)
	if ep == nil {
		return 0, unix.EINVAL
	}
	var few [16]poll.Event
	out := few[:min(int(n), len(few))]
	if int(n) > len(few) {
		// More than there are files now are not needed; a later call gives those that are added while it waits.
		if k := min(int(n), ep.Len()); k > len(few) {
			out = make([]poll.Event, k)
		}
	}
	got, err := ep.Wait(t, out, deadline)
	if got == 0 {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	b := s.buf[:0]
	for _, e := range out[:got] {
		b = le.AppendUint64(le.AppendUint32(b, e.Events), e.Data)
	}
	return uint64(got), uio.WriteFull(t.Mem(), b, a[1])
}
