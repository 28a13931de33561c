package procfs

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// constant is the show function of a text that is the same for all processes.
func constant(s string) func(*node, vfs.Caller, *bytes.Buffer) error {
	return func(p *node, _ vfs.Caller, w *bytes.Buffer) error {
		w.WriteString(s)
		return nil
	}
}

// tick is a clock tick (USER_HZ) in nanoseconds.
const tick = 1e7

// encodeDev is a device number as tty_nr has it (new_encode_dev).
func encodeDev(d uint64) uint32 {
	major, minor := unix.Major(d), unix.Minor(d)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// statInfo is what /proc/<pid>/stat tells.
type statInfo struct {
	pid                           int32
	comm                          string
	state                         byte
	ppid, pgrp, session           int32
	tty                           uint32
	tpgid                         int32
	minflt, cminflt               int64
	majflt, cmajflt               int64
	utime, stime, cutime, cstime  int64 // ns
	nice, threads                 int
	start                         int64 // ns
	vsize, rss, rsslim            uint64
	layout                        mm.Layout
	brk                           uint64
	pending, blocked, ignored     uint64
	caught                        uint64
	exitSignal, cpu, policy, prio int
	exitCode                      int
	mayRead                       bool
}

// formatStat appends the line of /proc/<pid>/stat, 52 fields (proc_pid_stat(5)).
func formatStat(b []byte, s *statInfo) []byte {
	num := func(v int64) {
		b = append(b, ' ')
		b = strconv.AppendInt(b, v, 10)
	}
	unum := func(v uint64) {
		b = append(b, ' ')
		b = strconv.AppendUint(b, v, 10)
	}
	l := s.layout
	if !s.mayRead {
		l = mm.Layout{}
		s.brk, s.exitCode = 0, 0
		if s.rss != 0 {
			l.StartCode, l.EndCode = 1, 1
		}
	}
	b = strconv.AppendInt(b, int64(s.pid), 10)
	b = append(b, " ("...)
	b = append(b, s.comm...)
	b = append(b, ") "...)
	b = append(b, s.state)
	for _, v := range [...]int32{s.ppid, s.pgrp, s.session} {
		num(int64(v))
	}
	num(int64(s.tty))
	num(int64(s.tpgid))
	unum(0x400000) // flags: PF_RANDOMIZE
	for _, v := range [...]int64{s.minflt, s.cminflt, s.majflt, s.cmajflt,
		s.utime / tick, s.stime / tick, s.cutime / tick, s.cstime / tick} {
		num(v)
	}
	if s.prio > 0 {
		num(int64(-1 - s.prio))
	} else {
		num(int64(20 + s.nice))
	}
	num(int64(s.nice))
	num(int64(s.threads))
	num(0) // itrealvalue
	num(s.start / tick)
	unum(s.vsize)
	unum(s.rss / abi.PageSize)
	unum(s.rsslim)
	unum(l.StartCode)
	unum(l.EndCode)
	unum(l.StartStack)
	unum(0) // kstkesp
	unum(0) // kstkeip
	// The signal fields have only 31 bits each; status has all.
	for _, m := range [...]uint64{s.pending, s.blocked, s.ignored, s.caught} {
		unum(m & 0x7fffffff)
	}
	unum(0) // wchan
	unum(0) // nswap
	unum(0) // cnswap
	num(int64(s.exitSignal))
	num(int64(s.cpu))
	num(int64(s.prio))
	num(int64(s.policy))
	unum(0) // delayacct_blkio_ticks
	unum(0) // guest_time
	num(0)  // cguest_time
	for _, v := range [...]uint64{l.StartData, l.EndData, s.brk, l.ArgStart, l.ArgEnd, l.EnvStart, l.EnvEnd} {
		unum(v)
	}
	num(int64(s.exitCode))
	return append(b, '\n')
}

func showStat(p *node, c vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	g := p.g
	s := statInfo{
		pid: t.TID(), comm: escapeComm(t.Comm()), state: p.state(t),
		ppid: g.PPID(), pgrp: g.PgrpID(), session: g.SessionID(),
		tty: encodeDev(g.TTYNr()), tpgid: g.ForegroundPgrp(),
		nice: t.Nice(), threads: len(g.Threads()), start: t.StartTime(),
		rsslim:     g.Rlimit(unix.RLIMIT_RSS).Cur,
		exitSignal: int(unix.SIGCHLD), policy: int(t.Sched().Policy), prio: int(t.Sched().Priority),
	}
	if p.t == nil {
		self, children := g.Rusage()
		s.minflt, s.majflt, s.cminflt, s.cmajflt = self.Minflt, self.Majflt, children.Minflt, children.Majflt
		s.utime, s.stime = self.Utime.Nano(), self.Stime.Nano()
		s.cutime, s.cstime = children.Utime.Nano(), children.Stime.Nano()
	} else {
		r := t.Rusage()
		s.minflt, s.majflt, s.utime, s.stime = r.Minflt, r.Majflt, r.Utime.Nano(), r.Stime.Nano()
	}
	var shared uint64
	s.pending, shared, s.blocked, s.ignored, s.caught = t.SigMasks()
	s.pending |= shared
	if m, err := p.mm(c); err == nil && m != nil {
		s.layout = m.Layout()
		s.brk = m.StartBrk()
		if u, err := m.AddressSpace().Usage(); err == nil {
			s.vsize, s.rss = u.VM, u.RSS
		}
		s.cpu = t.Thread().CPU()
		m.Put()
	}
	s.mayRead = mayTrace(c, t) == nil // after a look at the memory, see Task.CanPtrace
	w.Write(formatStat(w.AvailableBuffer(), &s))
	return nil
}

// state is the letter of the process: a leader that has ended while other threads go on is a zombie, too.
func (p *node) state(t *task.Task) byte { return t.State() }

// escapeComm keeps a name in one line, as the kernel's string_escape_str does in proc.
func escapeComm(s string) string {
	if !strings.ContainsAny(s, "\n\\") {
		return s
	}
	return strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(s)
}

var stateNames = map[byte]string{
	'R': "R (running)", 'S': "S (sleeping)", 'D': "D (disk sleep)", 'T': "T (stopped)", 't': "t (tracing stop)",
	'Z': "Z (zombie)", 'X': "X (dead)", 'I': "I (idle)",
}

// statusInfo is what /proc/<pid>/status tells.
type statusInfo struct {
	comm                              string
	umask                             uint32
	hasFS                             bool
	state                             byte
	tgid, pid, ppid, tracer           int32
	pgrp, session                     int32
	cred                              *cred.Cred
	fdSize                            int
	hasMM                             bool
	usage                             platform.Usage
	sizes                             mm.Sizes
	threads                           int
	sigQueued, sigLimit               uint64
	pending, shared, blocked, ignored uint64
	caught                            uint64
	noNewPrivs                        bool
	seccomp, filters                  int
	cpus                              uint64
	switches, preempted               int64
}

// formatStatus writes /proc/<pid>/status (proc_pid_status(5)).
func formatStatus(w *bytes.Buffer, s *statusInfo) {
	line := func(name string, format string, args ...any) {
		w.WriteString(name)
		w.WriteString(":\t")
		fmt.Fprintf(w, format, args...)
		w.WriteByte('\n')
	}
	line("Name", "%s", s.comm)
	if s.hasFS {
		line("Umask", "%04o", s.umask)
	}
	line("State", "%s", stateNames[s.state])
	line("Tgid", "%d", s.tgid)
	line("Ngid", "0")
	line("Pid", "%d", s.pid)
	line("PPid", "%d", s.ppid)
	line("TracerPid", "%d", s.tracer)
	c := s.cred
	line("Uid", "%d\t%d\t%d\t%d", c.UID, c.EUID, c.SUID, c.FSUID)
	line("Gid", "%d\t%d\t%d\t%d", c.GID, c.EGID, c.SGID, c.FSGID)
	line("FDSize", "%d", s.fdSize)
	w.WriteString("Groups:\t")
	for _, g := range c.Groups {
		fmt.Fprintf(w, "%d ", g)
	}
	if len(c.Groups) == 0 {
		w.WriteByte(' ')
	}
	w.WriteByte('\n')
	line("NStgid", "%d", s.tgid)
	line("NSpid", "%d", s.pid)
	line("NSpgid", "%d", s.pgrp)
	line("NSsid", "%d", s.session)
	line("Kthread", "0")
	if s.hasMM {
		kb := func(name string, n uint64) { line(name, "%8d kB", n/1024) }
		u := s.usage
		kb("VmPeak", max(u.PeakVM, u.VM))
		kb("VmSize", u.VM)
		kb("VmLck", s.sizes.Locked)
		kb("VmPin", 0)
		kb("VmHWM", max(u.PeakRSS, u.RSS))
		kb("VmRSS", u.RSS)
		kb("RssAnon", u.Anon)
		kb("RssFile", u.File)
		kb("RssShmem", u.Shmem)
		kb("VmData", s.sizes.Data)
		kb("VmStk", s.sizes.Stack)
		kb("VmExe", s.sizes.Text)
		kb("VmLib", s.sizes.Lib)
		kb("VmPTE", pageTables(u.VM))
		kb("VmSwap", 0)
		kb("HugetlbPages", 0)
		line("CoreDumping", "0")
		line("THP_enabled", "1")
		line("untag_mask", "0xffffffffffffffff")
	}
	line("Threads", "%d", s.threads)
	line("SigQ", "%d/%d", s.sigQueued, s.sigLimit)
	for _, m := range [...]struct {
		name string
		set  uint64
	}{
		{"SigPnd", s.pending}, {"ShdPnd", s.shared}, {"SigBlk", s.blocked}, {"SigIgn", s.ignored}, {"SigCgt", s.caught},
		{"CapInh", uint64(c.Inheritable)}, {"CapPrm", uint64(c.Permitted)}, {"CapEff", uint64(c.Effective)},
		{"CapBnd", uint64(c.Bounding)}, {"CapAmb", uint64(c.Ambient)},
	} {
		line(m.name, "%016x", m.set)
	}
	line("NoNewPrivs", "%d", bit(s.noNewPrivs))
	line("Seccomp", "%d", s.seccomp)
	line("Seccomp_filters", "%d", s.filters)
	line("Speculation_Store_Bypass", "vulnerable")
	line("SpeculationIndirectBranch", "conditional enabled")
	line("Cpus_allowed", "%s", cpuMask(s.cpus))
	line("Cpus_allowed_list", "%s", cpuList(s.cpus))
	line("Mems_allowed", "1")
	line("Mems_allowed_list", "0")
	line("voluntary_ctxt_switches", "%d", s.switches)
	line("nonvoluntary_ctxt_switches", "%d", s.preempted)
}

// pageTables estimates the size of the page tables of an address space, which are the host's.
func pageTables(vm uint64) uint64 { return (vm/(2<<20) + 4) * abi.PageSize }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// cpuMask is a set of CPUs as a bitmap: one hexadecimal number for up to 32, else words with commas.
func cpuMask(m uint64) string {
	if m>>32 != 0 {
		return fmt.Sprintf("%x,%08x", m>>32, uint32(m))
	}
	return strconv.FormatUint(m, 16)
}

// cpuList is a set of CPUs as a list of ranges, "0-3,6".
func cpuList(m uint64) string {
	var b []byte
	for m != 0 {
		lo := bits.TrailingZeros64(m)
		n := bits.TrailingZeros64(^(m >> lo))
		if b != nil {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(lo), 10)
		if n > 1 {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(lo+n-1), 10)
		}
		if lo+n >= 64 {
			break
		}
		m &^= (1<<n - 1) << lo
	}
	return string(b)
}

