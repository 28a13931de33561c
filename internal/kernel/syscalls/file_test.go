package syscalls

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/sysfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// guest is a task on a fake machine, with memory to pass arguments in.
type guest struct {
	*testing.T
	t    *task.Task
	next uint64
}

const (
	guestBase = 0x10000
	guestSize = 1 << 20
)

func newGuest(t *testing.T) *guest {
	t.Helper()
	k := task.New()
	k.Platform = platform.NewFake()
	ns := vfs.NewNamespace(tmpfs.NewRoot(), "none", 0)
	init, err := k.NewInit(vfs.NewFSContext(ns), vfs.NewFDTable())
	if err != nil {
		t.Fatal(err)
	}
	op := platform.MapOp{Kind: platform.MapAnon, Addr: guestBase, Len: guestSize, Prot: unix.PROT_READ | unix.PROT_WRITE}
	if err := init.Thread().Map([]platform.MapOp{op}); err != nil {
		t.Fatal(err)
	}
	return &guest{t, init, guestBase}
}

// alloc puts bytes into guest memory.
func (g *guest) alloc(b []byte) uint64 {
	g.Helper()
	at := g.next
	g.next += uint64(len(b)+15) &^ 15
	if err := uio.WriteFull(g.t.Mem(), b, at); err != nil {
		g.Fatal(err)
	}
	return at
}

func (g *guest) str(s string) uint64    { return g.alloc(append([]byte(s), 0)) }
func (g *guest) buf(n int) uint64       { return g.alloc(make([]byte, n)) }
func (g *guest) iov(r ...uint64) uint64 { return g.alloc(words(r...)) }
func words(w ...uint64) (b []byte) {
	for _, x := range w {
		b = le.AppendUint64(b, x)
	}
	return b
}

func (g *guest) bytes(at uint64, n int) []byte {
	g.Helper()
	b := make([]byte, n)
	if err := uio.ReadFull(g.t.Mem(), b, at); err != nil {
		g.Fatal(err)
	}
	return b
}

// call makes a system call.
func (g *guest) call(nr int, args ...uint64) (uint64, error) {
	var a platform.Args
	copy(a[:], args)
	return Dispatch(g.t, int32(nr), &a)
}

// ok makes a call that must not fail.
func (g *guest) ok(nr int, args ...uint64) uint64 {
	g.Helper()
	v, err := g.call(nr, args...)
	if err != nil {
		g.Fatalf("%s: %v", Table[nr].Name, err)
	}
	return v
}

// fails makes a call that must fail with an errno.
func (g *guest) fails(want unix.Errno, nr int, args ...uint64) {
	g.Helper()
	if v, err := g.call(nr, args...); err != want {
		g.Errorf("%s(%#x) = %d, %v; want %v", Table[nr].Name, args, v, err, want)
	}
}

// text reads a whole file.
func (g *guest) text(path string) string {
	g.Helper()
	fd := g.ok(unix.SYS_OPEN, g.str(path), unix.O_RDONLY)
	defer g.call(unix.SYS_CLOSE, fd)
	var out []byte
	buf := g.buf(1000)
	for {
		n := g.ok(unix.SYS_READ, fd, buf, 1000)
		if n == 0 {
			return string(out)
		}
		out = append(out, g.bytes(buf, int(n))...)
	}
}

