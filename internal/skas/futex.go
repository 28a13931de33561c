package skas

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A futex wait until a time of CLOCK_REALTIME is the host's to carry out like all others, but the time is one of the
// guest's clock. If that has been set, the wait is made with the host's time, which lies in memory that the guest cannot
// change, and ends in a routine that restores the register with the timeout's address.

const (
	futexPrivate    = 128
	futexRealtime   = 256
	futexWaitBitset = 9

	futexSlots = 4096
	// A slot has the timeout, the address of the guest's own, and where the thread goes on.
	futexSlotSize = 32
	slotTimeout   = 16
	slotReturn    = 24

	// Where the instructions of routineWait begin.
	waitCall    = 0 // syscall
	waitLoad    = waitCall + syscallInsnBytes
	waitRestore = waitLoad + 4
	waitGo      = waitRestore + 4
)

// isTimedWait reports whether r is at a futex wait until a time of CLOCK_REALTIME.
func isTimedWait(r *unix.PtraceRegs) bool {
	return int32(r.Orig_rax) == unix.SYS_FUTEX && uint32(r.Rsi)&^futexPrivate == futexWaitBitset|futexRealtime && r.R10 != 0
}

// timedWait lets the host carry out the wait that t is held at.
func (s *shard) timedWait(t *Thread) {
	off := s.p.offset.Load()
	if off == 0 || !s.p.takeSlot(t) {
		s.runWait(t)
		return
	}
	go func() { // reading guest memory may last
		var b [16]byte
		n, _ := t.as.ReadAt(b[:], t.regs.R10)
		s.post(func() {
			if n == len(b) && t.slot != 0 {
				t.useSlot(b[:], off)
			}
			s.runWait(t) // finds by itself that the timeout cannot be read
		})
	}()
}

// runWait lets t make its call.
func (s *shard) runWait(t *Thread) {
	t.mu.Lock()
	t.handling = false
	t.mu.Unlock()
	t.letRun = true
	s.resume(t)
}

// takeSlot gives t a slot if it has none.
func (p *Platform) takeSlot(t *Thread) bool {
	if t.slot != 0 {
		return true
	}
	p.slotMu.Lock()
	defer p.slotMu.Unlock()
	n := len(p.slots) - 1
	if n < 0 {
		return false
	}
	t.slot = p.slots[n] + 1
	p.slots = p.slots[:n]
	return true
}

// freeSlot takes the slot of a thread that has ended.
func (p *Platform) freeSlot(t *Thread) {
	if t.slot == 0 {
		return
	}
	p.slotMu.Lock()
	p.slots = append(p.slots, t.slot-1)
	p.slotMu.Unlock()
	t.slot = 0
}

// slotMem is the slot of t, slotAddr where it is in the stub.
func (t *Thread) slotMem() []byte {
	return t.p.ops[stubSlots-stubOps+(t.slot-1)*futexSlotSize:][:futexSlotSize]
}
func (t *Thread) slotAddr() uint64 { return stubSlots + uint64(t.slot-1)*futexSlotSize }

// useSlot has the wait that t is held at use its slot, with the timeout that ts is on a clock which is off nanoseconds ahead
// of the host's. A timeout that is no time is left to the host.
func (t *Thread) useSlot(ts []byte, off int64) {
	le := binary.LittleEndian
	sec, nsec := int64(le.Uint64(ts)), int64(le.Uint64(ts[8:]))
	if sec < 0 || nsec < 0 || nsec >= 1e9 {
		return
	}
	sec, nsec = sec-off/1e9, nsec-off%1e9
	switch {
	case nsec < 0:
		sec, nsec = sec-1, nsec+1e9
	case nsec >= 1e9:
		sec, nsec = sec+1, nsec-1e9
	}
	if sec < 0 {
		sec, nsec = 0, 0
	}
	m := t.slotMem()
	le.PutUint64(m, uint64(sec))
	le.PutUint64(m[8:], uint64(nsec))
	le.PutUint64(m[slotTimeout:], t.regs.R10)
	le.PutUint64(m[slotReturn:], t.regs.Rip)
	t.regs.R10, t.regs.Rip = t.slotAddr(), routine(routineWait)+waitLoad
	t.dirty = true
}

// leaveRoutine makes the registers of a thread that has stopped in routineWait those of the guest's call. They are not
// written back: if nobody changes them, the thread goes on in the routine.
func (t *Thread) leaveRoutine() {
	if t.slot == 0 {
		return
	}
	le := binary.LittleEndian
	switch t.regs.Rip - routine(routineWait) {
	case waitLoad, waitRestore:
		if t.regs.R10 == t.slotAddr() {
			m := t.slotMem()
			t.regs.R10, t.regs.Rip = le.Uint64(m[slotTimeout:]), le.Uint64(m[slotReturn:])
		}
	case waitGo:
		t.regs.Rip = t.regs.Rcx
	}
}
