package ext4

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// mapFile maps a file and returns its Memfile.
func mapFile(t *testing.T, d *rwDisk, path string, n uint64) (*vfs.File, vfs.Mapping, platform.Memfile) {
	t.Helper()
	f, err := vfs.Open(d, nil, path, vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o644})
	must(t, err)
	m, err := vfs.MapFile(d, f, true, true, false)
	must(t, err)
	m.Mapped(1, false)
	x, err := m.Extents(0, n, true, true)
	must(t, err)
	if len(x) != 1 {
		t.Fatalf("%d extents", len(x))
	}
	return f, m, m.(*inode).mem
}

// TestSharedMapping writes through mappings and looks with read(2), and the other way round.
func TestSharedMapping(t *testing.T) {
	fake := platform.NewFake()
	NewMemfile = fake.NewMemfile
	t.Cleanup(func() { NewMemfile = nil })
	for _, bs := range []string{"1024", "4096"} {
		d := newDisk(t, Ext4, "16M", "-b", bs, "-O", ext4Features)
		want := pattern(300000, 1)
		d.write("/f", want, 0)
		must(t, vfs.Truncate(d, nil, "/f", 700000))
		want = append(want, make([]byte, 400000)...)
		f, m, mem := mapFile(t, d, "/f", 1<<20)
		store := func(p []byte, off int) {
			copy(want[off:], p)
			_, err := mem.WriteAt(p, int64(off))
			must(t, err)
		}
		store([]byte("through the mapping"), 70000)
		store([]byte("in a hole"), 500001)
		d.expect("/f", want)
		copy(want[100:], "by write")
		d.write("/f", []byte("by write"), 100)
		p := make([]byte, 8)
		_, err := mem.ReadAt(p, 100)
		must(t, err)
		if string(p) != "by write" {
			t.Errorf("mapping has %q", p)
		}
		must(t, m.MSync(0, 1<<20))
		d.expect("/f", want)
		if a, _ := vfs.Stat(d, nil, "/f", 0); a.Blocks*512 > 330000 {
			t.Errorf("holes were filled: %d blocks", a.Blocks)
		}
		store([]byte("again"), 299998)
		must(t, vfs.Truncate(d, nil, "/f", 299999))
		must(t, vfs.Truncate(d, nil, "/f", 400000))
		want = append(want[:299999:299999], make([]byte, 100001)...)
		d.expect("/f", want)
		p = make([]byte, 10)
		_, err = mem.ReadAt(p, 299998)
		must(t, err)
		if !bytes.Equal(p, append([]byte("a"), make([]byte, 9)...)) {
			t.Errorf("after the end: %q", p)
		}
		must(t, vfs.Fallocate(d, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1000, 100000))
		clear(want[1000:101000])
		d.expect("/f", want)
		store([]byte("last"), 399990)
		m.Mapped(-1, false)
		f.DecRef()
		d.remount("mapping")
		d.expect("/f", want)
		d.umount()
	}
}

// TestBusyBlocks maps a file from the image while the file system is read-only, and frees its blocks when it is not.
func TestBusyBlocks(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-m", "0", "-O", ext4Features)
	d.write("/f", pattern(1<<20, 1), 0)
	d.umount()
	dax := &daxDevice{d.dev, &platform.HostFile{}, 0}
	sb, err := Mount(Ext4, dax, unix.MS_RDONLY, "")
	must(t, err)
	d.sb, d.Caller = sb.(*superBlock), vfstest.New(sb)
	f, err := vfs.Open(d, nil, "/f", vfs.OpenHow{Flags: unix.O_RDONLY})
	must(t, err)
	m, err := vfs.MapFile(d, f, false, false, false)
	must(t, err)
	m.Mapped(1, false)
	x, err := m.Extents(0, 1<<20, false, false)
	must(t, err)
	if len(x) == 0 || x[0].Host != dax.host {
		t.Fatalf("not mapped from the image: %+v", x)
	}
	must(t, sb.Remount(nil, 0, ""))
	must(t, m.(*inode).SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetSize}))
	must(t, sb.Sync())
	g, err := sb.Root().Create(nil, "g", unix.S_IFREG|0o644, 0)
	must(t, err)
	ops, err := g.Open(nil, f)
	must(t, err)
	fill := pattern(200000, 2)
	for off := int64(0); ; off += 200000 {
		if n, err := ops.Write(nil, nil, uio.FromBytes(fill), off); err != nil || n < len(fill) {
			break
		}
	}
	now := content(t, d.dev)
	data, want := make([]byte, 0, 1<<20), pattern(1<<20, 1)
	for _, e := range x {
		data = append(data, now[e.HostOff:e.HostOff+e.Len]...)
	}
	if !bytes.Equal(data, want) {
		t.Error("blocks were used again while they were mapped")
	}
	before := d.sb.w.freeBlocks
	m.Mapped(-1, false)
	must(t, sb.Sync())
	if got := d.sb.w.freeBlocks - before; got < 256 {
		t.Errorf("%d blocks came back", got)
	}
	// On a file system that is written, what somebody can write is not mapped from the image.
	NewMemfile = platform.NewFake().NewMemfile
	t.Cleanup(func() { NewMemfile = nil })
	h, err := vfs.Open(d, nil, "/h", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o644})
	must(t, err)
	_, err = vfs.Write(d, h, uio.FromBytes(pattern(8192, 1)))
	must(t, err)
	for _, open := range []bool{true, false} {
		if !open {
			h.DecRef()
		}
		x, err := h.Inode.(*inode).Extents(0, 8192, false, false)
		must(t, err)
		if len(x) != 1 || (x[0].Host == dax.host) == open {
			t.Errorf("open for writing %v: mapped from the image %v", open, !open)
		}
	}
	f.DecRef()
	d.umount()
	check(t, content(t, d.dev), "busy blocks")
}

// TestTmpfile makes files without names.
func TestTmpfile(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "1024", "-O", ext4Features)
	f, err := vfs.Open(d, nil, "/", vfs.OpenHow{Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o600})
	must(t, err)
	_, err = vfs.Write(d, f, uio.FromBytes([]byte("content")))
	must(t, err)
	must(t, d.sb.Sync())
	g, err := vfs.Open(d, nil, "/", vfs.OpenHow{Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o600})
	must(t, err)
	_, err = vfs.Write(d, g, uio.FromBytes(pattern(100000, 1)))
	must(t, err)
	must(t, d.sb.Sync())
	// A crash now leaves both on the list of orphans; the next mount frees them.
	crash := &rwDisk{t: t, typ: Ext4, dev: bdev.NewMem("ubda", content(t, d.dev), false)}
	crash.mount()
	crash.umount()
	check(t, content(t, crash.dev), "orphans freed")
	must(t, vfs.Link(d, f, "", nil, "/named", unix.AT_EMPTY_PATH))
	f.DecRef()
	g.DecRef()
	d.remount("tmpfile")
	d.expect("/named", []byte("content"))
	if n := d.list("/"); len(n) != 2 {
		t.Errorf("%q", n)
	}
	d.umount()
}
