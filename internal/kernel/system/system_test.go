package system

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
