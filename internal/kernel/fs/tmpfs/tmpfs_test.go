package tmpfs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func init() {
	Register()
	fake := platform.NewFake()
	NewMemfile = func(name string) (platform.Memfile, error) { return fake.NewMemfile(name) }
}

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

func mount(t fataler, opts string) *vfstest.Caller {
	c := vfstest.New(NewRoot())
	must(t, vfs.Mkdir(c, nil, "/t", 0o755))
	must(t, vfs.DoMount(c, "none", "/t", "tmpfs", 0, opts))
	must(t, vfs.Chdir(c, "/t"))
	return c
}

func create(t fataler, c vfs.Caller, name string) *vfs.File {
	t.Helper()
	f, err := vfs.Open(c, nil, name, vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o644})
	must(t, err)
	return f
}

// TestContentModel compares the content of a file with a slice of bytes under random operations, with the pages on the
// heap and in a host memory object.
func TestContentModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := mount(t, "")
		defer c.Ctx.Release()
		f := create(t, c, "f")
		defer f.DecRef()
		var model []byte
		offs := rapid.OneOf(rapid.Int64Range(0, 5*pageSize), rapid.SampledFrom([]int64{0, pageSize - 1, pageSize, 3 * pageSize}))
		resize := func(n int64) {
			if n > int64(len(model)) {
				model = append(model, make([]byte, n-int64(len(model)))...)
			}
		}
		check := func(t *rapid.T) {
			if size := f.Attr().Size; size != int64(len(model)) {
				t.Fatalf("size %d, want %d", size, len(model))
			}
			got := make([]byte, len(model)+100)
			n, err := vfs.Pread(c, f, uio.ToBytes(got), 0)
			if err != nil || !bytes.Equal(got[:n], model) {
				t.Fatalf("content differs (%d of %d bytes, %v)", n, len(model), err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"write": func(t *rapid.T) {
				off := offs.Draw(t, "off")
				p := rapid.SliceOfN(rapid.Byte(), 1, 6000).Draw(t, "p")
				n, err := vfs.Pwrite(c, f, uio.FromBytes(p), off)
				if n != len(p) || err != nil {
					t.Fatal(n, err)
				}
				resize(off + int64(n))
				copy(model[off:], p)
			},
			"truncate": func(t *rapid.T) {
				n := offs.Draw(t, "size")
				must(t, vfs.Ftruncate(c, f, n))
				resize(n)
				model = model[:n:n]
			},
			"punch": func(t *rapid.T) {
				off, n := offs.Draw(t, "off"), offs.Draw(t, "n")+1
				must(t, vfs.Fallocate(c, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
				if off < int64(len(model)) {
					clear(model[off:min(off+n, int64(len(model)))])
				}
			},
			"allocate": func(t *rapid.T) {
				off, n := offs.Draw(t, "off"), offs.Draw(t, "n")+1
				must(t, vfs.Fallocate(c, f, 0, off, n))
				resize(off + n)
			},
			"seek": func(t *rapid.T) {
				off := offs.Draw(t, "off")
				data, err := vfs.Seek(c, f, off, unix.SEEK_DATA)
				end := int64(len(model))
				if err == unix.ENXIO {
					data = end
				}
				for i := off; i < min(data, end); i++ {
					if model[i] != 0 {
						t.Fatalf("SEEK_DATA from %d to %d skips a byte at %d", off, data, i)
					}
				}
			},
			"map": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "really") {
					return
				}
				m, err := vfs.MapFile(c, f, true, true, false)
				must(t, err)
				ext, err := m.Extents(0, pageSize, true, true)
				if err != nil || len(ext) != 1 {
					t.Fatal(ext, err)
				}
			},
		})
	})
}

