package cmdline

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestMemparse(t *testing.T) {
	for s, want := range map[string]uint64{
		"": 0, "0": 0, "7": 7, "1k": 1024, "1K": 1024, "128M": 128 << 20, "2g": 2 << 30, "1T": 1 << 40, "0x10": 16, "010": 8,
		"0x": 0, "-1": 0, "1MB": 1 << 20, "16E": math.MaxUint64, "15E": 15 << 60, "18446744073709551615": math.MaxUint64,
		"18446744073709551616": math.MaxUint64, "999999999999999999999999": math.MaxUint64, "08": 0,
	} {
		if got := memparse(s); got != want {
			t.Errorf("memparse(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"10": 10 * time.Second, "0": 0, "0.5": time.Second / 2, "2m": 2 * time.Minute, "10s": 10 * time.Second} {
		if got, ok := duration(s); !ok || got != want {
			t.Errorf("duration(%q) = %v %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "x", "-1", "-1s", "NaN", "Inf", "1e300", "5 s"} {
		if d, ok := duration(s); ok {
			t.Errorf("duration(%q) = %v, want an error", s, d)
		}
	}
}

func TestHasUBD(t *testing.T) {
	c, err := Parse([]string{"ubd1=x", "ubdc=y", "ubd0x3r=z"})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []bool{false, true, true, true, false} {
		if c.HasUBD(n) != want {
			t.Errorf("HasUBD(%d) = %v", n, !want)
		}
	}
}

func TestLineLimit(t *testing.T) {
	fits := MaxLine - 1 - len(" root=98:0 console=tty0 systemd.wants=getty@tty0.service")
	c, err := Parse([]string{strings.Repeat("x", fits)})
	if err != nil || len(c.CommandLine) != MaxLine-1 {
		t.Errorf("%d bytes: %v", fits, err)
	}
	if _, err := Parse([]string{strings.Repeat("x", fits+1)}); err == nil {
		t.Error("a line of 4096 bytes was accepted")
	}
	if _, err := Parse(strings.Fields(strings.Repeat("w ", maxInit+1))); err == nil {
		t.Error("too many words for init were accepted")
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		d    int
	}{{"mem", "mem", 0}, {"men", "mem", 1}, {"qiuet", "quiet", 1}, {"mm", "mem", 1}, {"memm", "mem", 1}, {"abc", "xyz", 3}} {
		if got := distance(c.a, c.b, 5); got != c.d {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.d)
		}
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	WriteHelp(&b)
	for _, want := range []string{"Linux version ", "\nmem=<size>", "\nubd<n><flags>=", "\nexec=", "\nseccomp=on|auto|off\n", "\nstrict\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the help does not have %q", want)
		}
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 125 {
			t.Errorf("too long: %q", line)
		}
	}
	b.Reset()
	WriteConfig(&b)
	for _, want := range []string{"CONFIG_UML=y\n", "CONFIG_BLK_DEV_UBD=y\n", "# CONFIG_MODULES is not set\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the configuration does not have %q", want)
		}
	}
}

// FuzzParse checks what holds for every command line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "mem=64M\x00ubd0=x", "a\x00--\x00b", "con=\x00con0=fd:0", " x\x00y", `a="b c" d`, "exec=a b", "ubd=\x00ubd0\x00ubd01=", "vec0:\x00eth0=\x00eth+=", "--\x00--", "sysctl.=\x00.=\x00="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\x00")
		c, err := Parse(args)
		if err != nil {
			return
		}
		if c.Action != Boot {
			return
		}
		if len(c.CommandLine) >= MaxLine {
			t.Errorf("command line of %d bytes", len(c.CommandLine))
		}
		if c.Mem < MinMem || c.Mem > MaxMem || c.Mem%4096 != 0 {
			t.Errorf("memory of %d bytes", c.Mem)
		}
		if len(c.InitArgs) > maxInit || len(c.InitEnv) > maxInit {
			t.Error("too many words for init")
		}
		for _, e := range c.InitEnv {
			if !strings.Contains(e, "=") {
				t.Errorf("environment word %q", e)
			}
		}
		if len(c.Umid) > MaxUmid || strings.Contains(c.Umid, "/") {
			t.Errorf("umid %q", c.Umid)
		}
		if !strings.Contains(c.CommandLine, "root=") || !strings.Contains(c.CommandLine, "console=") {
			t.Errorf("command line %q lacks the defaults", c.CommandLine)
		}
	})
}
