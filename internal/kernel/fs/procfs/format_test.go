package procfs

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/net/unixsock"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// show runs a format function and compares its text.
func show(t *testing.T, name string, f func(w *bytes.Buffer), want string) {
	t.Helper()
	var w bytes.Buffer
	f(&w)
	if w.String() != want {
		t.Errorf("%s:\ngot  %q\nwant %q", name, w.String(), want)
	}
}

func TestFormatStat(t *testing.T) {
	s := statInfo{
		pid: 42, comm: "a (b) c", state: 'S', ppid: 1, pgrp: 42, session: 40, tty: encodeDev(unix.Mkdev(136, 300)), tpgid: 42,
		minflt: 1, cminflt: 2, majflt: 3, cmajflt: 4, utime: 1.5e9, stime: 2e9, cutime: 3e9, cstime: 4e9,
		nice: -5, threads: 2, start: 123456789012, vsize: 8192, rss: 4096 * 3, rsslim: math.MaxUint64,
		layout: mm.Layout{StartCode: 100, EndCode: 200, StartStack: 300, StartData: 400, EndData: 500,
			ArgStart: 600, ArgEnd: 700, EnvStart: 800, EnvEnd: 900},
		brk: 550, pending: 1 << 40, blocked: 1<<31 | 6, ignored: 7, caught: 8, exitSignal: 17, cpu: 1, mayRead: true,
	}
	want := "42 (a (b) c) S 1 42 40 1083436 42 4194304 1 2 3 4 150 200 300 400 15 -5 2 0 12345 8192 3 18446744073709551615 " +
		"100 200 300 0 0 0 6 7 8 0 0 0 17 1 0 0 0 0 0 400 500 550 600 700 800 900 0\n"
	if got := string(formatStat(nil, &s)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.mayRead = false
	s.prio = 10
	got := strings.Fields(string(formatStat(nil, &s)))
	// Two more fields than numbers, as the name has spaces.
	if got[2+17] != "-11" || got[2+25] != "1" || got[2+27] != "0" || got[2+50] != "0" {
		t.Errorf("for strangers: %q", got)
	}
}

func TestFormatStatus(t *testing.T) {
	c := cred.Root()
	c.UID, c.EUID, c.SUID, c.FSUID, c.GID, c.Groups = 1, 2, 3, 4, 5, []uint32{7, 8}
	var w bytes.Buffer
	formatStatus(&w, &statusInfo{
		comm: "sh", hasFS: true, umask: 0o22, state: 'T', tgid: 5, pid: 6, ppid: 1, tracer: 9, cred: c, fdSize: 64, hasMM: true,
		usage: platform.Usage{VM: 1 << 20, RSS: 64 << 10, PeakVM: 2 << 20, Anon: 4096}, threads: 2, cpus: 0b1011, pending: 0x100,
	})
	for _, want := range []string{
		"Name:\tsh\nUmask:\t0022\nState:\tT (stopped)\nTgid:\t5\nNgid:\t0\nPid:\t6\nPPid:\t1\nTracerPid:\t9\n" +
			"Uid:\t1\t2\t3\t4\nGid:\t5\t0\t0\t0\nFDSize:\t64\nGroups:\t7 8 \n",
		"VmPeak:\t    2048 kB\nVmSize:\t    1024 kB\n", "VmRSS:\t      64 kB\nRssAnon:\t       4 kB\n",
		"SigPnd:\t0000000000000100\n", "CapPrm:\t000001ffffffffff\n", "Cpus_allowed:\tb\nCpus_allowed_list:\t0-1,3\n",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("%q is not in\n%s", want, w.String())
		}
	}
}

func TestCPUSets(t *testing.T) {
	for m, want := range map[uint64][2]string{
		0: {"0", ""}, 1: {"1", "0"}, 0xf0: {"f0", "4-7"}, 1<<40 | 5: {"100,00000005", "0,2,40"},
		math.MaxUint64: {"ffffffff,ffffffff", "0-63"},
	} {
		if a, b := cpuMask(m), cpuList(m); a != want[0] || b != want[1] {
			t.Errorf("%#x: %q %q, want %q", m, a, b, want)
		}
	}
}