// TestTreeModel compares a tree with a map of paths.
func TestTreeModel(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "c/b"})
	rapid.Check(t, func(t *rapid.T) {
		c := mount(t, "")
		defer c.Ctx.Release()
		model := map[string]bool{"": true} // true for directories
		parent := func(p string) string { return p[:max(strings.LastIndexByte(p, '/'), 0)] }
		// reach is the error of getting to the directory of p.
		reach := func(p string) error {
			for q := parent(p); q != ""; q = parent(q) {
				if dir, ok := model[q]; ok && !dir {
					return unix.ENOTDIR
				}
			}
			if _, ok := model[parent(p)]; !ok {
				return unix.ENOENT
			}
			return nil
		}
		below := func(p string) (l []string) {
			for q := range model {
				if strings.HasPrefix(q, p+"/") {
					l = append(l, q)
				}
			}
			return l
		}
		same := func(t *rapid.T, got, want error) {
			t.Helper()
			if got != want {
				t.Fatalf("got %v, want %v (tree %v)", got, want, model)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for p, dir := range model {
					a, err := vfs.Stat(c, nil, "/t/"+p, 0)
					if err != nil || a.IsDir() != dir {
						t.Fatalf("%q: %v", p, err)
					}
					if !dir {
						continue
					}
					var list, want []string
					sub := uint32(2)
					f, err := vfs.Open(c, nil, "/t/"+p, vfs.OpenHow{})
					must(t, err)
					must(t, vfs.ReadDir(c, f, func(e vfs.DirEnt) bool { list = append(list, e.Name); return true }))
					f.DecRef()
					for q, dir := range model {
						if q != "" && parent(q) == p {
							want = append(want, q[strings.LastIndexByte(q, '/')+1:])
							if dir {
								sub++
							}
						}
					}
					slices.Sort(list)
					want = append(want, ".", "..")
					slices.Sort(want)
					if !slices.Equal(list, want) || a.Nlink != sub {
						t.Fatalf("%q has %q, want %q; nlink %d, want %d", p, list, want, a.Nlink, sub)
					}
				}
			},
			"mkdir": func(t *rapid.T) {
				p := names.Draw(t, "p")
				want := reach(p)
				if _, ok := model[p]; ok && want == nil {
					want = unix.EEXIST
				}
				same(t, vfs.Mkdir(c, nil, p, 0o755), want)
				if want == nil {
					model[p] = true
				}
			},
			"create": func(t *rapid.T) {
				p := names.Draw(t, "p")
				want := reach(p)
				if _, ok := model[p]; ok && want == nil {
					want = unix.EEXIST
				}
				f, err := vfs.Open(c, nil, p, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY})
				same(t, err, want)
				if want == nil {
					f.DecRef()
					model[p] = false
				}
			},
			"remove": func(t *rapid.T) {
				p, rm := names.Draw(t, "p"), vfs.Unlink
				want := reach(p)
				dir, ok := model[p]
				if dir {
					rm = vfs.Rmdir
				}
				switch {
				case want != nil:
				case !ok:
					want = unix.ENOENT
				case len(below(p)) > 0:
					want = unix.ENOTEMPTY
				}
				same(t, rm(c, nil, p), want)
				if want == nil {
					delete(model, p)
				}
			},
			"rename": func(t *rapid.T) {
				p, q := names.Draw(t, "p"), names.Draw(t, "q")
				err := vfs.Rename(c, nil, p, nil, q, 0)
				pd, pok := model[p]
				qd, qok := model[q]
				switch {
				case reach(p) != nil || reach(q) != nil || !pok:
					if err == nil {
						t.Fatalf("rename %s %s worked", p, q)
					}
					return
				case p == q:
				case pd && strings.HasPrefix(q, p+"/"):
					same(t, err, unix.EINVAL)
					return
				case qok && qd && strings.HasPrefix(p, q+"/"):
					same(t, err, unix.ENOTEMPTY)
					return
				case qok && pd && !qd:
					same(t, err, unix.ENOTDIR)
					return
				case qok && !pd && qd:
					same(t, err, unix.EISDIR)
					return
				case qok && len(below(q)) > 0:
					same(t, err, unix.ENOTEMPTY)
					return
				}
				same(t, err, nil)
				if p == q {
					return
				}
				moved := below(p)
				delete(model, p)
				model[q] = pd
				for _, s := range moved {
					model[q+s[len(p):]] = model[s]
					delete(model, s)
				}
			},
		})
	})
}

