package syscalls

import (
	"testing"

	"golang.org/x/sys/unix"
)

// pollfd is a struct pollfd.
func pollfd(fd uint64, events, revents uint16) uint64 {
	return fd&0xffffffff | uint64(events)<<32 | uint64(revents)<<48
}

func TestPollSelect(t *testing.T) {
	g := newGuest(t)
	at := g.buf(8)
	r, w := g.two(unix.SYS_PIPE2, at, at, 0)
	minus1 := uint64(0xffffffff)
	fds := g.alloc(words(pollfd(r, unix.POLLIN, 9), pollfd(w, unix.POLLOUT, 9), pollfd(minus1, 1, 9), pollfd(99, 1, 9)))
	if n := g.ok(unix.SYS_POLL, fds, 4, minus1); n != 2 {
		t.Error(n)
	}
	want := words(pollfd(r, unix.POLLIN, 0), pollfd(w, unix.POLLOUT, unix.POLLOUT), pollfd(minus1, 1, 0), pollfd(99, 1, unix.POLLNVAL))
	if got := g.bytes(fds, 32); string(got) != string(want) {
		t.Errorf("%x", got)
	}
	g.fails(unix.EINVAL, unix.SYS_POLL, fds, 1<<30, 0)
	g.fails(unix.EFAULT, unix.SYS_POLL, 8, 1, 0)
	if n := g.ok(unix.SYS_PPOLL, fds, 1, g.alloc(words(0, 1000)), g.alloc(words(0)), 8); n != 0 {
		t.Error(n)
	}
	g.fails(unix.EINVAL, unix.SYS_PPOLL, fds, 1, g.alloc(words(0, 1e9)), 0, 0)
	g.fails(unix.EINVAL, unix.SYS_PPOLL, fds, 1, 0, g.alloc(words(0)), 7)

	in, out := g.alloc(words(1<<r|1<<w)), g.alloc(words(1<<r|1<<w))
	if n := g.ok(unix.SYS_SELECT, w+1, in, out, 0, g.alloc(words(0, 0))); n != 1 {
		t.Error(n)
	}
	if a, b := g.bytes(in, 8), g.bytes(out, 8); le.Uint64(a) != 0 || le.Uint64(b) != 1<<w {
		t.Errorf("%x %x", a, b)
	}
	g.put(in, words(1<<60))
	g.fails(unix.EBADF, unix.SYS_SELECT, 64, in, 0, 0, 0)
	g.fails(unix.EINVAL, unix.SYS_SELECT, minus1, 0, 0, 0, 0)
	g.send(w, "x")
	g.put(in, words(1<<r))
	if n := g.ok(unix.SYS_PSELECT6, w+1, in, 0, 0, 0, g.alloc(words(g.alloc(words(0)), 8))); n != 1 {
		t.Error(n)
	}
}

func TestEpollCalls(t *testing.T) {
	g := newGuest(t)
	ep := g.ok(unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC)
	g.fails(unix.EINVAL, unix.SYS_EPOLL_CREATE1, 1)
	g.fails(unix.EINVAL, unix.SYS_EPOLL_CREATE, 0)
	ev := g.alloc(append([]byte{unix.EPOLLIN, 0, 0, 0}, words(0x1122334455667788)...))
	fd := g.ok(unix.SYS_EVENTFD2, 0, unix.EFD_NONBLOCK)
	g.ok(unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, fd, ev)
	g.fails(unix.EEXIST, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, fd, ev)
	g.fails(unix.EINVAL, unix.SYS_EPOLL_CTL, fd, unix.EPOLL_CTL_ADD, ep, ev)
	file := g.ok(unix.SYS_OPEN, g.str("/f"), unix.O_RDWR|unix.O_CREAT, 0o600)
	g.fails(unix.EPERM, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, file, ev)
	g.fails(unix.EFAULT, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, fd, 8)
	out := g.buf(64)
	if n := g.ok(unix.SYS_EPOLL_WAIT, ep, out, 5, 0); n != 0 {
		t.Error(n)
	}
	g.ok(unix.SYS_WRITE, fd, g.alloc(words(3)), 8)
	if n := g.ok(unix.SYS_EPOLL_PWAIT2, ep, out, 5, g.alloc(words(10, 0)), 0, 0); n != 1 || g.u32(out+4) != 0x55667788 {
		t.Error(n)
	}
	g.fails(unix.EINVAL, unix.SYS_EPOLL_WAIT, ep, out, 0, 0)
	g.ok(unix.SYS_CLOSE, fd)
	if n := g.ok(unix.SYS_EPOLL_PWAIT, ep, out, 5, 0, g.alloc(words(0)), 8); n != 0 {
		t.Error(n)
	}
}