func TestFormatRegion(t *testing.T) {
	r := mm.Region{Start: 0x400000, End: 0x452000, Prot: unix.PROT_READ | unix.PROT_EXEC, Dev: unix.Mkdev(8, 2), Ino: 173521}
	show(t, "file", func(w *bytes.Buffer) { formatRegion(w, &r, "/usr/bin/dbus-daemon") },
		"00400000-00452000 r-xp 00000000 08:02 173521                             /usr/bin/dbus-daemon\n")
	r = mm.Region{Start: 0x7fffb2c0d000, End: 0x7fffb2c2e000, Prot: unix.PROT_READ | unix.PROT_WRITE}
	show(t, "stack", func(w *bytes.Buffer) { formatRegion(w, &r, "[stack]") },
		"7fffb2c0d000-7fffb2c2e000 rw-p 00000000 00:00 0                          [stack]\n")
	r = mm.Region{Start: 0x7f0000000000, End: 0x7f0000001000, Shared: true, Off: 0x12345000}
	show(t, "anonymous", func(w *bytes.Buffer) { formatRegion(w, &r, "") },
		"7f0000000000-7f0000001000 ---s 12345000 00:00 0 \n")
}

func TestFormatMounts(t *testing.T) {
	m := vfs.MountInfo{
		ID: 36, ParentID: 35, Dev: unix.Mkdev(98, 0), Root: "/mnt1", Point: "/a b\\c", Options: "ro,noatime",
		SuperOptions: "rw,errors=continue", Type: "ext3", Source: "/dev/my#root", Propagation: "shared:1",
	}
	show(t, "mountinfo", func(w *bytes.Buffer) { formatMountinfo(w, &m) },
		`36 35 98:0 /mnt1 /a\040b\134c ro,noatime shared:1 - ext3 /dev/my\043root rw,errors=continue`+"\n")
	m.Propagation = ""
	show(t, "mountinfo", func(w *bytes.Buffer) { formatMountinfo(w, &m) },
		`36 35 98:0 /mnt1 /a\040b\134c ro,noatime - ext3 /dev/my\043root rw,errors=continue`+"\n")
	show(t, "mounts", func(w *bytes.Buffer) { formatMounts(w, &m) },
		`/dev/my\043root /a\040b\134c ext3 ro,noatime,errors=continue 0 0`+"\n")
	show(t, "mountstats", func(w *bytes.Buffer) { formatMountstats(w, &m) },
		`device /dev/my\043root mounted on /a\040b\134c with fstype ext3`+"\n")
}

func TestFormatLocks(t *testing.T) {
	show(t, "locks", func(w *bytes.Buffer) {
		formatLocks(w, []vfs.LockInfo{
			{Kind: "POSIX", Write: true, PID: 7, Dev: unix.Mkdev(8, 1), Ino: 5, Start: 0, End: math.MaxInt64},
			{Kind: "POSIX", PID: 8, Dev: unix.Mkdev(8, 1), Ino: 5, Start: 10, End: 19, Blocked: true},
			{Kind: "FLOCK", Write: true, PID: 9, Dev: unix.Mkdev(8, 1), Ino: 6, End: math.MaxInt64},
		})
	}, "1: POSIX  ADVISORY  WRITE 7 08:01:5 0 EOF\n1: -> POSIX  ADVISORY  READ  8 08:01:5 10 19\n"+
		"2: FLOCK  ADVISORY  WRITE 9 08:01:6 0 EOF\n")
}

func TestFormatMeminfo(t *testing.T) {
	var w bytes.Buffer
	formatMeminfo(&w, &system.Memory{Total: 64 << 20, Free: 32 << 20, Available: 40 << 20, Cached: 8 << 20, Shmem: 1 << 20})
	want := "MemTotal:          65536 kB\nMemFree:           32768 kB\nMemAvailable:      40960 kB\nBuffers:               0 kB\nCached:             8192 kB\n"
	if !strings.HasPrefix(w.String(), want) {
		t.Errorf("got %q", w.String())
	}
}

