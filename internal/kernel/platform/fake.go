package platform

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Fake is a Platform for tests: address spaces are lists of mappings with pages in Go memory, and threads never run.
// Its memory calls follow mmap(2), munmap(2), mprotect(2) and mremap(2) closely enough to test what is built on them.
type Fake struct {
	mu    sync.Mutex
	files map[*HostFile]*fakeMemfile
	next  uint64
}

// The address space of a Fake: mappings that it places itself go down from fakeBase.
const (
	fakePage    = 4096
	fakeUserMax = 0x7fff_0000_0000
	fakeBase    = 0x7ff0_0000_0000
)

// NewFake makes a Fake.
func NewFake() *Fake { return &Fake{files: map[*HostFile]*fakeMemfile{}} }

func (f *Fake) NumCPU() int     { return 1 }
func (f *Fake) CPUTime() int64  { return 0 }
func (f *Fake) UserMax() uint64 { return fakeUserMax }
func (f *Fake) VDSO() VDSO      { return VDSO{} }
func (f *Fake) HostBrk() bool   { return false }

// SetClockOffset has nobody to tell.
func (f *Fake) SetClockOffset(int64) {}

func (f *Fake) Describe() string { return "fake" }
func (f *Fake) Freeze()          {}
func (f *Fake) Frozen() bool     { return true }
func (f *Fake) Thaw()            {}
func (f *Fake) Close()           {}

// Idle cannot tell.
func (f *Fake) Idle(budget, after, most time.Duration) bool { return false }

// NewProcess makes a thread with an empty address space.
func (f *Fake) NewProcess(data any) (Thread, error) {
	return &FakeThread{AS: &FakeSpace{f: f}, TaskData: data}, nil
}

// NewMemfile makes a memory object.
func (f *Fake) NewMemfile(string) (Memfile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	m := &fakeMemfile{host: &HostFile{RO: int(f.next), RW: int(f.next), ID: FileID{1, f.next}}}
	f.files[m.host] = m
	return m, nil
}

// fakeMemfile is a Memfile. Its pages are shared with the mappings of it.
type fakeMemfile struct {
	mu   sync.Mutex
	data []byte
	host *HostFile
}

func (m *fakeMemfile) Host() *HostFile { return m.host }
func (m *fakeMemfile) Close() error    { return nil }

// Window is missing.
func (m *fakeMemfile) Window(int64, int, bool) []byte { return nil }

func (m *fakeMemfile) Allocated() int64 { m.mu.Lock(); defer m.mu.Unlock(); return int64(len(m.data)) }

func (m *fakeMemfile) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off >= int64(len(m.data)) {
		return 0, nil
	}
	return copy(p, m.data[off:]), nil
}

func (m *fakeMemfile) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := off + int64(len(p)); n > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, n-int64(len(m.data)))...)
	}
	return copy(m.data[off:], p), nil
}

func (m *fakeMemfile) Truncate(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := make([]byte, size)
	copy(d, m.data)
	m.data = d
	return nil
}

func (m *fakeMemfile) Punch(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	off = min(off, int64(len(m.data)))
	clear(m.data[off:min(off+n, int64(len(m.data)))])
	return nil
}

// fakePages is a page of private memory.
type fakePages map[uint64]*[fakePage]byte

// fakeArea is one mapping.
type fakeArea struct {
	Mapping
	file     *fakeMemfile
	writable bool
}

// FakeSpace is an address space of a Fake.
type FakeSpace struct {
	f     *Fake
	mu    sync.Mutex
	areas []fakeArea // sorted, disjoint
	pages fakePages
}

// FakeThread is a thread of a Fake. It is always held. Tests set OnTracerThread to see what is offloaded.
type FakeThread struct {
	AS             *FakeSpace
	TaskData       any
	R              arch.Regs
	OnTracerThread bool
	// Calls counts Map and Syscall.
	Calls int
}

// Mappings lists the mappings; neighbours are not joined.
func (s *FakeSpace) Mappings() ([]Mapping, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Mapping, len(s.areas))
	for i, a := range s.areas {
		out[i] = a.Mapping
	}
	return out, nil
}

