package seccomp

import "golang.org/x/sys/unix"

// Instructions of classic BPF (linux/bpf_common.h), as far as seccomp(2) permits them.
const (
	ldAbs = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ldLen = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN
	ldImm = unix.BPF_LD | unix.BPF_IMM
	ldMem = unix.BPF_LD | unix.BPF_MEM

	ldxLen = unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN
	ldxImm = unix.BPF_LDX | unix.BPF_IMM
	ldxMem = unix.BPF_LDX | unix.BPF_MEM

	st  = unix.BPF_ST
	stx = unix.BPF_STX

	retK = unix.BPF_RET | unix.BPF_K
	retA = unix.BPF_RET | unix.BPF_A

	tax = unix.BPF_MISC | unix.BPF_TAX
	txa = unix.BPF_MISC | unix.BPF_TXA

	ja  = unix.BPF_JMP | unix.BPF_JA
	neg = unix.BPF_ALU | unix.BPF_NEG
)

const (
	classMask = 0x07
	opMask    = 0xf0
	srcX      = unix.BPF_X
)

// check is what the kernel demands of a program: known instructions, jumps forward inside the program, a return at the
// end, aligned loads from the data, and memory words that are written before they are read.
func check(prog []unix.SockFilter) error {
	n := len(prog)
	if n == 0 || n > MaxInsns {
		return unix.EINVAL
	}
	if c := prog[n-1].Code; c != retK && c != retA {
		return unix.EINVAL
	}
	// written has the memory words that are set on every way to an instruction.
	written := make([]uint16, n)
	for i := range written {
		written[i] = 0xffff
	}
	known := uint16(0)
	for i := range prog {
		in := &prog[i]
		known &= written[i]
		ok := true
		switch in.Code {
		case ldAbs:
			ok = in.K < dataSize && in.K%4 == 0
		case ldMem, ldxMem:
			ok = in.K < memWords && known>>in.K&1 != 0
		case st, stx:
			if ok = in.K < memWords; ok {
				known |= 1 << in.K
			}
		case ldLen, ldxLen, ldImm, ldxImm, tax, txa, neg:
		case retK, retA:
			known = 0xffff
		case ja:
			if ok = uint64(in.K) < uint64(n-i-1); ok {
				written[i+1+int(in.K)] &= known
				known = 0xffff
			}
		default:
			switch {
			case in.Code&classMask == unix.BPF_ALU:
				ok = aluAllowed(in)
			case in.Code&classMask == unix.BPF_JMP:
				ok = jumpAllowed(in) && i+1+int(in.Jt) < n && i+1+int(in.Jf) < n
				if ok {
					written[i+1+int(in.Jt)] &= known
					written[i+1+int(in.Jf)] &= known
					known = 0xffff
				}
			default:
				ok = false
			}
		}
		if !ok {
			return unix.EINVAL
		}
	}
	return nil
}

func aluAllowed(in *unix.SockFilter) bool {
	if in.Code&^(classMask|opMask|srcX) != 0 {
		return false
	}
	immediate := in.Code&srcX == 0
	switch in.Code & opMask {
	case unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_AND, unix.BPF_OR, unix.BPF_XOR:
		return true
	case unix.BPF_DIV:
		return !immediate || in.K != 0
	case unix.BPF_LSH, unix.BPF_RSH:
		return !immediate || in.K < 32
	}
	return false
}

func jumpAllowed(in *unix.SockFilter) bool {
	if in.Code&^(classMask|opMask|srcX) != 0 {
		return false
	}
	switch in.Code & opMask {
	case unix.BPF_JEQ, unix.BPF_JGT, unix.BPF_JGE, unix.BPF_JSET:
		return true
	}
	return false
}

// run interprets a checked program.
func run(prog []unix.SockFilter, d *Data) uint32 {
	var a, x uint32
	var mem [memWords]uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		switch in.Code {
		case ldAbs:
			a = d.word(in.K)
			continue
		case ldLen:
			a = dataSize
			continue
		case ldxLen:
			x = dataSize
			continue
		case ldImm:
			a = in.K
			continue
		case ldxImm:
			x = in.K
			continue
		case ldMem:
			a = mem[in.K]
			continue
		case ldxMem:
			x = mem[in.K]
			continue
		case st:
			mem[in.K] = a
			continue
		case stx:
			mem[in.K] = x
			continue
		case tax:
			x = a
			continue
		case txa:
			a = x
			continue
		case neg:
			a = -a
			continue
		case ja:
			pc += int(in.K)
			continue
		case retK:
			return in.K
		case retA:
			return a
		}
		v := in.K
		if in.Code&srcX != 0 {
			v = x
		}
		if in.Code&classMask == unix.BPF_JMP {
			pc += jump(in, a, v)
			continue
		}
		if in.Code&opMask == unix.BPF_DIV && v == 0 {
			return 0 // division by zero ends a program with this
		}
		a = alu(in.Code&opMask, a, v)
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}

func alu(op uint16, a, v uint32) uint32 {
	switch op {
	case unix.BPF_ADD:
		return a + v
	case unix.BPF_SUB:
		return a - v
	case unix.BPF_MUL:
		return a * v
	case unix.BPF_DIV:
		return a / v
	case unix.BPF_AND:
		return a & v
	case unix.BPF_OR:
		return a | v
	case unix.BPF_XOR:
		return a ^ v
	case unix.BPF_LSH:
		return a << (v & 31)
	}
	return a >> (v & 31) // BPF_RSH
}

// jump is how many instructions a conditional jump leaves out.
func jump(in *unix.SockFilter, a, v uint32) int {
	taken := false
	switch in.Code & opMask {
	case unix.BPF_JEQ:
		taken = a == v
	case unix.BPF_JGT:
		taken = a > v
	case unix.BPF_JGE:
		taken = a >= v
	case unix.BPF_JSET:
		taken = a&v != 0
	}
	if taken {
		return int(in.Jt)
	}
	return int(in.Jf)
}

// alwaysAllows reports whether a program allows a call whatever its arguments. It follows only what decides by the number,
// which is enough for the programs that libraries make.
func alwaysAllows(prog []unix.SockFilter, nr int32) bool {
	d := Data{Nr: nr}
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		switch {
		case in.Code == ldAbs && (in.K == dataNr || in.K == dataArch):
			a = d.word(in.K)
		case in.Code == unix.BPF_ALU|unix.BPF_AND|unix.BPF_K:
			a &= in.K
		case in.Code == ja:
			pc += int(in.K)
		case in.Code&classMask == unix.BPF_JMP && in.Code&srcX == 0:
			pc += jump(in, a, in.K)
		default:
			return in.Code == retK && in.K&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ALLOW
		}
	}
	return false
}

// exact reports whether an instruction may look at the instruction pointer or ask for a tracer.
func exact(in *unix.SockFilter) bool {
	switch in.Code {
	case ldAbs:
		return in.K >= dataIP && in.K < dataArgs
	case retA:
		return true
	case retK:
		return in.K&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_TRACE
	}
	return false
}
