package ext4

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

func TestOptions(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-t", "ext4")
	d.umount()
	for _, bad := range []string{"errors=never", "commit=x", "commit=-1", "data=none", "nonsense", "commit"} {
		if _, err := Mount(Ext4, d.dev, 0, bad); err != unix.EINVAL {
			t.Errorf("%s: %v", bad, err)
		}
	}
	m, err := Mount(Ext4, d.dev, 0, "commit=7,errors=remount-ro,data=writeback")
	must(t, err)
	sb := m.(*superBlock)
	if o := sb.opts.Load(); o.commit != 7*time.Second || o.onError != disk.ErrorsRO {
		t.Error("options have no effect")
	}
	must(t, sb.Remount(nil, 0, "commit=0,discard"))
	if o := sb.opts.Load(); o.commit != 0 || !o.discard || o.onError != disk.ErrorsRO {
		t.Error("options of a remount have no effect")
	}
	if got := sb.Options(); got != ",errors=remount-ro,data=writeback,commit=0,discard" {
		t.Errorf("shown as %s", got)
	}
	sb.Release()
}

// discarder remembers what is discarded.
type discarder struct {
	*bdev.Mem
	blocks map[uint64]bool
}

func (d *discarder) Discard(off, n int64) error {
	for ; n > 0; off, n = off+1024, n-1024 {
		d.blocks[uint64(off/1024)] = true
	}
	return nil
}

// TestTrim discards free blocks on request and freed ones with the option; what files have is not touched.
func TestTrim(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-t", "ext4", "-b", "1024")
	d.umount()
	dev := &discarder{d.dev, map[uint64]bool{}}
	m, err := Mount(Ext4, dev, 0, "discard")
	must(t, err)
	sb := m.(*superBlock)
	d.sb, d.Caller = sb, vfstest.New(m)
	d.write("/keep", pattern(300_000, 1), 0)
	d.write("/drop", pattern(200_000, 2), 0)
	blocks := func(name string) (out []uint64) {
		in, err := sb.Root().Lookup(nil, name)
		must(t, err)
		must(t, in.(*inode).eachRun(0, 1<<40, func(r run, last bool) (bool, error) {
			for i := range r.n {
				out = append(out, r.phys+i)
			}
			return true, nil
		}))
		return out
	}
	keep, drop := blocks("keep"), blocks("drop")
	if len(keep) != 293 || len(drop) != 196 {
		t.Fatalf("%d and %d blocks", len(keep), len(drop))
	}
	must(t, sb.Sync())
	must(t, vfs.Unlink(d, nil, "/drop"))
	if len(dev.blocks) != 0 {
		t.Error("discarded before the commit")
	}
	must(t, sb.Sync())
	for _, b := range drop {
		if !dev.blocks[b] {
			t.Fatalf("block %d was freed and not discarded", b)
		}
	}
	clear(dev.blocks)
	mem := make(vfstest.Memory, 64)
	d.Caller.Memory = mem
	binary.LittleEndian.PutUint64(mem[8:], 1<<62)
	_, err = sb.root.ioctl(d, fitrim, 0)
	must(t, err)
	free := sb.Statfs().Bfree
	if got := binary.LittleEndian.Uint64(mem[8:]); got != free*1024 || uint64(len(dev.blocks)) != free {
		t.Errorf("trimmed %d blocks, told %d, free are %d", len(dev.blocks), got/1024, free)
	}
	for _, b := range keep {
		if dev.blocks[b] {
			t.Fatalf("block %d of a file was discarded", b)
		}
	}
	d.umount()
}

// TestFiemap lists the runs of files.
func TestFiemap(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-t", "ext4", "-b", "1024")
	d.write("/sparse", pattern(3000, 1), 0)
	d.write("/sparse", pattern(1024, 1), 100*1024)
	list := func(name string, room uint32) string {
		mem := make(vfstest.Memory, 4096)
		d.Caller.Memory = mem
		le := binary.LittleEndian
		le.PutUint64(mem[8:], ^uint64(0))
		le.PutUint32(mem[24:], room)
		in, err := d.sb.Root().Lookup(nil, name)
		must(t, err)
		_, err = in.(*inode).ioctl(d, fiemapRequest, 0)
		must(t, err)
		s := fmt.Sprintf("%d:", le.Uint32(mem[20:]))
		for i := range min(room, le.Uint32(mem[20:])) {
			e := mem[fiemapHeader+fiemapExtent*i:]
			s += fmt.Sprintf(" %d+%d/%#x", le.Uint64(e), le.Uint64(e[16:]), le.Uint32(e[40:]))
		}
		return s
	}
	for _, c := range []struct {
		name string
		room uint32
		want string
	}{
		{"sparse", 10, "2: 0+3072/0x0 102400+1024/0x1"},
		{"sparse", 1, "1: 0+3072/0x0"},
		{"sparse", 0, "2:"},
	} {
		if got := list(c.name, c.room); got != c.want {
			t.Errorf("%s, room for %d: %s, want %s", c.name, c.room, got, c.want)
		}
	}
	d.umount()
}