// Residents lists all private mappings, as if all of their pages had been written.
func (s *FakeSpace) Residents() (rs []Resident, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.areas {
		if n := a.End - a.Start; !a.Shared {
			rs = append(rs, Resident{Start: a.Start, End: a.End, RSS: n, Anon: n})
		}
	}
	return rs, nil
}

// Usage counts private pages and mapped bytes.
func (s *FakeSpace) Usage() (Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{RSS: uint64(len(s.pages)) * fakePage}
	u.Anon = u.RSS
	for _, a := range s.areas {
		u.VM += a.End - a.Start
	}
	return u, nil
}

// AnonPSS counts private pages.
func (s *FakeSpace) AnonPSS() (uint64, error) {
	u, err := s.Usage()
	return u.Anon, err
}

// CPUTime is 0: nothing runs.
func (s *FakeSpace) CPUTime() int64 { return 0 }

// cut removes [start, end) from the list, and the private pages there if drop is set.
func (s *FakeSpace) cut(start, end uint64, drop bool) []fakeArea {
	var keep, gone []fakeArea
	for _, a := range s.areas {
		lo, hi := max(a.Start, start), min(a.End, end)
		if lo >= hi {
			keep = append(keep, a)
			continue
		}
		if a.Start < lo {
			keep = append(keep, a.part(a.Start, lo))
		}
		gone = append(gone, a.part(lo, hi))
		if hi < a.End {
			keep = append(keep, a.part(hi, a.End))
		}
	}
	s.areas = keep
	if drop {
		for p := range s.pages {
			if p >= start && p < end {
				delete(s.pages, p)
			}
		}
	}
	return gone
}

func (a fakeArea) part(lo, hi uint64) fakeArea {
	a.Off += lo - a.Start
	a.Start, a.End = lo, hi
	return a
}

func (s *FakeSpace) insert(a fakeArea) {
	i, _ := slices.BinarySearchFunc(s.areas, a.Start, func(x fakeArea, v uint64) int {
		if x.Start < v {
			return -1
		}
		return 1
	})
	s.areas = slices.Insert(s.areas, i, a)
}

func (s *FakeSpace) free(start, end uint64) bool {
	return !slices.ContainsFunc(s.areas, func(a fakeArea) bool { return a.Start < end && start < a.End })
}

// place finds room for n bytes below fakeBase.
func (s *FakeSpace) place(n uint64) uint64 {
	end := uint64(fakeBase)
	for i := len(s.areas) - 1; i >= 0; i-- {
		a := s.areas[i]
		if a.Start >= end {
			continue
		}
		if a.End <= end && end-a.End >= n {
			break
		}
		end = a.Start
	}
	return end - n
}

func (s *FakeSpace) doMap(op MapOp) error {
	if op.Addr%fakePage != 0 || op.Len == 0 || op.Addr+op.Len > fakeUserMax || op.Addr+op.Len < op.Addr {
		return unix.EINVAL
	}
	end := (op.Addr + op.Len + fakePage - 1) &^ (fakePage - 1)
	switch op.Kind {
	case Unmap:
		s.cut(op.Addr, end, true)
		return nil
	case Protect:
		gone := s.cut(op.Addr, end, false)
		var n uint64
		for _, a := range gone {
			n += a.End - a.Start
			if op.Prot&unix.PROT_WRITE != 0 && a.Shared && a.file != nil && !a.writable {
				for _, b := range gone {
					s.insert(b)
				}
				return unix.EACCES
			}
		}
		for _, a := range gone {
			a.Prot = op.Prot
			s.insert(a)
		}
		if n != end-op.Addr {
			return unix.ENOMEM
		}
		return nil
	}
	if op.NoReplace && !s.free(op.Addr, end) {
		return unix.EEXIST
	}
	a := fakeArea{Mapping: Mapping{Start: op.Addr, End: end, Prot: op.Prot, Shared: op.Shared}, writable: op.Writable}
	if op.Kind == MapFile {
		s.f.mu.Lock()
		a.file = s.f.files[op.File]
		s.f.mu.Unlock()
		if a.file == nil {
			return unix.EBADF
		}
		if op.Shared && op.Prot&unix.PROT_WRITE != 0 && !op.Writable {
			return unix.EACCES
		}
		a.File, a.Off = op.File.ID, op.Off
	}
	s.cut(op.Addr, end, true)
	s.insert(a)
	return nil
}

