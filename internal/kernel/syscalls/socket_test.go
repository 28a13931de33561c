package syscalls

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// sockaddr is a struct sockaddr_un of a path.
func sockaddr(path string) []byte { return append(append([]byte{unix.AF_UNIX, 0}, path...), 0) }

func (g *guest) u32(at uint64) uint32 { return le.Uint32(g.bytes(at, 4)) }

// put copies bytes to an address of the guest.
func (g *guest) put(at uint64, b []byte) {
	g.Helper()
	if n, err := g.t.Mem().WriteAt(b, at); n != len(b) || err != nil {
		g.Fatal(err)
	}
}

// two makes a call that stores two descriptors.
func (g *guest) two(nr int, at uint64, args ...uint64) (a, b uint64) {
	g.Helper()
	g.ok(nr, args...)
	return uint64(g.u32(at)), uint64(g.u32(at + 4))
}

// recv reads what a descriptor has.
func (g *guest) recv(fd uint64) string {
	g.Helper()
	buf := g.buf(4096)
	return string(g.bytes(buf, int(g.ok(unix.SYS_READ, fd, buf, 4096))))
}

func (g *guest) send(fd uint64, s string) {
	g.Helper()
	g.ok(unix.SYS_WRITE, fd, g.alloc([]byte(s)), uint64(len(s)))
}

func TestUnixPathSocket(t *testing.T) {
	g := newGuest(t)
	sa := sockaddr("/sock")
	at, n := g.alloc(sa), uint64(len(sa))
	l := g.ok(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	c := g.ok(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	g.fails(unix.ENOENT, unix.SYS_CONNECT, c, at, n)
	g.ok(unix.SYS_BIND, l, at, n)
	g.fails(unix.EINVAL, unix.SYS_BIND, l, at, n)
	g.fails(unix.EADDRINUSE, unix.SYS_BIND, c, at, n)
	g.fails(unix.ECONNREFUSED, unix.SYS_CONNECT, c, at, n)
	g.ok(unix.SYS_LISTEN, l, 5)
	g.fails(unix.EAGAIN, unix.SYS_ACCEPT4, l, 0, 0, 0)
	d := g.ok(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	g.fails(unix.EPROTOTYPE, unix.SYS_CONNECT, d, at, n)
	g.ok(unix.SYS_CONNECT, c, at, n)
	lenAt := g.alloc([]byte{100, 0, 0, 0})
	buf := g.buf(128)
	s := g.ok(unix.SYS_ACCEPT, l, buf, lenAt)
	if g.u32(lenAt) != 2 {
		t.Error("unnamed peer has length", g.u32(lenAt))
	}
	g.put(lenAt, []byte{5, 0, 0, 0})
	g.ok(unix.SYS_GETPEERNAME, c, buf, lenAt)
	if got := g.bytes(buf, 6); g.u32(lenAt) != uint32(n) || string(got) != "\x01\x00/so\x00" {
		t.Errorf("peer %q, length %d", got, g.u32(lenAt))
	}
	g.send(c, "request")
	if got := g.recv(s); got != "request" {
		t.Error(got)
	}
	g.ok(unix.SYS_UNLINK, g.str("/sock"))
	g.fails(unix.ENOENT, unix.SYS_CONNECT, d, at, n)
	g.ok(unix.SYS_CLOSE, l)
	g.fails(unix.EAFNOSUPPORT, unix.SYS_SOCKET, unix.AF_APPLETALK, unix.SOCK_STREAM, 0)
	g.fails(unix.ENOTSOCK, unix.SYS_LISTEN, g.ok(unix.SYS_EVENTFD2, 0, 0), 0)
	g.fails(unix.EINVAL, unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|1<<20, 0)
}

func TestSendmsgRights(t *testing.T) {
	g := newGuest(t)
	at := g.buf(8)
	x, y := g.two(unix.SYS_SOCKETPAIR, at, unix.AF_UNIX, unix.SOCK_DGRAM, 0, at)
	r, w := g.two(unix.SYS_PIPE2, at, at, unix.O_NONBLOCK)
	control := words(20, unix.SOL_SOCKET|unix.SCM_RIGHTS<<32, r)
	data := g.alloc([]byte("data"))
	hdr := g.alloc(words(0, 0, g.iov(data, 4), 1, g.alloc(control), 24, 0))
	if n := g.ok(unix.SYS_SENDMSG, x, hdr, 0); n != 4 {
		t.Fatal(n)
	}
	g.ok(unix.SYS_CLOSE, r)
	buf, cbuf := g.buf(64), g.buf(64)
	rhdr := g.alloc(words(0, 0, g.iov(buf, 2), 1, cbuf, 64, 0))
	if n := g.ok(unix.SYS_RECVMSG, y, rhdr, unix.MSG_CMSG_CLOEXEC|unix.MSG_TRUNC); n != 4 {
		t.Fatal(n)
	}
	if fl := g.u32(rhdr + 48); fl != unix.MSG_TRUNC|unix.MSG_CMSG_CLOEXEC || g.u32(rhdr+40) != 24 {
		t.Errorf("flags %#x, control length %d", fl, g.u32(rhdr+40))
	}
	r2 := uint64(g.u32(cbuf + 16))
	g.send(w, "through")
	if got := g.recv(r2); got != "through" {
		t.Error(got)
	}
	if g.ok(unix.SYS_FCNTL, r2, unix.F_GETFD) != unix.FD_CLOEXEC {
		t.Error("not close-on-exec")
	}
	// Too little room for the control message drops the file.
	g.put(hdr, words(0, 0, g.iov(data, 4), 1, g.alloc(words(20, unix.SOL_SOCKET|unix.SCM_RIGHTS<<32, r2)), 24, 0))
	g.ok(unix.SYS_SENDMSG, x, hdr, 0)
	g.put(rhdr, words(0, 0, g.iov(buf, 8), 1, cbuf, 16, 0))
	g.ok(unix.SYS_RECVMSG, y, rhdr, 0)
	if fl := g.u32(rhdr + 48); fl != unix.MSG_CTRUNC {
		t.Errorf("flags %#x", fl)
	}
	g.put(hdr, words(0, 0, 0, 1025, 0, 0, 0))
	g.fails(unix.EMSGSIZE, unix.SYS_SENDMSG, x, hdr, 0)
	g.put(hdr, words(0, 0, 0, 0, 0, 1<<40, 0))
	g.fails(unix.ENOBUFS, unix.SYS_SENDMSG, x, hdr, 0)
}

func TestMmsg(t *testing.T) {
	g := newGuest(t)
	at := g.buf(8)
	x, y := g.two(unix.SYS_SOCKETPAIR, at, unix.AF_UNIX, unix.SOCK_SEQPACKET, 0, at)
	one, two := g.alloc([]byte("one")), g.alloc([]byte("second"))
	vec := g.alloc(append(words(0, 0, g.iov(one, 3), 1, 0, 0, 0, 0), words(0, 0, g.iov(two, 6), 1, 0, 0, 0, 0)...))
	if n := g.ok(unix.SYS_SENDMMSG, x, vec, 2, 0); n != 2 || g.u32(vec+56) != 3 || g.u32(vec+64+56) != 6 {
		t.Fatal(n)
	}
	buf := g.buf(64)
	rvec := g.alloc(bytes.Repeat(words(0, 0, g.iov(buf, 10), 1, 0, 0, 0, 0), 3))
	if n := g.ok(unix.SYS_RECVMMSG, y, rvec, 3, unix.MSG_WAITFORONE, 0); n != 2 || g.u32(rvec+56) != 3 || g.u32(rvec+64+56) != 6 {
		t.Fatal(n)
	}
}
