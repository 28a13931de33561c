package guesttest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// set is the compiled programs with what the host says they print.
type set struct {
	dir    string // of the compiled programs
	list   []program
	want   map[string]string
	initrd string
}

// host says who a program runs as on the host; skip says why it cannot.
func (p program) host() (user, skip string) {
	privileged := os.Geteuid() == 0
	switch {
	case p.expect != "":
		return "", "has its output written down"
	case p.user == "root" && !privileged:
		return "", "needs root on the host"
	case p.user == "nobody" && privileged:
		return fmt.Sprint(nobody), ""
	}
	return "self", ""
}

// native compiles the programs once and runs them on the host.
var native = sync.OnceValues(func() (*set, error) {
	c, err := programs("c/*.c")
	if err != nil {
		return nil, err
	}
	g, err := programs("go/*/main.go")
	if err != nil {
		return nil, err
	}
	s := &set{dir: filepath.Join(work, "t"), list: append(c, g...)}
	if len(s.list) == 0 {
		return nil, fmt.Errorf("no programs in %s", testdata)
	}
	dir := s.dir
	if err := compile(dir, s.list); err != nil {
		return nil, err
	}
	if err := build(filepath.Join(dir, "runner"), root, "./testdata/guest/runner"); err != nil {
		return nil, err
	}
	var inGuest strings.Builder
	for _, p := range s.list {
		user := "self"
		if p.user == "nobody" {
			user = fmt.Sprint(nobody)
		}
		fmt.Fprintf(&inGuest, "%s %s %d\n", p.name, user, p.seconds)
	}
	if err := os.WriteFile(filepath.Join(dir, "list"), []byte(inGuest.String()), 0o644); err != nil {
		return nil, err
	}
	if s.want, err = s.onHost(s.list); err != nil {
		return nil, err
	}
	for _, p := range s.list {
		if p.expect != "" {
			s.want[p.name] = p.expect + "exit status 0"
		}
	}
	s.initrd = filepath.Join(work, "initrd")
	return s, initramfs(s.initrd, dir)
})

// onHost is what programs print on the host, of those that can run there.
func (s *set) onHost(programs []program) (map[string]string, error) {
	var list strings.Builder
	for _, p := range programs {
		if user, skip := p.host(); skip == "" {
			fmt.Fprintf(&list, "%s %s %d\n", p.name, user, p.seconds)
		}
	}
	name := filepath.Join(work, "host.list")
	if err := os.WriteFile(name, []byte(list.String()), 0o644); err != nil {
		return nil, err
	}
	// The programs count on a tmpfs.
	scratch, err := os.MkdirTemp("/dev/shm", "guesttest")
	if err != nil {
		return nil, errSkip("no tmpfs for the host's runs of the programs: " + err.Error())
	}
	defer os.RemoveAll(scratch)
	os.Chmod(scratch, 0o755)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "runner"), name, s.dir, scratch)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the programs on the host: %w\n%s", err, log.String())
	}
	printed, _ := reports(out.String())
	return printed, nil
}

// knownFailures reads the list of programs that are known to differ: "name: reason" or "name@variant: reason".
func knownFailures(t *testing.T) map[string]string {
	b, err := os.ReadFile(filepath.Join(testdata, "known_failures.txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok {
			t.Errorf("known_failures.txt: %q has no reason", line)
		}
		m[name] = reason
	}
	return m
}

// files are the programs that work with files.
var files = regexp.MustCompile(`^(dnotify|dup|exec|execcut|faults|fifo|files2|inotify|inotifyunlink|lease|locks|lseek|mapgrown|mapkick|maps|mmapfile|ntty|open|orphan|perm|rename|rlimit|rw|rwfappend|setuidexec|sigio|sweep|unix)$`)

