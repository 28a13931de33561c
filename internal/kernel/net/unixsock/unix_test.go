package unixsock

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/anonfs"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func pair(t *testing.T, typ int) (*vfstest.Caller, *Socket, *Socket) {
	t.Helper()
	c := vfstest.NoFS()
	a, b, err := newPair(c, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c, a.(*Socket), b.(*Socket)
}

func send(c vfs.Caller, s *Socket, p string) (int, error) {
	return s.Send(c, &socket.Msg{Flags: unix.MSG_DONTWAIT}, uio.FromBytes([]byte(p)))
}

func recv(c vfs.Caller, s *Socket, n, flags int) (string, *socket.Msg, error) {
	p := make([]byte, n)
	m := &socket.Msg{Flags: flags}
	n, err := s.Recv(c, m, uio.ToBytes(p))
	return string(p[:min(n, len(p))]), m, err
}

func expect(t *testing.T, c vfs.Caller, s *Socket, n, flags int, want string, wantErr error) *socket.Msg {
	t.Helper()
	got, m, err := recv(c, s, n, flags|unix.MSG_DONTWAIT)
	if got != want || err != wantErr {
		t.Fatalf("received %q, %v; want %q, %v", got, err, want, wantErr)
	}
	return m
}

func abstract(name string) []byte { return append([]byte{unix.AF_UNIX, 0, 0}, name...) }

func TestStreamPair(t *testing.T) {
	c, a, b := pair(t, unix.SOCK_STREAM)
	expect(t, c, b, 10, 0, "", unix.EAGAIN)
	send(c, a, "hello ")
	send(c, a, "world")
	if ev := b.Readiness(wait.All); ev != readable|writable {
		t.Fatalf("%x", ev)
	}
	expect(t, c, b, 20, unix.MSG_PEEK, "hello world", nil)
	expect(t, c, b, 7, 0, "hello w", nil)
	a.Shutdown(c, unix.SHUT_WR)
	if ev := b.Readiness(wait.All); ev != readable|writable|wait.RdHup {
		t.Fatalf("%x", ev)
	}
	expect(t, c, b, 20, 0, "orld", nil)
	expect(t, c, b, 20, 0, "", nil)
	if _, err := send(c, a, "x"); err != unix.EPIPE {
		t.Fatal(err)
	}
	if s := c.Signals(); len(s) != 1 {
		t.Fatal(s)
	}
	send(c, b, "unread")
	a.Close()
	if ev := b.Readiness(wait.All); ev&(wait.Hup|wait.Err|wait.RdHup) != wait.Hup|wait.Err|wait.RdHup {
		t.Fatalf("%x", ev)
	}
	expect(t, c, b, 20, 0, "", unix.ECONNRESET)
	expect(t, c, b, 20, 0, "", nil)
}

