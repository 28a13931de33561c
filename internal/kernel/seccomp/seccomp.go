// Package seccomp judges system calls by the filters that guest programs install with seccomp(2): it checks and interprets
// classic BPF programs. It carries nothing out; package task does.
//
// A Filter is immutable and may be shared by threads. Filters form chains: each thread has its newest, which knows those
// that were installed before it, by the thread or its ancestors.
package seccomp

import (
	"golang.org/x/sys/unix"
)

// Limits of linux/filter.h and kernel/seccomp.c's interface.
const (
	MaxInsns = 4096  // BPF_MAXINSNS
	maxPath  = 32768 // MAX_INSNS_PER_PATH
	overhead = 4     // what a program of the chain counts besides its instructions
	memWords = 16    // BPF_MEMWORDS
)

// dataSize is the size of struct seccomp_data: nr, arch, instruction pointer, six arguments.
const dataSize = 64

const (
	dataNr   = 0
	dataArch = 4
	dataIP   = 8
	dataArgs = 16
)

// Data is what a filter sees of a call.
type Data struct {
	Nr   int32
	IP   uint64 // after the instruction
	Args [6]uint64
}

// word is the aligned 32-bit word at an offset of struct seccomp_data.
func (d *Data) word(off uint32) uint32 {
	v := d.IP
	switch {
	case off == dataNr:
		return uint32(d.Nr)
	case off == dataArch:
		return unix.AUDIT_ARCH_X86_64
	case off >= dataArgs:
		v = d.Args[(off-dataArgs)/8]
	}
	return uint32(v >> (8 * (off % 8)))
}

// knownCalls bounds the numbers that Filter.allowed knows.
const knownCalls = 512

// Filter is the newest program of a chain.
type Filter struct {
	prev  *Filter
	prog  []unix.SockFilter
	count int // programs in the chain
	total int // instructions in the chain, with overhead

	allowed [knownCalls / 64]uint64 // calls that the whole chain allows whatever their arguments
	exact   bool                    // see Exact
	log     bool
}

// New checks a program and puts it on top of a chain (nil for none). log asks for all actions but ALLOW to be logged.
func New(prev *Filter, prog []unix.SockFilter, log bool) (*Filter, error) {
	if err := check(prog); err != nil {
		return nil, err
	}
	f := &Filter{prev: prev, prog: prog, count: 1, total: len(prog), log: log}
	if prev != nil {
		f.count += prev.count
		f.total += prev.total + overhead
		f.exact = prev.exact
	}
	if f.total > maxPath {
		return nil, unix.ENOMEM
	}
	for nr := range int32(knownCalls) {
		if (prev == nil || prev.allows(nr)) && alwaysAllows(prog, nr) {
			f.allowed[nr/64] |= 1 << (nr % 64)
		}
	}
	for i := range prog {
		f.exact = f.exact || exact(&prog[i])
	}
	return f, nil
}

// Count is the number of programs in the chain.
func (f *Filter) Count() int {
	if f == nil {
		return 0
	}
	return f.count
}

// Exact reports whether the chain may look at the instruction pointer, or hand calls to a tracer: then the thread must be
// held when it is judged.
func (f *Filter) Exact() bool { return f.exact }

// Includes reports whether the chain is o or was built on it (nil is every chain's root).
func (f *Filter) Includes(o *Filter) bool {
	for ; f != nil; f = f.prev {
		if f == o {
			return true
		}
	}
	return o == nil
}

// allows reports whether a call is allowed whatever its arguments.
func (f *Filter) allows(nr int32) bool {
	return uint32(nr) < knownCalls && f.allowed[nr/64]>>(nr%64)&1 != 0
}

// AllowsAll reports whether all of some calls are allowed whatever their arguments.
func (f *Filter) AllowsAll(calls []int32) bool {
	for _, nr := range calls {
		if !f.allows(nr) {
			return false
		}
	}
	return true
}

// Judge runs all programs. The action with the highest precedence wins; of equal ones that of the newest program.
func (f *Filter) Judge(d *Data) (action, data uint32, log bool) {
	if f.allows(d.Nr) {
		return unix.SECCOMP_RET_ALLOW, 0, false
	}
	ret := uint32(unix.SECCOMP_RET_ALLOW)
	for ; f != nil; f = f.prev {
		r := run(f.prog, d)
		if int32(r&unix.SECCOMP_RET_ACTION_FULL) < int32(ret&unix.SECCOMP_RET_ACTION_FULL) {
			ret, log = r, f.log
		}
	}
	return ret & unix.SECCOMP_RET_ACTION_FULL, ret & unix.SECCOMP_RET_DATA, log
}

// Known reports whether an action is one of seccomp(2)'s that can be returned here (SECCOMP_GET_ACTION_AVAIL).
func Known(action uint32) bool {
	switch action {
	case unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO,
		unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_ALLOW:
		return true
	}
	return false
}
