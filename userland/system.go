package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func pwd([]string) int {
	d, err := os.Getwd()
	if err != nil {
		return fail(err)
	}
	stdout.WriteString(d + "\n")
	return 0
}

func whoami([]string) int {
	stdout.WriteString(userName(uint32(os.Geteuid())) + "\n")
	return 0
}

func nproc([]string) int {
	fmt.Fprintln(stdout, runtime.NumCPU())
	return 0
}

func syncMain([]string) int {
	unix.Sync()
	return 0
}

func clearScreen([]string) int {
	stdout.WriteString("\x1b[H\x1b[2J\x1b[3J")
	return 0
}

func uname(args []string) int {
	o, _, err := getopt(args, "asnrvmpio")
	if err != nil {
		return fail(err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fail(err)
	}
	if len(o) == 0 {
		o = options{'s': ""}
	}
	var out []string
	for _, f := range []struct {
		letter byte
		value  string
	}{{'s', unix.ByteSliceToString(u.Sysname[:])}, {'n', unix.ByteSliceToString(u.Nodename[:])}, {'r', unix.ByteSliceToString(u.Release[:])},
		{'v', unix.ByteSliceToString(u.Version[:])}, {'m', unix.ByteSliceToString(u.Machine[:])}, {'o', "Linux"}} {
		if o.has(f.letter) || o.has('a') {
			out = append(out, f.value)
		}
	}
	stdout.WriteString(strings.Join(out, " ") + "\n")
	return 0
}

func id(args []string) int {
	o, names, err := getopt(args, "ugGnr")
	if err != nil {
		return fail(err)
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	groups, _ := os.Getgroups()
	if len(names) > 0 {
		u, err := user.Lookup(names[0])
		if err != nil {
			return fail(err)
		}
		n, _ := strconv.Atoi(u.Uid)
		g, _ := strconv.Atoi(u.Gid)
		uid, gid, groups = uint32(n), uint32(g), nil
	}
	show := func(id uint32, name func(uint32) string) string {
		if o.has('n') {
			return name(id)
		}
		return strconv.Itoa(int(id))
	}
	switch {
	case o.has('u'):
		fmt.Fprintln(stdout, show(uid, userName))
	case o.has('g'):
		fmt.Fprintln(stdout, show(gid, groupName))
	default:
		all := []string{}
		for _, g := range append([]int{int(gid)}, groups...) {
			s := show(uint32(g), groupName)
			if !o.has('G') {
				s = fmt.Sprintf("%d(%s)", g, groupName(uint32(g)))
			}
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		if o.has('G') {
			fmt.Fprintln(stdout, strings.Join(all, " "))
			break
		}
		fmt.Fprintf(stdout, "uid=%d(%s) gid=%d(%s) groups=%s\n", uid, userName(uid), gid, groupName(gid), strings.Join(all, ","))
	}
	return 0
}

func hostname(args []string) int {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if err := unix.Sethostname([]byte(args[0])); err != nil {
			return fail(err)
		}
		return 0
	}
	h, err := os.Hostname()
	if err != nil {
		return fail(err)
	}
	stdout.WriteString(h + "\n")
	return 0
}

func sleep(args []string) int {
	if len(args) == 0 {
		return usage("seconds[smhd]...")
	}
	var total time.Duration
	for _, a := range args {
		unit := time.Second
		s := a
		if u, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[a[max(len(a)-1, 0)]]; ok {
			s, unit = a[:len(a)-1], u
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0) {
			return fail(fmt.Errorf("invalid time %q", a))
		}
		total += time.Duration(min(f*float64(unit), 1<<62))
	}
	time.Sleep(total)
	return 0
}

// signalNumber reads "9", "KILL" or "SIGKILL".
func signalNumber(s string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), true
	}
	s = strings.ToUpper(s)
	if s == "EXIT" {
		return 0, true
	}
	n := unix.SignalNum("SIG" + strings.TrimPrefix(s, "SIG"))
	return n, n != 0
}

