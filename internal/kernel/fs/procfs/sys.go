package procfs

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/poll"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// addSys fills /proc/sys. Settings that the kernel acts on are read from and written to where they act; some that only
// matter to hardware or to features that the guest does not have keep their value, so that sysctl(8) and the scripts of
// distributions work.
func (fs *FS) addSys(sys *pseudo.Dir) {
	fs.addSysKernel(sys.Subdir("kernel", 0o555))
	fs.addSysFS(sys.Subdir("fs", 0o555))
	fs.addSysVM(sys.Subdir("vm", 0o555))
	addSysNet(sys.Subdir("net", 0o555))
	sys.Subdir("debug", 0o555)
	terminals := sys.Subdir("dev", 0o555).Subdir("tty", 0o555)
	addSwitch(terminals, "legacy_tiocsti", &tty.LegacyTIOCSTI)
	kept(terminals, "ldisc_autoload", 1, 0, 1)
}

// AddSetting adds a number to a directory below /proc/sys, 0644.
func AddSetting(d *pseudo.Dir, name string, n *pseudo.Number) {
	d.AddFile(name, 0o644, func(_ vfs.Caller, w *bytes.Buffer) error {
		fmt.Fprintf(w, "%d\n", n.Value())
		return nil
	}, func(_ vfs.Caller, p []byte) error { return n.Store(p) })
}

// addNumber adds a number that is read with get and written with set; a nil set makes it read-only.
func addNumber(d *pseudo.Dir, name string, lo, hi int64, get func() int64, set func(int64) error) {
	show := func(_ vfs.Caller, w *bytes.Buffer) error {
		fmt.Fprintf(w, "%d\n", get())
		return nil
	}
	if set == nil {
		d.AddFile(name, 0o444, show, nil)
		return
	}
	d.AddFile(name, 0o644, show, func(_ vfs.Caller, p []byte) error {
		v, err := pseudo.ParseInt(p, lo, hi)
		if err != nil {
			return err
		}
		return set(v)
	})
}

// addSwitch adds a rule that is on (1) or off (0).
func addSwitch(d *pseudo.Dir, name string, on *atomic.Bool) {
	addNumber(d, name, 0, 1, func() int64 {
		if on.Load() {
			return 1
		}
		return 0
	}, func(v int64) error { on.Store(v == 1); return nil })
}

// kept adds a number that is kept and shown, and nothing more.
func kept(d *pseudo.Dir, name string, v, lo, hi int64) {
	AddSetting(d, name, pseudo.NewNumber(v, lo, hi))
}

// addString adds a line of text that is read with get and written with set.
func addString(d *pseudo.Dir, name string, get func() string, set func(string) error) {
	show, store := lineOf(get, set)
	d.AddFile(name, 0o644, show, store)
}

// lineOf makes the functions of a file with one line.
func lineOf(get func() string, set func(string) error) (pseudo.ShowFunc, pseudo.StoreFunc) {
	show := func(_ vfs.Caller, w *bytes.Buffer) error {
		w.WriteString(get())
		w.WriteByte('\n')
		return nil
	}
	return show, func(_ vfs.Caller, p []byte) error {
		if i := bytes.IndexAny(p, "\x00\n"); i >= 0 {
			p = p[:i]
		}
		return set(string(p))
	}
}

// addName adds one of the names that uname(2) gives. Programs poll the file to learn of a change.
func addName(d *pseudo.Dir, name string, get func() string, set func(string) error) {
	show, store := lineOf(get, func(s string) error { return set(s[:min(len(s), system.NameMax)]) })
	d.Add(name, pseudo.NewOpenFile(d.FS(), 0o644, func(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
		var seen atomic.Uint64
		seen.Store(system.Changes.Load())
		return &pseudo.Text{Show: show, Store: store, Queue: &system.Changed, Changed: func() bool {
			now := system.Changes.Load()
			return seen.Swap(now) != now
		}}, nil
	}))
}

