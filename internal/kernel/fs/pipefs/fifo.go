package pipefs

import (
	"sync"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// fifoTable has the pipes behind the FIFOs that are open or being opened. An inode stays the same object while somebody
// has it open, so it can be the key.
type fifoTable struct {
	mu sync.Mutex
	m  map[vfs.Inode]*fifo
}

type fifo struct {
	p *Pipe
	// opening counts opens under way: they hold the entry before they count as readers or writers.
	opening int
}

var fifos fifoTable

// get returns the pipe of a FIFO, and pins it until put.
func (t *fifoTable) get(in vfs.Inode) *Pipe {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.m[in]
	if x == nil {
		if t.m == nil {
			t.m = map[vfs.Inode]*fifo{}
		}
		x = &fifo{p: NewPipe()}
		x.p.named = true
		t.m[in] = x
	}
	x.opening++
	return x.p
}

func (t *fifoTable) put(in vfs.Inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.m[in]; x != nil {
		x.opening--
		t.dropLocked(in, x)
	}
}

// drop forgets a FIFO whose last end was released.
func (t *fifoTable) drop(in vfs.Inode, p *Pipe) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.m[in]; x != nil && x.p == p {
		t.dropLocked(in, x)
	}
}

func (t *fifoTable) dropLocked(in vfs.Inode, x *fifo) {
	if x.opening > 0 {
		return
	}
	x.p.mu.Lock()
	idle := x.p.readers == 0 && x.p.writers == 0
	x.p.mu.Unlock()
	if idle {
		delete(t.m, in)
	}
}

// OpenFIFO opens a FIFO; it is registered with vfs.RegisterFifo.
func OpenFIFO(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	p := fifos.get(f.Inode)
	defer fifos.put(f.Inode)
	return p.open(c, f)
}

func init() { vfs.RegisterFifo(OpenFIFO) }
