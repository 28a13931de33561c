package mm

import (
	"testing"
	"time"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// space is an address space of which only the usage is asked.
type space struct {
	platform.AddressSpace
	u     platform.Usage
	pss   uint64
	ran   int64
	asked int // how often for the usage
}

func (s *space) Usage() (platform.Usage, error) { s.asked++; return s.u, nil }
func (s *space) CPUTime() int64                 { return s.ran }
func (s *space) AnonPSS() (uint64, error)       { return s.pss, nil }

func TestAccountant(t *testing.T) {
	const mb = 1 << 20
	a := NewAccountant(1024*mb, 1, nil)
	var shmem uint64
	a.AddSource(Shmem, func() uint64 { return shmem })
	a.AddSource(Cache, func() uint64 { return 100 * mb })
	if r := a.Poll(); r.Over != 0 || r.Next != 671*time.Millisecond {
		t.Errorf("empty: %+v", r)
	}
	h := &Host{UserMax: 1 << 46, Acct: a}
	s := &space{u: platform.Usage{Anon: 900 * mb, Data: 950 * mb}, pss: 900 * mb, ran: 1e9}
	m := New(h, s)
	s2 := &space{u: platform.Usage{Anon: 900 * mb}, pss: 100 * mb}
	m2 := New(h, s2)
	if r := a.Poll(); r.Over != 0 || r.Next != 15*time.Millisecond {
		t.Errorf("shared between forks: %+v", r)
	}
	shmem = 50 * mb
	if r := a.Poll(); r.Over != 26*mb || r.Next != pollMin {
		t.Errorf("over: %+v", r)
	}
	m2.Put()
	a.lastAt = 0
	i := a.Info()
	if i.Total != 1024*mb || i.Available != 74*mb || i.Free != 0 || i.Cached != 124*mb || i.Shmem != 50*mb {
		t.Errorf("info %+v", i)
	}
	if i.Free+i.Cached+i.Buffers+i.Anon != i.Total {
		t.Errorf("figures do not add up: %+v", i)
	}
	if a.mayCommit(2048*mb, false) == nil || a.mayCommit(2048*mb, true) != nil {
		t.Error("heuristic overcommit")
	}
	a.SetOvercommit(2, 100)
	if a.mayCommit(24*mb, false) != nil || a.mayCommit(1*mb, false) == nil {
		t.Error("strict overcommit")
	}
	m.Put()
	if len(a.spaces) != 0 {
		t.Error("address spaces left")
	}
}

// Memory is measured again when as much as half of what was left may have been taken: by programs, by the kernel for them,
// or by files.
func TestMeasureWhenNeeded(t *testing.T) {
	const mb = 1 << 20
	var kernel int64
	a := NewAccountant(1000*mb, 2, func() int64 { return kernel })
	var shmem uint64
	a.AddSource(Shmem, func() uint64 { return shmem })
	s := &space{u: platform.Usage{Anon: 200 * mb}}
	m := New(&Host{UserMax: 1 << 46, Acct: a}, s)
	defer m.Put()
	polls := func(what string, asked int, next time.Duration) {
		t.Helper()
		if r := a.Poll(); r.Over != 0 || s.asked != asked || r.Next.Truncate(10*time.Millisecond) != next {
			t.Errorf("%s: %+v, measured %d times", what, r, s.asked)
		}
	}
	const ms = time.Millisecond
	polls("first", 1, 260*ms) // 800 MB, two CPUs
	polls("nothing ran", 1, 260*ms)
	s.ran += int64(200 * ms) // 320 MB
	polls("ran a little", 1, 160*ms)
	kernel += int64(100 * ms)
	polls("and the kernel", 2, 260*ms)
	shmem += 300 * mb
	polls("files", 2, 160*ms)
	s.ran += int64(100 * ms)
	polls("files, and it ran", 3, 160*ms)
}

func TestPickVictim(t *testing.T) {
	const total = 1 << 30
	for _, c := range []struct {
		name string
		cs   []Candidate
		want int
	}{
		{"largest", []Candidate{{RSS: 1 << 20}, {RSS: 3 << 20}, {RSS: 2 << 20}}, 1},
		{"adjusted", []Candidate{{RSS: 300 << 20}, {RSS: 1 << 20, Adj: 500}}, 1},
		{"protected", []Candidate{{RSS: 300 << 20, Adj: -1000}, {RSS: 1 << 20, Adj: -500}}, 1},
		{"none", []Candidate{{RSS: 1, Immune: true}, {RSS: 1, Adj: -1000}}, -1},
		{"empty", nil, -1},
	} {
		if got := PickVictim(c.cs, total); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if s := OOMScore(Candidate{RSS: total / 2}, total); s != 1000 {
		t.Errorf("score %d", s)
	}
	if s := OOMScore(Candidate{Adj: -1000}, total); s != 0 {
		t.Errorf("score of a protected process %d", s)
	}
}

func TestSpans(t *testing.T) {
	var s spans
	s.add(10, 20)
	s.add(30, 40)
	s.add(20, 30)
	if len(s) != 1 || s.total() != 30 {
		t.Errorf("joined: %v", s)
	}
	s.remove(15, 18)
	s.remove(0, 11)
	s.remove(39, 50)
	if s.total() != 4+21 || s.within(12, 19) != 4 {
		t.Errorf("removed: %v", s)
	}
}
