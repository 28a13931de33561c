package skas

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// TestVDSOImage looks the functions up as a dynamic linker does.
func TestVDSOImage(t *testing.T) {
	b := vdsoImage()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	dyn := map[elf.DynTag]uint64{}
	for _, p := range f.Progs {
		if p.Off != p.Vaddr || p.Off+p.Filesz > uint64(len(b)) {
			t.Fatalf("%+v", p)
		}
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		for at := p.Off; at < p.Off+p.Filesz; at += 16 {
			dyn[elf.DynTag(le.Uint64(b[at:]))] = le.Uint64(b[at+8:])
		}
	}
	str := func(at uint32) string {
		s := b[dyn[elf.DT_STRTAB]:][:dyn[elf.DT_STRSZ]][at:]
		return string(s[:bytes.IndexByte(s, 0)])
	}
	if s := str(uint32(dyn[elf.DT_SONAME])); s != "linux-vdso.so.1" {
		t.Error(s)
	}
	// The definition of the version that the symbols have.
	def := b[dyn[elf.DT_VERDEF]:]
	def = def[le.Uint32(def[16:]):]
	aux := def[le.Uint32(def[12:]):]
	if v := str(le.Uint32(aux)); v != "LINUX_2.6" || le.Uint32(def[8:]) != elfHash(v) || elfHash(v) != 0x3ae75f6 {
		t.Errorf("version %q, hash %#x", v, le.Uint32(def[8:]))
	}
	hash := b[dyn[elf.DT_HASH]:]
	buckets, chains := le.Uint32(hash), le.Uint32(hash[4:])
	for i, name := range vdsoSymbols {
		n := le.Uint32(hash[8+4*(elfHash(name)%buckets):])
		for ; n != 0 && n < chains; n = le.Uint32(hash[8+4*(buckets+n):]) {
			if sym := b[dyn[elf.DT_SYMTAB]+uint64(n)*24:]; str(le.Uint32(sym)) == name {
				break
			}
		}
		if n == 0 || n >= chains {
			t.Errorf("%s is not found", name)
			continue
		}
		sym := b[dyn[elf.DT_SYMTAB]+uint64(n)*24:]
		if v := le.Uint16(b[dyn[elf.DT_VERSYM]+2*uint64(n):]); v != le.Uint16(def[4:]) {
			t.Errorf("%s has version %d", name, v)
		}
		if at := le.Uint64(sym[8:]); !bytes.Equal(b[at:][:32], vdsoCode(i)[:32]) {
			t.Errorf("%s is not at %#x", name, at)
		}
	}
}