// TestNative compares what the programs print on the host with what they print in a guest.
func TestNative(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	s, err := native()
	need(t, err)
	known := knownFailures(t)
	variants := []struct {
		name string
		guest
		hostfs string // options for a directory of the host that the programs work in
		disk   string // options of mke2fs for a disk that they work on
		only   *regexp.Regexp
	}{
		{"notify", guest{args: []string{"seccomp=on"}}, "", "", nil},
		{"ptrace", guest{args: []string{"seccomp=off"}}, "", "", nil},
		{"unprivileged", guest{unprivileged: true}, "", "", nil},
		{"hostfs", guest{unprivileged: true}, ",map", "", files},
		{"ext4", guest{}, "", "-t ext4 -b 4096", files},
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			if v.name == "ptrace" && !long() {
				t.Skip("only with GUESTTEST_LONG=1")
			}
			if v.unprivileged {
				if os.Geteuid() != 0 {
					t.Skip("this test runs as an unprivileged user anyway")
				}
				if _, err := exec.LookPath("setpriv"); err != nil {
					t.Skip("no setpriv on this machine")
				}
			}
			need(t, v.works(t))
			g := v.guest
			mount, runList := "", "/t/list"
			list := s.list
			if v.only != nil {
				list = slices.DeleteFunc(slices.Clone(list), func(p program) bool { return !v.only.MatchString(p.name) })
				mount = "grep -E '" + strings.ReplaceAll(v.only.String(), "$", " ") + "' /t/list >/tmp/list; "
				runList = "/tmp/list"
			}
			if v.hostfs != "" {
				dir, err := os.MkdirTemp("/dev/shm", "guesttest")
				need(t, err)
				defer os.RemoveAll(dir)
				os.Chown(dir, nobody, nobody) // fails if that is who we are
				if unix.Setxattr(dir, "user.test", nil, 0) != nil {
					t.Skip("the host's tmpfs has no user attributes")
				}
				g.args = append(g.args, "hostfs="+dir+v.hostfs)
				mount += "mount -t hostfs none /tmp/r; chmod 755 /tmp/r; "
			}
			if v.disk != "" {
				image := filepath.Join(t.TempDir(), "image")
				args := append(strings.Fields(v.disk), "-q", "-F", image, "128M")
				if out, err := exec.Command(hostTool(t, "mke2fs", "e2fsprogs"), args...).CombinedOutput(); err != nil {
					t.Fatalf("mke2fs: %v\n%s", err, out)
				}
				g.args = append(g.args, "ubd1="+image)
				mount += "mount -t ext4 /dev/ubdb /tmp/r; chmod 755 /tmp/r; "
			}
			g.initrd, g.command, g.limit = s.initrd, "mkdir -p /tmp/r; "+mount+"/t/runner "+runList+" /t /tmp/r", 150*time.Second
			if os.Geteuid() != 0 { // the programs' user owns the directory on the host
				g.command = "mkdir -p /tmp/r; " + mount + "chown 65534:65534 /tmp/r; /t/runner " + runList + " /t /tmp/r"
			}
			out, log, err := g.run(t)
			if err != nil {
				t.Errorf("the guest: %v\n%s", err, tail(log))
			}
			if line := broken(log); line != "" {
				t.Errorf("the guest kernel said: %s\n%s", line, tail(log))
			}
			got, whole := reports(out)
			if len(s.doubtful(list, got, known, v.name)) > 0 {
				// Programs with several processes depend a little on who runs when: what differs has a second chance,
				// and so has the host.
				if again, _, err := g.run(t); err == nil {
					second, _ := reports(again)
					for name, out := range second {
						if known[name] == "" && sorted(out) == sorted(s.want[name]) {
							got[name] = out
						}
					}
				}
				if again, err := s.onHost(s.doubtful(list, got, known, v.name)); err == nil {
					for name, out := range again {
						if sorted(out) == sorted(got[name]) {
							t.Logf("%s: the host prints now this, now that:\n%s", name, diff(s.want[name], out))
							s.want[name] = out
						}
					}
				}
			}
			if !whole {
				t.Errorf("the guest ended early:\n%s", tail(out))
			}
			for _, p := range list {
				t.Run(p.name, func(t *testing.T) { s.compare(t, p, got, known, v.name) })
			}
		})
	}
}

// compare is the subtest of one program.
func (s *set) compare(t *testing.T, p program, got map[string]string, known map[string]string, variant string) {
	want, have := s.want[p.name]
	out, ran := got[p.name]
	if !have {
		_, skip := p.host()
		t.Skip("not compared: " + skip)
	}
	if sorted(want) == sorted(out) {
		out = want // programs of several processes print lines in any order
	}
	if strings.Contains(want, "time limit exceeded") {
		t.Errorf("the program does not end on the host:\n%s", want)
	}
	reason, listed := known[p.name]
	if r, ok := known[p.name+"@"+variant]; ok {
		reason, listed = r, true
	}
	switch {
	case ran && out == want && listed:
		t.Errorf("passes, but known_failures.txt lists it: %s", reason)
	case ran && out == want:
	case listed:
		t.Logf("known to fail: %s", reason)
	case !ran:
		t.Error("did not run")
	default:
		t.Errorf("differs:\n%s", diff(want, out))
	}
}

// doubtful lists the programs that differ and are not known to.
func (s *set) doubtful(list []program, got, known map[string]string, variant string) (out []program) {
	for _, p := range list {
		name := p.name
		want, have := s.want[name]
		if have && known[name] == "" && known[name+"@"+variant] == "" && sorted(got[name]) != sorted(want) {
			out = append(out, p)
		}
	}
	return out
}

// sorted is a text with its lines in order.
func sorted(s string) string {
	l := strings.Split(s, "\n")
	slices.Sort(l)
	return strings.Join(l, "\n")
}

// works reports by errSkip that the host has no support for a kind of guest.
func (g guest) works(t *testing.T) error {
	g.command, g.limit = "echo up", 30*time.Second
	out, log, err := g.run(t)
	if strings.Contains(log, "guest programs cannot be run on this host") {
		return errSkip("this kind of guest does not run here: " + strings.TrimSpace(log))
	}
	if err != nil || out != "up\n" {
		return fmt.Errorf("a guest does not start: %v\n%s%s", err, out, tail(log))
	}
	return nil
}

// tail is the end of a long text.
func tail(s string) string {
	const most = 6000
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return s
}
