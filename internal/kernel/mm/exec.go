package mm

import (
	"math/rand/v2"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// NewFileMap begins private mappings of a file for a program image: from now on the file counts as mapped.
func NewFileMap(c vfs.Caller, f *vfs.File) (*FileMap, error) {
	vm, err := vfs.MapFile(c, f, false, false, true)
	if err != nil {
		return nil, err
	}
	return newFileMap(vm, f, false), nil
}

// Extents resolves file pages for a private mapping.
func (b *FileMap) Extents(off, n uint64) ([]vfs.Extent, error) {
	return b.m.Extents(off, n, false, false)
}

// FileTop chooses the highest end of file mappings of a new program.
func FileTop(h *Host, random bool) uint64 {
	top := min(filesTop, h.UserMax)
	if random {
		top -= rand.Uint64N(filesRandom)
	}
	return abi.PageDown(top)
}

// Segment is a part of a file in a program image.
type Segment struct {
	Addr, Len, Off uint64
	Map            *FileMap
}

// Install makes the memory of a new program: it runs ops in the fresh process and books segs, which are among them in
// the order that they were mapped. fileTop is what FileTop chose.
func (m *MM) Install(t platform.Thread, ops []platform.MapOp, segs []Segment, fileTop uint64) error {
	if t.OnTracer() {
		return ErrOffload
	}
	m.mu.Lock()
	defer m.unlock()
	m.filesTop = fileTop
	for _, s := range segs {
		s.Map.refs.Add(1)
		m.book.insert(area{start: s.Addr, end: s.Addr + s.Len, off: s.Off, b: s.Map})
	}
	return t.Map(ops)
}
