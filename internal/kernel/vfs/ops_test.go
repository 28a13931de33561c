package vfs_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func TestRename(t *testing.T) {
	const nr, ex = unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE
	for _, x := range []struct {
		old, nu string
		flags   uint32
		want    error
		gone    string // must not exist afterwards
		content string // "path=content" that must be
	}{
		{"f", "g", 0, nil, "f", "g=f"},
		{"f", "e/f", 0, nil, "f", "e/f=f"},
		{"f", "h", 0, nil, "f", "h=f"},
		{"f", "f", 0, nil, "", "f=f"},
		{"f", "hard", 0, nil, "", "hard=f"},
		{"none", "x", 0, unix.ENOENT, "", ""},
		{"f", "none/x", 0, unix.ENOENT, "", ""},
		{"f", "e", 0, unix.EISDIR, "", ""},
		{"e", "f", 0, unix.ENOTDIR, "", ""},
		{"e", "e2", 0, nil, "e", ""},
		{"e", "d", 0, unix.ENOTEMPTY, "", ""},
		{"d", "e", 0, nil, "d", "e/k=d/k"},
		{"d", "d/sub/x", 0, unix.EINVAL, "", ""},
		{"d", "d/sub", 0, unix.EINVAL, "", ""},
		{"d/sub", "d", 0, unix.ENOTEMPTY, "", ""},
		{"f", "new/", 0, unix.ENOTDIR, "", ""},
		{"e/", "new/", 0, nil, "e", ""},
		{"f/", "new", 0, unix.ENOTDIR, "", ""},
		{".", "x", 0, unix.EBUSY, "", ""},
		{"f", "d/..", 0, unix.EBUSY, "", ""},
		{"f", "d/..", nr, unix.EEXIST, "", ""},
		{"f", "h", nr, unix.EEXIST, "", "h=h"},
		{"f", "new", nr, nil, "f", "new=f"},
		{"f", "h", ex, nil, "", "h=f"},
		{"f", "d", ex, nil, "", "f/k=d/k"},
		{"f", "d/k", ex, nil, "", "d/k=f"},
		{"d", "d/sub", ex, unix.EINVAL, "", ""},
		{"d/sub", "d", ex, unix.EINVAL, "", ""},
		{"f", "none", ex, unix.ENOENT, "", ""},
		{"f", "h", ex | nr, unix.EINVAL, "", ""},
		{"f", "m/f", 0, unix.EXDEV, "", ""},
		{"m", "mm", 0, unix.EBUSY, "", ""},
		{"e", "m", 0, unix.EBUSY, "", ""},
		{"f", "wh", unix.RENAME_WHITEOUT, nil, "", "wh=f"},
		{"l", "l2", 0, nil, "l", "l2=f"},
	} {
		what := fmt.Sprintf("rename %s %s %d", x.old, x.nu, x.flags)
		c := newCaller(t)
		build(t, c, "f", "h", "d/", "d/k", "d/sub/", "e/", "m/", "l -> f")
		must(t, vfs.Link(c, nil, "f", nil, "hard", 0))
		must(t, vfs.DoMount(c, "", "m", "tmpfs", 0, ""))
		// Fill the cache with names that do not exist.
		for _, n := range []string{"g", "new", "wh", "e/f"} {
			vfs.Stat(c, nil, n, 0)
		}
		want(t, what, vfs.Rename(c, nil, x.old, nil, x.nu, x.flags), x.want)
		if x.gone != "" {
			_, err := vfs.Stat(c, nil, x.gone, unix.AT_SYMLINK_NOFOLLOW)
			want(t, what+": old name", err, unix.ENOENT)
		}
		if p, text, ok := strings.Cut(x.content, "="); ok {
			if got, err := read(c, p); got != text {
				t.Errorf("%s: %s has %q (%v), want %q", what, p, got, err, text)
			}
		}
		if x.flags&unix.RENAME_WHITEOUT != 0 {
			if a, err := vfs.Stat(c, nil, x.old, 0); err != nil || a.Mode&unix.S_IFMT != unix.S_IFCHR || a.Rdev != 0 {
				t.Errorf("%s: whiteout %o %v", what, a.Mode, err)
			}
		}
	}
}