func TestTimerfdSignalfd(t *testing.T) {
	g := newGuest(t)
	fd := g.ok(unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
	buf := g.buf(256)
	g.fails(unix.EAGAIN, unix.SYS_READ, fd, buf, 8)
	g.fails(unix.EINVAL, unix.SYS_READ, fd, buf, 7)
	g.ok(unix.SYS_TIMERFD_SETTIME, fd, unix.TFD_TIMER_ABSTIME, g.alloc(words(3600, 0, 0, 1)), 0)
	if n := g.ok(unix.SYS_READ, fd, buf, 8); n != 8 || g.u32(buf) == 0 {
		t.Error(n, g.u32(buf))
	}
	g.ok(unix.SYS_TIMERFD_GETTIME, fd, buf)
	if g.u32(buf) != 3600 {
		t.Error("interval", g.u32(buf))
	}
	g.fails(unix.EINVAL, unix.SYS_TIMERFD_CREATE, 77, 0)

	mask := g.alloc(words(1 << (unix.SIGUSR1 - 1)))
	g.ok(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, mask, 0, 8)
	sfd := g.ok(unix.SYS_SIGNALFD4, 0xffffffff, mask, 8, unix.SFD_NONBLOCK)
	g.fails(unix.EAGAIN, unix.SYS_READ, sfd, buf, 256)
	g.ok(unix.SYS_KILL, g.ok(unix.SYS_GETPID), uint64(unix.SIGUSR1))
	fds := g.alloc(words(pollfd(sfd, unix.POLLIN, 0)))
	if n := g.ok(unix.SYS_POLL, fds, 1, 0); n != 1 {
		t.Error("signalfd is not readable")
	}
	if n := g.ok(unix.SYS_READ, sfd, buf, 256); n != 128 || g.u32(buf) != uint32(unix.SIGUSR1) {
		t.Error(n, g.u32(buf))
	}
	g.fails(unix.EAGAIN, unix.SYS_READ, sfd, buf, 256)
}

func TestInotify(t *testing.T) {
	g := newGuest(t)
	g.ok(unix.SYS_MKDIR, g.str("/d"), 0o755)
	fd := g.ok(unix.SYS_INOTIFY_INIT1, unix.IN_NONBLOCK)
	wd := g.ok(unix.SYS_INOTIFY_ADD_WATCH, fd, g.str("/d"), unix.IN_ALL_EVENTS)
	g.fails(unix.EEXIST, unix.SYS_INOTIFY_ADD_WATCH, fd, g.str("/d"), unix.IN_OPEN|unix.IN_MASK_CREATE)
	f := g.ok(unix.SYS_OPEN, g.str("/d/file"), unix.O_RDWR|unix.O_CREAT, 0o600)
	g.fails(unix.ENOTDIR, unix.SYS_INOTIFY_ADD_WATCH, fd, g.str("/d/file"), unix.IN_OPEN|unix.IN_ONLYDIR)
	g.send(f, "a")
	g.send(f, "b")
	g.ok(unix.SYS_CLOSE, f)
	g.ok(unix.SYS_RENAME, g.str("/d/file"), g.str("/d/new"))
	g.ok(unix.SYS_UNLINK, g.str("/d/new"))
	g.ok(unix.SYS_RMDIR, g.str("/d"))
	var masks []uint32
	for b := []byte(g.recv(fd)); len(b) > 0; {
		n := le.Uint32(b[12:])
		if uint64(le.Uint32(b)) != wd {
			t.Error("wd", le.Uint32(b))
		}
		masks = append(masks, le.Uint32(b[4:]))
		b = b[16+n:]
	}
	want := []uint32{unix.IN_CREATE, unix.IN_OPEN, unix.IN_MODIFY, unix.IN_CLOSE_WRITE, unix.IN_MOVED_FROM, unix.IN_MOVED_TO,
		unix.IN_DELETE, unix.IN_DELETE_SELF, unix.IN_IGNORED}
	if len(masks) != len(want) {
		t.Fatalf("%x, want %x", masks, want)
	}
	for i := range want {
		if masks[i]&^unix.IN_ISDIR != want[i] {
			t.Fatalf("%x, want %x", masks, want)
		}
	}
	g.fails(unix.EINVAL, unix.SYS_INOTIFY_RM_WATCH, fd, wd)
	g.fails(unix.EAGAIN, unix.SYS_READ, fd, g.buf(100), 100)
}

func TestSplice(t *testing.T) {
	g := newGuest(t)
	at := g.buf(8)
	r, w := g.two(unix.SYS_PIPE2, at, at, unix.O_NONBLOCK)
	r2, w2 := g.two(unix.SYS_PIPE2, at, at, unix.O_NONBLOCK)
	in := g.ok(unix.SYS_OPEN, g.str("/in"), unix.O_RDWR|unix.O_CREAT, 0o600)
	out := g.ok(unix.SYS_OPEN, g.str("/out"), unix.O_RDWR|unix.O_CREAT, 0o600)
	g.send(in, "0123456789")
	off := g.alloc(words(2))
	if n := g.ok(unix.SYS_SPLICE, in, off, w, 0, 100, 0); n != 8 || g.u32(off) != 10 {
		t.Error(n)
	}
	if n := g.ok(unix.SYS_TEE, r, w2, 3, 0); n != 3 {
		t.Error(n)
	}
	if n := g.ok(unix.SYS_SPLICE, r, 0, out, 0, 100, 0); n != 8 {
		t.Error(n)
	}
	g.fails(unix.EAGAIN, unix.SYS_SPLICE, r, 0, out, 0, 100, 0)
	g.fails(unix.EINVAL, unix.SYS_SPLICE, in, 0, out, 0, 100, 0)
	g.fails(unix.ESPIPE, unix.SYS_SPLICE, r, off, out, 0, 100, 0)
	if got := g.recv(r2); got != "234" {
		t.Error(got)
	}
	if got := g.text("/out"); got != "23456789" {
		t.Error(got)
	}
	g.put(off, words(8))
	if n := g.ok(unix.SYS_SENDFILE, w, in, off, 100); n != 2 || g.recv(r) != "89" {
		t.Error(n)
	}
	if n := g.ok(unix.SYS_VMSPLICE, w, g.iov(g.alloc([]byte("vm")), 2), 1, 0); n != 2 || g.recv(r) != "vm" {
		t.Error(n)
	}
	g.put(off, words(0))
	if n := g.ok(unix.SYS_COPY_FILE_RANGE, in, off, out, 0, 4, 0); n != 4 || g.text("/out") != "234567890123" {
		t.Error(n, g.text("/out"))
	}
	x, y := g.two(unix.SYS_SOCKETPAIR, at, unix.AF_UNIX, unix.SOCK_STREAM, 0, at)
	g.send(x, "socket")
	if n := g.ok(unix.SYS_SPLICE, y, 0, w, 0, 100, 0); n != 6 || g.recv(r) != "socket" {
		t.Error(n)
	}
	g.send(w, "pipe")
	if n := g.ok(unix.SYS_SPLICE, r, 0, x, 0, 100, 0); n != 4 || g.recv(y) != "pipe" {
		t.Error(n)
	}
}

func TestPipeReopen(t *testing.T) {
	g := newGuest(t)
	at := g.buf(8)
	g.ok(unix.SYS_MKNOD, g.str("/fifo"), unix.S_IFIFO|0o600, 0)
	g.fails(unix.ENXIO, unix.SYS_OPEN, g.str("/fifo"), unix.O_WRONLY|unix.O_NONBLOCK)
	r := g.ok(unix.SYS_OPEN, g.str("/fifo"), unix.O_RDONLY|unix.O_NONBLOCK)
	w := g.ok(unix.SYS_OPEN, g.str("/fifo"), unix.O_WRONLY)
	g.send(w, "named")
	if got := g.recv(r); got != "named" {
		t.Error(got)
	}
	g.fails(unix.EFAULT, unix.SYS_PIPE2, 8, 0)
	g.fails(unix.EINVAL, unix.SYS_PIPE2, at, unix.O_APPEND)
}