func TestReadWrite(t *testing.T) {
	g := newGuest(t)
	path, data := g.str("/file"), g.alloc([]byte("hello, world"))
	fd := g.ok(unix.SYS_OPEN, path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
	if n := g.ok(unix.SYS_WRITE, fd, data, 12); n != 12 {
		t.Fatal("wrote", n)
	}
	buf := g.buf(64)
	if n := g.ok(unix.SYS_READ, fd, buf, 64); n != 0 {
		t.Error("read at the end:", n)
	}
	if n := g.ok(unix.SYS_PREAD64, fd, buf, 64, 7); string(g.bytes(buf, int(n))) != "world" {
		t.Errorf("pread: %q", g.bytes(buf, int(n)))
	}
	if n := g.ok(unix.SYS_LSEEK, fd, 0, unix.SEEK_SET); n != 0 {
		t.Error("lseek:", n)
	}
	iov := g.iov(buf, 5, buf+32, 32)
	if n := g.ok(unix.SYS_READV, fd, iov, 2); n != 12 || string(g.bytes(buf, 5)) != "hello" || string(g.bytes(buf+32, 7)) != ", world" {
		t.Errorf("readv: %d %q", n, g.bytes(buf, 64))
	}
	if n := g.ok(unix.SYS_PWRITEV2, fd, g.iov(data, 5), 1, 3, 0, unix.RWF_DSYNC); n != 5 {
		t.Error("pwritev2:", n)
	}
	if s := g.text("/file"); s != "helhellworld"[:3]+"hello"+"orld" {
		t.Errorf("file has %q", s)
	}

	g.fails(unix.EBADF, unix.SYS_READ, 99, buf, 1)
	g.fails(unix.EBADF, unix.SYS_READ, uint64(1<<64-1), buf, 1)
	g.fails(unix.EFAULT, unix.SYS_WRITE, fd, 8, 1)
	g.fails(unix.EFAULT, unix.SYS_READ, fd, 1<<63, 1)
	g.fails(unix.EINVAL, unix.SYS_PREAD64, fd, buf, 1, uint64(1<<64-1))
	g.fails(unix.EINVAL, unix.SYS_READV, fd, iov, 1025)
	g.fails(unix.EINVAL, unix.SYS_READV, fd, g.iov(buf, 1<<63), 1)
	g.fails(unix.EOPNOTSUPP, unix.SYS_PREADV2, fd, iov, 1, 0, 0, 0x1000)
	g.fails(unix.EINVAL, unix.SYS_LSEEK, fd, 0, 5)
	g.fails(unix.EEXIST, unix.SYS_OPEN, path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)

	ro := g.ok(unix.SYS_OPEN, path, unix.O_RDONLY)
	g.fails(unix.EBADF, unix.SYS_WRITE, ro, data, 1)
	g.fails(unix.EINVAL, unix.SYS_FTRUNCATE, ro, 0)
	opath := g.ok(unix.SYS_OPEN, path, unix.O_PATH)
	for _, nr := range []int{unix.SYS_READ, unix.SYS_FCHMOD, unix.SYS_FSYNC, unix.SYS_IOCTL, unix.SYS_FLOCK, unix.SYS_FTRUNCATE} {
		args := []uint64{opath, 1, 1}
		g.fails(unix.EBADF, nr, args...)
	}
	g.ok(unix.SYS_FSTAT, opath, g.buf(144))
	g.ok(unix.SYS_CLOSE, fd)
	g.fails(unix.EBADF, unix.SYS_CLOSE, fd)
}

func TestPaths(t *testing.T) {
	g := newGuest(t)
	g.ok(unix.SYS_MKDIR, g.str("/d"), 0o755)
	g.ok(unix.SYS_MKDIRAT, atFDCWD, g.str("d/e"), 0o755)
	dir := g.ok(unix.SYS_OPEN, g.str("/d"), unix.O_RDONLY|unix.O_DIRECTORY)
	g.ok(unix.SYS_SYMLINKAT, g.str("target"), dir, g.str("l"))
	buf := g.buf(300)
	if n := g.ok(unix.SYS_READLINKAT, dir, g.str("l"), buf, 3); string(g.bytes(buf, int(n))) != "tar" {
		t.Errorf("readlink: %q", g.bytes(buf, int(n)))
	}
	g.fails(unix.EINVAL, unix.SYS_READLINK, g.str("/d/l"), buf, 0)
	g.fails(unix.EINVAL, unix.SYS_READLINK, g.str("/d"), buf, 10)
	g.ok(unix.SYS_CHDIR, g.str("d/e"))
	if n := g.ok(unix.SYS_GETCWD, buf, 100); string(g.bytes(buf, int(n))) != "/d/e\x00" {
		t.Errorf("getcwd: %d %q", n, g.bytes(buf, int(n)))
	}
	g.fails(unix.ERANGE, unix.SYS_GETCWD, buf, 4)
	g.fails(unix.ENOENT, unix.SYS_OPEN, g.str(""), 0)
	g.fails(unix.EFAULT, unix.SYS_OPEN, 8, 0)
	g.fails(unix.ENAMETOOLONG, unix.SYS_OPEN, g.str(strings.Repeat("a/", 2048)), 0)
	g.fails(unix.ENAMETOOLONG, unix.SYS_OPEN, g.str("/"+strings.Repeat("a", 256)), 0)
	g.fails(unix.EBADF, unix.SYS_OPENAT, 77, g.str("x"), 0)
	g.fails(unix.ENOENT, unix.SYS_OPENAT, 77, g.str("/x"), 0) // the descriptor is not looked at
	g.fails(unix.EINVAL, unix.SYS_OPEN, g.str("/d"), unix.O_TMPFILE, 0)
	g.fails(unix.EINVAL, unix.SYS_OPEN, g.str("/d/new"), unix.O_DIRECTORY|unix.O_CREAT, 0o600)
	g.fails(unix.EPERM, unix.SYS_MKNOD, g.str("/n"), unix.S_IFDIR|0o700, 0)
	g.fails(unix.EINVAL, unix.SYS_MKNOD, g.str("/n"), unix.S_IFLNK|0o700, 0)
	g.fails(unix.EINVAL, unix.SYS_UNLINKAT, dir, g.str("l"), 1)
	g.fails(unix.EINVAL, unix.SYS_RENAMEAT2, dir, g.str("l"), dir, g.str("m"), unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE)
	g.ok(unix.SYS_RENAMEAT2, dir, g.str("l"), dir, g.str("m"), unix.RENAME_NOREPLACE)
	g.ok(unix.SYS_UNLINKAT, dir, g.str("m"), 0)
	g.fails(unix.EINVAL, unix.SYS_ACCESS, g.str("/d"), 8)
	g.ok(unix.SYS_ACCESS, g.str("/d"), 7)
	if old := g.ok(unix.SYS_UMASK, 0o7077); old != 0o022 {
		t.Errorf("umask was %#o", old)
	}
	if old := g.ok(unix.SYS_UMASK, 0); old != 0o077 {
		t.Errorf("umask was %#o", old)
	}

	// A path that ends right before memory that is not mapped.
	end := uint64(guestBase + guestSize)
	if err := uio.WriteFull(g.t.Mem(), []byte("/d\x00"), end-3); err != nil {
		t.Fatal(err)
	}
	g.ok(unix.SYS_ACCESS, end-3, 0)
	if err := uio.WriteFull(g.t.Mem(), []byte("/dd"), end-3); err != nil {
		t.Fatal(err)
	}
	g.fails(unix.EFAULT, unix.SYS_ACCESS, end-3, 0)
}

func TestOpenat2(t *testing.T) {
	g := newGuest(t)
	path := g.str("/f")
	how := func(flags, mode, resolve uint64, more ...uint64) (uint64, uint64) {
		b := append(words(flags, mode, resolve), words(more...)...)
		return g.alloc(b), uint64(len(b))
	}
	open := func(flags, mode, resolve uint64, more ...uint64) error {
		at, n := how(flags, mode, resolve, more...)
		_, err := g.call(unix.SYS_OPENAT2, atFDCWD, path, at, n)
		return err
	}
	for _, c := range []struct {
		flags, mode, resolve uint64
		more                 []uint64
		want                 error
	}{
		{unix.O_CREAT | unix.O_RDWR, 0o644, 0, nil, nil},
		{unix.O_RDONLY, 0, 0, []uint64{0}, nil},
		{unix.O_RDONLY, 0, 0, []uint64{1}, unix.E2BIG},
		{unix.O_RDONLY, 0o644, 0, nil, unix.EINVAL},
		{unix.O_CREAT, 0o10000, 0, nil, unix.EINVAL},
		{1 << 40, 0, 0, nil, unix.EINVAL},
		{unix.O_RDONLY, 0, 1 << 10, nil, unix.EINVAL},
		{unix.O_RDONLY, 0, unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT, nil, unix.EINVAL},
		{unix.O_PATH | unix.O_APPEND, 0, 0, nil, unix.EINVAL},
		{unix.O_RDONLY, 0, unix.RESOLVE_BENEATH, nil, unix.EXDEV},
	} {
		if err := open(c.flags, c.mode, c.resolve, c.more...); err != c.want {
			t.Errorf("openat2(%#x, %#o, %#x, %v) = %v; want %v", c.flags, c.mode, c.resolve, c.more, err, c.want)
		}
	}
	at, _ := how(0, 0, 0)
	g.fails(unix.EINVAL, unix.SYS_OPENAT2, atFDCWD, path, at, 16)
}

func TestDescriptors(t *testing.T) {
	g := newGuest(t)
	fd := g.ok(unix.SYS_OPEN, g.str("/f"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if fl := g.ok(unix.SYS_FCNTL, fd, unix.F_GETFL); fl != unix.O_RDWR|oLargefile {
		t.Errorf("F_GETFL = %#x", fl)
	}
	if fl := g.ok(unix.SYS_FCNTL, fd, unix.F_GETFD); fl != unix.FD_CLOEXEC {
		t.Errorf("F_GETFD = %#x", fl)
	}
	if n := g.ok(unix.SYS_FCNTL, fd, unix.F_DUPFD, 10); n != 10 {
		t.Errorf("F_DUPFD = %d", n)
	}
	if n := g.ok(unix.SYS_DUP2, fd, 7); n != 7 {
		t.Errorf("dup2 = %d", n)
	}
	if n := g.ok(unix.SYS_DUP2, fd, fd); n != fd {
		t.Errorf("dup2 to itself = %d", n)
	}
	g.fails(unix.EINVAL, unix.SYS_DUP3, fd, fd, 0)
	g.fails(unix.EINVAL, unix.SYS_DUP3, fd, 8, unix.O_NONBLOCK)
	g.fails(unix.EBADF, unix.SYS_DUP2, fd, uint64(1<<64-1))
	g.fails(unix.EBADF, unix.SYS_DUP2, fd, 1<<20)
	g.fails(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_DUPFD, 1<<20)
	g.ok(unix.SYS_FCNTL, fd, unix.F_SETFL, unix.O_APPEND|unix.O_WRONLY)
	if fl := g.ok(unix.SYS_FCNTL, 7, unix.F_GETFL); fl != unix.O_RDWR|oLargefile|unix.O_APPEND {
		t.Errorf("F_GETFL after F_SETFL = %#x", fl)
	}
	on := g.alloc([]byte{1, 0, 0, 0})
	g.ok(unix.SYS_IOCTL, fd, fionbio, on)
	if fl := g.ok(unix.SYS_FCNTL, fd, unix.F_GETFL); fl&unix.O_NONBLOCK == 0 {
		t.Errorf("FIONBIO did nothing")
	}
	g.ok(unix.SYS_IOCTL, fd, fionclex)
	if fl := g.ok(unix.SYS_FCNTL, fd, unix.F_GETFD); fl != 0 {
		t.Errorf("F_GETFD after FIONCLEX = %#x", fl)
	}
	g.fails(unix.ENOTTY, unix.SYS_IOCTL, fd, unix.TCGETS, g.buf(60))
	g.fails(unix.EINVAL, unix.SYS_FCNTL, fd, 12345)
	g.fails(unix.EBADF, unix.SYS_FCNTL, fd, unix.F_GETPIPE_SZ)
	g.fails(unix.ESRCH, unix.SYS_FCNTL, fd, unix.F_SETOWN, 9999)
	g.ok(unix.SYS_FCNTL, fd, unix.F_SETOWN, 1)
	if p := g.ok(unix.SYS_FCNTL, fd, unix.F_GETOWN); p != 1 {
		t.Errorf("F_GETOWN = %d", p)
	}
	lock := g.alloc(make([]byte, flockSize))
	raw := make([]byte, flockSize)
	encodeFlock(raw, &unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 10})
	if err := uio.WriteFull(g.t.Mem(), raw, lock); err != nil {
		t.Fatal(err)
	}
	g.ok(unix.SYS_FCNTL, fd, unix.F_SETLK, lock)
	g.fails(unix.EINVAL, unix.SYS_FLOCK, fd, 3)
	g.ok(unix.SYS_FLOCK, fd, unix.LOCK_EX|unix.LOCK_NB)
	g.fails(unix.EINVAL, unix.SYS_CLOSE_RANGE, 5, 4, 0)
	g.ok(unix.SYS_CLOSE_RANGE, 7, 1<<32-1, 0)
	g.fails(unix.EBADF, unix.SYS_FCNTL, 10, unix.F_GETFD)
}

func TestGetdents(t *testing.T) {
	g := newGuest(t)
	g.ok(unix.SYS_MKDIR, g.str("/d"), 0o755)
	want := map[string]bool{".": true, "..": true}
	for _, n := range []string{"a", "bb", "a-rather-long-name"} {
		g.ok(unix.SYS_CLOSE, g.ok(unix.SYS_CREAT, g.str("/d/"+n), 0o644))
		want[n] = true
	}
	for _, size := range []uint64{48, 64, 4096} {
		fd := g.ok(unix.SYS_OPEN, g.str("/d"), unix.O_RDONLY|unix.O_DIRECTORY)
		got := map[string]bool{}
		buf := g.buf(int(size))
		for {
			n := g.ok(unix.SYS_GETDENTS64, fd, buf, size)
			if n == 0 {
				break
			}
			for b := g.bytes(buf, int(n)); len(b) > 0; {
				l := le.Uint16(b[16:])
				name, _, _ := bytes.Cut(b[19:l], []byte{0})
				if got[string(name)] {
					t.Fatalf("size %d: %q twice", size, name)
				}
				got[string(name)] = true
				b = b[l:]
			}
		}
		if len(got) != len(want) {
			t.Errorf("size %d: got %v", size, got)
		}
		g.ok(unix.SYS_CLOSE, fd)
	}
	fd := g.ok(unix.SYS_OPEN, g.str("/d"), unix.O_RDONLY|unix.O_DIRECTORY)
	g.fails(unix.EINVAL, unix.SYS_GETDENTS64, fd, g.buf(16), 16)
	g.fails(unix.ENOTDIR, unix.SYS_GETDENTS64, g.ok(unix.SYS_OPEN, g.str("/d/a"), 0), g.buf(64), 64)
}

func TestXattr(t *testing.T) {
	g := newGuest(t)
	path := g.str("/f")
	fd := g.ok(unix.SYS_CREAT, path, 0o644)
	name, val, buf := g.str("trusted.x"), g.alloc([]byte("value")), g.buf(100)
	g.ok(unix.SYS_SETXATTR, path, name, val, 5, unix.XATTR_CREATE)
	if n := g.ok(unix.SYS_FGETXATTR, fd, name, 0, 0); n != 5 {
		t.Error("size", n)
	}
	g.fails(unix.ERANGE, unix.SYS_GETXATTR, path, name, buf, 4)
	if n := g.ok(unix.SYS_LGETXATTR, path, name, buf, 100); string(g.bytes(buf, int(n))) != "value" {
		t.Errorf("value %q", g.bytes(buf, int(n)))
	}
	if n := g.ok(unix.SYS_LISTXATTR, path, buf, 100); string(g.bytes(buf, int(n))) != "trusted.x\x00" {
		t.Errorf("list %q", g.bytes(buf, int(n)))
	}
	g.fails(unix.ERANGE, unix.SYS_GETXATTR, path, g.str(""), buf, 4)
	g.fails(unix.ERANGE, unix.SYS_GETXATTR, path, g.str(strings.Repeat("x", 256)), buf, 4)
	g.fails(unix.E2BIG, unix.SYS_SETXATTR, path, name, val, 65537, 0)
	g.fails(unix.EINVAL, unix.SYS_SETXATTR, path, name, val, 5, 4)
	g.ok(unix.SYS_FREMOVEXATTR, fd, name)
	g.fails(unix.ENODATA, unix.SYS_GETXATTR, path, name, buf, 100)
}

func TestMemfd(t *testing.T) {
	g := newGuest(t)
	fd := g.ok(unix.SYS_MEMFD_CREATE, g.str("m"), unix.MFD_ALLOW_SEALING)
	g.ok(unix.SYS_FTRUNCATE, fd, 100)
	g.ok(unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	if s := g.ok(unix.SYS_FCNTL, fd, unix.F_GET_SEALS); s != unix.F_SEAL_GROW {
		t.Errorf("seals %#x", s)
	}
	g.fails(unix.EPERM, unix.SYS_FTRUNCATE, fd, 200)
	g.fails(unix.EINVAL, unix.SYS_MEMFD_CREATE, g.str(strings.Repeat("n", 250)), 0)
	g.fails(unix.EINVAL, unix.SYS_MEMFD_CREATE, g.str("m"), 0x100)
}

// TestProc mounts proc and sys and reads them as programs do.
func TestProc(t *testing.T) {
	g := newGuest(t)
	procfs.New(procfs.Config{Kernel: g.t.K, Cmdline: "mem=64M root=98:0"})
	sysfs.Init(sysfs.Config{CPUs: 2})
	for _, fs := range []string{"proc", "sysfs"} {
		g.ok(unix.SYS_MKDIR, g.str("/"+fs), 0o755)
		g.ok(unix.SYS_MOUNT, g.str("none"), g.str("/"+fs), g.str(fs), unix.MS_NOSUID, 0)
	}
	if s := g.text("/proc/cmdline"); s != "mem=64M root=98:0\n" {
		t.Errorf("cmdline %q", s)
	}
	if s := g.text("/proc/self/stat"); !strings.HasPrefix(s, "1 (") || len(strings.Fields(s[strings.LastIndex(s, ")"):])) != 51 {
		t.Errorf("stat %q", s)
	}
	if s := g.text("/proc/1/task/1/comm"); s != g.t.Comm()+"\n" {
		t.Errorf("comm %q", s)
	}
	for _, want := range []string{"none /proc proc rw,nosuid,relatime 0 0\n", "none /sysfs sysfs rw,nosuid,relatime 0 0\n"} {
		if s := g.text("/proc/mounts"); !strings.Contains(s, want) {
			t.Errorf("mounts %q", s)
		}
	}
	if s := g.text("/sysfs/devices/system/cpu/online"); s != "0-1\n" {
		t.Errorf("online %q", s)
	}
	if s := g.text("/sysfs/class/mem/null/dev"); s != "1:3\n" {
		t.Errorf("null %q", s)
	}
	for _, p := range []string{
		"status", "statm", "maps", "smaps", "limits", "mountinfo", "mountstats", "environ", "auxv", "cmdline", "io",
		"oom_score", "oom_adj", "syscall", "personality", "wchan", "timers", "uid_map", "fdinfo/0",
	} {
		if p == "fdinfo/0" {
			g.ok(unix.SYS_OPEN, g.str("/proc/1"), unix.O_RDONLY)
		}
		g.text("/proc/self/" + p)
	}
	for _, p := range []string{
		"meminfo", "stat", "cpuinfo", "uptime", "loadavg", "version", "filesystems", "devices", "partitions", "diskstats",
		"interrupts", "locks", "vmstat", "zoneinfo", "buddyinfo", "slabinfo", "misc", "sys/kernel/random/uuid", "sys/fs/file-nr",
	} {
		if g.text("/proc/"+p) == "" && p != "partitions" && p != "diskstats" && p != "locks" && p != "misc" {
			t.Errorf("/proc/%s is empty", p)
		}
	}
	w := g.ok(unix.SYS_OPEN, g.str("/proc/sys/kernel/hostname"), unix.O_WRONLY|unix.O_TRUNC)
	g.ok(unix.SYS_WRITE, w, g.alloc([]byte("box\n")), 4)
	uts := g.buf(390)
	g.ok(unix.SYS_UNAME, uts)
	if n, _, _ := bytes.Cut(g.bytes(uts+65, 65), []byte{0}); string(n) != "box" {
		t.Errorf("nodename %q", n)
	}
	buf := g.buf(100)
	n := g.ok(unix.SYS_READLINK, g.str("/proc/self/fd/0"), buf, 100)
	if s := string(g.bytes(buf, int(n))); s != "/proc/1" {
		t.Errorf("fd 0 is %q", s)
	}
	n = g.ok(unix.SYS_READLINK, g.str("/proc/self/cwd"), buf, 100)
	if s := string(g.bytes(buf, int(n))); s != "/" {
		t.Errorf("cwd is %q", s)
	}
	g.ok(unix.SYS_STAT, g.str("/proc/self/ns/mnt"), g.buf(144))
	g.fails(unix.ENOENT, unix.SYS_OPEN, g.str("/proc/999"), 0)
	g.fails(unix.ENOENT, unix.SYS_OPEN, g.str("/proc/01"), 0)
	names := g.list("/proc")
	for _, n := range []string{"1", "self", "meminfo", "sys"} {
		if !names[n] {
			t.Errorf("/proc has no %s: %v", n, names)
		}
	}
	if names := g.list("/proc/1/task"); !names["1"] || len(names) != 3 {
		t.Errorf("task: %v", names)
	}
}

// list is the names in a directory, read in small pieces.
func (g *guest) list(path string) map[string]bool {
	g.Helper()
	fd := g.ok(unix.SYS_OPEN, g.str(path), unix.O_RDONLY|unix.O_DIRECTORY)
	defer g.call(unix.SYS_CLOSE, fd)
	buf, out := g.buf(64), map[string]bool{}
	for {
		n := g.ok(unix.SYS_GETDENTS64, fd, buf, 64)
		if n == 0 {
			return out
		}
		for b := g.bytes(buf, int(n)); len(b) > 0; b = b[le.Uint16(b[16:]):] {
			name, _, _ := bytes.Cut(b[19:], []byte{0})
			if out[string(name)] {
				g.Fatalf("%s has %q twice", path, name)
			}
			out[string(name)] = true
		}
	}
}

func BenchmarkStat(b *testing.B) {
	g := newGuest(&testing.T{})
	g.call(unix.SYS_MKDIR, g.str("/d"), 0o755)
	path, buf := g.str("/d"), g.buf(144)
	b.ReportAllocs()
	for b.Loop() {
		g.call(unix.SYS_STAT, path, buf)
	}
}

func BenchmarkPread(b *testing.B) {
	g := newGuest(&testing.T{})
	fd, _ := g.call(unix.SYS_OPEN, g.str("/f"), unix.O_RDWR|unix.O_CREAT, 0o644)
	buf := g.buf(144)
	g.call(unix.SYS_WRITE, fd, buf, 100)
	b.ReportAllocs()
	for b.Loop() {
		g.call(unix.SYS_PREAD64, fd, buf, 100, 0)
	}
}

// TestHostnamePoll holds that a program which polls the host name's file learns of a change once.
func TestHostnamePoll(t *testing.T) {
	g := newGuest(t)
	procfs.New(procfs.Config{Kernel: g.t.K})
	g.ok(unix.SYS_MKDIR, g.str("/proc"), 0o755)
	g.ok(unix.SYS_MOUNT, g.str("none"), g.str("/proc"), g.str("proc"), 0, 0)
	fd := g.ok(unix.SYS_OPEN, g.str("/proc/sys/kernel/hostname"), unix.O_RDONLY)
	pfd := g.alloc([]byte{byte(fd), 0, 0, 0, unix.POLLPRI, 0, 0, 0})
	if n := g.ok(unix.SYS_POLL, pfd, 1, 0); n != 0 {
		t.Errorf("before: %d", n)
	}
	g.ok(unix.SYS_SETHOSTNAME, g.str("changed"), 7)
	if n := g.ok(unix.SYS_POLL, pfd, 1, 0); n != 1 {
		t.Errorf("after a change: %d", n)
	}
	if n := g.ok(unix.SYS_POLL, pfd, 1, 0); n != 0 {
		t.Errorf("again: %d", n)
	}
}
