package guesttest

import (
	"context"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestBoots starts and ends guests again and again. Nothing of them may stay.
func TestBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	n := 20
	if long() {
		n = 200
	}
	g := guest{command: "true", limit: 30 * time.Second}
	need(t, guest{}.works(t))
	for i := range n {
		cmd, pids := g.watched(t)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("boot %d: %v", i, err)
		}
		nothingLeft(t, cmd, pids)
		if t.Failed() {
			t.Fatalf("after boot %d", i)
		}
	}
}

// TestKills kills guests at random moments. Nothing of them may stay.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	n := 10
	if long() {
		n = 50
	}
	g := guest{command: "while true; do ls / | cat > /tmp/x; done", limit: 30 * time.Second}
	need(t, guest{}.works(t))
	r := rand.New(rand.NewSource(1))
	for i := range n {
		cmd, pids := g.watched(t)
		time.Sleep(time.Duration(r.Intn(400)) * time.Millisecond)
		for _, p := range family(cmd.Process.Pid) {
			if s, ok := startTime(p.pid); ok {
				pids[p.pid] = s
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		nothingLeft(t, cmd, pids)
		if t.Failed() {
			t.Fatalf("after kill %d", i)
		}
	}
}

// watched starts a guest and returns the processes that it has had so far.
func (g guest) watched(t *testing.T) (*exec.Cmd, map[int]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	t.Cleanup(cancel)
	cmd := g.cmd(ctx, t)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	// A file, not a pipe: what is left must not keep Wait waiting.
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	need(t, err)
	defer null.Close()
	cmd.Stdout, cmd.Stderr = null, null
	need(t, cmd.Start())
	pids := map[int]string{}
	for range 5 {
		time.Sleep(5 * time.Millisecond)
		for _, p := range family(cmd.Process.Pid) {
			if s, ok := startTime(p.pid); ok {
				pids[p.pid] = s
			}
		}
	}
	return cmd, pids
}

// nothingLeft checks that a guest that has ended left no process and no umid directory.
func nothingLeft(t *testing.T, cmd *exec.Cmd, pids map[int]string) {
	t.Helper()
	delete(pids, cmd.Process.Pid)
	if left := ended(pids, 5*time.Second); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		dirs, _ := filepath.Glob(filepath.Join(cmd.Dir, ".uml", "*"))
		if len(dirs) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Errorf("left: %v", dirs)
			break
		}
	}
	os.RemoveAll(cmd.Dir)
}
