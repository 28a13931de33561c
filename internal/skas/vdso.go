package skas

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The guests' vDSO is a small ELF image of our own. Its functions call those of the host's vDSO, which stays mapped in the
// stub area and which the guests are not told of, and answer with the guest's real time and CPU numbers.

// Functions of vdso_amd64.s.
const (
	vdsoGettime = iota
	vdsoTimeOfDay
	vdsoSeconds
	vdsoGetres
	vdsoCPU
	numVDSOFuncs

	vdsoFuncSize = 256
	vdsoText     = 0x800 // where the functions begin in the image
)

// The clock page, which vdso_amd64.s knows too.
const (
	clockOffset  = 0
	clockGettime = 8
	clockGetres  = 16
	clockGetcpu  = 24
	clockOurs    = 32
	clockCPUs    = 64
	clockMaxCPU  = pageSize - clockCPUs
)

// vdsoSymbols are the names by which programs find the functions (vdso(7)).
var vdsoSymbols = [numVDSOFuncs]string{"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_clock_getres", "__vdso_getcpu"}

// hostVDSO finds the functions of the host's vDSO: addresses relative to its beginning, by name.
func hostVDSO() map[string]uint64 {
	maps, err := readMaps(os.Getpid())
	if err != nil {
		return nil
	}
	for _, a := range maps {
		if a.name != "[vdso]" {
			continue
		}
		f, err := os.Open("/proc/self/mem")
		if err != nil {
			return nil
		}
		defer f.Close()
		image := make([]byte, a.end-a.start)
		if _, err := f.ReadAt(image, int64(a.start)); err != nil {
			return nil
		}
		e, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return nil
		}
		list, err := e.DynamicSymbols()
		if err != nil {
			return nil
		}
		found := map[string]uint64{}
		for _, s := range list {
			found[s.Name] = s.Value
		}
		return found
	}
	return nil
}

// hostReadsClock reports whether the host's vDSO can read the clock by itself. Where it makes system calls, they would be
// answered by the guest kernel, with its offset, and ours would come on top.
func hostReadsClock() bool {
	b, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	name := strings.TrimSpace(string(b))
	return err == nil && (name == "tsc" || name == "kvm-clock" || strings.HasPrefix(name, "hyperv"))
}

// clockPage is the data of the vDSO; host are its functions' offsets. It is nil if there can be no vDSO.
func (p *Platform) clockPage() []byte {
	host := hostVDSO()
	for _, name := range []string{vdsoSymbols[vdsoGettime], vdsoSymbols[vdsoGetres], vdsoSymbols[vdsoCPU]} {
		if host[name] == 0 {
			return nil
		}
	}
	if !hostReadsClock() || p.vdsoBase() == 0 {
		return nil
	}
	page := make([]byte, pageSize)
	le := binary.LittleEndian
	le.PutUint64(page[clockGettime:], p.vdsoBase()+host[vdsoSymbols[vdsoGettime]])
	le.PutUint64(page[clockGetres:], p.vdsoBase()+host[vdsoSymbols[vdsoGetres]])
	le.PutUint64(page[clockGetcpu:], p.vdsoBase()+host[vdsoSymbols[vdsoCPU]])
	le.PutUint64(page[clockOurs:], stubImage+vdsoText+vdsoGettime*vdsoFuncSize)
	p.putCPUs(page)
	return page
}

// putCPUs puts the guest's number of each host CPU into the clock page. A guest that is on a CPU of the host that it does not
// know, as others have moved it there, is on 0: a number beyond its own would have programs look beyond the end of tables.
func (p *Platform) putCPUs(page []byte) {
	for guest, cpu := range p.cpus {
		if cpu < clockMaxCPU {
			page[clockCPUs+cpu] = byte(guest % p.cfg.NCPU)
		}
	}
}

// vdsoBase is where the host's vDSO is in all stubs, 0 if it could not be moved there.
func (p *Platform) vdsoBase() uint64 {
	for _, s := range p.shards {
		if s.fam.vdso == 0 || s.fam.vdso != p.shards[0].fam.vdso {
			return 0
		}
	}
	return p.shards[0].fam.vdso
}

// SetClockOffset implements platform.Platform.
func (p *Platform) SetClockOffset(ns int64) {
	p.offset.Store(ns)
	setOffset(p.ops[stubClock-stubOps:], ns)
}

