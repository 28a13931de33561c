package skas

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// ptrace does not tell the error code of a page fault, and programs with write barriers (garbage collectors, emulators)
// need its write bit. So the instruction is decoded, as far as that takes: does it write to memory?

const maxInstruction = 15

// writes reports whether the instruction that faulted was writing to addr.
func (t *Thread) writes(addr uint64) bool {
	var code [maxInstruction]byte
	r := []uio.Range{{Addr: t.regs.Rip, Len: maxInstruction}}
	// Only what lies in the page that was just executed: it is there.
	r[0].Len = min(r[0].Len, pageSize-t.regs.Rip%pageSize)
	n, e := processVM(unix.SYS_PROCESS_VM_READV, t.tid, code[:r[0].Len], r)
	if e != 0 || n <= 0 {
		return false
	}
	switch kind := accessKind(code[:n]); kind {
	case accessWrite:
		return true
	case accessPush:
		return addr < t.regs.Rsp && t.regs.Rsp-addr <= 1<<16
	case accessMove:
		return addr-t.regs.Rdi < 16
	}
	return false
}

// How an instruction uses memory.
type access uint8

const (
	accessRead  access = iota // or not at all, or unknown
	accessWrite               // its operand in memory is written
	accessPush                // reads its operand and writes the stack
	accessMove                // movs: writes at rdi, reads at rsi
)

// opcodes is a set of opcodes.
type opcodes [4]uint64

func (o *opcodes) has(b byte) bool { return o[b>>6]&(1<<(b&63)) != 0 }

func opcodeSet(list ...byte) (o opcodes) {
	for _, b := range list {
		o[b>>6] |= 1 << (b & 63)
	}
	return o
}

var (
	// writeOne are opcodes of one byte that write their operand in memory, or [rdi]; writeTwo the same after 0f, writeVEX
	// in VEX's and EVEX's first map.
	writeOne = opcodeSet(0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19, 0x20, 0x21, 0x28, 0x29, 0x30, 0x31, 0x86, 0x87, 0x88, 0x89, 0x8c, 0x8f,
		0xa2, 0xa3, 0xaa, 0xab, 0x6c, 0x6d, 0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3, 0xc6, 0xc7, 0xfe)
	writeTwo = opcodeSet(0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7, 0xc3, 0xab, 0xb3, 0xbb, 0xa4, 0xa5, 0xac, 0xad, 0xb0, 0xb1, 0xc0, 0xc1, 0xc7,
		0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f)
	writeVEX = opcodeSet(0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7)
	// pushes write the stack.
	pushes = opcodeSet(0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x68, 0x6a, 0x9c, 0xc8, 0xe8)
	// stores of the x87 by opcode d8 to df: bits of the register field that write memory.
	storesX87 = [8]uint8{1: 1<<2 | 1<<3 | 1<<6 | 1<<7, 3: 1<<1 | 1<<2 | 1<<3 | 1<<7, 5: 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7, 7: 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7}
)

// accessKind decodes the opcode of an instruction in 64-bit mode.
func accessKind(c []byte) access {
	at := func(i int) byte {
		if i < len(c) {
			return c[i]
		}
		return 0
	}
	i, rep, size := 0, false, false
prefixes:
	for ; i < len(c); i++ {
		switch b := c[i]; {
		case b == 0x66:
			size = true
		case b == 0xf3:
			rep = true
		case b == 0xf2, b == 0xf0, b == 0x67, b == 0x2e, b == 0x36, b == 0x3e, b == 0x26, b == 0x64, b == 0x65:
		default:
			break prefixes
		}
	}
	if at(i)&0xf0 == 0x40 {
		i++
	}
	if i >= len(c) {
		return accessRead
	}
	op, reg := at(i), at(i+1)>>3&7
	switch {
	case op == 0xc5 || op == 0xc4 && at(i+1)&31 == 1 || op == 0x62 && at(i+1)&7 == 1:
		n := map[byte]int{0xc5: 2, 0xc4: 3, 0x62: 4}[op]
		pp := at(i+n-1) & 3
		if op == 0x62 {
			pp = at(i+2) & 3
		}
		return written(writeVEX.has(at(i+n)) || at(i+n) == 0x7e && pp == 1)
	case op == 0xc4 && at(i+1)&31 == 2:
		return written(at(i+3) == 0x2e || at(i+3) == 0x2f || at(i+3) == 0x8e)
	case op == 0x0f:
		op, reg = at(i+1), at(i+2)>>3&7
		switch op {
		case 0x7e:
			return written(!rep)
		case 0xba: // bt, bts, btr, btc
			return written(reg >= 5)
		case 0xae: // fxsave, stmxcsr, xsave, xsaveopt
			return written(bits.OnesCount8(1<<reg&(1<<0|1<<3|1<<4|1<<6)) == 1)
		}
		return written(writeTwo.has(op) && !(op == 0xd6 && !size && rep))
	case op == 0xa4 || op == 0xa5:
		return accessMove
	case op >= 0x80 && op <= 0x83: // all but cmp
		return written(reg != 7)
	case op >= 0xd8 && op <= 0xdf:
		return written(storesX87[op-0xd8]>>reg&1 != 0)
	case op == 0xf6 || op == 0xf7: // not, neg
		return written(reg == 2 || reg == 3)
	case op == 0xff:
		if reg < 2 {
			return accessWrite
		}
		return accessPush
	case pushes.has(op):
		return accessPush
	}
	return written(writeOne.has(op))
}

func written(yes bool) access {
	if yes {
		return accessWrite
	}
	return accessRead
}
