package ext4

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// tool returns the path of an e2fsprogs program or skips the test.
func tool(t testing.TB, name string) string {
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (package e2fsprogs): image tests need it", name)
	}
	return p
}

func mustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// mkImage makes an image of size bytes from a directory and returns its path.
func mkImage(t testing.TB, dir string, size string, args ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	a := append([]string{"-q", "-F", "-d", dir}, args...)
	mustRun(t, "mke2fs", append(a, img, size)...)
	return img
}

// fileDevice is an image file as a read-only device.
type fileDevice struct {
	*bdev.Mem
	f *os.File
}

func (d *fileDevice) Size() int64 {
	st, _ := d.f.Stat()
	return st.Size() &^ 511
}

func (d *fileDevice) ReadAt(p []byte, off int64) (int, error) {
	if n, _ := d.f.ReadAt(p, off); n < len(p) {
		return n, unix.EIO
	}
	return len(p), nil
}

func mountImage(t testing.TB, typ *vfs.FilesystemType, img string) *superBlock {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	sb, err := Mount(typ, &fileDevice{bdev.NewMem("ubda", nil, true), f}, unix.MS_RDONLY, "")
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	return sb.(*superBlock)
}

// makeTree fills dir with files of every kind; it is the same every time.
func makeTree(t testing.TB, dir string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	write := func(name string, p []byte) { must(os.WriteFile(filepath.Join(dir, name), p, 0o644)) }
	for _, n := range []int{0, 1, 59, 60, 61, 100, 150, 511, 512, 1023, 1024, 1025, 4095, 4096, 4097, 12 * 1024, 12*1024 + 1, 70000, 300000, 1 << 20} {
		write(fmt.Sprintf("size%d", n), data(n))
	}
	must(os.MkdirAll(filepath.Join(dir, "a/b/c/d/e/f/g"), 0o755))
	write("a/b/c/d/e/f/g/deep", []byte("deep\n"))
	must(os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	must(os.Mkdir(filepath.Join(dir, "few"), 0o755))
	for i := range 3 {
		write(fmt.Sprintf("few/f%d", i), data(10))
	}
	must(os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range 400 {
		write(fmt.Sprintf("many/entry-%04d-%s", i, strings.Repeat("x", i%60)), []byte(fmt.Sprint(i)))
	}
	write("many/"+strings.Repeat("n", 255), []byte("long"))
	write("unicode-äöü-日本", []byte("u"))
	must(os.Symlink("short", filepath.Join(dir, "link-short")))
	must(os.Symlink(strings.Repeat("l", 59), filepath.Join(dir, "link-59")))
	must(os.Symlink(strings.Repeat("l", 60), filepath.Join(dir, "link-60")))
	must(os.Symlink(strings.Repeat("/long", 150), filepath.Join(dir, "link-long")))
	must(os.Link(filepath.Join(dir, "size4096"), filepath.Join(dir, "hardlink")))
	must(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	for _, off := range []int64{0, 5000, 100_000, 3_000_000} {
		_, err = f.WriteAt(data(700), off)
		must(err)
	}
	must(f.Close())
	f, err = os.Create(filepath.Join(dir, "striped")) // one extent a block
	must(err)
	for i := range 300 {
		_, err = f.WriteAt(data(1024), int64(i)*8192)
		must(err)
	}
	must(f.Close())
	must(os.Chmod(filepath.Join(dir, "size1"), 0o4755|os.ModeSetuid))
	must(os.Chtimes(filepath.Join(dir, "size60"), time.Unix(1_000_000_000, 123456789), time.Unix(2_000_000_000, 987654321)))
	_ = unix.Setxattr(filepath.Join(dir, "size100"), "user.small", []byte("value"), 0)
	_ = unix.Setxattr(filepath.Join(dir, "size100"), "user.big", data(600), 0)
	if os.Geteuid() == 0 {
		_ = unix.Mknod(filepath.Join(dir, "chr"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1)))
		_ = unix.Mknod(filepath.Join(dir, "blk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000)))
		must(os.Chown(filepath.Join(dir, "size512"), 100000, 200000))
	}
}

// list reads a directory in small pieces, as getdents64 with a small buffer does.
func list(t testing.TB, d vfs.Inode) (ents []vfs.DirEnt, err error) {
	f := vfs.NewFile(vfs.Path{}, d, nil, unix.O_RDONLY)
	ops, err := d.Open(nil, f)
	if err != nil {
		return nil, err
	}
	off := int64(0)
	for {
		n := 0
		err := ops.(vfs.DirReader).ReadDir(nil, f, off, func(e vfs.DirEnt) bool {
			if n == 7 {
				return false
			}
			n++
			ents = append(ents, e)
			off = e.Off
			return true
		})
		if err != nil || n == 0 {
			return ents, err
		}
		if len(ents) > 1<<20 {
			t.Fatal("endless directory")
		}
	}
}

func openRegular(t testing.TB, in vfs.Inode) vfs.FileOps {
	ops, err := in.Open(nil, vfs.NewFile(vfs.Path{}, in, nil, unix.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	return ops
}

// compareTree compares a mounted directory with one of the host.
func compareTree(t *testing.T, in vfs.Inode, dir string, rel string) {
	t.Helper()
	host, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".", ".."}
	for _, e := range host {
		if e.Name() != "lost+found" {
			want = append(want, e.Name())
		}
	}
	ents, err := list(t, in)
	if err != nil {
		t.Fatalf("%s: readdir: %v", rel, err)
	}
	var got []string
	for _, e := range ents {
		if e.Name != "lost+found" {
			got = append(got, e.Name)
		}
	}
	sort.Strings(want)
	sort.Strings(got)
	if strings.Join(want, "\n") != strings.Join(got, "\n") {
		t.Fatalf("%s: directory has %d entries, want %d\n%q\n%q", rel, len(got), len(want), got, want)
	}
	if _, err := in.Lookup(nil, "no such name"); err != unix.ENOENT {
		t.Errorf("%s: lookup of a missing name: %v", rel, err)
	}
	for _, e := range ents {
		if e.Name == "." || e.Name == ".." || e.Name == "lost+found" {
			continue
		}
		child, err := in.Lookup(nil, e.Name)
		if err != nil {
			t.Fatalf("%s/%s: lookup: %v", rel, e.Name, err)
		}
		compareFile(t, child, filepath.Join(dir, e.Name), rel+"/"+e.Name, e)
	}
}

func compareFile(t *testing.T, in vfs.Inode, path, rel string, e vfs.DirEnt) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	a := in.Attr()
	if a.Ino != e.Ino {
		t.Errorf("%s: inode %d, directory says %d", rel, a.Ino, e.Ino)
	}
	if a.Mode != st.Mode || a.UID != st.Uid || a.GID != st.Gid || a.Mtime.Sec != st.Mtim.Sec {
		t.Errorf("%s: mode %o uid %d gid %d mtime %d, want %o %d %d %d", rel, a.Mode, a.UID, a.GID, a.Mtime.Sec, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	if typ := uint8(a.Mode >> 12); e.Type != unix.DT_UNKNOWN && e.Type != typ {
		t.Errorf("%s: d_type %d, mode %o", rel, e.Type, a.Mode)
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		compareTree(t, in, path, rel)
	case unix.S_IFREG:
		if a.Nlink != uint32(st.Nlink) || a.Size != st.Size {
			t.Errorf("%s: nlink %d size %d, want %d %d", rel, a.Nlink, a.Size, st.Nlink, st.Size)
		}
		compareContent(t, in, path, rel)
		compareXattrs(t, in, path, rel)
	case unix.S_IFLNK:
		want, _ := os.Readlink(path)
		if got, err := in.Readlink(nil); err != nil || got != want {
			t.Errorf("%s: readlink %q, %v, want %q", rel, got, err, want)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.Rdev != st.Rdev {
			t.Errorf("%s: rdev %x, want %x", rel, a.Rdev, st.Rdev)
		}
	}
}

func compareContent(t *testing.T, in vfs.Inode, path, rel string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ops := openRegular(t, in)
	got := make([]byte, len(want)+100)
	n, err := ops.Read(nil, nil, uio.ToBytes(got), 0)
	if err != nil || n != len(want) || sha256.Sum256(got[:n]) != sha256.Sum256(want) {
		t.Errorf("%s: read %d bytes (%v), want %d; first difference at %d", rel, n, err, len(want), firstDiff(got[:n], want))
		return
	}
	rng := rand.New(rand.NewPCG(uint64(len(want)), 7))
	for range 10 {
		if len(want) == 0 {
			break
		}
		off, k := rng.IntN(len(want)), 1+rng.IntN(9000)
		p := make([]byte, k)
		n, err := ops.Read(nil, nil, uio.ToBytes(p), int64(off))
		if err != nil || !bytes.Equal(p[:n], want[off:min(off+k, len(want))]) {
			t.Fatalf("%s: read of %d at %d: %d, %v", rel, k, off, n, err)
		}
		mem := &guestMemory{make([]byte, k)}
		var dst uio.Dst
		dst.Reset(mem, 0, uint64(k))
		n, err = ops.Read(nil, nil, &dst, int64(off))
		if err != nil || !bytes.Equal(mem.p[:n], want[off:min(off+k, len(want))]) {
			t.Fatalf("%s: guest read of %d at %d: %d, %v", rel, k, off, n, err)
		}
	}
}

func compareXattrs(t *testing.T, in vfs.Inode, path, rel string) {
	t.Helper()
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return
	}
	var want []string
	for s := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if s != "" && !strings.HasPrefix(s, "security.") {
			want = append(want, s)
		}
	}
	got, err := in.Listxattr(nil)
	if err != nil {
		t.Errorf("%s: listxattr: %v", rel, err)
	}
	for _, name := range want {
		v := make([]byte, 65536)
		k, err := unix.Lgetxattr(path, name, v)
		if err != nil {
			continue
		}
		g, err := in.Getxattr(nil, name)
		if err != nil || !bytes.Equal(g, v[:k]) {
			t.Errorf("%s: %s is %d bytes, %v, want %d; list %q", rel, name, len(g), err, k, got)
		}
	}
	if _, err := in.Getxattr(nil, "user.missing"); err != unix.ENODATA {
		t.Errorf("%s: missing attribute: %v", rel, err)
	}
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// guestMemory is a guest address space of one piece.
type guestMemory struct{ p []byte }

func (g *guestMemory) ReadAt(p []byte, addr uint64) (int, error) { return copy(p, g.p[addr:]), nil }
func (g *guestMemory) WriteAt(p []byte, addr uint64) (int, error) {
	n := copy(g.p[min(addr, uint64(len(g.p))):], p)
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}
func (g *guestMemory) ReadV(p []byte, r []uio.Range) (int, error)  { panic("not used") }
func (g *guestMemory) WriteV(p []byte, r []uio.Range) (int, error) { panic("not used") }

func readAt(ops vfs.FileOps, p []byte, off int64) (int, error) {
	return ops.Read(nil, nil, uio.ToBytes(p), off)
}