// vdsoImage makes the image: one page with everything that a dynamic linker looks at (elf(5)), all addresses relative to
// its beginning.
func vdsoImage() []byte {
	const (
		dynAt, symAt, hashAt, versymAt, verdefAt, strAt = 0x100, 0x200, 0x2c0, 0x300, 0x320, 0x380

		ehdr, phdr, symSize, dynSize = 64, 56, 24, 16
		numSyms                      = 1 + numVDSOFuncs
	)
	le := binary.LittleEndian
	b := make([]byte, pageSize)

	// Strings.
	str := []byte{0}
	add := func(s string) uint32 {
		at := uint32(len(str))
		str = append(append(str, s...), 0)
		return at
	}
	soname, version := "linux-vdso.so.1", "LINUX_2.6"
	sonameStr, versionStr := add(soname), add(version)

	// Symbols: global functions of section 1, which there is none of, all of the one version.
	for i, name := range vdsoSymbols {
		s := b[symAt+(i+1)*symSize:]
		le.PutUint32(s, add(name))
		s[4] = byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC)
		le.PutUint16(s[6:], 1)
		le.PutUint64(s[8:], uint64(vdsoText+i*vdsoFuncSize))
		le.PutUint64(s[16:], vdsoFuncSize)
		le.PutUint16(b[versymAt+2*(i+1):], 2)
		copy(b[vdsoText+i*vdsoFuncSize:], vdsoCode(i))
	}
	copy(b[strAt:], str)

	// A hash table of one bucket whose chain is all symbols.
	hash := []uint32{1, numSyms, 1, 0}
	for i := 1; i < numSyms; i++ {
		hash = append(hash, uint32(i+1)%numSyms)
	}
	for i, v := range hash {
		le.PutUint32(b[hashAt+4*i:], v)
	}

	// Version definitions: the file itself, and the version.
	const defSize, auxSize = 20, 8
	for i, v := range []struct {
		flags uint16
		name  string
		str   uint32
	}{{1 /* VER_FLG_BASE */, soname, sonameStr}, {0, version, versionStr}} {
		d := b[verdefAt+i*(defSize+auxSize):]
		le.PutUint16(d, 1)
		le.PutUint16(d[2:], v.flags)
		le.PutUint16(d[4:], uint16(i+1))
		le.PutUint16(d[6:], 1)
		le.PutUint32(d[8:], elfHash(v.name))
		le.PutUint32(d[12:], defSize)
		if i == 0 {
			le.PutUint32(d[16:], defSize+auxSize)
		}
		le.PutUint32(d[defSize:], v.str)
	}

	dyn := [][2]uint64{
		{uint64(elf.DT_SONAME), uint64(sonameStr)}, {uint64(elf.DT_HASH), hashAt}, {uint64(elf.DT_SYMTAB), symAt},
		{uint64(elf.DT_SYMENT), symSize}, {uint64(elf.DT_STRTAB), strAt}, {uint64(elf.DT_STRSZ), uint64(len(str))},
		{uint64(elf.DT_VERSYM), versymAt}, {uint64(elf.DT_VERDEF), verdefAt}, {uint64(elf.DT_VERDEFNUM), 2}, {},
	}
	for i, d := range dyn {
		le.PutUint64(b[dynAt+i*dynSize:], d[0])
		le.PutUint64(b[dynAt+i*dynSize+8:], d[1])
	}

	// ELF header and two program headers.
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], ehdr)
	le.PutUint16(b[52:], ehdr)
	le.PutUint16(b[54:], phdr)
	le.PutUint16(b[56:], 2)
	for i, h := range []struct {
		typ         elf.ProgType
		flags       elf.ProgFlag
		at, n, size uint64
	}{{elf.PT_LOAD, elf.PF_R | elf.PF_X, 0, pageSize, pageSize}, {elf.PT_DYNAMIC, elf.PF_R, dynAt, uint64(len(dyn) * dynSize), 8}} {
		q := b[ehdr+i*phdr:]
		le.PutUint32(q, uint32(h.typ))
		le.PutUint32(q[4:], uint32(h.flags))
		le.PutUint64(q[8:], h.at)
		le.PutUint64(q[16:], h.at)
		le.PutUint64(q[24:], h.at)
		le.PutUint64(q[32:], h.n)
		le.PutUint64(q[40:], h.n)
		le.PutUint64(q[48:], h.size)
	}
	return b
}

// elfHash is the hash function of elf(5).
func elfHash(s string) (h uint32) {
	for i := range len(s) {
		h = h<<4 + uint32(s[i])
		if g := h & 0xf0000000; g != 0 {
			h ^= g >> 24
			h &^= g
		}
	}
	return h
}

// mapImage maps the image into the keeper that is being made.
func (f *family) mapImage(in *injector) error {
	const anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE
	if _, err := in.call(unix.SYS_MMAP, stubImage, pageSize, unix.PROT_READ|unix.PROT_WRITE, anon, ^uint64(0), 0); err != nil {
		return err
	}
	if err := in.poke(stubImage, vdsoImage()); err != nil {
		return err
	}
	_, err := in.call(unix.SYS_MPROTECT, stubImage, pageSize, unix.PROT_READ|unix.PROT_EXEC)
	return err
}
