package skas

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// Mode chooses the backend, as the seccomp= option does.
type Mode uint8

const (
	// Auto takes seccomp notifications if the host has them, else ptrace alone.
	Auto Mode = iota
	// On insists on seccomp, Off on ptrace alone.
	On
	Off
)

// Config of a Platform.
type Config struct {
	// Lanes is how each system call is to arrive, by number. A Native entry for a call that the filter has no argument
	// rule for is the same as Trace (NativeNotify: Notify).
	Lanes [512]platform.Lane
	// NCPU is how many guest threads may run at once; 0 is the number of host CPUs.
	NCPU int
	// Shards is how many tracer threads serve the stubs; 0 is NCPU.
	Shards int
	// Seccomp is the seccomp= option, NoSysemu the nosysemu option.
	Seccomp  Mode
	NoSysemu bool
	// Logf prints the start-up checks. nil is silent.
	Logf func(format string, args ...any)
}

// Platform implements platform.Platform.
type Platform struct {
	cfg     Config
	handler platform.Handler
	shards  []*shard
	cpus    []int // of the host, that guests run on
	vdso    platform.VDSO
	threads threadTable
	monitor monitor
	idle    idle
	closing atomic.Bool
	frozen  atomic.Bool
	// xstateSize is the size of the host's XSAVE area, 0 as long as it is not known.
	xstateSize atomic.Int32
	caps       *Capabilities
	filter     []unix.SockFilter

	ops     []byte // the stubs' stubOps and clock page, here writable
	opsFree chan int
	offset  atomic.Int64 // of the guest's real time

	slotMu sync.Mutex
	slots  []int // free futexSlots

	hostBrk bool

	// mostThreads is how many threads guests may have in all.
	mostThreads int64
	crowd       sync.Once // tells that they have them

	fileMu sync.Mutex // orders installation of host files
}

var _ platform.Platform = (*Platform)(nil)

// New starts the platform: one zygote for each shard.
func New(cfg Config, h platform.Handler) (*Platform, error) {
	if cfg.NCPU <= 0 {
		cfg.NCPU = runtime.NumCPU()
	}
	if cfg.Shards <= 0 {
		cfg.Shards = cfg.NCPU
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	p := &Platform{cfg: cfg, handler: h, cpus: hostCPUs(cfg.NCPU)}
	caps, err := Probe(&cfg)
	if err != nil {
		return nil, err
	}
	p.caps = caps
	p.mostThreads = mostThreads()
	p.hostBrk = hostBrk()
	p.filter = buildFilter(&cfg.Lanes, p.hostBrk)
	// Every shard may have a thread in wait4 and one in NOTIF_RECV.
	if n := 2*cfg.Shards + 2; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	setNoCldStop()
	rw, ro, err := newMemfd("uml-ops")
	if err != nil {
		return nil, fmt.Errorf("skas: memfd_create: %w", err)
	}
	defer unix.Close(rw)
	defer unix.Close(ro)
	if err := unix.Ftruncate(rw, stubMemSize); err != nil {
		return nil, err
	}
	p.ops, err = unix.Mmap(rw, 0, stubMemSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	p.opsFree = make(chan int, stubOpsSize/opsSlotSize)
	for i := range cap(p.opsFree) {
		p.opsFree <- i
	}
	for i := range futexSlots {
		p.slots = append(p.slots, i)
	}
	p.monitor.init(p)
	var filter []unix.SockFilter // what the stubs get
	if caps.seccomp {
		filter = p.filter
	}
	for i := range cfg.Shards {
		s, err := startShard(p, i, ro, filter)
		if err != nil {
			p.Close()
			return nil, hostRefuses(err, os.ReadFile)
		}
		p.shards = append(p.shards, s)
	}
	if fam := p.shards[0].fam; fam.listener >= 0 && !fam.killable() {
		cfg.Logf("skas: the host lets signals interrupt calls that are being served (before Linux 5.19)\n")
	}
	for _, s := range p.shards {
		if s.fam.listener >= 0 {
			s.lead.start(s)
		}
	}
	if page := p.clockPage(); page != nil {
		copy(p.ops[stubClock-stubOps:], page)
		p.vdso = platform.VDSO{Addr: stubImage, Image: vdsoImage()}
	}
	return p, nil
}

// yamaScope says who may trace whom (Documentation/admin-guide/LSM/Yama.rst): 0 and 1 let a process trace its descendants, 2 only
// with CAP_SYS_PTRACE, 3 never, until the host is booted again.
const yamaScope = "/proc/sys/kernel/yama/ptrace_scope"

// hostRefuses explains what to do about an error of starting stubs. read is os.ReadFile.
func hostRefuses(err error, read func(name string) ([]byte, error)) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EAGAIN):
		hint = "; the limit of processes may be too low (ulimit -u)"
	case errors.Is(err, unix.EMFILE):
		hint = "; the limit of open files is too low (ulimit -n)"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		hint = "; the host must allow ptrace (in containers: --cap-add=SYS_PTRACE or a seccomp profile that permits it)"
		switch b, _ := read(yamaScope); strings.TrimSpace(string(b)) {
		case "2":
			hint = "; kernel.yama.ptrace_scope is 2: set it to 1 or 0 (sysctl kernel.yama.ptrace_scope=1), or start linux with CAP_SYS_PTRACE"
		case "3":
			hint = "; kernel.yama.ptrace_scope is 3: nothing can be traced until the host is booted with another setting"
		}
	}
	return fmt.Errorf("skas: %w%s", err, hint)
}

