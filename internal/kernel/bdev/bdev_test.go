package bdev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// register adds a disk for the duration of a test.
func register(t *testing.T, index int, dev Device) *Disk {
	t.Helper()
	d := &Disk{Dev: dev, Index: index, Serial: "s1"}
	if err := Register(d); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unregister(d); err != nil {
			t.Errorf("unregister: %v", err)
		}
	})
	return d
}

func mbrEntryBytes(b []byte, i int, typ byte, start, n uint32) {
	e := b[446+16*i:]
	e[4] = typ
	binary.LittleEndian.PutUint32(e[8:], start)
	binary.LittleEndian.PutUint32(e[12:], n)
	b[510], b[511] = 0x55, 0xaa
}

func mbrDisk() []byte {
	img := make([]byte, 4096*512)
	binary.LittleEndian.PutUint32(img[440:], 0xdeadbeef)
	mbrEntryBytes(img, 0, 0x83, 64, 100)
	mbrEntryBytes(img, 1, 0x05, 1000, 2000)
	mbrEntryBytes(img, 3, 0x82, 4000, 9999) // reaches beyond the end
	ebr := img[1000*512:]
	mbrEntryBytes(ebr, 0, 0x83, 10, 50)
	mbrEntryBytes(ebr, 1, 0x05, 500, 100)
	ebr = img[1500*512:]
	mbrEntryBytes(ebr, 0, 0x83, 5, 20)
	mbrEntryBytes(ebr, 1, 0x05, 500, 100) // a loop
	return img
}

func describe(parts []partition) (s string) {
	for _, p := range parts {
		s += fmt.Sprintf("%d:%d+%d ", p.number, p.start/512, p.size/512)
	}
	return s
}

func TestMBR(t *testing.T) {
	p := scanPartitions(NewMem("x", mbrDisk(), true))
	want := "1:64+100 2:1000+2 4:4000+96 5:1010+50 "
	got := describe(p)
	if len(got) < len(want) || got[:8] != want[:8] {
		t.Errorf("%s", got)
	}
	if p[0].uuid != "deadbeef-01" {
		t.Errorf("uuid %s", p[0].uuid)
	}
	d := register(t, 2, NewMem("ubdc", mbrDisk(), true))
	var names []string
	for _, n := range d.Nodes() {
		names = append(names, n.Name())
	}
	if fmt.Sprint(names[:5]) != "[ubdc ubdc1 ubdc2 ubdc4 ubdc5]" || len(names) < 20 {
		t.Errorf("%v", names)
	}
	// The first 15 have minor numbers of the disk, the others have some of their own.
	if a, b := Lookup("ubdc15").Rdev(), Lookup("ubdc16").Rdev(); a != unix.Mkdev(98, 47) || unix.Major(b) != ExtMajor || ByRdev(b).Name() != "ubdc16" {
		t.Errorf("device numbers %x %x", a, b)
	}
	if n := Lookup("PARTUUID=DEADBEEF-01"); n == nil || n.Name() != "ubdc1" {
		t.Errorf("by PARTUUID: %v", n)
	}
}

func gptDisk() []byte {
	img := make([]byte, 4096*512)
	le := binary.LittleEndian
	mbrEntryBytes(img, 0, mbrGPT, 1, 4095)
	table := img[2*512:]
	for i, r := range [][2]uint64{{100, 199}, {0, 0}, {300, 300}, {400, 9999}} {
		e := table[128*i:]
		if r[0] == 0 {
			continue
		}
		copy(e, "\x01\x02\x03")
		copy(e[16:], "\x78\x56\x34\x12\xbc\x9a\xf0\xde\x01\x02\x03\x04\x05\x06\x07\x08")
		le.PutUint64(e[32:], r[0])
		le.PutUint64(e[40:], r[1])
		copy(e[56:], "r\x00o\x00o\x00t\x00")
	}
	h := img[512:]
	copy(h, "EFI PART")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table[:128*128]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return img
}

func TestGPT(t *testing.T) {
	p := scanPartitions(NewMem("x", gptDisk(), true))
	if got := describe(p); got != "1:100+100 3:300+1 " {
		t.Errorf("%s", got)
	}
	if p[0].uuid != "12345678-9abc-def0-0102-030405060708" || p[0].label != "root" {
		t.Errorf("%q %q", p[0].uuid, p[0].label)
	}
	bad := gptDisk()
	bad[512+80] ^= 1
	if p := scanPartitions(NewMem("x", bad, true)); describe(p) != "1:1+4095 " {
		t.Errorf("a table with a wrong checksum: %s", describe(p))
	}
}

