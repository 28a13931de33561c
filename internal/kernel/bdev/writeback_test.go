package bdev

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// counted is a device that counts requests and fails writes if it is told to.
type counted struct {
	*Mem
	reads, writes atomic.Int64
	fail          atomic.Int32 // errno
	flushes       atomic.Int64
	failFlush     atomic.Int32 // errno
}

func (c *counted) Flush() error {
	c.flushes.Add(1)
	if e := c.failFlush.Load(); e != 0 {
		return unix.Errno(e)
	}
	return c.Mem.Flush()
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.Mem.ReadAt(p, off)
}

func (c *counted) WriteAt(p []byte, off int64) (int, error) {
	c.writes.Add(1)
	if e := c.fail.Load(); e != 0 {
		return 0, unix.Errno(e)
	}
	return c.Mem.WriteAt(p, off)
}

func (n *Node) mustOpen(t *testing.T) *special {
	t.Helper()
	ops, err := n.OpenFile(unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	return ops.(*special)
}

func write(t *testing.T, s *special, p []byte, off int64) {
	t.Helper()
	if n, err := s.Write(nil, nil, uio.FromBytes(p), off); n != len(p) || err != nil {
		t.Fatalf("write of %d at %d: %d %v", len(p), off, n, err)
	}
}

func read(t *testing.T, s *special, n int, off int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if k, err := s.Read(nil, nil, uio.ToBytes(p), off); k != n || err != nil {
		t.Fatalf("read of %d at %d: %d %v", n, off, k, err)
	}
	return p
}

// TestSmallWrites gathers what is written sector by sector, and less, and reads in order what was asked for in small pieces.
func TestSmallWrites(t *testing.T) {
	dev := &counted{Mem: NewMem("ubda", make([]byte, 4<<20), false)}
	d := register(t, 0, dev)
	dev.reads.Store(0)
	s := d.Whole().mustOpen(t)
	const size = 1 << 20
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i*7 + i>>9)
	}
	for off := 0; off < size; off += 512 {
		write(t, s, want[off:off+512], int64(off))
	}
	if n := dev.writes.Load(); n != 0 {
		t.Errorf("%d writes before somebody asks for them", n)
	}
	if got := Dirty(); got != size {
		t.Errorf("%d bytes are dirty", got)
	}
	if !bytes.Equal(read(t, s, size, 0), want) {
		t.Error("the file reads as something else")
	}
	if err := s.Fsync(nil, nil, false); err != nil {
		t.Error(err)
	}
	st := &d.Whole().Stats
	if n := dev.writes.Load(); n != size/maxRun || st.Write.Merged.Load() != uint64(size/4096-n) || st.Write.Sectors.Load() != size/512 {
		t.Errorf("%d writes, counted as %v", n, &st.Write)
	}
	if p, _ := dev.Pending(); len(p) > 0 || Dirty() != 0 {
		t.Errorf("%d writes were not flushed, %d bytes are dirty", len(p), Dirty())
	}
	dev.reads.Store(0)
	for off := int64(0); off < size; off += 512 {
		if !bytes.Equal(read(t, s, 512, off), want[off:off+512]) {
			t.Fatalf("at %d", off)
		}
	}
	if n := dev.reads.Load(); n > size/maxReadAhead+8 {
		t.Errorf("%d reads of a file in order", n)
	}
	// Bytes, not in order, over sectors that are held and others.
	for _, off := range []int{5, 4000, 511, 513, 100_000, 99_999} {
		copy(want[off:], "0123456789")
		write(t, s, []byte("0123456789"), int64(off))
	}
	if !bytes.Equal(read(t, s, size, 0), want) {
		t.Error("bytes are wrong")
	}
	write(t, s, []byte("last"), 0)
	copy(want, "last")
	s.Release(nil)
	p := make([]byte, size)
	if _, err := dev.Mem.ReadAt(p, 0); err != nil || !bytes.Equal(p, want) {
		t.Errorf("the last close has not written everything (%v)", err)
	}
	if kmem.Bytes() != 0 {
		t.Errorf("%d bytes are still counted", kmem.Bytes())
	}
}