func TestFormatCPU(t *testing.T) {
	show(t, "cpuinfo", func(w *bytes.Buffer) { formatCPU(w, 1, &CPU{Host: "Linux host 6.1", Flags: "fpu sse2", MHz: 2000}) },
		"processor\t: 1\nvendor_id\t: User Mode Linux\nmodel name\t: UML\nmode\t\t: skas\nhost\t\t: Linux host 6.1\n"+
			"fpu\t\t: yes\nflags\t\t: fpu sse2\ncache_alignment\t: 64\nbogomips\t: 4000.00\n\n")
}

func TestParseExitCode(t *testing.T) {
	for s, want := range map[string]int32{
		"42": 42, "42\n": 42, "-1": -1, "0x10": 16, "010": 8, "300": 300, "": 0, "\n": 0, "0": 0, "-": 0, "5 x": 5, "1234567junk": 1234567,
	} {
		if v, err := parseExitCode([]byte(s)); err != nil || v != want {
			t.Errorf("%q = %d, %v; want %d", s, v, err, want)
		}
	}
	for _, s := range []string{"abc", "4x", "0xg", "08"} {
		if v, err := parseExitCode([]byte(s)); err != unix.EINVAL {
			t.Errorf("%q = %d, %v; want EINVAL", s, v, err)
		}
	}
}

func TestCmdline(t *testing.T) {
	mem := "sh\x00-c\x00x\x00PATH=/bin\x00HOME=/\x00"
	read := func(s string) func(start, end uint64) []byte {
		return func(start, end uint64) []byte { return []byte(s[start:min(end, uint64(len(s)))]) }
	}
	l := mm.Layout{ArgStart: 0, ArgEnd: 8, EnvStart: 8, EnvEnd: 25}
	if got := string(cmdline(&l, read(mem))); got != "sh\x00-c\x00x\x00" {
		t.Errorf("arguments %q", got)
	}
	title := "daemon: idle\x00/bin\x00HOME=/\x00"
	if got := string(cmdline(&l, read(title))); got != "daemon: idle\x00" {
		t.Errorf("title %q", got)
	}
	short := "ps\x00\x00\x00\x00\x00\x00PATH=/bin\x00HOME=/\x00"
	if got := string(cmdline(&l, read(short))); got != short[:8] {
		t.Errorf("short title %q", got)
	}
}

func TestOOMScore(t *testing.T) {
	const total = 1 << 30
	for _, c := range []struct {
		rss  uint64
		adj  int32
		want int64
	}{{0, 0, 666}, {0, -1000, 0}, {0, 1000, 1333}, {total / 2, 0, 1000}, {0, -999, 1}} {
		if got := oomScore(c.rss, total, c.adj); got != c.want {
			t.Errorf("rss %d, adj %d: %d, want %d", c.rss, c.adj, got, c.want)
		}
	}
}

func TestMountOptions(t *testing.T) {
	fs := &FS{}
	for s, want := range map[string]string{
		"": "", "hidepid=2": ",hidepid=invisible", "hidepid=off": "", "gid=5,hidepid=1": ",gid=5,hidepid=noaccess",
	} {
		fs.hidepid.Store(0)
		fs.hideGID.Store(0)
		if err := fs.parse(s); err != nil || fs.options() != want {
			t.Errorf("%q: %v, %q", s, err, fs.options())
		}
	}
	for _, s := range []string{"hidepid=3", "gid=x", "foo"} {
		if err := fs.parse(s); err != unix.EINVAL {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseID(t *testing.T) {
	for s, want := range map[string]int32{"0": 0, "1": 1, "32767": 32767, "01": -1, "": -1, "+1": -1, "-1": -1, "1x": -1, "99999999999": -1} {
		got, ok := parseID(s)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d", s, got)
		}
	}
}

func TestFormatUnix(t *testing.T) {
	show(t, "unix", func(w *bytes.Buffer) {
		formatUnix(w, []unixsock.Info{{Flags: 0x10000, Type: 1, State: 1, Inode: 77, Path: "@abs"}, {Type: 2, State: 3, Inode: 123456}})
	}, "Num       RefCount Protocol Flags    Type St Inode Path\n"+
		"0000000000000001: 00000002 00000000 00010000 0001 01    77 @abs\n"+
		"0000000000000002: 00000002 00000000 00000000 0002 03 123456\n")
}