// TestPartitionTablesDoNotPanic damages both kinds of table.
func TestPartitionTablesDoNotPanic(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	mbr, gpt := mbrDisk(), gptDisk()
	img := make([]byte, len(mbr))
	for i := range 1000 {
		copy(img, mbr)
		if i%2 == 0 {
			copy(img, gpt)
		}
		for range 1 + rng.IntN(5) {
			img[rng.IntN(1024)] = byte(rng.Uint32())
			img[1000*512+446+rng.IntN(64)] = byte(rng.Uint32())
		}
		if i%4 == 0 { // with checksums put right
			h := img[512:1024]
			clear(h[16:20])
			if n := binary.LittleEndian.Uint32(h[12:]); n <= 512 {
				binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
			}
		}
		for _, p := range scanPartitions(NewMem("x", img, true)) {
			if p.start < 0 || p.size <= 0 || p.start+p.size > int64(len(img)) {
				t.Fatalf("partition %+v is not on the disk", p)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	register(t, 0, NewMem("ubda", mbrDisk(), false))
	register(t, 5, NewMem("ubdf", make([]byte, 8192), true))
	for name, want := range map[string]string{
		"/dev/ubda": "ubda", "ubda": "ubda", "/dev/ubd0": "ubda", "ubd0": "ubda", "/dev/ubd/0": "ubda", "ubd/0": "ubda",
		"/dev/ubd/disc0": "ubda", "ubd/disc0": "ubda", "98:0": "ubda", "6200": "ubda", "0x6200": "ubda", "/dev/ubda1": "ubda1",
		"98:1": "ubda1", "6201": "ubda1", "/dev/ubd0p1": "ubda1", "/dev/ubd/disc0/part1": "ubda1", "/dev/ubd5": "ubdf",
		"98:80": "ubdf", "6250": "ubdf", "ubdf": "ubdf", "/dev/ubdz": "", "99:0": "", "": "", "/dev/98:0": "", "zz": "", "ubd": "",
		"ubd99": "", "/dev/sda": "", "98:": "", ":": "",
	} {
		got := ""
		if n := Lookup(name); n != nil {
			got = n.Name()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if n := Lookup("ubda1"); n.Rdev() != unix.Mkdev(98, 1) || n.Size() != 100*512 || n.Start() != 64*512 {
		t.Errorf("%x %d %d", n.Rdev(), n.Size(), n.Start())
	}
	for i, want := range map[int]string{0: "ubda", 15: "ubdp", 25: "ubdz", 26: "ubdaa", 255: "ubdiv"} {
		if got := DiskName(i); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
}

func TestClaims(t *testing.T) {
	d := register(t, 1, NewMem("ubdb", make([]byte, 8192), false))
	n := d.Whole()
	a, b := new(int), new(int)
	if err := n.Open(a); err != nil {
		t.Fatal(err)
	}
	if err := n.Open(b); err != unix.EBUSY {
		t.Errorf("second holder: %v", err)
	}
	if _, err := n.OpenFile(unix.O_RDWR | unix.O_EXCL); err != unix.EBUSY {
		t.Errorf("O_EXCL: %v", err)
	}
	if err := Unregister(d); err != unix.EBUSY {
		t.Errorf("unregister: %v", err)
	}
	if err := Register(&Disk{Dev: NewMem("x", nil, true), Index: 1}); err != unix.EBUSY {
		t.Errorf("same index: %v", err)
	}
	n.Close(a)
	if err := n.Open(b); err != nil {
		t.Errorf("after close: %v", err)
	}
	n.Close(b)
}

// caller is a vfs.Caller with memory and credentials.
type caller struct {
	vfs.Caller
	mem uio.Memory
}

func (c caller) Mem() uio.Memory  { return c.mem }
func (c caller) Cred() *cred.Cred { return cred.Root() }

type memory []byte

func (m memory) ReadAt(p []byte, a uint64) (int, error)      { return copy(p, m[a:]), nil }
func (m memory) WriteAt(p []byte, a uint64) (int, error)     { return copy(m[a:], p), nil }
func (m memory) ReadV(p []byte, r []uio.Range) (int, error)  { return 0, unix.EFAULT }
func (m memory) WriteV(p []byte, r []uio.Range) (int, error) { return 0, unix.EFAULT }

func TestSpecial(t *testing.T) {
	dev := NewMem("ubdb", make([]byte, 1<<20), false)
	d := register(t, 1, dev)
	ops, err := d.Whole().OpenFile(unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.Release(nil)
	rng := rand.New(rand.NewPCG(1, 1))
	model := make([]byte, 1<<20)
	for range 300 {
		off, n := rng.IntN(1<<20), 1+rng.IntN(3000)
		if rng.IntN(10) == 0 {
			n = rng.IntN(400_000)
		}
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		k, err := ops.Write(nil, nil, uio.FromBytes(p), int64(off))
		if err != nil || k != min(n, 1<<20-off) {
			t.Fatalf("write %d at %d: %d %v", n, off, k, err)
		}
		copy(model[off:], p)
		off, n = rng.IntN(1<<20), rng.IntN(300_000)
		p = make([]byte, n)
		k, err = ops.Read(nil, nil, uio.ToBytes(p), int64(off))
		if err != nil || !bytes.Equal(p[:k], model[off:min(off+n, 1<<20)]) {
			t.Fatalf("read %d at %d: %d %v", n, off, k, err)
		}
	}
	if _, err := ops.Write(nil, nil, uio.FromBytes([]byte{1}), 1<<20); err != unix.ENOSPC {
		t.Errorf("write at the end: %v", err)
	}
	if n, err := ops.Read(nil, nil, uio.ToBytes(make([]byte, 1)), 1<<20); n != 0 || err != nil {
		t.Errorf("read at the end: %d %v", n, err)
	}
	f := vfs.NewFile(vfs.Path{}, nil, ops, unix.O_RDWR)
	m := make(memory, 1024)
	c := caller{mem: m}
	ioctl := func(cmd uint32) uint64 {
		clear(m[:16])
		if _, err := ops.(vfs.Ioctler).Ioctl(c, f, cmd, 0); err != nil {
			t.Errorf("ioctl %#x: %v", cmd, err)
		}
		return binary.LittleEndian.Uint64(m)
	}
	for cmd, want := range map[uint32]uint64{unix.BLKGETSIZE: 2048, unix.BLKGETSIZE64: 1 << 20, unix.BLKSSZGET: 512,
		unix.BLKPBSZGET: 512, unix.BLKROGET: 0, unix.BLKROTATIONAL: 0, hdioGetGeo: 128 | 32<<8} {
		if got := ioctl(cmd); got != want {
			t.Errorf("ioctl %#x: %d, want %d", cmd, got, want)
		}
	}
	binary.LittleEndian.PutUint64(m, 4096)
	binary.LittleEndian.PutUint64(m[8:], 8192)
	if _, err := ops.(vfs.Ioctler).Ioctl(c, f, unix.BLKZEROOUT, 0); err != nil {
		t.Errorf("BLKZEROOUT: %v", err)
	}
	clear(model[4096:12288])
	p := make([]byte, 1<<20)
	if _, err := ops.Read(nil, nil, uio.ToBytes(p), 0); err != nil || !bytes.Equal(p, model) {
		t.Errorf("after BLKZEROOUT: %v", err)
	}
	binary.LittleEndian.PutUint64(m[8:], ^uint64(511))
	if _, err := ops.(vfs.Ioctler).Ioctl(c, f, unix.BLKDISCARD, 0); err != unix.EINVAL {
		t.Errorf("BLKDISCARD out of range: %v", err)
	}
	if _, err := ops.(vfs.Ioctler).Ioctl(c, f, 0x1234, 0); err != unix.ENOTTY {
		t.Errorf("unknown ioctl: %v", err)
	}
	if _, flushes := dev.Pending(); flushes != 0 {
		t.Errorf("%d flushes", flushes)
	}
	if err := ops.(vfs.Syncer).Fsync(nil, f, false); err != nil {
		t.Error(err)
	}
	if pending, flushes := dev.Pending(); len(pending) != 0 || flushes != 1 {
		t.Errorf("%d pending, %d flushes", len(pending), flushes)
	}
}

func TestCrashClone(t *testing.T) {
	m := NewMem("x", make([]byte, 8192), false)
	write := func(off int64, c byte, n int) {
		if _, err := m.WriteAt(bytes.Repeat([]byte{c}, n), off); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 'a', 1024)
	_ = m.Flush()
	write(512, 'b', 512)
	write(2048, 'c', 2048)
	seen := map[string]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, 8192)
		_, _ = m.CrashClone(rng).ReadAt(b, 0)
		if b[0] != 'a' || b[511] != 'a' || b[1024] != 0 {
			t.Fatal("a flushed write was lost, or something else changed")
		}
		seen[fmt.Sprintf("%c %d", b[512], bytes.Count(b, []byte{'c'})/512)] = true
	}
	if len(seen) != 10 { // a or b, and 0 to 4 sectors
		t.Errorf("%d outcomes: %v", len(seen), seen)
	}
}

func TestCache(t *testing.T) {
	img := make([]byte, 4096*1024)
	for i := range 4096 {
		binary.LittleEndian.PutUint32(img[1024*i:], uint32(i))
	}
	c := NewCache(NewMem("x", img, false), 1024, 200<<10)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 3000 {
				n := uint64(i)
				if g%2 == 0 {
					n = rng.Uint64N(4096)
				}
				b, err := c.GetAhead(n, g)
				if err != nil {
					t.Error(err)
					return
				}
				if got := binary.LittleEndian.Uint32(b.Data()); uint64(got) != n {
					t.Errorf("block %d has %d", n, got)
				}
				b.Release()
			}
		}()
	}
	wg.Wait()
	if c.Len() > 200 {
		t.Errorf("%d blocks cached", c.Len())
	}
	if _, err := c.Get(4096); err != unix.EIO {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestCacheWriteBack(t *testing.T) {
	m := NewMem("x", make([]byte, 1<<20), false)
	c := NewCache(m, 1024, 64<<10)
	for i := range uint64(100) {
		b, err := c.GetNew(1000 - i)
		if err != nil {
			t.Fatal(err)
		}
		b.Data()[0] = byte(i) + 1
		b.MarkDirty()
		b.Release()
	}
	if c.Dirty() != 100 || c.Len() < 100 {
		t.Errorf("%d dirty of %d", c.Dirty(), c.Len())
	}
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<20)
	_, _ = m.ReadAt(p, 0)
	for i := range 100 {
		if p[(1000-i)*1024] != byte(i)+1 {
			t.Fatalf("block %d was not written", 1000-i)
		}
	}
	if pending, flushes := m.Pending(); len(pending) != 0 || flushes != 1 || c.Dirty() != 0 || c.Len() > 64 {
		t.Errorf("%d pending %d flushes %d dirty %d cached", len(pending), flushes, c.Dirty(), c.Len())
	}
}

func TestProc(t *testing.T) {
	d := register(t, 0, NewMem("ubda", mbrDisk(), false))
	want := "major minor  #blocks  name\n\n  98        0       2048 ubda\n  98        1         50 ubda1\n"
	if got := ProcPartitions(); got[:len(want)] != want {
		t.Errorf("%q", got)
	}
	p := Lookup("ubda1")
	_, _ = p.ReadAt(make([]byte, 1024), 0)
	_, _ = p.WriteAt(make([]byte, 512), 512)
	if r, w := d.Whole().Stats.Read.Sectors.Load(), p.Stats.Write.Sectors.Load(); r < 2 || w != 1 {
		t.Errorf("read %d written %d", r, w)
	}
	var major, minor, reads, merged, sectors int
	var name string
	if n, err := fmt.Sscan(ProcDiskstats(), &major, &minor, &name, &reads, &merged, &sectors); n != 6 || err != nil || name != "ubda" {
		t.Errorf("%q", ProcDiskstats())
	}
	if _, err := p.ReadAt(make([]byte, 512), p.Size()); err != unix.EIO {
		t.Errorf("read beyond the partition: %v", err)
	}
	if _, err := p.ReadAt(make([]byte, 100), 0); err != unix.EINVAL {
		t.Errorf("unaligned read: %v", err)
	}
}

// TestFallocate zeroes ranges of a disk through its special file.
func TestFallocate(t *testing.T) {
	const keep, zero, punch = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_PUNCH_HOLE
	data := bytes.Repeat([]byte("x"), 8192)
	d := register(t, 3, NewMem("ubdd", data, false))
	ops, err := d.Whole().OpenFile(unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.Release(nil)
	f := ops.(vfs.Fallocater)
	for _, c := range []struct {
		mode   uint32
		off, n int64
		want   error
	}{
		{0, 0, 512, unix.EOPNOTSUPP}, {zero, 100, 512, unix.EINVAL}, {zero, 0, 8704, unix.EINVAL}, {zero, 8192, 512, unix.EINVAL},
		{zero, 512, 512, nil}, {zero | keep, 7680, 8192, nil}, {punch | keep, 2048, 1024, nil},
	} {
		if err := f.Fallocate(nil, nil, c.mode, c.off, c.n); err != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	b := make([]byte, 8192)
	if _, err := d.Whole().ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for i, x := range b {
		gone := i >= 512 && i < 1024 || i >= 7680 || i >= 2048 && i < 3072
		if (x == 0) != gone {
			t.Fatalf("byte %d is %q", i, x)
		}
	}
}