// filePages is how many pages files hold.
func filePages() int64 { Usage(); return used.Load() }

// Inodes, links and attributes count as memory, too, and give it back.
func TestExtra(t *testing.T) {
	c := mount(t, "")
	before := extra.Load()
	create(t, c, "f").DecRef()
	must(t, vfs.Symlink(c, strings.Repeat("x", 4000), nil, "ln"))
	must(t, vfs.Setxattr(c, nil, "f", 0, "user.a", make([]byte, 5000), 0))
	must(t, vfs.Setxattr(c, nil, "f", 0, "user.a", make([]byte, 6000), 0))
	must(t, vfs.Link(c, nil, "f", nil, "g", 0))
	if n, want := extra.Load()-before, int64(3*inodeCost+4000+6000+len("user.a")+vfs.XattrCost); n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
	must(t, vfs.Removexattr(c, nil, "g", 0, "user.a"))
	must(t, vfs.Setxattr(c, nil, "f", 0, "user.b", make([]byte, 100), 0))
	for _, name := range []string{"f", "g", "ln"} {
		must(t, vfs.Unlink(c, nil, name))
	}
	vfs.ShrinkDcache(1000)
	if n := extra.Load() - before; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	old := TotalPages
	defer func() { TotalPages = old }()
	TotalPages = uint64(filePages() + extra.Load()/pageSize + 2)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = vfs.Mkdir(c, nil, fmt.Sprint(i), 0o755)
	}
	if err != unix.ENOSPC {
		t.Errorf("more directories than fit: %v", err)
	}
}

func TestLimits(t *testing.T) {
	before := filePages()
	c := mount(t, "size=16k,nr_inodes=4")
	f := create(t, c, "f")
	big := make([]byte, 20<<10)
	if n, err := vfs.Write(c, f, uio.FromBytes(big)); n != 16<<10 || err != nil {
		t.Errorf("write over the size: %d %v", n, err)
	}
	if _, err := vfs.Write(c, f, uio.FromBytes(big)); err != unix.ENOSPC {
		t.Errorf("write to a full file system: %v", err)
	}
	if _, err := vfs.Pwrite(c, f, uio.FromBytes(big[:100]), 50); err != nil {
		t.Errorf("write to what is there: %v", err)
	}
	if filePages() != before+4 {
		t.Errorf("%d pages", filePages()-before)
	}
	if err := vfs.Fallocate(c, f, 0, 0, 1<<40); err != unix.ENOSPC {
		t.Errorf("fallocate: %v", err)
	}
	if err := vfs.DoMount(c, "", "/t", "", unix.MS_REMOUNT, "size=8k"); err != unix.EINVAL {
		t.Errorf("remount below the usage: %v", err)
	}
	must(t, vfs.Ftruncate(c, f, 5000))
	st, err := vfs.Statfs(c, f, "", unix.AT_EMPTY_PATH)
	if err != nil || st.Blocks != 4 || st.Bfree != 2 || st.Files != 4 || st.Ffree != 2 || st.Type != tmpfsMagic {
		t.Errorf("statfs %+v %v", st, err)
	}
	must(t, vfs.Mkdir(c, nil, "d", 0o755))
	must(t, vfs.Link(c, nil, "f", nil, "g", 0))
	if err := vfs.Mkdir(c, nil, "e", 0o755); err != unix.ENOSPC {
		t.Errorf("fifth inode: %v", err)
	}
	must(t, vfs.Fallocate(c, f, unix.FALLOC_FL_KEEP_SIZE, 0, 16<<10))
	if a := f.Attr(); a.Size != 5000 || a.Blocks != 32 {
		t.Errorf("reserved: size %d, %d blocks", a.Size, a.Blocks)
	}
	must(t, vfs.Ftruncate(c, f, 4999))
	if a := f.Attr(); a.Blocks != 16 {
		t.Errorf("%d blocks after truncate", a.Blocks)
	}
	must(t, vfs.Unlink(c, nil, "f"))
	must(t, vfs.Unlink(c, nil, "g"))
	if st, _ := vfs.Statfs(c, nil, ".", 0); st.Bfree != 2 {
		t.Errorf("%d blocks free while the file is open", st.Bfree)
	}
	f.DecRef()
	if st, _ := vfs.Statfs(c, nil, ".", 0); st.Bfree != 4 || st.Ffree != 2 {
		t.Errorf("%d blocks and %d inodes free after the last close", st.Bfree, st.Ffree)
	}
	write := create(t, c, "left")
	vfs.Write(c, write, uio.FromBytes(big[:5000]))
	write.DecRef()
	must(t, vfs.Chdir(c, "/"))
	must(t, vfs.Umount(c, "/t", 0))
	if filePages() != before {
		t.Errorf("%d pages in use after umount", filePages()-before)
	}
}

