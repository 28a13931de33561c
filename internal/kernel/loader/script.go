package loader

import (
	"bytes"

	"golang.org/x/sys/unix"
)

const (
	// scriptSize is how much of a script is looked at (BINPRM_BUF_SIZE).
	scriptSize = 256
	// maxScripts is how often an interpreter may be a script itself.
	maxScripts = 5
)

func isScript(head []byte) bool { return len(head) >= 2 && head[0] == '#' && head[1] == '!' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// parseScript reads the first line of a script: the interpreter, and what follows it as one argument, which may contain
// spaces. ENOEXEC is for a line that names no interpreter or may be cut in the middle of its name.
func parseScript(head []byte) (interp, arg string, hasArg bool, err error) {
	// What is behind the end of a short file reads as zero, and zero ends the line.
	var buf [scriptSize]byte
	copy(buf[:], head)
	line := buf[2:]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	} else {
		line = line[:len(line)-1]
		rest := bytes.TrimLeft(line, " \t")
		if !bytes.ContainsAny(rest, " \t\x00") {
			return "", "", false, unix.ENOEXEC
		}
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	line = bytes.Trim(line, " \t")
	if len(line) == 0 {
		return "", "", false, unix.ENOEXEC
	}
	for i, c := range line {
		if isSpace(c) {
			return string(line[:i]), string(bytes.TrimLeft(line[i:], " \t")), true, nil
		}
	}
	return string(line), "", false, nil
}
