package chrdev

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// caller is a process that is interrupted whenever it sleeps; its memory is at address 0x1000.
type caller struct {
	cred *cred.Cred
	mem  [1 << 16]byte
}

func root() *caller { return &caller{cred: cred.Root()} }

func (c *caller) Sleep(int64) error                       { return abi.ERESTARTSYS }
func (c *caller) Wake()                                   {}
func (c *caller) Cred() *cred.Cred                        { return c.cred }
func (c *caller) Mem() uio.Memory                         { return c }
func (c *caller) FS() *vfs.FSContext                      { return nil }
func (c *caller) PID() int32                              { return 1 }
func (c *caller) Rlimit(int) uint64                       { return 0 }
func (c *caller) Signal(unix.Signal)                      {}
func (c *caller) ReadV([]byte, []uio.Range) (int, error)  { return 0, unix.EFAULT }
func (c *caller) WriteV([]byte, []uio.Range) (int, error) { return 0, unix.EFAULT }

func (c *caller) ReadAt(p []byte, a uint64) (int, error) {
	if a < 0x1000 || a-0x1000+uint64(len(p)) > uint64(len(c.mem)) {
		return 0, unix.EFAULT
	}
	return copy(p, c.mem[a-0x1000:]), nil
}

func (c *caller) WriteAt(p []byte, a uint64) (int, error) {
	if a < 0x1000 || a-0x1000+uint64(len(p)) > uint64(len(c.mem)) {
		return 0, unix.EFAULT
	}
	return copy(c.mem[a-0x1000:], p), nil
}

func file(ops vfs.FileOps, flags uint32) *vfs.File { return vfs.NewFile(vfs.Path{}, nil, ops, flags) }

func TestMemoryDevices(t *testing.T) {
	c := root()
	for _, d := range []struct {
		name  string
		ops   vfs.FileOps
		read  int
		write error
	}{{"null", null{}, 0, nil}, {"zero", zero{}, 100, nil}, {"full", full{}, 100, unix.ENOSPC}, {"random", random{}, 100, nil}} {
		b := bytes.Repeat([]byte{0xee}, 100)
		f := file(d.ops, unix.O_RDWR)
		n, err := d.ops.Read(c, f, uio.ToBytes(b), 0)
		if n != d.read || err != nil {
			t.Errorf("%s: read %d, %v", d.name, n, err)
		}
		if zeroes := bytes.Equal(b[:n], make([]byte, n)); zeroes != (d.name != "random") {
			t.Errorf("%s: % x", d.name, b)
		}
		n, err = d.ops.Write(c, f, uio.FromBytes(b), 0)
		if err != d.write || err == nil && n != 100 {
			t.Errorf("%s: write %d, %v", d.name, n, err)
		}
		if off, err := d.ops.(vfs.Seeker).Seek(c, f, 1234, unix.SEEK_END); off != 0 || err != nil {
			t.Errorf("%s: seek %d, %v", d.name, off, err)
		}
	}
	var dst uio.Dst
	dst.Reset(c, 8, 100)
	if _, err := (zero{}).Read(c, nil, &dst, 0); err != unix.EFAULT {
		t.Error("zero to bad memory:", err)
	}
	dst.Reset(c, 8, 100)
	if _, err := (random{}).Read(c, nil, &dst, 0); err != unix.EFAULT {
		t.Error("random to bad memory:", err)
	}
}

func TestRandomIoctls(t *testing.T) {
	c := root()
	if _, err := (random{}).Ioctl(c, nil, rndGetEntCnt, 0x1000); err != nil || c.mem[1] != 1 {
		t.Error(err, c.mem[:4])
	}
	c.cred = &cred.Cred{UID: 1000}
	if _, err := (random{}).Ioctl(c, nil, rndAddEntropy, 0x1000); err != unix.EPERM {
		t.Error(err)
	}
	if _, err := (random{}).Ioctl(c, nil, unix.TCGETS, 0x1000); err != unix.EINVAL {
		t.Error(err)
	}
}

