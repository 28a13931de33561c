package loader

import (
	"bytes"
	oracle "debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/mm/mmtest"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// env has files by path.
type env struct {
	testing.TB
	fake  *platform.Fake
	files map[string]*mmtest.File
	c     *mmtest.Caller
}

func setup(t testing.TB) *env {
	return &env{t, platform.NewFake(), map[string]*mmtest.File{}, &mmtest.Caller{}}
}

func (e *env) add(name string, data []byte) { e.files[name] = mmtest.NewFile(e.fake, data) }

func (e *env) params(name string, argv ...string) Params {
	return Params{Host: mmtest.NewHost(e.fake), File: e.files[name].OpenFile(unix.O_RDONLY), Name: name, Argv: argv,
		Envv: []string{"HOME=/", "X=1"}, StackLimit: 8 << 20, Aux: arch.HostAux{HWCAP: 0xbfebfbff, HWCAP2: 2, MinSigStack: 3632},
		OpenExec: func(_ vfs.Caller, path string) (*vfs.File, error) {
			f := e.files[path]
			if f == nil {
				return nil, unix.ENOENT
			}
			return f.OpenFile(unix.O_RDONLY), nil
		}}
}

// run loads and installs a program.
func (e *env) run(p Params) (*Image, *mm.MM) {
	e.Helper()
	im, err := Load(e.c, p)
	if err != nil {
		e.Fatal(err)
	}
	t, _ := e.fake.NewProcess(nil)
	m := mm.New(p.Host, t.AddressSpace())
	if err := im.Install(t, m, Creds{UID: 1, EUID: 2, GID: 3, EGID: 4, Secure: true}); err != nil {
		e.Fatal(err)
	}
	if n := t.(*platform.FakeThread).Calls; n != 1 {
		e.Errorf("%d calls to install", n)
	}
	return im, m
}

// readStack decodes the initial stack.
func readStack(t testing.TB, m *mm.MM, sp uint64) (argv, envv []string, aux map[uint64]uint64) {
	word := func() uint64 {
		v, err := mm.ReadU64(m, sp)
		if err != nil {
			t.Fatal(err)
		}
		sp += 8
		return v
	}
	list := func() (out []string) {
		for p := word(); p != 0; p = word() {
			s, err := mm.CopyInString(m, p, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return out
	}
	if sp%16 != 0 {
		t.Errorf("stack pointer %#x", sp)
	}
	argc := word()
	argv, envv = list(), list()
	if int(argc) != len(argv) {
		t.Errorf("argc %d, argv %q", argc, argv)
	}
	aux = map[uint64]uint64{}
	for k := word(); k != arch.AT_NULL; k = word() {
		aux[k] = word()
	}
	return argv, envv, aux
}

// checkSegments compares memory with what debug/elf says.
func checkSegments(t testing.TB, m *mm.MM, ef *oracle.File, bias uint64) {
	for _, p := range ef.Progs {
		if p.Type != oracle.PT_LOAD || p.Memsz == 0 {
			continue
		}
		want := make([]byte, p.Memsz)
		p.ReadAt(want[:p.Filesz], 0)
		got := make([]byte, p.Memsz)
		if n, err := m.ReadAt(got, bias+p.Vaddr); err != nil {
			t.Errorf("segment %#x: %d of %d bytes: %v", p.Vaddr, n, len(got), err)
		} else if p.Flags&oracle.PF_W == 0 {
			want, got = want[:p.Filesz], got[:p.Filesz]
		}
		if !bytes.Equal(want, got) {
			t.Errorf("segment %#x differs", p.Vaddr)
		}
	}
}

func testProgram(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skip(err)
	}
	ef, err := oracle.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Skip(err)
	}
	e := setup(t)
	e.add("/bin/prog", data)
	var interp *oracle.File
	for _, p := range ef.Progs {
		if p.Type == oracle.PT_INTERP {
			name := make([]byte, p.Filesz-1)
			p.ReadAt(name, 0)
			ld, err := os.ReadFile(string(name))
			if err != nil {
				t.Skip(err)
			}
			e.add(string(name), ld)
			interp, _ = oracle.NewFile(bytes.NewReader(ld))
		}
	}
	im, m := e.run(e.params("/bin/prog", "prog", "one", ""))
	argv, envv, aux := readStack(t, m, im.SP)
	if !slices.Equal(argv, []string{"prog", "one", ""}) || !slices.Equal(envv, []string{"HOME=/", "X=1"}) {
		t.Errorf("argv %q, envp %q", argv, envv)
	}
	bias := aux[arch.AT_ENTRY] - ef.Entry
	if (ef.Type == oracle.ET_EXEC) != (bias == 0) {
		t.Errorf("bias %#x", bias)
	}
	checkSegments(t, m, ef, bias)
	if interp != nil {
		checkSegments(t, m, interp, aux[arch.AT_BASE])
		if im.Entry != aux[arch.AT_BASE]+interp.Entry {
			t.Errorf("entry %#x", im.Entry)
		}
	} else if im.Entry != aux[arch.AT_ENTRY] || aux[arch.AT_BASE] != 0 {
		t.Errorf("entry %#x, base %#x", im.Entry, aux[arch.AT_BASE])
	}
	for k, want := range map[uint64]uint64{arch.AT_PHNUM: uint64(len(ef.Progs)), arch.AT_PHENT: 56, arch.AT_PAGESZ: 4096,
		arch.AT_UID: 1, arch.AT_EUID: 2, arch.AT_GID: 3, arch.AT_EGID: 4, arch.AT_SECURE: 1, arch.AT_HWCAP: 0xbfebfbff,
		arch.AT_HWCAP2: 2, arch.AT_CLKTCK: 100, arch.AT_MINSIGSTKSZ: 3632} {
		if aux[k] != want {
			t.Errorf("auxv %d is %#x, want %#x", k, aux[k], want)
		}
	}
	var ph [8]byte
	uio.ReadFull(m, ph[:], aux[arch.AT_PHDR])
	if got := oracle.ProgType(binary.LittleEndian.Uint32(ph[:])); got != ef.Progs[0].Type {
		t.Errorf("AT_PHDR points at %v", got)
	}
	for k, want := range map[uint64]string{arch.AT_EXECFN: "/bin/prog", arch.AT_PLATFORM: "x86_64"} {
		if s, _ := mm.CopyInString(m, aux[k], 100); s != want {
			t.Errorf("auxv %d is %q", k, s)
		}
	}
	l := m.Layout()
	args := make([]byte, l.ArgEnd-l.ArgStart)
	uio.ReadFull(m, args, l.ArgStart)
	if string(args) != "prog\x00one\x00\x00" {
		t.Errorf("argument area %q", args)
	}
	if start := m.StartBrk(); start < bias+ef.Progs[0].Vaddr {
		t.Errorf("heap at %#x", start)
	}
	im.Release()
	if n := e.files["/bin/prog"].Maps.Load(); n != 1 {
		t.Errorf("mapped %d times after Release", n)
	}
	m.Put()
	for name, f := range e.files {
		if f.Maps.Load() != 0 {
			t.Errorf("%s still mapped", name)
		}
	}
}

func TestStaticProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	testProgram(t, self)
}