func kill(args []string) int {
	sig := syscall.SIGTERM
	if len(args) > 0 && args[0] == "-l" {
		for i := 1; i < 32; i++ {
			fmt.Fprintf(stdout, "%2d %s\n", i, strings.TrimPrefix(unix.SignalName(syscall.Signal(i)), "SIG"))
		}
		return 0
	}
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		name := args[0][1:]
		args = args[1:]
		if name == "s" && len(args) > 0 {
			name, args = args[0], args[1:]
		}
		var ok bool
		if name != "-" {
			if sig, ok = signalNumber(name); !ok {
				return fail(fmt.Errorf("unknown signal %q", name))
			}
		}
	}
	if len(args) == 0 {
		return usage("[-signal] pid...")
	}
	return each(args, func(a string) error {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return fmt.Errorf("invalid pid %q", a)
		}
		if err := syscall.Kill(pid, sig); err != nil {
			return &fs.PathError{Path: a, Err: err}
		}
		return nil
	})
}

func env(args []string) int {
	o, rest, err := getopt(args, "+iu:")
	if err != nil {
		return fail(err)
	}
	if o.has('i') || len(rest) > 0 && rest[0] == "-" {
		os.Clearenv()
		if !o.has('i') {
			rest = rest[1:]
		}
	}
	if u, ok := o['u']; ok {
		os.Unsetenv(u)
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") {
		k, v, _ := strings.Cut(rest[0], "=")
		os.Setenv(k, v)
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return printenv(nil)
	}
	path, err := exec.LookPath(rest[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "env: %s: not found\n", rest[0])
		return 127
	}
	fail(&fs.PathError{Path: path, Err: syscall.Exec(path, rest, os.Environ())})
	return 126
}

func printenv(args []string) int {
	if len(args) == 0 {
		for _, e := range os.Environ() {
			stdout.WriteString(e + "\n")
		}
		return 0
	}
	status := 0
	for _, a := range args {
		v, ok := os.LookupEnv(a)
		if !ok {
			status = 1
			continue
		}
		stdout.WriteString(v + "\n")
	}
	return status
}

func which(args []string) int {
	status := 0
	for _, a := range args {
		p, err := exec.LookPath(a)
		if err != nil {
			status = 1
			continue
		}
		stdout.WriteString(p + "\n")
	}
	return status
}

func tty([]string) int {
	if !term.IsTerminal(0) {
		stdout.WriteString("not a tty\n")
		return 1
	}
	p, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return fail(err)
	}
	stdout.WriteString(p + "\n")
	return 0
}

// dateFormats translates the letters of strftime.
var dateFormats = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'a': "Mon", 'A': "Monday",
	'b': "Jan", 'h': "Jan", 'B': "January", 'Z': "MST", 'z': "-0700", 'N': "000000000", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06",
	'c': "Mon Jan _2 15:04:05 2006",
}

func date(args []string) int {
	o, rest, err := getopt(args, "us:d:R")
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	if s, ok := o['d']; ok {
		if now, err = parseDate(s); err != nil {
			return fail(err)
		}
	}
	if s, ok := o['s']; ok {
		if now, err = parseDate(s); err != nil {
			return fail(err)
		}
		tv := unix.NsecToTimeval(now.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			return fail(err)
		}
	}
	if o.has('u') {
		now = now.UTC()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	if o.has('R') {
		format = "%a, %d %b %Y %H:%M:%S %z"
	}
	if len(rest) > 0 && strings.HasPrefix(rest[0], "+") {
		format = rest[0][1:]
	}
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			stdout.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; {
		case c == 's':
			fmt.Fprint(stdout, now.Unix())
		case c == 'N':
			fmt.Fprintf(stdout, "%09d", now.Nanosecond())
		case c == 'j':
			fmt.Fprintf(stdout, "%03d", now.YearDay())
		case c == 'n':
			stdout.WriteByte('\n')
		case dateFormats[c] != "":
			stdout.WriteString(now.Format(dateFormats[c]))
		default:
			stdout.WriteByte(c)
		}
	}
	stdout.WriteByte('\n')
	return 0
}

