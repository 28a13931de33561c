package hostfs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

type fataler interface {
	Helper()
	Fatal(...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err, wanted error) {
	t.Helper()
	if err != wanted {
		t.Errorf("%s: %v, want %v", what, err, wanted)
	}
}

// guest is a caller in /h, where a directory of the host is mounted.
type guest struct {
	*vfstest.Caller
	srv  *Server
	host string // the directory
}

// start mounts a new directory of the host.
func start(t testing.TB, cfg Config) *guest {
	t.Helper()
	cfg.Dir = t.TempDir()
	return mount(t, cfg, "")
}

func mount(t testing.TB, cfg Config, data string) *guest {
	t.Helper()
	srv, err := New(cfg)
	must(t, err)
	t.Cleanup(srv.Close)
	srv.Register()
	c := vfstest.New(tmpfs.NewRoot())
	must(t, vfs.Mkdir(c, nil, "/h", 0o755))
	must(t, vfs.DoMount(c, "none", "/h", "hostfs", 0, data))
	must(t, vfs.Chdir(c, "/h"))
	g := &guest{c, srv, cfg.Dir}
	t.Cleanup(g.Ctx.Release)
	return g
}

// super is the mount.
func (g *guest) super(t testing.TB) *superBlock {
	t.Helper()
	p, err := vfs.Lookup(g, nil, ".", 0)
	must(t, err)
	defer p.Put()
	return p.Dentry.Super().(*superBlock)
}

func (g *guest) open(name string, flags uint32) (*vfs.File, error) {
	return vfs.Open(g, nil, name, vfs.OpenHow{Flags: flags, Mode: map[bool]uint32{true: 0o644}[flags&unix.O_CREAT != 0]})
}

func (g *guest) write(t testing.TB, name, text string) {
	t.Helper()
	f, err := g.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	must(t, err)
	defer f.DecRef()
	n, err := vfs.Write(g, f, uio.FromBytes([]byte(text)))
	if n != len(text) || err != nil {
		t.Fatal(name, n, err)
	}
}

func (g *guest) read(name string) (string, error) {
	f, err := g.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return "", err
	}
	defer f.DecRef()
	buf := make([]byte, 1<<16)
	n, err := vfs.Read(g, f, uio.ToBytes(buf))
	return string(buf[:n]), err
}

// list reads a directory from a position on, at most n entries, without "." and "..".
func (g *guest) list(t testing.TB, f *vfs.File, n int) (names []string, offs []int64) {
	t.Helper()
	must(t, vfs.ReadDir(g, f, func(e vfs.DirEnt) bool {
		if len(names) == n {
			return false
		}
		if e.Name != "." && e.Name != ".." {
			names, offs = append(names, e.Name), append(offs, e.Off)
		}
		return true
	}))
	return names, offs
}

func (g *guest) stat(t testing.TB, name string) vfs.Attr {
	t.Helper()
	a, err := vfs.Stat(g, nil, name, unix.AT_SYMLINK_NOFOLLOW)
	must(t, err)
	return a
}

func (g *guest) hostWrite(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(g.host, name), []byte(text), 0o644))
}

