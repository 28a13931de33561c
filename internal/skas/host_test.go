package skas

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostRefuses says what to do about a host that lets nobody be traced, and speaks of Yama only where that is the reason.
func TestHostRefuses(t *testing.T) {
	for _, x := range []struct {
		err   error
		scope string // what the file says; "" for none
		want  string
	}{
		{unix.EPERM, "3\n", "is 3: nothing can be traced until the host is booted"},
		{unix.EPERM, "2\n", "is 2: set it to 1 or 0"},
		{fmt.Errorf("attach: %w", unix.EACCES), "2\n", "CAP_SYS_PTRACE"},
		{unix.EPERM, "1\n", "the host must allow ptrace"},
		{unix.EPERM, "0\n", "the host must allow ptrace"},
		{unix.EPERM, "", "the host must allow ptrace"},
		{unix.EAGAIN, "2\n", "ulimit -u"},
		{unix.EMFILE, "1\n", "ulimit -n"},
		{unix.ENOMEM, "2\n", "skas: cannot allocate memory"},
	} {
		err := hostRefuses(x.err, func(name string) ([]byte, error) {
			if name != yamaScope {
				t.Errorf("%s is read", name)
			}
			if x.scope == "" {
				return nil, os.ErrNotExist
			}
			return []byte(x.scope), nil
		})
		text := err.Error()
		if !strings.Contains(text, x.want) || !errors.Is(err, x.err) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%v with %q: %q, want %q", x.err, x.scope, text, x.want)
		}
		if yama := x.scope >= "2" && strings.Contains(x.want, "is "+x.scope[:1]) || strings.Contains(x.want, "CAP_SYS"); strings.Contains(text, "yama") != yama {
			t.Errorf("%v with %q: %q", x.err, x.scope, text)
		}
	}
}

// TestCPUNumbers has guests run on any CPUs of the host: they see only numbers of their own CPUs.
func TestCPUNumbers(t *testing.T) {
	for _, x := range []struct {
		cpus []int
		ncpu int
	}{{[]int{0, 1}, 2}, {[]int{37, 3}, 2}, {[]int{5}, 4}, {[]int{0, 1, 2}, 2}, {[]int{clockMaxCPU, 1}, 2}} {
		p := &Platform{cfg: Config{NCPU: x.ncpu}, cpus: x.cpus}
		page := make([]byte, pageSize)
		p.putCPUs(page)
		for cpu, n := range page[clockCPUs:] {
			if int(n) >= x.ncpu {
				t.Errorf("%v: host CPU %d is %d of %d", x.cpus, cpu, n, x.ncpu)
			}
		}
		for guest, cpu := range x.cpus {
			if cpu < clockMaxCPU && int(page[clockCPUs+cpu]) != guest%x.ncpu {
				t.Errorf("%v: host CPU %d is %d", x.cpus, cpu, page[clockCPUs+cpu])
			}
		}
	}
}

// TestThreadIDReuse has the host give the id of a thread that has ended to a new one before the end is known.
func TestThreadIDReuse(t *testing.T) {
	var tt threadTable
	old, young, other := &Thread{tid: 4097}, &Thread{tid: 4097}, &Thread{tid: 4098}
	tt.add(old)
	tt.add(other)
	tt.add(young)
	tt.remove(old)
	if got := tt.get(4097); got != young {
		t.Errorf("%p, want the new thread %p", got, young)
	}
	if l := tt.list(); len(l) != 2 {
		t.Errorf("%d threads", len(l))
	}
	tt.remove(other)
	tt.remove(old) // once more is nothing
	if tt.get(4097) != young || tt.get(4098) != nil {
		t.Error("the row has gone with another thread")
	}
	tt.remove(young)
	if tt.get(4097) != nil || tt.top[4097>>10].Load() != nil {
		t.Error("the row is left")
	}

	// Memory is reached through a thread that lives, whatever became of the others.
	as := newAddressSpace()
	as.add(100, 100)
	as.add(100, 101)
	as.remove(100, 100)
	if as.tid.Load() != 101 {
		t.Errorf("memory is reached through thread %d", as.tid.Load())
	}
	as.remove(100, 101)
	if as.tid.Load() != 0 || len(as.others()) != 0 {
		t.Error("memory is reached through a thread that has ended")
	}
}

// TestCrowded has guests make no more threads than the host lets the user have, with room for those of the kernel.
func TestCrowded(t *testing.T) {
	var logged []string
	p := &Platform{mostThreads: 5, shards: []*shard{{}, {}}}
	p.cfg.Logf = func(format string, a ...any) { logged = append(logged, fmt.Sprintf(format, a...)) }
	for i := range 8 {
		if got, want := p.crowded(), i >= 5; got != want {
			t.Errorf("%d threads: %v", i, got)
		}
		p.shards[i%2].threads.Add(1)
	}
	if len(logged) != 1 || !strings.Contains(logged[0], "ulimit -u") {
		t.Errorf("%q", logged)
	}
}