// mremap moves or resizes one mapping.
func (s *FakeSpace) mremap(old, oldLen, newLen, flags, to uint64) (uint64, error) {
	i := slices.IndexFunc(s.areas, func(a fakeArea) bool { return a.Start <= old && old < a.End })
	if i < 0 || s.areas[i].End < old+oldLen {
		return 0, unix.EFAULT
	}
	a := s.areas[i].part(old, old+oldLen)
	if flags&unix.MREMAP_FIXED == 0 {
		if newLen <= oldLen {
			s.cut(old+newLen, old+oldLen, true)
			return old, nil
		}
		if s.free(old+oldLen, old+newLen) {
			s.cut(old, old+oldLen, false)
			a.End = old + newLen
			s.insert(a)
			return old, nil
		}
		if flags&unix.MREMAP_MAYMOVE == 0 {
			return 0, unix.ENOMEM
		}
		to = s.place(newLen)
	}
	s.cut(to, to+newLen, true)
	moved := map[uint64]*[fakePage]byte{}
	for p, b := range s.pages {
		if p >= old && p < old+min(oldLen, newLen) {
			moved[p-old+to] = b
		}
	}
	s.cut(old, old+oldLen, true)
	a.Start, a.End = to, to+newLen
	s.insert(a)
	for p, b := range moved {
		s.setPage(p, b)
	}
	return to, nil
}

func (s *FakeSpace) setPage(p uint64, b *[fakePage]byte) {
	if s.pages == nil {
		s.pages = fakePages{}
	}
	s.pages[p] = b
}

// access copies between p and one page of memory.
func (s *FakeSpace) access(p []byte, addr uint64, write, force bool) bool {
	i := slices.IndexFunc(s.areas, func(a fakeArea) bool { return a.Start <= addr && addr < a.End })
	if i < 0 {
		return false
	}
	a := &s.areas[i]
	if !force && (a.Prot&unix.PROT_READ == 0 || write && a.Prot&unix.PROT_WRITE == 0) {
		return false
	}
	page := addr &^ (fakePage - 1)
	if b := s.pages[page]; b != nil {
		if write {
			copy(b[addr-page:], p)
		} else {
			copy(p, b[addr-page:])
		}
		return true
	}
	var init []byte
	if a.file != nil {
		off := a.Off + page - a.Start
		a.file.mu.Lock()
		defer a.file.mu.Unlock()
		size := uint64(len(a.file.data))
		if off >= (size+fakePage-1)&^(fakePage-1) {
			return false
		}
		init = a.file.data[off:min(off+fakePage, size)]
		if write && a.Shared {
			copy(init[min(addr-page, uint64(len(init))):], p)
			return true
		}
	}
	if !write {
		clear(p)
		copy(p, init[min(addr-page, uint64(len(init))):])
		return true
	}
	b := new([fakePage]byte)
	copy(b[:], init)
	copy(b[addr-page:], p)
	s.setPage(page, b)
	return true
}

func (s *FakeSpace) copy(p []byte, addr uint64, write bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		a := addr + uint64(n)
		k := min(len(p)-n, int(fakePage-a%fakePage))
		if !s.access(p[n:n+k], a, write, false) {
			return n, unix.EFAULT
		}
		n += k
	}
	return n, nil
}

