package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/client"
)

// limit is how long one run of one system may take.
const limit = 10 * time.Minute

// A system is one kernel that is measured.
type system struct {
	name    string
	column  int // of the table
	measure func(pinned bool) ([]row, error)
}

// row is one measured value.
type row struct {
	name  string
	value float64
	unit  string
}

// bench is what all systems share.
type bench struct {
	options
	dir     string // scratch directory
	systems []system
	notes   []string
	oldRegs bool // linux.uml needs execWithoutRegset
}

// prepare builds the programs and the roots and finds out which systems there are.
func prepare(o options, dir string) (*bench, error) {
	b := &bench{options: o, dir: dir}
	linux, err := filepath.Abs(o.linux)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(linux); err != nil {
		return nil, fmt.Errorf("%w (make builds it)", err)
	}
	b.linux = linux
	for _, need := range []struct{ tool, pkg string }{{"gcc", "gcc libc6-dev"}, {"busybox", "busybox-static"}} {
		if _, err := exec.LookPath(need.tool); err != nil {
			return nil, fmt.Errorf("%s is missing: apt-get install %s", need.tool, need.pkg)
		}
	}
	if err := b.buildRoot(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.disk); err != nil {
		b.notes = append(b.notes, fmt.Sprintf("Disk work was not measured: %v (make image builds one).", err))
		b.disk = ""
	} else if err := b.prepareDisk(); err != nil {
		return nil, err
	}
	b.systems = append(b.systems, b.system("host", host, b.host))
	if err := b.prepareUML(); err != nil {
		b.notes = append(b.notes, fmt.Sprintf("linux.uml was not measured: %v", err))
	} else {
		b.systems = append(b.systems, b.system("linux.uml", classic, b.classic))
	}
	b.systems = append(b.systems, b.system("ours", ours, b.ours))
	return b, nil
}

// script is the program of the guests' roots. As the init of linux.uml it has to halt the machine itself.
const script = `#!/bin/sh
[ -e /proc/self ] || mount -t proc proc /proc
mount -t tmpfs tmpfs /tmp
ip link set lo up 2>/dev/null
%s
[ $$ = 1 ] && poweroff -f
`