func showStatus(p *node, c vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	g := p.g
	self := t.Rusage()
	s := statusInfo{
		comm: escapeComm(t.Comm()), state: p.state(t), tgid: g.PID(), pid: t.TID(), ppid: g.PPID(),
		pgrp: g.PgrpID(), session: g.SessionID(), cred: t.Cred(), fdSize: 64, threads: len(g.Threads()),
		sigLimit: g.Rlimit(rlimitSigpending).Cur, noNewPrivs: t.NoNewPrivs(), seccomp: t.SeccompMode(), filters: t.SeccompFilters(), cpus: t.Affinity(),
		switches: self.Nvcsw, preempted: self.Nivcsw,
	}
	s.pending, s.shared, s.blocked, s.ignored, s.caught = t.SigMasks()
	s.sigQueued = uint64(bits.OnesCount64(s.pending) + bits.OnesCount64(s.shared))
	if fds := t.Files(); fds != nil {
		s.hasFS, s.umask = true, t.FS().Umask()
		last := int32(0)
		fds.Range(func(fd int32, _ *vfs.File, _ bool) bool { last = fd; return true })
		s.fdSize = max(64, 1<<bits.Len32(uint32(last)))
	}
	m, err := p.mm(c)
	if err != nil {
		return err
	}
	if m != nil {
		s.hasMM = true
		s.usage, _ = m.AddressSpace().Usage()
		s.sizes, _ = m.Sizes()
		m.Put()
	}
	formatStatus(w, &s)
	return nil
}

