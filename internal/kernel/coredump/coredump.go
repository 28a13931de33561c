// Package coredump writes core files: the memory and registers of a process that a signal has ended, in the format that
// elf(5) and core(5) describe and debuggers read. It knows no tasks: package task fills in what a process is.
package coredump

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
)

// Types of notes (elf.h).
const (
	ntPrstatus  = 1
	ntPrfpreg   = 2
	ntPrpsinfo  = 3
	ntAuxv      = 6
	ntX86Xstate = 0x202
	ntSiginfo   = 0x53494749
	ntFile      = 0x46494c45
)

// Thread is what a core file tells about one thread.
type Thread struct {
	TID              int32
	Regs             arch.Regs
	FP               []byte // the XSAVE area; it begins with the FXSAVE area
	Pending, Blocked uint64
	User, Sys        int64 // CPU time in nanoseconds
}

// Process is what it tells about the process.
type Process struct {
	Signal               arch.Siginfo
	PID, PPID, PGRP, SID int32
	UID, GID             uint32
	Nice                 int8
	Comm, Args           string
	ChildUser, ChildSys  int64
	Auxv                 []byte
	Threads              []Thread // first the one that got the signal
	Regions              []Region
}

// Region is one mapping.
type Region struct {
	Start, End uint64
	Prot       uint32
	Dump       uint64 // how many bytes from Start on are in the file
	File       string // name, "" for none
	Off        uint64 // in the file
}

// Output takes the file from its beginning to its end.
type Output interface {
	Write(p []byte) error
	// Zero writes n zero bytes, or leaves a hole.
	Zero(n uint64) error
}

const (
	ehdrSize   = 64
	phdrSize   = 56
	maxRegions = 0xfffe // e_phnum has 16 bits, and the notes need one
)

// Write writes a core file. read copies memory of the process; what cannot be read is zero.
func Write(out Output, p *Process, read func(b []byte, addr uint64) (int, error)) error {
	regions := p.Regions[:min(len(p.Regions), maxRegions)]
	notes := p.notes(regions)
	head := make([]byte, 0, ehdrSize+phdrSize*(len(regions)+1))
	le := binary.LittleEndian
	head = append(head, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	head = le.AppendUint16(head, 4)  // ET_CORE
	head = le.AppendUint16(head, 62) // EM_X86_64
	head = le.AppendUint32(head, 1)
	head = le.AppendUint64(head, 0)
	head = le.AppendUint64(head, ehdrSize) // e_phoff
	head = le.AppendUint64(head, 0)
	head = le.AppendUint32(head, 0)
	for _, v := range []uint16{ehdrSize, phdrSize, uint16(len(regions) + 1), 0, 0, 0} {
		head = le.AppendUint16(head, v)
	}
	noteOff := uint64(cap(head))
	dataOff := abi.PageUp(noteOff + uint64(len(notes)))
	head = appendPhdr(head, 4, 0, noteOff, 0, uint64(len(notes)), 0, 4) // PT_NOTE
	off := dataOff
	for i := range regions {
		r := &regions[i]
		head = appendPhdr(head, 1, elfFlags(r.Prot), off, r.Start, r.Dump, r.End-r.Start, abi.PageSize) // PT_LOAD
		off += r.Dump
	}
	if err := out.Write(head); err != nil {
		return err
	}
	if err := out.Write(notes); err != nil {
		return err
	}
	if err := out.Zero(dataOff - noteOff - uint64(len(notes))); err != nil {
		return err
	}
	buf := make([]byte, 64*abi.PageSize)
	for i := range regions {
		if err := writeRegion(out, &regions[i], buf, read); err != nil {
			return err
		}
	}
	return nil
}

func appendPhdr(b []byte, typ, flags uint32, off, addr, filesz, memsz, align uint64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, typ)
	b = le.AppendUint32(b, flags)
	for _, v := range []uint64{off, addr, 0, filesz, memsz, align} {
		b = le.AppendUint64(b, v)
	}
	return b
}

// elfFlags are PF_R, PF_W and PF_X.
func elfFlags(prot uint32) (f uint32) {
	if prot&unix.PROT_READ != 0 {
		f |= 4
	}
	if prot&unix.PROT_WRITE != 0 {
		f |= 2
	}
	if prot&unix.PROT_EXEC != 0 {
		f |= 1
	}
	return f
}

// writeRegion copies memory, with holes where pages are zero.
func writeRegion(out Output, r *Region, buf []byte, read func([]byte, uint64) (int, error)) error {
	for at := uint64(0); at < r.Dump; {
		b := buf[:min(uint64(len(buf)), r.Dump-at)]
		n, err := read(b, r.Start+at)
		if err != nil && n < len(b) {
			// The page that cannot be read is left out.
			b = b[:min(uint64(len(b)), abi.PageDown(uint64(n))+abi.PageSize)]
			clear(b[abi.PageDown(uint64(n)):])
		}
		at += uint64(len(b))
		for len(b) > 0 {
			page := b[:min(len(b), abi.PageSize)]
			b = b[len(page):]
			var err error
			if allZero(page) {
				err = out.Zero(uint64(len(page)))
			} else {
				err = out.Write(page)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