func dmesg(args []string) int {
	o, _, err := getopt(args, "crn:")
	if err != nil {
		return fail(err)
	}
	if n, ok := o['n']; ok {
		level, _, err := count(n)
		if err != nil {
			return fail(err)
		}
		if err := klogLevel(level); err != nil {
			return fail(err)
		}
		return 0
	}
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return fail(err)
	}
	buf := make([]byte, size)
	action := unix.SYSLOG_ACTION_READ_ALL
	if o.has('c') {
		action = unix.SYSLOG_ACTION_READ_CLEAR
	}
	n, err := unix.Klogctl(action, buf)
	if err != nil {
		return fail(err)
	}
	for line := range strings.Lines(string(buf[:n])) {
		if !o.has('r') && strings.HasPrefix(line, "<") {
			if _, rest, ok := strings.Cut(line, ">"); ok {
				line = rest
			}
		}
		stdout.WriteString(line)
	}
	return 0
}

func klogLevel(level int) error {
	_, _, errno := unix.Syscall(unix.SYS_SYSLOG, unix.SYSLOG_ACTION_CONSOLE_LEVEL, 0, uintptr(level))
	if errno != 0 {
		return errno
	}
	return nil
}

func uptime([]string) int {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return fail(err)
	}
	up := time.Duration(si.Uptime) * time.Second
	load := func(i int) float64 { return float64(si.Loads[i]) / 65536 }
	fmt.Fprintf(stdout, " %s up %d days, %02d:%02d, load average: %.2f, %.2f, %.2f\n", time.Now().Format("15:04:05"),
		up/(24*time.Hour), up/time.Hour%24, up/time.Minute%60, load(0), load(1), load(2))
	return 0
}

func free(args []string) int {
	o, _, err := getopt(args, "bkmgh")
	if err != nil {
		return fail(err)
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fail(err)
	}
	info := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			info[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	show := func(n int64) string {
		switch {
		case o.has('h'):
			return sizeString(n, true)
		case o.has('b'):
			return fmt.Sprint(n)
		case o.has('m'):
			return fmt.Sprint(n >> 20)
		case o.has('g'):
			return fmt.Sprint(n >> 30)
		}
		return fmt.Sprint(n >> 10)
	}
	cache := info["Buffers"] + info["Cached"] + info["SReclaimable"]
	fmt.Fprintf(stdout, "%-6s %11s %11s %11s %11s %11s %11s\n", "", "total", "used", "free", "shared", "buff/cache", "available")
	fmt.Fprintf(stdout, "%-6s %11s %11s %11s %11s %11s %11s\n", "Mem:", show(info["MemTotal"]), show(info["MemTotal"]-info["MemFree"]-cache),
		show(info["MemFree"]), show(info["Shmem"]), show(cache), show(info["MemAvailable"]))
	fmt.Fprintf(stdout, "%-6s %11s %11s %11s\n", "Swap:", show(info["SwapTotal"]), show(info["SwapTotal"]-info["SwapFree"]), show(info["SwapFree"]))
	return 0
}

func ps(args []string) int {
	// The options of other systems' ps are taken; everything is shown in any case.
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fail(err)
	}
	fmt.Fprintf(stdout, "%5s %5s %-8s %-4s %8s %s\n", "PID", "PPID", "USER", "STAT", "RSS", "COMMAND")
	var pids []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/", pid)
		st, err := os.ReadFile(dir + "stat")
		if err != nil {
			continue // it has ended
		}
		head, rest, _ := strings.Cut(string(st), "(")
		i := strings.LastIndexByte(rest, ')')
		if i < 0 || head == "" {
			continue
		}
		name, f := rest[:i], strings.Fields(rest[i+1:])
		if len(f) < 22 {
			continue
		}
		owner := "?"
		if fi, err := os.Stat(dir); err == nil {
			owner = userName(sysStat(fi).Uid)
		}
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		cmd, _ := os.ReadFile(dir + "cmdline")
		line := strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
		if line == "" {
			line = "[" + name + "]"
		}
		fmt.Fprintf(stdout, "%5d %5s %-8s %-4s %8s %s\n", pid, f[1], owner, f[0], sizeString(pages*int64(os.Getpagesize()), true), line)
	}
	return 0
}