func showStatm(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil {
		return err
	}
	var u platform.Usage
	var s mm.Sizes
	if m != nil {
		u, _ = m.AddressSpace().Usage()
		s, _ = m.Sizes()
		m.Put()
	}
	const pg = abi.PageSize
	fmt.Fprintf(w, "%d %d %d %d 0 %d 0\n", u.VM/pg, u.RSS/pg, (u.File+u.Shmem)/pg, (s.Text+pg-1)/pg, (s.Data+s.Stack)/pg)
	return nil
}

func showComm(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	w.WriteString(t.Comm())
	w.WriteByte('\n')
	return nil
}

// storeComm sets the name of a thread; only threads of the same process may.
func storeComm(p *node, c vfs.Caller, b []byte) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	if me, ok := c.(*task.Task); !ok || me.Group != t.Group {
		return unix.EINVAL
	}
	if i := bytes.IndexAny(b, "\x00\n"); i >= 0 {
		b = b[:i]
	}
	t.SetComm(string(b))
	return nil
}

func showPersonality(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%08x\n", t.Personality())
	return nil
}

func showSyscall(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	nr, a, ok := t.LastSyscall()
	if !ok {
		w.WriteString("running\n")
		return nil
	}
	fmt.Fprintf(w, "%d", nr)
	for _, v := range a {
		fmt.Fprintf(w, " %#x", v)
	}
	w.WriteString(" 0x0 0x0\n") // stack pointer and instruction are known only while the thread is held
	return nil
}