func TestUnlinkedNames(t *testing.T) {
	c := newCaller(t)
	build(t, c, "d/", "d/f")
	f, err := open(c, "d/f", unix.O_RDONLY, 0)
	must(t, err)
	must(t, vfs.Unlink(c, nil, "d/f"))
	if n := vfs.PathName(c, f.Path); n != "/d/f (deleted)" {
		t.Errorf("name %q", n)
	}
	b := make([]byte, 10)
	if n, err := vfs.Pread(c, f, uio.ToBytes(b), 0); string(b[:n]) != "d/f" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	f.DecRef()
	must(t, vfs.Chdir(c, "d"))
	must(t, vfs.Rmdir(c, nil, "/d"))
	_, err = vfs.Getcwd(c)
	want(t, "getcwd", err, unix.ENOENT)
	_, err = open(c, "x", unix.O_CREAT|unix.O_WRONLY, 0o600)
	want(t, "create in a removed directory", err, unix.ENOENT)
	want(t, "mkdir in a removed directory", vfs.Mkdir(c, nil, "x", 0o700), unix.ENOENT)
	_, err = vfs.Stat(c, nil, "..", 0)
	want(t, "parent of a removed directory", err, nil)
	must(t, vfs.Chdir(c, "/"))
	for _, x := range []struct {
		path string
		dir  bool
		want error
	}{{"/", true, unix.EBUSY}, {"d/.", true, unix.ENOENT}, {".", true, unix.EINVAL}, {"..", true, unix.ENOTEMPTY},
		{".", false, unix.EISDIR}, {"none", false, unix.ENOENT}} {
		if x.dir {
			want(t, "rmdir "+x.path, vfs.Rmdir(c, nil, x.path), x.want)
		} else {
			want(t, "unlink "+x.path, vfs.Unlink(c, nil, x.path), x.want)
		}
	}
}

