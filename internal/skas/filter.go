package skas

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// Offsets in struct seccomp_data.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

const (
	auditArchX86_64 = 0xc000003e
	x32Bit          = 0x40000000

	retAllow  = unix.SECCOMP_RET_ALLOW
	retTrace  = unix.SECCOMP_RET_TRACE
	retNotify = unix.SECCOMP_RET_USER_NOTIF
	retENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// bpf builds a classic BPF program. Jumps to a label are patched when the label is placed.
type bpf struct {
	prog []unix.SockFilter
	open map[int][]jump // label -> jumps waiting for it
}

type jump struct {
	at   int
	onNo bool
}

func (b *bpf) emit(code uint16, k uint32) {
	b.prog = append(b.prog, unix.SockFilter{Code: code, K: k})
}

func (b *bpf) load(off uint32) { b.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, off) }
func (b *bpf) ret(v uint32)    { b.emit(unix.BPF_RET|unix.BPF_K, v) }
func (b *bpf) and(k uint32)    { b.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, k) }

// unless jumps to label if the comparison op of A with k is false, when if it is true.
func (b *bpf) unless(op uint16, k uint32, label int) { b.jump(op, k, label, true) }
func (b *bpf) when(op uint16, k uint32, label int)   { b.jump(op, k, label, false) }

func (b *bpf) jump(op uint16, k uint32, label int, onNo bool) {
	if b.open == nil {
		b.open = map[int][]jump{}
	}
	b.open[label] = append(b.open[label], jump{len(b.prog), onNo})
	b.emit(unix.BPF_JMP|op|unix.BPF_K, k)
}

// label is where the jumps to n lead. Labels may be used again afterwards.
func (b *bpf) label(n int) {
	for _, j := range b.open[n] {
		d := len(b.prog) - j.at - 1
		if d > 255 {
			panic("skas: filter jump too long")
		}
		if j.onNo {
			b.prog[j.at].Jf = uint8(d)
		} else {
			b.prog[j.at].Jt = uint8(d)
		}
	}
	delete(b.open, n)
}

func argLow(n int) uint32  { return dataArgs + uint32(n)*8 }
func argHigh(n int) uint32 { return dataArgs + uint32(n)*8 + 4 }

// Labels inside the block of one call.
const (
	next     = iota // the number is another one
	allow           // native
	fallback        // not native: by trace or notify, as the table says
	notify          // an injected file mapping (mapops.go)
	timed           // a futex wait until a time of CLOCK_REALTIME (futex.go)
	plain           // another futex call
)

// rules are the argument checks of the native lane: each ends in a jump to allow or falls through to fallback. A call
// without a rule here is never native.
//
// Pointers and lengths are compared as a whole, codes that the host reads as 32 bits by their low half only.
var rules = map[int32]func(b *bpf){
	unix.SYS_SCHED_YIELD:     allowAlways,
	unix.SYS_RESTART_SYSCALL: allowAlways, // only futex leaves something to restart in the host
	unix.SYS_FUTEX:           futexRule,
	// These know no owners. What the host reads of memory, it reads of the caller's.
	sysFutexWaitv:       allowAlways,
	sysFutexWake:        allowAlways,
	sysFutexWait:        allowAlways,
	sysFutexRequeue:     allowAlways,
	unix.SYS_ARCH_PRCTL: func(b *bpf) { oneOf(b, 0, 0x1001, 0x1002, 0x1003, 0x1004) }, // SET/GET of FS and GS
	unix.SYS_MEMBARRIER: func(b *bpf) {
		b.load(argLow(1))
		b.unless(unix.BPF_JEQ, 0, fallback)
		oneOf(b, 0, 8, 16) // PRIVATE_EXPEDITED and its REGISTER
	},
	unix.SYS_MUNMAP: func(b *bpf) { guestRange(b); allowAlways(b) },
	unix.SYS_MPROTECT: func(b *bpf) {
		guestRange(b)
		plainProt(b)
		allowAlways(b)
	},
	unix.SYS_MADVISE: func(b *bpf) {
		guestRange(b)
		oneOf(b, 2, unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_SEQUENTIAL, unix.MADV_WILLNEED, unix.MADV_DONTNEED,
			unix.MADV_FREE, unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
			unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_COLD,
			unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE)
	},
	unix.SYS_MMAP: mmapRule,
	// The heap grows as far as an address below userMax; only the kernel says where it begins (Platform.HostBrk).
	unix.SYS_BRK: func(b *bpf) {
		b.load(argHigh(0))
		b.when(unix.BPF_JGE, userMax>>32, fallback)
		allowAlways(b)
	},
}

func allowAlways(b *bpf) { b.when(unix.BPF_JGE, 0, allow) }

