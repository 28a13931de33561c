package procfs

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// addGlobal adds the files at the top that are about the whole guest.
func (fs *FS) addGlobal() {
	d := fs.root
	text := func(name string, show func(w *bytes.Buffer)) {
		d.AddFile(name, 0o444, func(_ vfs.Caller, w *bytes.Buffer) error { show(w); return nil }, nil)
	}
	d.Add("self", pseudo.NewSymlink(fs.FS, func(c vfs.Caller) (string, error) {
		return fmt.Sprint(c.PID()), nil
	}))
	d.Add("thread-self", pseudo.NewSymlink(fs.FS, func(c vfs.Caller) (string, error) {
		if t, ok := c.(*task.Task); ok {
			return fmt.Sprintf("%d/task/%d", t.PID(), t.TID()), nil
		}
		return "", unix.ENOENT
	}))
	d.AddLink("mounts", "self/mounts")
	d.AddLink("net", "self/net")

	d.AddText("version", fmt.Sprintf("%s version %s (uml@user-mode-linux) (%s) %s\n",
		abi.Sysname, abi.Release, runtime.Version(), abi.Version))
	d.AddText("cmdline", fs.cfg.Cmdline+"\n")
	text("uptime", fs.uptime)
	text("loadavg", fs.loadavg)
	text("meminfo", func(w *bytes.Buffer) { m := system.MemoryNow(); formatMeminfo(w, &m) })
	text("stat", fs.stat)
	text("cpuinfo", fs.cpuinfo)
	text("interrupts", fs.interrupts)
	text("softirqs", fs.softirqs)
	text("filesystems", filesystems)
	text("cgroups", func(w *bytes.Buffer) { showCgroups(fs.k, w) })
	text("devices", devices)
	text("misc", misc)
	text("partitions", partitions)
	text("diskstats", diskstats)
	d.Add("swaps", pseudo.NewOpenFile(fs.FS, 0o444, func(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
		// Programs poll it for changes, of which there are none.
		return &pseudo.Text{Show: pseudo.String("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"), Queue: new(wait.Queue)}, nil
	}))
	d.AddText("modules", "")
	d.AddText("kallsyms", "")
	d.AddText("dma", " 4: cascade\n")
	d.AddText("ioports", "")
	d.AddText("iomem", "")
	d.AddText("execdomains", "0-0\tLinux           \t[kernel]\n")
	text("locks", func(w *bytes.Buffer) { formatLocks(w, vfs.Locks()) })
	text("vmstat", fs.vmstat)
	text("zoneinfo", zoneinfo)
	text("buddyinfo", buddyinfo)
	d.AddFile("slabinfo", 0o400, pseudo.String("slabinfo - version: 2.1\n"+
		"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> "+
		"<batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"), nil)
	d.Add("kmsg", pseudo.NewOpenFile(fs.FS, 0o400, openKmsg))
	d.AddFile("sysrq-trigger", 0o200, nil, fs.sysrq)
	if e := fs.cfg.ExitCode; e != nil {
		d.AddFile("exitcode", 0o600, func(_ vfs.Caller, w *bytes.Buffer) error {
			fmt.Fprintf(w, "%d\n", e.Load())
			return nil
		}, func(_ vfs.Caller, p []byte) error {
			v, err := parseExitCode(p)
			if err == nil {
				e.Store(v)
			}
			return err
		})
	}
	if send := fs.cfg.Mconsole; send != nil {
		d.AddFile("mconsole", 0o200, nil, func(_ vfs.Caller, p []byte) error { send(bytes.Clone(p)); return nil })
	}
	d.Subdir("fs", 0o555)
	d.Subdir("driver", 0o555)
	tty := d.Subdir("tty", 0o555)
	tty.AddText("ldiscs", "n_tty       0\n")
	tty.Subdir("driver", 0o555)
	fs.addSysvipc(d.Subdir("sysvipc", 0o555))
}

// parseExitCode reads a number as the C function strtol with base 0 does, from the first 7 bytes; what follows it must be
// the end or white space.
func parseExitCode(p []byte) (int32, error) {
	s := string(p[:min(len(p), 7)])
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	sign, digits := int64(1), s
	if strings.HasPrefix(digits, "-") {
		sign, digits = -1, digits[1:]
	}
	base := int64(10)
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		base, digits = 16, digits[2:]
	case strings.HasPrefix(digits, "0"):
		base = 8
	}
	v, n := int64(0), 0
	for ; n < len(digits); n++ {
		d := int64(strings.IndexByte("0123456789abcdef", digits[n]|0x20))
		if digits[n] <= '9' {
			d = int64(digits[n]) - '0'
		}
		if d < 0 || d >= base {
			break
		}
		v = v*base + d
	}
	if n < len(digits) && !strings.ContainsRune(" \t\n\v\f\r", rune(digits[n])) {
		return 0, unix.EINVAL
	}
	return int32(sign * v), nil
}

