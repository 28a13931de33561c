package watchdog

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
)

var _ chrdev.Dog = (*Dog)(nil)

// TestMain lets the test binary be the helper, as the program is.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == Name {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestGuard(t *testing.T) {
	r, w := io.Pipe()
	done := make(chan bool)
	go func() { done <- guard(r, time.Hour) }()
	for range 3 {
		w.Write([]byte{0})
	}
	w.Close()
	if !<-done {
		t.Error("it did not see the end")
	}
	r, w = io.Pipe()
	defer w.Close()
	go func() { done <- guard(r, 10*time.Millisecond) }()
	if <-done {
		t.Error("it did not miss the pings")
	}
}

func TestEnd(t *testing.T) {
	// The shell does not mind being interrupted.
	cmd := exec.Command("sh", "-c", "trap : INT; echo ready; while :; do sleep 0.01; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	out.Read(make([]byte, 10))
	end(cmd.Process.Pid, 20*time.Millisecond)
	var ee *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ee) || ee.String() != "signal: killed" {
		t.Error(err)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"-pid"}, {"-pid", "x"}, {"-pid", "1"}, {"-pid", "-5"}, {"-x", "1"}, {"-pid", "2", "3"}} {
		if Main(args) != 1 {
			t.Error(args)
		}
	}
}

// TestDog drives our helper, and the one of uml-utilities.
func TestDog(t *testing.T) {
	for name, path := range map[string]string{"ours": "", "theirs": "/usr/bin/uml_watchdog"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(path); path != "" && err != nil {
				t.Skip(err)
			}
			t.Setenv("UML_WATCHDOG", path)
			for _, notify := range []string{"", "/tmp/nobody-listens"} {
				d := New(notify)
				if d.Ping() == nil {
					t.Error("pinged before it was started")
				}
				for range 2 {
					if err := d.Start(); err != nil {
						t.Fatal(err)
					}
					if err := d.Ping(); err != nil {
						t.Error(err)
					}
				}
				d.Hold(true)
				d.Hold(false)
				d.Stop()
				if d.Ping() == nil {
					t.Error("pinged after it was stopped")
				}
			}
		})
	}
	t.Setenv("UML_WATCHDOG", "/bin/true")
	if err := New("").Start(); err == nil {
		t.Error("a helper that ends at once")
	}
	t.Setenv("UML_WATCHDOG", "/nonexistent")
	if err := New("").Start(); err == nil {
		t.Error("no helper")
	}
}
