package ubd

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestParse runs testdata/options.txt: an option a line, and what comes of it.
func TestParse(t *testing.T) {
	b, err := os.ReadFile("testdata/options.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		in, want, _ := strings.Cut(line, " -> ")
		got := ""
		if sp, err := Parse(in); err != nil {
			got = "error: " + err.Error()
		} else {
			got = fmt.Sprintf("unit %d file %q backing %q serial %q", sp.Unit, sp.File, sp.Backing, sp.Serial)
			for _, f := range []struct {
				on   bool
				name string
			}{{sp.ReadOnly, "r"}, {sp.Sync, "s"}, {sp.Data, "d"}, {sp.Shared, "c"}, {sp.NoTrim, "t"}} {
				if f.on {
					got += " " + f.name
				}
			}
		}
		if got != want {
			t.Errorf("line %d: %s\n got %s\nwant %s", i+1, in, got, want)
		}
	}
}

func TestOption(t *testing.T) {
	for word, want := range map[string]string{
		"udb0=root_fs":  "udb0=root_fs specified on command line is almost certainly a ubd -> udb TYPO",
		"udb":           "udb specified on command line is almost certainly a ubd -> udb TYPO",
		"ubd=8":         "fake major not supported any more",
		"ubd=sync":      "",
		"ubd0q=file":    `Failed to initialize device with "0q=file" : Expected '=' or flag letter (r, s, c, t or d)`,
		"ubd16=file":    `Failed to initialize device with "16=file" : Device number out of range`,
		"ubd0=/no/file": `Failed to initialize device with "0=/no/file" : /no/file: Failed to open '/no/file', errno = 2 (no such file or directory); expected an image file or a block device of the host`,
	} {
		var s Set
		got := ""
		if err := s.Option(word); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", word, got, want)
		}
	}
}

func TestParseUnit(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "a": 0, "p": 15, "15": 15, "0xf": 15, "017": 15, "16": -1, "q": -1, "": -1, "1x": -1, "99999999999999999999": -1} {
		n, err := ParseUnit(s)
		if err != nil {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", s, n, want)
		}
	}
}
