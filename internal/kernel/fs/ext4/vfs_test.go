package ext4

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/ubd"
)

// boot is a caller with a root, as init is.
type boot struct {
	vfs.Caller
	fs *vfs.FSContext
}

func (b *boot) Cred() *cred.Cred   { return cred.Root() }
func (b *boot) FS() *vfs.FSContext { return b.fs }
func (b *boot) PID() int32         { return 1 }
func (b *boot) Rlimit(int) uint64  { return unix.RLIM_INFINITY }

// bootImage attaches an image as ubd0 and mounts it as root through the vfs.
func bootImage(t testing.TB, option string) *boot {
	t.Helper()
	Register()
	bdev.RegisterSpecial()
	var set ubd.Set
	must(t, set.Option("ubd0"+option))
	sb, err := vfs.FindFilesystem("ext4").Mount(nil, "/dev/ubda", unix.MS_RDONLY, "")
	must(t, err)
	ns := vfs.NewNamespace(sb, "/dev/root", unix.MS_RDONLY)
	b := &boot{fs: vfs.NewFSContext(ns)}
	t.Cleanup(func() {
		b.fs.Release()
		if err := set.Remove(0); err != nil {
			t.Errorf("remove after unmount: %v", err)
		}
		set.Close()
	})
	return b
}

func readFile(t testing.TB, c vfs.Caller, path string) []byte {
	t.Helper()
	f, err := vfs.Open(c, nil, path, vfs.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer f.DecRef()
	p := make([]byte, f.Attr().Size+1)
	n, err := vfs.Read(c, f, uio.ToBytes(p))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p[:n]
}

// TestThroughVFS boots an image file through ubd, bdev and vfs.
func TestThroughVFS(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: no device nodes in the image")
	}
	dir := t.TempDir()
	makeTree(t, dir)
	must(t, os.Mkdir(filepath.Join(dir, "mnt"), 0o755))
	haveNode := unix.Mknod(filepath.Join(dir, "ubda"), unix.S_IFBLK|0o600, int(unix.Mkdev(98, 0))) == nil
	img := mkImage(t, dir, "48M", "-b", "4096", "-O", ext4Features)
	b := bootImage(t, "r="+img)
	want, err := os.ReadFile(filepath.Join(dir, "size300000"))
	must(t, err)
	if !bytes.Equal(readFile(t, b, "/size300000"), want) {
		t.Error("content differs")
	}
	if got := readFile(t, b, "/a/b/../b/c/d/e/f/g/deep"); string(got) != "deep\n" {
		t.Errorf("deep: %q", got)
	}
	a, err := vfs.Stat(b, nil, "/many", 0)
	must(t, err)
	if a.Dev != unix.Mkdev(98, 0) {
		t.Errorf("st_dev %x", a.Dev)
	}
	if _, err := vfs.Open(b, nil, "/new", vfs.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT, Mode: 0o644}); err != unix.EROFS {
		t.Errorf("create: %v", err)
	}
	if _, err := vfs.Open(b, nil, "/size1", vfs.OpenHow{Flags: unix.O_WRONLY}); err != unix.EROFS {
		t.Errorf("open for writing: %v", err)
	}
	f, err := vfs.Open(b, nil, "/size1048576", vfs.OpenHow{Flags: unix.O_RDONLY})
	must(t, err)
	m, err := vfs.MapFile(b, f, false, false, false)
	must(t, err)
	x, err := m.Extents(0, 1<<20, false, false)
	must(t, err)
	raw, err := os.ReadFile(img)
	must(t, err)
	want, err = os.ReadFile(filepath.Join(dir, "size1048576"))
	must(t, err)
	for _, e := range x {
		if e.Host.RO < 0 || e.Host.RW != -1 || !bytes.Equal(raw[e.HostOff:e.HostOff+e.Len], want[e.Off:e.Off+e.Len]) {
			t.Errorf("extent %+v", e)
		}
	}
	if len(x) == 0 || len(x) > 4 {
		t.Errorf("%d extents", len(x))
	}
	f.DecRef()
	if haveNode {
		f, err := vfs.Open(b, nil, "/ubda", vfs.OpenHow{Flags: unix.O_RDONLY})
		must(t, err)
		p := make([]byte, 2)
		if n, err := vfs.Pread(b, f, uio.ToBytes(p), 1024+56); n != 2 || err != nil || p[0] != 0x53 || p[1] != 0xef {
			t.Errorf("block special file: %d %v % x", n, err, p)
		}
		if end, err := vfs.Seek(b, f, 0, unix.SEEK_END); end != 48<<20 || err != nil {
			t.Errorf("end of the device: %d %v", end, err)
		}
		f.DecRef()
		if err := vfs.DoMount(b, "/ubda", "/mnt", "ext4", unix.MS_RDONLY, ""); err != nil {
			t.Errorf("second mount: %v", err)
		} else if got := readFile(t, b, "/mnt/a/b/c/d/e/f/g/deep"); string(got) != "deep\n" {
			t.Errorf("second mount: %q", got)
		} else if err := vfs.Umount(b, "/mnt", 0); err != nil {
			t.Errorf("umount: %v", err)
		}
		if err := vfs.DoMount(b, "/size1", "/mnt", "ext4", unix.MS_RDONLY, ""); err != unix.ENOTBLK {
			t.Errorf("mount of a file: %v", err)
		}
	}
}

