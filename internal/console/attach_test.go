package console

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

var _ hotplug.Attacher = lines{}

// TestAttach: who attaches to a line without a channel of its own sees its output, and the end of either side ends it.
func TestAttach(t *testing.T) {
	s := New()
	if _, err := s.Option("con=null"); err != nil {
		t.Fatal(err)
	}
	con := lines{s, &s.con}
	p := newPort(s, consoles, 3, pair{in: channel{kind: chanNull}, out: channel{kind: chanNull}, same: true, text: "null"})
	s.ports["con3"] = p
	defer p.destroy()
	attach := func() (*os.File, hotplug.Attachment, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
		defer theirs.Close()
		at, err := con.Attach("3", theirs)
		return ours, at, err
	}
	if _, _, err := attach(); err == nil {
		t.Error("attached to a closed line")
	}
	if _, err := con.Attach("4", os.Stdin); err != unix.ENODEV {
		t.Error(err)
	}
	y := tty.New("tty3", 4, 3, p)
	if err := p.Open(y); err != nil {
		t.Fatal(err)
	}
	ours, at, err := attach()
	if err != nil {
		t.Fatal(err)
	}
	if n := p.Write([]byte("hello")); n != 5 {
		t.Error(n)
	}
	buf := make([]byte, 100)
	ours.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := ours.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	// One that does not read does not stop the guest.
	for range 1000 {
		if n := p.Write(make([]byte, 4096)); n != 4096 {
			t.Fatal(n)
		}
	}
	ours.Close()
	wait := func(done <-chan struct{}) {
		t.Helper()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it did not end")
		}
	}
	wait(at.Done())
	ours, at, err = attach()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	p.Close()
	wait(at.Done())
	if n, err := ours.Read(buf); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
}
