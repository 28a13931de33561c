package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ttyFlag is one switch of a terminal.
type ttyFlag struct {
	name  string
	field int // 0 input, 1 output, 2 control, 3 local
	bit   uint32
}

var ttyFlags = []ttyFlag{
	{"ignbrk", 0, unix.IGNBRK}, {"brkint", 0, unix.BRKINT}, {"icrnl", 0, unix.ICRNL}, {"igncr", 0, unix.IGNCR}, {"inlcr", 0, unix.INLCR},
	{"istrip", 0, unix.ISTRIP}, {"ixon", 0, unix.IXON}, {"ixoff", 0, unix.IXOFF}, {"ixany", 0, unix.IXANY}, {"iutf8", 0, unix.IUTF8},
	{"opost", 1, unix.OPOST}, {"onlcr", 1, unix.ONLCR}, {"ocrnl", 1, unix.OCRNL},
	{"parenb", 2, unix.PARENB}, {"cstopb", 2, unix.CSTOPB}, {"cread", 2, unix.CREAD}, {"clocal", 2, unix.CLOCAL}, {"hupcl", 2, unix.HUPCL},
	{"isig", 3, unix.ISIG}, {"icanon", 3, unix.ICANON}, {"iexten", 3, unix.IEXTEN}, {"echo", 3, unix.ECHO}, {"echoe", 3, unix.ECHOE},
	{"echok", 3, unix.ECHOK}, {"echoctl", 3, unix.ECHOCTL}, {"echoke", 3, unix.ECHOKE}, {"noflsh", 3, unix.NOFLSH}, {"tostop", 3, unix.TOSTOP},
}

var ttyChars = []struct {
	name string
	at   int
}{{"intr", unix.VINTR}, {"quit", unix.VQUIT}, {"erase", unix.VERASE}, {"kill", unix.VKILL}, {"eof", unix.VEOF}, {"eol", unix.VEOL},
	{"start", unix.VSTART}, {"stop", unix.VSTOP}, {"susp", unix.VSUSP}, {"werase", unix.VWERASE}, {"lnext", unix.VLNEXT}, {"rprnt", unix.VREPRINT}}

func ttyField(t *unix.Termios, field int) *uint32 {
	return []*uint32{&t.Iflag, &t.Oflag, &t.Cflag, &t.Lflag}[field]
}

func stty(args []string) int {
	fd := 0
	if len(args) > 1 && args[0] == "-F" {
		f, err := os.OpenFile(args[1], os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return fail(err)
		}
		defer f.Close()
		fd, args = int(f.Fd()), args[2:]
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fail(fmt.Errorf("standard input: %s", reason(err)))
	}
	ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		ws = &unix.Winsize{}
	}
	if len(args) == 0 || args[0] == "-a" {
		sttyShow(t, ws)
		return 0
	}
	for i := 0; i < len(args); i++ {
		a := args[i]
		off := strings.HasPrefix(a, "-")
		name := strings.TrimPrefix(a, "-")
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case a == "size":
			fmt.Fprintf(stdout, "%d %d\n", ws.Row, ws.Col)
		case a == "-g":
			fmt.Fprintf(stdout, "%x:%x:%x:%x:%x\n", t.Iflag, t.Oflag, t.Cflag, t.Lflag, t.Cc[:17])
		case a == "rows" || a == "cols" || a == "columns":
			n, err := strconv.ParseUint(value(), 10, 16)
			if err != nil {
				return fail(fmt.Errorf("%s needs a number", a))
			}
			if a == "rows" {
				ws.Row = uint16(n)
			} else {
				ws.Col = uint16(n)
			}
			if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
				return fail(err)
			}
		case name == "raw" || name == "cooked" || name == "sane":
			sttyMode(t, name == "raw" != (off && name != "sane"))
		case sttyFlag(t, name, !off) || sttyChar(t, a, value):
		default:
			return fail(fmt.Errorf("invalid argument %q", a))
		}
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETSW, t); err != nil {
		return fail(err)
	}
	return 0
}

func sttyFlag(t *unix.Termios, name string, on bool) bool {
	for _, f := range ttyFlags {
		if f.name != name {
			continue
		}
		if p := ttyField(t, f.field); on {
			*p |= f.bit
		} else {
			*p &^= f.bit
		}
		return true
	}
	return false
}

func sttyChar(t *unix.Termios, name string, value func() string) bool {
	for _, c := range ttyChars {
		if c.name != name {
			continue
		}
		switch v := value(); {
		case v == "undef" || v == "^-" || v == "":
			t.Cc[c.at] = 0
		case len(v) == 2 && v[0] == '^' && v[1] == '?':
			t.Cc[c.at] = 127
		case len(v) == 2 && v[0] == '^':
			t.Cc[c.at] = v[1] & 31
		default:
			t.Cc[c.at] = v[0]
		}
		return true
	}
	return false
}

func sttyMode(t *unix.Termios, raw bool) {
	const in = unix.BRKINT | unix.ICRNL | unix.IXON
	const local = unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE
	if raw {
		t.Iflag, t.Oflag, t.Lflag = 0, t.Oflag&^unix.OPOST, t.Lflag&^uint32(unix.ISIG|unix.ICANON|unix.IEXTEN|unix.ECHO)
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		return
	}
	t.Iflag, t.Oflag, t.Lflag = t.Iflag|in, t.Oflag|unix.OPOST|unix.ONLCR, t.Lflag|local
	t.Cflag |= unix.CREAD
	t.Cc[unix.VEOF] = 4
}

func sttyShow(t *unix.Termios, ws *unix.Winsize) {
	fmt.Fprintf(stdout, "rows %d; columns %d;\n", ws.Row, ws.Col)
	for i, c := range ttyChars {
		v := "<undef>"
		switch b := t.Cc[c.at]; {
		case b == 127:
			v = "^?"
		case b > 0 && b < 32:
			v = "^" + string(rune(b+'@'))
		case b >= 32:
			v = string(rune(b))
		}
		fmt.Fprintf(stdout, "%s = %s; ", c.name, v)
		if i%6 == 5 {
			stdout.WriteByte('\n')
		}
	}
	field := 0
	for _, f := range ttyFlags {
		if f.field != field {
			stdout.WriteByte('\n')
			field = f.field
		}
		if *ttyField(t, f.field)&f.bit == 0 {
			stdout.WriteByte('-')
		}
		stdout.WriteString(f.name + " ")
	}
	stdout.WriteByte('\n')
}
