package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the busybox.
func TestMain(m *testing.M) {
	if name := os.Getenv("APPLET"); name != "" || applets[filepath.Base(strings.TrimPrefix(os.Args[0], "-"))] != nil {
		if name != "" {
			os.Unsetenv("APPLET")
			os.Args[0] = name
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// bin makes a directory with links to the test binary for all commands.
func bin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range applets {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// script runs a shell script and returns its output and exit status.
func script(t *testing.T, text string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin(t), "sh"), append([]string{"-c", text, "sh"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + filepath.Dir(cmd.Path), "HOME=" + cmd.Dir}
	out, err := cmd.CombinedOutput()
	return string(out), exitStatus(err)
}

func TestScripts(t *testing.T) {
	for _, c := range []struct {
		script, out string
		status      int
	}{
		{`echo a b`, "a b\n", 0},
		{`exit 7`, "", 7},
		{`false`, "", 1},
		{`nosuchcommand`, "sh: nosuchcommand: not found\n", 127},
		{`touch x; ./x`, "sh: ./x: Permission denied\n", 126},
		{`kill -9 $$`, "", 128 + 9},
		{`printf 'b\na\nb\n' | sort -u | tr a-z A-Z`, "A\nB\n", 0},
		{`seq 10 | tail -n 3 | head -1`, "8\n", 0},
		{`seq 3 | wc -l`, "3\n", 0},
		{`printf 'foo\nbar\n' | grep -n 'o\{2\}'`, "1:foo\n", 0},
		{`echo x | grep y`, "", 1},
		{`mkdir -p a/b && echo hi > a/b/f && cp -r a c && cat c/b/f && mv c d && ls -R d`, "hi\nd:\nb\n\nd/b:\nf\n", 0},
		{`mkdir d; rm d`, "rm: d: Is a directory\n", 1},
		{`rm -f nothing; rm nothing`, "rm: nothing: No such file or directory\n", 1},
		{`touch f; chmod u=rw,go=r f; chmod +x f; ls -l f | cut -c1-10; chmod 640 f; stat f | grep -c 0640`, "-rwxr-xr-x\n1\n", 0},
		{`echo abc > f; ln -s f l; readlink l; cat l; ln f h; find . -type f -name '[fh]' | sort`, "f\nabc\n./f\n./h\n", 0},
		{`printf 'a b\nc\n' | xargs -n1 echo =`, "= a\n= b\n= c\n", 0},
		{`find . -maxdepth 1 -name x -o -type d -print`, ".\n", 0},
		{`env -i A=1 $(which env)`, "A=1\n", 0},
		{`dd if=/dev/zero of=z bs=1k count=4 status=none; wc -c < z`, "4096\n", 0},
		{`echo one:two:three | cut -d: -f2-`, "two:three\n", 0},
		{`f() { return 3; }; f || echo $?; x=$(echo y); echo $x $((1+2)) "$@"`, "3\ny 3 p q\n", 0},
		{`test -d / && [ 1 -lt 2 ] && env test a = a && echo ok`, "ok\n", 0},
		{`date -u -d @0 +%Y-%m-%dT%H:%M:%S`, "1970-01-01T00:00:00\n", 0},
		{`printf 'echo from script $1\n' > s; chmod +x s; ./s arg`, "from script arg\n", 0},
		{`ls -Q`, "ls: unknown option -Q\n", 1},
		{`sleep 0 & wait; echo done`, "done\n", 0},
		{`umask 027; umask; touch f; ls -l f | cut -c1-10`, "0027\n-rw-r-----\n", 0},
		{`yes | head -n 2`, "y\ny\n", 0},
	} {
		out, status := script(t, c.script, "p", "q")
		if out != c.out || status != c.status {
			t.Errorf("%s\n got %q, status %d\nwant %q, status %d", c.script, out, status, c.out, c.status)
		}
	}
}

// terminal is a shell on a pseudoterminal.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu  sync.Mutex
	out bytes.Buffer
	at  int // what was expected so far
}

func startTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	dir := bin(t)
	x := &terminal{t: t, master: master}
	x.cmd = &exec.Cmd{Path: filepath.Join(dir, "sh"), Args: []string{"-sh"}, Dir: t.TempDir(), Env: []string{"PATH=" + dir, "PS1=ready> ", "HOME=/"},
		Stdin: slave, Stdout: slave, Stderr: slave, SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true}}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			x.mu.Lock()
			x.out.Write(buf[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		master.Close()
		x.cmd.Process.Kill()
		x.cmd.Wait()
	})
	x.expect("ready> ")
	return x
}

func (x *terminal) send(s string) {
	if _, err := x.master.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until the shell has printed s after what was expected before.
func (x *terminal) expect(s string) {
	x.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		x.mu.Lock()
		all := x.out.String()
		x.mu.Unlock()
		if i := strings.Index(all[x.at:], s); i >= 0 {
			x.at += i + len(s)
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("no %q in %q", s, all[x.at:])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestInteractive(t *testing.T) {
	x := startTerminal(t)
	x.send("echo a$((1+1))b\r")
	x.expect("a2b\r\n")
	x.expect("ready> ")
	x.send("nonsense\x03")
	x.expect("ready> ")
	x.send("for i in 1 2\r")
	x.expect("> ")
	x.send("do echo line$i; done\r")
	x.expect("line1\r\nline2\r\n")
	x.expect("ready> ")
	x.send("echo typ\x7fpo\r") // backspace
	x.expect("typo\r\n")
	x.expect("ready> ")
	x.send("\x1b[A\r") // up
	x.expect("typo\r\n")
	x.expect("ready> ")
	x.send("exit 5\r")
	if err := x.cmd.Wait(); exitStatus(err) != 5 {
		t.Errorf("exit: %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	x := startTerminal(t)
	x.send("sleep 1000; echo not\"\"reached\r")
	x.expect("\r\n")
	x.foreign()
	x.send("\x03")
	x.expect("ready> ")
	x.send("echo status$?\r")
	x.expect("status130\r\n")
	x.expect("ready> ")
	x.send("while true; do true; done\r") // no program runs: the shell itself is interrupted
	x.expect("done\r\n")
	time.Sleep(50 * time.Millisecond)
	x.send("\x03")
	x.expect("ready> ")
	x.send("while true; do sleep 1000; done\r")
	x.expect("done\r\n")
	x.foreign()
	x.send("\x03")
	x.expect("ready> ")
}

// foreign waits until another group than the shell's has the terminal.
func (x *terminal) foreign() {
	x.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if fg, err := unix.IoctlGetInt(int(x.master.Fd()), unix.TIOCGPGRP); err == nil && fg != x.cmd.Process.Pid && fg != 0 {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatal("no program got the terminal")
		}
	}
}

func TestJobControl(t *testing.T) {
	x := startTerminal(t)
	x.send("cat | cat\r")
	x.foreign()
	x.send("one\r")
	x.expect("one\r\none\r\n")
	x.send("\x1a")
	x.expect("[1] Stopped")
	x.expect("ready> ")
	x.send("v=5; echo shell$v\r")
	x.expect("shell5\r\n")
	x.expect("ready> ")
	x.send("jobs\r")
	x.expect("[1] Stopped    cat | cat\r\n")
	x.expect("ready> ")
	x.send("fg\r")
	x.expect("cat | cat\r\n")
	x.foreign()
	x.send("two\r")
	x.expect("two\r\ntwo\r\n")
	x.send("\x04")
	x.expect("ready> ")
	x.send("echo still$v; jobs\r")
	x.expect("still5\r\n")
	x.expect("ready> ")
	x.send("sleep 1000 &\r")
	x.expect("[1]\r\n")
	x.expect("ready> ")
	x.send("kill %1; wait; echo waited\r")
	x.expect("waited\r\n")
	x.expect("Exit 143")
	x.expect("ready> ")
	x.send("sleep 1000\r")
	x.foreign()
	x.send("\x1a")
	x.expect("[1] Stopped")
	x.expect("ready> ")
	x.send("bg\r")
	x.expect("sleep 1000\r\n")
	x.expect("ready> ")
	x.send("jobs\r")
	x.expect("[1] Running")
	x.expect("ready> ")
	x.send("kill -9 %1\r")
	x.expect("ready> ")
}
