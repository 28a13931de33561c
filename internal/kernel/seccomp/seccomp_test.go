package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jmp(code uint16, k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | code, K: k, Jt: jt, Jf: jf}
}

func TestJudge(t *testing.T) {
	deny := func(nr, action uint32) []unix.SockFilter {
		return []unix.SockFilter{stmt(ldAbs, dataNr), jmp(unix.BPF_JEQ, nr, 0, 1), stmt(retK, action), stmt(retK, unix.SECCOMP_RET_ALLOW)}
	}
	var f *Filter
	for _, p := range [][]unix.SockFilter{
		deny(7, unix.SECCOMP_RET_ERRNO|1), deny(7, unix.SECCOMP_RET_ERRNO|2), deny(7, unix.SECCOMP_RET_LOG),
		deny(8, unix.SECCOMP_RET_KILL_THREAD), deny(8, unix.SECCOMP_RET_KILL_PROCESS), deny(8, unix.SECCOMP_RET_TRAP),
	} {
		var err error
		if f, err = New(f, p, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		nr           int32
		action, data uint32
	}{
		{7, unix.SECCOMP_RET_ERRNO, 2}, {8, unix.SECCOMP_RET_KILL_PROCESS, 0}, {9, unix.SECCOMP_RET_ALLOW, 0},
		{-1, unix.SECCOMP_RET_ALLOW, 0}, {1 << 30, unix.SECCOMP_RET_ALLOW, 0},
	} {
		if a, d, _ := f.Judge(&Data{Nr: c.nr}); a != c.action || d != c.data {
			t.Errorf("%d: %#x %d, want %#x %d", c.nr, a, d, c.action, c.data)
		}
	}
	if f.AllowsAll([]int32{1, 7}) || !f.AllowsAll([]int32{1, 9, 511}) || f.AllowsAll([]int32{512}) {
		t.Error("wrong set of calls that are always allowed")
	}
	if f.Exact() || f.Count() != 6 || !f.Includes(f.prev.prev) || !f.Includes(nil) || f.prev.Includes(f) {
		t.Error("wrong chain")
	}
	for f.total+4+overhead <= maxPath {
		f, _ = New(f, deny(1, 0), false)
	}
	if _, err := New(f, deny(1, 0), false); err != unix.ENOMEM {
		t.Errorf("chain too long: %v", err)
	}
}

func TestRun(t *testing.T) {
	d := &Data{Nr: 5, IP: 0x1122334455667788, Args: [6]uint64{5: 0xaabbccddeeff0011}}
	const alu, x = unix.BPF_ALU, unix.BPF_X
	for _, c := range []struct {
		want uint32
		prog []unix.SockFilter
	}{
		{unix.AUDIT_ARCH_X86_64, []unix.SockFilter{stmt(ldAbs, 4)}},
		{0x55667788, []unix.SockFilter{stmt(ldAbs, 8)}},
		{0x11223344, []unix.SockFilter{stmt(ldAbs, 12)}},
		{0xaabbccdd, []unix.SockFilter{stmt(ldAbs, 60)}},
		{64, []unix.SockFilter{stmt(ldxLen, 0), stmt(txa, 0)}},
		{0, []unix.SockFilter{stmt(ldImm, 3), stmt(alu|unix.BPF_DIV|x, 0), stmt(ldImm, 9)}},
		{1 << 4, []unix.SockFilter{stmt(ldImm, 1), stmt(ldxImm, 36), stmt(alu|unix.BPF_LSH|x, 0)}},
		{^uint32(6), []unix.SockFilter{stmt(ldImm, 7), stmt(neg, 0)}},
		{12, []unix.SockFilter{stmt(ldImm, 12), stmt(st, 15), stmt(ldImm, 1), stmt(ldMem, 15)}},
		{1, []unix.SockFilter{stmt(ldImm, 8), jmp(unix.BPF_JSET, 8, 1, 0), stmt(ldImm, 2), stmt(ldImm, 1)}},
	} {
		prog := append(c.prog, stmt(retA, 0))
		if err := check(prog); err != nil {
			t.Errorf("%v: %v", prog, err)
		} else if v := run(prog, d); v != c.want {
			t.Errorf("%v: %#x, want %#x", prog, v, c.want)
		}
	}
}

// FuzzCheck: a program that passes the check can be run, ends, and agrees with what is known of it beforehand.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 0, 1, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f, 6, 0, 0, 0, 0, 0, 0xff, 0x7f})
	f.Add([]byte{2, 0, 0, 0, 15, 0, 0, 0, 0x60, 0, 0, 0, 15, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var prog []unix.SockFilter
		for ; len(b) >= 8; b = b[8:] {
			prog = append(prog, unix.SockFilter{Code: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])})
		}
		c, err := New(nil, prog, false)
		if err != nil {
			return
		}
		for nr := range int32(5) {
			d := &Data{Nr: nr, IP: uint64(len(prog)), Args: [6]uint64{1, 2, 3}}
			if v := run(prog, d); c.allows(nr) && v&unix.SECCOMP_RET_ACTION_FULL != unix.SECCOMP_RET_ALLOW {
				t.Errorf("call %d: %#x, but is said to be allowed", nr, v)
			}
		}
	})
}