func TestStreamFlowControl(t *testing.T) {
	c, a, b := pair(t, unix.SOCK_STREAM)
	total := 0
	for {
		n, err := send(c, a, string(make([]byte, 10000)))
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total < socket.DefaultBuf/2 || total > 2*socket.DefaultBuf {
		t.Fatal(total)
	}
	if ev := a.Readiness(wait.All); ev&writable != 0 {
		t.Fatalf("%x", ev)
	}
	for got := 0; got < total; {
		s, _, err := recv(c, b, 1<<20, 0)
		if err != nil {
			t.Fatal(err)
		}
		got += len(s)
	}
	if ev := a.Readiness(wait.All); ev&writable != writable || a.inFlight.Load() != 0 {
		t.Fatalf("%x %d", ev, a.inFlight.Load())
	}
}

func TestDatagrams(t *testing.T) {
	c := vfstest.NoFS()
	newDgram := func() *Socket { s, _ := newSocket(unix.SOCK_DGRAM, 0); return s }
	srv, cl := newDgram(), newDgram()
	if err := srv.Bind(c, abstract("dgram")); err != nil {
		t.Fatal(err)
	}
	if err := newDgram().Bind(c, abstract("dgram")); err != unix.EADDRINUSE {
		t.Fatal(err)
	}
	if _, err := send(c, cl, "x"); err != unix.ENOTCONN {
		t.Fatal(err)
	}
	if err := cl.Connect(c, abstract("dgram"), false); err != nil {
		t.Fatal(err)
	}
	cl.Bind(c, []byte{unix.AF_UNIX, 0})
	for range maxDgramQueue + 1 {
		if _, err := send(c, cl, "message"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := send(c, cl, "message"); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if cl.Readiness(wait.Out) != 0 {
		t.Fatal("writable although the receiver is full")
	}
	got, m, err := recv(c, srv, 4, unix.MSG_TRUNC)
	if got != "mess" || err != nil || m.OutFlags != unix.MSG_TRUNC || len(m.Addr) != 8 {
		t.Fatal(got, err, m)
	}
	if cl.Readiness(wait.Out) == 0 {
		t.Fatal("not writable")
	}
	if _, err := send(c, cl, string(make([]byte, 1<<20))); err != unix.EMSGSIZE {
		t.Fatal(err)
	}
	srv.Close()
	if _, err := send(c, cl, "x"); err != unix.ECONNREFUSED {
		t.Fatal(err)
	}
	if _, err := send(c, cl, "x"); err != unix.ENOTCONN {
		t.Fatal(err)
	}
	cl.Close()
}

func TestListen(t *testing.T) {
	c := vfstest.NoFS()
	l, _ := newSocket(unix.SOCK_STREAM, 0)
	if err := l.Listen(c, 1); err != unix.EINVAL {
		t.Fatal(err)
	}
	if err := l.Bind(c, abstract("listen")); err != nil {
		t.Fatal(err)
	}
	cl, _ := newSocket(unix.SOCK_STREAM, 0)
	if ev := cl.Readiness(wait.All); ev != writable|wait.Hup {
		t.Fatalf("%x", ev)
	}
	if err := cl.Connect(c, abstract("listen"), true); err != unix.ECONNREFUSED {
		t.Fatal(err)
	}
	l.Listen(c, 0)
	if err := cl.Connect(c, abstract("listen"), true); err != nil {
		t.Fatal(err)
	}
	if err := cl.Connect(c, abstract("listen"), true); err != unix.EISCONN && err != unix.EAGAIN {
		t.Fatal(err)
	}
	other, _ := newSocket(unix.SOCK_STREAM, 0)
	if err := other.Connect(c, abstract("listen"), true); err != unix.EAGAIN {
		t.Fatal(err)
	}
	send(c, cl, "early")
	x, err := l.Accept(c, true)
	if err != nil {
		t.Fatal(err)
	}
	srv := x.(*Socket)
	expect(t, c, srv, 10, 0, "early", nil)
	if _, err := l.Accept(c, true); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if n, _ := cl.PeerName(c); !bytes.Equal(n, abstract("listen")) {
		t.Fatalf("%q", n)
	}
	if err := other.Connect(c, abstract("listen"), true); err != nil {
		t.Fatal(err)
	}
	l.Close()
	expect(t, c, other, 10, 0, "", unix.ECONNRESET)
	cl.Close()
	expect(t, c, srv, 10, 0, "", nil)
	if len(names.abstract) != 0 {
		t.Fatal(names.abstract)
	}
}

// fdTable is a table of descriptors for SCM_RIGHTS.
type fdTable []*vfs.File

func (t fdTable) Get(fd int32) (*vfs.File, error) {
	if fd < 0 || int(fd) >= len(t) {
		return nil, unix.EBADF
	}
	return t[fd].IncRef(), nil
}

func rights(fds ...int32) []byte {
	var d []byte
	for _, fd := range fds {
		d = binary.LittleEndian.AppendUint32(d, uint32(fd))
	}
	b, _ := socket.AppendCmsg(nil, 1<<20, unix.SOL_SOCKET, unix.SCM_RIGHTS, d)
	return b
}

func sendRights(t *testing.T, c vfs.Caller, s *Socket, fds fdTable, data string, want error) {
	t.Helper()
	idx := make([]int32, len(fds))
	for i := range idx {
		idx[i] = int32(i)
	}
	_, err := s.Send(c, &socket.Msg{Control: rights(idx...), FDs: fds}, uio.FromBytes([]byte(data)))
	if err != want {
		t.Fatal(err)
	}
}

// afterClose is what a send gives after the peer closed with something unread.
var afterClose = map[int]error{unix.SOCK_STREAM: unix.EPIPE, unix.SOCK_DGRAM: unix.ECONNREFUSED, unix.SOCK_SEQPACKET: unix.ECONNRESET}

func TestRights(t *testing.T) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		c, a, b := pair(t, typ)
		f := anonfs.NewEventFD(c, 7, 0)
		send(c, a, "before")
		sendRights(t, c, a, fdTable{f, f}, "with", nil)
		send(c, a, "after")
		if f.Refs() != 3 {
			t.Fatal(f.Refs())
		}
		if typ == unix.SOCK_STREAM {
			m := expect(t, c, b, 30, 0, "beforewith", nil)
			if len(m.Rights) != 2 {
				t.Fatal(m.Rights)
			}
			m.DropRights()
		} else {
			expect(t, c, b, 30, 0, "before", nil)
			m := expect(t, c, b, 30, unix.MSG_PEEK, "with", nil)
			if len(m.Rights) != 2 || f.Refs() != 5 {
				t.Fatal(m.Rights, f.Refs())
			}
			m.DropRights()
			m = expect(t, c, b, 30, 0, "with", nil)
			m.DropRights()
		}
		expect(t, c, b, 30, 0, "after", nil)
		sendRights(t, c, a, fdTable{f}, "lost", nil)
		b.Close()
		if f.Refs() != 1 || len(perUser) != 0 {
			t.Fatal(f.Refs(), perUser)
		}
		sendRights(t, c, a, fdTable{f}, "lost", afterClose[typ])
		if f.Refs() != 1 {
			t.Fatal(f.Refs())
		}
	}
}

func TestRightsCycle(t *testing.T) {
	c := vfstest.NoFS()
	before := len(sockets.m)
	fa, fb, err := socket.NewPair(c, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	sendRights(t, c, socketOf(fa), fdTable{fa, fb}, "x", nil)
	sendRights(t, c, socketOf(fb), fdTable{fa, fb}, "x", nil)
	outside, other, _ := socket.NewPair(c, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	kept1, kept2, _ := socket.NewPair(c, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	sendRights(t, c, socketOf(outside), fdTable{kept1}, "x", nil)
	sendRights(t, c, socketOf(kept2), fdTable{kept1}, "x", nil) // kept1 in its own queue, but also in one that is alive
	kept1.DecRef()
	fa.DecRef()
	fb.DecRef()
	collect()
	if got := len(sockets.m) - before; got != 4 {
		t.Fatalf("%d sockets alive, want 4", got)
	}
	for _, f := range []*vfs.File{outside, other, kept2} {
		f.DecRef()
	}
	collect()
	if got := len(sockets.m) - before; got != 0 || len(flying) != 0 {
		t.Fatalf("%d sockets alive, %d in flight", got, len(flying))
	}
}

func TestCredentials(t *testing.T) {
	c, a, b := pair(t, unix.SOCK_STREAM)
	if err := b.SetOption(c, unix.SOL_SOCKET, unix.SO_PASSCRED, socket.PutInt32(1)); err != nil {
		t.Fatal(err)
	}
	send(c, a, "one")
	c2 := vfstest.NoFS()
	c2.Pid = 99
	send(c2, a, "two")
	m := expect(t, c, b, 30, 0, "one", nil)
	if len(m.Cmsgs) != 1 || m.Cmsgs[0].Data[0] != byte(c.Pid) {
		t.Fatal(m.Cmsgs)
	}
	m = expect(t, c, b, 30, 0, "two", nil)
	if len(m.Cmsgs) != 1 || m.Cmsgs[0].Data[0] != 99 {
		t.Fatal(m.Cmsgs)
	}
	c.Creds = c.Creds.Copy()
	c.Creds.Effective = 0
	forged, _ := socket.AppendCmsg(nil, 100, unix.SOL_SOCKET, unix.SCM_CREDENTIALS, ucred{5, 0, 0}.encode())
	if _, err := a.Send(c, &socket.Msg{Control: forged}, uio.FromBytes([]byte("x"))); err != unix.EPERM {
		t.Fatal(err)
	}
}

func TestTimestamp(t *testing.T) {
	c, a, b := pair(t, unix.SOCK_DGRAM)
	b.SetOption(c, unix.SOL_SOCKET, unix.SO_TIMESTAMP, socket.PutInt32(1))
	send(c, a, "x")
	m := expect(t, c, b, 9, 0, "x", nil)
	if len(m.Cmsgs) != 1 || m.Cmsgs[0].Type != unix.SCM_TIMESTAMP || binary.LittleEndian.Uint64(m.Cmsgs[0].Data[8:]) >= 1e6 {
		t.Fatal(m.Cmsgs)
	}
	b.SetOption(c, unix.SOL_SOCKET, unix.SO_TIMESTAMP, socket.PutInt32(0))
	send(c, a, "x")
	if m := expect(t, c, b, 9, 0, "x", nil); len(m.Cmsgs) != 0 {
		t.Fatal(m.Cmsgs)
	}
}

func TestInterruptedRecv(t *testing.T) {
	c, _, b := pair(t, unix.SOCK_STREAM)
	c.Interrupt()
	if _, _, err := recv(c, b, 1, 0); err != abi.ERESTARTSYS {
		t.Fatal(err)
	}
	tv := make([]byte, 16)
	tv[8] = 1
	b.SetOption(c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, tv)
	if _, _, err := recv(c, b, 1, 0); err != unix.EAGAIN {
		t.Fatal(err)
	}
}

func TestStreamStress(t *testing.T) {
	_, a, b := pair(t, unix.SOCK_STREAM)
	const total = 4 << 20
	var wg sync.WaitGroup
	wg.Go(func() {
		c, rnd := vfstest.NoFS(), rand.New(rand.NewSource(1))
		for sent := 0; sent < total; {
			p := make([]byte, min(1+rnd.Intn(1<<rnd.Intn(18)), total-sent))
			for i := range p {
				p[i] = byte((sent + i) * 11)
			}
			n, err := a.Send(c, &socket.Msg{}, uio.FromBytes(p))
			if n != len(p) || err != nil {
				t.Error(n, err)
				return
			}
			sent += n
		}
		a.Close()
	})
	c, rnd := vfstest.NoFS(), rand.New(rand.NewSource(2))
	got := 0
	for {
		s, _, err := recv(c, b, 1+rnd.Intn(1<<rnd.Intn(18)), unix.MSG_PEEK)
		if err != nil {
			t.Fatal(err)
		}
		if s == "" {
			break
		}
		for i := range len(s) {
			if s[i] != byte((got+i)*11) {
				t.Fatal("wrong byte", got+i)
			}
		}
		s, _, _ = recv(c, b, len(s), unix.MSG_WAITALL)
		got += len(s)
	}
	wg.Wait()
	if got != total {
		t.Fatal(got)
	}
}

func TestRightsStress(t *testing.T) {
	before := len(sockets.m)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := vfstest.NoFS()
			for range 300 {
				a, b, _ := socket.NewPair(c, unix.AF_UNIX, unix.SOCK_DGRAM, 0)
				socketOf(a).Send(c, &socket.Msg{Control: rights(0, 1), FDs: fdTable{a, b}}, uio.FromBytes([]byte("x")))
				m := &socket.Msg{Flags: unix.MSG_DONTWAIT | unix.MSG_PEEK}
				socketOf(b).Recv(c, m, uio.ToBytes(make([]byte, 4)))
				a.DecRef()
				b.DecRef()
				m.DropRights()
			}
		})
	}
	wg.Wait()
	collect()
	if len(sockets.m) != before || len(flying) != 0 || len(perUser) != 0 {
		t.Fatal(len(sockets.m), before, flying, perUser)
	}
}

func FuzzSendControl(f *testing.F) {
	f.Add(rights(0, 1))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, control []byte) {
		c := vfstest.NoFS()
		a, b, _ := newPair(c, unix.SOCK_DGRAM, 0)
		x := anonfs.NewEventFD(c, 0, 0)
		a.Send(c, &socket.Msg{Control: control, FDs: fdTable{x}}, uio.FromBytes([]byte("x")))
		a.Close()
		b.Close()
		if x.Refs() != 1 {
			t.Fatal(x.Refs())
		}
	})
}

func BenchmarkStream64K(b *testing.B) {
	c := vfstest.NoFS()
	x, y, _ := newPair(c, unix.SOCK_STREAM, 0)
	p := make([]byte, 64<<10)
	src, dst := uio.FromBytes(p), uio.ToBytes(p)
	var m socket.Msg
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		src.ResetBytes(p)
		dst.ResetBytes(p)
		x.Send(c, &m, src)
		y.Recv(c, &m, dst)
	}
}
