package coredump

import (
	"encoding/binary"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
)

// Sizes of struct elf_prstatus and elf_prpsinfo (sys/procfs.h), and of struct user_fpregs_struct.
const (
	prstatusSize = 336
	prpsinfoSize = 136
	fpregsSize   = 512

	fnameSize  = 16
	psargsSize = 80
)

// notes makes the notes in the order in which debuggers expect them: all of a thread follows its prstatus.
func (p *Process) notes(regions []Region) (b []byte) {
	for i := range p.Threads {
		t := &p.Threads[i]
		b = appendNote(b, "CORE", ntPrstatus, p.prstatus(t))
		if i == 0 {
			b = appendNote(b, "CORE", ntPrpsinfo, p.prpsinfo())
			info := p.Signal.Encode()
			b = appendNote(b, "CORE", ntSiginfo, info[:])
			b = appendNote(b, "CORE", ntAuxv, p.Auxv)
			b = appendNote(b, "CORE", ntFile, files(regions))
		}
		if len(t.FP) >= fpregsSize {
			b = appendNote(b, "CORE", ntPrfpreg, t.FP[:fpregsSize])
			b = appendNote(b, "LINUX", ntX86Xstate, t.FP)
		}
	}
	return b
}

func appendNote(b []byte, name string, typ uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(name)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	b = pad(append(append(b, name...), 0))
	return pad(append(b, desc...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func (p *Process) prstatus(t *Thread) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, prstatusSize)
	b = le.AppendUint32(b, uint32(p.Signal.Signo))
	b = le.AppendUint32(b, uint32(p.Signal.Code))
	b = le.AppendUint32(b, uint32(p.Signal.Errno))
	b = le.AppendUint32(b, uint32(uint16(p.Signal.Signo))) // pr_cursig, padded
	b = le.AppendUint64(b, t.Pending)
	b = le.AppendUint64(b, t.Blocked)
	for _, v := range []int32{t.TID, p.PPID, p.PGRP, p.SID} {
		b = le.AppendUint32(b, uint32(v))
	}
	for _, ns := range []int64{t.User, t.Sys, p.ChildUser, p.ChildSys} {
		b = le.AppendUint64(b, uint64(ns/1e9))
		b = le.AppendUint64(b, uint64(ns%1e9/1e3))
	}
	for _, w := range arch.RegWords(&t.Regs) {
		b = le.AppendUint64(b, *w)
	}
	fpvalid := uint64(0)
	if len(t.FP) >= fpregsSize {
		fpvalid = 1
	}
	return le.AppendUint64(b, fpvalid)
}

func (p *Process) prpsinfo() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, prpsinfoSize)
	b = append(b, 0, 'R', 0, byte(p.Nice), 0, 0, 0, 0)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, p.UID)
	b = le.AppendUint32(b, p.GID)
	for _, v := range []int32{p.PID, p.PPID, p.PGRP, p.SID} {
		b = le.AppendUint32(b, uint32(v))
	}
	b = append(b, fixed(p.Comm, fnameSize)...)
	return append(b, fixed(p.Args, psargsSize)...)
}

// fixed is a string in a field of n bytes, with a zero at the end.
func fixed(s string, n int) []byte {
	b := make([]byte, n)
	copy(b[:n-1], s)
	return b
}

// files is the note of mapped files: a table, then the names.
func files(regions []Region) []byte {
	le := binary.LittleEndian
	n := uint64(0)
	var table []byte
	var names strings.Builder
	for i := range regions {
		r := &regions[i]
		if r.File == "" {
			continue
		}
		n++
		table = le.AppendUint64(table, r.Start)
		table = le.AppendUint64(table, r.End)
		table = le.AppendUint64(table, r.Off/abi.PageSize)
		names.WriteString(r.File)
		names.WriteByte(0)
	}
	b := le.AppendUint64(nil, n)
	b = le.AppendUint64(b, abi.PageSize)
	return append(append(b, table...), names.String()...)
}