// mountFlags are the options of mount that are flags; those with a minus are taken off.
var mountFlags = map[string]int{
	"ro": unix.MS_RDONLY, "rw": -unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "suid": -unix.MS_NOSUID, "nodev": unix.MS_NODEV, "dev": -unix.MS_NODEV,
	"noexec": unix.MS_NOEXEC, "exec": -unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS, "remount": unix.MS_REMOUNT, "noatime": unix.MS_NOATIME,
	"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "bind": unix.MS_BIND,
	"rbind": unix.MS_BIND | unix.MS_REC, "move": unix.MS_MOVE, "defaults": 0, "private": unix.MS_PRIVATE, "shared": unix.MS_SHARED, "slave": unix.MS_SLAVE,
}

func mount(args []string) int {
	for i, a := range args {
		if rest, ok := strings.CutPrefix(a, "--"); ok && mountFlags[rest] != 0 {
			args = append(append(slices.Clone(args[:i]), "-o", rest), args[i+1:]...)
			break
		}
	}
	var opts []string
	for i := 0; i+1 < len(args); i++ {
		if args[i] == "-o" {
			opts = append(opts, args[i+1])
		}
	}
	o, names, err := getopt(args, "at:o:rwn")
	if err != nil {
		return fail(err)
	}
	if len(names) == 0 && !o.has('a') {
		f, err := os.Open("/proc/self/mounts")
		if err != nil {
			return fail(err)
		}
		defer f.Close()
		lines(f, func(s string) bool {
			if f := strings.Fields(s); len(f) >= 4 {
				fmt.Fprintf(stdout, "%s on %s type %s (%s)\n", f[0], f[1], f[2], f[3])
			}
			return true
		})
		return 0
	}
	if o.has('a') {
		return mountAll()
	}
	if o.has('r') {
		opts = append(opts, "ro")
	}
	all := strings.Join(opts, ",")
	switch {
	case len(names) == 1 && strings.Contains(all, "remount"):
		names = []string{"none", names[0]}
	case len(names) == 1:
		return mountFromTable(names[0])
	case len(names) != 2:
		return usage("[-t type] [-o options] device directory")
	}
	return each(names[1:], func(dir string) error { return mountOne(names[0], dir, o['t'], all) })
}