func TestDynamicProgram(t *testing.T) { testProgram(t, "/bin/sh") }

// phdr is a program header for makeELF.
type phdr struct {
	typ, flags                        uint32
	off, vaddr, filesz, memsz, align_ uint64
}

// makeELF makes a file of size bytes.
func makeELF(typ uint16, entry uint64, size int, ph ...phdr) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i/251 + 1)
	}
	le := binary.LittleEndian
	clear(b[:64])
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typ)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(ph)))
	for i, p := range ph {
		q := b[64+56*i:]
		le.PutUint32(q, p.typ)
		le.PutUint32(q[4:], p.flags)
		for j, v := range []uint64{p.off, p.vaddr, p.vaddr, p.filesz, p.memsz, p.align_} {
			le.PutUint64(q[8+8*j:], v)
		}
	}
	return b
}

func TestLayout(t *testing.T) {
	e := setup(t)
	// The third segment is mapped over the page whose rest the second would zero.
	e.add("/x", makeELF(etExec, 0x400100, 3*4096,
		phdr{ptLoad, pfR | pfX, 0, 0x400000, 0x500, 0x500, 4096},
		phdr{ptLoad, pfR | pfW, 0x1000, 0x402000, 0x100, 0x3000, 4096},
		phdr{ptLoad, pfR, 0x2000, 0x404000, 0x200, 0x200, 4096},
		phdr{ptGNUStack, pfR | pfW | pfX, 0, 0, 0, 0, 16}))
	p := e.params("/x")
	p.NoRandom = true
	im, m := e.run(p)
	at := func(a uint64) int {
		var b [1]byte
		if uio.ReadFull(m, b[:], a) != nil {
			return -1
		}
		return int(b[0])
	}
	if at(0x402000) == 0 || at(0x402100) != 0 || at(0x403000) != 0 || at(0x404000) == 0 || at(0x401000) != -1 {
		t.Error("contents", at(0x402000), at(0x402100), at(0x403000), at(0x404000), at(0x401000))
	}
	if start := m.StartBrk(); start != 0x405000 {
		t.Errorf("heap at %#x", start)
	}
	rs, _ := m.Maps()
	last := rs[len(rs)-1]
	if last.Name != "[stack]" || last.Prot != 7 || last.End-last.Start != 8<<20 || last.End%hugePage < hugePage/2 {
		t.Errorf("stack %+v", last)
	}
	if rs[0].Prot != unix.PROT_READ|unix.PROT_EXEC || rs[0].File == nil {
		t.Errorf("text %+v", rs[0])
	}
	if r := im.Regs(); r.Rip != 0x400100 || r.Rsp != im.SP {
		t.Errorf("registers %+v", r)
	}
	argv, _, _ := readStack(t, m, im.SP)
	if !slices.Equal(argv, []string{""}) {
		t.Errorf("argv %q", argv)
	}
}

