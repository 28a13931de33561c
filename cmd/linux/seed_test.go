package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// debianImage in the environment is an image of Debian (make image): TestSeeds then boots it instead of the built-in root, and logs in.
const debianImage = "TEST_DEBIAN"

// TestSeeds: the console lines of old documents, as they are printed there, start, and whoever sits at the line that is named
// gets a shell. <port> is a free port, <tty> a terminal of the host.
func TestSeeds(t *testing.T) {
	for _, v := range []struct{ words, line string }{
		{"mem=128M con=pty", "con0"},
		{"mem=128M con=pty", "con1"},
		{"mem=64M con=null con0=null,fd:2 con1=fd:0,fd:1 devfs=nomount", "con1"},
		{"con0=null ssl=pty ssl0=tty:<tty> ssl1=tty:/dev/tty1", "ssl0"},
		{"con0=null ssl=pty ssl0=tty:/dev/tty0 ssl1=tty:/dev/tty1", "ssl2"},
		{"con0=null con1=tty:<tty>", "con1"},
		{"con0=null con1=port:<port>", "con1"},
		{"con0=null ssl=port:<port>", "ssl7"},
		{"con0=fd:0,fd:1 con=pts", "con0"},
		{"con0=fd:0,fd:1 con=pts", "con5"},
		{"con=pty con0=fd:0,fd:1", "con0"},
		{"con=pty con0=fd:0,fd:1", "con6"},
		{"con0=null ssl1=tty:<tty>", "ssl1"},
	} {
		t.Run(v.words+" "+v.line, func(t *testing.T) { seed(t, v.words, v.line) })
	}
}

// seed starts a guest and uses a line of it.
func seed(t *testing.T, words, line string) {
	var at io.ReadWriter // the user's end, nil if the line's link tells
	if strings.Contains(words, "<tty>") {
		m, s, err := pty.Open()
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { m.Close(); s.Close() })
		words, at = strings.ReplaceAll(words, "<tty>", s.Name()), m
	}
	if strings.Contains(words, "<port>") {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Skip(err)
		}
		words = strings.ReplaceAll(words, "<port>", fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
		l.Close()
	}
	args := strings.Fields(words)
	image := os.Getenv(debianImage)
	if image != "" {
		dir, err := os.MkdirTemp("", "seed") // t.TempDir has the words in its name, and so commas
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		args = append(args, "ubd0="+filepath.Join(dir, "layer")+","+image)
		if !strings.Contains(words, "mem=") {
			args = append(args, "mem=256M")
		}
	}
	g := newGuest(t, args...)
	if strings.Contains(words, line+"=fd:") {
		in, err := g.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		g.cmd.Stdout = w
		at = struct {
			io.Reader
			io.Writer
		}{r, in}
	}
	g.start()
	// On the first console there is a shell, or everywhere a login; on serial lines there is none yet.
	dev := strings.NewReplacer("con", "tty", "ssl", "ttyS").Replace(line)
	switch {
	case image != "" && strings.HasPrefix(line, "ssl"):
		g.run("setsid /sbin/agetty -L 9600 " + dev + " vt100 </dev/null >/dev/null 2>&1 &")
	case image == "" && line != "con0":
		if err := g.client("exec", fmt.Sprintf("sh -i </dev/%s >/dev/%[1]s 2>&1", dev)).Start(); err != nil {
			t.Fatal(err)
		}
	}
	var u *user
	if at != nil {
		u = newUser(t, at)
	} else if where := g.where(line); strings.HasPrefix(where, "telnet:") {
		u, _ = connect(t, where)
	} else {
		u = openPts(t, where)
	}
	if image != "" {
		if !u.sees("login: ") {
			t.Fatalf("no login; seen: %q", u.text())
		}
		u.types("root", "Password: ")
		u.types("root", "root@")
	}
	u.types("echo $((6*7))", "42\r\n")
	u.types("stty -a", "icrnl")
	g.halt()
}

// run runs a command in the guest.
func (g *testGuest) run(command string) {
	g.t.Helper()
	if out, err := g.client("exec", command).CombinedOutput(); err != nil {
		g.t.Fatal(command, string(out), err)
	}
}

// TestSeedNets: the network options of old documents start, whether or not there is what they name: either there is the
// interface, or a line on standard error says why not. All are in a network namespace, so that no device of the host changes.
func TestSeedNets(t *testing.T) {
	if userland() == nil {
		t.Skip("the built-in root was not built")
	}
	if out, err := exec.Command("unshare", "-Urn", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v %s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"eth0=tuntap,,,192.168.0.100", "eth0=tuntap,tap0,3f:2a:bb:00:00:00,192.168.0.100", "eth0=tuntap,,,", "eth0=tuntap. 192.168.0.100",
		"eth0=daemon,,unix,/var/run/uml-utilities/uml_switch.ctl", "eth0=ethertap,tap0,,192.168.0.1",
		"eth5=tuntap,,fe:fd:0:0:0:5,192.168.0.1", "eth0=tuntap,,fe:fd:0:0:0:1,192.168.0.1", "eth2=mcast,fe:fd:0:0:0:2,239.192.168.1,1102,1",
		"eth5+=mcast", "eth0=mcast", "eth0=tuntap,,,192.168.0.254", "eth0=tuntap,tap0", "eth0=daemon", "eth0=slip,192.168.0.254",
		"eth0=slirp,,/usr/bin/slirp", "eth0=pcap,eth0,tcp", "eth1=pcap,eth0,!tcp",
	} {
		args := append([]string{"-Urn", exe, "quiet", "timeout=60", "exec=ls /sys/class/net"}, strings.Fields(words)...)
		cmd := exec.Command("unshare", args...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		cmd.Env = append(os.Environ(), runLinux+"=1", "HOME="+t.TempDir())
		out, err := cmd.Output()
		dev := words[:len("eth0")]
		there, told := slices.Contains(strings.Fields(string(out)), dev), strings.Contains(stderr.String(), dev)
		if err != nil || there == told {
			t.Errorf("%s: %v, there %v, told %v\n%s%s", words, err, there, told, out, stderr.String())
		}
	}
}
