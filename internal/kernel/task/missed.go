package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Pages of file mappings that the host does not have mapped, because the file has grown since or they were too many to read at
// once (mm.FaultIn), are mapped when a program touches them. A handler that copies to or from them gets EFAULT, and cannot map
// them then: it may hold locks of that very file, and its thread may not be held. So the place is remembered, and a call
// that fails with EFAULT is made again if the page was found.

// missedState is a copy that failed. It belongs to a task.
type missedState struct {
	// page is its page plus what it needs (PROT_READ or PROT_WRITE), 0 for none. It may be an older one, which costs an attempt;
	// others who copy to or from the task set it, too.
	page atomic.Uint64
	// vain is the page that was there already when it was missed last: a second time it is an error.
	vain uint64
	// finding: the thread is to be stopped to find the page.
	finding bool
}

// userMemory is the memory of a task as its handlers see it.
type userMemory Task

func (m *userMemory) space() platform.AddressSpace { return (*Task)(m).Thread().AddressSpace() }

// miss remembers where a copy ended that failed after n bytes.
func (m *userMemory) miss(prot uint64, n int, r ...uio.Range) {
	for _, x := range r {
		if uint64(n) < x.Len {
			m.missed.page.Store(abi.PageDown(x.Addr+uint64(n)) | prot)
			return
		}
		n -= int(x.Len)
	}
}

// ReadAt implements uio.Memory.
func (m *userMemory) ReadAt(p []byte, addr uint64) (int, error) {
	n, err := m.space().ReadAt(p, addr)
	if err != nil {
		m.miss(unix.PROT_READ, n, uio.Range{Addr: addr, Len: uint64(len(p))})
	}
	return n, err
}

// WriteAt implements uio.Memory.
func (m *userMemory) WriteAt(p []byte, addr uint64) (int, error) {
	n, err := m.space().WriteAt(p, addr)
	if err != nil {
		m.miss(unix.PROT_WRITE, n, uio.Range{Addr: addr, Len: uint64(len(p))})
	}
	return n, err
}

// ReadV implements uio.Memory.
func (m *userMemory) ReadV(p []byte, r []uio.Range) (int, error) {
	n, err := m.space().ReadV(p, r)
	if err != nil {
		m.miss(unix.PROT_READ, n, r...)
	}
	return n, err
}

// WriteV implements uio.Memory.
func (m *userMemory) WriteV(p []byte, r []uio.Range) (int, error) {
	n, err := m.space().WriteV(p, r)
	if err != nil {
		m.miss(unix.PROT_WRITE, n, r...)
	}
	return n, err
}

// ReadPieces implements uio.PieceMemory.
func (m *userMemory) ReadPieces(p [][]byte, addr uint64) (int, error) {
	return m.pieces(p, addr, unix.PROT_READ, uio.PieceMemory.ReadPieces, m.ReadAt)
}

// WritePieces implements uio.PieceMemory.
func (m *userMemory) WritePieces(p [][]byte, addr uint64) (int, error) {
	return m.pieces(p, addr, unix.PROT_WRITE, uio.PieceMemory.WritePieces, m.WriteAt)
}

// pieces copies all pieces at once if the platform can, else one after the other.
func (m *userMemory) pieces(p [][]byte, addr uint64, prot uint64, all func(uio.PieceMemory, [][]byte, uint64) (int, error),
	one func([]byte, uint64) (int, error)) (int, error) {
	if s, ok := m.space().(uio.PieceMemory); ok {
		n, err := all(s, p, addr)
		if err != nil {
			m.miss(prot, n, uio.Range{Addr: addr, Len: ^uint64(0) - addr})
		}
		return n, err
	}
	done := 0
	for _, x := range p {
		n, err := one(x, addr+uint64(done))
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// again makes a call that has failed with EFAULT again as long as it is for want of pages that are found.
func (t *Task) again(th platform.Thread, nr int32, call func() (uint64, error)) (v uint64, err error) {
	for err = unix.EFAULT; err == unix.EFAULT && !t.then.set; v, err = call() {
		page := t.missed.page.Swap(0)
		if page == 0 {
			break
		}
		addr, prot := abi.PageDown(page), uint32(page&(unix.PROT_READ|unix.PROT_WRITE))
		if m := t.MM(); m == nil || !m.MayFaultIn(addr) {
			break
		}
		if th.OnTracer() {
			return t.Offload()
		}
		if !th.Held() {
			t.missed.finding = true
			t.RunHeld(func(th platform.Thread) {
				t.missed.finding = false
				if t.restart.code == 0 && t.faultIn(th, addr, prot) {
					t.restart = restartInfo{abi.ERESTARTNOINTR, nr}
				}
			})
			break
		}
		if !t.faultIn(th, addr, prot) {
			break
		}
	}
	return v, err
}

// faultIn has a page found that was missed, and reports whether that helps.
func (t *Task) faultIn(th platform.Thread, addr uint64, prot uint32) bool {
	m := t.MM()
	if m == nil {
		return false
	}
	mapped, there := m.FaultIn(th, addr, prot)
	switch {
	case mapped:
		t.missed.vain = 0
	case there && t.missed.vain == addr:
		return false
	case there:
		t.missed.vain = addr
	}
	return there
}
