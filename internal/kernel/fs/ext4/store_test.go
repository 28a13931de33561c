package ext4

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// sliceDevice is a device in memory that hands out its bytes.
type sliceDevice struct {
	p      []byte
	host   platform.HostFile
	stored int
}

func (d *sliceDevice) Name() string                            { return "ubda" }
func (d *sliceDevice) Size() int64                             { return int64(len(d.p)) }
func (d *sliceDevice) ReadOnly() bool                          { return false }
func (d *sliceDevice) ReadAt(p []byte, off int64) (int, error) { return copy(p, d.p[off:]), nil }
func (d *sliceDevice) WriteAt(p []byte, off int64) (int, error) {
	return copy(d.p[off:], p), nil
}
func (d *sliceDevice) Flush() error                   { return nil }
func (d *sliceDevice) Discard(off, n int64) error     { return unix.EOPNOTSUPP }
func (d *sliceDevice) WriteZeroes(off, n int64) error { clear(d.p[off : off+n]); return nil }
func (d *sliceDevice) Store(off, n int64, fill func(p []byte)) bool {
	d.stored += int(n)
	fill(d.p[off : off+n : off+n])
	return true
}
func (d *sliceDevice) HostRange(off, n int64) (*platform.HostFile, int64, int64) {
	return &d.host, off, n
}

func sliceDisk(t testing.TB, size string) (*sliceDevice, *superBlock, *vfstest.Caller) {
	t.Helper()
	raw, err := os.ReadFile(mkImage(t, t.TempDir(), size, "-b", "4096", "-O", ext4Features))
	must(t, err)
	dev := &sliceDevice{p: raw}
	var _ bdev.Storer = dev
	sb, err := Mount(Ext4, dev, 0, "")
	must(t, err)
	return dev, sb.(*superBlock), vfstest.New(sb)
}

// TestStore overwrites from guest memory, in pieces that have holes, the end of the file and bad memory in them, and with a
// mapping that has to follow.
func TestStore(t *testing.T) {
	useMemfiles(t)
	dev, sb, c := sliceDisk(t, "16M")
	f, err := vfs.Open(c, nil, "/f", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o644})
	must(t, err)
	want := pattern(300000, 1)
	if n, err := vfs.Write(c, f, uio.FromBytes(want)); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	must(t, vfs.Fallocate(c, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100<<10, 8<<10))
	clear(want[100<<10 : 108<<10])
	mem := vfstest.Memory(pattern(200000, 2))
	pwrite := func(off, n int64, addr uint64, expect int) {
		t.Helper()
		var src uio.Src
		src.Reset(mem, addr, uint64(n))
		dev.stored = 0
		k, err := vfs.Pwrite(c, f, &src, off)
		if k != expect || (k == 0) != (err != nil) {
			t.Errorf("pwrite of %d at %d: %d %v", n, off, k, err)
		}
		want = append(want, make([]byte, max(0, off+int64(k)-int64(len(want))))...)
		copy(want[off:], mem[addr:][:k])
		got := make([]byte, len(want)+1)
		if k, err := vfs.Pread(c, f, uio.ToBytes(got), 0); k != len(want) || err != nil || !bytes.Equal(got[:k], want) {
			t.Fatalf("pwrite of %d at %d: %d bytes, %v, differs at %d", n, off, k, err, firstDiff(got[:k], want))
		}
	}
	pwrite(1001, 50001, 7, 50001)
	if dev.stored != 50001 {
		t.Errorf("%d bytes were stored", dev.stored)
	}
	pwrite(90<<10, 30<<10, 100, 30<<10) // over the hole
	pwrite(0, 4096, 199000, 1000)       // over the end of memory
	if dev.stored == 0 {
		t.Error("nothing was stored")
	}
	pwrite(299000, 5000, 0, 5000) // over the end of the file
	if dev.stored != 0 {
		t.Error("the end of the file moved by a store")
	}
	m, err := vfs.MapFile(c, f, true, true, false)
	must(t, err)
	m.Mapped(1, true)
	_, err = m.Extents(0, 1<<20, true, true)
	must(t, err)
	pwrite(5000, 70000, 3, 70000)
	if got := m.(*inode).mem.(*memMemfile).p; !bytes.Equal(got[:len(want)], want) {
		t.Errorf("the mapping differs at %d", firstDiff(got, want))
	}
	m.Mapped(-1, true)
	m.(*inode).mu.RLock()
	m.(*inode).reloadMem(0, 1000) // nothing there
	m.(*inode).mu.RUnlock()
	f.DecRef()
	must(t, sb.Sync())
	c.Ctx.Release()
	check(t, dev.p, "stores")
}

// TestMapReady maps without waiting what can be, and nothing else.
func TestMapReady(t *testing.T) {
	useMemfiles(t)
	dev, _, c := sliceDisk(t, "16M")
	f, err := vfs.Open(c, nil, "/f", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o644})
	must(t, err)
	_, err = vfs.Write(c, f, uio.FromBytes(pattern(10000, 1)))
	must(t, err)
	in := f.Inode.(*inode)
	ready := func(off, n uint64, expect bool) {
		t.Helper()
		m, x := (&file{in: in}).MapReady(off, n)
		if (m != nil) != expect {
			t.Fatalf("at %d: ready %v", off, m != nil)
		}
		if m == nil {
			return
		}
		if len(x) != 1 || x[0].Off != off || x[0].Host != &dev.host || in.mapped != 1 || !in.dax.Load() {
			t.Errorf("%+v, %d mappings", x, in.mapped)
		}
		m.Mapped(-1, false)
		if in.mapped != 0 || in.dax.Load() {
			t.Errorf("%d mappings left", in.mapped)
		}
	}
	ready(0, 4096, false) // somebody can write
	f.DecRef()
	ready(0, 8192, false) // nobody knows where it is
	_, err = in.mapBlock(0)
	must(t, err)
	ready(0, 8192, true)
	ready(0, 10000, false) // nobody has looked at the end of the last page
	in.Mapped(1, false)
	_, err = in.Extents(0, 1<<20, false, false)
	must(t, err)
	in.Mapped(-1, false)
	ready(0, 1<<20, true)
	ready(8192, 4096, true)
	ready(12288, 4096, false)
	must(t, vfs.Truncate(c, nil, "/f", 9000))
	_, err = in.mapBlock(0)
	must(t, err)
	ready(0, 4096, true)
	ready(8192, 4096, false)
	in.mu.Lock()
	ready(0, 4096, false)
	in.mu.Unlock()
	in.memMu.Lock()
	ready(0, 4096, false)
	in.memMu.Unlock()
	c.Ctx.Release()
	check(t, dev.p, "mappings")
}