// sysrq does what the first byte asks for.
func (fs *FS) sysrq(_ vfs.Caller, p []byte) error {
	if len(p) > 0 && fs.cfg.Sysrq != nil {
		fs.cfg.Sysrq(p[0])
	}
	return nil
}

// ncpu is the number of guest CPUs.
func (fs *FS) ncpu() int { return max(fs.k.Platform.NumCPU(), 1) }

// cpuTotals is the CPU time of all processes so far. It must not go back when processes vanish whose time nobody
// inherits, so the highest values seen are kept.
type cpuTotals struct {
	mu           sync.Mutex
	user, system int64 // ns
}

// cpuTimes is user, system and idle time of all CPUs in nanoseconds.
func (fs *FS) cpuTimes() (user, sys, idle int64) {
	for _, g := range fs.k.Groups() {
		u, s := g.CPUTimes()
		cu, cs := g.ChildrenCPUTimes()
		user, sys = user+u+cu, sys+s+cs
	}
	c := &fs.cpuTime
	c.mu.Lock()
	c.user, c.system = max(c.user, user), max(c.system, sys)
	user, sys = c.user, c.system
	c.mu.Unlock()
	return user, sys, max(int64(ktime.Uptime())*int64(fs.ncpu())-user-sys, 0)
}

func (fs *FS) uptime(w *bytes.Buffer) {
	_, _, idle := fs.cpuTimes()
	centi := func(ns int64) (int64, int64) { return ns / 1e9, ns % 1e9 / 1e7 }
	us, uc := centi(int64(ktime.Uptime()))
	is, ic := centi(idle)
	fmt.Fprintf(w, "%d.%02d %d.%02d\n", us, uc, is, ic)
}

func (fs *FS) loadavg(w *bytes.Buffer) {
	threads, _ := fs.k.Counts()
	l := system.LoadAverages()
	fmt.Fprintf(w, "%.2f %.2f %.2f %d/%d %d\n", l[0], l[1], l[2], fs.k.Running(), threads, fs.k.LastPID())
}

// formatMeminfo writes /proc/meminfo (proc_meminfo(5)).
func formatMeminfo(w *bytes.Buffer, m *system.Memory) {
	kb := func(name string, n uint64) { fmt.Fprintf(w, "%-16s%8d kB\n", name+":", n/1024) }
	file := m.Cached + m.Buffers - min(m.Shmem, m.Cached)
	kb("MemTotal", m.Total)
	kb("MemFree", m.Free)
	kb("MemAvailable", m.Available)
	kb("Buffers", m.Buffers)
	kb("Cached", m.Cached)
	kb("SwapCached", 0)
	kb("Active", m.Anon+file/2)
	kb("Inactive", m.Shmem+file-file/2)
	kb("Active(anon)", m.Anon)
	kb("Inactive(anon)", m.Shmem)
	kb("Active(file)", file/2)
	kb("Inactive(file)", file-file/2)
	kb("Unevictable", 0)
	kb("Mlocked", m.Locked)
	kb("SwapTotal", m.SwapTotal)
	kb("SwapFree", m.SwapFree)
	kb("Dirty", bdev.Dirty())
	kb("Writeback", 0)
	kb("AnonPages", m.Anon)
	kb("Mapped", m.Mapped)
	kb("Shmem", m.Shmem)
	kb("KReclaimable", m.Slab)
	kb("Slab", m.Slab)
	kb("SReclaimable", m.Slab)
	kb("SUnreclaim", 0)
	kb("KernelStack", 0)
	kb("PageTables", 0)
	kb("Bounce", 0)
	kb("WritebackTmp", 0)
	kb("CommitLimit", m.Limit)
	kb("Committed_AS", m.Committed)
	kb("VmallocTotal", 1<<45)
	kb("VmallocUsed", 0)
	kb("VmallocChunk", 0)
	kb("Percpu", 0)
	kb("AnonHugePages", 0)
	kb("ShmemHugePages", 0)
	kb("ShmemPmdMapped", 0)
	for _, name := range []string{"Total", "Free", "Rsvd", "Surp"} {
		fmt.Fprintf(w, "%-16s%8d\n", "HugePages_"+name+":", 0)
	}
	kb("Hugepagesize", 2<<20)
	kb("Hugetlb", 0)
}

