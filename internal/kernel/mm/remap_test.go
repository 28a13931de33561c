package mm_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/mm/mmtest"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// remapSetup is setup with an accountant, which knows the address spaces, and a second file whose pages have higher values.
func remapSetup(t *testing.T) (e *env, h *mm.Host, f, to *mmtest.File) {
	fake := platform.NewFake()
	th, _ := fake.NewProcess(nil)
	h = mmtest.NewHost(fake)
	h.Acct = mm.NewAccountant(1<<30, 1, nil)
	e = &env{t, fake, th.(*platform.FakeThread), mm.New(h, th.AddressSpace()), &mmtest.Caller{}}
	p := data(4 * pg)
	for i := range p {
		p[i] += 100
	}
	return e, h, mmtest.NewFile(fake, data(4*pg)), mmtest.NewFile(fake, p)
}

// all is where a file's pages are.
func all(f *mmtest.File) func() []vfs.Extent {
	return func() []vfs.Extent {
		x, _ := f.Extents(0, 1<<30, false, false)
		return x
	}
}

func (e *env) pages(m *mm.MM, addr uint64) (out [4]int) {
	for i := range out {
		var b [1]byte
		if out[i] = -1; func() bool { n, _ := m.ReadAt(b[:], addr+uint64(i*pg)); return n == 1 }() {
			out[i] = int(b[0])
		}
	}
	return out
}

func TestRemap(t *testing.T) {
	e, h, f, to := remapSetup(t)
	addr := e.must(e.mmap(0, 4*pg, rw, unix.MAP_PRIVATE, f, unix.O_RDONLY, 0))
	e.m.WriteAt([]byte{77}, addr+2*pg)
	child, ct, err := e.m.Fork(e.t, func() (platform.Thread, error) { return e.t.Clone(platform.CloneSpec{}) })
	if err != nil {
		t.Fatal(err)
	}
	// Nothing changes before a thread of the address space has settled.
	h.Remap(f, pg, 4*pg, true, all(to))
	if got := e.pages(e.m, addr); got != [4]int{1, 2, 77, 4} || !e.m.Changed() || !child.Changed() {
		t.Errorf("not settled: %v, %v %v", got, e.m.Changed(), child.Changed())
	}
	e.m.Settle(e.t)
	child.Settle(ct)
	for _, m := range []*mm.MM{e.m, child} {
		if got := e.pages(m, addr); got != [4]int{1, 102, 77, 104} || m.Changed() {
			t.Errorf("with copies: %v, %v", got, m.Changed())
		}
	}
	// A fork comes after the change.
	h.Remap(f, 2*pg, 3*pg, false, all(to))
	second, _, err := e.m.Fork(e.t, func() (platform.Thread, error) { return e.t.Clone(platform.CloneSpec{}) })
	if err != nil {
		t.Fatal(err)
	}
	if got := e.pages(second, addr); got != [4]int{1, 102, 103, 104} || second.Changed() {
		t.Errorf("forked: %v", got)
	}
	// What is left out gives a fault.
	h.Remap(f, 0, pg, false, func() []vfs.Extent { return nil })
	e.m.Settle(e.t)
	if got := e.pages(e.m, addr); got != [4]int{-1, 102, 103, 104} {
		t.Errorf("left out: %v", got)
	}
	// Who has nothing mapped there is not asked for anything.
	e.m.Munmap(e.t, addr, pg)
	child.Put()
	second.Put()
	h.Remap(f, 0, pg, false, func() []vfs.Extent { t.Error("resolved for nobody"); return nil })
	e.m.Put()
	if n := f.Maps.Load(); n != 0 {
		t.Errorf("%d mappings are left", n)
	}
}

// growing is a file that is changed while its pages are asked for.
type growing struct {
	*mmtest.File
	once func()
}

func (g *growing) Mapping(vfs.Caller, *vfs.File, bool, bool) (vfs.Mapping, error) { return g, nil }

func (g *growing) Extents(off, n uint64, shared, write bool) ([]vfs.Extent, error) {
	x, err := g.File.Extents(off, n, shared, write)
	if f := g.once; f != nil {
		g.once = nil
		f()
	}
	return x, err
}

// TestRemapWhileMapping has a file cut between the look at it and the mapping.
func TestRemapWhileMapping(t *testing.T) {
	e, h, f, _ := remapSetup(t)
	g := &growing{File: f}
	g.once = func() {
		f.Size.Store(pg)
		h.Remap(g, pg, 4*pg, false, func() []vfs.Extent { return nil })
	}
	vf := vfs.NewFile(vfs.Path{}, f, g, unix.O_RDONLY)
	addr := e.must(e.m.Mmap(e.t, e.c, 0, 4*pg, ro, unix.MAP_PRIVATE, vf, 0))
	if got := e.pages(e.m, addr); got != [4]int{1, -1, -1, -1} {
		t.Errorf("%v", got)
	}
}
