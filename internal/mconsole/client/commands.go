package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

const usage = "Usage : uml_mconsole socket-name [command]"

// Main is the program; args are its arguments without its name. It returns the exit status.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, usage)
		return 1
	}
	if args[0] == "--help" {
		fmt.Printf("%s\n\nThe first argument is the umid of a guest, or the path of its management socket. Without a command they are\nread from standard input; \"help\" lists them.\n%s", usage, localHelp)
		return 0
	}
	s := &session{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	path, err := find(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	s.guest = guest{args[0], path}
	if len(args) > 1 {
		status, _ := s.run(strings.Join(args[1:], " "))
		return status
	}
	return s.interact()
}

// localHelp is what the client adds to help.
const localHelp = `Additional local mconsole commands:
    quit - Quit mconsole
    switch <socket-name> - Switch control to the given machine
    log -f <filename> - use contents of <filename> as UML log messages
    mconsole-version - version of this mconsole program
    int  - Interrupt UML session
`

// run does one command. quit is true for the one that ends the program.
func (s *session) run(line string) (status int, quit bool) {
	line = strings.TrimRight(line, " \t\r\n")
	word, arg, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	arg = strings.TrimSpace(arg)
	switch word {
	case "quit":
		return 0, true
	case "mconsole-version":
		fmt.Fprintln(s.out, "uml_mconsole client version", wire.Version)
		return 0, false
	case "switch":
		return s.switchTo(arg), false
	case "int":
		return s.interrupt(), false
	case "help":
		status = s.request(line)
		io.WriteString(s.out, localHelp)
		return status, false
	case "config":
		line = "config " + absolute(arg)
	case "exec":
		if rest, ok := strings.CutPrefix(arg, "-t "); ok {
			return s.execOnTerminal(strings.TrimSpace(rest)), false
		}
		if arg != "" {
			return s.exec(arg), false
		}
	case "attach":
		return s.attach(arg), false
	case "log":
		if file, ok := strings.CutPrefix(arg, "-f"); ok && (file == "" || file[0] == ' ') {
			return s.logFile(strings.TrimSpace(file)), false
		}
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			return s.logFile(file), false
		}
	}
	return s.request(line), false
}

// absolute makes the files of a disk absolute: the guest has another working directory.
func absolute(config string) string {
	dev, files, ok := strings.Cut(config, "=")
	if !ok || !strings.HasPrefix(dev, "ubd") || files == "" {
		return config
	}
	list := strings.Split(files, ",")
	for i, f := range list[:min(2, len(list))] {
		if abs, err := filepath.Abs(f); err == nil && f != "" && !filepath.IsAbs(f) {
			list[i] = abs
		}
	}
	return dev + "=" + strings.Join(list, ",")
}

// switchTo talks to another guest from now on.
func (s *session) switchTo(name string) int {
	path, err := find(name)
	if name == "" || err != nil {
		fmt.Fprintf(s.err, "No such machine: '%s'\n", name)
		return 1
	}
	s.guest = guest{name, path}
	fmt.Fprintf(s.out, "Switched to '%s'\n", name)
	return 0
}

// interrupt sends SIGINT to the guest's process.
func (s *session) interrupt() int {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(s.path), "pid"))
	pid, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
	if s.path == "" || err != nil || err2 != nil || pid <= 1 {
		fmt.Fprintln(s.err, "Cannot determine the PID of your UML session, not sending signal.")
		return 1
	}
	if err := unix.Kill(pid, unix.SIGINT); err != nil {
		fmt.Fprintln(s.err, "Interrupting the UML session:", err)
		return 1
	}
	return 0
}

// logFile writes a file to the guest's log, line by line.
func (s *session) logFile(name string) int {
	f, err := os.Open(name)
	if err != nil {
		fmt.Fprintln(s.err, "opening file:", reason(err))
		return 1
	}
	defer f.Close()
	const prefix = "log "
	r := bufio.NewReaderSize(f, wire.MaxData-1-len(prefix))
	for {
		line, _, err := r.ReadLine() // long ones come in pieces
		if errors.Is(err, io.EOF) {
			return 0
		}
		if err != nil {
			fmt.Fprintln(s.err, err)
			return 1
		}
		if len(strings.TrimSpace(string(line))) == 0 {
			continue
		}
		if status := s.request(prefix + string(line)); status != 0 {
			return status
		}
	}
}

// interact reads commands until quit or the end of the input.
func (s *session) interact() int {
	read, end := s.reader()
	defer end()
	for {
		line, err := read(s.prompt())
		if err != nil {
			fmt.Fprintln(s.out)
			return 0
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if _, quit := s.run(line); quit {
			return 0
		}
	}
}

// reader is how lines are read: with editing on a terminal.
func (s *session) reader() (read func(prompt string) (string, error), end func()) {
	fd := int(s.in.Fd())
	if !term.IsTerminal(fd) {
		r := bufio.NewReader(s.in)
		return func(prompt string) (string, error) {
			io.WriteString(s.out, prompt)
			line, err := r.ReadString('\n')
			if err == io.EOF && line != "" {
				err = nil
			}
			return line, err
		}, func() {}
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{s.in, s.out}, "")
	return func(prompt string) (string, error) {
		// Raw only while a line is read, for the commands use the terminal too.
		old, err := term.MakeRaw(fd)
		if err != nil {
			return "", err
		}
		defer term.Restore(fd, old)
		if w, h, err := term.GetSize(fd); err == nil {
			t.SetSize(w, h)
		}
		t.SetPrompt(prompt)
		return t.ReadLine()
	}, func() {}
}
