package bdev

import (
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"
)

// Mem is a device in memory that remembers which writes were not yet flushed, for tests of what a crash leaves.
type Mem struct {
	name string
	ro   bool

	mu sync.Mutex
	// +checklocks:mu
	durable []byte // as of the last flush
	// +checklocks:mu
	current []byte
	// +checklocks:mu
	pending []MemWrite
	// +checklocks:mu
	flushes int
}

// MemWrite is one write that Mem has recorded. Zero writes and discards are recorded as writes of zeroes.
type MemWrite struct {
	Off  int64
	Data []byte
}

// NewMem makes a device with the given content, padded to whole sectors. Mem takes ownership of content.
func NewMem(name string, content []byte, ro bool) *Mem {
	if r := len(content) % SectorSize; r != 0 {
		content = append(content, make([]byte, SectorSize-r)...)
	}
	m := &Mem{name: name, ro: ro, current: content}
	if !ro {
		m.durable = append([]byte(nil), content...)
	}
	return m
}

// Name, Size and ReadOnly are Device's.
func (m *Mem) Name() string   { return m.name }
func (m *Mem) Size() int64    { m.mu.Lock(); defer m.mu.Unlock(); return int64(len(m.current)) }
func (m *Mem) ReadOnly() bool { return m.ro }

// ReadAt is Device's.
func (m *Mem) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off > int64(len(m.current)) || int64(len(p)) > int64(len(m.current))-off {
		return 0, unix.EIO
	}
	return copy(p, m.current[off:]), nil
}

// WriteAt is Device's.
func (m *Mem) WriteAt(p []byte, off int64) (int, error) {
	if m.ro {
		return 0, unix.EROFS
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off > int64(len(m.current)) || int64(len(p)) > int64(len(m.current))-off {
		return 0, unix.EIO
	}
	m.pending = append(m.pending, MemWrite{off, append([]byte(nil), p...)})
	return copy(m.current[off:], p), nil
}

// Flush is Device's.
func (m *Mem) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.pending {
		copy(m.durable[w.Off:], w.Data)
	}
	m.pending = nil
	m.flushes++
	return nil
}

// Discard and WriteZeroes are Device's.
func (m *Mem) Discard(off, n int64) error { return m.WriteZeroes(off, n) }

// WriteZeroes is Device's.
func (m *Mem) WriteZeroes(off, n int64) error {
	if n < 0 || n > m.Size() {
		return unix.EIO
	}
	_, err := m.WriteAt(make([]byte, n), off)
	return err
}

// Pending returns the writes since the last flush, oldest first, and how many flushes there were.
func (m *Mem) Pending() ([]MemWrite, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]MemWrite(nil), m.pending...), m.flushes
}

// CrashClone returns a device as a crash would leave it now: each write that was not flushed is there, is not there, or is
// there in part (a prefix of its sectors), at random; writes to the same place keep their order.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	return m.CrashSubset(func(w MemWrite) int {
		switch rng.IntN(4) {
		case 0:
			return 0
		case 1:
			return SectorSize * rng.IntN(len(w.Data)/SectorSize+1)
		}
		return len(w.Data)
	})
}

// CrashSubset is CrashClone with a choice: keep says how many bytes of a write reached the disk.
func (m *Mem) CrashSubset(keep func(w MemWrite) int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	img := append([]byte(nil), m.durable...)
	if m.ro {
		img = append([]byte(nil), m.current...)
	}
	for _, w := range m.pending {
		copy(img[w.Off:], w.Data[:keep(w)])
	}
	return NewMem(m.name, img, m.ro)
}
