package system

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func TestLoad(t *testing.T) {
	var l Load
	for range 12 { // a minute with two active tasks
		l.Sample(2)
	}
	// The values that Linux's fixed-point arithmetic gives.
	if s := fmt.Sprintf("%.2f", l.Averages()); s != "[1.27 0.37 0.13]" {
		t.Errorf("after a minute: %s", s)
	}
	for range 12 * 60 {
		l.Sample(0)
	}
	if a := l.Averages(); a[0] != 0 || a[1] > 0.01 {
		t.Errorf("after an idle hour: %v", a)
	}
	for range 12 * 60 {
		l.Sample(1)
	}
	if a := l.Averages(); a[0] != 1 {
		t.Errorf("after a busy hour: %v", a)
	}
}

func TestNames(t *testing.T) {
	old := Hostname()
	defer SetHostname(old) //nolint:errcheck // it was valid
	if err := SetHostname("box"); err != nil || Hostname() != "box" {
		t.Error(err, Hostname())
	}
	if err := SetHostname(strings.Repeat("x", 65)); err != unix.EINVAL || Hostname() != "box" {
		t.Error(err, Hostname())
	}
}

func TestSyslog(t *testing.T) {
	klog.SetConsoleLevel(0)
	drain := func() string {
		b := make([]byte, 1<<20)
		n, err := ReadSyslog(nil, uio.ToBytes(b), true)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	drain()
	if SyslogReady() || SyslogUnread() != 0 {
		t.Fatal("not empty")
	}
	klog.Write(klog.Info, 0, "first")
	klog.Write(klog.Err, 3, "second")
	want := SyslogUnread()
	got := ""
	for SyslogReady() { // in pieces that do not end where messages do
		b := make([]byte, 7)
		n, err := ReadSyslog(nil, uio.ToBytes(b), true)
		if err != nil {
			t.Fatal(err)
		}
		got += string(b[:n])
	}
	lines := strings.Split(got, "\n")
	if len(got) != want || len(lines) != 3 || !strings.HasPrefix(lines[0], "<6>[") || !strings.HasSuffix(lines[0], "] first") ||
		!strings.HasPrefix(lines[1], "<27>[") || !strings.HasSuffix(lines[1], "] second") {
		t.Errorf("%d bytes %q, want %d", len(got), got, want)
	}
	if _, err := ReadSyslog(nil, uio.ToBytes(make([]byte, 9)), true); err != unix.EAGAIN {
		t.Errorf("empty: %v", err)
	}
	if s := string(SyslogTail(len(lines[1]) + 5)); s != lines[1]+"\n" {
		t.Errorf("tail %q", s)
	}
	if s := SyslogTail(3); len(s) != 0 {
		t.Errorf("tail of 3 bytes: %q", s)
	}
	klog.Clear()
	if s := SyslogTail(1 << 20); len(s) != 0 {
		t.Errorf("after clear: %q", s)
	}
}