// stat is /proc/stat (proc_stat(5)). CPU time is known by process, not by CPU; it is shown as spread evenly.
func (fs *FS) stat(w *bytes.Buffer) {
	user, sys, idle := fs.cpuTimes()
	line := func(name string, n int64) {
		fmt.Fprintf(w, "%s %d 0 %d %d 0 0 0 0 0 0\n", name, user/n/tick, sys/n/tick, idle/n/tick)
	}
	line("cpu ", 1)
	n := fs.ncpu()
	for i := range n {
		line(fmt.Sprintf("cpu%d", i), int64(n))
	}
	total := uint64(0)
	for _, i := range fs.interruptList() {
		total += i.Count
	}
	_, forks := fs.k.Counts()
	fmt.Fprintf(w, "intr %d\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked 0\n",
		total, 0, ktime.BootTime(), forks, max(fs.k.Running(), 1))
	w.WriteString("softirq 0 0 0 0 0 0 0 0 0 0 0\n")
}

// formatCPU writes the block of one CPU as User-Mode Linux does; programs know the guest by it.
func formatCPU(w *bytes.Buffer, i int, c *CPU) {
	fmt.Fprintf(w, "processor\t: %d\nvendor_id\t: User Mode Linux\nmodel name\t: UML\nmode\t\t: skas\nhost\t\t: %s\n", i, c.Host)
	fmt.Fprintf(w, "fpu\t\t: yes\nflags\t\t: %s\ncache_alignment\t: 64\nbogomips\t: %.2f\n\n", c.Flags, 2*c.MHz)
}

func (fs *FS) cpuinfo(w *bytes.Buffer) {
	for i := range fs.ncpu() {
		formatCPU(w, i, &fs.cfg.CPU)
	}
}

func (fs *FS) interruptList() []Interrupt {
	if fs.cfg.Interrupts == nil {
		return nil
	}
	return fs.cfg.Interrupts()
}

// interrupts shows the sources of events; they are not handled by a certain CPU, so the first one gets them all.
func (fs *FS) interrupts(w *bytes.Buffer) {
	w.WriteString("           ")
	n := fs.ncpu()
	for i := range n {
		fmt.Fprintf(w, "%-11s", fmt.Sprintf("CPU%d", i))
	}
	w.WriteByte('\n')
	for i, s := range fs.interruptList() {
		fmt.Fprintf(w, "%3d: %10d", i, s.Count)
		for range n - 1 {
			fmt.Fprintf(w, " %10d", 0)
		}
		fmt.Fprintf(w, "   SIGIO  %s\n", s.Name)
	}
	w.WriteString("ERR:          0\n")
}

func (fs *FS) softirqs(w *bytes.Buffer) {
	w.WriteString("                    ")
	for i := range fs.ncpu() {
		fmt.Fprintf(w, "%-11s", fmt.Sprintf("CPU%d", i))
	}
	w.WriteByte('\n')
}

func filesystems(w *bytes.Buffer) {
	for _, t := range vfs.Filesystems() {
		if !t.NeedsDev {
			w.WriteString("nodev")
		}
		fmt.Fprintf(w, "\t%s\n", t.Name)
	}
}

// formatDevices writes one half of /proc/devices; drivers with the same number and name are shown once.
func formatDevices(w *bytes.Buffer, title string, devs []vfs.Device) {
	w.WriteString(title)
	seen := map[string]bool{}
	for _, d := range devs {
		name := d.Name
		if d.Major == miscMajor {
			name = "misc"
		}
		if line := fmt.Sprintf("%3d %s\n", d.Major, name); !seen[line] {
			seen[line] = true
			w.WriteString(line)
		}
	}
}

// miscMajor is the major number that small drivers share; /proc/misc has their names.
const miscMajor = 10

func devices(w *bytes.Buffer) {
	formatDevices(w, "Character devices:\n", vfs.Chrdevs())
	formatDevices(w, "\nBlock devices:\n", vfs.Blkdevs())
}

func misc(w *bytes.Buffer) {
	for _, d := range vfs.Chrdevs() {
		if d.Major == miscMajor && d.Count == 1 {
			fmt.Fprintf(w, "%3d %s\n", d.Minor, d.Name)
		}
	}
}

