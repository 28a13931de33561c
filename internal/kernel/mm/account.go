package mm

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

const (
	// dirtyRate is how fast one CPU can dirty memory, in bytes a second: what bounds how much a guest can take between
	// two looks at it.
	dirtyRate = 1_600_000_000
	pollMin   = 5 * time.Millisecond
	pollMax   = time.Second
	// infoAge is how old the figures of MemInfo may be.
	infoAge = int64(20 * time.Millisecond)
)

// UsageKind is what a usage source counts.
type UsageKind uint8

const (
	// Shmem are pages of tmpfs files, shared anonymous memory and memfds; they count against the limit.
	Shmem UsageKind = iota
	// Kernel is memory that counts against the limit and cannot be given back.
	Kernel
	// Cache can be given back at any time and does not count.
	Cache
	// Buffers is cache of block devices; it does not count.
	Buffers
	usageKinds
)

// Accountant watches over the guest's memory, whose size is the mem= option. Host memory is only taken when a program
// touches it, and the kernel does not see that; so the use is polled, the more often the less is left. The guest can be
// over the limit for one interval: headroom at the last poll, divided by dirtyRate and the number of CPUs, bounds it.
//
// To measure is dear. But memory is not touched without CPU time: as long as that which guest and kernel have had
// since the last measurement cannot have used up half of the headroom of then, it is not repeated.
type Accountant struct {
	total atomic.Uint64
	rate  uint64 // immutable
	// kernelTime is the CPU time of the kernel, which touches memory for its callers. Immutable.
	kernelTime func() int64

	// mode and ratio are vm.overcommit_memory and vm.overcommit_ratio; committed is private writable memory at the last poll.
	mode, ratio atomic.Int32
	committed   atomic.Uint64
	swap        atomic.Uint64

	mu      sync.Mutex
	spaces  map[*MM]int64 // and their CPU time at the last measurement
	sources [usageKinds][]func() uint64

	// pollMu serialises polls and guards what follows. It is taken before mu.
	pollMu   sync.Mutex
	last     MemInfo
	lastAt   int64
	lastTime int64 // of the kernel
}

// NewAccountant makes an Accountant for total bytes and ncpu CPUs. kernelTime is the CPU time of the kernel in
// nanoseconds; it may be nil.
func NewAccountant(total uint64, ncpu int, kernelTime func() int64) *Accountant {
	if kernelTime == nil {
		kernelTime = func() int64 { return 0 }
	}
	a := &Accountant{rate: dirtyRate * uint64(max(ncpu, 1)), kernelTime: kernelTime, spaces: map[*MM]int64{}}
	a.SetTotal(total)
	a.ratio.Store(50)
	return a
}

// AddSource adds something that uses memory outside of address spaces. f is called at each poll and must be quick.
func (a *Accountant) AddSource(k UsageKind, f func() uint64) {
	a.mu.Lock()
	a.sources[k] = append(a.sources[k], f)
	a.mu.Unlock()
}

func (a *Accountant) add(m *MM) {
	if a != nil {
		a.mu.Lock()
		a.spaces[m] = 0
		a.mu.Unlock()
	}
}

func (a *Accountant) remove(m *MM) {
	if a != nil {
		a.mu.Lock()
		delete(a.spaces, m)
		a.mu.Unlock()
	}
}

// Total is the size of memory.
func (a *Accountant) Total() uint64 { return a.total.Load() }

// SetTotal changes it.
func (a *Accountant) SetTotal(n uint64) { a.total.Store(abi.PageDown(n)) }

// SetOvercommit sets vm.overcommit_memory (0 to 2) and vm.overcommit_ratio (percent).
func (a *Accountant) SetOvercommit(mode, ratio int) {
	a.mode.Store(int32(mode))
	a.ratio.Store(int32(ratio))
}

// Overcommit is what SetOvercommit set.
func (a *Accountant) Overcommit() (mode, ratio int) { return int(a.mode.Load()), int(a.ratio.Load()) }

// SetSwap sets how much swap there is, for the commit limit.
func (a *Accountant) SetSwap(n uint64) { a.swap.Store(n) }

// commitLimit is how much may be committed under overcommit_memory=2.
func (a *Accountant) commitLimit() uint64 {
	return a.Total()*uint64(a.ratio.Load())/100 + a.swap.Load()
}

// mayCommit checks a new private writable mapping of n bytes: ENOMEM. Only calls that reach the kernel are checked.
func (a *Accountant) mayCommit(n uint64, noReserve bool) error {
	if a == nil {
		return nil
	}
	switch a.mode.Load() {
	case 0:
		if !noReserve && n > a.Total()+a.swap.Load() {
			return unix.ENOMEM
		}
	case 2:
		if c := a.committed.Add(n); c > a.commitLimit() {
			a.committed.Add(-n)
			return unix.ENOMEM
		}
	}
	return nil
}

// MemInfo are the figures of /proc/meminfo, in bytes.
type MemInfo struct {
	Total, Free, Available                 uint64
	Buffers, Cached, Shmem, Anon, Mapped   uint64
	Kernel, CommitLimit, Committed, Locked uint64
	// Used is what counts against Total.
	Used uint64
}

// Report is the result of a poll.
type Report struct {
	// Over is how many bytes are used beyond the limit, 0 if it is kept.
	Over uint64
	// Next is when to poll again.
	Next time.Duration
}

