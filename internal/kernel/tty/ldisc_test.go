package tty

import (
	"bufio"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// native runs the scripts on a pty of the host instead: the expectations are then Linux's own answers.
var native = flag.Bool("native", false, "run the line discipline scripts on the host's kernel")

// device is what a script drives.
type device interface {
	termios() unix.Termios
	setTermios(unix.Termios)
	typed(string)               // what the user types
	output() string             // what the terminal has shown since the last call
	write(string) (int, error)  // by the program
	read(n int) (string, error) // by the program, without blocking
	queued() int                // FIONREAD
	flow(arg int)               // TCXONC
	flush(arg int)              // TCFLSH
}

// ours is a pty of this package.
type ours struct{ m, s *opened }

func (d *ours) termios() unix.Termios { return Of(d.s.ops).termios }
func (d *ours) setTermios(t unix.Termios) {
	b := encodeTermios(&t)
	copy(d.s.c.mem[:], b[:])
	if err := d.s.ioctl(unix.TCSETS, memBase); err != nil {
		d.s.t.Fatal(err)
	}
}
func (d *ours) typed(s string)              { _, _ = d.m.write(s) }
func (d *ours) write(s string) (int, error) { return d.s.write(s) }
func (d *ours) read(n int) (string, error)  { return d.s.read(n) }
func (d *ours) flow(arg int)                { _ = d.s.ioctl(unix.TCXONC, uint64(arg)) }
func (d *ours) flush(arg int)               { _ = d.s.ioctl(unix.TCFLSH, uint64(arg)) }
func (d *ours) queued() int {
	_ = d.s.ioctl(unix.TIOCINQ, memBase)
	return int(d.s.c.int())
}
func (d *ours) output() string {
	s, err := d.m.read(ptyBuf)
	if err != nil {
		return ""
	}
	more, _ := d.m.read(ptyBuf)
	return s + more
}

// host is a pty of the host.
type host struct {
	t    *testing.T
	m, s int
}

func openHost(t *testing.T) *host {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(m); unix.Close(s) })
	return &host{t, m, s}
}

func settle() { time.Sleep(5 * time.Millisecond) }

func (d *host) termios() unix.Termios {
	t, err := unix.IoctlGetTermios(d.s, unix.TCGETS)
	if err != nil {
		d.t.Fatal(err)
	}
	return *t
}
func (d *host) setTermios(t unix.Termios) { _ = unix.IoctlSetTermios(d.s, unix.TCSETS, &t) }
func (d *host) typed(s string)            { _, _ = unix.Write(d.m, []byte(s)); settle() }
func (d *host) write(s string) (int, error) {
	n, err := unix.Write(d.s, []byte(s))
	return max(n, 0), err
}
func (d *host) flow(arg int)  { _ = unix.IoctlSetInt(d.s, unix.TCXONC, arg); settle() }
func (d *host) flush(arg int) { _ = unix.IoctlSetInt(d.s, unix.TCFLSH, arg); settle() }
func (d *host) queued() int   { n, _ := unix.IoctlGetInt(d.s, unix.TIOCINQ); return n }
func (d *host) read(n int) (string, error) {
	b := make([]byte, n)
	k, err := unix.Read(d.s, b)
	settle()
	return string(b[:max(k, 0)]), err
}
func (d *host) output() string {
	settle()
	var all []byte
	for {
		b := make([]byte, 65536)
		k, err := unix.Read(d.m, b)
		if k <= 0 || err != nil {
			return string(all)
		}
		all = append(all, b[:k]...)
	}
}

// flags by their names in stty(1).
var (
	iflags = map[string]uint32{"ignbrk": unix.IGNBRK, "brkint": unix.BRKINT, "parmrk": unix.PARMRK, "istrip": unix.ISTRIP,
		"inlcr": unix.INLCR, "igncr": unix.IGNCR, "icrnl": unix.ICRNL, "iuclc": unix.IUCLC, "ixon": unix.IXON,
		"ixany": unix.IXANY, "ixoff": unix.IXOFF, "iutf8": unix.IUTF8}
	oflags = map[string]uint32{"opost": unix.OPOST, "olcuc": unix.OLCUC, "onlcr": unix.ONLCR, "ocrnl": unix.OCRNL,
		"onocr": unix.ONOCR, "onlret": unix.ONLRET, "tab3": expandTabs}
	lflags = map[string]uint32{"isig": unix.ISIG, "icanon": unix.ICANON, "echo": unix.ECHO, "echoe": unix.ECHOE,
		"echok": unix.ECHOK, "echoke": unix.ECHOKE, "echoctl": unix.ECHOCTL, "echonl": unix.ECHONL, "echoprt": unix.ECHOPRT,
		"noflsh": unix.NOFLSH, "iexten": unix.IEXTEN, "tostop": unix.TOSTOP, "extproc": extproc}
	chars = map[string]int{"intr": unix.VINTR, "quit": unix.VQUIT, "erase": unix.VERASE, "kill": unix.VKILL, "eof": unix.VEOF,
		"eol": unix.VEOL, "eol2": unix.VEOL2, "start": unix.VSTART, "stop": unix.VSTOP, "susp": unix.VSUSP,
		"rprnt": unix.VREPRINT, "werase": unix.VWERASE, "lnext": unix.VLNEXT, "min": unix.VMIN, "time": unix.VTIME}
)

