package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// predicate is one test or action of find.
type predicate func(path string, d fs.DirEntry, depth int) bool

// finder is the state of one find: -prune, -maxdepth and -depth concern the walk as a whole.
type finder struct {
	args               []string
	maxDepth, minDepth int
	prune, acted       bool
	status             int
}

func find(args []string) int {
	f := &finder{maxDepth: 1 << 30}
	var roots []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "(" && args[0] != "!" {
		roots, args = append(roots, args[0]), args[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	f.args = args
	match := predicate(func(string, fs.DirEntry, int) bool { return true })
	if len(args) > 0 {
		var err error
		if match, err = f.or(); err == nil && len(f.args) > 0 {
			err = fmt.Errorf("unexpected %q", f.args[0])
		}
		if err != nil {
			return fail(err)
		}
	}
	for _, root := range roots {
		base := strings.Count(filepath.Clean(root), "/")
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				f.status = fail(err)
				return nil
			}
			depth := strings.Count(filepath.Clean(path), "/") - base
			if filepath.Clean(root) == "." && path != root {
				depth++
				path = "./" + path
			} else if filepath.Clean(root) == "/" && path != root {
				depth = strings.Count(path, "/")
			}
			f.prune = false
			if depth >= f.minDepth && match(path, d, depth) && !f.acted {
				stdout.WriteString(path + "\n")
			}
			if d.IsDir() && (f.prune || depth >= f.maxDepth) {
				return fs.SkipDir
			}
			return nil
		})
	}
	return f.status
}

func (f *finder) or() (predicate, error) {
	a, err := f.and()
	for err == nil && len(f.args) > 0 && (f.args[0] == "-o" || f.args[0] == "-or") {
		f.args = f.args[1:]
		var b predicate
		if b, err = f.and(); err == nil {
			x := a
			a = func(p string, d fs.DirEntry, n int) bool { return x(p, d, n) || b(p, d, n) }
		}
	}
	return a, err
}

func (f *finder) and() (predicate, error) {
	a, err := f.term()
	for err == nil && len(f.args) > 0 && f.args[0] != "-o" && f.args[0] != "-or" && f.args[0] != ")" {
		if f.args[0] == "-a" || f.args[0] == "-and" {
			f.args = f.args[1:]
		}
		var b predicate
		if b, err = f.term(); err == nil {
			x := a
			a = func(p string, d fs.DirEntry, n int) bool { return x(p, d, n) && b(p, d, n) }
		}
	}
	return a, err
}

func (f *finder) value(name string) (string, error) {
	if len(f.args) == 0 {
		return "", fmt.Errorf("%s needs a value", name)
	}
	v := f.args[0]
	f.args = f.args[1:]
	return v, nil
}

func always(string, fs.DirEntry, int) bool { return true }

func (f *finder) term() (predicate, error) {
	if len(f.args) == 0 {
		return nil, errors.New("something is missing at the end")
	}
	name := f.args[0]
	f.args = f.args[1:]
	switch name {
	case "(":
		p, err := f.or()
		if err == nil && (len(f.args) == 0 || f.args[0] != ")") {
			err = errors.New("missing )")
		}
		if err != nil {
			return nil, err
		}
		f.args = f.args[1:]
		return p, nil
	case "!", "-not":
		p, err := f.term()
		return func(path string, d fs.DirEntry, n int) bool { return !p(path, d, n) }, err
	case "-print", "-print0":
		f.acted = true
		end := "\n"
		if name == "-print0" {
			end = "\x00"
		}
		return func(path string, _ fs.DirEntry, _ int) bool { stdout.WriteString(path + end); return true }, nil
	case "-prune":
		return func(string, fs.DirEntry, int) bool { f.prune = true; return true }, nil
	case "-xdev", "-mount", "-depth":
		return always, nil
	case "-delete":
		f.acted = true
		return func(path string, d fs.DirEntry, _ int) bool {
			if err := os.RemoveAll(path); err != nil {
				f.status = fail(err)
				return false
			}
			f.prune = true
			return true
		}, nil
	case "-empty":
		return func(path string, d fs.DirEntry, _ int) bool {
			if d.IsDir() {
				list, err := os.ReadDir(path)
				return err == nil && len(list) == 0
			}
			fi, err := d.Info()
			return err == nil && fi.Mode().IsRegular() && fi.Size() == 0
		}, nil
	case "-exec":
		return f.exec()
	}
	v, err := f.value(name)
	if err != nil {
		return nil, err
	}
	switch name {
	case "-name", "-iname", "-path":
		if _, err := filepath.Match(v, ""); err != nil {
			return nil, fmt.Errorf("bad pattern %q", v)
		}
		return func(path string, _ fs.DirEntry, _ int) bool {
			s, pattern := filepath.Base(path), v
			switch name {
			case "-path":
				s = path
				ok, _ := filepath.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(s, "/", "\x01"))
				return ok
			case "-iname":
				s, pattern = strings.ToLower(s), strings.ToLower(pattern)
			}
			ok, _ := filepath.Match(pattern, s)
			return ok
		}, nil
	case "-type":
		kind, ok := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink, "p": fs.ModeNamedPipe, "s": fs.ModeSocket, "b": fs.ModeDevice, "c": fs.ModeDevice | fs.ModeCharDevice}[v]
		if !ok {
			return nil, fmt.Errorf("unknown type %q", v)
		}
		return func(_ string, d fs.DirEntry, _ int) bool { return d.Type() == kind }, nil
	case "-newer":
		fi, err := os.Stat(v)
		if err != nil {
			return nil, err
		}
		return func(_ string, d fs.DirEntry, _ int) bool {
			i, err := d.Info()
			return err == nil && i.ModTime().After(fi.ModTime())
		}, nil
	}
	n, sign, err := count(strings.TrimRight(v, "cwbkMG"))
	if err != nil {
		return nil, fmt.Errorf("%s: %v", name, err)
	}
	cmp := func(x int64) bool {
		switch sign {
		case '+':
			return x > int64(n)
		case '-':
			return x < int64(n)
		}
		return x == int64(n)
	}
	switch name {
	case "-maxdepth":
		f.maxDepth = n
		return always, nil
	case "-mindepth":
		f.minDepth = n
		return always, nil
	case "-size":
		unit := map[byte]int64{'c': 1, 'w': 2, 'k': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}[v[len(v)-1]]
		if unit == 0 {
			unit = 512
		}
		return func(_ string, d fs.DirEntry, _ int) bool {
			fi, err := d.Info()
			return err == nil && cmp((fi.Size()+unit-1)/unit)
		}, nil
	case "-mtime", "-mmin":
		unit := 24 * time.Hour
		if name == "-mmin" {
			unit = time.Minute
		}
		return func(_ string, d fs.DirEntry, _ int) bool {
			fi, err := d.Info()
			return err == nil && cmp(int64(time.Since(fi.ModTime())/unit))
		}, nil
	case "-links":
		return func(_ string, d fs.DirEntry, _ int) bool {
			fi, err := d.Info()
			return err == nil && cmp(int64(sysStat(fi).Nlink))
		}, nil
	}
	return nil, fmt.Errorf("unknown predicate %q", name)
}