func partitions(w *bytes.Buffer) {
	nodes := bdev.Nodes()
	if len(nodes) == 0 {
		return
	}
	w.WriteString("major minor  #blocks  name\n\n")
	for _, n := range nodes {
		if n.Size() == 0 {
			continue
		}
		fmt.Fprintf(w, "%4d  %7d %10d %s\n", unix.Major(n.Rdev()), unix.Minor(n.Rdev()), n.Size()/1024, n.Name())
	}
}

func diskstats(w *bytes.Buffer) {
	for _, n := range bdev.Nodes() {
		fmt.Fprintf(w, "%4d %7d %s %s\n", unix.Major(n.Rdev()), unix.Minor(n.Rdev()), n.Name(), n.Stats.Line())
	}
}

// formatLocks writes /proc/locks (proc_locks(5)).
func formatLocks(w *bytes.Buffer, locks []vfs.LockInfo) {
	id := 0
	for _, l := range locks {
		arrow := ""
		if l.Blocked {
			arrow = "-> "
		} else {
			id++
		}
		mode, kind := "READ ", "ADVISORY "
		if l.Write {
			mode = "WRITE"
		}
		end := "EOF"
		if l.End != math.MaxInt64 {
			end = fmt.Sprint(l.End)
		}
		fmt.Fprintf(w, "%d: %s%-6s %s %s %d %02x:%02x:%d %d %s\n", id, arrow, l.Kind, kind, mode, l.PID,
			unix.Major(l.Dev), unix.Minor(l.Dev), l.Ino, l.Start, end)
	}
}

// vmstat has the counters that programs look for.
func (fs *FS) vmstat(w *bytes.Buffer) {
	m := system.MemoryNow()
	pages := func(name string, n uint64) { fmt.Fprintf(w, "%s %d\n", name, n/abi.PageSize) }
	file := m.Cached + m.Buffers - min(m.Shmem, m.Cached)
	pages("nr_free_pages", m.Free)
	pages("nr_inactive_anon", m.Shmem)
	pages("nr_active_anon", m.Anon)
	pages("nr_inactive_file", file-file/2)
	pages("nr_active_file", file/2)
	pages("nr_anon_pages", m.Anon)
	pages("nr_mapped", m.Mapped)
	pages("nr_file_pages", m.Cached+m.Buffers)
	pages("nr_dirty", bdev.Dirty())
	pages("nr_shmem", m.Shmem)
	var in, out uint64
	for _, d := range bdev.Disks() {
		s := &d.Whole().Stats
		in, out = in+s.Read.Sectors.Load()/2, out+s.Write.Sectors.Load()/2
	}
	fmt.Fprintf(w, "pgpgin %d\npgpgout %d\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\noom_kill 0\n", in, out)
}

func zoneinfo(w *bytes.Buffer) {
	m := system.MemoryNow()
	p := func(n uint64) uint64 { return n / abi.PageSize }
	fmt.Fprintf(w, "Node 0, zone   Normal\n  pages free     %d\n        min      0\n        low      0\n        high     0\n"+
		"        spanned  %d\n        present  %d\n        managed  %d\n", p(m.Free), p(m.Total), p(m.Total), p(m.Total))
}

// buddyinfo shows free memory as blocks of the largest order.
func buddyinfo(w *bytes.Buffer) {
	const orders = 11
	fmt.Fprintf(w, "Node 0, zone   Normal ")
	for range orders - 1 {
		fmt.Fprintf(w, "%6d ", 0)
	}
	fmt.Fprintf(w, "%6d \n", system.MemoryNow().Free/(abi.PageSize<<(orders-1)))
}

// kmsg is an open /proc/kmsg: the messages that syslog(2) reads, too.
type kmsg struct{ vfs.FileBase }

// openKmsg needs CAP_SYSLOG.
func openKmsg(c vfs.Caller, _ *vfs.File) (vfs.FileOps, error) {
	if cr := c.Cred(); !cr.Capable(unix.CAP_SYSLOG) && !cr.Capable(unix.CAP_SYS_ADMIN) {
		return nil, unix.EPERM
	}
	return &kmsg{}, nil
}

// Read implements vfs.FileOps.
func (*kmsg) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	return chrdev.ReadSyslog(c, dst, f.Nonblock())
}

// Readiness implements wait.Pollable.
func (*kmsg) Readiness(mask wait.Events) wait.Events {
	if chrdev.SyslogReady() {
		return mask & (wait.In | wait.RdNorm)
	}
	return 0
}

// WaitQueue implements wait.Pollable.
func (*kmsg) WaitQueue() *wait.Queue { return &klog.Queue }
