package cmdline

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestGolden parses every command line of testdata/*.txt. A line that begins with "$ linux" is a command line, its words
// split as by a shell with quotes; what follows up to the next one is what must come of it.
func TestGolden(t *testing.T) {
	for _, file := range []string{"testdata/seed.txt", "testdata/rules.txt"} {
		in, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for line := range strings.Lines(string(in)) {
			switch {
			case strings.HasPrefix(line, "$ linux"):
				fmt.Fprintf(&out, "%s%s\n", line, describe(shellWords(t, strings.TrimSpace(line[7:]))))
			case strings.HasPrefix(line, "#"):
				out.WriteString(line)
			}
		}
		if *update {
			if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, want := strings.Split(out.String(), "\n$"), strings.Split(string(in), "\n$"); !reflect.DeepEqual(got, want) {
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("%s: got:\n$%s\nwant:\n$%s", file, got[i], want[i])
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: %d cases, want %d", file, len(got), len(want))
			}
		}
	}
}

// describe lists what in the Config differs from the default, one field a line.
func describe(args []string) string {
	c, err := Parse(args)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	v, d := reflect.ValueOf(*c), reflect.ValueOf(*newConfig())
	for i := range v.NumField() {
		f := v.Field(i)
		if reflect.DeepEqual(f.Interface(), d.Field(i).Interface()) {
			continue
		}
		if f.Kind() == reflect.Slice {
			for j := range f.Len() {
				fmt.Fprintf(&b, "%s: %v\n", v.Type().Field(i).Name, f.Index(j))
			}
			continue
		}
		fmt.Fprintf(&b, "%s: %v\n", v.Type().Field(i).Name, f)
	}
	return b.String()
}

// shellWords splits a line at blanks outside of single quotes; \n in a word is a newline.
func shellWords(t *testing.T, s string) []string {
	if strings.Count(s, "'")%2 != 0 {
		t.Fatalf("odd quotes in %q", s)
	}
	var words []string
	word, have := "", false
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			word, have = word+part, true
			continue
		}
		for j, f := range strings.Split(part, " ") {
			if j > 0 && have {
				words, word, have = append(words, word), "", false
			}
			if f != "" {
				word, have = word+f, true
			}
		}
	}
	if have {
		words = append(words, word)
	}
	return words
}