// NumCPU implements platform.Platform.
func (p *Platform) NumCPU() int { return p.cfg.NCPU }

// UserMax implements platform.Platform.
func (p *Platform) UserMax() uint64 { return userMax }

// VDSO implements platform.Platform.
func (p *Platform) VDSO() platform.VDSO { return p.vdso }

// HostBrk implements platform.Platform.
func (p *Platform) HostBrk() bool { return p.hostBrk }

// Describe implements platform.Platform.
func (p *Platform) Describe() string {
	return fmt.Sprintf("skas: %s, %d shard(s), %d CPU(s)", p.caps.backend(), len(p.shards), p.cfg.NCPU)
}

// CPUTime implements platform.Platform.
func (p *Platform) CPUTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return ts.Nano()
}

// NewProcess implements platform.Platform.
func (p *Platform) NewProcess(data any) (platform.Thread, error) {
	if p.closing.Load() {
		return nil, unix.ESRCH
	}
	best := p.shards[0]
	for _, s := range p.shards[1:] {
		if s.threads.Load() < best.threads.Load() {
			best = s
		}
	}
	t, err := best.newProcess(data)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close implements platform.Platform.
func (p *Platform) Close() {
	if p.closing.Swap(true) {
		return
	}
	for _, s := range p.shards {
		s.close()
	}
	p.monitor.close()
	_ = unix.Munmap(p.ops)
}

// threadTable finds threads by host thread id without a lock.
type threadTable struct {
	top [1 << 12]atomic.Pointer[threadRow]

	mu  sync.Mutex
	all map[*Thread]struct{}
}

type threadRow struct {
	slots [1 << 10]atomic.Pointer[Thread]
	n     int // guarded by threadTable.mu
}

// get is the thread with a tid (less than 2^22, PID_MAX_LIMIT).
func (tt *threadTable) get(tid int) *Thread {
	if r := tt.top[tid>>10&0xfff].Load(); r != nil {
		return r.slots[tid&0x3ff].Load()
	}
	return nil
}

func (tt *threadTable) add(t *Thread) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	if tt.all == nil {
		tt.all = map[*Thread]struct{}{}
	}
	tt.all[t] = struct{}{}
	top := &tt.top[t.tid>>10&0xfff]
	r := top.Load()
	if r == nil {
		r = new(threadRow)
		top.Store(r)
	}
	if r.slots[t.tid&0x3ff].Swap(t) == nil {
		r.n++
	}
}

func (tt *threadTable) remove(t *Thread) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	delete(tt.all, t)
	top := &tt.top[t.tid>>10&0xfff]
	if r := top.Load(); r != nil && r.slots[t.tid&0x3ff].CompareAndSwap(t, nil) {
		if r.n--; r.n == 0 {
			top.Store(nil)
		}
	}
}

// list is all threads.
func (tt *threadTable) list() []*Thread {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return slices.Collect(maps.Keys(tt.all))
}

// each calls f for all threads.
func (tt *threadTable) each(f func(*Thread)) {
	for _, t := range tt.list() {
		f(t)
	}
}
