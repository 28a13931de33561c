package console

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		words []string
		line  string
		want  string
	}{
		{nil, "con0", "fd:0,fd:1"},
		{nil, "con1", "pts"},
		{[]string{"con=pty", "con0=fd:0,fd:1"}, "con0", "fd:0,fd:1"},
		{[]string{"con0=fd:0,fd:1", "con=pts"}, "con0", "fd:0,fd:1"},
		{[]string{"con=null"}, "con0", "null"},
		{[]string{"con=null", "con0=null,fd:2", "con1=fd:0,fd:1"}, "con0", "null,fd:2"},
		{[]string{"con=null", "con0=null,fd:2", "con1=fd:0,fd:1"}, "con1", "fd:0,fd:1"},
		{[]string{"con=null", "con0=null,fd:2", "con1=fd:0,fd:1"}, "con2", "null"},
		{[]string{"ssl=pty", "ssl0x10=null"}, "ssl16", "null"},
		{[]string{"ssl010=null"}, "ssl8", "null"},
	} {
		s := New()
		for _, w := range c.words {
			if ok, err := s.Option(w); !ok || err != nil {
				t.Errorf("%s: %v %v", w, ok, err)
			}
		}
		cfg := &s.con
		if strings.HasPrefix(c.line, "ssl") {
			cfg = &s.ssl
		}
		n, _ := parseNumber(c.line[3:])
		if got := cfg.of(n); got != c.want {
			t.Errorf("%v: %s is %q, want %q", c.words, c.line, got, c.want)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	for word, want := range map[string]string{
		"con99=pts": `Failed to set up console with configuration string "99=pts" : Device number out of range`,
		"con0x=pts": `Failed to set up console with configuration string "0x=pts" : Couldn't parse device number`,
		"con1":      `Failed to set up console with configuration string "1" : Couldn't parse device number`,
		"con08=pts": `Failed to set up console with configuration string "08=pts" : Couldn't parse device number`,
		"ssl64=pts": `Failed to set up serial line with configuration string "64=pts" : Device number out of range`,
	} {
		if ok, err := New().Option(word); !ok || err == nil || err.Error() != want {
			t.Errorf("%s: %v %v", word, ok, err)
		}
	}
	for _, word := range []string{"console=tty0", "con", "root=/dev/ubda", "sslx=1", "consoleblank=0"} {
		if ok, _ := New().Option(word); ok {
			t.Errorf("%s was taken", word)
		}
	}
}

func TestChannels(t *testing.T) {
	for _, c := range []struct {
		text string
		in   channelKind
		out  channelKind
		err  string
	}{
		{"fd:0,fd:1", chanFD, chanFD, ""},
		{"null,fd:2", chanNull, chanFD, ""},
		{"pts", chanPts, chanPts, ""},
		{"pty", chanPty, chanPty, ""},
		{"none", chanNone, chanNone, ""},
		{"nullify", chanNull, chanNull, ""}, // keywords match by prefix
		{"fd", 0, 0, "must specify a file descriptor"},
		{"fd:x", 0, 0, "couldn't parse file descriptor 'x'"},
		{"tty", 0, 0, "channel type 'tty' must specify a device"},
		{"tty:", 0, 0, "channel type 'tty' must specify a device"},
		{"tty:/dev/tty8", chanTTY, chanTTY, ""},
		{"tty:/dev/tty2,xterm", chanTTY, chanXterm, ""},
		{"port", 0, 0, "must specify a port number"},
		{"port:", 0, 0, "couldn't parse port number ''"},
		{"port:70000", 0, 0, "couldn't parse port number '70000'"},
		{"port::9000", 0, 0, "'' is not an address"},
		{"port:example.org:9000", 0, 0, "'example.org' is not an address"},
		{"port:9000", chanPort, chanPort, ""},
		{"port:0.0.0.0:9000", chanPort, chanPort, ""},
		{"port:[::1]:9000", chanPort, chanPort, ""},
		{"xterm", chanXterm, chanXterm, ""},
		{"x-terminal-emulator", 0, 0, `couldn't parse "x-terminal-emulator"`},
		{"/dev/tty8", 0, 0, "couldn't parse"},
		{"", 0, 0, "couldn't parse"},
		{"fd:0,", 0, 0, "couldn't parse"},
	} {
		p, err := parsePair(c.text)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil || p.in.kind != c.in || p.out.kind != c.out {
			t.Errorf("%q: %+v, %v", c.text, p, err)
		}
	}
	for text, want := range map[string]string{
		"port:9000": "127.0.0.1:9000", "port:0.0.0.0:0x10": "0.0.0.0:16", "port:[::1]:9": "[::1]:9", "port:::1:9": "[::1]:9",
	} {
		if p, err := parsePair(text); err != nil || p.in.addr != want {
			t.Errorf("%s: %q, %v", text, p.in.addr, err)
		}
	}
}
