package umid

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
)

func noWarning(t *testing.T) func(string) {
	return func(s string) { t.Errorf("unexpected warning %q", s) }
}

func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestCreateAndRemove(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "uml")
	d, err := Create(parent, "box", noWarning(t))
	if err != nil {
		t.Fatal(err)
	}
	if d.Name() != "box" || d.Path() != filepath.Join(parent, "box") {
		t.Errorf("got %q in %q", d.Name(), d.Path())
	}
	text, err := os.ReadFile(d.File("pid"))
	if err != nil || string(text) != fmt.Sprintf("%d\n", os.Getpid()) {
		t.Errorf("pid file %q, %v", text, err)
	}
	if fi, _ := os.Stat(d.File("pid")); fi.Mode().Perm()&^0o644 != 0 {
		t.Errorf("mode of the pid file is %v", fi.Mode())
	}
	if err := os.WriteFile(d.File("mconsole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Remove()
	if _, err := os.Stat(d.Path()); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	d.Remove()
}

func TestRandomNames(t *testing.T) {
	parent := t.TempDir()
	names := map[string]bool{}
	for range 5 {
		d, err := Create(parent, "", noWarning(t))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9]{6}$`).MatchString(d.Name()) || names[d.Name()] {
			t.Errorf("random name %q", d.Name())
		}
		names[d.Name()] = true
	}
}

func TestInUse(t *testing.T) {
	parent := t.TempDir()
	d, err := Create(parent, "box", noWarning(t))
	if err != nil {
		t.Fatal(err)
	}
	var warnings []string
	e, err := Create(parent, "box", func(s string) { warnings = append(warnings, s) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf(`umid "box" is already in use by pid %d`, os.Getpid()),
		`Failed to initialize umid "box", trying with a random umid`,
	}
	if fmt.Sprint(warnings) != fmt.Sprint(want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if e.Path() == d.Path() || len(e.Name()) != 6 {
		t.Errorf("second name is %q", e.Name())
	}
}

func TestStale(t *testing.T) {
	parent := t.TempDir()
	for name, pid := range map[string]string{"dead": fmt.Sprintln(deadPID(t)), "junk": "junk", "empty": "", "negative": "-1\n"} {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"pid": pid, "mconsole": "x"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Create(parent, name, noWarning(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(d.File("mconsole")); d.Path() != dir || err == nil {
			t.Errorf("%s: taken over as %q, old socket: %v", name, d.Path(), err)
		}
	}
}

// TestNotOurs gives names of things that are no directories of guests: nothing in them is deleted.
func TestNotOurs(t *testing.T) {
	parent := t.TempDir()
	work := filepath.Join(parent, "work")
	if err := os.MkdirAll(filepath.Join(work, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "pid") // a name that would be deleted, behind a link
	for _, f := range []string{filepath.Join(work, "letter"), filepath.Join(work, "con1"), kept} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(kept), filepath.Join(parent, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"work", "link"} {
		warnings := 0
		d, err := Create(parent, name, func(string) { warnings++ })
		if err != nil {
			t.Fatal(err)
		}
		if warnings != 2 || d.Name() == name {
			t.Errorf("%s: got %q with %d warnings", name, d.Name(), warnings)
		}
		RemoveOf(filepath.Join(parent, name), os.Getpid())
	}
	for _, f := range []string{filepath.Join(work, "letter"), filepath.Join(work, "con1"), kept} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

// TestFight has many take a stale directory at once, and give it back: only one has it at any time.
func TestFight(t *testing.T) {
	parent := t.TempDir()
	var has atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				d, err := claim(parent, "box")
				if err != nil {
					continue
				}
				if has.Add(1) > 1 {
					t.Error("two have the directory")
				}
				has.Add(-1)
				d.Remove()
			}
		})
	}
	wg.Wait()
}

// A directory that somebody else has taken over must survive us.
func TestRemoveOfOthers(t *testing.T) {
	d, err := Create(t.TempDir(), "box", noWarning(t))
	if err != nil {
		t.Fatal(err)
	}
	RemoveOf(d.Path(), d.pid+1)
	if _, err := os.Stat(d.File("pid")); err != nil {
		t.Error(err)
	}
}

func TestParent(t *testing.T) {
	t.Setenv("HOME", "/home/x")
	if p, err := DefaultParent(); err != nil || p != "/home/x/.uml" {
		t.Errorf("got %q, %v", p, err)
	}
	t.Setenv("HOME", "")
	if p, err := DefaultParent(); err == nil {
		t.Errorf("without HOME: %q", p)
	}
	if _, err := Create(filepath.Join(t.TempDir(), "a", "b"), "x", noWarning(t)); err == nil {
		t.Error("two missing levels were created")
	}
}
