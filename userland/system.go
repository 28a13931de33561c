package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
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
