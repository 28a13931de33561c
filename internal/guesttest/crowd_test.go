package guesttest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrowd runs many guests at once, each with 64 MB and a layer of its own above one image: a hundred in the long form. All
// finish, what they wrote is there, and the memory that one takes is logged.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	n, steps, limit := 4, 10, time.Minute
	if long() {
		n, steps, limit = 100, 200, 30*time.Minute
	}
	image := diskImage(t, map[string]string{"work": fmt.Sprintf(`set -e
cd /data; i=0
while [ $i -lt %d ]; do echo $i >f$i; cat f$i | wc -l >/dev/null; i=$((i+1)); done
sync; cat f* | wc -l
`, steps)})
	unprivileged := os.Getuid() == 0
	need(t, guest{unprivileged: unprivileged}.works(t))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	start := time.Now()
	var wg sync.WaitGroup
	var pids []int
	for i := range n {
		// The layer is in the guest's own directory.
		cmd := guest{args: []string{"mem=64M", "ubd0=layer," + image, "rw"}, command: "sh /work", unprivileged: unprivileged}.cmd(ctx, t)
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		need(t, cmd.Start())
		pids = append(pids, cmd.Process.Pid)
		wg.Go(func() {
			err := cmd.Wait()
			if err != nil || strings.TrimSpace(out.String()) != strconv.Itoa(steps) || broken(log.String()) != "" {
				t.Errorf("guest %d after %v: %v\n%s%s", i, time.Since(start), err, tail(out.String()), tail(log.String()))
			}
			os.RemoveAll(cmd.Dir)
		})
	}
	done := make(chan bool)
	go func() { wg.Wait(); close(done) }()
	most := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(max(time.Second, limit/100)):
			if kib, guests := proportional(pids); guests == n {
				most = max(most, kib/n)
			}
		}
	}
	t.Logf("%d guests of %d steps took %v, at most %d KiB each", n, steps, time.Since(start).Round(time.Second), most)
}

var pssLine = regexp.MustCompile(`(?m)^Pss: +(\d+) kB`)

// proportional is the memory of guests, shared pages divided among those who share them, and how many of them run.
func proportional(linuxes []int) (kib, guests int) {
	ours := map[int]bool{}
	for _, pid := range linuxes {
		ours[pid] = true
	}
	all := processes()
	for _, p := range all {
		if ours[p.pid] {
			guests++
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.ppid] && !ours[p.pid] {
				ours[p.pid], grown = true, true
			}
		}
	}
	for pid := range ours {
		b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if m := pssLine.FindSubmatch(b); m != nil {
			k, _ := strconv.Atoi(string(m[1]))
			kib += k
		}
	}
	return kib, guests
}
