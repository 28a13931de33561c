package loader

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
)

// Sizes and values of elf(5).
const (
	ehdrSize    = 64
	phdrSize    = 56
	maxPhdrs    = 64 << 10 // bytes
	etExec      = 2
	etDyn       = 3
	emX8664     = 62
	ptLoad      = 1
	ptInterp    = 3
	ptPhdr      = 6
	ptGNUStack  = 0x6474e551
	pfX         = 1
	pfW         = 2
	pfR         = 4
	pathMax     = 4096
	headSize    = 4096 // what is read of a file first
	maxMappings = 65530
)

// segment is a PT_LOAD entry.
type segment struct {
	flags                uint32
	off, vaddr           uint64
	filesz, memsz, align uint64
}

// elf is what the loader needs of an ELF file.
type elf struct {
	typ        uint16
	entry      uint64
	phoff      uint64
	phnum      int
	phdr       uint64 // address of the program header in memory, before the bias; 0 if it is not mapped
	interp     string
	execStack  bool
	segs       []segment
	start, end uint64 // pages of all segments, before the bias
	align      uint64
}

// reader reads exactly len(p) bytes of the file at off.
type reader func(p []byte, off uint64) error

func isELF(head []byte) bool { return len(head) >= 4 && string(head[:4]) == "\x7fELF" }

// parseELF reads the headers of a file of size bytes; head is its beginning. userMax bounds addresses.
func parseELF(head []byte, size, userMax uint64, read reader) (*elf, error) {
	if len(head) < ehdrSize || !isELF(head) {
		return nil, unix.ENOEXEC
	}
	le := binary.LittleEndian
	e := &elf{typ: le.Uint16(head[16:]), entry: le.Uint64(head[24:]), phoff: le.Uint64(head[32:]), phnum: int(le.Uint16(head[56:]))}
	const class64, lsb = 2, 1
	if head[4] != class64 || head[5] != lsb || e.typ != etExec && e.typ != etDyn || le.Uint16(head[18:]) != emX8664 ||
		le.Uint16(head[54:]) != phdrSize {
		return nil, unix.ENOEXEC
	}
	n := uint64(e.phnum) * phdrSize
	if n == 0 || n > maxPhdrs || e.phoff > size || n > size-e.phoff {
		return nil, unix.ENOEXEC
	}
	var ph []byte
	if e.phoff+n <= uint64(len(head)) {
		ph = head[e.phoff : e.phoff+n]
	} else {
		ph = make([]byte, n)
		if err := read(ph, e.phoff); err != nil {
			return nil, err
		}
	}
	for ; len(ph) > 0; ph = ph[phdrSize:] {
		s := segment{flags: le.Uint32(ph[4:]), off: le.Uint64(ph[8:]), vaddr: le.Uint64(ph[16:]),
			filesz: le.Uint64(ph[32:]), memsz: le.Uint64(ph[40:]), align: le.Uint64(ph[48:])}
		var err error
		switch le.Uint32(ph) {
		case ptLoad:
			err = e.addSegment(s, userMax)
		case ptInterp:
			if e.interp == "" {
				e.interp, err = readInterp(head, s, size, read)
			}
		case ptGNUStack:
			e.execStack = s.flags&pfX != 0
		}
		if err != nil {
			return nil, err
		}
	}
	if len(e.segs) == 0 || e.entry >= userMax {
		return nil, unix.ENOEXEC
	}
	for _, s := range e.segs {
		if s.off <= e.phoff && e.phoff-s.off < s.filesz {
			e.phdr = e.phoff - s.off + s.vaddr
			break
		}
	}
	return e, nil
}

// addSegment checks and adds a PT_LOAD entry. The file may end inside it: what is missing gives SIGBUS when it is used.
func (e *elf) addSegment(s segment, userMax uint64) error {
	if s.memsz == 0 {
		return nil
	}
	switch {
	case s.filesz > s.memsz || s.off > math.MaxInt64/2:
		return unix.ENOEXEC
	case s.memsz > userMax || s.vaddr > userMax-s.memsz:
		return unix.ENOMEM
	case s.filesz > 0 && (s.vaddr-s.off)%abi.PageSize != 0:
		return unix.ENOEXEC
	}
	lo, hi := abi.PageDown(s.vaddr), abi.PageUp(s.vaddr+s.memsz)
	if hi > userMax {
		return unix.ENOMEM
	}
	if len(e.segs) == 0 {
		e.start, e.end = lo, hi
	}
	e.start, e.end = min(e.start, lo), max(e.end, hi)
	if s.align&(s.align-1) == 0 {
		e.align = max(e.align, s.align)
	}
	e.segs = append(e.segs, s)
	return nil
}

// readInterp reads the path in PT_INTERP.
func readInterp(head []byte, s segment, size uint64, read reader) (string, error) {
	if s.filesz < 2 || s.filesz > pathMax {
		return "", unix.ENOEXEC
	}
	if s.off > size || s.filesz > size-s.off {
		return "", unix.EIO
	}
	p := make([]byte, s.filesz)
	if s.off+s.filesz <= uint64(len(head)) {
		copy(p, head[s.off:])
	} else if err := read(p, s.off); err != nil {
		return "", err
	}
	if p[len(p)-1] != 0 {
		return "", unix.ENOEXEC
	}
	for i, c := range p {
		if c == 0 {
			return string(p[:i]), nil
		}
	}
	return "", unix.ENOEXEC
}

// prot is the segment's protection.
func (s *segment) prot() (p uint32) {
	if s.flags&pfR != 0 {
		p |= unix.PROT_READ
	}
	if s.flags&pfW != 0 {
		p |= unix.PROT_WRITE
	}
	if s.flags&pfX != 0 {
		p |= unix.PROT_EXEC
	}
	return p
}