func TestKmsg(t *testing.T) {
	c := root()
	ops, _ := openKmsg(c, nil)
	k := ops.(*kmsg)
	f := file(k, unix.O_RDWR|unix.O_NONBLOCK)
	read := func(n int) (string, error) {
		b := make([]byte, n)
		n, err := k.Read(c, f, uio.ToBytes(b), 0)
		return string(b[:n]), err
	}
	if _, err := k.Seek(c, f, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	if k.Readiness(wait.In) != 0 {
		t.Error("readable at the end")
	}
	if _, err := read(100); err != unix.EAGAIN {
		t.Error(err)
	}
	if _, err := k.Read(c, file(k, unix.O_RDONLY), uio.ToBytes(make([]byte, 10)), 0); err != abi.ERESTARTSYS {
		t.Error(err)
	}
	for _, w := range []struct{ in, prio, text string }{
		{"plain\n", "12", "plain"},
		{"<3>error", "11", "error"},
		{"<30>daemon", "30", "daemon"},
		{"<x>y", "12", "<x>y"},
		{"tab\tback\\slash", "12", `tab\x09back\x5cslash`},
	} {
		if n, err := k.Write(c, f, uio.FromBytes([]byte(w.in)), 0); n != len(w.in) || err != nil {
			t.Error(n, err)
		}
		if k.Readiness(wait.In) != wait.In {
			t.Error("not readable")
		}
		got, err := read(1000)
		head, text, _ := strings.Cut(got, ";")
		prio, rest, _ := strings.Cut(head, ",")
		if err != nil || prio != w.prio || text != w.text+"\n" || !strings.HasSuffix(rest, ",-") {
			t.Errorf("%q: %q %v", w.in, got, err)
		}
	}
	if _, err := k.Write(c, f, uio.FromBytes(make([]byte, 1025)), 0); err != unix.EINVAL {
		t.Error("too long:", err)
	}
	klog.Infof("long enough to be cut")
	if _, err := read(10); err != unix.EINVAL {
		t.Error("short buffer:", err)
	}
	if _, err := k.Seek(c, f, 1, unix.SEEK_SET); err != unix.ESPIPE {
		t.Error(err)
	}
	// A reader that is too slow is told so once.
	for range 10_000 {
		klog.Write(klog.Debug, 0, "flood")
	}
	if ev := k.Readiness(wait.In); ev != wait.In|wait.Err {
		t.Errorf("poll %x", ev)
	}
	if _, err := read(100); err != unix.EPIPE {
		t.Error(err)
	}
	if _, err := read(100); err != nil {
		t.Error(err)
	}
}

func TestSyslog(t *testing.T) {
	c := root()
	call := func(action int, n int32) (string, uint64, error) {
		k, err := Syslog(c, action, 0x1000, n)
		return string(c.mem[:min(k, uint64(len(c.mem)))]), k, err
	}
	if _, _, err := call(SyslogReadClear, 60000); err != nil {
		t.Fatal(err)
	}
	klog.Errf("one")
	klog.Infof("two")
	s, _, err := call(SyslogReadAll, 60000)
	if lines := strings.Split(s, "\n"); err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "<3>[") ||
		!strings.HasSuffix(lines[1], "] two") {
		t.Errorf("%q %v", s, err)
	}
	if s, _, _ := call(SyslogReadAll, int32(len(s)-1)); strings.Contains(s, "one") || !strings.Contains(s, "two") {
		t.Errorf("the newest that fit: %q", s)
	}
	// READ consumes, byte by byte if asked.
	klog.Infof("three")
	_, size, _ := call(SyslogSizeUnread, 0)
	var all string
	for {
		s, n, err := call(SyslogRead, 7)
		if err == abi.ERESTARTSYS {
			break // it would wait
		}
		if err != nil || n == 0 || n > 7 {
			t.Fatal(n, err)
		}
		all += s
	}
	if uint64(len(all)) != size || !strings.HasSuffix(all, "] three\n") {
		t.Errorf("%d bytes, want %d: %q", len(all), size, all[max(0, len(all)-50):])
	}
	for _, x := range []struct {
		action int
		n      int32
		want   error
	}{{99, 0, unix.EINVAL}, {-1, 0, unix.EINVAL}, {SyslogReadAll, -1, unix.EINVAL}, {SyslogConsoleLevel, 0, unix.EINVAL},
		{SyslogConsoleLevel, 9, unix.EINVAL}, {SyslogConsoleLevel, 4, nil}, {SyslogOpen, 0, nil}} {
		if _, _, err := call(x.action, x.n); err != x.want {
			t.Errorf("action %d: %v", x.action, err)
		}
	}
	if klog.ConsoleLevel() != 4 {
		t.Error(klog.ConsoleLevel())
	}
	_, _, _ = call(SyslogConsoleOff, 0)
	_, _, _ = call(SyslogConsoleOff, 0)
	if klog.ConsoleLevel() != 1 {
		t.Error(klog.ConsoleLevel())
	}
	if _, _, _ = call(SyslogConsoleOn, 0); klog.ConsoleLevel() != 4 {
		t.Error(klog.ConsoleLevel())
	}
	klog.SetConsoleLevel(7)
	c.cred = &cred.Cred{UID: 1000}
	if _, _, err := call(SyslogClear, 0); err != unix.EPERM {
		t.Error(err)
	}
	if _, _, err := call(SyslogReadAll, 100); err != nil {
		t.Error("dmesg by a user:", err)
	}
}