func TestBadELF(t *testing.T) {
	load := phdr{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 4096}
	with := func(f func(*phdr)) phdr { p := load; f(&p); return p }
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, unix.ENOEXEC},
		{"text", []byte("hello"), unix.ENOEXEC},
		{"short", []byte("\x7fELF\x02\x01"), unix.ENOEXEC},
		{"no segment", makeELF(etExec, 0, 4096, phdr{typ: ptGNUStack}), unix.ENOEXEC},
		{"core file", makeELF(4, 0, 4096, load), unix.ENOEXEC},
		{"file size over memory size", makeELF(etExec, 0, 4096, with(func(p *phdr) { p.memsz = 1 })), unix.ENOEXEC},
		{"offset wraps", makeELF(etExec, 0, 4096, with(func(p *phdr) { p.off = ^uint64(0) - 4095 })), unix.ENOEXEC},
		{"not congruent", makeELF(etExec, 0, 4096, with(func(p *phdr) { p.vaddr++; p.filesz, p.memsz = 5, 5 })), unix.ENOEXEC},
		{"beyond user memory", makeELF(etExec, 0, 4096, with(func(p *phdr) { p.memsz = 1 << 47 })), unix.ENOMEM},
		{"address wraps", makeELF(etExec, 0, 4096, with(func(p *phdr) { p.vaddr = ^uint64(0) &^ 4095 })), unix.ENOMEM},
		{"huge alignment", makeELF(etDyn, 0, 4096, with(func(p *phdr) { p.align_ = 1 << 60 })), unix.ENOMEM},
		{"entry", makeELF(etExec, 1<<63, 4096, load), unix.ENOEXEC},
		{"interpreter missing", makeELF(etExec, 0, 4096, load, phdr{typ: ptInterp, off: 200, filesz: 5}), unix.ENOEXEC},
		{"interpreter beyond the file", makeELF(etExec, 0, 4096, load, phdr{typ: ptInterp, off: 200, filesz: 4000}), unix.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := setup(t)
			e.add("/x", c.data)
			if _, err := Load(e.c, e.params("/x")); err != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
			if e.files["/x"].Maps.Load() != 0 {
				t.Error("left mapped")
			}
		})
	}
	e := setup(t)
	b := makeELF(etExec, 0x400000, 4096, load, phdr{typ: ptInterp, off: 300, filesz: 4})
	copy(b[300:], "/ld\x00")
	e.add("/x", b)
	if _, err := Load(e.c, e.params("/x")); err != unix.ENOENT {
		t.Errorf("no interpreter: %v", err)
	}
	e.add("/ld", []byte("#!/bin/sh\n"))
	if _, err := Load(e.c, e.params("/x")); err != unix.ELIBBAD {
		t.Errorf("bad interpreter: %v", err)
	}
}

