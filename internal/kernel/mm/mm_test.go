package mm_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/mm/mmtest"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

const (
	pg = 4096
	rw = unix.PROT_READ | unix.PROT_WRITE
	ro = unix.PROT_READ
)

type env struct {
	*testing.T
	fake *platform.Fake
	t    *platform.FakeThread
	m    *mm.MM
	c    *mmtest.Caller
}

func setup(t *testing.T) *env {
	f := platform.NewFake()
	th, _ := f.NewProcess(nil)
	return &env{t, f, th.(*platform.FakeThread), mm.New(mmtest.NewHost(f), th.AddressSpace()), &mmtest.Caller{}}
}

// data is n bytes of which each page has another value.
func data(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i/pg + 1)
	}
	return p
}

func (e *env) mmap(addr, n, prot, flags uint64, f *mmtest.File, open uint32, off uint64) (uint64, error) {
	if f == nil {
		return e.m.Mmap(e.t, e.c, addr, n, prot, flags, nil, off)
	}
	vf := f.OpenFile(open)
	defer vf.DecRef()
	return e.m.Mmap(e.t, e.c, addr, n, prot, flags, vf, off)
}

func (e *env) must(addr uint64, err error) uint64 {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	return addr
}

func (e *env) byteAt(addr uint64) int {
	var b [1]byte
	if uio.ReadFull(e.m, b[:], addr) != nil {
		return -1
	}
	return int(b[0])
}

func TestMmapErrors(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(pg))
	const priv, shared, anon = unix.MAP_PRIVATE, unix.MAP_SHARED, unix.MAP_ANONYMOUS
	for _, c := range []struct {
		name                string
		addr, n, prot, flag uint64
		file                bool
		open                uint32
		off                 uint64
		want                error
	}{
		{"length 0", 0, 0, ro, priv | anon, false, 0, 0, unix.EINVAL},
		{"length wraps", 0, ^uint64(0), ro, priv | anon, false, 0, 0, unix.ENOMEM},
		{"offset", 0, pg, ro, priv, true, unix.O_RDONLY, 5, unix.EINVAL},
		{"offset overflow", 0, pg, ro, priv, true, unix.O_RDONLY, 1<<63 - pg, unix.EOVERFLOW},
		{"no type", 0, pg, ro, anon, false, 0, 0, unix.EINVAL},
		{"no file", 0, pg, ro, priv, false, 0, 0, unix.EBADF},
		{"fixed unaligned", 4097, pg, ro, priv | anon | unix.MAP_FIXED, false, 0, 0, unix.EINVAL},
		{"fixed beyond", e.fake.UserMax(), pg, ro, priv | anon | unix.MAP_FIXED, false, 0, 0, unix.ENOMEM},
		{"write only", 0, pg, ro, priv, true, unix.O_WRONLY, 0, unix.EACCES},
		{"shared write of read only", 0, pg, rw, shared, true, unix.O_RDONLY, 0, unix.EACCES},
		{"path", 0, pg, ro, priv, true, unix.O_PATH, 0, unix.EBADF},
		{"validate", 0, pg, ro, unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC, true, unix.O_RDONLY, 0, unix.EOPNOTSUPP},
		{"huge", 0, pg, ro, priv | anon | unix.MAP_HUGETLB, false, 0, 0, unix.ENOMEM},
		{"huge file", 0, pg, ro, priv | unix.MAP_HUGETLB, true, unix.O_RDONLY, 0, unix.EINVAL},
		{"growsdown file", 0, pg, ro, priv | unix.MAP_GROWSDOWN, true, unix.O_RDONLY, 0, unix.EINVAL},
	} {
		var file *mmtest.File
		if c.file {
			file = f
		}
		if _, err := e.mmap(c.addr, c.n, c.prot, c.flag, file, c.open, c.off); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if n := f.Maps.Load(); n != 0 {
		t.Errorf("%d mappings left", n)
	}
}

