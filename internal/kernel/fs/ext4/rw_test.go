package ext4

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// disk of a writable mount.
type rwDisk struct {
	t   testing.TB
	typ *vfs.FilesystemType
	dev *bdev.Mem
	opt string // mount options
	*vfstest.Caller
	sb *superBlock
}

func newDisk(t testing.TB, typ *vfs.FilesystemType, size string, args ...string) *rwDisk {
	t.Helper()
	return newDiskWith(t, typ, "", size, args...)
}

// newDiskWith is newDisk with mount options.
func newDiskWith(t testing.TB, typ *vfs.FilesystemType, opt, size string, args ...string) *rwDisk {
	t.Helper()
	raw, err := os.ReadFile(mkImage(t, t.TempDir(), size, args...))
	must(t, err)
	d := &rwDisk{t: t, typ: typ, opt: opt, dev: bdev.NewMem("ubda", raw, false)}
	d.mount()
	return d
}

func (d *rwDisk) mount() {
	d.t.Helper()
	sb, err := Mount(d.typ, d.dev, 0, d.opt)
	must(d.t, err)
	d.sb = sb.(*superBlock)
	if d.sb.ReadOnly() {
		d.t.Fatalf("mounted read-only: %s", d.sb.mayNot)
	}
	d.Caller = vfstest.New(sb)
}

func (d *rwDisk) umount() { d.Ctx.Release() }

// content is the device as it is.
func content(t testing.TB, dev bdev.Device) []byte {
	p := make([]byte, dev.Size())
	_, err := dev.ReadAt(p, 0)
	must(t, err)
	return p
}

// check runs e2fsck -fn.
func check(t testing.TB, img []byte, what string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "check")
	must(t, os.WriteFile(name, img, 0o600))
	defer os.Remove(name)
	out, err := exec.Command(tool(t, "e2fsck"), "-fn", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: e2fsck: %v\n%s", what, err, out)
	}
}

// remount unmounts, checks and mounts again.
func (d *rwDisk) remount(what string) {
	d.t.Helper()
	d.umount()
	check(d.t, content(d.t, d.dev), what)
	d.mount()
}

func (d *rwDisk) write(path string, p []byte, off int64) {
	d.t.Helper()
	f, err := vfs.Open(d, nil, path, vfs.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT, Mode: 0o644})
	must(d.t, err)
	n, err := vfs.Pwrite(d, f, uio.FromBytes(p), off)
	if err != nil || n != len(p) {
		d.t.Fatalf("%s: wrote %d of %d: %v", path, n, len(p), err)
	}
	f.DecRef()
}

func (d *rwDisk) expect(path string, want []byte) {
	d.t.Helper()
	if got := readFile(d.t, d, path); !bytes.Equal(got, want) {
		d.t.Fatalf("%s: %d bytes, want %d, first difference at %d", path, len(got), len(want), firstDiff(got, want))
	}
}