// TestChanges looks at what others change on the host.
func TestChanges(t *testing.T) {
	for _, m := range []bool{false, true} {
		t.Run(fmt.Sprintf("map=%v", m), func(t *testing.T) {
			g := start(t, Config{Map: m})
			at := func(name string) string { return filepath.Join(g.host, name) }
			expect := func(name, text string, wanted error) {
				t.Helper()
				if s, err := g.read(name); s != text || err != wanted {
					t.Errorf("%s: %q %v, want %q %v", name, s, err, text, wanted)
				}
			}
			expect("f", "", unix.ENOENT)
			g.hostWrite(t, "f", "one")
			expect("f", "one", nil)
			g.hostWrite(t, "f", "longer")
			if a := g.stat(t, "f"); a.Size != 6 {
				t.Error("size", a.Size)
			}
			must(t, os.WriteFile(at("g"), []byte("other"), 0o644))
			must(t, os.Rename(at("g"), at("f")))
			expect("f", "other", nil)
			expect("g", "", unix.ENOENT)
			f, err := g.open("f", unix.O_RDWR)
			must(t, err)
			defer f.DecRef()
			must(t, os.Remove(at("f")))
			expect("f", "", unix.ENOENT)
			if a := f.Attr(); a.Nlink != 0 || a.Size != 5 {
				t.Error("removed while open:", a.Nlink, a.Size)
			}
			// A directory that becomes another one, and a file.
			must(t, os.MkdirAll(at("d/e"), 0o755))
			g.hostWrite(t, "d/e/x", "1")
			expect("d/e/x", "1", nil)
			must(t, os.Rename(at("d"), at("away")))
			expect("d/e/x", "", unix.ENOENT)
			expect("away/e/x", "1", nil)
			must(t, os.MkdirAll(at("d/e"), 0o755))
			g.hostWrite(t, "d/e/x", "2")
			expect("d/e/x", "2", nil)
			must(t, os.RemoveAll(at("d")))
			g.hostWrite(t, "d", "file")
			expect("d/e/x", "", unix.ENOTDIR)
			expect("d", "file", nil)
			must(t, os.Remove(at("d")))
			must(t, os.Symlink("away/e/x", at("d")))
			expect("d", "1", nil)
			must(t, os.Chmod(at("away"), 0o711))
			if a := g.stat(t, "away"); a.Mode&0o777 != 0o711 {
				t.Errorf("mode %o", a.Mode)
			}
			// The working directory goes away.
			must(t, vfs.Chdir(g, "away/e"))
			must(t, os.RemoveAll(at("away")))
			expect("x", "", unix.ENOENT)
			_, err = g.open("y", unix.O_WRONLY|unix.O_CREAT)
			want(t, "create in a removed directory", err, unix.ENOENT)
			must(t, vfs.Chdir(g, "/h"))
		})
	}
}

// TestSemantics goes through what others do not test by guests: the tests of internal/guesttest compare whole programs.
func TestSemantics(t *testing.T) {
	for _, m := range []bool{false, true} {
		t.Run(fmt.Sprintf("map=%v", m), func(t *testing.T) {
			g := start(t, Config{Map: m})
			must(t, vfs.Mkdir(g, nil, "d", 0o755))
			g.write(t, "d/a", "a")
			g.write(t, "b", "b")
			must(t, vfs.Rename(g, nil, "d/a", nil, "b", unix.RENAME_EXCHANGE))
			if s, _ := g.read("d/a"); s != "b" {
				t.Errorf("after an exchange: %q", s)
			}
			want(t, "noreplace", vfs.Rename(g, nil, "d/a", nil, "b", unix.RENAME_NOREPLACE), unix.EEXIST)
			must(t, vfs.Rename(g, nil, "d/a", nil, "b", 0))
			must(t, vfs.Link(g, nil, "b", nil, "c", 0))
			if a := g.stat(t, "b"); a.Nlink != 2 || a.Ino != g.stat(t, "c").Ino {
				t.Error("links:", a.Nlink)
			}
			must(t, vfs.Unlink(g, nil, "b"))
			if s, err := g.read("c"); s != "b" || err != nil || g.stat(t, "c").Nlink != 1 {
				t.Error("the other link:", s, err)
			}
			must(t, vfs.Symlink(g, "c", nil, "l"))
			if s, err := vfs.Readlink(g, nil, "l"); s != "c" || err != nil {
				t.Error(s, err)
			}
			want(t, "rmdir", vfs.Rmdir(g, nil, "c"), unix.ENOTDIR)
			ts := [2]unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: 3, Nsec: 4}}
			must(t, vfs.Utimens(g, nil, "c", &ts, 0))
			if a := g.stat(t, "c"); a.Atime != ts[0] || a.Mtime != ts[1] {
				t.Error(a.Atime, a.Mtime)
			}
			must(t, vfs.Setxattr(g, nil, "c", 0, "user.x", []byte("value"), unix.XATTR_CREATE))
			want(t, "create again", vfs.Setxattr(g, nil, "c", 0, "user.x", nil, unix.XATTR_CREATE), unix.EEXIST)
			if v, err := vfs.Getxattr(g, nil, "c", 0, "user.x"); string(v) != "value" || err != nil {
				t.Error(v, err)
			}
			want(t, "our own attribute", vfs.Setxattr(g, nil, "c", 0, overrideXattr, []byte("0:0:4755:file"), 0), unix.EOPNOTSUPP)
			if l, err := vfs.Listxattr(g, nil, "c", 0); string(l) != "user.x\x00" || err != nil {
				t.Errorf("%q %v", l, err)
			}
			if st, err := vfs.Statfs(g, nil, "c", 0); st.Type != hostfsMagic || st.Blocks == 0 || err != nil {
				t.Error(st, err)
			}
			tmp, err := vfs.Open(g, nil, ".", vfs.OpenHow{Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o600})
			if err == unix.EOPNOTSUPP {
				t.Skip("no O_TMPFILE here")
			}
			must(t, err)
			_, err = vfs.Write(g, tmp, uio.FromBytes([]byte("hidden")))
			must(t, err)
			must(t, vfs.Link(g, tmp, "", nil, "seen", unix.AT_EMPTY_PATH))
			tmp.DecRef()
			if s, err := g.read("seen"); s != "hidden" || err != nil {
				t.Error(s, err)
			}
		})
	}
}