// TestWriteErrors has writes fail after they were accepted: each open file hears of it once.
func TestWriteErrors(t *testing.T) {
	dev := &counted{Mem: NewMem("ubda", make([]byte, 1<<20), false)}
	d := register(t, 0, dev)
	a, b := d.Whole().mustOpen(t), d.Whole().mustOpen(t)
	fsync := func(what string, s *special, want error) {
		t.Helper()
		if err := s.Fsync(nil, nil, false); err != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	for _, e := range []unix.Errno{unix.EIO, unix.ENOSPC} {
		dev.fail.Store(int32(e))
		write(t, a, make([]byte, 512), 0)
		fsync("first", a, e)
		fsync("first again", a, nil)
		fsync("second", b, e)
		fsync("second again", b, nil)
		dev.fail.Store(0)
	}
	dev.fail.Store(int32(unix.EIO))
	write(t, a, make([]byte, 512), 0)
	SyncAll()
	dev.fail.Store(0)
	c := d.Whole().mustOpen(t) // nobody has heard of it
	fsync("third", c, unix.EIO)
	e := d.Whole().mustOpen(t)
	fsync("fourth", e, nil)
	fsync("first, at last", a, unix.EIO)
	for _, s := range []*special{a, b, c, e} {
		s.Release(nil)
	}
	if Dirty() != 0 {
		t.Errorf("%d bytes are kept", Dirty())
	}
}

// TestSyncFlushes has sync(2) make durable what is with the device already, and tell of the error that it meets.
func TestSyncFlushes(t *testing.T) {
	dev := &counted{Mem: NewMem("ubda", make([]byte, 1<<20), false)}
	d := register(t, 0, dev)
	s := d.Whole().mustOpen(t)
	defer s.Release(nil)
	expect := func(what string, want int64) {
		t.Helper()
		if SyncAll(); dev.flushes.Swap(0) != want {
			t.Errorf("%s: not %d flushes", what, want)
		}
	}
	dev.flushes.Store(0)
	expect("nothing", 0)
	write(t, s, make([]byte, directSize), 0)
	expect("a large write", 1)
	expect("nothing new", 0)
	write(t, s, make([]byte, 512), 0)
	d.wb.cleanAll() // as the timer does
	expect("a small write that the timer has given to the device", 1)
	if err := d.Whole().WriteZeroes(0, 512); err != nil {
		t.Error(err)
	}
	expect("zeroes", 1)
	m := (*mapping)(d.Whole())
	m.Mapped(1, true)
	expect("a mapping", 1)
	expect("a mapping, still", 1)
	m.Mapped(-1, true)
	expect("the last of the mapping", 1)
	expect("no mapping", 0)

	write(t, s, make([]byte, directSize), 0)
	dev.failFlush.Store(int32(unix.EIO))
	SyncAll()
	dev.failFlush.Store(0)
	if err := s.Fsync(nil, nil, false); err != unix.EIO {
		t.Errorf("after a sync that failed: %v", err)
	}
	if err := s.Fsync(nil, nil, false); err != nil {
		t.Error(err)
	}
}

// TestShrunk has a disk become smaller while something is held beyond its new end: that is lost, and no write is left for later.
func TestShrunk(t *testing.T) {
	dev := &counted{Mem: NewMem("ubda", make([]byte, 1<<20), false)}
	d := register(t, 0, dev)
	s := d.Whole().mustOpen(t)
	write(t, s, bytes.Repeat([]byte{1}, 512), 512<<10)
	d.Whole().size.Store(256 << 10)
	if err := s.Fsync(nil, nil, false); err != nil {
		t.Error(err)
	}
	SyncAll()
	if Dirty() != 0 {
		t.Errorf("%d bytes are held", Dirty())
	}
	if err := s.Fsync(nil, nil, false); err != unix.EIO {
		t.Errorf("what was lost: %v", err)
	}
	s.Release(nil)
	var w window
	if w.fill(d.Whole(), 512<<10, 0) {
		t.Error("something is read ahead beyond the end")
	}
}

// TestOneTruth writes and reads a disk in all ways and at several places at once; each goroutine has a part of the disk, at
// odd borders, and knows what must be there.
func TestOneTruth(t *testing.T) {
	img := mbrDisk()
	dev := &counted{Mem: NewMem("ubda", append([]byte(nil), img...), false)}
	d := register(t, 0, dev)
	part := Lookup("ubda1") // sectors 64 to 163
	whole, first := d.Whole().mustOpen(t), part.mustOpen(t)
	direct := d.Whole().mustOpen(t)
	file := vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR|unix.O_DIRECT)
	var wg sync.WaitGroup
	for g := range 4 {
		from, to := 64*512+g*25*512, 64*512+(g+1)*25*512
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for range 3000 {
				off := from + rng.IntN(to-from)
				n := 1 + rng.IntN(min(to-off, 6000))
				sector, sectors := off&^511, max((off&511+n)&^511, 512)
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(rng.IntN(256))
				}
				switch rng.IntN(8) {
				case 0, 1:
					copy(img[off:], p)
					write(t, whole, p, int64(off))
				case 2:
					copy(img[off:], p)
					write(t, first, p, int64(off-64*512))
				case 3:
					p = make([]byte, sectors)
					copy(img[sector:], p)
					if k, err := direct.Write(nil, file, uio.FromBytes(p), int64(sector)); k != len(p) || err != nil {
						t.Errorf("direct write: %d %v", k, err)
					}
				case 4:
					if got := read(t, whole, n, int64(off)); !bytes.Equal(got, img[off:off+n]) {
						t.Errorf("whole: %d at %d differ", n, off)
					}
				case 5:
					if got := read(t, first, n, int64(off-64*512)); !bytes.Equal(got, img[off:off+n]) {
						t.Errorf("partition: %d at %d differ", n, off)
					}
				case 6:
					p = make([]byte, sectors)
					if _, err := part.ReadAt(p, int64(sector-64*512)); err != nil || !bytes.Equal(p, img[sector:sector+sectors]) {
						t.Errorf("below the special file: %d at %d differ (%v)", len(p), sector, err)
					}
				case 7:
					switch rng.IntN(20) {
					case 0:
						SyncAll()
					case 1:
						(*mapping)(part).Mapped(1, true)
						(*mapping)(part).Mapped(-1, true)
					case 2:
						clear(img[sector : sector+sectors])
						if err := part.WriteZeroes(int64(sector-64*512), int64(sectors)); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	for _, s := range []*special{whole, first, direct} {
		s.Release(nil)
	}
	p := make([]byte, len(img))
	if _, err := dev.Mem.ReadAt(p, 0); err != nil || !bytes.Equal(p, img) {
		t.Errorf("the disk is not what was written (%v)", err)
	}
	if Dirty() != 0 || d.wb.direct.Load() != 0 {
		t.Errorf("%d bytes are dirty, %d reasons to hold nothing", Dirty(), d.wb.direct.Load())
	}
}

// TestHeldBound writes more than may be held.
func TestHeldBound(t *testing.T) {
	dev := &counted{Mem: NewMem("ubda", make([]byte, 64<<20), false)}
	d := register(t, 0, dev)
	s := d.Whole().mustOpen(t)
	defer s.Release(nil)
	p := make([]byte, 512)
	for off := int64(0); off < 64<<20; off += 4096 {
		write(t, s, p, off)
		if n := Dirty(); n > (maxHeld+1)*4096 {
			t.Fatalf("%d bytes are dirty", n)
		}
	}
	kmem.SetLimit(1)
	defer kmem.SetLimit(0)
	before := dev.writes.Load()
	write(t, s, p, 0)
	if dev.writes.Load() == before {
		t.Error("something was held without memory for it")
	}
}
