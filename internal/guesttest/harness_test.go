package guesttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	root     = "../.."
	testdata = root + "/testdata/guest"
	builtin  = root + "/cmd/linux/root/root.cpio"
	// nobody is who unprivileged programs and guests run as.
	nobody = 65534
)

// long reports whether the long forms of the tests are wanted.
func long() bool { return os.Getenv("GUESTTEST_LONG") != "" }

// work is a directory for what the tests of this package share. It lies where an unprivileged user gets in.
var work string

func TestMain(m *testing.M) {
	if os.Getenv(containerEnv) != "" {
		os.Unsetenv(containerEnv)
		container()
	}
	dir, err := os.MkdirTemp("", "guesttest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Chmod(dir, 0o755)
	work = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// linux builds the program once and returns its path.
var linux = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat(builtin); err != nil {
		return "", errSkip("the built-in root is missing: run make userland first")
	}
	path := filepath.Join(work, "linux")
	if have := os.Getenv("GUESTTEST_LINUX"); have != "" {
		b, err := os.ReadFile(have)
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, b, 0o755)
	}
	return path, build(path, root, "./cmd/linux")
})

// build builds a Go program without C.
func build(out, dir, pkg string) error {
	abs, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", abs, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

type errSkip string

func (e errSkip) Error() string { return string(e) }

// need ends or skips the test if err is not nil.
func need(t testing.TB, err error) {
	t.Helper()
	var s errSkip
	if errors.As(err, &s) {
		t.Skip(string(s))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// program is one program of testdata.
type program struct {
	name    string
	source  string
	user    string // "", "nobody" or "root"
	seconds int
	expect  string // what it prints, instead of what the host does
}

var header = regexp.MustCompile(`(?m)^// (user|time|expect): ?(.*)$`)

func readProgram(name, source string) (program, error) {
	p := program{name: name, source: source, seconds: 20}
	b, err := os.ReadFile(source)
	if err != nil {
		return p, err
	}
	for _, m := range header.FindAllStringSubmatch(string(b), -1) {
		switch m[1] {
		case "user":
			p.user = m[2]
		case "time":
			if p.seconds, err = strconv.Atoi(m[2]); err != nil {
				return p, fmt.Errorf("%s: %w", source, err)
			}
		case "expect":
			p.expect += m[2] + "\n"
		}
	}
	return p, nil
}

// programs are those of a folder of testdata: C files of c, folders of go.
func programs(pattern string) ([]program, error) {
	var want *regexp.Regexp
	if s := os.Getenv("GUESTTEST_RUN"); s != "" {
		want = regexp.MustCompile(s)
	}
	var list []program
	files, err := filepath.Glob(filepath.Join(testdata, pattern))
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".c")
		if name == "main.go" {
			name = "go-" + filepath.Base(filepath.Dir(f))
		}
		if want != nil && !want.MatchString(name) {
			continue
		}
		p, err := readProgram(name, f)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, err
}

// compile compiles programs into a directory.
func compile(dir string, list []program) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return errSkip("no gcc on this machine: the guest's test programs cannot be compiled")
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	slots := make(chan bool, 3)
	for i, p := range list {
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			out := filepath.Join(dir, p.name)
			if strings.HasSuffix(p.source, ".go") {
				errs[i] = build(out, filepath.Dir(p.source), ".")
				return
			}
			b, err := exec.Command("gcc", "-O2", "-static", "-pthread", "-s", "-w", "-o", out, p.source, "-lrt").CombinedOutput()
			if err != nil {
				errs[i] = fmt.Errorf("gcc %s: %w\n%s", p.source, err, b)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// initramfs writes an initramfs: the built-in root, followed by the files of a directory, which become /t.
func initramfs(path, dir string) error {
	base, err := os.ReadFile(builtin)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Write(base)
	ino := 1000000
	entry := func(name string, mode int, data []byte) {
		ino++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.Write(data)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for b.Len()%512 != 0 {
		b.WriteByte(0)
	}
	entry("t", 0o040755, nil)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		entry("t/"+f.Name(), 0o100755, data)
	}
	entry("TRAILER!!!", 0, nil)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// guest is how to start a guest.
type guest struct {
	args    []string
	initrd  string
	command string
	// unprivileged runs linux as nobody.
	unprivileged bool
	limit        time.Duration
}

// cmd makes the command of a guest; the directory is its own and is HOME.
func (g guest) cmd(ctx context.Context, t testing.TB) *exec.Cmd {
	t.Helper()
	path, err := linux()
	need(t, err)
	dir, err := os.MkdirTemp(work, "home")
	need(t, err)
	args := append([]string{"quiet", "mem=1G"}, g.args...)
	if g.initrd != "" {
		args = append(args, "initrd="+g.initrd)
	}
	args = append(args, "exec="+g.command)
	if g.unprivileged {
		need(t, os.Chown(dir, nobody, nobody))
		id := strconv.Itoa(nobody)
		args = append([]string{"--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", path}, args...)
		path = "setpriv"
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "HOME=") }), "HOME="+dir)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a guest to its end.
func (g guest) run(t testing.TB) (stdout, stderr string, err error) {
	t.Helper()
	_, err = linux() // building it takes longer than some guests may on a busy machine
	need(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("the guest did not end within %v", g.limit)
	}
	return out.String(), log.String(), err
}

// broken finds what a guest kernel must never say.
func broken(log string) string {
	for line := range strings.Lines(log) {
		for _, bad := range []string{"BUG:", "panic", "goroutine ", "DATA RACE", "fatal error"} {
			if strings.Contains(line, bad) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// reports splits the output of the runner into programs.
func reports(out string) (map[string]string, bool) {
	m := map[string]string{}
	for {
		i := strings.Index(out, "=== ")
		if i < 0 {
			return m, false
		}
		line, rest, ok := strings.Cut(out[i+4:], "\n")
		f := strings.Fields(line)
		if len(f) == 1 && f[0] == "end" {
			return m, true
		}
		if !ok || len(f) != 2 {
			return m, false
		}
		n, err := strconv.Atoi(f[1])
		if err != nil || n > len(rest) {
			return m, false
		}
		m[f[0]] = rest[:n]
		out = rest[n:]
	}
}

// diff shows the first lines that differ.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	shown := 0
	// A longest common subsequence is not worth its code: resynchronise on the next equal line within a window.
	for i, j := 0, 0; i < len(w) || j < len(g); {
		if i < len(w) && j < len(g) && w[i] == g[j] {
			i, j = i+1, j+1
			continue
		}
		di, dj := len(w)-i, len(g)-j
	search:
		for d := 1; d < 40; d++ {
			for a := 0; a <= d; a++ {
				if i+a < len(w) && j+d-a < len(g) && w[i+a] == g[j+d-a] {
					di, dj = a, d-a
					break search
				}
			}
		}
		for _, s := range w[i : i+di] {
			fmt.Fprintf(&b, "  native: %s\n", s)
		}
		for _, s := range g[j : j+dj] {
			fmt.Fprintf(&b, "  guest:  %s\n", s)
		}
		i, j = i+di, j+dj
		if shown += di + dj; shown > 60 {
			b.WriteString("  ...\n")
			break
		}
	}
	return b.String()
}
