package arch

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// flatMem is guest memory from base on.
type flatMem struct {
	base uint64
	b    []byte
}

func (m *flatMem) at(addr uint64, n int) []byte {
	if addr < m.base || addr-m.base > uint64(len(m.b)) {
		return nil
	}
	s := m.b[addr-m.base:]
	return s[:min(n, len(s))]
}

func (m *flatMem) ReadAt(p []byte, addr uint64) (int, error) {
	n := copy(p, m.at(addr, len(p)))
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (m *flatMem) WriteAt(p []byte, addr uint64) (int, error) {
	n := copy(m.at(addr, len(p)), p)
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (m *flatMem) ReadV([]byte, []uio.Range) (int, error)  { return 0, unix.EFAULT }
func (m *flatMem) WriteV([]byte, []uio.Range) (int, error) { return 0, unix.EFAULT }

// testArea is an XSAVE area of n bytes with recognisable contents.
func testArea(n int, features uint64) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7)
	}
	le := binary.LittleEndian
	le.PutUint16(p, initCW)
	le.PutUint32(p[mxcsrOff:], initCSR)
	le.PutUint32(p[mxcsrMaskOff:], 0xffff)
	clear(p[swBytesOff:512])
	if n >= minXstate {
		le.PutUint64(p[swBytesOff:], features)
		clear(p[xhdrOff:minXstate])
		le.PutUint64(p[xhdrOff:], features&^featAMX)
	}
	return p
}

func input(t testing.TB, area []byte) *FrameInput {
	l, err := NewFPLayout(area)
	if err != nil {
		t.Fatal(err)
	}
	r := &Regs{}
	for i, p := range context(r) {
		*p = uint64(1000 + i)
	}
	r.Rsp, r.Rip, r.Eflags = 0x10_0000-24, 0x400123, 0x246|FlagDF
	r.Cs, r.Ss, r.Fs_base = UserCS, UserSS, 0x7777
	info := InfoFault(unix.SIGSEGV, SEGV_ACCERR, 0xdead)
	return &FrameInput{Regs: r, FP: area, Layout: l, Info: &info,
		Action: &Sigaction{Handler: 0x500000, Flags: SA_SIGINFO | SA_RESTORER | SA_ONSTACK, Restorer: 0x600000},
		Mask:   0xabc000, Err: 6, Trapno: 14, CR2: 0xdead}
}

func TestFrameRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name     string
		n        int
		features uint64
	}{{"fxsave", 512, 0}, {"avx", 832, 7}, {"avx512", 2696, 0x2e7}, {"amx", 11008, 0x602e7}} {
		t.Run(c.name, func(t *testing.T) {
			in := input(t, testArea(c.n, c.features))
			b, addr, regs, err := BuildFrame(in)
			if err != nil {
				t.Fatal(err)
			}
			if addr%16 != 8 || addr+uint64(len(b)) > in.Regs.Rsp-redZone {
				t.Errorf("frame at %#x, %d bytes, sp %#x", addr, len(b), in.Regs.Rsp)
			}
			if regs.Rsp != addr || regs.Rip != 0x500000 || regs.Rdi != uint64(unix.SIGSEGV) || regs.Eflags&FlagDF != 0 ||
				regs.Rsi != addr+312 || regs.Rdx != addr+8 || regs.Fs_base != 0x7777 {
				t.Errorf("handler registers %+v", regs)
			}
			fp := binary.LittleEndian.Uint64(b[offFPPtr:])
			if fp%64 != 0 {
				t.Errorf("state at %#x is not aligned", fp)
			}
			m := &flatMem{addr, append(b, make([]byte, 64)...)}
			regs.Rsp += 8
			f, err := ParseFrame(m, &regs, in.Layout)
			if err != nil {
				t.Fatal(err)
			}
			want := *in.Regs
			want.Orig_rax = NoSyscall
			if f.Regs != want {
				t.Errorf("registers\n got %+v\nwant %+v", f.Regs, want)
			}
			if f.Mask != in.Mask {
				t.Errorf("mask %#x", f.Mask)
			}
			got, wantFP := bytes.Clone(f.FP), bytes.Clone(in.FP)
			clear(got[swBytesOff:512])
			clear(wantFP[swBytesOff:512])
			end := min(c.n, in.Layout.frame)
			if !bytes.Equal(got[:end], wantFP[:end]) {
				t.Error("extended state differs")
			}
			if len(got) != c.n {
				t.Errorf("state of %d bytes, want %d", len(got), c.n)
			}
		})
	}
}

func TestFrameAltStack(t *testing.T) {
	in := input(t, testArea(832, 7))
	in.Stack = SigStack{SP: 0x20_0000, Size: 8192}
	_, addr, _, err := BuildFrame(in)
	if err != nil || !in.Stack.contains(addr) {
		t.Fatalf("frame at %#x: %v", addr, err)
	}
	in.Regs.Rsp = addr // nested: goes on below
	_, addr2, _, err := BuildFrame(in)
	if err != nil || addr2 >= addr {
		t.Fatalf("nested frame at %#x: %v", addr2, err)
	}
	in.Stack.Size = 1000
	in.Regs.Rsp = 0x10_0000
	if _, _, _, err := BuildFrame(in); err != unix.EFAULT {
		t.Errorf("frame too large for its stack: %v", err)
	}
	in.Regs.Rsp = 100
	in.Stack = SigStack{}
	if _, _, _, err := BuildFrame(in); err != unix.EFAULT {
		t.Errorf("stack pointer near 0: %v", err)
	}
}

