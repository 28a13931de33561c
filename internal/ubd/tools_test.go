package ubd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestToolArguments gives the tools their arguments in all ways that getopt(3) knows, and in wrong ones.
func TestToolArguments(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, os.WriteFile("back", make([]byte, 8192), 0o644))
	must(t, os.WriteFile("other", make([]byte, 8192), 0o644))
	st, err := os.Stat("back")
	must(t, err)
	must(t, os.Chtimes("other", st.ModTime(), st.ModTime()))
	run := func(want int, usage bool, args ...string) {
		t.Helper()
		tool := map[string]func([]string, *bytes.Buffer) int{
			"mkcow": func(a []string, w *bytes.Buffer) int { return Mkcow(a, w) },
			"moo":   func(a []string, w *bytes.Buffer) int { return Moo(a, w) },
		}[args[0]]
		var out bytes.Buffer
		if got := tool(args[1:], &out); got != want || strings.Contains(out.String(), "usage:") != usage {
			t.Errorf("%q: status %d, want %d: %s", args, got, want, out.String())
		}
	}
	for _, args := range [][]string{{}, {"-f"}, {"--help"}, {"-x", "a", "b"}, {"a"}, {"a", "b", "c"}, {"a", "b", "-f"}} {
		run(2, true, append([]string{"mkcow"}, args...)...)
	}
	run(0, false, "mkcow", "cow", "back")
	run(1, false, "mkcow", "cow", "back")
	run(0, false, "mkcow", "-f", "cow", "back")
	run(0, false, "mkcow", "--force", "--", "cow", "back")
	run(0, false, "mkcow", "--", "-dash", "back")
	for _, args := range [][]string{{}, {"-d"}, {"-b"}, {"--help"}, {"-h"}, {"-x", "cow", "new"}, {"cow"}, {"-d", "cow", "new"}, {"-b", "other"},
		{"cow", "new", "-d"}} {
		run(1, true, append([]string{"moo"}, args...)...)
	}
	for _, args := range [][]string{{"cow", "n1"}, {"-b", "other", "cow", "n2"}, {"-bother", "cow", "n3"}, {"--backing=other", "cow", "n4"},
		{"-d", "cow"}, {"-db", "other", "cow"}, {"-b", "other", "-d", "cow"}, {"--destructive", "--", "cow"}} {
		run(0, false, append([]string{"moo"}, args...)...)
	}
	run(1, false, "moo", "none", "new")
	for _, name := range []string{"-dash", "n1", "n2", "n3", "n4"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
