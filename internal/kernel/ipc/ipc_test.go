package ipc

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func caller() *vfstest.Caller { return vfstest.New(tmpfs.NewRoot()) }

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, cond func() bool) {
	t.Helper()
	for range 5000 {
		if cond() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it never came true")
}

func TestIDs(t *testing.T) {
	ns, c := NewNamespace(), caller()
	a, err := ns.Msgget(c, 1, Creat|0o600)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ns.Msgget(c, Private, 0o600)
	if a == b || a != 0 || b != 1 {
		t.Errorf("the first identifiers are %d and %d", a, b)
	}
	for _, x := range []struct {
		key   int32
		flags uint32
		err   error
	}{{2, 0, unix.ENOENT}, {1, Creat | Excl, unix.EEXIST}, {1, 0, nil}, {1, 0o600, nil}} {
		if _, err := ns.Msgget(c, x.key, x.flags); err != x.err {
			t.Errorf("msgget(%d, %o) = %v, want %v", x.key, x.flags, err, x.err)
		}
	}
	if _, err := ns.Msgget(c.As(1000, 1000), 1, 0o400); err != unix.EACCES {
		t.Errorf("another user: %v", err)
	}
	if err := ns.MsgRemove(c.As(1000, 1000), a); err != unix.EPERM {
		t.Errorf("removed by another user: %v", err)
	}
	if err := ns.MsgRemove(c, a); err != nil {
		t.Error(err)
	}
	n, _ := ns.Msgget(c, 1, Creat|0o600)
	if n == a || n&(maxIDs-1) != 0 {
		t.Errorf("an index that is used again gives identifier %d after %d", n, a)
	}
	if _, err := ns.MsgStat(c, a, false, false); err != unix.EINVAL {
		t.Errorf("an old identifier: %v", err)
	}
	ns.Limits.MsgMni.Store(2)
	if _, err := ns.Msgget(c, Private, 0); err != unix.ENOSPC {
		t.Errorf("beyond the limit: %v", err)
	}
}

func TestMessageOrder(t *testing.T) {
	ns, c := NewNamespace(), caller()
	id, _ := ns.Msgget(c, Private, 0o600)
	for _, typ := range []int64{5, 3, 7, 3} {
		if err := ns.Msgsnd(c, id, Message{typ, []byte("text")}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		typ   int64
		size  uint64
		flags uint32
		want  int64
		n     int
		err   error
	}{
		{7, 3, 0, 0, 0, unix.E2BIG},
		{7, 3, MsgNoError, 7, 3, nil},
		{-4, 9, 0, 3, 4, nil},
		{5, 9, MsgExcept, 3, 4, nil},
		{1, 9, Nowait, 0, 0, unix.ENOMSG},
		{0, 9, MsgCopy, 0, 0, unix.EINVAL},
		{0, 9, MsgCopy | Nowait, 5, 4, nil},
		{-1 << 63, 9, 0, 5, 4, nil},
		{0, 9, Nowait, 0, 0, unix.ENOMSG},
	} {
		m, err := ns.Msgrcv(c, id, x.size, x.typ, x.flags)
		if err != x.err || m.Type != x.want || len(m.Text) != x.n {
			t.Errorf("msgrcv(%d, %d, %o) = %d, %d bytes, %v", x.size, x.typ, x.flags, m.Type, len(m.Text), err)
		}
	}
}

func TestRemoveWakesReceiver(t *testing.T) {
	ns, c := NewNamespace(), caller()
	id, _ := ns.Msgget(c, Private, 0o600)
	got := make(chan error)
	go func() {
		_, err := ns.Msgrcv(c.Fork(), id, 9, 0, 0)
		got <- err
	}()
	q, _ := ns.msg.byID(id)
	until(t, func() bool { return !q.q.Empty() })
	if err := ns.MsgRemove(c, id); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != unix.EIDRM {
		t.Error(err)
	}
}

func TestSemopIsAtomic(t *testing.T) {
	ns, c := NewNamespace(), caller()
	id, _ := ns.Semget(c, Private, 3, 0o600)
	if err := ns.SemSetValues(c, id, func(int) ([]uint16, error) { return []uint16{1, 2, 3}, nil }); err != nil {
		t.Fatal(err)
	}
	noUndo := func() *Undo { t.Error("undo was asked for"); return NewUndo() }
	op := func(ops ...SemOp) error { return ns.Semop(c, id, ops, ktime.Forever, noUndo) }
	if err := op(SemOp{1, -2, 0}, SemOp{2, -5, Nowait}); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := op(SemOp{1, 1, 0}, SemOp{0, SemVMX, 0}); err != unix.ERANGE {
		t.Error(err)
	}
	if err := op(SemOp{3, 0, 0}); err != unix.EFBIG {
		t.Error(err)
	}
	if v, _ := ns.SemValues(c, id); v[0] != 1 || v[1] != 2 || v[2] != 3 {
		t.Errorf("failed calls left %v", v)
	}
}

func TestSemWaiters(t *testing.T) {
	ns, c := NewNamespace(), caller()
	id, _ := ns.Semget(c, Private, 1, 0o600)
	done := make(chan error, 2)
	wait := func(op int16) {
		go func() { done <- ns.Semop(c.Fork(), id, []SemOp{{0, op, 0}}, ktime.Forever, nil) }()
	}
	count := func(zero bool) int32 { n, _ := ns.SemWaiters(c, id, 0, zero); return n }
	wait(-2)
	until(t, func() bool { return count(false) == 1 })
	if err := ns.SemSetVal(c, id, 0, 1); err != nil {
		t.Fatal(err)
	}
	wait(0)
	until(t, func() bool { return count(true) == 1 })
	// One more lets the first go on, which makes the value zero and so lets the second go on.
	if err := ns.Semop(c, id, []SemOp{{0, 1, 0}}, ktime.Forever, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := ns.Semop(c, id, []SemOp{{0, -1, 0}}, ktime.After(time.Millisecond), nil); err != unix.EAGAIN {
		t.Errorf("a timeout gives %v", err)
	}
	if n := count(false); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

func TestUndo(t *testing.T) {
	ns, c := NewNamespace(), caller()
	id, _ := ns.Semget(c, Private, 2, 0o600)
	u := NewUndo()
	undo := func() *Undo { return u }
	do := func(num uint16, op int16) {
		if err := ns.Semop(c, id, []SemOp{{num, op, SemUndo}}, ktime.Forever, undo); err != nil {
			t.Fatal(err)
		}
	}
	do(0, 5)
	do(0, -1)
	do(1, 3)
	if err := ns.SemSetVal(c, id, 1, 7); err != nil { // forgets what is to be undone
		t.Fatal(err)
	}
	u.Get()
	u.Put(42)
	if v, _ := ns.SemVal(c, id, 0); v != 4 {
		t.Errorf("undone while another still has it: %d", v)
	}
	u.Put(42)
	v, _ := ns.SemValues(c, id)
	if pid, _ := ns.SemPID(c, id, 0); v[0] != 0 || v[1] != 7 || pid != 42 {
		t.Errorf("after the end: %v by %d", v, pid)
	}
	u = NewUndo()
	do(0, 1)
	if err := ns.SemRemove(c, id); err != nil {
		t.Fatal(err)
	}
	if u.Put(42); len(u.entries) != 0 {
		t.Error("a removed set is still to be undone")
	}
}

func TestSegmentLimits(t *testing.T) {
	ns, c := NewNamespace(), caller()
	ns.Limits.ShmAll.Store(3)
	if _, err := ns.Shmget(c, Private, 0, 0o600); err != unix.EINVAL {
		t.Errorf("no size: %v", err)
	}
	if _, err := ns.Shmget(c, Private, 1<<64-1, 0o600); err != unix.EINVAL && err != unix.ENOSPC {
		t.Errorf("all of memory: %v", err)
	}
	id, err := ns.Shmget(c, 9, 2*abi.PageSize, Creat|0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Shmget(c, Private, 2*abi.PageSize, 0o600); err != unix.ENOSPC {
		t.Errorf("more pages than there may be: %v", err)
	}
	if _, err := ns.Shmget(c, 9, 3*abi.PageSize, 0o600); err != unix.EINVAL {
		t.Errorf("more than it has: %v", err)
	}
	s, _ := ns.shm.byID(id)
	s.mapped(1)
	if err := ns.ShmRemove(c, nil, id); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.shm.byID(id); err != nil {
		t.Error("it is gone while it is mapped")
	}
	if _, err := ns.Shmget(c, 9, 1, 0); err != unix.ENOENT {
		t.Errorf("its key is still known: %v", err)
	}
	s.mapped(-1)
	if _, err := ns.shm.byID(id); err != unix.EINVAL || ns.shmPages.n.Load() != 0 {
		t.Errorf("it lives on: %v, %d pages", err, ns.shmPages.n.Load())
	}
}