// buildRoot makes the tree that both guests boot and an initramfs from it.
func (b *bench) buildRoot() error {
	root := filepath.Join(b.dir, "root")
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for _, p := range []string{"ubench", "load"} {
		err := tool("gcc", "-O2", "-static", "-pthread", "-o", filepath.Join(root, "bin", p), filepath.Join("testdata/bench", p+".c"))
		if err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := tool("cp", "-L", busybox, filepath.Join(root, "bin/busybox")); err != nil {
		return err
	}
	for _, name := range []string{"sh", "true", "mount", "ip", "poweroff"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	commands := fmt.Sprintf("/bin/ubench -d /tmp -t %g %s", b.budget, b.filter)
	if b.filter == "" {
		commands += fmt.Sprintf("\n/bin/load %g", b.budget)
	}
	for name, text := range map[string]string{"measure": fmt.Sprintf(script, commands), "halt": "#!/bin/sh\npoweroff -f\n", "busy": "#!/bin/sh\nwhile :; do /bin/true; done\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return tool("sh", "-c", `cd "$1" && find . | busybox cpio -o -H newc >"$2" 2>/dev/null`, "sh", root, b.initrd())
}

func (b *bench) initrd() string { return filepath.Join(b.dir, "initrd") }
func (b *bench) image() string  { return filepath.Join(b.dir, "image") }

// prepareUML makes the image and finds out how linux.uml starts here.
func (b *bench) prepareUML() error {
	path, err := exec.LookPath(b.uml)
	if err != nil {
		return fmt.Errorf("%s is missing: apt-get install user-mode-linux", b.uml)
	}
	b.uml = path
	mke2fs := "mke2fs"
	if _, err := exec.LookPath(mke2fs); err != nil {
		mke2fs = "/sbin/mke2fs"
	}
	if err := tool(mke2fs, "-q", "-t", "ext4", "-d", filepath.Join(b.dir, "root"), b.image(), "24M"); err != nil {
		return fmt.Errorf("%w (apt-get install e2fsprogs)", err)
	}
	out, err := b.output(false, b.umlArgs("/halt"))
	if err == nil && bytes.Contains(out, []byte("ptrace set fp regs failed")) {
		b.oldRegs = true
		b.notes = append(b.notes, "linux.uml does not know this CPU's register state: it ran without PTRACE_GETREGSET and its programs without AVX.")
		out, err = b.output(false, b.umlArgs("/halt"))
	}
	if err == nil && !bytes.Contains(out, []byte("System halted")) && !bytes.Contains(out, []byte("Power down")) {
		err = fmt.Errorf("it does not start:\n%s", tail(out))
	}
	return err
}

// noAVX makes glibc choose functions that use no register beyond SSE.
const noAVX = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512VL,-AVX512BW,-AVX512F,-AVX,-XSAVE,-XSAVEC," +
	"-AVX_Fast_Unaligned_Load,-Prefer_No_AVX512_Probing,-RTM"

func (b *bench) umlArgs(init string) []string {
	args := []string{b.uml, "ubd0=" + b.image(), "root=/dev/ubda", "rw", "mem=256M", "con=null", "con0=null,fd:1", "init=" + init}
	if !b.oldRegs {
		return args
	}
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return append(append([]string{self, launchOldRegs}, args...), noAVX)
}

// system is one whose rows are those of ubench and its like, and those of disks.
func (b *bench) system(name string, column int, rest func(pinned bool) ([]row, error)) system {
	return system{name, column, func(pinned bool) (rows []row, err error) {
		if !b.only {
			if rows, err = rest(pinned); err != nil {
				return nil, err
			}
		}
		if b.disk == "" || b.filter != "" {
			return rows, nil
		}
		more, err := b.measureDisk(column, pinned)
		return append(rows, more...), err
	}}
}

func (b *bench) host(pinned bool) ([]row, error) {
	tmp, err := os.MkdirTemp("/dev/shm", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	args := []string{filepath.Join(b.dir, "root/bin/ubench"), "-d", tmp, "-t", fmt.Sprint(b.budget)}
	if b.filter != "" {
		return b.rows(pinned, append(args, b.filter))
	}
	rows, err := b.rows(pinned, args)
	if err != nil {
		return nil, err
	}
	more, err := b.rows(pinned, []string{filepath.Join(b.dir, "root/bin/load"), fmt.Sprint(b.budget)})
	return append(rows, more...), err
}

func (b *bench) classic(pinned bool) ([]row, error) {
	rows, err := b.rows(pinned, b.umlArgs("/measure"))
	if err != nil || b.filter != "" {
		return rows, err
	}
	if rows, err = b.boot(rows, pinned, b.umlArgs("/halt")); err != nil {
		return nil, err
	}
	return b.console(rows, pinned, b.umlArgs("/busy"))
}

func (b *bench) ours(pinned bool) ([]row, error) {
	rows, err := b.rows(pinned, []string{b.linux, "quiet", "mem=256M", "initrd=" + b.initrd(), "exec=/measure"})
	if err != nil || b.filter != "" {
		return rows, err
	}
	if rows, err = b.boot(rows, pinned, []string{b.linux, "quiet", "exec=true"}); err != nil {
		return nil, err
	}
	return b.console(rows, pinned, []string{b.linux, "quiet", "mem=256M", "initrd=" + b.initrd(), "exec=/busy"})
}

// console adds how long the management console takes to answer while the guest starts one program after the other.
func (b *bench) console(rows []row, pinned bool, args []string) ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := command(ctx, append(args, "uml_dir="+filepath.Join(b.dir, "uml"), "umid=bench"))
	if err := startOn(cmd, pinned); err != nil {
		return nil, err
	}
	defer cmd.Wait() // linux.uml ends with odd statuses
	defer cancel()
	c, err := client.Dial(filepath.Join(b.dir, "uml/bench/mconsole"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ask := func() error {
		_, err := c.Ask("version", func(string) {})
		return err
	}
	for end := time.Now().Add(time.Minute); ask() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return nil, errors.New("the management console does not answer")
		}
	}
	time.Sleep(time.Second) // until the guest is busy
	start, n := time.Now(), 0
	for ; n < 20 || time.Since(start).Seconds() < b.budget; n++ {
		if err := ask(); err != nil {
			return nil, err
		}
	}
	return append(rows, row{"mconsole_version", float64(time.Since(start).Microseconds()) / float64(n), "us"}), nil
}

// boot adds how long a guest takes from start to end, and the memory that its kernel needs.
func (b *bench) boot(rows []row, pinned bool, args []string) ([]row, error) {
	best, rss := time.Duration(1<<62), 0.0
	for range 3 {
		cmd := command(context.Background(), args)
		start := time.Now()
		if err := startOn(cmd, pinned); err != nil {
			return nil, err
		}
		_ = cmd.Wait() // linux.uml ends with odd statuses
		best = min(best, time.Since(start))
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			rss = max(rss, float64(u.Maxrss)/1024)
		}
	}
	return append(rows, row{"boot_exec_true", best.Seconds() * 1e3, "ms"}, row{"boot_rss", rss, "MB"}), nil
}

var line = regexp.MustCompile(`(?m)^(\w+) +([0-9.]+) (us|ms|MB/s|x)\r?$`)

// rows runs a command and returns the values that it prints.
func (b *bench) rows(pinned bool, args []string) ([]row, error) {
	out, err := b.output(pinned, args)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, m := range line.FindAllSubmatch(out, -1) {
		v, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{string(m[1]), v, string(m[3])})
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no results:\n%s", tail(out))
	}
	return rows, nil
}

// output runs a command to its end and returns what it printed. Its status is not looked at: a kernel's says little, what it
// printed says all.
func (b *bench) output(pinned bool, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := command(ctx, args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startOn(cmd, pinned); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("took more than %v:\n%s", limit, tail(out.Bytes()))
	}
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return nil, err
	}
	return out.Bytes(), nil
}

// command makes a command whose whole process group ends with ctx.
func command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// startOn starts a command, on the first CPU that this process may use if it is to be pinned.
func startOn(cmd *exec.Cmd, pinned bool) error {
	if !pinned {
		return cmd.Start()
	}
	runtime.LockOSThread() // a child gets the CPUs of the thread that starts it
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return err
	}
	for cpu := range len(old) * 64 {
		if old.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	err := cmd.Start()
	if e := unix.SchedSetaffinity(0, &old); e != nil && err == nil {
		err = e
	}
	return err
}

// tool runs a command whose output only matters when it fails.
func tool(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// tail returns the end of an output that is too long to show.
func tail(out []byte) []byte {
	const most = 2000
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return bytes.TrimSpace(out)
}