func TestParseFrameHostile(t *testing.T) {
	in := input(t, testArea(2696, 0x2e7))
	b, addr, regs, err := BuildFrame(in)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	fp := le.Uint64(b[offFPPtr:]) - addr
	regs.Rsp += 8
	parse := func(change func(b []byte)) (*Frame, error) {
		c := bytes.Clone(b)
		change(c)
		return ParseFrame(&flatMem{addr, c}, &regs, in.Layout)
	}
	f, err := parse(func(b []byte) {
		le.PutUint16(b[offContext+144:], 0x10)
		le.PutUint64(b[offContext+8*17:], ^uint64(0))
		le.PutUint64(b[offMask:], ^uint64(0))
	})
	if err != nil || f.Regs.Cs != UserCS || f.Regs.Ss != UserSS || f.Regs.Eflags != flagsUser|flagsFixed {
		t.Errorf("system bits: %+v, %v", f, err)
	}
	if f.Mask&Unblockable != 0 {
		t.Error("SIGKILL blocked")
	}
	for name, change := range map[string]func([]byte){
		"feature": func(b []byte) { b[fp+xhdrOff+7] = 0x80 },
		"xcomp":   func(b []byte) { b[fp+xhdrOff+8] = 1 },
		"mxcsr":   func(b []byte) { le.PutUint32(b[fp+mxcsrOff:], ^uint32(0)) },
		"pointer": func(b []byte) { le.PutUint64(b[offFPPtr:], 1<<63) },
		"unmapped": func(b []byte) {
			le.PutUint64(b[offFPPtr:], 4096)
		},
	} {
		if _, err := parse(change); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, change := range map[string]func([]byte){
		"magic1": func(b []byte) { b[fp+swBytesOff] = 0 },
		"magic2": func(b []byte) { b[len(b)-1] = 0 },
		"size":   func(b []byte) { le.PutUint32(b[fp+swBytesOff+16:], ^uint32(0)) },
	} {
		f, err := parse(change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if le.Uint64(f.FP[xhdrOff:]) != featFPSSE {
			t.Errorf("%s: not reduced to the legacy state", name)
		}
	}
	f, err = parse(func(b []byte) { le.PutUint64(b[offFPPtr:], 0) })
	if err != nil || le.Uint64(f.FP[xhdrOff:]) != 0 || le.Uint32(f.FP[mxcsrOff:]) != initCSR {
		t.Errorf("no state: %v", err)
	}
}

func FuzzParseFrame(f *testing.F) {
	in := input(f, testArea(832, 7))
	b, addr, regs, err := BuildFrame(in)
	if err != nil {
		f.Fatal(err)
	}
	regs.Rsp += 8
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ParseFrame(&flatMem{addr, b}, &regs, in.Layout)
		if err == nil && (len(fr.FP) != 832 || fr.Regs.Cs != UserCS) {
			t.Errorf("%+v", fr)
		}
	})
}

func TestSiginfo(t *testing.T) {
	le := binary.LittleEndian
	s := InfoChild(CLD_EXITED, 42, 1000, 7, 11, 12)
	b := s.Encode()
	if le.Uint32(b[0:]) != uint32(unix.SIGCHLD) || le.Uint32(b[8:]) != CLD_EXITED || le.Uint32(b[16:]) != 42 ||
		le.Uint32(b[20:]) != 1000 || le.Uint32(b[24:]) != 7 || le.Uint64(b[32:]) != 11 || le.Uint64(b[40:]) != 12 {
		t.Errorf("child: % x", b)
	}
	s = InfoSys(5, 0x1234, -1, 0xc000003e)
	b = s.Encode()
	if le.Uint64(b[16:]) != 0x1234 || le.Uint32(b[24:]) != 0xffffffff || le.Uint32(b[28:]) != 0xc000003e {
		t.Errorf("sys: % x", b)
	}
	if d, err := DecodeSiginfo(&b); err != nil || d != s {
		t.Errorf("decoded %+v, %v", d, err)
	}
	odd := Siginfo{Signo: 10, Code: -77}
	b = odd.Encode()
	b[100] = 1
	if _, err := DecodeSiginfo(&b); err != unix.E2BIG {
		t.Errorf("bytes beyond an unknown layout: %v", err)
	}
	for _, c := range []struct {
		s Siginfo
		l Layout
	}{
		{InfoKill(10, 1, 2), LayoutKill}, {InfoTkill(10, 1, 2), LayoutRT}, {InfoQueue(40, SI_QUEUE, 1, 2, 3), LayoutRT},
		{InfoFault(unix.SIGSEGV, SEGV_MAPERR, 1), LayoutFault}, {InfoKernel(unix.SIGSEGV), LayoutKill},
		{InfoTimer(14, 1, 2, 3), LayoutTimer}, {InfoPoll(35, POLL_IN, 1, 2), LayoutPoll}, {InfoPoll(unix.SIGIO, POLL_IN, 1, 2), LayoutPoll},
		{s, LayoutSys},
	} {
		if got := c.s.Layout(); got != c.l {
			t.Errorf("%+v: layout %d, want %d", c.s, got, c.l)
		}
	}
}

func TestSigStackSet(t *testing.T) {
	var s SigStack
	if err := s.Set(SigStack{0x1000, 0, 8192}, 0x99999, MINSIGSTKSZ); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(SigStack{}, 0x2000, MINSIGSTKSZ); err != unix.EPERM {
		t.Errorf("while on it: %v", err)
	}
	if err := s.Set(SigStack{0, 0, 100}, 0x99999, MINSIGSTKSZ); err != unix.ENOMEM {
		t.Errorf("too small: %v", err)
	}
	if err := s.Set(SigStack{0, 9, 10000}, 0x99999, MINSIGSTKSZ); err != unix.EINVAL {
		t.Errorf("flags: %v", err)
	}
	if st := s.Status(0x2000); st != SS_ONSTACK {
		t.Errorf("status %#x", st)
	}
}
