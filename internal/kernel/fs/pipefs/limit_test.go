package pipefs

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// While kernel memory is short a pipe has one page, and its pages are given back with it.
func TestRingWithoutMemory(t *testing.T) {
	before := kmem.Bytes()
	kmem.SetLimit(before + 1)
	kmem.Add(1)
	defer kmem.SetLimit(0)
	defer kmem.Add(-1)
	p := NewPipe()
	data := make([]byte, 3*pageSize)
	n, err := p.fill(uio.FromBytes(data), false, true)
	for !p.full() && err == nil {
		var k int
		if k, err = p.fill(uio.FromBytes(data), false, false); k == 0 {
			break
		}
		n += k
	}
	if err != nil || n != pageSize || !p.full() {
		t.Errorf("filled %d, %v, full %v", n, err, p.full())
	}
	if err := p.setMax(4); err != unix.EPERM {
		t.Errorf("a larger pipe: %v", err)
	}
	if p.consume(n); p.used != 0 {
		t.Error("not empty")
	}
	if n, err := p.fill(uio.FromBytes(data), false, true); n != pageSize || err != nil {
		t.Errorf("filled %d, %v", n, err)
	}
}
