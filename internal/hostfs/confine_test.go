package hostfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// jail makes a directory with something outside it that guests must not see.
func jail(t *testing.T) (outer, inner string) {
	t.Helper()
	outer = t.TempDir()
	inner = filepath.Join(outer, "jail")
	must(t, os.MkdirAll(filepath.Join(inner, "sub/dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(outer, "secret"), []byte("SECRET"), 0o644))
	must(t, os.MkdirAll(filepath.Join(outer, "secrets/dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(outer, "secrets/file"), []byte("SECRET"), 0o644))
	must(t, os.WriteFile(filepath.Join(inner, "file"), []byte("inside"), 0o644))
	must(t, os.WriteFile(filepath.Join(inner, "sub/file"), []byte("inside sub"), 0o644))
	return outer, inner
}

// TestMountPaths tries to mount what is outside.
func TestMountPaths(t *testing.T) {
	outer, inner := jail(t)
	must(t, os.Symlink(outer, filepath.Join(inner, "out")))
	must(t, os.Symlink("../..", filepath.Join(inner, "sub/up")))
	must(t, os.Symlink("/sub", filepath.Join(inner, "in")))
	must(t, os.Symlink("/proc/self/root", filepath.Join(inner, "magic")))
	for path, text := range map[string]string{
		"": "inside", "/": "inside", "/../../..": "inside", "sub": "inside sub", "/sub/../sub/": "inside sub", "hostfs=/sub": "inside sub",
		"/in": "inside sub", "/sub/up": "inside", "/sub/up/sub": "inside sub",
	} {
		g := mount(t, Config{Dir: inner}, path)
		if s, err := g.read("file"); s != text || err != nil {
			t.Errorf("%q: %q %v, want %q", path, s, err, text)
		}
	}
	srv, err := New(Config{Dir: inner})
	must(t, err)
	defer srv.Close()
	for path, e := range map[string]error{
		"/out": unix.ENOENT, "/../secrets": unix.ENOENT, "/magic": unix.ENOENT, outer: unix.ENOENT, "/file": unix.ENOTDIR,
		"/sub/up/../secrets": unix.ENOENT,
	} {
		_, err := srv.mount(nil, "", 0, path)
		want(t, path, err, e)
	}
	// Hosts without openat2 follow no links at all.
	for path, e := range map[string]error{"sub/dir": nil, "in": unix.ENOTDIR, "sub/../sub": unix.EACCES, "..": unix.EACCES, "none": unix.ENOENT} {
		fd, err := openSteps(srv.jail, path)
		want(t, path, err, e)
		if err == nil {
			unix.Close(fd)
		}
	}
}

// TestLinks follows symbolic links: the guest does that in its own tree.
func TestLinks(t *testing.T) {
	outer, inner := jail(t)
	must(t, os.Symlink(filepath.Join(outer, "secret"), filepath.Join(inner, "abs")))
	must(t, os.Symlink("../secret", filepath.Join(inner, "rel")))
	must(t, os.Symlink("../secrets", filepath.Join(inner, "dir")))
	g := mount(t, Config{Dir: inner}, "")
	for _, name := range []string{"abs", "rel", "dir/file", "../secret", "../../secret", "sub/../../secret"} {
		_, err := g.read(name)
		want(t, name, err, unix.ENOENT)
	}
	for _, name := range []string{"abs", "rel"} {
		f, err := g.open(name, unix.O_WRONLY|unix.O_CREAT)
		if err == nil {
			f.DecRef() // made in the guest's own root
		}
		want(t, "truncate "+name, vfs.Truncate(g, nil, "h/"+name, 0), unix.ENOENT)
	}
	if b, _ := os.ReadFile(filepath.Join(outer, "secret")); string(b) != "SECRET" {
		t.Errorf("the file outside is %q", b)
	}
}

// TestRacingRenamer has somebody on the host exchange names for links and directories that lead outside, while the guest
// goes through them.
func TestRacingRenamer(t *testing.T) {
	outer, inner := jail(t)
	must(t, os.Symlink("../secret", filepath.Join(inner, "link")))
	must(t, os.Symlink("../secrets", filepath.Join(inner, "dirlink")))
	must(t, unix.Mkfifo(filepath.Join(inner, "fifo"), 0o666))
	must(t, os.WriteFile(filepath.Join(inner, "other"), []byte("inside"), 0o644))
	g := mount(t, Config{Dir: inner}, "")
	var stop atomic.Bool
	var wg sync.WaitGroup
	in := func(name string) string { return filepath.Join(inner, name) }
	for _, pair := range [][2]string{{"file", "link"}, {"sub", "dirlink"}, {"other", "fifo"}} {
		wg.Go(func() {
			for !stop.Load() {
				_ = unix.Renameat2(unix.AT_FDCWD, in(pair[0]), unix.AT_FDCWD, in(pair[1]), unix.RENAME_EXCHANGE)
			}
		})
	}
	wg.Go(func() { // in and out of the jail
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, in("sub/dir"), unix.AT_FDCWD, filepath.Join(outer, "secrets/dir"), unix.RENAME_EXCHANGE)
		}
	})
	good := 0
	var guests sync.WaitGroup
	for i := range 3 {
		c := &guest{g.Fork(), g.srv, g.host}
		guests.Go(func() {
			defer c.Ctx.Release()
			for n := range 100 {
				for _, name := range []string{"file", "link", "other", "sub/file", "dirlink/file", "sub/dir/../file", "sub/dir/../../secret"} {
					s, err := c.read(name)
					if strings.Contains(s, "SECRET") {
						t.Errorf("%s: %q", name, s)
						return
					}
					if err == nil && i == 0 {
						good++
					}
				}
				if f, err := c.open("file", unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK); err == nil {
					_, _ = vfs.Write(c, f, uio.FromBytes([]byte("inside")))
					f.DecRef()
				}
				_ = vfs.Chmod(c, nil, "file", 0o600|uint32(n%8), 0)
				_ = vfs.Unlink(c, nil, "sub/dir/../../secret")
			}
		})
	}
	guests.Wait()
	stop.Store(true)
	wg.Wait()
	if good == 0 {
		t.Error("nothing could be read")
	}
	for _, name := range []string{"secret", "secrets/file"} {
		b, err := os.ReadFile(filepath.Join(outer, name))
		fi, _ := os.Stat(filepath.Join(outer, name))
		if string(b) != "SECRET" || fi.Mode() != 0o644 {
			t.Errorf("%s is %q now, %v %v", name, b, fi.Mode(), err)
		}
	}
}

// TestHiddenFS looks for the host's proc, through which the program itself could be reached.
func TestHiddenFS(t *testing.T) {
	g := mount(t, Config{Dir: "/"}, "")
	if a := g.stat(t, "proc"); !a.IsDir() || a.Mode&0o777 != 0o555 {
		t.Errorf("mode %o", a.Mode)
	}
	for _, name := range []string{"proc/self", "proc/1", fmt.Sprintf("proc/%d/mem", os.Getpid()), "proc/sys", "sys/kernel"} {
		_, err := vfs.Stat(g, nil, name, 0)
		want(t, name, err, unix.ENOENT)
	}
	_, err := g.open("proc/x", unix.O_WRONLY|unix.O_CREAT)
	want(t, "create", err, unix.EACCES)
	d, err := g.open("proc", unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	defer d.DecRef()
	if names, _ := g.list(t, d, 10); len(names) != 0 {
		t.Error(names)
	}
	for _, path := range []string{"/proc", "/proc/self/root", "/proc/self/fd", "/sys"} {
		if _, err := g.srv.mount(nil, "", 0, path); err == nil {
			t.Errorf("%s can be mounted", path)
		}
	}
}

// TestReusedDevice has the host's proc come with the device number of a file system that was there before and is gone.
func TestReusedDevice(t *testing.T) {
	g := mount(t, Config{Dir: "/"}, "")
	var st unix.Statx_t
	must(t, statx(unix.AT_FDCWD, "/proc", &st))
	sb := g.super(t)
	sb.devMu.Lock()
	sb.devs[unix.Mkdev(st.Dev_major, st.Dev_minor)] = device{index: 1}
	sb.devMu.Unlock()
	for _, name := range []string{"proc/version", fmt.Sprintf("proc/%d/mem", os.Getpid())} {
		_, err := g.read(name)
		want(t, name, err, unix.EACCES)
	}
	_, err := g.open(fmt.Sprintf("proc/%d/fd", os.Getpid()), unix.O_RDONLY|unix.O_DIRECTORY)
	want(t, "a directory of proc", err, unix.EACCES)
}

// TestSpecialFiles has fifos, devices and sockets on the host: none is ever opened there.
func TestSpecialFiles(t *testing.T) {
	vfs.RegisterFifo(pipefs.OpenFIFO)
	g := start(t, Config{})
	fifo := filepath.Join(g.host, "fifo")
	must(t, unix.Mkfifo(fifo, 0o666))
	f, err := g.open("fifo", unix.O_RDONLY|unix.O_NONBLOCK)
	must(t, err)
	_, err = unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	want(t, "a writer on the host, whom nobody reads", err, unix.ENXIO)
	w, err := g.open("fifo", unix.O_WRONLY|unix.O_NONBLOCK)
	must(t, err)
	_, err = vfs.Write(g, w, uio.FromBytes([]byte("x")))
	must(t, err)
	if n, err := vfs.Read(g, f, uio.ToBytes(make([]byte, 10))); n != 1 || err != nil {
		t.Error(n, err)
	}
	f.DecRef()
	w.DecRef()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(g.host, "sock")}))
	_, err = g.open("sock", unix.O_RDWR)
	want(t, "socket", err, unix.ENXIO)
	if a := g.stat(t, "sock"); a.Mode&unix.S_IFMT != unix.S_IFSOCK {
		t.Errorf("mode %o", a.Mode)
	}
	must(t, vfs.Mknod(g, nil, "p", unix.S_IFIFO|0o600, 0))
	want(t, "device", vfs.Mknod(g, nil, "null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3)), unix.EPERM)
	if unix.Mknod(filepath.Join(g.host, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) == nil {
		_, err := g.open("zero", unix.O_RDONLY)
		want(t, "a device of the host", err, unix.ENXIO)
		if a := g.stat(t, "zero"); a.Rdev != unix.Mkdev(1, 5) {
			t.Errorf("rdev %x", a.Rdev)
		}
	}
}

// TestPrivileges makes nothing on the host that has its owner's rights.
func TestPrivileges(t *testing.T) {
	g := start(t, Config{})
	g.write(t, "f", "x")
	for _, mode := range []uint32{0o4755, 0o2755, 0o6755} {
		want(t, "chmod", vfs.Chmod(g, nil, "f", mode, 0), unix.EPERM)
	}
	f, err := vfs.Open(g, nil, "s", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o6755})
	must(t, err)
	f.DecRef()
	must(t, vfs.Mknod(g, nil, "n", unix.S_IFREG|0o4755, 0))
	must(t, vfs.Mkdir(g, nil, "d", 0o755))
	must(t, vfs.Chmod(g, nil, "d", 0o3755, 0)) // means nothing of the kind for directories
	caps := make([]byte, 20)
	caps[3] = 2 // VFS_CAP_REVISION_2
	want(t, "capabilities", vfs.Setxattr(g, nil, "f", 0, "security.capability", caps, 0), unix.EOPNOTSUPP)
	m := mount(t, Config{Dir: g.host, Map: true}, "")
	must(t, vfs.Chmod(m, nil, "f", 0o6755, 0))
	must(t, vfs.Mknod(m, nil, "null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3)))
	must(t, vfs.Setxattr(m, nil, "f", 0, "security.capability", caps, 0))
	l, err := os.ReadDir(g.host)
	must(t, err)
	for _, e := range l {
		fi, err := e.Info()
		must(t, err)
		if !fi.IsDir() && fi.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeDevice) != 0 {
			t.Errorf("%s: %v", e.Name(), fi.Mode())
		}
	}
	if a := m.stat(t, "f"); a.Mode&0o7777 != 0o6755 {
		t.Errorf("mode %o", a.Mode)
	}
}

// TestAppend adds to files and cannot do anything else to them.
func TestAppend(t *testing.T) {
	g := start(t, Config{Append: true})
	g.hostWrite(t, "f", "old")
	g.hostWrite(t, "g", "other")
	g.write(t, "f", " new") // with O_TRUNC
	f, err := g.open("f", unix.O_RDWR)
	must(t, err)
	defer f.DecRef()
	if _, err := vfs.Pwrite(g, f, uio.FromBytes([]byte("!")), 0); err != nil {
		t.Error(err)
	}
	must(t, vfs.Ftruncate(g, f, 1))
	must(t, vfs.Truncate(g, nil, "f", 0))
	want(t, "unlink", vfs.Unlink(g, nil, "f"), unix.EPERM)
	want(t, "rename over", vfs.Rename(g, nil, "g", nil, "f", 0), unix.EPERM)
	want(t, "punch", vfs.Fallocate(g, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1), unix.EPERM)
	_, err = vfs.MapFile(g, f, true, true, false)
	want(t, "map", err, unix.EPERM)
	if s, err := g.read("f"); s != "old new!" || err != nil {
		t.Error(s, err)
	}
	must(t, vfs.Rename(g, nil, "g", nil, "h", 0))
	if o := g.stat(t, "."); o.Nlink == 0 {
		t.Error("no links")
	}
}

// TestReadOnly cannot be made writable by the guest.
func TestReadOnly(t *testing.T) {
	g := start(t, Config{ReadOnly: true})
	g.hostWrite(t, "f", "x")
	_, err := g.open("f", unix.O_RDWR)
	want(t, "open", err, unix.EROFS)
	want(t, "remount", vfs.DoMount(g, "", "/h", "", unix.MS_REMOUNT, ""), unix.EROFS)
	want(t, "mkdir", vfs.Mkdir(g, nil, "d", 0o755), unix.EROFS)
	want(t, "chmod", vfs.Chmod(g, nil, "f", 0o600, 0), unix.EROFS)
}

// TestKeptPrivileges changes the mode of a program of the host that has its owner's rights: a guest that writes to it at the same
// time must not get them, so that they cannot be kept.
func TestKeptPrivileges(t *testing.T) {
	g := start(t, Config{})
	g.hostWrite(t, "prog", "x")
	host := filepath.Join(g.host, "prog")
	must(t, os.Chmod(host, 0o755|os.ModeSetuid))
	want(t, "chmod", vfs.Chmod(g, nil, "prog", 0o4711, 0), unix.EPERM)
	must(t, vfs.Chmod(g, nil, "prog", 0o711, 0))
	if fi, err := os.Stat(host); err != nil || fi.Mode() != 0o711 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	must(t, os.Chmod(host, 0o660|os.ModeSetuid|os.ModeSetgid))
	must(t, vfs.Chown(g, nil, "prog", uint32(os.Getuid()), uint32(os.Getgid()), 0)) // which leaves the bit for the group alone
	if fi, err := os.Stat(host); err != nil || fi.Mode() != 0o660 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
}
