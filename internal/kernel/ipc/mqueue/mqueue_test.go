package mqueue

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func open(t *testing.T, c vfs.Caller, flags uint32, a *Attr) (*vfs.File, *Queue) {
	t.Helper()
	f, err := Open(c, t.Name(), flags, 0o600, a)
	if err != nil {
		t.Fatal(err)
	}
	return f, Of(f)
}

func caller() *vfstest.Caller {
	c := vfstest.New(tmpfs.NewRoot())
	c.Limits = map[int]uint64{rlimitMsgqueue: 819200}
	return c
}

func TestOrderAndRoom(t *testing.T) {
	c := caller()
	f, q := open(t, c, unix.O_RDWR|unix.O_CREAT, &Attr{MaxMsg: 3, MsgSize: 4})
	defer f.DecRef()
	defer Unlink(c, t.Name()) //nolint:errcheck // so that the next run finds none
	send := func(s string, p uint32) error { return q.Send(c, Message{[]byte(s), p}, true, ktime.Forever) }
	for _, m := range []struct {
		s string
		p uint32
	}{{"a", 1}, {"b", 9}, {"c", 1}} {
		if err := send(m.s, m.p); err != nil {
			t.Fatal(err)
		}
	}
	if err := send("d", 0); err != unix.EAGAIN {
		t.Errorf("a full queue: %v", err)
	}
	done := make(chan error)
	go func() { done <- q.Send(c.Fork(), Message{[]byte("d"), 5}, false, ktime.Forever) }()
	for waits := false; !waits; time.Sleep(time.Millisecond) {
		q.mu.Lock()
		waits = len(q.senders) > 0
		q.mu.Unlock()
	}
	got := ""
	for range 4 {
		m, err := q.Receive(c, 4, true, ktime.Forever)
		if err != nil {
			t.Fatal(err)
		}
		got += string(m.Text)
	}
	if err := <-done; err != nil || got != "bdac" {
		t.Errorf("received %q, the sender that waited got %v", got, err)
	}
	if _, err := q.Receive(c, 3, true, ktime.Forever); err != unix.EMSGSIZE {
		t.Errorf("too little room: %v", err)
	}
	if _, err := q.Receive(c, 4, false, ktime.After(time.Millisecond)); err != unix.ETIMEDOUT {
		t.Errorf("nothing comes: %v", err)
	}
}

type target struct{ got []arch.Siginfo }

func (x *target) SendSignal(i arch.Siginfo) error { x.got = append(x.got, i); return nil }

func TestNotify(t *testing.T) {
	c := caller()
	f, q := open(t, c, unix.O_RDWR|unix.O_CREAT, &Attr{MaxMsg: 3, MsgSize: 4})
	defer f.DecRef()
	defer Unlink(c, t.Name()) //nolint:errcheck // as above
	var x target
	n := &Notification{Target: &x, PID: c.PID(), How: SigevSignal, Signal: unix.SIGUSR1, Value: 42}
	if err := q.Notify(c, n); err != nil {
		t.Fatal(err)
	}
	if err := q.Notify(c, n); err != unix.EBUSY {
		t.Errorf("asked for twice: %v", err)
	}
	for range 2 {
		if err := q.Send(c, Message{nil, 0}, true, ktime.Forever); err != nil {
			t.Fatal(err)
		}
	}
	if len(x.got) != 1 || x.got[0].Code != arch.SI_MESGQ || x.got[0].Value() != 42 {
		t.Errorf("told of two messages by %+v", x.got)
	}
	if err := q.Notify(c, n); err != nil {
		t.Errorf("after it was told: %v", err)
	}
	if err := f.Ops.(vfs.Flusher).Flush(c, f); err != nil || q.notify != nil {
		t.Error("closing does not end it")
	}
}

func TestNamesAndLimits(t *testing.T) {
	c := caller()
	user := c.As(1000, 1000)
	user.Limits = c.Limits
	for name, want := range map[string]error{"": unix.ENOENT, ".": unix.EACCES, "a/b": unix.EACCES, "none": unix.ENOENT} {
		if _, err := Open(c, name, unix.O_RDWR, 0, nil); err != want {
			t.Errorf("open %q: %v, want %v", name, err, want)
		}
	}
	for _, a := range []Attr{{MaxMsg: 0, MsgSize: 1}, {MaxMsg: 1, MsgSize: -1}, {MaxMsg: 11, MsgSize: 1}, {MaxMsg: 1, MsgSize: 8193}} {
		if _, err := Open(user, t.Name(), unix.O_CREAT, 0o600, &a); err != unix.EINVAL {
			t.Errorf("%+v: %v", a, err)
		}
	}
	f, q := open(t, user, unix.O_CREAT|unix.O_RDWR, nil)
	if a := q.Sizes(); a.MaxMsg != 10 || a.MsgSize != 8192 {
		t.Errorf("the default is %+v", a)
	}
	if _, err := Open(c.As(2000, 2000), t.Name(), unix.O_RDONLY, 0, nil); err != unix.EACCES {
		t.Errorf("another user: %v", err)
	}
	if err := Unlink(c.As(2000, 2000), t.Name()); err != unix.EPERM {
		t.Errorf("unlink by another user: %v", err)
	}
	user.Limits[rlimitMsgqueue] = 100000
	if _, err := Open(user, "other", unix.O_CREAT, 0o600, nil); err != unix.EMFILE {
		t.Errorf("beyond RLIMIT_MSGQUEUE: %v", err)
	}
	if err := Unlink(user, t.Name()); err != nil {
		t.Error(err)
	}
	if n := instance().bytes[user.Cred().UID]; n == 0 {
		t.Error("an open queue does not count after it was unlinked")
	}
	f.DecRef()
	if n := instance().bytes[user.Cred().UID]; n != 0 {
		t.Errorf("%d bytes stay", n)
	}
}