// TestModes has a file that its maker could not open again.
func TestModes(t *testing.T) {
	g := start(t, Config{})
	f, err := vfs.Open(g, nil, "f", vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, Mode: 0o400})
	must(t, err)
	if _, err := vfs.Write(g, f, uio.FromBytes([]byte("x"))); err != nil {
		t.Error(err)
	}
	f.DecRef()
	unix.Umask(0o077)
	defer unix.Umask(0o022)
	g.Ctx.SetUmask(0)
	for _, mode := range []uint32{0o666, 0o755, 0o1777} {
		must(t, vfs.Mkdir(g, nil, "d", mode))
		if a := g.stat(t, "d"); a.Mode&0o7777 != mode {
			t.Errorf("mkdir %o: %o", mode, a.Mode)
		}
		must(t, vfs.Rmdir(g, nil, "d"))
	}
}

// TestContent compares a file with a slice of bytes, while somebody on the host does the same to it.
func TestContent(t *testing.T) {
	g := start(t, Config{})
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		name := fmt.Sprint("f", n)
		f, err := g.open(name, unix.O_RDWR|unix.O_CREAT)
		must(t, err)
		defer f.DecRef()
		app, err := g.open(name, unix.O_WRONLY|unix.O_APPEND)
		must(t, err)
		defer app.DecRef()
		host, err := os.OpenFile(filepath.Join(g.host, name), os.O_RDWR, 0)
		must(t, err)
		defer host.Close()
		var model []byte
		offs := rapid.Int64Range(0, 20000)
		data := rapid.SliceOfN(rapid.Byte(), 1, 6000)
		put := func(p []byte, off int64) {
			if k := off + int64(len(p)); k > int64(len(model)) {
				model = append(model, make([]byte, k-int64(len(model)))...)
			}
			copy(model[off:], p)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if size := f.Attr().Size; size != int64(len(model)) {
					t.Fatalf("size %d, want %d", size, len(model))
				}
				got := make([]byte, len(model)+100)
				n, err := vfs.Pread(g, f, uio.ToBytes(got), 0)
				if err != nil || !bytes.Equal(got[:n], model) {
					t.Fatalf("content differs (%d of %d bytes, %v)", n, len(model), err)
				}
				ext, err := f.Inode.(vfs.Mapping).Extents(0, 1<<20, false, false)
				if pages := uint64(len(model)+pageSize-1) / pageSize * pageSize; err != nil || pages > 0 && ext[0].Len != pages {
					t.Fatal(ext, err)
				}
			},
			"write": func(t *rapid.T) {
				p, off := data.Draw(t, "p"), offs.Draw(t, "off")
				if n, err := vfs.Pwrite(g, f, uio.FromBytes(p), off); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
				put(p, off)
			},
			"append": func(t *rapid.T) {
				p := data.Draw(t, "p")
				if n, err := vfs.Write(g, app, uio.FromBytes(p)); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
				put(p, int64(len(model)))
				if app.Pos() != int64(len(model)) {
					t.Fatal("position", app.Pos(), len(model))
				}
			},
			"host": func(t *rapid.T) {
				p, off := data.Draw(t, "p"), offs.Draw(t, "off")
				_, err := host.WriteAt(p, off)
				must(t, err)
				put(p, off)
			},
			"cut": func(t *rapid.T) {
				n := offs.Draw(t, "size")
				if rapid.Bool().Draw(t, "by the host") {
					must(t, host.Truncate(n))
				} else {
					must(t, vfs.Ftruncate(g, f, n))
				}
				if n > int64(len(model)) {
					model = append(model, make([]byte, n-int64(len(model)))...)
				}
				model = model[:n:n]
			},
			"seek": func(t *rapid.T) {
				n, err := vfs.Seek(g, f, 0, unix.SEEK_END)
				if err != nil || n != int64(len(model)) {
					t.Fatal(n, err)
				}
			},
		})
		f.Inode.(*inode).closeMaps()
	})
}

