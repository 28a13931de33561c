package poll

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func write(t *testing.T, c vfs.Caller, f *vfs.File, s string) {
	t.Helper()
	if _, err := f.Ops.Write(c, f, uio.FromBytes([]byte(s)), 0); err != nil {
		t.Fatal(err)
	}
}

func read(c vfs.Caller, f *vfs.File, n int) string {
	p := make([]byte, n)
	n, _ = f.Ops.Read(c, f, uio.ToBytes(p), 0)
	return string(p[:n])
}

func ctl(t *testing.T, ep *vfs.File, op int, f *vfs.File, fd int32, events uint32, want error) {
	t.Helper()
	if err := Of(ep).Ctl(op, f, fd, Event{events, uint64(fd)}); err != want {
		t.Fatalf("ctl: %v, want %v", err, want)
	}
}

func expect(t *testing.T, ep *vfs.File, want ...Event) {
	t.Helper()
	var out [10]Event
	n, err := Of(ep).Wait(vfstest.NoFS(), out[:], 0)
	if err != nil || n != len(want) {
		t.Fatalf("%v events %v, want %v", err, out[:n], want)
	}
	for i := range want {
		if out[i] != want[i] {
			t.Fatalf("events %v, want %v", out[:n], want)
		}
	}
}

func TestEpollModes(t *testing.T) {
	c := vfstest.NoFS()
	ep := NewEPoll(vfstest.NoFS())
	r, w := pipefs.New(c, unix.O_NONBLOCK)
	ctl(t, ep, unix.EPOLL_CTL_MOD, r, 3, unix.EPOLLIN, unix.ENOENT)
	ctl(t, ep, unix.EPOLL_CTL_ADD, r, 3, unix.EPOLLIN, nil)
	ctl(t, ep, unix.EPOLL_CTL_ADD, r, 3, unix.EPOLLIN, unix.EEXIST)
	ctl(t, ep, unix.EPOLL_CTL_ADD, ep, 4, unix.EPOLLIN, unix.EINVAL)
	expect(t, ep)
	write(t, c, w, "ab")
	expect(t, ep, Event{unix.EPOLLIN, 3})
	expect(t, ep, Event{unix.EPOLLIN, 3}) // level-triggered
	read(c, r, 2)
	expect(t, ep)
	ctl(t, ep, unix.EPOLL_CTL_MOD, r, 3, unix.EPOLLIN|unix.EPOLLET, nil)
	write(t, c, w, "ab")
	expect(t, ep, Event{unix.EPOLLIN, 3})
	expect(t, ep)
	write(t, c, w, "c")
	expect(t, ep, Event{unix.EPOLLIN, 3})
	ctl(t, ep, unix.EPOLL_CTL_MOD, r, 3, unix.EPOLLIN|unix.EPOLLONESHOT, nil)
	expect(t, ep, Event{unix.EPOLLIN, 3})
	write(t, c, w, "c")
	expect(t, ep)
	w.DecRef()
	expect(t, ep) // a spent one-shot item does not even see the hangup
	ctl(t, ep, unix.EPOLL_CTL_MOD, r, 3, 0, nil)
	expect(t, ep, Event{unix.EPOLLHUP, 3})
	ctl(t, ep, unix.EPOLL_CTL_DEL, r, 3, 0, nil)
	ctl(t, ep, unix.EPOLL_CTL_DEL, r, 3, 0, unix.ENOENT)
	ctl(t, ep, unix.EPOLL_CTL_ADD, r, 3, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, nil)
	ctl(t, ep, unix.EPOLL_CTL_MOD, r, 3, unix.EPOLLIN, unix.EINVAL)
	ctl(t, ep, unix.EPOLL_CTL_ADD, r, 4, unix.EPOLLIN|unix.EPOLLEXCLUSIVE|unix.EPOLLONESHOT, unix.EINVAL)
}

func TestEpollFairness(t *testing.T) {
	ep := NewEPoll(vfstest.NoFS())
	for i := range int32(4) {
		ctl(t, ep, unix.EPOLL_CTL_ADD, anonfs.NewEventFD(nil, 1, 0), i, unix.EPOLLIN, nil)
	}
	var seen []uint64
	for range 4 {
		var out [2]Event
		n, _ := Of(ep).Wait(vfstest.NoFS(), out[:], 0)
		for _, e := range out[:n] {
			seen = append(seen, e.Data)
		}
	}
	for i, d := range seen {
		if d != uint64(i%4) {
			t.Fatal(seen)
		}
	}
}

func TestEpollFileGone(t *testing.T) {
	ep := NewEPoll(vfstest.NoFS())
	f := anonfs.NewEventFD(nil, 1, 0)
	f.IncRef()
	ctl(t, ep, unix.EPOLL_CTL_ADD, f, 3, unix.EPOLLIN, nil)
	ctl(t, ep, unix.EPOLL_CTL_ADD, f, 4, unix.EPOLLIN, nil)
	f.DecRef()
	expect(t, ep, Event{unix.EPOLLIN, 3}, Event{unix.EPOLLIN, 4})
	f.DecRef()
	expect(t, ep)
	if Of(ep).Len() != 0 {
		t.Fatal("items left")
	}
	f = anonfs.NewEventFD(nil, 1, 0)
	ctl(t, ep, unix.EPOLL_CTL_ADD, f, 3, unix.EPOLLIN, nil)
	before := watches.Load()
	ep.DecRef()
	if watches.Load() != before-1 {
		t.Fatal("item not released")
	}
	f.DecRef()
}

