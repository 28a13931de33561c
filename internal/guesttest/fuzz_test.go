package guesttest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFuzz runs random system calls in a guest; the guest kernel must live on. GUESTTEST_SEED repeats a run.
func TestFuzz(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	initrd := image(t, "fuzz/fuzz.c")
	rounds, calls := 4, 3000
	if long() {
		rounds, calls = 300, 10000
	}
	seed := uint64(1)
	if long() {
		seed = uint64(time.Now().UnixNano())
	}
	if s := os.Getenv("GUESTTEST_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 0, 64)
		need(t, err)
		seed = v
	}
	for name, args := range backends {
		t.Run(name, func(t *testing.T) {
			need(t, guest{args: args}.works(t))
			t.Logf("GUESTTEST_SEED=%d", seed)
			g := guest{args: args, initrd: initrd, command: fmt.Sprintf("/t/fuzz %d %d %d; echo ok", seed, calls, rounds), unprivileged: os.Geteuid() == 0, limit: time.Duration(30+3*rounds) * time.Second}
			out, log, err := g.run(t)
			if err != nil || !strings.HasSuffix(out, "ok\n") || strings.Contains(out, "UNKILLABLE") {
				t.Errorf("the guest: %v\n%s\n%s", err, tail(out), tail(log))
			}
			if line := broken(log); line != "" {
				t.Errorf("the guest kernel said: %s\n%s", line, tail(log))
			}
		})
	}
}