// TestDirectory reads a directory in pieces, from positions that it has given, and while entries go.
func TestDirectory(t *testing.T) {
	g := start(t, Config{})
	var all []string
	for i := range 2000 {
		name := fmt.Sprintf("%04d%s", i, strings.Repeat("n", i%50))
		g.hostWrite(t, name, "")
		all = append(all, name)
	}
	d, err := g.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	defer d.DecRef()
	var names []string
	var offs []int64
	for {
		n, o := g.list(t, d, 7)
		if len(n) == 0 {
			break
		}
		names, offs = append(names, n...), append(offs, o...)
	}
	got := slices.Clone(names)
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Fatalf("%d names, want %d", len(got), len(all))
	}
	for i := 0; i < len(offs)-1; i += 97 {
		if _, err := vfs.Seek(g, d, offs[i], unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if n, _ := g.list(t, d, 1); len(n) != 1 || n[0] != names[i+1] {
			t.Fatalf("after %s: %v, want %s", names[i], n, names[i+1])
		}
	}
	// Everything that stays is seen once while the rest is removed.
	if _, err := vfs.Seek(g, d, 0, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for {
		n, _ := g.list(t, d, 10)
		if len(n) == 0 {
			break
		}
		for _, name := range n {
			seen[name]++
			if name[3] != '0' {
				must(t, vfs.Unlink(g, nil, name))
			}
		}
	}
	for _, name := range all {
		if seen[name] != 1 {
			t.Fatalf("%s: seen %d times", name, seen[name])
		}
	}
	if l, err := os.ReadDir(g.host); len(l) != 200 {
		t.Error(len(l), err)
	}
}

// fds counts our descriptors, and those that are open for writing to a file in dir.
func fds(t testing.TB, dir string) (n, writing int) {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range l {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(target, dir) {
			continue
		}
		n++
		info, _ := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "flags:" && !strings.HasSuffix(f[1], "0") {
				writing++
			}
		}
	}
	return n, writing
}