func pattern(n, seed int) []byte {
	p := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

// rwMatrix is the kinds of file system that are written.
var rwMatrix = func() (out []int) {
	for i, m := range matrix {
		if strings.Contains(m.name, "bigalloc") {
			continue
		}
		out = append(out, i)
	}
	return out
}()

func forMatrix(t *testing.T, size string, f func(t *testing.T, d *rwDisk)) {
	for _, i := range rwMatrix {
		m := matrix[i]
		t.Run(m.name, func(t *testing.T) { f(t, newDisk(t, m.typ, size, m.args...)) })
	}
}

func TestWriteBasics(t *testing.T) {
	forMatrix(t, "24M", func(t *testing.T, d *rwDisk) {
		d.remount("empty mount")
		d.write("/a", []byte("hello"), 0)
		d.remount("create")
		d.expect("/a", []byte("hello"))
		big := pattern(3<<20+12345, 1)
		d.write("/big", big, 0)
		d.expect("/big", big)
		d.remount("big")
		d.expect("/big", big)
		must(t, vfs.Mkdir(d, nil, "/dir", 0o755))
		must(t, vfs.Mkdir(d, nil, "/dir/sub", 0o755))
		d.write("/dir/x", pattern(100, 2), 5000)
		must(t, vfs.Symlink(d, "short", nil, "/dir/s1"))
		must(t, vfs.Symlink(d, strings.Repeat("/long", 60), nil, "/dir/s2"))
		must(t, vfs.Mknod(d, nil, "/dir/fifo", unix.S_IFIFO|0o600, 0))
		must(t, vfs.Mknod(d, nil, "/dir/null", unix.S_IFCHR|0o600, unix.Mkdev(1, 3)))
		must(t, vfs.Mknod(d, nil, "/dir/blk", unix.S_IFBLK|0o600, unix.Mkdev(259, 70000)))
		must(t, vfs.Link(d, nil, "/a", nil, "/dir/a2", 0))
		d.remount("kinds")
		d.expect("/dir/x", append(make([]byte, 5000), pattern(100, 2)...))
		if s, err := vfs.Readlink(d, nil, "/dir/s2"); err != nil || s != strings.Repeat("/long", 60) {
			t.Errorf("symlink %q %v", s, err)
		}
		if a, err := vfs.Stat(d, nil, "/dir/blk", 0); err != nil || a.Rdev != unix.Mkdev(259, 70000) {
			t.Errorf("blk %+v %v", a, err)
		}
		must(t, vfs.Truncate(d, nil, "/big", 777777))
		d.expect("/big", big[:777777])
		must(t, vfs.Truncate(d, nil, "/big", 900000))
		d.expect("/big", append(append([]byte(nil), big[:777777]...), make([]byte, 900000-777777)...))
		d.remount("truncate")
		d.expect("/big", append(append([]byte(nil), big[:777777]...), make([]byte, 900000-777777)...))
		must(t, vfs.Unlink(d, nil, "/a"))
		must(t, vfs.Unlink(d, nil, "/dir/s2"))
		must(t, vfs.Unlink(d, nil, "/dir/blk"))
		must(t, vfs.Unlink(d, nil, "/big"))
		must(t, vfs.Rmdir(d, nil, "/dir/sub"))
		d.remount("unlink")
		d.expect("/dir/a2", []byte("hello"))
		must(t, vfs.Chmod(d, nil, "/dir/a2", 0o4711, 0))
		must(t, vfs.Chown(d, nil, "/dir/a2", 100000, 200000, 0))
		must(t, vfs.Setxattr(d, nil, "/dir/a2", 0, "user.small", []byte("v"), 0))
		must(t, vfs.Setxattr(d, nil, "/dir/a2", 0, "user.large", pattern(600, 3), 0))
		must(t, vfs.Setxattr(d, nil, "/dir", 0, "trusted.t", []byte("trust"), 0))
		d.remount("attributes")
		if v, err := vfs.Getxattr(d, nil, "/dir/a2", 0, "user.large"); err != nil || !bytes.Equal(v, pattern(600, 3)) {
			t.Errorf("xattr: %d %v", len(v), err)
		}
		must(t, vfs.Removexattr(d, nil, "/dir/a2", 0, "user.large"))
		d.remount("attribute removed")
		must(t, vfs.Removexattr(d, nil, "/dir/a2", 0, "user.small"))
		for i := range 300 {
			d.write(fmt.Sprintf("/dir/file-%d-%s", i, strings.Repeat("y", i%50)), []byte{byte(i)}, 0)
		}
		d.remount("300 files")
		for i := range 300 {
			d.expect(fmt.Sprintf("/dir/file-%d-%s", i, strings.Repeat("y", i%50)), []byte{byte(i)})
		}
		for i := range 300 {
			must(t, vfs.Unlink(d, nil, fmt.Sprintf("/dir/file-%d-%s", i, strings.Repeat("y", i%50))))
		}
		d.remount("300 files removed")
		d.umount()
	})
}