func TestSparse(t *testing.T) {
	c := mount(t, "")
	f := create(t, c, "f")
	defer f.DecRef()
	must(t, vfs.Ftruncate(c, f, 1<<50))
	if _, err := vfs.Pwrite(c, f, uio.FromBytes([]byte("x")), 1<<40); err != nil {
		t.Fatal(err)
	}
	if a := f.Attr(); a.Blocks != 8 {
		t.Errorf("%d blocks", a.Blocks)
	}
	if d, err := vfs.Seek(c, f, 0, unix.SEEK_DATA); d != 1<<40 || err != nil {
		t.Errorf("data at %d %v", d, err)
	}
	if d, err := vfs.Seek(c, f, 1<<40, unix.SEEK_HOLE); d != 1<<40+pageSize || err != nil {
		t.Errorf("hole at %d %v", d, err)
	}
	must(t, vfs.Fallocate(c, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<49))
	if _, err := vfs.Seek(c, f, 0, unix.SEEK_DATA); err != unix.ENXIO {
		t.Errorf("data in an empty file: %v", err)
	}
}

func TestMemfdSeals(t *testing.T) {
	before := filePages()
	c := mount(t, "")
	f, err := NewMemfd(c, "test", unix.MFD_ALLOW_SEALING)
	must(t, err)
	if n := vfs.PathName(c, f.Path); n != "/memfd:test (deleted)" {
		t.Errorf("name %q", n)
	}
	if _, err := vfs.Write(c, f, uio.FromBytes(make([]byte, 5000))); err != nil {
		t.Fatal(err)
	}
	in := f.Inode.(*inode)
	m, err := vfs.MapFile(c, f, true, true, false)
	must(t, err)
	m.Mapped(1, true)
	if err := in.AddSeals(unix.F_SEAL_WRITE); err != unix.EBUSY {
		t.Errorf("seal a mapped file: %v", err)
	}
	m.Mapped(-1, true)
	must(t, in.AddSeals(unix.F_SEAL_GROW))
	if err := vfs.Ftruncate(c, f, 5001); err != unix.EPERM {
		t.Errorf("grow: %v", err)
	}
	if n, err := vfs.Pwrite(c, f, uio.FromBytes([]byte("abc")), 4998); n != 2 || err != nil {
		t.Errorf("write over the end: %d %v", n, err)
	}
	must(t, in.AddSeals(unix.F_SEAL_SHRINK|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL))
	if err := vfs.Ftruncate(c, f, 0); err != unix.EPERM {
		t.Errorf("shrink: %v", err)
	}
	if _, err := vfs.Pwrite(c, f, uio.FromBytes([]byte("a")), 0); err != unix.EPERM {
		t.Errorf("write: %v", err)
	}
	if _, err := vfs.MapFile(c, f, true, true, false); err != unix.EPERM {
		t.Errorf("map: %v", err)
	}
	if _, err := vfs.MapFile(c, f, false, true, false); err != nil {
		t.Errorf("map privately: %v", err)
	}
	if err := in.AddSeals(unix.F_SEAL_EXEC); err != unix.EPERM {
		t.Errorf("seal after SEAL_SEAL: %v", err)
	}
	f.DecRef()
	if filePages() != before {
		t.Errorf("%d pages in use", filePages()-before)
	}
	f, err = NewMemfd(c, "plain", 0)
	must(t, err)
	if s, err := f.Inode.(*inode).Seals(); s != unix.F_SEAL_SEAL || err != nil {
		t.Errorf("seals %#x %v", s, err)
	}
	f.DecRef()
}