// TestDescriptors uses more files than the host's descriptors that are kept, and looks for what stays open.
func TestDescriptors(t *testing.T) {
	g := start(t, Config{})
	g.srv.handles.limit = 8
	deep := ""
	for i := range 40 {
		deep = filepath.Join(deep, fmt.Sprint("d", i))
	}
	must(t, os.MkdirAll(filepath.Join(g.host, deep), 0o755))
	g.write(t, deep+"/f", "deep")
	for range 3 {
		if s, err := g.read(deep + "/f"); s != "deep" || err != nil {
			t.Fatal(s, err)
		}
		for i := range 100 {
			g.write(t, fmt.Sprint("f", i), "x")
			g.stat(t, fmt.Sprint("f", i))
		}
	}
	n, writing := fds(t, g.host)
	if n > 8+2 || writing > 0 { // the jail and the root
		t.Errorf("%d descriptors are open, %d for writing", n, writing)
	}
	f, err := g.open(deep+"/f", unix.O_PATH)
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(g.host, "d0")))
	for i := range 100 {
		must(t, vfs.Mkdir(g, nil, fmt.Sprint("m", i), 0o755))
		must(t, vfs.Mkdir(g, nil, fmt.Sprint("m", i, "/n"), 0o755))
	}
	want(t, "a file that has vanished", vfs.Chmod(g, f, "", 0o600, unix.AT_EMPTY_PATH), unix.ESTALE)
	f.DecRef()
	must(t, vfs.Chdir(g, "/"))
	must(t, vfs.Umount(g, "/h", 0))
	if n, _ := fds(t, g.host); n != 1 {
		out, _ := exec.Command("ls", "-l", fmt.Sprintf("/proc/%d/fd", os.Getpid())).Output()
		t.Errorf("%d descriptors are open after umount:\n%s", n, out)
	}
}

// TestNoDescriptors lets the host run out of descriptors.
func TestNoDescriptors(t *testing.T) {
	g := start(t, Config{})
	for i := range 250 {
		must(t, vfs.Mkdir(g, nil, fmt.Sprint("d", i), 0o755))
		g.write(t, fmt.Sprint("d", i, "/f"), "x")
	}
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 200
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	var full []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		full = append(full, fd)
	}
	for i, fd := range full {
		if i < 6 {
			unix.Close(fd)
		} else {
			defer unix.Close(fd)
		}
	}
	var err error
	for i := range 250 {
		if s, err := g.read(fmt.Sprint("d", i, "/f")); s != "x" || err != nil {
			t.Fatal(i, s, err)
		}
	}
	var open []*vfs.File
	for i := range 250 {
		var f *vfs.File
		if f, err = g.open(fmt.Sprint("d", i, "/f"), unix.O_RDONLY); err != nil {
			break
		}
		open = append(open, f)
	}
	want(t, "too many open files", err, unix.ENFILE)
	for _, f := range open {
		f.DecRef()
	}
	if _, err := g.read("d249/f"); err != nil {
		t.Error(err)
	}
}

// TestSyncStores has a guest store to a mapped file between two syncs.
func TestSyncStores(t *testing.T) {
	g := start(t, Config{})
	g.write(t, "f", "x")
	sb := g.super(t)
	must(t, sb.Sync())
	if sb.unsynced() {
		t.Error("there is something to sync already")
	}
	f, err := g.open("f", unix.O_RDWR)
	must(t, err)
	defer f.DecRef()
	m, err := vfs.MapFile(g, f, true, true, false)
	must(t, err)
	m.Mapped(1, true)
	_, err = m.Extents(0, 4096, true, true)
	must(t, err)
	must(t, sb.Sync())
	if !sb.unsynced() {
		t.Error("what is stored after a sync will not be synced")
	}
	must(t, sb.Sync())
	m.Mapped(-1, true)
	if !sb.unsynced() {
		t.Error("what was stored before the mapping went will not be synced")
	}
	if sb.unsynced() {
		t.Error("there is something to sync for ever")
	}
}

// TestReadOnlySync makes a mount read-only, which no later sync looks at.
func TestReadOnlySync(t *testing.T) {
	g := start(t, Config{})
	g.write(t, "f", "x")
	must(t, vfs.DoMount(g, "", "/h", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if g.super(t).unsynced() {
		t.Error("what was written is not durable")
	}
}
