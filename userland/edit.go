package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"
)

// errInterrupted says that Ctrl-C was typed instead of a line.
var errInterrupted = errors.New("interrupted")

// editor reads lines from the terminal with editing, history and completion of names (tab).
type editor struct {
	term   *term.Terminal
	keys   *keyFilter
	plain  *bufio.Reader // if the terminal cannot be made raw
	warned bool          // the last end of input was answered with a warning
}

func newEditor() *editor {
	k := &keyFilter{in: os.Stdin}
	e := &editor{keys: k, plain: bufio.NewReader(os.Stdin)}
	e.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{k, os.Stderr}, "")
	e.term.AutoCompleteCallback = complete
	return e
}

// line reads a line. io.EOF is the end of the input.
func (e *editor) line(prompt string) (string, error) {
	state, err := term.MakeRaw(0)
	if err != nil {
		os.Stderr.WriteString(prompt)
		s, err := e.plain.ReadString('\n')
		return strings.TrimSuffix(s, "\n"), err
	}
	defer term.Restore(0, state)
	if w, h, err := term.GetSize(0); err == nil && w > 0 {
		e.term.SetSize(w, h)
	}
	e.keys.interrupted = false
	e.term.SetPrompt(prompt)
	s, err := e.term.ReadLine()
	if e.keys.interrupted {
		return "", errInterrupted
	}
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	return s, err
}

// keyFilter turns Ctrl-C into keys that empty the line and end it, because the terminal package takes it for the end of
// the input. Other keys that it does not know but would insert are left out.
type keyFilter struct {
	in          *os.File
	pending     []byte
	interrupted bool
}

func (k *keyFilter) Read(p []byte) (int, error) {
	if len(k.pending) == 0 {
		var buf [256]byte
		n, err := k.in.Read(buf[:])
		if n == 0 {
			return 0, err
		}
		for _, c := range buf[:n] {
			switch c {
			case 3: // Ctrl-C: to the end, delete all before, Enter
				k.interrupted = true
				k.pending = append(k.pending, 5, 21, '\r')
			case 26, 28: // Ctrl-Z, Ctrl-backslash
			default:
				k.pending = append(k.pending, c)
			}
		}
	}
	n := copy(p, k.pending)
	k.pending = k.pending[n:]
	return n, nil
}

// complete completes the word before the cursor on tab: the first word of a command from the PATH, others as file names.
func complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	start := strings.LastIndexAny(line[:pos], " \t;|&<>(") + 1
	word := line[start:pos]
	var names []string
	if before := strings.TrimSpace(line[:start]); !strings.Contains(word, "/") && (before == "" || strings.HasSuffix(before, ";") || strings.HasSuffix(before, "|") || strings.HasSuffix(before, "&")) {
		for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
			names = append(names, matching(dir, "", word)...)
		}
	} else {
		dir, base := filepath.Split(word)
		names = matching(cmpOr(dir, "."), dir, base)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return "", 0, false
	}
	common := names[0]
	for _, n := range names[1:] {
		for !strings.HasPrefix(n, common) {
			common = common[:len(common)-1]
		}
	}
	if len(names) == 1 && !strings.HasSuffix(common, "/") {
		common += " "
	}
	return line[:start] + common + line[pos:], start + len(common), true
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// matching lists the entries of a directory that begin with base, with prefix put before them.
func matching(dir, prefix, base string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := prefix + e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return names
}
