package coredump

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
)

type buffer struct {
	bytes.Buffer
	zeroed uint64
}

func (b *buffer) Write(p []byte) error { b.Buffer.Write(p); return nil }
func (b *buffer) Zero(n uint64) error  { b.zeroed += n; b.Buffer.Write(make([]byte, n)); return nil }

// TestWrite lets another reader of ELF files judge.
func TestWrite(t *testing.T) {
	const page = abi.PageSize
	p := &Process{
		Signal: arch.InfoFault(unix.SIGSEGV, 1, 8), PID: 7, Comm: "prog", Args: "prog -x", Auxv: make([]byte, 32),
		Threads: []Thread{{TID: 7, FP: make([]byte, 832)}, {TID: 8, FP: make([]byte, 832)}},
		Regions: []Region{
			{Start: 0x1000, End: 0x1000 + 3*page, Prot: unix.PROT_READ | unix.PROT_WRITE, Dump: 3 * page},
			{Start: 0x10000, End: 0x10000 + 9*page, Prot: unix.PROT_READ | unix.PROT_EXEC, File: "/bin/x", Off: 2 * page},
			{Start: 0x40000, End: 0x40000 + 200*page, Prot: unix.PROT_READ, Dump: 200 * page},
		},
	}
	// The second page of the first region cannot be read.
	read := func(b []byte, addr uint64) (int, error) {
		for i := range b {
			a := addr + uint64(i)
			if a >= 0x1000+page && a < 0x1000+2*page {
				return i, unix.EFAULT
			}
			b[i] = byte(a / page)
		}
		return len(b), nil
	}
	var out buffer
	if err := Write(&out, p, read); err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || len(f.Progs) != 4 || f.Progs[0].Type != elf.PT_NOTE {
		t.Fatalf("%+v, %d segments", f.FileHeader, len(f.Progs))
	}
	for i, r := range p.Regions {
		s := f.Progs[i+1]
		if s.Vaddr != r.Start || s.Memsz != r.End-r.Start || s.Filesz != r.Dump || s.Off%page != 0 {
			t.Errorf("segment %+v of %+v", s.ProgHeader, r)
		}
		b, err := io.ReadAll(s.Open())
		if err != nil || uint64(len(b)) != r.Dump {
			t.Errorf("segment %d: %d bytes, %v", i, len(b), err)
		}
		for at := uint64(0); at < r.Dump; at += page {
			want := byte((r.Start + at) / page)
			if r.Start+at == 0x1000+page {
				want = 0
			}
			if b[at] != want || b[at+page-1] != want {
				t.Errorf("page %#x: %d, want %d", r.Start+at, b[at], want)
			}
		}
	}
	if f.Progs[2].Flags != elf.PF_R|elf.PF_X {
		t.Errorf("flags %v", f.Progs[2].Flags)
	}
	if out.zeroed < page {
		t.Errorf("%d bytes of holes", out.zeroed)
	}
	var types []uint32
	notes, _ := io.ReadAll(f.Progs[0].Open())
	for len(notes) > 0 {
		le := f.ByteOrder
		name, desc := le.Uint32(notes), le.Uint32(notes[4:])
		types = append(types, le.Uint32(notes[8:]))
		notes = notes[12+(name+3)&^3+(desc+3)&^3:]
	}
	if got := fmt.Sprint(types); got != fmt.Sprint([]uint32{ntPrstatus, ntPrpsinfo, ntSiginfo, ntAuxv, ntFile, ntPrfpreg, ntX86Xstate,
		ntPrstatus, ntPrfpreg, ntX86Xstate}) {
		t.Errorf("notes %v", got)
	}
}

func TestNames(t *testing.T) {
	n := &Names{PID: 42, TID: 43, Signal: 11, UID: 5, GID: 6, Dumpable: 1, Time: 99, Limit: ^uint64(0), CPU: 1, Host: "..", Comm: "a/b", Program: "/usr/bin/pro"}
	for _, c := range []struct {
		pattern string
		pid     bool
		want    string
	}{
		{"core", false, "core []"}, {"core", true, "core.42 []"}, {"core.%p", true, "core.42 []"}, {"", true, " []"},
		{"/c/%e-%E-%f-%h", false, "/c/a!b-!usr!bin!pro-pro-!. []"}, {"%i %u %g %d %s %t %C %c", false, "43 5 6 1 11 99 1 18446744073709551615 []"},
		{"100%%%", false, "100% []"}, {"%z%", true, " []"},
		{"|/bin/h  %p %e x%s", true, " [/bin/h 42 a!b x11]"}, {"|", false, " []"},
	} {
		s := NewSettings()
		s.SetPattern(c.pattern)
		s.SetUsesPID(c.pid)
		file, command := n.File(s)
		if got := fmt.Sprint(file, " ", command); got != c.want {
			t.Errorf("%q: %q, want %q", c.pattern, got, c.want)
		}
	}
	s := NewSettings()
	s.SetPattern(string(make([]byte, 500)))
	if len(s.Pattern()) != 127 {
		t.Errorf("pattern of %d bytes", len(s.Pattern()))
	}
}