// rlimitSigpending and the others that x/sys/unix does not name (asm-generic/resource.h).
const (
	rlimitLocks      = 10
	rlimitSigpending = 11
	rlimitMsgqueue   = 12
	rlimitNice       = 13
	rlimitRtprio     = 14
	rlimitRttime     = 15
)

var limitNames = []struct {
	res        int
	name, unit string
}{
	{unix.RLIMIT_CPU, "Max cpu time", "seconds"},
	{unix.RLIMIT_FSIZE, "Max file size", "bytes"},
	{unix.RLIMIT_DATA, "Max data size", "bytes"},
	{unix.RLIMIT_STACK, "Max stack size", "bytes"},
	{unix.RLIMIT_CORE, "Max core file size", "bytes"},
	{unix.RLIMIT_RSS, "Max resident set", "bytes"},
	{unix.RLIMIT_NPROC, "Max processes", "processes"},
	{unix.RLIMIT_NOFILE, "Max open files", "files"},
	{unix.RLIMIT_MEMLOCK, "Max locked memory", "bytes"},
	{unix.RLIMIT_AS, "Max address space", "bytes"},
	{rlimitLocks, "Max file locks", "locks"},
	{rlimitSigpending, "Max pending signals", "signals"},
	{rlimitMsgqueue, "Max msgqueue size", "bytes"},
	{rlimitNice, "Max nice priority", ""},
	{rlimitRtprio, "Max realtime priority", ""},
	{rlimitRttime, "Max realtime timeout", "us"},
}