// numbers reads n numbers that a program wrote.
func numbers(s string, n int) ([]int64, error) {
	f := strings.Fields(s)
	if len(f) == 0 || len(f) > n {
		return nil, unix.EINVAL
	}
	var out []int64
	for _, x := range f {
		v, err := pseudo.ParseInt([]byte(x), math.MinInt32, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// addSysPty fills kernel/pty.
func addSysPty(d *pseudo.Dir) {
	add := func(name string, n *atomic.Int64) {
		addNumber(d, name, 0, math.MaxInt32, n.Load, func(v int64) error { n.Store(v); return nil })
	}
	add("max", &tty.Ptys.Max)
	add("reserve", &tty.Ptys.Reserve)
	addNumber(d, "nr", 0, 0, tty.Ptys.Count.Load, nil)
}

func (fs *FS) addSysKernel(d *pseudo.Dir) {
	addSysPty(d.Subdir("pty", 0o555))
	d.AddText("ostype", abi.Sysname+"\n")
	d.AddText("osrelease", abi.Release+"\n")
	d.AddText("version", abi.Version+"\n")
	d.AddText("arch", abi.Machine+"\n")
	addName(d, "hostname", system.Hostname, system.SetHostname)
	addName(d, "domainname", system.Domainname, system.SetDomainname)

	addNumber(d, "pid_max", 301, task.MaxPIDLimit, func() int64 { return int64(fs.k.PIDMax.Load()) },
		func(v int64) error { fs.k.PIDMax.Store(int32(v)); return nil })
	addNumber(d, "threads-max", 20, task.MaxPID, func() int64 { return int64(fs.k.ThreadsMax.Load()) },
		func(v int64) error { fs.k.ThreadsMax.Store(int32(v)); return nil })
	addNumber(d, "ngroups_max", 0, 0, func() int64 { return 65536 }, nil)
	addNumber(d, "cap_last_cap", 0, 0, func() int64 { return unix.CAP_LAST_CAP }, nil)
	addNumber(d, "panic_on_oops", 0, 1, func() int64 { return int64(bit(task.PanicOnOops.Load())) },
		func(v int64) error { task.PanicOnOops.Store(v != 0); return nil })
	addNumber(d, "ns_last_pid", 0, 0, func() int64 { return int64(fs.k.LastPID()) }, nil)
	addString(d, "printk", func() string { return fmt.Sprintf("%d\t4\t1\t7", klog.ConsoleLevel()) }, func(s string) error {
		v, err := numbers(s, 4)
		if err != nil {
			return err
		}
		if v[0] < 0 || v[0] > 15 {
			return unix.EINVAL
		}
		klog.SetConsoleLevel(klog.Level(v[0]))
		return nil
	})
	kept(d, "panic", 0, math.MinInt32, math.MaxInt32) // a panic ends the host process, whatever the time
	core := fs.k.Core
	addString(d, "core_pattern", core.Pattern, func(s string) error { core.SetPattern(s); return nil })
	addNumber(d, "core_uses_pid", 0, 1, func() int64 { return int64(bit(core.UsesPID())) }, func(v int64) error {
		core.SetUsesPID(v != 0)
		return nil
	})
	kept(d, "overflowuid", 65534, 0, 65535)
	kept(d, "overflowgid", 65534, 0, 65535)
	addSysIPC(d)
	kept(d, "sysrq", 1, 0, 511)
	kept(d, "tainted", 0, 0, math.MaxInt32)
	kept(d, "randomize_va_space", 2, 0, 2)
	kept(d, "dmesg_restrict", 0, 0, 1)
	kept(d, "kptr_restrict", 0, 0, 2)
	kept(d, "perf_event_paranoid", 4, -1, 4)
	kept(d, "unprivileged_bpf_disabled", 2, 0, 2)
	kept(d, "sched_autogroup_enabled", 0, 0, 1)
	kept(d, "sched_child_runs_first", 0, 0, 1)
	kept(d, "sched_rt_period_us", 1000000, 1, math.MaxInt32)
	kept(d, "sched_rt_runtime_us", 950000, -1, math.MaxInt32)
	kept(d, "hung_task_timeout_secs", 120, 0, math.MaxInt32)
	fs.addSysRandom(d.Subdir("random", 0o555))
	cad := pseudo.NewNumber(1, 0, 1)
	addNumber(d, "ctrl-alt-del", 0, 1, cad.Value, func(v int64) error {
		cad.Set(v)
		fs.k.SetCtrlAltDel(v != 0)
		return nil
	})
}

// uuid is a random (version 4) UUID.
func uuid() string {
	var b [16]byte
	chrdev.Random(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func (fs *FS) addSysRandom(d *pseudo.Dir) {
	boot := uuid()
	d.AddText("boot_id", boot+"\n")
	d.AddFile("uuid", 0o444, func(_ vfs.Caller, w *bytes.Buffer) error { w.WriteString(uuid() + "\n"); return nil }, nil)
	d.AddText("entropy_avail", "256\n")
	d.AddText("poolsize", "256\n")
	kept(d, "write_wakeup_threshold", 256, 0, math.MaxInt32)
	kept(d, "urandom_min_reseed_secs", 60, 0, math.MaxInt32)
}

func (fs *FS) addSysFS(d *pseudo.Dir) {
	addNumber(d, "file-max", 0, math.MaxInt64, vfs.MaxFiles.Load, func(v int64) error { vfs.MaxFiles.Store(v); return nil })
	d.AddFile("file-nr", 0o444, func(_ vfs.Caller, w *bytes.Buffer) error {
		fmt.Fprintf(w, "%d\t0\t%d\n", vfs.OpenFiles(), vfs.MaxFiles.Load())
		return nil
	}, nil)
	d.AddText("inode-nr", "0\t0\n")
	d.AddText("inode-state", "0\t0\t0\t0\t0\t0\t0\n")
	d.AddText("dentry-state", "0\t0\t45\t0\t0\t0\n")
	addNumber(d, "nr_open", 0, 0, func() int64 { return 1 << 20 }, nil)
	addNumber(d, "mount-max", 0, 0, func() int64 { return 100000 }, nil)
	addNumber(d, "pipe-max-size", abi.PageSize, 1<<31-1, func() int64 { return int64(pipefs.MaxSize()) },
		func(v int64) error { return pipefs.SetMaxSize(int(v)) })
	kept(d, "pipe-user-pages-soft", 16384, 0, math.MaxInt64)
	kept(d, "pipe-user-pages-hard", 0, 0, math.MaxInt64)
	addSwitch(d, "protected_symlinks", &vfs.ProtectedSymlinks)
	addSwitch(d, "protected_hardlinks", &vfs.ProtectedHardlinks)
	kept(d, "protected_fifos", 0, 0, 2)
	kept(d, "protected_regular", 0, 0, 2)
	kept(d, "suid_dumpable", 0, 0, 2)
	kept(d, "lease-break-time", 45, 0, math.MaxInt32)
	kept(d, "leases-enable", 0, 0, 1)
	kept(d, "overflowuid", 65534, 0, 65535)
	kept(d, "overflowgid", 65534, 0, 65535)
	kept(d, "aio-max-nr", 65536, 0, math.MaxInt32)
	d.AddText("aio-nr", "0\n")
	epoll := d.Subdir("epoll", 0o555)
	addNumber(epoll, "max_user_watches", 0, 0, func() int64 { return poll.MaxWatches }, nil)
	addSysMqueue(d.Subdir("mqueue", 0o555))
	in := d.Subdir("inotify", 0o555)
	kept(in, "max_user_instances", 128, 0, math.MaxInt32)
	kept(in, "max_user_watches", 65536, 0, math.MaxInt32)
	kept(in, "max_queued_events", 16384, 0, math.MaxInt32)
}

func (fs *FS) addSysVM(d *pseudo.Dir) {
	kept(d, "overcommit_memory", 0, 0, 2)
	kept(d, "overcommit_ratio", 50, 0, math.MaxInt32)
	kept(d, "overcommit_kbytes", 0, 0, math.MaxInt64)
	kept(d, "max_map_count", 65530, 0, math.MaxInt32)
	kept(d, "mmap_min_addr", 65536, 0, math.MaxInt64)
	kept(d, "swappiness", 60, 0, 200)
	kept(d, "vfs_cache_pressure", 100, 0, math.MaxInt32)
	kept(d, "dirty_ratio", 20, 0, 100)
	kept(d, "dirty_background_ratio", 10, 0, 100)
	kept(d, "dirty_bytes", 0, 0, math.MaxInt64)
	kept(d, "dirty_background_bytes", 0, 0, math.MaxInt64)
	kept(d, "dirty_expire_centisecs", 3000, 0, math.MaxInt32)
	kept(d, "dirty_writeback_centisecs", 500, 0, math.MaxInt32)
	kept(d, "min_free_kbytes", 1024, 0, math.MaxInt32)
	kept(d, "panic_on_oom", 0, 0, 2)
	kept(d, "oom_kill_allocating_task", 0, 0, 1)
	kept(d, "oom_dump_tasks", 1, 0, 1)
	kept(d, "page-cluster", 3, 0, 31)
	kept(d, "laptop_mode", 0, 0, math.MaxInt32)
	kept(d, "legacy_va_layout", 0, 0, 1)
	kept(d, "nr_hugepages", 0, 0, 0)
	d.AddFile("drop_caches", 0o200, nil, func(_ vfs.Caller, p []byte) error {
		v, err := pseudo.ParseInt(p, 1, 4)
		if err == nil && v&2 != 0 {
			vfs.ShrinkDcache(math.MaxInt32)
		}
		return err
	})
}
