package loader

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

const (
	// stackLow is the lower end of where stacks are put. The host leaves at least 16 GiB below the end of user memory
	// free for its own stack when it places mappings, so nothing gets in the way of a stack that grows here.
	stackLow    = 0x7ffc_0000_0000
	stackRandom = 1 << 32
	// stackMapped is how much of the stack is mapped at once: the kernel's copies do not make the host grow a stack as
	// the program's own accesses do. Only what is touched takes memory.
	stackMapped = 64 << 20
	stackSlack  = 128 << 10
	// hugePage: where the stack begins relative to it decides whether the host gives huge pages to a program that
	// needs a few KiB.
	hugePage = 2 << 20
	// vdsoRoom is kept free around the vDSO, for its data pages.
	vdsoRoom = 256 << 10
)

// setAux makes the auxiliary vector, but for what only Install knows (zero here).
func (im *Image) setAux(e *elf, bias, base uint64) {
	phdr := e.phdr
	if phdr != 0 {
		phdr += bias
	}
	a := im.p.Aux
	if v := im.p.Host.VDSO.Addr; v != 0 {
		im.aux = append(im.aux, arch.AT_SYSINFO_EHDR, v)
	}
	im.aux = append(im.aux,
		arch.AT_MINSIGSTKSZ, max(a.MinSigStack, arch.MINSIGSTKSZ),
		arch.AT_HWCAP, a.HWCAP,
		arch.AT_PAGESZ, abi.PageSize,
		arch.AT_CLKTCK, arch.ClockTicks,
		arch.AT_PHDR, phdr,
		arch.AT_PHENT, phdrSize,
		arch.AT_PHNUM, uint64(e.phnum),
		arch.AT_BASE, base,
		arch.AT_FLAGS, 0,
		arch.AT_ENTRY, bias+e.entry,
		arch.AT_UID, 0,
		arch.AT_EUID, 0,
		arch.AT_GID, 0,
		arch.AT_EGID, 0,
		arch.AT_SECURE, 0,
		arch.AT_RANDOM, 0,
		arch.AT_HWCAP2, a.HWCAP2,
		arch.AT_EXECFN, 0,
		arch.AT_PLATFORM, 0,
		arch.AT_NULL, 0)
}

// patchAux sets an entry of the vector.
func (im *Image) patchAux(key, v uint64) {
	for i := 0; i < len(im.aux); i += 2 {
		if im.aux[i] == key {
			im.aux[i+1] = v
		}
	}
}

// stackTop chooses the end of the stack.
func (im *Image) stackTop() uint64 {
	low, high := uint64(stackLow), im.p.Host.UserMax
	if high < low+2*stackRandom {
		low = high - min(high, 2*stackRandom)
	}
	if v := im.p.Host.VDSO.Addr; v != 0 && v+vdsoRoom > low && v < high+vdsoRoom {
		if below, above := v-vdsoRoom, v+vdsoRoom; below-low > high-min(high, above) {
			high = min(high, below)
		} else {
			low = above
		}
	}
	top := high - im.random(min(stackRandom, (high-low)/2))
	// The uppermost MiB or more lie in a huge page of which the stack has only a part.
	return (top - hugePage) | hugePage/2
}

// stack is the initial stack: its bytes end at top.
type stack struct {
	b   []byte
	top uint64
	p   int // index in b of the lowest byte in use
}

func (s *stack) addr() uint64 { return s.top - uint64(len(s.b)-s.p) }

// push puts bytes below what is there and returns their address.
func (s *stack) push(p string) uint64 {
	s.p -= len(p)
	copy(s.b[s.p:], p)
	return s.addr()
}

// pushString is push with a zero byte behind it.
func (s *stack) pushString(p string) uint64 {
	s.p--
	return s.push(p)
}

// pushList pushes strings so that the first is the lowest, and returns where they begin.
func (s *stack) pushList(list []string) uint64 {
	for i := len(list) - 1; i >= 0; i-- {
		s.pushString(list[i])
	}
	return s.addr()
}

