package vfs_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func init() { tmpfs.Register() }

// build makes a tree: "dir/" is a directory, "link -> target" a symbolic link, "file" a file; "0600 file" sets a mode,
// "1000:file" an owner (uid and gid).
func build(t testing.TB, c *vfstest.Caller, lines ...string) {
	t.Helper()
	for _, l := range lines {
		mode, uid := -1, -1
		if a, b, ok := strings.Cut(l, " "); ok && !strings.Contains(l, "->") {
			fmt.Sscanf(a, "%o", &mode)
			l = b
		}
		if a, b, ok := strings.Cut(l, ":"); ok {
			fmt.Sscanf(a, "%d", &uid)
			l = b
		}
		var err error
		if name, target, ok := strings.Cut(l, " -> "); ok {
			err = vfs.Symlink(c, target, nil, name)
			l = name
		} else if strings.HasSuffix(l, "/") {
			err = vfs.Mkdir(c, nil, l, 0o755)
		} else {
			write(t, c, l, l)
		}
		if err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		if uid >= 0 {
			must(t, vfs.Chown(c, nil, l, uint32(uid), uint32(uid), unix.AT_SYMLINK_NOFOLLOW))
		}
		if mode >= 0 {
			must(t, vfs.Chmod(c, nil, l, uint32(mode), 0))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err, wanted error) {
	t.Helper()
	if err != wanted {
		t.Errorf("%s: got %v, want %v", what, err, wanted)
	}
}

func open(c vfs.Caller, path string, flags int, mode uint32) (*vfs.File, error) {
	return vfs.Open(c, nil, path, vfs.OpenHow{Flags: uint32(flags), Mode: mode})
}

func write(t testing.TB, c vfs.Caller, path, text string) {
	t.Helper()
	f, err := open(c, path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if n, err := vfs.Write(c, f, uio.FromBytes([]byte(text))); err != nil || n != len(text) {
		t.Fatalf("%s: %d %v", path, n, err)
	}
	f.DecRef()
}

func read(c vfs.Caller, path string) (string, error) {
	f, err := open(c, path, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.DecRef()
	b := make([]byte, 1<<16)
	n, err := vfs.Read(c, f, uio.ToBytes(b))
	return string(b[:n]), err
}

func newCaller(t testing.TB) *vfstest.Caller {
	t.Helper()
	c := vfstest.New(tmpfs.NewRoot())
	t.Cleanup(c.Ctx.Release)
	return c
}

func TestWalk(t *testing.T) {
	c := newCaller(t)
	build(t, c, "a/", "a/b/", "a/b/f", "f", "l -> a/b", "abs -> /a/b/f", "up -> ../../a", "loop -> loop", "l1 -> l2",
		"l2 -> l1", "dangling -> nowhere", "tof -> f", "todir -> a/", "a/b/back -> ..", "slashf -> f/", "0000 1000:priv/",
		"m/")
	must(t, vfs.DoMount(c, "none", "/m", "tmpfs", 0, ""))
	build(t, c, "m/x/", "m/x/y", "m/out -> /f", "m/rel -> ../f")
	long := strings.Repeat("n", 256)
	for _, x := range []struct {
		path string
		fl   int
		want error
		name string // as PathName has it
	}{
		{"", 0, unix.ENOENT, ""},
		{"/", 0, nil, "/"},
		{"///", 0, nil, "/"},
		{".", 0, nil, "/"},
		{"..", 0, nil, "/"},
		{"a/b/f", 0, nil, "/a/b/f"},
		{"/a//b///f", 0, nil, "/a/b/f"},
		{"a/./b/../b/f", 0, nil, "/a/b/f"},
		{"a/b/f/", 0, unix.ENOTDIR, ""},
		{"f/..", 0, unix.ENOTDIR, ""},
		{"f/x", 0, unix.ENOTDIR, ""},
		{"none", 0, unix.ENOENT, ""},
		{"none/x", 0, unix.ENOENT, ""},
		{"l", 0, nil, "/a/b"},
		{"l", unix.AT_SYMLINK_NOFOLLOW, nil, "/l"},
		{"l/", unix.AT_SYMLINK_NOFOLLOW, nil, "/a/b"},
		{"l/f", 0, nil, "/a/b/f"},
		{"l/..", 0, nil, "/a"},
		{"abs", 0, nil, "/a/b/f"},
		{"abs/", 0, unix.ENOTDIR, ""},
		{"up/b", 0, nil, "/a/b"},
		{"loop", 0, unix.ELOOP, ""},
		{"loop", unix.AT_SYMLINK_NOFOLLOW, nil, "/loop"},
		{"l1/x", 0, unix.ELOOP, ""},
		{"dangling", 0, unix.ENOENT, ""},
		{"tof", 0, nil, "/f"},
		{"todir/b", 0, nil, "/a/b"},
		{"slashf", 0, unix.ENOTDIR, ""},
		{"l/back/b/back", 0, nil, "/a"},
		{long, 0, unix.ENAMETOOLONG, ""},
		{"a/" + long[:255], 0, unix.ENOENT, ""},
		{strings.Repeat("a/", 2048), 0, unix.ENAMETOOLONG, ""},
		{strings.Repeat("./", 2047), 0, nil, "/"},
		{"m/x/y", 0, nil, "/m/x/y"},
		{"m/x/../..", 0, nil, "/"},
		{"m/..", 0, nil, "/"},
		{"m/out", 0, nil, "/f"},
		{"m/rel", 0, nil, "/f"},
		{"m/x/../../m/x", 0, nil, "/m/x"},
	} {
		p, err := vfs.Lookup(c, nil, x.path, x.fl)
		if err != x.want {
			t.Errorf("%.40q: got %v, want %v", x.path, err, x.want)
		}
		if err == nil {
			if n := vfs.PathName(c, p); n != x.name {
				t.Errorf("%q is %q, want %q", x.path, n, x.name)
			}
			p.Put()
		}
	}
	u := c.As(1001, 1001)
	_, err := vfs.Stat(u, nil, "priv/x", 0)
	want(t, "search of a closed directory", err, unix.EACCES)
	_, err = vfs.Stat(u, nil, "priv", 0)
	want(t, "stat of a closed directory", err, nil)
}

// A chain of 40 links is allowed, 41 are not.
func TestSymlinkLimit(t *testing.T) {
	c := newCaller(t)
	build(t, c, "t0")
	for i := range 41 {
		must(t, vfs.Symlink(c, fmt.Sprintf("t%d", i), nil, fmt.Sprintf("t%d", i+1)))
	}
	_, err := vfs.Stat(c, nil, "t40", 0)
	want(t, "40 links", err, nil)
	_, err = vfs.Stat(c, nil, "t41", 0)
	want(t, "41 links", err, unix.ELOOP)
}

func TestResolveFlags(t *testing.T) {
	c := newCaller(t)
	build(t, c, "r/", "r/d/", "r/d/f", "r/up -> ..", "r/abs -> /d/f", "r/in -> d/f", "r/esc -> ../f", "f", "r/m/")
	must(t, vfs.DoMount(c, "none", "/r/m", "tmpfs", 0, ""))
	dir, err := open(c, "r", unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer dir.DecRef()
	for _, x := range []struct {
		path    string
		resolve uint64
		want    error
	}{
		{"d/f", unix.RESOLVE_BENEATH, nil},
		{"d/../d/f", unix.RESOLVE_BENEATH, nil},
		{"..", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"up/f", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"/d/f", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"abs", unix.RESOLVE_BENEATH, unix.EXDEV},
		{"in", unix.RESOLVE_BENEATH, nil},
		{"/d/f", unix.RESOLVE_IN_ROOT, nil},
		{"abs", unix.RESOLVE_IN_ROOT, nil},
		{"../../d/f", unix.RESOLVE_IN_ROOT, nil},
		{"esc", unix.RESOLVE_IN_ROOT, unix.ENOENT},
		{"in", unix.RESOLVE_NO_SYMLINKS, unix.ELOOP},
		{"d/f", unix.RESOLVE_NO_SYMLINKS, nil},
		{"m", unix.RESOLVE_NO_XDEV, unix.EXDEV},
		{"d/f", unix.RESOLVE_NO_XDEV, nil},
	} {
		f, err := vfs.Open(c, dir, x.path, vfs.OpenHow{Resolve: x.resolve})
		want(t, fmt.Sprintf("%s with %#x", x.path, x.resolve), err, x.want)
		if err == nil {
			f.DecRef()
		}
	}
	h := vfs.OpenHow{Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT}
	want(t, "both", h.Check(), unix.EINVAL)
}

func TestOpenFlags(t *testing.T) {
	c := newCaller(t)
	build(t, c, "d/", "f", "l -> f", "ld -> d", "new -> made", "0444 ro")
	for _, x := range []struct {
		path  string
		flags int
		want  error
	}{
		{"f", unix.O_RDONLY, nil},
		{"f", unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{"l", unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{"f", unix.O_DIRECTORY, unix.ENOTDIR},
		{"l", unix.O_NOFOLLOW, unix.ELOOP},
		{"l", unix.O_NOFOLLOW | unix.O_PATH, nil},
		{"l", unix.O_NOFOLLOW | unix.O_CREAT, unix.ELOOP},
		{"d", unix.O_RDONLY, nil},
		{"d", unix.O_WRONLY, unix.EISDIR},
		{"d", unix.O_CREAT, unix.EISDIR},
		{"d/", unix.O_CREAT, unix.EISDIR},
		{"x/", unix.O_CREAT, unix.EISDIR},
		{"d/.", unix.O_CREAT, unix.EISDIR},
		{"ld", unix.O_CREAT, unix.EISDIR},
		{"new", unix.O_CREAT | unix.O_WRONLY, nil},
		{"made", unix.O_RDONLY, nil},
		{"none", unix.O_RDWR, unix.ENOENT},
		{"d", unix.O_TMPFILE | unix.O_RDWR, nil},
		{"d", unix.O_TMPFILE | unix.O_RDONLY, unix.EINVAL},
		{"f", unix.O_TMPFILE | unix.O_RDWR, unix.ENOTDIR},
		{"f", unix.O_CREAT | unix.O_DIRECTORY, unix.EINVAL},
	} {
		f, err := open(c, x.path, x.flags, 0o600)
		want(t, fmt.Sprintf("%s %#o", x.path, x.flags), err, x.want)
		if err == nil {
			f.DecRef()
		}
	}
	// A file that is made with a mode that forbids it can be written by its maker.
	u := c.As(1000, 1000)
	must(t, vfs.Chmod(c, nil, "d", 0o777, 0))
	f, err := open(u, "d/mine", unix.O_CREAT|unix.O_WRONLY, 0)
	must(t, err)
	f.DecRef()
	_, err = open(u, "d/mine", unix.O_RDONLY, 0)
	want(t, "again", err, unix.EACCES)
	_, err = open(u, "f", unix.O_RDONLY|unix.O_NOATIME, 0)
	want(t, "O_NOATIME", err, unix.EPERM)
}

func TestTmpfileLink(t *testing.T) {
	c := newCaller(t)
	build(t, c, "d/")
	f, err := open(c, "d", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	must(t, err)
	if a := f.Attr(); a.Nlink != 0 {
		t.Errorf("nlink %d", a.Nlink)
	}
	must(t, vfs.Link(c, f, "", nil, "d/now", unix.AT_EMPTY_PATH))
	f.DecRef()
	a, err := vfs.Stat(c, nil, "d/now", 0)
	if err != nil || a.Nlink != 1 {
		t.Errorf("%v nlink %d", err, a.Nlink)
	}
	f, err = open(c, "d", unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL, 0o600)
	must(t, err)
	want(t, "link of O_EXCL", vfs.Link(c, f, "", nil, "d/x", unix.AT_EMPTY_PATH), unix.ENOENT)
	f.DecRef()
}

func TestPermissions(t *testing.T) {
	c := newCaller(t)
	owner, group, other := c.As(10, 10), c.As(11, 11, 10), c.As(12, 12)
	for _, x := range []struct {
		mode                 uint32
		owner, group, others uint32 // what each may do
	}{
		{0o755, 7, 5, 5}, {0o070, 0, 7, 0}, {0o007, 0, 0, 7}, {0o640, 6, 4, 0}, {0o604, 6, 0, 4}, {0o777, 7, 7, 7}, {0, 0, 0, 0},
	} {
		for _, kind := range []string{"f", "d/"} {
			build(t, c, fmt.Sprintf("%o 10:%s", x.mode, kind))
			for _, who := range []struct {
				c   *vfstest.Caller
				may uint32
			}{{owner, x.owner}, {group, x.group}, {other, x.others}} {
				for mask := uint32(1); mask <= 7; mask++ {
					var wanted error
					if mask&^who.may != 0 {
						wanted = unix.EACCES
					}
					want(t, fmt.Sprintf("%s %o uid %d mask %o", kind, x.mode, who.c.Creds.FSUID, mask),
						vfs.Access(who.c, nil, kind, mask, 0), wanted)
				}
			}
			// Root may do all but execute a file that nobody can.
			var wanted error
			if kind == "f" && x.mode&0o111 == 0 {
				wanted = unix.EACCES
			}
			want(t, fmt.Sprintf("root %s %o", kind, x.mode), vfs.Access(c, nil, kind, 7, 0), wanted)
			if kind == "f" {
				must(t, vfs.Unlink(c, nil, kind))
			} else {
				must(t, vfs.Rmdir(c, nil, kind))
			}
		}
	}
	reader := c.As(12, 12)
	reader.Creds.Effective = 1 << unix.CAP_DAC_READ_SEARCH
	build(t, c, "0600 10:f", "0700 10:d/")
	want(t, "read search", vfs.Access(reader, nil, "f", 4, unix.AT_EACCESS), nil)
	want(t, "read search write", vfs.Access(reader, nil, "f", 2, unix.AT_EACCESS), unix.EACCES)
	want(t, "read search dir", vfs.Access(reader, nil, "d", 5, unix.AT_EACCESS), nil)
	// access(2) asks for the real user.
	su := c.As(12, 12)
	su.Creds = cred.Root()
	su.Creds.UID = 12
	want(t, "real uid", vfs.Access(su, nil, "f", 4, 0), unix.EACCES)
	want(t, "effective uid", vfs.Access(su, nil, "f", 4, unix.AT_EACCESS), nil)
}

// In a sticky directory a link of another user is not followed at the end of a path, and may be in the middle of it.
func TestProtectedSymlinks(t *testing.T) {
	c := newCaller(t)
	build(t, c, "1777 tmp/", "d/", "d/f", "11:tmp/ln -> ../d", "10:tmp/own -> ../d")
	u := c.As(10, 10)
	for _, x := range []struct {
		path string
		err  error
	}{{"tmp/ln", unix.EACCES}, {"tmp/ln/", unix.EACCES}, {"tmp/ln/f", nil}, {"tmp/own", nil}, {"tmp/own/f", nil}} {
		_, err := vfs.Stat(u, nil, x.path, 0)
		want(t, x.path, err, x.err)
	}
}

func TestStickyAndOwnership(t *testing.T) {
	c := newCaller(t)
	build(t, c, "1777 tmp/", "10:tmp/a", "tmp/ln -> a", "2775 50:sg/")
	must(t, vfs.Chmod(c, nil, "sg", 0o2777, 0))
	u, v := c.As(10, 10), c.As(11, 11)
	want(t, "unlink other's in sticky", vfs.Unlink(v, nil, "tmp/a"), unix.EPERM)
	want(t, "rename other's in sticky", vfs.Rename(v, nil, "tmp/a", nil, "tmp/b", 0), unix.EPERM)
	want(t, "chmod other's", vfs.Chmod(v, nil, "tmp/a", 0o777, 0), unix.EPERM)
	want(t, "chown own to other", vfs.Chown(u, nil, "tmp/a", 11, ^uint32(0), 0), unix.EPERM)
	want(t, "chgrp own to own", vfs.Chown(u, nil, "tmp/a", ^uint32(0), 10, 0), nil)
	want(t, "chgrp own to strange", vfs.Chown(u, nil, "tmp/a", ^uint32(0), 99, 0), unix.EPERM)
	want(t, "hard link to other's", vfs.Link(v, nil, "tmp/a", nil, "tmp/b", 0), unix.EPERM)
	want(t, "utimes other's", vfs.Utimens(v, nil, "tmp/a", &[2]unix.Timespec{{Sec: 1}, {Sec: 1}}, 0), unix.EPERM)
	want(t, "touch other's", vfs.Utimens(v, nil, "tmp/a", nil, 0), unix.EACCES)
	want(t, "unlink own", vfs.Unlink(u, nil, "tmp/a"), nil)

	must(t, vfs.Mkdir(u, nil, "sg/d", 0o755))
	if a, _ := vfs.Stat(c, nil, "sg/d", 0); a.GID != 50 || a.Mode&unix.S_ISGID == 0 {
		t.Errorf("directory in a setgid directory: gid %d mode %o", a.GID, a.Mode)
	}
	f, err := open(u, "sg/f", unix.O_CREAT|unix.O_WRONLY, 0o2755)
	must(t, err)
	f.DecRef()
	if a, _ := vfs.Stat(c, nil, "sg/f", 0); a.GID != 50 || a.Mode&unix.S_ISGID != 0 {
		t.Errorf("file in a setgid directory: gid %d mode %o", a.GID, a.Mode)
	}

	// Writing and chown take setuid away.
	build(t, c, "06755 10:suid")
	must(t, vfs.Chmod(c, nil, "suid", 0o6777, 0))
	f, err = open(u, "suid", unix.O_WRONLY, 0)
	must(t, err)
	_, err = vfs.Write(u, f, uio.FromBytes([]byte("x")))
	must(t, err)
	f.DecRef()
	if a, _ := vfs.Stat(c, nil, "suid", 0); a.Mode&0o7777 != 0o777 {
		t.Errorf("mode after write %o", a.Mode)
	}
	must(t, vfs.Chmod(c, nil, "suid", 0o6755, 0))
	must(t, vfs.Chown(c, nil, "suid", 0, 0, 0))
	if a, _ := vfs.Stat(c, nil, "suid", 0); a.Mode&0o7777 != 0o755 {
		t.Errorf("mode after chown %o", a.Mode)
	}
}

func BenchmarkStat4(b *testing.B) {
	c := newCaller(b)
	build(b, c, "usr/", "usr/lib/", "usr/lib/x/", "usr/lib/x/file")
	for _, user := range []struct {
		name string
		c    *vfstest.Caller
	}{{"root", c}, {"user", c.As(1000, 1000)}} {
		b.Run(user.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := vfs.Stat(user.c, nil, "/usr/lib/x/file", 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