// sourceTree is a large real tree: EXT4_TREE, or a part of Go's own sources.
func sourceTree(t testing.TB) string {
	if dir := os.Getenv("EXT4_TREE"); dir != "" {
		return dir
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("there is no go command")
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src", "cmd", "compile")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("Go's sources are not installed")
	}
	return dir
}

// TestDeepTree compares a tree of a few thousand files, with several readers at once.
func TestDeepTree(t *testing.T) {
	dir := sourceTree(t)
	img := mkImage(t, dir, "3G", "-b", "4096", "-O", ext4Features)
	fsck(t, img)
	b := bootImage(t, "r="+img)
	var names []string
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, strings.TrimPrefix(p, dir))
		}
		return err
	}))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := g * 7; i < len(names); i += 3 {
				want, err := os.ReadFile(dir + names[i])
				if err != nil {
					t.Error(err)
					return
				}
				if got := readFile(t, b, names[i]); !bytes.Equal(got, want) {
					t.Errorf("%s differs at %d", names[i], firstDiff(got, want))
					return
				}
			}
		}()
	}
	wg.Wait()
	t.Logf("%d files", len(names))
}

// BenchmarkRead4k reads a cached file page by page into guest memory.
func BenchmarkRead4k(b *testing.B) {
	dir := b.TempDir()
	must(b, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 8<<20), 0o644))
	c := bootImage(b, "r="+mkImage(b, dir, "32M", "-b", "4096", "-O", ext4Features))
	f, err := vfs.Open(c, nil, "/f", vfs.OpenHow{Flags: unix.O_RDONLY})
	must(b, err)
	defer f.DecRef()
	mem := &guestMemory{make([]byte, 4096)}
	var dst uio.Dst
	b.ReportAllocs()
	for i := range b.N {
		dst.Reset(mem, 0, 4096)
		if n, err := vfs.Pread(c, f, &dst, int64(i%2048)*4096); n != 4096 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkLookup finds names in a hashed directory without the dentry cache.
func BenchmarkLookup(b *testing.B) {
	dir := b.TempDir()
	smallTree(b, dir)
	sb := mountImage(b, Ext4, mkImage(b, dir, "32M", "-b", "4096", "-O", ext4Features))
	d, err := sb.Root().Lookup(nil, "hashed")
	must(b, err)
	b.ReportAllocs()
	for range b.N {
		if _, err := d.Lookup(nil, "name-77-yyyyyyyyyyyyyyyyyyyy"); err != nil {
			b.Fatal(err)
		}
	}
}