func (s *FakeSpace) copyV(p []byte, r []uio.Range, write bool) (int, error) {
	n := 0
	for _, x := range r {
		k := min(uint64(len(p)-n), x.Len)
		m, err := s.copy(p[n:n+int(k)], x.Addr, write)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *FakeSpace) ReadAt(p []byte, addr uint64) (int, error)   { return s.copy(p, addr, false) }
func (s *FakeSpace) WriteAt(p []byte, addr uint64) (int, error)  { return s.copy(p, addr, true) }
func (s *FakeSpace) ReadV(p []byte, r []uio.Range) (int, error)  { return s.copyV(p, r, false) }
func (s *FakeSpace) WriteV(p []byte, r []uio.Range) (int, error) { return s.copyV(p, r, true) }
func (t *FakeThread) Data() any                                  { return t.TaskData }
func (t *FakeThread) AddressSpace() AddressSpace                 { return t.AS }
func (t *FakeThread) Held() bool                                 { return true }
func (t *FakeThread) OnTracer() bool                             { return t.OnTracerThread }
func (t *FakeThread) Block()                                     {}
func (t *FakeThread) Kick()                                      {}
func (t *FakeThread) Kill()                                      {}
func (t *FakeThread) HostTID() int                               { return 1 }
func (t *FakeThread) Used() Used                                 { return Used{} }
func (t *FakeThread) Asleep() bool                               { return false }
func (t *FakeThread) SetAffinity(uint64) error                   { return nil }
func (t *FakeThread) CPU() int                                   { return 0 }
func (t *FakeThread) Watch(Watching)                             {}
func (t *FakeThread) SetRlimit(int, uint64) error                { return nil }
func (t *FakeThread) Regs() (*arch.Regs, error)                  { r := t.R; return &r, nil }
func (t *FakeThread) SetRegs(r *arch.Regs) error                 { t.R = *r; return nil }
func (t *FakeThread) FPState() ([]byte, error)                   { return make([]byte, 512), nil }
func (t *FakeThread) DebugReg(int) (uint64, error)               { return 0, nil }
func (t *FakeThread) SetDebugReg(int, uint64) error              { return nil }
func (t *FakeThread) SetFPState([]byte) error                    { return nil }
func (t *FakeThread) Resume()                                    {}
func (t *FakeThread) ResumeStep()                                {}

// Map runs the operations one by one.
func (t *FakeThread) Map(ops []MapOp) error {
	t.Calls++
	t.AS.mu.Lock()
	defer t.AS.mu.Unlock()
	for _, op := range ops {
		if err := t.AS.doMap(op); err != nil {
			return err
		}
	}
	return nil
}

// Syscall knows the memory calls.
func (t *FakeThread) Syscall(nr Sysno, a Args) (uint64, error) {
	t.Calls++
	s := t.AS
	s.mu.Lock()
	defer s.mu.Unlock()
	switch nr {
	case unix.SYS_MMAP:
		op := MapOp{Addr: a[0], Len: (a[1] + fakePage - 1) &^ (fakePage - 1), Prot: uint32(a[2]),
			Shared: a[3]&unix.MAP_SHARED != 0, NoReplace: a[3]&unix.MAP_FIXED_NOREPLACE != 0}
		if a[3]&(unix.MAP_FIXED|unix.MAP_FIXED_NOREPLACE) == 0 && (op.Addr == 0 || !s.free(op.Addr, op.Addr+op.Len)) {
			op.Addr = s.place(op.Len)
		}
		return op.Addr, s.doMap(op)
	case unix.SYS_MUNMAP:
		return 0, s.doMap(MapOp{Kind: Unmap, Addr: a[0], Len: a[1]})
	case unix.SYS_MPROTECT:
		return 0, s.doMap(MapOp{Kind: Protect, Addr: a[0], Len: a[1], Prot: uint32(a[2])})
	case unix.SYS_MREMAP:
		return s.mremap(a[0], a[1], a[2], a[3], a[4])
	case unix.SYS_MADVISE:
		return 0, nil
	}
	return 0, unix.ENOSYS
}

// Clone copies the address space.
func (t *FakeThread) Clone(spec CloneSpec) (Thread, error) {
	c := &FakeThread{AS: t.AS, TaskData: spec.Data, R: t.R}
	if spec.Thread || spec.VM {
		return c, nil
	}
	t.AS.mu.Lock()
	defer t.AS.mu.Unlock()
	c.AS = &FakeSpace{f: t.AS.f, areas: slices.Clone(t.AS.areas)}
	for p, b := range t.AS.pages {
		n := *b
		c.AS.setPage(p, &n)
	}
	return c, nil
}

// CompareAndSwap32 is not atomic here: threads of a Fake do not run.
func (t *FakeThread) CompareAndSwap32(addr uint64, old, new uint32) (uint32, error) {
	var b [4]byte
	if err := uio.ReadFull(t.AS, b[:], addr); err != nil {
		return 0, err
	}
	le := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	if !bytes.Equal(b[:], le(old)) {
		return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24, nil
	}
	return old, uio.WriteFull(t.AS, le(new), addr)
}