// change applies a word of stty(1).
func change(t *unix.Termios, word string) bool {
	name, off := strings.CutPrefix(word, "-")
	for f, m := range map[*uint32]map[string]uint32{&t.Iflag: iflags, &t.Oflag: oflags, &t.Lflag: lflags} {
		if bit, ok := m[name]; ok {
			if *f &^= bit; !off {
				*f |= bit
			}
			return true
		}
	}
	if k, v, ok := strings.Cut(word, "="); ok {
		i, known := chars[k]
		n, err := strconv.ParseUint(v, 0, 8)
		t.Cc[i] = byte(n)
		return known && err == nil
	}
	return false
}

// TestLineDiscipline runs testdata/*.txt. Each test is a paragraph that begins with "test <name>"; its lines are
//
//	stty <words>        change settings, as stty(1)
//	type <text>         the user types; texts are Go strings, "x"*n repeats
//	shows <text>        what the terminal has shown since the last such line
//	write <text>        the program writes
//	read <n> <text>     the program reads n bytes at most; EAGAIN is an expected error
//	queued <n>          FIONREAD
//	flow off|on, flush in|out|both
func TestLineDiscipline(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var script []string
		title, at := "", 0
		run := func() {
			if title != "" {
				t.Run(title, func(t *testing.T) { runScript(t, name, at, script) })
			}
		}
		line := 0
		for sc := bufio.NewScanner(f); sc.Scan(); {
			line++
			s := strings.TrimSpace(sc.Text())
			if after, ok := strings.CutPrefix(s, "test "); ok {
				run()
				title, at, script = after, line, nil
				continue
			}
			script = append(script, s)
		}
		run()
	}
}

func runScript(t *testing.T, file string, at int, script []string) {
	var d device
	if *native {
		d = openHost(t)
	} else {
		m, s, _ := newPair(t, newProc(2, 2, 1), unix.O_NONBLOCK)
		d = &ours{m, s}
	}
	for i, s := range script {
		verb, arg, _ := strings.Cut(s, " ")
		fail := func(got any) { t.Errorf("%s:%d: %s\n\tgot %.500q", file, at+1+i, s, got) }
		switch verb {
		case "", "#":
		case "stty":
			tm := d.termios()
			for w := range strings.FieldsSeq(arg) {
				if !change(&tm, w) {
					t.Fatalf("%s:%d: unknown word %s", file, at+1+i, w)
				}
			}
			d.setTermios(tm)
		case "type":
			d.typed(text(t, arg))
		case "shows":
			if got := d.output(); got != text(t, arg) {
				fail(got)
			}
		case "write":
			if n, err := d.write(text(t, arg)); err != nil || n != len(text(t, arg)) {
				fail([]any{n, err})
			}
		case "read":
			num, want, _ := strings.Cut(arg, " ")
			n, _ := strconv.Atoi(num)
			got, err := d.read(n)
			if want == "EAGAIN" {
				if err != unix.EAGAIN {
					fail([]any{got, err})
				}
			} else if err != nil || got != text(t, want) {
				fail([]any{got, err})
			}
		case "queued":
			if n := d.queued(); strconv.Itoa(n) != arg {
				fail(n)
			}
		case "flow":
			d.flow(map[string]int{"off": unix.TCOOFF, "on": unix.TCOON}[arg])
		case "flush":
			d.flush(map[string]int{"in": unix.TCIFLUSH, "out": unix.TCOFLUSH, "both": unix.TCIOFLUSH}[arg])
		default:
			t.Fatalf("%s:%d: unknown command %s", file, at+1+i, verb)
		}
	}
}

// text reads "a"*3 "b" as aaab.
func text(t *testing.T, s string) string {
	var b strings.Builder
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("bad text %s", s)
		}
		s = s[len(q):]
		u, _ := strconv.Unquote(q)
		n := 1
		if rest, ok := strings.CutPrefix(s, "*"); ok {
			num, after, _ := strings.Cut(rest, " ")
			if n, err = strconv.Atoi(num); err != nil {
				t.Fatalf("bad repeat %s", num)
			}
			s = after
		}
		b.WriteString(strings.Repeat(u, n))
	}
	return b.String()
}