func TestMmapFile(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(3*pg))
	a := e.must(e.mmap(0, 5*pg, rw, unix.MAP_PRIVATE, f, unix.O_RDONLY, pg))
	if e.byteAt(a) != 2 || e.byteAt(a+pg) != 3 || e.byteAt(a+2*pg) != -1 {
		t.Errorf("contents %d %d %d", e.byteAt(a), e.byteAt(a+pg), e.byteAt(a+2*pg))
	}
	if err := uio.WriteFull(e.m, []byte{9}, a); err != nil || e.byteAt(a) != 9 {
		t.Error("private write", err)
	}
	b := e.must(e.mmap(0, pg, ro, unix.MAP_SHARED, f, unix.O_RDONLY, 0))
	if e.byteAt(b) != 1 || b+pg != a {
		t.Errorf("second mapping at %#x, first %#x", b, a)
	}
	rs, err := e.m.Maps()
	if err != nil || len(rs) != 2 {
		t.Fatalf("maps %+v, %v", rs, err)
	}
	if r := rs[1]; r.Start != a || r.End != a+5*pg || r.Off != pg || r.Shared || r.Prot != rw || r.File == nil || r.Ino == 0 {
		t.Errorf("region %+v", r)
	}
	if !rs[0].Shared || rs[0].Off != 0 {
		t.Errorf("region %+v", rs[0])
	}
	if f.Maps.Load() != 2 {
		t.Errorf("mapped %d times", f.Maps.Load())
	}
	if err := e.m.Munmap(e.t, a+pg, pg); err != nil {
		t.Fatal(err)
	}
	if f.Maps.Load() != 2 {
		t.Error("count changed by a split")
	}
	if err := e.m.Munmap(e.t, b, 7*pg); err != nil || f.Maps.Load() != 0 {
		t.Errorf("after munmap: %d, %v", f.Maps.Load(), err)
	}
}