// oneOf allows exact values of the low half of an argument.
func oneOf(b *bpf, arg int, values ...uint32) {
	b.load(argLow(arg))
	for _, v := range values {
		b.when(unix.BPF_JEQ, v, allow)
	}
}

// futexRule allows the operations that compare no thread ids. Those that wait for a time of CLOCK_REALTIME, which the guest
// can set, are allowed by the tracer.
func futexRule(b *bpf) {
	b.load(argLow(1))
	b.and(^uint32(futexPrivate))
	b.unless(unix.BPF_JEQ, futexWaitBitset|futexRealtime, plain)
	b.load(argLow(3))
	b.unless(unix.BPF_JEQ, 0, timed)
	b.load(argHigh(3))
	b.when(unix.BPF_JEQ, 0, allow)
	b.label(timed)
	b.ret(retTrace)
	b.label(plain)
	b.load(argLow(1))
	b.and(^uint32(128 | 256))                           // FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
	for _, op := range []uint32{0, 1, 3, 4, 5, 9, 10} { // WAIT WAKE REQUEUE CMP_REQUEUE WAKE_OP WAIT_BITSET WAKE_BITSET
		b.when(unix.BPF_JEQ, op, allow)
	}
}

// guestRange checks that arguments 0 and 1 are an address below userMax and a length below 4 GiB.
func guestRange(b *bpf) {
	b.load(argHigh(0))
	b.when(unix.BPF_JGE, userMax>>32, fallback)
	b.load(argHigh(1))
	b.unless(unix.BPF_JEQ, 0, fallback)
}

// plainProt checks that argument 2 is made of PROT_READ, PROT_WRITE and PROT_EXEC only.
func plainProt(b *bpf) {
	b.load(argHigh(2))
	b.unless(unix.BPF_JEQ, 0, fallback)
	b.load(argLow(2))
	b.when(unix.BPF_JGT, 7, fallback)
}

func mmapRule(b *bpf) {
	b.load(argHigh(4))
	b.when(unix.BPF_JEQ, mapCookie, notify)
	guestRange(b)
	plainProt(b)
	b.load(argHigh(3))
	b.unless(unix.BPF_JEQ, 0, fallback)
	b.load(argLow(3))
	b.and(^uint32(unix.MAP_NORESERVE | unix.MAP_STACK | unix.MAP_FIXED | unix.MAP_FIXED_NOREPLACE))
	b.when(unix.BPF_JEQ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, allow)
}

// forced are calls that must have registers or be rewritten, whatever the table says.
var forced = map[int32]bool{
	unix.SYS_CLONE: true, unix.SYS_CLONE3: true, unix.SYS_FORK: true, unix.SYS_VFORK: true, unix.SYS_RT_SIGRETURN: true,
}

// buildFilter makes the filter program of a platform from the lane table. A call that the table does not name goes to
// the notify lane.
func buildFilter(lanes *[512]platform.Lane, hostBrk bool) []unix.SockFilter {
	b := new(bpf)
	b.load(dataArch)
	b.prog = append(b.prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArchX86_64, Jt: 1})
	b.ret(unix.SECCOMP_RET_TRAP)
	b.load(dataNr)
	// -1 is no call: the host answers ENOSYS, or what was put into rax when a watcher refused the call.
	b.prog = append(b.prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0xffffffff, Jf: 1})
	b.ret(retAllow)
	b.prog = append(b.prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: x32Bit, Jf: 1})
	b.ret(retENOSYS)
	for nr := range int32(len(lanes)) {
		lane := lanes[nr]
		if forced[nr] || nr == unix.SYS_BRK && !hostBrk {
			lane = platform.Trace
		}
		rule := rules[nr]
		other := uint32(retNotify)
		// The zygote unmaps its scratch memory behind the filter, when nobody receives notifications yet.
		if lane == platform.Native || lane == platform.Trace || nr == unix.SYS_MUNMAP {
			other = retTrace
		}
		native := (lane == platform.Native || lane == platform.NativeNotify) && rule != nil
		if !native && other == retNotify && nr != unix.SYS_MMAP {
			continue
		}
		b.unless(unix.BPF_JEQ, uint32(nr), next)
		switch {
		case native:
			rule(b)
		case nr == unix.SYS_MMAP:
			b.load(argHigh(4))
			b.when(unix.BPF_JEQ, mapCookie, notify)
		}
		b.label(fallback)
		b.ret(other)
		if len(b.open[allow]) > 0 {
			b.label(allow)
			b.ret(retAllow)
		}
		if len(b.open[notify]) > 0 {
			b.label(notify)
			b.ret(retNotify)
		}
		b.label(next)
	}
	b.ret(retNotify)
	return b.prog
}
