package ext4

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// TestShiftDeep moves what is in trees of many leaves, under a mapping.
func TestShiftDeep(t *testing.T) {
	fake := platform.NewFake()
	NewMemfile = fake.NewMemfile
	t.Cleanup(func() { NewMemfile = nil })
	d := newDisk(t, Ext4, "32M", "-b", "1024", "-O", ext4Features)
	const n = 4000 // extents: about 50 leaves, more than one change moves
	var want []byte
	for i := range n {
		d.write("/f", pattern(1024, i), int64(i)*2048)
		want = append(want, pattern(1024, i)...)
		want = append(want, make([]byte, 1024)...)
	}
	want = want[:len(want)-1024]
	f, m, mem := mapFile(t, d, "/f", 1<<20)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 12 {
		off, size := rng.IntN(len(want)/2048)*1024, (1+rng.IntN(700))*1024
		if i < 2 {
			off = i * 1024
		}
		at := rng.IntN(1 << 19)
		_, err := mem.WriteAt([]byte("stored"), int64(at))
		must(t, err)
		copy(want[at:], "stored")
		if i%2 == 0 {
			must(t, vfs.Fallocate(d, f, unix.FALLOC_FL_INSERT_RANGE, int64(off), int64(size)))
			want = slices.Insert(want, off, make([]byte, size)...)
		} else {
			must(t, vfs.Fallocate(d, f, unix.FALLOC_FL_COLLAPSE_RANGE, int64(off), int64(size)))
			want = slices.Delete(want, off, off+size)
		}
		d.expect("/f", want)
		p := make([]byte, 1<<20)
		_, err = mem.ReadAt(p, 0)
		must(t, err)
		if !bytes.Equal(p, want[:1<<20]) {
			t.Fatalf("%d: mapping differs at %d", i, firstDiff(p, want))
		}
	}
	m.Mapped(-1, false)
	f.DecRef()
	d.remount("shifted")
	d.expect("/f", want)
	d.umount()
}

// TestShiftErrors asks for what cannot be.
func TestShiftErrors(t *testing.T) {
	const insert, collapse = unix.FALLOC_FL_INSERT_RANGE, unix.FALLOC_FL_COLLAPSE_RANGE
	d := newDisk(t, Ext4, "8M", "-b", "1024", "-O", ext4Features)
	d.write("/f", pattern(10000, 1), 0)
	f, err := vfs.Open(d, nil, "/f", vfs.OpenHow{Flags: unix.O_RDWR})
	must(t, err)
	for _, c := range []struct {
		mode   uint32
		off, n int64
		want   error
	}{
		{insert, 1, 1024, unix.EINVAL}, {insert, 1024, 1, unix.EINVAL}, {insert, 10240, 1024, unix.EINVAL},
		{insert, 0, (1<<32 - 1) << 10, unix.EFBIG}, {insert, 0, (1<<32 - 2) << 10, unix.EFBIG}, {insert, 1 << 50, 1024, unix.EFBIG},
		{collapse, 1, 1024, unix.EINVAL}, {collapse, 1024, 1023, unix.EINVAL}, {collapse, 9216, 1024, unix.EINVAL},
		{collapse, 0, 10240, unix.EINVAL}, {collapse | unix.FALLOC_FL_KEEP_SIZE, 0, 1024, unix.EINVAL},
		{collapse | insert, 0, 1024, unix.EOPNOTSUPP}, {collapse, 0, 9216, nil}, {insert, 0, 1024, nil},
	} {
		if err := vfs.Fallocate(d, f, c.mode, c.off, c.n); err != c.want {
			t.Errorf("%#x %d+%d: %v, want %v", c.mode, c.off, c.n, err, c.want)
		}
	}
	f.DecRef()
	d.expect("/f", append(make([]byte, 1024), pattern(10000, 1)[9216:]...))
	// Blocks behind the end move, too, as far as there are numbers for them.
	g, err := vfs.Open(d, nil, "/g", vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o600})
	must(t, err)
	must(t, vfs.Fallocate(d, g, unix.FALLOC_FL_KEEP_SIZE, (1<<32-3)<<10, 1024))
	must(t, vfs.Truncate(d, nil, "/g", 5000))
	d.write("/g", pattern(5000, 2), 0)
	must(t, vfs.Fallocate(d, g, unix.FALLOC_FL_KEEP_SIZE, (1<<32-4)<<10, 1024))
	if err := vfs.Fallocate(d, g, insert, 0, 4096); err != unix.EINVAL {
		t.Errorf("moving blocks beyond the last number: %v", err)
	}
	must(t, vfs.Fallocate(d, g, collapse, 1024, 1024))
	d.expect("/g", slices.Delete(pattern(5000, 2), 1024, 2048))
	g.DecRef()
	d.remount("errors")
	d.umount()
	e := newDisk(t, Ext3, "8M", "-t", "ext3", "-b", "1024")
	e.write("/f", pattern(10000, 1), 0)
	f, err = vfs.Open(e, nil, "/f", vfs.OpenHow{Flags: unix.O_RDWR})
	must(t, err)
	for _, mode := range []uint32{insert, collapse} {
		if err := vfs.Fallocate(e, f, mode, 0, 1024); err != unix.EOPNOTSUPP {
			t.Errorf("%#x without extents: %v", mode, err)
		}
	}
	f.DecRef()
	e.umount()
}
