package guesttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// usage is what a process has of a host file in memory, in KiB; smaps in proc(5).
type usage struct{ rss, pss, private int }

// mappedFrom adds up the mappings of the host file ino that a process can execute.
func mappedFrom(pid int, ino uint64) (u usage) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	in := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") { // from-to perms offset device inode name
			in = len(f) >= 5 && f[1] == "r-xp" && f[4] == strconv.FormatUint(ino, 10)
			continue
		}
		if !in || len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Rss:":
			u.rss += n
		case "Pss:":
			u.pss += n
		case "Private_Clean:", "Private_Dirty:":
			u.private += n
		}
	}
	return u
}

// memoryOf is the host memory that a guest has, its kernel included, in KiB: what it shares with others counts in part.
func memoryOf(root int) (pss int) {
	for _, p := range family(root) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[0] == "Pss:" {
				n, _ := strconv.Atoi(f[1])
				pss += n
			}
		}
	}
	return pss
}

// TestShared boots guests on COW files over one backing file, or on the file itself with flag r. By the host's own accounting
// they have the file's program text in memory once.
func TestShared(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	n := 4
	if long() {
		n = 100
	}
	backing := diskImage(t, nil)
	var st syscall.Stat_t
	need(t, syscall.Stat(backing, &st))
	need(t, guest{}.works(t))
	for name, args := range map[string]func(i int) string{
		"COW":       func(i int) string { return fmt.Sprintf("ubd0=%s/%d.cow,%s", filepath.Dir(backing), i, backing) },
		"read-only": func(int) string { return "ubd0r=" + backing },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			var roots []int
			for i := range n {
				cmd := guest{args: []string{"mem=64M", args(i)}, command: "busybox sh -c 'echo up; read x; echo $x'"}.cmd(ctx, t)
				in, err := cmd.StdinPipe()
				need(t, err)
				out, err := cmd.StdoutPipe()
				need(t, err)
				cmd.Stderr = os.Stderr
				need(t, cmd.Start())
				defer func() {
					_, _ = io.WriteString(in, "down\n")
					if rest, err := io.ReadAll(out); err != nil || string(rest) != "down\n" {
						t.Errorf("guest %d: %v, %q", i, err, rest)
					}
					if err := cmd.Wait(); err != nil {
						t.Errorf("guest %d: %v", i, err)
					}
				}()
				line := make([]byte, 3)
				if _, err := io.ReadFull(bufio.NewReader(out), line); err != nil || string(line) != "up\n" {
					t.Fatalf("guest %d: %v, %q", i, err, line)
				}
				roots = append(roots, cmd.Process.Pid)
			}
			total, stubs := 0, 0
			var all usage
			for _, root := range roots {
				total += memoryOf(root)
				for _, p := range family(root) {
					u := mappedFrom(p.pid, st.Ino)
					if p.pid == root || u.rss == 0 {
						continue
					}
					stubs++
					all.rss, all.pss, all.private = all.rss+u.rss, all.pss+u.pss, all.private+u.private
				}
			}
			t.Logf("%d guests, %d programs with text of the file: %d KiB each, %d KiB together; a guest has %d KiB in all",
				n, stubs, all.rss/max(stubs, 1), all.pss, total/n)
			if stubs < n || all.rss == 0 {
				t.Fatalf("%d of %d guests have the file's text mapped", stubs, n)
			}
			// Each page is in memory once, and the kernels map it, too.
			if once := all.rss / stubs; all.private > once/10 || all.pss > once*3/2 {
				t.Errorf("text of %d KiB takes %d KiB in %d programs, %d KiB of them private", once, all.pss, stubs, all.private)
			}
		})
	}
}