// A directory that changes while it is read gives every entry that stays exactly once.
func TestReadDirChanging(t *testing.T) {
	c := mount(t, "")
	for i := range 200 {
		create(t, c, fmt.Sprintf("f%03d", i)).DecRef()
	}
	d, err := vfs.Open(c, nil, ".", vfs.OpenHow{})
	must(t, err)
	defer d.DecRef()
	seen := map[string]int{}
	for round := 0; ; round++ {
		n := 0
		must(t, vfs.ReadDir(c, d, func(e vfs.DirEnt) bool {
			if n == 10 {
				return false
			}
			n++
			seen[e.Name]++
			return true
		}))
		if n == 0 {
			break
		}
		if round < 10 {
			for i := range 10 {
				vfs.Unlink(c, nil, fmt.Sprintf("f%03d", (round*20+i*3)%200|1))
			}
		}
	}
	for i := 0; i < 200; i += 2 {
		if n := seen[fmt.Sprintf("f%03d", i)]; n != 1 {
			t.Errorf("f%03d was seen %d times", i, n)
		}
	}
}

func TestACL(t *testing.T) {
	c := mount(t, "")
	acl := func(entries ...[3]uint32) []byte {
		b := []byte{2, 0, 0, 0}
		for _, e := range entries {
			b = append(b, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
		}
		return b
	}
	const none = ^uint32(0)
	create(t, c, "f").DecRef()
	v := acl([3]uint32{1, 6, none}, [3]uint32{2, 7, 10}, [3]uint32{4, 4, none}, [3]uint32{16, 6, none}, [3]uint32{32, 0, none})
	must(t, vfs.Setxattr(c, nil, "f", 0, "system.posix_acl_access", v, 0))
	if a, _ := vfs.Stat(c, nil, "f", 0); a.Mode&0o777 != 0o660 {
		t.Errorf("mode %o", a.Mode)
	}
	for _, x := range []struct {
		uid, mask uint32
		want      error
	}{{10, 6, nil}, {10, 1, unix.EACCES}, {11, 4, unix.EACCES}, {0, 6, nil}} {
		if err := vfs.Access(c.As(x.uid, 99), nil, "f", x.mask, 0); err != x.want {
			t.Errorf("uid %d mask %d: %v", x.uid, x.mask, err)
		}
	}
	must(t, vfs.Chmod(c, nil, "f", 0o600, 0))
	if err := vfs.Access(c.As(10, 99), nil, "f", 4, 0); err != unix.EACCES {
		t.Errorf("the mask does not follow chmod: %v", err)
	}
	must(t, vfs.Mkdir(c, nil, "d", 0o755))
	must(t, vfs.Setxattr(c, nil, "d", 0, "system.posix_acl_default", v, 0))
	f, err := vfs.Open(c, nil, "d/new", vfs.OpenHow{Flags: unix.O_CREAT, Mode: 0o666})
	must(t, err)
	f.DecRef()
	if a, _ := vfs.Stat(c, nil, "d/new", 0); a.Mode&0o777 != 0o660 {
		t.Errorf("inherited mode %o", a.Mode)
	}
	if err := vfs.Access(c.As(10, 99), nil, "d/new", 6, 0); err != nil {
		t.Errorf("inherited ACL: %v", err)
	}
	if err := vfs.Setxattr(c, nil, "f", 0, "system.posix_acl_access", v[:10], 0); err != unix.EINVAL {
		t.Errorf("bad ACL: %v", err)
	}
}