func TestEpollNested(t *testing.T) {
	c := vfstest.NoFS()
	r, w := pipefs.New(c, unix.O_NONBLOCK)
	inner, outer := NewEPoll(vfstest.NoFS()), NewEPoll(vfstest.NoFS())
	ctl(t, inner, unix.EPOLL_CTL_ADD, r, 1, unix.EPOLLIN, nil)
	ctl(t, outer, unix.EPOLL_CTL_ADD, inner, 2, unix.EPOLLIN, nil)
	ctl(t, inner, unix.EPOLL_CTL_ADD, outer, 3, unix.EPOLLIN, unix.ELOOP)
	expect(t, outer)
	write(t, c, w, "x")
	expect(t, outer, Event{unix.EPOLLIN, 2})
	expect(t, inner, Event{unix.EPOLLIN, 1})
	read(c, r, 1)
	expect(t, outer)
	chain := outer
	for i := range int32(3) {
		next := NewEPoll(vfstest.NoFS())
		ctl(t, next, unix.EPOLL_CTL_ADD, chain, i, unix.EPOLLIN, nil)
		chain = next
	}
	next := NewEPoll(vfstest.NoFS())
	ctl(t, next, unix.EPOLL_CTL_ADD, chain, 9, unix.EPOLLIN, unix.ELOOP)
	ctl(t, outer, unix.EPOLL_CTL_DEL, inner, 2, 0, nil)
	ctl(t, next, unix.EPOLL_CTL_ADD, chain, 9, unix.EPOLLIN, nil)
}

func TestEpollWaitWakes(t *testing.T) {
	c := vfstest.NoFS()
	ep := NewEPoll(vfstest.NoFS())
	f := anonfs.NewEventFD(nil, 0, 0)
	ctl(t, ep, unix.EPOLL_CTL_ADD, f, 3, unix.EPOLLIN|unix.EPOLLET, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for Of(ep).q.Empty() {
			runtime.Gosched()
		}
		f.Ops.(*anonfs.EventFD).Add(1)
	})
	var out [4]Event
	if n, err := Of(ep).Wait(c, out[:], ktime.Forever); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	wg.Wait()
	c.Interrupt()
	if n, err := Of(ep).Wait(c, out[:], ktime.Forever); n != 0 || err != unix.EINTR {
		t.Fatal(n, err)
	}
	if n, err := Of(ep).Wait(c, out[:], ktime.Monotonic()+1000); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

// TestEpollStress adds, removes, closes and waits at the same time.
func TestEpollStress(t *testing.T) {
	ep := NewEPoll(vfstest.NoFS())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range int32(3) {
		wg.Go(func() {
			for range 2000 {
				f := anonfs.NewEventFD(nil, 0, 0)
				Of(ep).Ctl(unix.EPOLL_CTL_ADD, f, g, Event{unix.EPOLLIN, 7})
				f.Ops.(*anonfs.EventFD).Add(1)
				Of(ep).Ctl(unix.EPOLL_CTL_MOD, f, g, Event{unix.EPOLLIN | unix.EPOLLET, 7})
				if g == 0 {
					Of(ep).Ctl(unix.EPOLL_CTL_DEL, f, g, Event{})
				}
				f.DecRef()
			}
		})
	}
	var waiter sync.WaitGroup
	waiter.Go(func() {
		var out [4]Event
		for {
			select {
			case <-stop:
				return
			default:
				Of(ep).Wait(vfstest.NoFS(), out[:], 0)
			}
		}
	})
	wg.Wait()
	close(stop)
	waiter.Wait()
	if Of(ep).Len() != 0 || Of(ep).hasReady() {
		t.Fatal("items left")
	}
}

func TestPollWait(t *testing.T) {
	c := vfstest.NoFS()
	r, w := pipefs.New(c, unix.O_NONBLOCK)
	items := []Item{{File: r, Mask: wait.In}, {}, {File: w, Mask: wait.In}}
	if n, err := Wait(c, items, 0); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	c.Interrupt()
	if _, err := Wait(c, items, ktime.Forever); err != abi.ERESTARTSYS {
		t.Fatal(err)
	}
	if n, err := Wait(c, items, ktime.Monotonic()+1000); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.Ops.Write(vfstest.NoFS(), w, uio.FromBytes([]byte("x")), 0) })
	if n, err := Wait(c, items, ktime.Forever); n != 1 || err != nil || items[0].Got != wait.In {
		t.Fatal(n, err, items[0].Got)
	}
	wg.Wait()
	if !r.Ops.WaitQueue().Empty() {
		t.Fatal("entry left in the queue")
	}
}