func TestMounts(t *testing.T) {
	c := newCaller(t)
	build(t, c, "a/", "a/f", "b/", "file", "t")
	must(t, vfs.DoMount(c, "src", "/a", "tmpfs", unix.MS_NOSUID, "size=64k,mode=700"))
	build(t, c, "a/sub/", "a/sub/g")
	a, err := vfs.Stat(c, nil, "a", 0)
	if err != nil || a.Mode != unix.S_IFDIR|0o700 {
		t.Errorf("root of the mount: %o %v", a.Mode, err)
	}
	must(t, vfs.DoMount(c, "/a/sub", "/b", "", unix.MS_BIND, ""))
	if s, _ := read(c, "b/g"); s != "a/sub/g" {
		t.Errorf("bind: %q", s)
	}
	must(t, vfs.DoMount(c, "", "/b", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	_, err = open(c, "b/g", unix.O_RDWR, 0)
	want(t, "write to a read-only bind", err, unix.EROFS)
	_, err = open(c, "b/new", unix.O_RDWR|unix.O_CREAT, 0)
	want(t, "create in a read-only bind", err, unix.EROFS)
	f, err := open(c, "a/sub/g", unix.O_RDWR, 0)
	want(t, "write beside it", err, nil)
	want(t, "umount with an open file", vfs.Umount(c, "/a", 0), unix.EBUSY)
	want(t, "remount ro with a writer", vfs.DoMount(c, "", "/a", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""), unix.EBUSY)
	f.DecRef()
	want(t, "bind of a file on a directory", vfs.DoMount(c, "/file", "/b", "", unix.MS_BIND, ""), unix.ENOTDIR)
	must(t, vfs.DoMount(c, "/file", "/t", "", unix.MS_BIND, ""))
	if s, _ := read(c, "t"); s != "file" {
		t.Errorf("file bind: %q", s)
	}
	want(t, "unlink a mount point", vfs.Unlink(c, nil, "t"), unix.EBUSY)
	var lines []string
	for _, m := range c.Ctx.Namespace().Mounts(c.Ctx.Root()) {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", m.Source, m.Root, m.Point, m.Type, m.AllOptions()))
	}
	got := strings.Join(lines, "\n")
	wanted := `rootfs / / rootfs rw,relatime
src / /a tmpfs rw,nosuid,relatime,size=64k,mode=700,inode64
src /sub /b tmpfs ro,relatime,size=64k,mode=700,inode64
rootfs /file /t rootfs rw,relatime`
	if got != wanted {
		t.Errorf("mounts:\n%s\nwant:\n%s", got, wanted)
	}
	must(t, vfs.Umount(c, "/t", 0))
	must(t, vfs.Umount(c, "/b", 0))
	must(t, vfs.Umount(c, "/a", 0))
	want(t, "umount again", vfs.Umount(c, "/a", 0), unix.EINVAL)
	if s, _ := read(c, "a/f"); s != "a/f" {
		t.Errorf("what was below: %q", s)
	}
	want(t, "unknown type", vfs.DoMount(c, "", "/a", "nofs", 0, ""), unix.ENODEV)
	want(t, "without privilege", vfs.DoMount(c.As(1, 1), "", "/a", "tmpfs", 0, ""), unix.EPERM)
	want(t, "bad option", vfs.DoMount(c, "", "/a", "tmpfs", 0, "size=banana"), unix.EINVAL)
}

func TestLazyUmountAndMove(t *testing.T) {
	c := newCaller(t)
	build(t, c, "a/", "b/")
	must(t, vfs.DoMount(c, "", "/a", "tmpfs", 0, ""))
	build(t, c, "a/f", "a/m/")
	must(t, vfs.DoMount(c, "", "/a/m", "tmpfs", 0, ""))
	want(t, "umount with a mount below", vfs.Umount(c, "/a", 0), unix.EBUSY)
	must(t, vfs.DoMount(c, "/a", "/b", "", unix.MS_MOVE, ""))
	if s, _ := read(c, "b/f"); s != "a/f" {
		t.Errorf("moved: %q", s)
	}
	want(t, "move into itself", vfs.DoMount(c, "/b", "/b/m", "", unix.MS_MOVE, ""), unix.ELOOP)
	f, err := open(c, "b/f", unix.O_RDONLY, 0)
	must(t, err)
	must(t, vfs.Umount(c, "/b", unix.MNT_DETACH))
	_, err = vfs.Stat(c, nil, "b/f", 0)
	want(t, "after lazy umount", err, unix.ENOENT)
	b := make([]byte, 10)
	if n, err := vfs.Read(c, f, uio.ToBytes(b)); string(b[:n]) != "a/f" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	f.DecRef()
	if n := len(c.Ctx.Namespace().Mounts(c.Ctx.Root())); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

func TestNamespacesPivotChroot(t *testing.T) {
	c := newCaller(t)
	build(t, c, "new/", "x", "jail/", "jail/in")
	n := c.Fork()
	defer n.Ctx.Release()
	must(t, n.Ctx.UnshareNamespace(n))
	must(t, vfs.DoMount(n, "", "/new", "tmpfs", 0, ""))
	build(t, n, "new/old/", "new/inside")
	if _, err := vfs.Stat(c, nil, "/new/inside", 0); err != unix.ENOENT {
		t.Errorf("the first name space sees the mount: %v", err)
	}
	must(t, vfs.Chdir(n, "/"))
	must(t, vfs.PivotRoot(n, "/new", "/new/old"))
	if s, err := read(n, "/inside"); s != "new/inside" {
		t.Errorf("new root: %q %v", s, err)
	}
	if s, err := read(n, "/old/x"); s != "x" {
		t.Errorf("old root: %q %v", s, err)
	}
	if s, err := vfs.Getcwd(n); s != "/" || err != nil {
		t.Errorf("cwd %q %v", s, err)
	}
	want(t, "umount the old root", vfs.Umount(n, "/old", 0), nil)
	if s, _ := read(c, "/x"); s != "x" {
		t.Errorf("the first name space lost its root: %q", s)
	}

	j := c.Fork()
	defer j.Ctx.Release()
	must(t, vfs.Chroot(j, "/jail"))
	if s, _ := read(j, "/../../in"); s != "jail/in" {
		t.Errorf("chroot: %q", s)
	}
	if s, _ := vfs.Getcwd(j); s != "(unreachable)/" {
		t.Errorf("cwd outside of the root: %q", s)
	}
	want(t, "chroot without privilege", vfs.Chroot(c.As(1, 1), "/jail"), unix.EPERM)
}

func TestReadWriteSeek(t *testing.T) {
	c := newCaller(t)
	f, err := open(c, "f", unix.O_RDWR|unix.O_CREAT|unix.O_APPEND, 0o600)
	must(t, err)
	put := func(s string) {
		t.Helper()
		if n, err := vfs.Write(c, f, uio.FromBytes([]byte(s))); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	put("abc")
	vfs.Seek(c, f, 0, unix.SEEK_SET)
	put("def")
	if f.Pos() != 6 {
		t.Errorf("position after append %d", f.Pos())
	}
	if _, err := vfs.Pwrite(c, f, uio.FromBytes([]byte("g")), 0); err != nil {
		t.Fatal(err)
	}
	if s, _ := read(c, "f"); s != "abcdefg" {
		t.Errorf("%q", s)
	}
	for _, x := range []struct {
		off    int64
		whence int
		pos    int64
		want   error
	}{{-1, unix.SEEK_SET, 0, unix.EINVAL}, {0, unix.SEEK_END, 7, nil}, {-7, unix.SEEK_END, 0, nil}, {-8, unix.SEEK_END, 0, unix.EINVAL},
		{1 << 40, unix.SEEK_SET, 1 << 40, nil}, {1<<63 - 1, unix.SEEK_CUR, 0, unix.EINVAL}, {0, 99, 0, unix.EINVAL},
		{0, unix.SEEK_DATA, 0, nil}, {0, unix.SEEK_HOLE, 7, nil}, {7, unix.SEEK_DATA, 0, unix.ENXIO}} {
		pos, err := vfs.Seek(c, f, x.off, x.whence)
		if pos != x.pos || err != x.want {
			t.Errorf("seek %d %d: %d %v, want %d %v", x.off, x.whence, pos, err, x.pos, x.want)
		}
	}
	f.DecRef()

	c.Limits = map[int]uint64{unix.RLIMIT_FSIZE: 10}
	f, err = open(c, "f", unix.O_RDWR, 0)
	must(t, err)
	defer f.DecRef()
	if n, err := vfs.Pwrite(c, f, uio.FromBytes([]byte("123456")), 7); n != 3 || err != nil {
		t.Errorf("write over the limit: %d %v", n, err)
	}
	_, err = vfs.Pwrite(c, f, uio.FromBytes([]byte("1")), 10)
	want(t, "write at the limit", err, unix.EFBIG)
	want(t, "truncate over the limit", vfs.Ftruncate(c, f, 11), unix.EFBIG)
	if s := c.Signals(); len(s) != 2 || s[0] != unix.SIGXFSZ {
		t.Errorf("signals %v", s)
	}
}

func TestXattrRules(t *testing.T) {
	c := newCaller(t)
	build(t, c, "0644 10:f", "l -> f", "1777 d/")
	must(t, vfs.Mknod(c, nil, "p", unix.S_IFIFO|0o666, 0))
	u, v := c.As(10, 10), c.As(11, 11)
	set := func(c vfs.Caller, path, name string, fl int) error {
		return vfs.Setxattr(c, nil, path, unix.AT_SYMLINK_NOFOLLOW, name, []byte("v"), fl)
	}
	want(t, "user by owner", set(u, "f", "user.a", 0), nil)
	want(t, "create again", set(u, "f", "user.a", unix.XATTR_CREATE), unix.EEXIST)
	want(t, "replace missing", set(u, "f", "user.b", unix.XATTR_REPLACE), unix.ENODATA)
	want(t, "user by another", set(v, "f", "user.b", 0), unix.EACCES)
	want(t, "user on a link", set(c, "l", "user.a", 0), unix.EPERM)
	want(t, "user on a fifo", set(c, "p", "user.a", 0), unix.EPERM)
	want(t, "user on a sticky directory", set(u, "d", "user.a", 0), unix.EPERM)
	want(t, "trusted by a user", set(u, "f", "trusted.a", 0), unix.EPERM)
	want(t, "trusted by root", set(c, "f", "trusted.a", 0), nil)
	want(t, "security by a user", set(u, "f", "security.x", 0), unix.EPERM)
	want(t, "no prefix", set(c, "f", "what", 0), unix.EOPNOTSUPP)
	want(t, "unknown prefix", set(c, "f", "other.x", 0), unix.EOPNOTSUPP)
	_, err := vfs.Getxattr(u, nil, "f", 0, "trusted.a")
	want(t, "get trusted by a user", err, unix.ENODATA)
	if l, err := vfs.Listxattr(u, nil, "f", 0); string(l) != "user.a\x00" || err != nil {
		t.Errorf("list %q %v", l, err)
	}
	if l, err := vfs.Listxattr(c, nil, "f", 0); string(l) != "trusted.a\x00user.a\x00" || err != nil {
		t.Errorf("list %q %v", l, err)
	}
	must(t, vfs.Removexattr(u, nil, "f", 0, "user.a"))
	_, err = vfs.Getxattr(u, nil, "f", 0, "user.a")
	want(t, "get removed", err, unix.ENODATA)
}

func TestTextBusy(t *testing.T) {
	c := newCaller(t)
	build(t, c, "0755 prog", "0644 data")
	must(t, vfs.DoMount(c, "/", "/", "", unix.MS_BIND, ""))
	x, err := vfs.OpenExec(c, nil, "prog", 0)
	must(t, err)
	_, err = open(c, "prog", unix.O_WRONLY, 0)
	want(t, "write a running program", err, unix.ETXTBSY)
	vfs.AllowWrite(x)
	x.DecRef()
	w, err := open(c, "prog", unix.O_WRONLY, 0)
	must(t, err)
	_, err = vfs.OpenExec(c, nil, "prog", 0)
	want(t, "run a file that is written", err, unix.ETXTBSY)
	w.DecRef()
	_, err = vfs.OpenExec(c, nil, "data", 0)
	want(t, "run data", err, unix.EACCES)
}

func TestLocks(t *testing.T) {
	c := newCaller(t)
	build(t, c, "f", "g")
	o := c.Fork()
	t1, t2 := vfs.NewFDTable(), vfs.NewFDTable()
	put := func(c *vfstest.Caller, tab *vfs.FDTable, path string) int32 {
		f, err := open(c, path, unix.O_RDWR, 0)
		must(t, err)
		fd, err := tab.Install(c, f, 0, false)
		must(t, err)
		return fd
	}
	f1, g1, f2, g2 := put(c, t1, "f"), put(c, t1, "g"), put(o, t2, "f"), put(o, t2, "g")
	lock := func(c *vfstest.Caller, tab *vfs.FDTable, fd int32, cmd int, typ int16, start, n int64) error {
		f, err := tab.Get(fd)
		must(t, err)
		defer f.DecRef()
		return vfs.FcntlLock(c, tab, fd, f, cmd, &unix.Flock_t{Type: typ, Start: start, Len: n})
	}
	get := func(c *vfstest.Caller, tab *vfs.FDTable, fd int32, start, n int64) unix.Flock_t {
		f, _ := tab.Get(fd)
		defer f.DecRef()
		fl := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: n}
		must(t, vfs.FcntlLock(c, tab, fd, f, unix.F_GETLK, &fl))
		return fl
	}
	must(t, lock(c, t1, f1, unix.F_SETLK, unix.F_WRLCK, 0, 10))
	must(t, lock(c, t1, f1, unix.F_SETLK, unix.F_WRLCK, 10, 10))
	if fl := get(o, t2, f2, 5, 1); fl.Type != unix.F_WRLCK || fl.Start != 0 || fl.Len != 20 || fl.Pid != c.Pid {
		t.Errorf("joined lock %+v", fl)
	}
	want(t, "conflict", lock(o, t2, f2, unix.F_SETLK, unix.F_RDLCK, 19, 5), unix.EAGAIN)
	must(t, lock(c, t1, f1, unix.F_SETLK, unix.F_UNLCK, 5, 5))
	must(t, lock(o, t2, f2, unix.F_SETLK, unix.F_RDLCK, 5, 5))
	want(t, "upgrade", lock(c, t1, f1, unix.F_SETLK, unix.F_WRLCK, 0, 0), unix.EAGAIN)
	if fl := get(o, t2, f2, 15, 0); fl.Start != 10 || fl.Len != 10 {
		t.Errorf("split lock %+v", fl)
	}

	// Deadlock: t1 has f, t2 has g.
	must(t, lock(o, t2, f2, unix.F_SETLK, unix.F_UNLCK, 0, 0))
	must(t, lock(c, t1, f1, unix.F_SETLK, unix.F_WRLCK, 0, 0))
	must(t, lock(o, t2, g2, unix.F_SETLK, unix.F_WRLCK, 0, 0))
	waiting := make(chan error)
	go func() { waiting <- lock(o, t2, f2, unix.F_SETLKW, unix.F_WRLCK, 0, 0) }()
	for {
		n := 0
		for _, l := range vfs.Locks() {
			if l.Blocked {
				n++
			}
		}
		if n == 1 {
			break
		}
	}
	want(t, "deadlock", lock(c, t1, g1, unix.F_SETLKW, unix.F_WRLCK, 0, 0), unix.EDEADLK)
	// Closing any descriptor of the file gives the lock up, and the waiter gets it.
	must(t, t1.Close(c, f1))
	want(t, "waiter", <-waiting, nil)
	t2.DecRef(o)
	t1.DecRef(c)
	if l := vfs.Locks(); len(l) != 0 {
		t.Errorf("left: %v", l)
	}

	// flock and OFD locks belong to the open file.
	a, _ := open(c, "f", unix.O_RDWR, 0)
	b, _ := open(c, "f", unix.O_RDWR, 0)
	must(t, vfs.Flock(c, a, unix.LOCK_EX))
	must(t, vfs.Flock(c, a, unix.LOCK_EX|unix.LOCK_NB))
	want(t, "flock", vfs.Flock(c, b, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	c.Interrupt()
	want(t, "interrupted flock", vfs.Flock(c, b, unix.LOCK_SH), abi.ERESTARTSYS)
	must(t, vfs.Flock(c, a, unix.LOCK_SH))
	must(t, vfs.Flock(c, b, unix.LOCK_SH|unix.LOCK_NB))
	tab := vfs.NewFDTable()
	ofd := func(f *vfs.File) error {
		return vfs.FcntlLock(c, tab, 0, f, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	must(t, ofd(a))
	want(t, "OFD", ofd(b), unix.EAGAIN)
	a.DecRef()
	want(t, "OFD after close", ofd(b), nil)
	b.DecRef()
	if l := vfs.Locks(); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
}

// Large tables are not made when kernel memory is short, and what they take is given back.
func TestFDTableMemory(t *testing.T) {
	c := newCaller(t)
	c.Limits = map[int]uint64{unix.RLIMIT_NOFILE: 1 << 20}
	build(t, c, "f")
	f, err := open(c, "f", unix.O_RDONLY, 0)
	must(t, err)
	before, files := kmem.Bytes(), vfs.OpenFiles()
	tab := vfs.NewFDTable()
	must(t, tab.Dup3(c, f, 1<<20-1, false))
	if n := kmem.Bytes() - before; n < 8<<20 {
		t.Errorf("a table for a million files takes %d bytes", n)
	}
	kmem.SetLimit(kmem.Bytes())
	defer kmem.SetLimit(0)
	_, err = tab.Copy()
	want(t, "copy", err, unix.ENOMEM)
	small := vfs.NewFDTable()
	want(t, "dup2 far away", small.Dup3(c, f, 100000, false), unix.ENOMEM)
	must(t, small.Dup3(c, f, 100, false))
	small.DecRef(c)
	tab.DecRef(c)
	if n := kmem.Bytes(); n != before {
		t.Errorf("%d bytes are left", n-before)
	}
	f.DecRef()
	if n := vfs.OpenFiles(); n != files-1 {
		t.Errorf("%d files are counted, want %d", n, files-1)
	}
}

// More files than file-max are for CAP_SYS_ADMIN only; an open that fails does not count.
func TestFileMax(t *testing.T) {
	c := newCaller(t)
	build(t, c, "0666:f")
	tab := vfs.NewFDTable()
	defer tab.DecRef(c)
	_, err := open(c, "f", unix.O_RDONLY|unix.O_NOATIME|unix.O_DIRECTORY, 0)
	want(t, "open", err, unix.ENOTDIR)
	old := vfs.MaxFiles.Swap(vfs.OpenFiles())
	defer vfs.MaxFiles.Store(old)
	f, err := open(c, "f", unix.O_RDONLY, 0)
	must(t, err)
	_, err = tab.Install(c.As(10, 10), f, 0, false)
	want(t, "install", err, unix.ENFILE)
	_, err = tab.Install(c, f, 0, false)
	must(t, err)
	_, err = tab.Install(c.As(10, 10), f.IncRef(), 0, false)
	want(t, "dup", err, nil)
}

func TestFDTable(t *testing.T) {
	c := newCaller(t)
	build(t, c, "f")
	c.Limits = map[int]uint64{unix.RLIMIT_NOFILE: 200}
	tab := vfs.NewFDTable()
	f, err := open(c, "f", unix.O_RDONLY, 0)
	must(t, err)
	for i := range int32(200) {
		fd, err := tab.Install(c, f.IncRef(), 0, i%2 == 1)
		if fd != i || err != nil {
			t.Fatalf("%d: %d %v", i, fd, err)
		}
	}
	_, err = tab.Install(c, f, 0, false)
	want(t, "full", err, unix.EMFILE)
	must(t, tab.Close(c, 70))
	must(t, tab.Close(c, 3))
	want(t, "close twice", tab.Close(c, 3), unix.EBADF)
	for _, wanted := range []int32{3, 70} {
		if fd, err := tab.Install(c, f.IncRef(), 0, false); fd != wanted || err != nil {
			t.Errorf("lowest: %d %v, want %d", fd, err, wanted)
		}
	}
	want(t, "dup3 beyond", tab.Dup3(c, f, 200, false), unix.EBADF)
	must(t, tab.Dup3(c, f, 5, true))
	tab.CloseRange(c, 100, 1<<31, false)
	n, err := tab.Copy()
	must(t, err)
	n.CloseOnExec(c)
	if n.Count() != 51 || tab.Count() != 100 { // 3 became inheritable
		t.Errorf("%d and %d open", n.Count(), tab.Count())
	}
	tab.CloseRange(c, 0, 9, true)
	tab.CloseOnExec(c)
	if _, err := tab.Get(8); err != unix.EBADF {
		t.Errorf("8: %v", err)
	}
	n.DecRef(c)
	tab.DecRef(c)
	f.DecRef()
	must(t, vfs.DoMount(c, "", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

// Descriptors are opened, closed, duplicated and used by several tasks at once.
func TestFDTableRace(t *testing.T) {
	c := newCaller(t)
	build(t, c, "f")
	tab := vfs.NewFDTable()
	var wg sync.WaitGroup
	forks := []*vfstest.Caller{c.Fork(), c.Fork(), c.Fork(), c.Fork()}
	for i := range 4 {
		wg.Go(func() {
			c := forks[i]
			for n := range 300 {
				switch (n + i) % 4 {
				case 0:
					if f, err := open(c, "f", unix.O_RDONLY, 0); err == nil {
						if _, err := tab.Install(c, f, 0, false); err != nil {
							f.DecRef()
						}
					}
				case 1:
					tab.Close(c, int32(n%8))
				case 2:
					if f, err := tab.Get(int32(n % 8)); err == nil {
						b := make([]byte, 4)
						if n, err := vfs.Pread(c, f, uio.ToBytes(b), 0); n != 1 || err != nil {
							t.Errorf("read %d %v", n, err)
						}
						tab.Dup3(c, f, int32((n*7)%300), false)
						f.DecRef()
					}
				case 3:
					if n, err := tab.Copy(); err == nil {
						n.DecRef(c)
					}
				}
			}
		})
	}
	wg.Wait()
	tab.DecRef(c)
}

// Names come and go under walkers, with a cache that is shrunk all the time.
func TestTreeRace(t *testing.T) {
	c := newCaller(t)
	build(t, c, "a/", "b/", "a/x/", "a/x/f")
	var wg sync.WaitGroup
	run := func(fn func(c vfs.Caller, n int)) {
		c := c.Fork()
		wg.Go(func() {
			for n := range 300 {
				fn(c, n)
			}
			c.Ctx.Release()
		})
	}
	run(func(c vfs.Caller, n int) {
		vfs.Rename(c, nil, "a/x", nil, "b/x", 0)
		vfs.Rename(c, nil, "b/x", nil, "a/x", 0)
	})
	run(func(c vfs.Caller, n int) {
		if s, err := read(c, "a/x/f"); err == nil && s != "a/x/f" {
			t.Errorf("read %q", s)
		}
		vfs.Stat(c, nil, "b/x/../x/f", 0)
		vfs.ShrinkDcache(10)
	})
	run(func(c vfs.Caller, n int) {
		p := fmt.Sprintf("a/t%d", n%3)
		if f, err := open(c, p, unix.O_CREAT|unix.O_RDWR, 0o600); err == nil {
			vfs.PathName(c, f.Path)
			vfs.Unlink(c, nil, p)
			f.DecRef()
		}
		vfs.Mkdir(c, nil, "b/d", 0o700)
		vfs.Rmdir(c, nil, "b/d")
	})
	run(func(c vfs.Caller, n int) {
		if vfs.DoMount(c, "", "/b", "tmpfs", 0, "") == nil {
			vfs.Stat(c, nil, "/b/x", 0)
			vfs.Umount(c, "/b", unix.MNT_DETACH)
		}
	})
	wg.Wait()
	if _, err := read(c, "a/x/f"); err != nil {
		if _, err := read(c, "b/x/f"); err != nil {
			t.Error("the directory is lost")
		}
	}
}

// TestMountMemory makes copies of many mounts at many places: they count as memory of the kernel, of which there is only so much.
func TestMountMemory(t *testing.T) {
	c := newCaller(t)
	build(t, c, "peers/", "tree/", "at/")
	mount := func(source, target, typ string, flags uint64) {
		t.Helper()
		must(t, vfs.DoMount(c, source, target, typ, flags, ""))
	}
	lastID := func() (id int) {
		for _, m := range c.Ctx.Namespace().Mounts(c.Ctx.Root()) {
			id = max(id, m.ID)
		}
		return id
	}
	const many = 40
	mount("none", "/tree", "tmpfs", 0)
	mount("none", "/at", "tmpfs", 0)
	mount("none", "/at", "", unix.MS_SHARED)
	build(t, c, "at/x/")
	for i := range many {
		dir := fmt.Sprintf("tree/%d/", i)
		build(t, c, dir, fmt.Sprintf("peers/%d/", i))
		mount("none", "/"+dir, "tmpfs", 0)
		mount("/at", fmt.Sprintf("/peers/%d", i), "", unix.MS_BIND)
	}
	before, id := kmem.Bytes(), lastID()
	kmem.SetLimit(before + 3*many<<10)
	err := vfs.DoMount(c, "/tree", "/at/x", "", unix.MS_BIND|unix.MS_REC, "")
	kmem.SetLimit(0)
	want(t, "copies", err, unix.ENOMEM)
	if n := kmem.Bytes(); n != before {
		t.Errorf("%d bytes are left", n-before)
	}
	mount("none", "/tree", "tmpfs", 0)
	if n := lastID() - id; n > 5*many {
		t.Errorf("%d mounts were made before it was seen that they are too many", n)
	}
	kmem.SetLimit(kmem.Bytes())
	want(t, "a name space", c.Ctx.UnshareNamespace(c), unix.ENOMEM)
	want(t, "one more", vfs.DoMount(c, "none", "/tree", "tmpfs", 0, ""), unix.ENOMEM)
	kmem.SetLimit(0)
}
