package cmdline

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestManual holds the options in docs/linux.1 equal to those of --help. Everything else in that file is written by hand.
func TestManual(t *testing.T) {
	const file = "../../docs/linux.1"
	const begin, end = ".\\\" begin options\n", ".\\\" end options\n"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(page), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the options", file)
	}
	var want strings.Builder
	for i := range options {
		if o := &options[i]; o.syntax != "" {
			writeItem(&want, o.syntax, o.help)
		}
	}
	for _, o := range kernelHelp {
		writeItem(&want, o.syntax, o.help)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want.String() {
		t.Errorf("the options in docs/linux.1 are not those of --help: make docs")
	}
}

// writeItem writes an option in mdoc(7), each sentence on a line of its own.
func writeItem(b *strings.Builder, syntax, help string) {
	fmt.Fprintf(b, ".It Sy \"%s\"\n", roff(syntax))
	for line := range strings.Lines(strings.ReplaceAll(help, ". ", ".\n")) {
		line = roff(strings.TrimSuffix(line, "\n"))
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		b.WriteString(line + "\n")
	}
}

// dash is a '-' that is no hyphen of a word.
var dash = regexp.MustCompile(`(^|[^0-9A-Za-z])-|--`)

// roff writes text so that troff shows just that.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `'`, `\(aq`, `"`, `\(dq`, `~`, `\(ti`).Replace(s)
	return dash.ReplaceAllStringFunc(s, func(m string) string { return strings.ReplaceAll(m, "-", `\-`) })
}