// Poll finds out whether the guest keeps within its memory.
func (a *Accountant) Poll() Report {
	a.pollMu.Lock()
	defer a.pollMu.Unlock()
	if left, ok := a.estimate(); ok {
		return Report{Next: a.interval(left)}
	}
	spaces := a.measure()
	used, total := a.last.Used, a.Total()
	if used > total {
		used = a.confirm(spaces)
	}
	if used > total {
		return Report{Over: used - total, Next: pollMin}
	}
	return Report{Next: a.interval(total - used)}
}

// estimate is the least headroom that there can be, if that is enough to need no measurement.
func (a *Accountant) estimate() (left uint64, ok bool) {
	if total := a.Total(); a.lastAt == 0 || a.last.Used >= total {
		return 0, false
	} else {
		left = total - a.last.Used
	}
	enough := left / 2
	ran := a.kernelTime() - a.lastTime
	a.mu.Lock()
	for m, before := range a.spaces {
		ran += max(m.as.CPUTime()-before, 0)
	}
	sources := a.sources
	a.mu.Unlock()
	now := sum(sources[Shmem]) + sum(sources[Kernel])
	const most = 1 << 40 // no overflow, and more than enough
	taken := uint64(min(max(ran, 0), most))*(dirtyRate/1_000_000)/1000 + now - min(now, a.last.Shmem+a.last.Kernel)
	return left - min(left, taken), taken < enough
}

// interval is how long a guest needs to use up headroom, within bounds.
func (a *Accountant) interval(headroom uint64) time.Duration {
	ms := headroom / (a.rate / 1000)
	return min(max(time.Duration(min(ms, 1<<20))*time.Millisecond, pollMin), pollMax)
}

// measure fills last. It counts pages that forked processes share once for each.
func (a *Accountant) measure() []platform.AddressSpace {
	a.lastTime = a.kernelTime()
	a.mu.Lock()
	spaces := make([]platform.AddressSpace, 0, len(a.spaces))
	for m := range a.spaces {
		spaces = append(spaces, m.as)
		a.spaces[m] = m.as.CPUTime()
	}
	sources := a.sources
	a.mu.Unlock()

	var i MemInfo
	for _, as := range spaces {
		u, err := as.Usage()
		if err != nil {
			continue // it has ended
		}
		i.Anon += u.Anon
		i.Mapped += u.File + u.Shmem
		i.Committed += u.Data + u.Stack
		i.Locked += u.Locked
	}
	i.Shmem, i.Kernel, i.Buffers = sum(sources[Shmem]), sum(sources[Kernel]), sum(sources[Buffers])
	i.Cached = sum(sources[Cache]) + i.Shmem
	i.Committed += i.Shmem
	i.Used = i.Anon + i.Shmem + i.Kernel
	a.last, a.lastAt = i, ktime.Monotonic()
	a.committed.Store(i.Committed)
	return spaces
}

// sum adds up sources.
func sum(sources []func() uint64) (n uint64) {
	for _, f := range sources {
		n += f()
	}
	return n
}

// confirm measures again with shared pages counted once, and returns the use.
func (a *Accountant) confirm(spaces []platform.AddressSpace) uint64 {
	var anon uint64
	for _, as := range spaces {
		n, err := as.AnonPSS()
		if err == unix.ENOSYS {
			return a.last.Used
		}
		anon += n
	}
	a.last.Used -= a.last.Anon
	a.last.Anon = anon
	a.last.Used += anon
	return a.last.Used
}

// Info are the figures of /proc/meminfo now.
func (a *Accountant) Info() MemInfo {
	a.pollMu.Lock()
	defer a.pollMu.Unlock()
	if a.lastAt == 0 || ktime.Monotonic()-a.lastAt > infoAge {
		if spaces := a.measure(); a.last.Used > a.Total() {
			a.confirm(spaces)
		}
	}
	i := a.last
	i.Total, i.CommitLimit = a.Total(), a.commitLimit()
	i.Available = i.Total - min(i.Total, i.Used)
	reclaimable := i.Cached - i.Shmem + i.Buffers
	i.Free = i.Available - min(i.Available, reclaimable)
	// Caches beyond what is left are the host's, not the guest's.
	if over := reclaimable - min(reclaimable, i.Available); over > 0 {
		cut := min(over, i.Buffers)
		i.Buffers -= cut
		i.Cached -= over - cut
	}
	return i
}

// Candidate is a process that the OOM killer may choose.
type Candidate struct {
	// RSS is its resident memory and swap, in bytes; Adj its oom_score_adj, -1000 to 1000.
	RSS uint64
	Adj int
	// Immune: init, or it is already dying.
	Immune bool
}

// OOMScoreAdjMin is the oom_score_adj that protects a process.
const OOMScoreAdjMin = -1000

// badness is how much would be gained by killing c, in pages; ok is false if it must not be killed.
func (c *Candidate) badness(total uint64) (points int64, ok bool) {
	if c.Immune || c.Adj <= OOMScoreAdjMin {
		return 0, false
	}
	return int64(c.RSS/abi.PageSize) + int64(c.Adj)*int64(total/abi.PageSize)/1000, true
}

// PickVictim is the index of the process to kill, -1 if there is none. Of equals the first is chosen.
func PickVictim(cs []Candidate, total uint64) int {
	best, at := int64(0), -1
	for i := range cs {
		if p, ok := cs[i].badness(total); ok && (at < 0 || p > best) {
			best, at = p, i
		}
	}
	return at
}

// OOMScore is /proc/<pid>/oom_score: 0 to 1333 (2/3 of the badness in thousandths of memory, shifted by 1000).
func OOMScore(c Candidate, total uint64) int {
	p, ok := c.badness(total)
	if !ok {
		return 0
	}
	return int(max(0, (1000+p*1000/max(1, int64(total/abi.PageSize)))*2/3))
}