func TestScripts(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		line, interp, arg string
		hasArg            bool
		want              error
	}{
		{"#!/bin/sh\n", "/bin/sh", "", false, nil},
		{"#! \t/bin/sh \t\nrest", "/bin/sh", "", false, nil},
		{"#!/bin/sh -e -x \n", "/bin/sh", "-e -x", true, nil},
		{"#!/bin/sh\t-e", "/bin/sh", "-e", true, nil},
		{"#!/bin/sh", "/bin/sh", "", false, nil},
		{"#!\n", "", "", false, unix.ENOEXEC},
		{"#!   \n", "", "", false, unix.ENOEXEC},
		{"#!", "", "", false, unix.ENOEXEC},
		{"#!/" + long, "", "", false, unix.ENOEXEC},
		{"#!/bin/sh " + long, "/bin/sh", long[:255-10], true, nil},
		{"#!/" + long[:251] + "\n", "/" + long[:251], "", false, nil},
		{"#!" + strings.Repeat(" ", 300), "", "", false, unix.ENOEXEC},
	} {
		interp, arg, hasArg, err := parseScript([]byte(c.line))
		if interp != c.interp || arg != c.arg || hasArg != c.hasArg || err != c.want {
			t.Errorf("%q: %q %q %v %v", c.line, interp, arg, hasArg, err)
		}
	}
}

func TestRunScript(t *testing.T) {
	e := setup(t)
	e.add("/bin/sh", makeELF(etExec, 0x400000, 4096, phdr{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 4096}))
	e.add("/s", []byte("#!/bin/sh -e\n"))
	e.add("/t", []byte("#!/s x\n"))
	e.add("/loop", []byte("#!/loop\n"))
	im, m := e.run(e.params("/t", "orig", "a", "b"))
	argv, _, aux := readStack(t, m, im.SP)
	if want := []string{"/bin/sh", "-e", "/s", "x", "/t", "a", "b"}; !slices.Equal(argv, want) {
		t.Errorf("argv %q, want %q", argv, want)
	}
	if s, _ := mm.CopyInString(m, aux[arch.AT_EXECFN], 100); s != "/t" || im.Comm != "t" {
		t.Errorf("AT_EXECFN %q, comm %q", s, im.Comm)
	}
	if im.File.Inode != vfs.Inode(e.files["/bin/sh"]) {
		t.Error("wrong file")
	}
	if _, err := Load(e.c, e.params("/loop")); err != unix.ELOOP {
		t.Errorf("loop: %v", err)
	}
	p := e.params("/s")
	p.NoScript = true
	if _, err := Load(e.c, p); err != unix.ENOENT {
		t.Errorf("without a name: %v", err)
	}
	p = e.params("/s", strings.Repeat("x", mm.MaxArgString))
	if _, err := Load(e.c, p); err != nil {
		t.Errorf("argv[0] of a script does not count: %v", err)
	}
	p = e.params("/s", "x", strings.Repeat("x", mm.MaxArgString))
	if _, err := Load(e.c, p); err != unix.E2BIG {
		t.Errorf("long argument: %v", err)
	}
}

func FuzzELF(f *testing.F) {
	f.Add(makeELF(etExec, 0x400100, 8192, phdr{ptLoad, pfR | pfX, 0, 0x400000, 0x500, 0x500, 4096},
		phdr{ptLoad, pfR | pfW, 0x1000, 0x402000, 0x100, 0x3000, 4096}))
	f.Add(makeELF(etDyn, 0x100, 4096, phdr{ptLoad, pfR | pfX, 0, 0, 0x1000, 0x1000, 4096}, phdr{typ: ptInterp, off: 200, filesz: 9}))
	f.Add([]byte("#!/x y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := setup(t)
		e.add("/x", b)
		p := e.params("/x", "x")
		im, err := Load(e.c, p)
		if err != nil {
			return
		}
		th, _ := e.fake.NewProcess(nil)
		m := mm.New(p.Host, th.AddressSpace())
		if im.Install(th, m, Creds{}) == nil {
			readStack(t, m, im.SP)
			ms, _ := th.AddressSpace().Mappings()
			for _, x := range ms {
				if x.End > p.Host.UserMax || x.Start%abi.PageSize != 0 {
					t.Errorf("mapping %+v", x)
				}
			}
		}
		im.Release()
		m.Put()
		if e.files["/x"].Maps.Load() != 0 {
			t.Error("left mapped")
		}
	})
}

func FuzzScript(f *testing.F) {
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Add([]byte("#! \t x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		interp, arg, hasArg, err := parseScript(b)
		if err == nil && (interp == "" || strings.ContainsAny(interp, " \t\n\x00") || strings.ContainsAny(arg, "\n\x00") || hasArg != (arg != "")) {
			t.Errorf("%q: %q %q", b, interp, arg)
		}
	})
}