func TestMmapPieces(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(6*pg))
	f.Pages = 1
	a := e.must(e.mmap(0, 6*pg, rw, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	for i, want := range []int{1, -1, 3, -1, 5, -1} {
		if got := e.byteAt(a + uint64(i)*pg); got != want {
			t.Errorf("page %d: %d, want %d", i, got, want)
		}
	}
	rs, _ := e.m.Maps()
	if len(rs) != 1 {
		t.Errorf("one mapping shown as %+v", rs)
	}
	// Moving it moves all pieces, with what was written.
	uio.WriteFull(e.m, []byte{77}, a+4*pg)
	b := e.must(e.m.Mremap(e.t, a, 6*pg, 8*pg, unix.MREMAP_MAYMOVE, 0))
	if e.byteAt(b+2*pg) != 3 || e.byteAt(b+4*pg) != 77 || e.byteAt(b+7*pg) != -1 {
		t.Error("contents after the move")
	}
	if b != a && e.byteAt(a) != -1 {
		t.Error("still there at the old place")
	}
	e.m.Put()
	if f.Maps.Load() != 0 {
		t.Errorf("%d mappings left", f.Maps.Load())
	}
}

func TestFixed(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(4*pg))
	a := e.must(e.mmap(0, 4*pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	if _, err := e.mmap(a+pg, pg, ro, unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE, f, unix.O_RDONLY, 0); err != unix.EEXIST {
		t.Errorf("no replace: %v", err)
	}
	e.must(e.mmap(a+pg, pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, nil, 0, 0))
	if e.byteAt(a) != 1 || e.byteAt(a+pg) != 0 || e.byteAt(a+2*pg) != 3 {
		t.Error("contents")
	}
	e.must(e.mmap(a+2*pg, pg, ro, unix.MAP_PRIVATE|unix.MAP_FIXED, f, unix.O_RDONLY, 0))
	if e.byteAt(a+2*pg) != 1 {
		t.Error("file over file")
	}
	// A hint that is taken is only a hint.
	b := e.must(e.mmap(a, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	if b == a {
		t.Error("replaced at a hint")
	}
}

func TestOccupied(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(pg))
	a := e.must(e.mmap(0, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	// The program puts something below by itself, and unmaps the file by itself.
	e.t.Map([]platform.MapOp{{Kind: platform.MapAnon, Addr: a - 4*pg, Len: 4 * pg, Prot: rw}, {Kind: platform.Unmap, Addr: a, Len: pg}})
	b := e.must(e.mmap(0, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	if b >= a-4*pg && b < a {
		t.Errorf("placed over %#x", a)
	}
	if e.m.Prune(); f.Maps.Load() != 1 {
		t.Errorf("%d mappings, the first is gone", f.Maps.Load())
	}
}

// TestPruneWaits ends programs as the tracer does, which must not sleep: after Prune their files are not mapped any more, so that
// a file system can be unmounted.
func TestPruneWaits(t *testing.T) {
	for range 200 {
		e := setup(t)
		f := mmtest.NewFile(e.fake, data(pg))
		e.must(e.mmap(0, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
		e.m.PutLater()
		if e.m.Host().Prune(); f.Maps.Load() != 0 {
			t.Fatalf("%d mappings", f.Maps.Load())
		}
	}
}

func TestShared(t *testing.T) {
	e := setup(t)
	a := e.must(e.mmap(0, 2*pg, rw, unix.MAP_SHARED|unix.MAP_ANONYMOUS, nil, 0, 0))
	uio.WriteFull(e.m, []byte{5}, a)
	c, ct, err := e.m.Fork(e.t, func() (platform.Thread, error) { return e.t.Clone(platform.CloneSpec{}) })
	if err != nil || ct.AddressSpace() != c.AddressSpace() {
		t.Fatal(err)
	}
	uio.WriteFull(c, []byte{6}, a+pg)
	if e.byteAt(a+pg) != 6 {
		t.Error("not shared with the child")
	}
	if err := e.m.Msync(e.t, a, 2*pg, unix.MS_SYNC); err != nil {
		t.Error(err)
	}
	if err := e.m.Msync(e.t, a, 3*pg, unix.MS_SYNC); err != unix.ENOMEM {
		t.Errorf("msync over a hole: %v", err)
	}
	c.Put()
	e.m.Put()
}

func TestFork(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(2*pg))
	a := e.must(e.mmap(0, 2*pg, rw, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	c, ct, err := e.m.Fork(e.t, func() (platform.Thread, error) { return e.t.Clone(platform.CloneSpec{}) })
	if err != nil {
		t.Fatal(err)
	}
	e.m.Munmap(e.t, a, 2*pg)
	if f.Maps.Load() != 1 {
		t.Error("the child's mapping is not counted")
	}
	rs, _ := c.Maps()
	if len(rs) != 1 || rs[0].File == nil {
		t.Errorf("child %+v", rs)
	}
	c.Munmap(ct, a, pg)
	c.Put()
	if f.Maps.Load() != 0 {
		t.Errorf("%d left", f.Maps.Load())
	}
}

func TestGrownFile(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(pg))
	a := e.must(e.mmap(0, 4*pg, ro, unix.MAP_SHARED, f, unix.O_RDWR, 0))
	ev := &platform.Event{Kind: platform.Fault, Signal: unix.SIGBUS, Code: arch.BUS_ADRERR, Addr: a + 2*pg + 5}
	info, ok, err := e.m.HandleFault(e.t, ev)
	if ok || err != nil || info.Signo != int32(unix.SIGBUS) || info.Addr() != ev.Addr {
		t.Errorf("beyond the end: %+v %v %v", info, ok, err)
	}
	e.t.OnTracerThread = true
	if _, _, err := e.m.HandleFault(e.t, ev); err != mm.ErrOffload {
		t.Errorf("on the tracer: %v", err)
	}
	e.t.OnTracerThread = false
	f.Set(data(3 * pg))
	if _, ok, _ := e.m.HandleFault(e.t, ev); !ok || e.byteAt(a+2*pg) != 3 || e.byteAt(a+3*pg) != -1 {
		t.Errorf("grown: %v %d", ok, e.byteAt(a+2*pg))
	}
	// Another thread touched it at the same time, which has it mapped now; a copy may not be allowed to.
	if mapped, there := e.m.FaultIn(e.t, a+2*pg, unix.PROT_READ); mapped || !there {
		t.Errorf("mapped already: %v, %v", mapped, there)
	}
	if mapped, there := e.m.FaultIn(e.t, a+2*pg, unix.PROT_WRITE); mapped || there {
		t.Errorf("mapped for reading: %v, %v", mapped, there)
	}
	// A SIGBUS where the file is mapped and not accessible is real.
	f.Mem.Truncate(0)
	ev.Addr = a
	if _, ok, _ := e.m.HandleFault(e.t, ev); ok {
		t.Error("would fault for ever")
	}
}

func TestBrk(t *testing.T) {
	e := setup(t)
	e.m.SetBrk(0x10_0000)
	for _, c := range []struct{ to, want uint64 }{
		{0, 0x10_0000}, {0x10_0010, 0x10_0010}, {0x10_3001, 0x10_3001}, {0xf_ffff, 0x10_3001}, {1 << 60, 0x10_3001},
		{0x10_1000, 0x10_1000},
	} {
		if got, err := e.m.Brk(e.t, e.c, c.to); got != c.want || err != nil {
			t.Errorf("brk(%#x) = %#x, %v; want %#x", c.to, got, err, c.want)
		}
	}
	if e.byteAt(0x10_0fff) != 0 || e.byteAt(0x10_1000) != -1 {
		t.Error("extent of the heap")
	}
	e.t.Map([]platform.MapOp{{Kind: platform.MapAnon, Addr: 0x10_4000, Len: pg}})
	if got, _ := e.m.Brk(e.t, e.c, 0x10_6000); got != 0x10_1000 {
		t.Errorf("grew over another mapping to %#x", got)
	}
	e.c.Limits = map[int]uint64{unix.RLIMIT_DATA: 0x2000}
	if got, _ := e.m.Brk(e.t, e.c, 0x10_3000); got != 0x10_1000 {
		t.Errorf("grew over RLIMIT_DATA to %#x", got)
	}
	rs, _ := e.m.Maps()
	if rs[0].Name != "[heap]" {
		t.Errorf("maps %+v", rs)
	}
}

func TestMremap(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(4*pg))
	a := e.must(e.mmap(0, 2*pg, rw, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	for _, c := range []struct {
		name                    string
		old, n, to, flags, addr uint64
		want                    error
	}{
		{"flags", a, pg, pg, 64, 0, unix.EINVAL},
		{"fixed alone", a, pg, pg, unix.MREMAP_FIXED, 0, unix.EINVAL},
		{"unaligned", a + 1, pg, pg, 0, 0, unix.EINVAL},
		{"to 0", a, pg, 0, 0, 0, unix.EINVAL},
		{"overlap", a, 2 * pg, 2 * pg, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, a + pg, unix.EINVAL},
		{"beyond the mapping", a, 9 * pg, 10 * pg, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{"nothing there", 0x5000, pg, 2 * pg, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{"stub area", e.fake.UserMax(), pg, pg, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{"into the stub area", a, pg, pg, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, e.fake.UserMax(), unix.EINVAL},
	} {
		if _, err := e.m.Mremap(e.t, c.old, c.n, c.to, c.flags, c.addr); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	b := e.must(e.m.Mremap(e.t, a, 2*pg, 3*pg, 0, 0))
	if b != a || e.byteAt(a+2*pg) != 3 {
		t.Errorf("grown in place: %d", e.byteAt(a+2*pg))
	}
	b = e.must(e.m.Mremap(e.t, a+pg, 2*pg, 3*pg, unix.MREMAP_FIXED|unix.MREMAP_MAYMOVE, 0x700000))
	if b != 0x700000 || e.byteAt(b) != 2 || e.byteAt(b+2*pg) != 4 || e.byteAt(a+pg) != -1 || e.byteAt(a) != 1 {
		t.Error("moved part")
	}
	if got := e.must(e.m.Mremap(e.t, b, 3*pg, pg, 0, 0)); got != b || e.byteAt(b+pg) != -1 {
		t.Error("shrunk")
	}
	e.m.Munmap(e.t, 0, e.fake.UserMax())
	if f.Maps.Load() != 0 {
		t.Errorf("%d left", f.Maps.Load())
	}
	an := e.must(e.mmap(0, 2*pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
	uio.WriteFull(e.m, []byte{3}, an)
	e.must(e.mmap(an+2*pg, pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, nil, 0, 0))
	if b := e.must(e.m.Mremap(e.t, an, 2*pg, 8*pg, unix.MREMAP_MAYMOVE, 0)); e.byteAt(b) != 3 {
		t.Error("anonymous move")
	}
}

func TestOffload(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(pg))
	a := e.must(e.mmap(0, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	e.t.OnTracerThread = true
	n := e.t.Calls
	if _, err := e.mmap(0, pg, ro, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0); err != mm.ErrOffload {
		t.Errorf("mmap: %v", err)
	}
	if err := e.m.Munmap(e.t, a, pg); err != mm.ErrOffload {
		t.Errorf("munmap: %v", err)
	}
	if _, err := e.m.Mremap(e.t, a, pg, 2*pg, 1, 0); err != mm.ErrOffload {
		t.Errorf("mremap: %v", err)
	}
	if e.t.Calls != n || f.Maps.Load() != 1 {
		t.Error("something was changed")
	}
	e.must(e.mmap(0, pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
}

func TestLocks(t *testing.T) {
	e := setup(t)
	e.c.Creds = &cred.Cred{UID: 1}
	e.c.Limits = map[int]uint64{unix.RLIMIT_MEMLOCK: 2 * pg}
	a := e.must(e.mmap(0, 4*pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
	if err := e.m.Mlock(e.c, a+5, pg, 0); err != nil || e.m.Locked(0, ^uint64(0)) != 2*pg {
		t.Errorf("two pages: %v", err)
	}
	if err := e.m.Mlock(e.c, a+pg, pg, 0); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := e.m.Mlock(e.c, a+2*pg, pg, 0); err != unix.ENOMEM {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := e.mmap(0, pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED, nil, 0, 0); err != unix.EAGAIN {
		t.Errorf("MAP_LOCKED: %v", err)
	}
	e.m.Munlock(a, pg)
	if e.m.Locked(0, ^uint64(0)) != pg {
		t.Error("munlock")
	}
	if err := e.m.Mlockall(e.c, unix.MCL_CURRENT); err != unix.ENOMEM {
		t.Errorf("mlockall: %v", err)
	}
	e.c.Limits[unix.RLIMIT_MEMLOCK] = 0
	if err := e.m.Mlock(e.c, a, pg, 0); err != unix.EPERM {
		t.Errorf("limit 0: %v", err)
	}
}

func TestHiddenMemory(t *testing.T) {
	e := setup(t)
	top := e.fake.UserMax()
	e.t.AS.WriteAt(nil, 0)
	e.t.Map([]platform.MapOp{{Kind: platform.MapAnon, Addr: top - pg, Len: pg, Prot: rw}})
	if n, err := e.m.WriteAt(make([]byte, 8), top-4); n != 4 || err != unix.EFAULT {
		t.Errorf("write over the end: %d %v", n, err)
	}
	if n, err := e.m.ReadV(make([]byte, 8), []uio.Range{{Addr: top - 4, Len: 4}, {Addr: top + pg, Len: 4}}); n != 4 || err != unix.EFAULT {
		t.Errorf("readv over the end: %d %v", n, err)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"mprotect", e.m.Mprotect(e.t, top-pg, 2*pg, rw), unix.ENOMEM},
		{"madvise", e.m.Madvise(e.t, e.c, top-pg, 2*pg, unix.MADV_DONTNEED), unix.ENOMEM},
		{"madvise wrap", e.m.Madvise(e.t, e.c, top, ^uint64(0), unix.MADV_DONTNEED), unix.EINVAL},
		{"madvise merge", e.m.Madvise(e.t, e.c, top-pg, pg, unix.MADV_MERGEABLE), unix.EINVAL},
		{"mincore", e.m.Mincore(e.t, top-pg, pg, top), unix.EFAULT},
		{"munmap wrap", e.m.Munmap(e.t, pg, ^uint64(0)), unix.EINVAL},
		{"mprotect wrap", e.m.Mprotect(e.t, pg, ^uint64(0), rw), unix.ENOMEM},
	} {
		if c.err != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

func TestCopyInStrings(t *testing.T) {
	e := setup(t)
	a := e.must(e.mmap(0, 80*pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
	long := strings.Repeat("x", 10000)
	want := []string{"a", "", long, "end"}
	at, ptrs := a+2*pg-3, a+pg-16
	for i, s := range want {
		uio.WriteFull(e.m, append([]byte(s), 0), at)
		mm.WriteU64(e.m, ptrs+uint64(i)*8, at)
		at += uint64(len(s)) + 1
	}
	budget := uint64(20000)
	got, err := mm.CopyInStrings(e.m, ptrs, &budget)
	if err != nil || strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("%d strings, %v", len(got), err)
	}
	budget = 10000
	if _, err := mm.CopyInStrings(e.m, ptrs, &budget); err != unix.E2BIG {
		t.Errorf("over the budget: %v", err)
	}
	uio.WriteFull(e.m, bytes.Repeat([]byte{'y'}, mm.MaxArgString), a+20*pg)
	mm.WriteU64(e.m, ptrs, a+20*pg)
	budget = 1 << 30
	if _, err := mm.CopyInStrings(e.m, ptrs, &budget); err != unix.E2BIG {
		t.Errorf("string too long: %v", err)
	}
	uio.WriteFull(e.m, []byte("abc"), a+80*pg-3)
	if _, err := mm.CopyInString(e.m, a+80*pg-3, 100); err != unix.EFAULT {
		t.Errorf("no end: %v", err)
	}
	if s, err := mm.CopyInString(e.m, a+2*pg-3, 100); s != "a" || err != nil {
		t.Errorf("%q %v", s, err)
	}
	if _, err := mm.CopyInString(e.m, a+20*pg, 4096); err != unix.ENAMETOOLONG {
		t.Errorf("too long: %v", err)
	}
}

func TestIovec(t *testing.T) {
	e := setup(t)
	a := e.must(e.mmap(0, 8*pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
	put := func(i int, base, n uint64) {
		mm.WriteU64(e.m, a+uint64(i)*16, base)
		mm.WriteU64(e.m, a+uint64(i)*16+8, n)
	}
	put(0, 0x1000, 10)
	put(1, 0x2000, 0)
	put(2, 0x3000, 1<<40)
	r, err := mm.CopyInIovec(e.m, a, 3, nil)
	if err != nil || len(r) != 2 || r[1].Len != mm.MaxRW-10 {
		t.Errorf("%v %v", r, err)
	}
	put(1, 0, 1<<63)
	if _, err := mm.CopyInIovec(e.m, a, 3, nil); err != unix.EINVAL {
		t.Errorf("negative length: %v", err)
	}
	if _, err := mm.CopyInIovec(e.m, a, 1025, nil); err != unix.EINVAL {
		t.Errorf("too many: %v", err)
	}
	put(1, ^uint64(0)-5, 100)
	if _, err := mm.CopyInIovec(e.m, a, 3, nil); err != unix.EFAULT {
		t.Errorf("wraps: %v", err)
	}
}

func TestRemove(t *testing.T) {
	e := setup(t)
	f := mmtest.NewFile(e.fake, data(4*pg))
	a := e.must(e.mmap(0, 4*pg, rw, unix.MAP_SHARED, f, unix.O_RDWR, 0))
	if err := e.m.Madvise(e.t, e.c, a+pg, pg, unix.MADV_REMOVE); err != nil || e.byteAt(a) != 1 || e.byteAt(a+pg) != 0 || e.byteAt(a+2*pg) != 3 {
		t.Errorf("shared: %v, %d", err, e.byteAt(a+pg))
	}
	b := e.must(e.mmap(0, pg, rw, unix.MAP_PRIVATE, f, unix.O_RDWR, 0))
	if err := e.m.Madvise(e.t, e.c, b, pg, unix.MADV_REMOVE); err != unix.EACCES {
		t.Errorf("private: %v", err)
	}
	c := e.must(e.mmap(0, pg, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nil, 0, 0))
	if err := e.m.Madvise(e.t, e.c, c, pg, unix.MADV_REMOVE); err != unix.EINVAL {
		t.Errorf("anonymous: %v", err)
	}
}
