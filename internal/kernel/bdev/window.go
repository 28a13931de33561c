package bdev

import (
	"sync"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// window is what an open block special file that is read in order has read ahead. It is good for as long as nothing is
// written to the disk.
type window struct {
	mu sync.Mutex
	// +checklocks:mu
	data []byte // nil until it is wanted
	// +checklocks:mu
	off, n int64 // where it lies on the node, and how much of data is good
	// +checklocks:mu
	gen uint64
	// +checklocks:mu
	next int64 // where a reader in order goes on
	// +checklocks:mu
	size int64 // of the next read-ahead
}

// minWindow is how much is read ahead at first, and mostReadAhead the most that ever is.
const (
	minWindow     = 16 << 10
	mostReadAhead = 1 << 20
)

// get returns the bytes at off, at most want and at least one, which stay as they are until put is called. It returns nil if
// they are not read ahead.
func (w *window) get(n *Node, off, want int64) (p []byte) {
	wb := &n.disk.wb
	if !w.mu.TryLock() {
		return nil
	}
	defer func() {
		if p == nil {
			w.mu.Unlock()
		}
	}()
	ordered := off == w.next
	w.next = off + want
	gen := wb.gen.Load()
	if wb.direct.Load() > 0 {
		return nil
	}
	if off < w.off || off >= w.off+w.n || w.gen != gen {
		limit := min(n.disk.ReadAhead(), mostReadAhead)
		if !ordered {
			w.size = 0
			return nil
		}
		w.size = min(max(2*w.size, minWindow, want), limit)
		if w.size < want || !w.fill(n, off, gen) {
			return nil
		}
	}
	at := off - w.off
	p = w.data[at:min(at+want, w.n)]
	w.next = off + int64(len(p))
	return p
}

func (w *window) put() { w.mu.Unlock() }

// fill reads from the sector of off on. The caller holds mu.
func (w *window) fill(n *Node, off int64, gen uint64) bool {
	w.n = 0
	off -= off % SectorSize
	size := min((w.size+2*SectorSize-1)&^(SectorSize-1), n.Size()-off)
	if size <= 0 {
		return false // the disk has become smaller meanwhile
	}
	if int64(len(w.data)) < size {
		kmem.Add(-len(w.data))
		w.data = nil
		if !kmem.Take(int(size)) {
			return false
		}
		w.data = make([]byte, size)
	}
	if _, err := n.ReadAt(w.data[:size], off); err != nil {
		return false
	}
	w.off, w.n, w.gen = off, size, gen
	return true
}

// drop frees the window.
func (w *window) drop() {
	w.mu.Lock()
	kmem.Add(-len(w.data))
	w.data, w.n = nil, 0
	w.mu.Unlock()
}