func mountOne(dev, dir, kind, opts string) error {
	flags := 0
	var data []string
	for opt := range strings.SplitSeq(opts, ",") {
		f, ok := mountFlags[opt]
		switch {
		case opt == "" || opt == "defaults" || opt == "auto" || opt == "noauto" || opt == "user" || opt == "nouser" || opt == "_netdev":
		case !ok:
			data = append(data, opt)
		case f < 0:
			flags &^= -f
		default:
			flags |= f
		}
	}
	const noType = unix.MS_BIND | unix.MS_MOVE | unix.MS_REMOUNT | unix.MS_PRIVATE | unix.MS_SHARED | unix.MS_SLAVE
	kinds := []string{kind}
	if (kind == "" || kind == "auto") && flags&noType == 0 {
		kinds = blockTypes()
	}
	var err error
	for _, k := range kinds {
		err = unix.Mount(dev, dir, k, uintptr(flags), strings.Join(data, ","))
		if err == unix.EROFS && flags&unix.MS_RDONLY == 0 {
			fmt.Fprintf(os.Stderr, "mount: %s is write-protected, mounting read-only\n", dev)
			err = unix.Mount(dev, dir, k, uintptr(flags)|unix.MS_RDONLY, strings.Join(data, ","))
		}
		if err != unix.EINVAL && err != unix.ENODEV {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %s", dev, dir, reason(err))
	}
	return nil
}

// blockTypes are the file systems that live on a device.
func blockTypes() []string {
	var kinds []string
	if f, err := os.Open("/proc/filesystems"); err == nil {
		defer f.Close()
		lines(f, func(s string) bool {
			if !strings.HasPrefix(s, "nodev") {
				kinds = append(kinds, strings.TrimSpace(s))
			}
			return true
		})
	}
	if len(kinds) == 0 {
		kinds = []string{"ext4"}
	}
	return kinds
}

// fstab calls f with the fields of each line of /etc/fstab.
func fstab(f func(fields []string) error) int {
	file, err := os.Open("/etc/fstab")
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	status := 0
	lines(file, func(s string) bool {
		if w := strings.Fields(s); len(w) >= 4 && !strings.HasPrefix(w[0], "#") {
			if err := f(w); err != nil {
				status = fail(err)
			}
		}
		return true
	})
	return status
}

func mountAll() int {
	return fstab(func(w []string) error {
		if slices.Contains(strings.Split(w[3], ","), "noauto") || w[2] == "swap" || w[1] == "/" {
			return nil
		}
		return mountOne(w[0], w[1], w[2], w[3])
	})
}

func mountFromTable(name string) int {
	found := false
	status := fstab(func(w []string) error {
		if found || w[0] != name && w[1] != name {
			return nil
		}
		found = true
		return mountOne(w[0], w[1], w[2], w[3])
	})
	if status == 0 && !found {
		return fail(fmt.Errorf("%s is not in /etc/fstab", name))
	}
	return status
}

func umount(args []string) int {
	o, names, err := getopt(args, "lfarn")
	if err != nil {
		return fail(err)
	}
	flags := 0
	if o.has('l') {
		flags |= unix.MNT_DETACH
	}
	if o.has('f') {
		flags |= unix.MNT_FORCE
	}
	if o.has('a') {
		names = nil
		f, err := os.Open("/proc/self/mounts")
		if err != nil {
			return fail(err)
		}
		lines(f, func(s string) bool {
			if w := strings.Fields(s); len(w) > 2 && w[1] != "/" && w[1] != "/proc" {
				names = append(names, w[1])
			}
			return true
		})
		f.Close()
		slices.Reverse(names)
	}
	return each(names, func(n string) error {
		err := unix.Unmount(n, flags)
		if err == unix.EINVAL || err == unix.ENOTDIR || err == unix.ENOENT {
			if dir := mountPoint(n); dir != "" {
				err = unix.Unmount(dir, flags)
			}
		}
		if err != nil {
			return &fs.PathError{Path: n, Err: err}
		}
		return nil
	})
}

// mountPoint is where a device is mounted.
func mountPoint(dev string) string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	dir := ""
	lines(f, func(s string) bool {
		if w := strings.Fields(s); len(w) > 2 && w[0] == dev {
			dir = w[1]
		}
		return true
	})
	return dir
}

