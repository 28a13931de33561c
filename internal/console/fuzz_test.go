package console

import (
	"strings"
	"testing"
)

// FuzzOption: no text after con or ssl, from the command line or the management console, does more than be refused or name lines
// that exist and channels that can be opened.
func FuzzOption(f *testing.F) {
	for _, s := range []string{"=pts", "0=fd:0,fd:1", "3=tty:/dev/tty2,xterm", "1=port:[::1]:9000", "=port:127.0.0.1:0x50", "010=null", "7=none", "=none,pts", "99=pts"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		for _, k := range []*kind{consoles, serials} {
			c := config{kind: k, one: map[int]string{}}
			if err := c.set(arg); err != nil {
				if len(c.one) != 0 || c.all != "" {
					t.Errorf("%q is refused (%v) and counts", arg, err)
				}
				continue
			}
			for n, s := range c.one {
				if n < 0 || n >= k.lines || !strings.HasSuffix(arg, "="+s) {
					t.Errorf("%q is %d=%q", arg, n, s)
				}
			}
			for _, n := range []int{0, 1, k.lines - 1} {
				p, err := parsePair(c.of(n))
				if err != nil {
					continue
				}
				for _, ch := range []channel{p.in, p.out} {
					if ch.kind == chanFD && ch.fd < 0 || ch.kind == chanTTY && ch.path == "" || ch.kind == chanPort && !strings.Contains(ch.addr, ":") {
						t.Errorf("%q: %+v", arg, ch)
					}
				}
			}
		}
	})
}