// formatLimits writes /proc/<pid>/limits.
func formatLimits(w *bytes.Buffer, limit func(res int) unix.Rlimit) {
	text := func(v uint64) string {
		if v == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return strconv.FormatUint(v, 10)
	}
	fmt.Fprintf(w, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	for _, l := range limitNames {
		r := limit(l.res)
		fmt.Fprintf(w, "%-25s %-20s %-20s ", l.name, text(r.Cur), text(r.Max))
		if l.unit != "" {
			fmt.Fprintf(w, "%-10s", l.unit)
		}
		w.WriteByte('\n')
	}
}

func showLimits(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	if _, err := p.task(); err != nil {
		return err
	}
	formatLimits(w, p.g.Rlimit)
	return nil
}

// showIO has the names of /proc/<pid>/io; the kernel does not count bytes by process.
func showIO(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	for _, name := range []string{
		"rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes",
	} {
		fmt.Fprintf(w, "%s: 0\n", name)
	}
	return nil
}

// showChildren is task/<tid>/children. Children belong to the process here, so the leader has them all.
func showChildren(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	if p.t != p.g.Leader() {
		return nil
	}
	for _, g := range p.fs.k.Groups() {
		if g.PPID() == p.g.PID() {
			fmt.Fprintf(w, "%d ", g.PID())
		}
	}
	return nil
}

// oomScore is the badness that the OOM killer uses, scaled as Linux shows it: 666 for an adjustment of 0 and no memory.
func oomScore(rss, total uint64, adj int32) int64 {
	if total == 0 || adj == -1000 {
		return 0
	}
	badness := int64(rss/abi.PageSize) + int64(adj)*int64(total/abi.PageSize)/1000
	return max((1000+badness*1000/int64(total/abi.PageSize))*2/3, 0)
}

func showOOMScore(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil {
		return err
	}
	var u platform.Usage
	if m != nil {
		u, _ = m.AddressSpace().Usage()
		m.Put()
	}
	fmt.Fprintf(w, "%d\n", oomScore(u.RSS, system.MemoryNow().Total, p.g.OOMScoreAdj()))
	return nil
}

func showOOMScoreAdj(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	if _, err := p.task(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d\n", p.g.OOMScoreAdj())
	return nil
}

// storeOOMScoreAdj sets the adjustment; lowering it needs CAP_SYS_RESOURCE.
func storeOOMScoreAdj(p *node, c vfs.Caller, b []byte) error {
	v, err := pseudo.ParseInt(b, -1000, 1000)
	if err != nil {
		return err
	}
	return p.setOOMAdj(c, int32(v))
}

func (p *node) setOOMAdj(c vfs.Caller, v int32) error {
	if _, err := p.task(); err != nil {
		return err
	}
	if v < p.g.OOMScoreAdj() && !c.Cred().Capable(unix.CAP_SYS_RESOURCE) {
		return unix.EACCES
	}
	p.g.SetOOMScoreAdj(v)
	return nil
}

// oom_adj is the older scale, -17 (never) to 15.
func showOOMAdj(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	adj := p.g.OOMScoreAdj()
	v := adj * 17 / 1000
	if adj == 1000 {
		v = 15
	}
	fmt.Fprintf(w, "%d\n", min(v, 15))
	return nil
}

func storeOOMAdj(p *node, c vfs.Caller, b []byte) error {
	v, err := pseudo.ParseInt(b, -17, 15)
	if err != nil {
		return err
	}
	adj := int32(v) * 1000 / 17
	if v == 15 {
		adj = 1000
	}
	return p.setOOMAdj(c, adj)
}