func df(args []string) int {
	o, names, err := getopt(args, "ahikmTP")
	if err != nil {
		return fail(err)
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	var mounts [][]string
	lines(f, func(s string) bool {
		if w := strings.Fields(s); len(w) > 2 {
			mounts = append(mounts, w)
		}
		return true
	})
	if len(names) > 0 {
		var wanted [][]string
		for _, n := range names {
			abs, err := filepath.Abs(n)
			if err != nil {
				return fail(err)
			}
			best := []string(nil)
			for _, m := range mounts {
				if (abs == m[1] || m[1] == "/" || strings.HasPrefix(abs, m[1]+"/") || abs == m[0]) && (best == nil || len(m[1]) >= len(best[1])) {
					best = m
				}
			}
			if best != nil {
				wanted = append(wanted, best)
			}
		}
		mounts = wanted
	}
	unit := "1K-blocks"
	if o.has('h') {
		unit = "Size"
	}
	if o.has('i') {
		unit = "Inodes"
	}
	fmt.Fprintf(stdout, "%-20s %10s %10s %10s %4s %s\n", "Filesystem", unit, "Used", "Available", "Use%", "Mounted on")
	for _, m := range mounts {
		var s unix.Statfs_t
		if unix.Statfs(m[1], &s) != nil || s.Blocks == 0 && !o.has('a') && len(names) == 0 {
			continue
		}
		bs := s.Frsize
		if bs == 0 {
			bs = s.Bsize
		}
		total, used, avail := int64(s.Blocks)*bs, int64(s.Blocks-s.Bfree)*bs, int64(s.Bavail)*bs
		if o.has('i') {
			total, used, avail = int64(s.Files)<<10, int64(s.Files-s.Ffree)<<10, int64(s.Ffree)<<10
		}
		percent := "-"
		if used+avail > 0 {
			percent = fmt.Sprintf("%d%%", (used*100+used+avail-1)/(used+avail))
		}
		show := func(n int64) string {
			if o.has('h') && !o.has('i') {
				return sizeString(n, true)
			}
			return strconv.FormatInt(n>>10, 10)
		}
		fmt.Fprintf(stdout, "%-20s %10s %10s %10s %4s %s\n", m[0], show(total), show(used), show(avail), percent, m[1])
	}
	return 0
}

func dd(args []string) int {
	in, out := io.Reader(os.Stdin), os.Stdout
	bs, cnt, skip, seek := int64(512), int64(-1), int64(0), int64(0)
	conv, ofile := "", ""
	quiet := false
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		n, err := sizeOf(v)
		switch k {
		case "bs", "ibs", "obs":
			bs = n
		case "count":
			cnt = n
		case "skip", "iseek":
			skip = n
		case "seek", "oseek":
			seek = n
		case "conv":
			conv, err = v, nil
		case "status":
			quiet, err = v == "none", nil
		case "if":
			f, e := os.Open(v)
			if err = e; e == nil {
				in = f
			}
		case "of":
			ofile, err = v, nil
		default:
			err = fmt.Errorf("unknown operand %q", a)
		}
		if err != nil {
			return fail(err)
		}
	}
	if bs < 1 || bs > 1<<30 || seek < 0 || skip < 0 {
		return fail(errors.New("invalid number"))
	}
	if ofile != "" {
		flags := os.O_WRONLY | os.O_CREATE
		if !strings.Contains(conv, "notrunc") && seek == 0 {
			flags |= os.O_TRUNC
		}
		f, err := os.OpenFile(ofile, flags, 0o666)
		if err != nil {
			return fail(err)
		}
		if seek > 0 && !strings.Contains(conv, "notrunc") {
			f.Truncate(seek * bs)
		}
		out = f
	}
	if seek > 0 {
		if _, err := out.Seek(seek*bs, io.SeekStart); err != nil {
			return fail(err)
		}
	}
	if skip > 0 {
		s, ok := in.(io.Seeker)
		var err error
		if ok {
			_, err = s.Seek(skip*bs, io.SeekCurrent)
		}
		if !ok || err != nil {
			_, err = io.CopyN(io.Discard, in, skip*bs)
		}
		if err != nil && err != io.EOF {
			return fail(err)
		}
	}
	start := time.Now()
	buf := make([]byte, bs)
	var full, part, bytes int64
	for cnt < 0 || full+part < cnt {
		n, err := in.Read(buf)
		if n > 0 {
			if int64(n) == bs {
				full++
			} else {
				part++
			}
			p := buf[:n]
			if strings.Contains(conv, "sync") && !strings.Contains(conv, "fsync") && int64(n) < bs {
				clear(buf[n:])
				p = buf
			}
			w, werr := out.Write(p)
			bytes += int64(w)
			if werr != nil {
				return fail(werr)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fail(err)
		}
	}
	if strings.Contains(conv, "fsync") {
		if err := out.Sync(); err != nil {
			return fail(err)
		}
	}
	if err := out.Close(); err != nil {
		return fail(err)
	}
	if !quiet {
		sec := time.Since(start).Seconds()
		fmt.Fprintf(os.Stderr, "%d+%d records in\n%d+%d records out\n%d bytes copied, %.3f s, %s/s\n", full, part, full, part, bytes, sec, sizeString(int64(float64(bytes)/max(sec, 1e-9)), true))
	}
	return 0
}

// sizeOf reads a number with a suffix (k, K, M, G).
func sizeOf(s string) (int64, error) {
	unit := int64(1)
	if i := strings.IndexAny(s, "kKMGb"); i > 0 {
		unit = map[byte]int64{'k': 1 << 10, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'b': 512}[s[i]]
		s = s[:i]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("invalid number %q", s)
	}
	return n * unit, nil
}

// follow copies what is appended to a file, for ever.
func follow(r io.Reader) error {
	for {
		stdout.Flush()
		n, err := io.Copy(stdout, r)
		if err != nil {
			return err
		}
		if n == 0 {
			time.Sleep(200 * time.Millisecond)
		}
	}
}

func reboot([]string) int { return restart(unix.LINUX_REBOOT_CMD_RESTART) }

// halt is halt and poweroff.
func halt([]string) int { return restart(unix.LINUX_REBOOT_CMD_POWER_OFF) }

func restart(cmd int) int {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fail(err)
	}
	return 0
}