// buildStack makes the bytes of the initial stack that ends at top, and completes the layout and the auxiliary vector.
func (im *Image) buildStack(top uint64, cr Creds) *stack {
	argv, envv := im.argv, im.p.Envv
	words := 1 + len(argv) + 1 + len(envv) + 1 + len(im.aux)
	n := 8*words + len(im.p.Name) + 1 + len(arch.Platform) + 1 + 16 + 8
	for _, l := range [][]string{argv, envv} {
		for _, x := range l {
			n += len(x) + 1
		}
	}
	n += 16 + 16 + 8192 // alignment, and what shifts the stack pointer
	s := &stack{b: make([]byte, n), top: top, p: n}
	s.p -= 8 // Linux leaves a zero word at the end
	l := &im.layout
	execfn := s.pushString(im.p.Name)
	l.EnvEnd = s.addr()
	l.EnvStart = s.pushList(envv)
	l.ArgEnd = l.EnvStart
	l.ArgStart = s.pushList(argv)
	if !im.p.NoRandom {
		s.p -= rand.IntN(8192)
	}
	s.p -= int(s.addr() & 15)
	platformStr := s.pushString(arch.Platform)
	var rnd [16]byte
	binary.LittleEndian.PutUint64(rnd[:], rand.Uint64())
	binary.LittleEndian.PutUint64(rnd[8:], rand.Uint64())
	random := s.push(string(rnd[:]))

	secure := uint64(0)
	if cr.Secure {
		secure = 1
	}
	for _, kv := range [][2]uint64{{arch.AT_UID, uint64(cr.UID)}, {arch.AT_EUID, uint64(cr.EUID)}, {arch.AT_GID, uint64(cr.GID)},
		{arch.AT_EGID, uint64(cr.EGID)}, {arch.AT_SECURE, secure}, {arch.AT_RANDOM, random}, {arch.AT_EXECFN, execfn},
		{arch.AT_PLATFORM, platformStr}} {
		im.patchAux(kv[0], kv[1])
	}

	s.p -= 8 * words
	s.p -= int(s.addr() & 15)
	at := s.p
	put := func(v uint64) {
		binary.LittleEndian.PutUint64(s.b[at:], v)
		at += 8
	}
	pointers := func(list []string, addr uint64) {
		for _, x := range list {
			put(addr)
			addr += uint64(len(x)) + 1
		}
		put(0)
	}
	put(uint64(len(argv)))
	pointers(argv, l.ArgStart)
	pointers(envv, l.EnvStart)
	aux := at
	for _, v := range im.aux {
		put(v)
	}
	l.Auxv = append([]byte(nil), s.b[aux:at]...)
	return s
}

// Install fills the fresh process of held thread t, whose memory is m, with the program. If it fails the process is of no
// use any more.
func (im *Image) Install(t platform.Thread, m *mm.MM, cr Creds) error {
	if t.OnTracer() {
		return mm.ErrOffload
	}
	top := im.stackTop()
	s := im.buildStack(top, cr)
	im.SP = s.addr()
	im.layout.StartStack = im.SP

	need := abi.PageUp(top-im.SP) + stackSlack
	size := abi.PageUp(max(need, min(im.p.StackLimit, stackMapped)))
	prot := uint32(unix.PROT_READ | unix.PROT_WRITE)
	if im.xstack {
		prot |= unix.PROT_EXEC
	}
	ops := append(im.ops, platform.MapOp{Kind: platform.MapAnon, Addr: top - size, Len: size, Prot: prot,
		NoReserve: true, Growsdown: true, NoReplace: true})
	if im.p.Host.HostBrk {
		l := &im.layout
		ops = append(ops, platform.MapOp{Kind: platform.Heap, Addr: im.brk, Off: l.StartData, Len: l.EndData - l.StartData})
	}
	if err := m.Install(t, ops, im.segs, im.top); err != nil {
		return err
	}

	// One write for the stack and the zeroes behind file data.
	data := s.b[s.p:]
	r := append(make([]uio.Range, 0, 1+len(im.zeros)), uio.Range{Addr: im.SP, Len: uint64(len(data))})
	for _, z := range im.zeros {
		data = append(data, make([]byte, z.Len)...)
		r = append(r, z)
	}
	for len(r) > 0 {
		k := min(len(r), mm.MaxIov)
		n := 0
		for _, x := range r[:k] {
			n += int(x.Len)
		}
		if _, err := m.WriteV(data[:n], r[:k]); err != nil {
			return err
		}
		data, r = data[n:], r[k:]
	}
	m.SetBrk(im.brk)
	m.SetLayout(im.layout)
	return m.SetExe(im.File)
}

// Regs are the registers that the program starts with, after Install.
func (im *Image) Regs() arch.Regs {
	return arch.Regs{Rip: im.Entry, Rsp: im.SP, Cs: arch.UserCS, Ss: arch.UserSS, Eflags: arch.FlagIF, Orig_rax: arch.NoSyscall}
}