// exec is -exec command ; with {} for the path. The form that ends in + runs the command for one path at a time too.
func (f *finder) exec() (predicate, error) {
	f.acted = true
	var argv []string
	for {
		v, err := f.value("-exec")
		if err != nil {
			return nil, errors.New("-exec without ;")
		}
		if v == ";" || v == "+" && len(argv) > 0 && argv[len(argv)-1] == "{}" {
			break
		}
		argv = append(argv, v)
	}
	if len(argv) == 0 {
		return nil, errors.New("-exec without a command")
	}
	return func(path string, _ fs.DirEntry, _ int) bool {
		args := make([]string, len(argv))
		for i, a := range argv {
			args[i] = strings.ReplaceAll(a, "{}", path)
		}
		stdout.Flush()
		return run(args) == 0
	}, nil
}

// run runs a command with our descriptors and returns its exit status.
func run(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		return ee.ExitCode()
	case errors.Is(err, exec.ErrNotFound):
		fmt.Fprintf(os.Stderr, "%s: %s: not found\n", self, args[0])
		return 127
	case err != nil:
		fail(err)
		return 126
	}
	return 0
}

func xargs(args []string) int {
	o, command, err := getopt(args, "+0I:n:rt")
	if err != nil {
		return fail(err)
	}
	if len(command) == 0 {
		command = []string{"echo"}
	}
	perRun := 1 << 30
	if n, ok := o['n']; ok {
		if perRun, _, err = count(n); err != nil || perRun == 0 {
			return fail(fmt.Errorf("invalid number %q", n))
		}
	}
	replace, hasReplace := o['I']
	var words []string
	data, err := io.ReadAll(bufio.NewReader(os.Stdin))
	if err != nil {
		return fail(err)
	}
	switch {
	case o.has('0'):
		words = strings.FieldsFunc(string(data), func(r rune) bool { return r == 0 })
	case hasReplace:
		words = strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
	default:
		words = strings.Fields(string(data))
	}
	status := 0
	runOne := func(argv []string) {
		if o.has('t') {
			fmt.Fprintln(os.Stderr, strings.Join(argv, " "))
		}
		if s := run(argv); s == 126 || s == 127 {
			status = s
		} else if s != 0 && status == 0 {
			status = 123
		}
	}
	if hasReplace {
		for _, w := range words {
			argv := make([]string, len(command))
			for i, c := range command {
				argv[i] = strings.ReplaceAll(c, replace, w)
			}
			runOne(argv)
		}
		return status
	}
	if len(words) == 0 && !o.has('r') {
		runOne(command)
	}
	const maxBytes = 96 << 10
	for len(words) > 0 {
		n, size := 0, 0
		for n < len(words) && n < perRun && (n == 0 || size+len(words[n]) < maxBytes) {
			size += len(words[n]) + 1
			n++
		}
		runOne(append(append([]string(nil), command...), words[:n]...))
		words = words[n:]
	}
	return status
}

// parseDate reads what date -s and touch -d are given.
func parseDate(s string) (time.Time, error) {
	if n, ok := strings.CutPrefix(s, "@"); ok {
		sec, err := strconv.ParseInt(n, 10, 64)
		return time.Unix(sec, 0), err
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02", time.RFC3339, "15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			if t.Year() == 0 {
				now := time.Now()
				t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local)
			}
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid date %q", s)
}