// installLinks makes a link to the busybox for every command in a directory.
func installLinks(args []string) int {
	if len(args) != 1 {
		return usage("directory")
	}
	for name := range applets {
		os.Symlink("busybox", filepath.Join(args[0], name))
	}
	return 0
}

// initMain is process 1 of the built-in root: it mounts what a system has, keeps a shell on the console and collects
// orphans. When the shell ends, so does the system.
func initMain([]string) int {
	if os.Getpid() != 1 {
		return fail(errors.New("must be process 1"))
	}
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
		{"devpts", "/dev/pts", "devpts"}, {"tmpfs", "/dev/shm", "tmpfs"}, {"tmpfs", "/tmp", "tmpfs"}, {"tmpfs", "/run", "tmpfs"}} {
		os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[2], unix.MS_NOSUID, ""); err != nil && err != unix.EBUSY {
			fmt.Fprintf(os.Stderr, "init: cannot mount %s: %s\n", m[1], reason(err))
		}
	}
	os.Chmod("/tmp", 0o777|fs.ModeSticky)
	os.Chmod("/dev/shm", 0o777|fs.ModeSticky)
	if h, err := os.ReadFile("/etc/hostname"); err == nil {
		if old, _ := os.Hostname(); old == "(none)" || old == "" {
			unix.Sethostname([]byte(strings.TrimSpace(string(h))))
		}
	}
	for k, v := range map[string]string{"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"} {
		os.Setenv(k, v)
	}
	if os.Getenv("TERM") == "" {
		os.Setenv("TERM", "linux")
	}
	os.Chdir("/root")
	signal.Ignore(unix.SIGHUP)
	cad := make(chan os.Signal, 1)
	signal.Notify(cad, unix.SIGINT) // Ctrl-Alt-Del of the kernel
	go func() {
		<-cad
		restart(unix.LINUX_REBOOT_CMD_RESTART)
	}()

	shell, err := startShell(true)
	if err != nil {
		shell, err = startShell(false)
	}
	if err != nil {
		return fail(err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == shell {
			break
		}
	}
	return halt(nil)
}

// startShell starts a login shell on the console, in a session of its own, with the console as its terminal if it can be.
func startShell(controlling bool) (int, error) {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		console = os.Stdin
	}
	p, err := os.StartProcess("/bin/sh", []string{"-sh"}, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{console, console, console},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: controlling, Ctty: 0},
	})
	if err != nil {
		return 0, err
	}
	return p.Pid, nil
}

// test is the command of that name; the shell has its own, so that this one is for find -exec and env.
func test(args []string) int {
	if self == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			return usage("expression ]")
		}
		args = args[:len(args)-1]
	}
	return runScript("test \"$@\"", args)
}
