package syscalls

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/syscalls.md")

// TestList holds docs/syscalls.md equal to the table.
func TestList(t *testing.T) {
	const file = "../../../docs/syscalls.md"
	var b bytes.Buffer
	if err := WriteList(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("docs/syscalls.md is not what the table says: make docs")
	}
}

// TestNames compares names and numbers with those of x/sys/unix: every call of Linux has a line.
func TestNames(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "zsysnum_linux_amd64.go"))
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)`).FindAllStringSubmatch(string(src), -1)
	if len(calls) < 350 {
		t.Fatalf("only %d calls in x/sys/unix", len(calls))
	}
	for _, c := range calls {
		nr, _ := strconv.Atoi(c[2])
		if want := strings.ToLower(c[1]); Table[nr].Name != want {
			t.Errorf("call %d is %q, want %q", nr, Table[nr].Name, want)
		}
	}
}

// TestMissing looks for calls that are said to be missing and are there.
func TestMissing(t *testing.T) {
	for _, m := range missing {
		for nr, name := range m.calls {
			if Table[nr].Fn != nil {
				t.Errorf("%s is there: remove it from missing", name)
			}
		}
	}
}
