package client

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// server answers requests as a function says, and returns what was asked.
func server(t *testing.T, answer func(command string) []wire.Reply) string {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	dir := filepath.Join(os.Getenv("HOME"), ".uml", "box")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "mconsole"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := l.ReadFromUnix(buf)
			if err != nil {
				return
			}
			command, err := wire.DecodeRequest(buf[:n])
			if err != nil || n != wire.RequestSize {
				command = "malformed"
			}
			for _, r := range answer(command) {
				l.WriteToUnix(r.Encode(), from)
			}
		}
	}()
	return dir
}

// do runs one command line of a session.
func do(t *testing.T, s *session, line string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	s.out, s.err = &o, &e
	status, _ = s.run(line)
	return status, o.String(), e.String()
}

func TestCommands(t *testing.T) {
	dir := server(t, func(command string) []wire.Reply {
		switch command {
		case "two":
			return []wire.Reply{{More: true, Text: "one\n"}, {Text: "two"}}
		case "busy":
			return []wire.Reply{{Err: -16, Text: "busy"}}
		case "json exec refused":
			return []wire.Reply{{Text: `{"error":1,"message":"no shell"}`}}
		case "json exec fails":
			return []wire.Reply{{More: true, Text: `{"error":1,"message":"exit status 9",`}, {Text: `"data":{"status":9}}`}}
		case "json exec old":
			return []wire.Reply{{Err: 1, Text: "Unknown command"}}
		case "attach con7":
			return []wire.Reply{{Err: -19, Text: "Device doesn't exist"}}
		}
		return []wire.Reply{{Text: "<" + command + ">"}}
	})
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "lines")
	os.WriteFile(file, []byte("a\n\n"+strings.Repeat("b", 600)+"\nc"), 0o644)
	path, err := find("box")
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	s := &session{guest: guest{"box", path}, in: in}
	for _, v := range []struct {
		line      string
		status    int
		out, errs string
	}{
		{"version", 0, "OK <version>\n", ""},
		{"two", 0, "OK one\ntwo\n", ""},
		{"busy", 0xf0, "ERR busy\n", ""},
		{"help", 0, "OK <help>\n" + localHelp, ""},
		{"mconsole-version", 0, "uml_mconsole client version 2\n", ""},
		{"config ubd0=a,/b", 0, "OK <config ubd0=" + wd + "/a,/b>\n", ""},
		{"config ubd0r=a,b,serial", 0, "OK <config ubd0r=" + wd + "/a," + wd + "/b,serial>\n", ""},
		{"config con0=pts", 0, "OK <config con0=pts>\n", ""},
		{"config ubd0", 0, "OK <config ubd0>\n", ""},
		{"log -f " + file, 0, "OK <log a>\nOK <log " + strings.Repeat("b", 506) + "\nOK <log " + strings.Repeat("b", 93) + ">\nOK <log c>\n", ""},
		{"log -f /nonexistent", 1, "", "opening file: no such file or directory\n"},
		{"log -fine", 0, "OK <log -fine>\n", ""},
		{"exec refused", 125, "", "ERR no shell\n"},
		{"exec fails", 9, "", ""},
		{"exec old", 125, "", "ERR Unknown command\n"},
		{"exec -t sh", 125, "", "ERR exec -t wants a terminal as standard input\n"},
		{"attach con7", 0xed, "", "ERR Device doesn't exist\n"},
		{"int", 1, "", "Cannot determine the PID of your UML session, not sending signal.\n"},
		{"switch nosuch", 1, "", "No such machine: 'nosuch'\n"},
		{strings.Repeat("x", 512), 1, "", "Sending command to '" + path + "' : Request too large\n"},
		{"switch " + dir, 0, "Switched to '" + dir + "'\n", ""},
		{"version", 0, "OK <version>\n", ""},
	} {
		status, out, errs := do(t, s, v.line)
		if status != v.status || out != v.out || errs != v.errs {
			t.Errorf("%.60q: %d %q %q, want %d %q %q", v.line, status, out, errs, v.status, v.out, v.errs)
		}
	}
	if _, err := find("nosuch"); err == nil || strings.Count(err.Error(), "Warning: couldn't stat file: ") != 3 {
		t.Error(err)
	}
}

// TestServerEnds: a server that ends without an answer is noticed.
func TestServerEnds(t *testing.T) {
	server(t, func(string) []wire.Reply {
		os.Remove(filepath.Join(os.Getenv("HOME"), ".uml/box/mconsole"))
		return nil
	})
	path, err := find("box")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{guest: guest{"box", path}, in: os.Stdin}
	if status, _, errs := do(t, s, "version"); status != 1 || !strings.Contains(errs, "no such file") {
		t.Error(status, errs)
	}
}

func TestInteract(t *testing.T) {
	server(t, func(command string) []wire.Reply { return []wire.Reply{{Text: "<" + command + ">"}} })
	path, _ := find("box")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.WriteString("version\n\nquit\nnever\n")
	w.Close()
	var out bytes.Buffer
	s := &session{guest: guest{"box", path}, in: r, out: &out, err: &out}
	if status := s.interact(); status != 0 || out.String() != "(box) OK <version>\n(box) (box) " {
		t.Errorf("%d %q", status, out.String())
	}
	if p := (&guest{}).prompt(); p != "([None]) " {
		t.Error(p)
	}
}

// TestForgedAnswer has another user of the host answer first: the answer of the server counts.
func TestForgedAnswer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	path := filepath.Join(t.TempDir(), "mconsole")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chown(path, 65533, -1); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, from, err := l.ReadFromUnix(make([]byte, 2000))
		if err != nil {
			return
		}
		for _, uid := range []uintptr{65534, 65533} {
			sent := make(chan bool)
			go func() {
				defer close(sent)
				runtime.LockOSThread() // the thread ends with the goroutine
				if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, ^uintptr(0), ^uintptr(0)); e == 0 {
					l.WriteToUnix((&wire.Reply{Text: fmt.Sprint(uid)}).Encode(), from)
				}
			}()
			<-sent
		}
	}()
	text := ""
	if _, err := c.Ask("version", func(s string) { text += s }); err != nil || text != "65533" {
		t.Errorf("answer %q, %v", text, err)
	}
}

// TestForeignServer does not give descriptors to the server of another user.
func TestForeignServer(t *testing.T) {
	c := &Conn{server: &net.UnixAddr{Name: "/nowhere", Net: "unixgram"}, owner: os.Geteuid() + 1}
	if os.Geteuid() == 0 {
		t.Skip("root may")
	}
	if _, err := c.Ask("exec true", func(string) {}, os.Stdin); !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}
