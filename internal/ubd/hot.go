package ubd

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// hotView is a writable mapping of an image, for what is written again and again: the guest's bytes go straight to the host's
// page cache, where write(2) needs a copy in between. But the host makes a page writable only by a fault, which is dear when
// the page is clean (7 us, where writing it takes 1), and reads pages that it has not got. So only parts are handed out that
// have been written by write(2) since the last sync.
type hotView struct {
	view  []byte // nil if there is none
	shift uint   // the size of a part, as a power of two
	// parts has for each part the era in which it was written last.
	parts []atomic.Uint32
	era   atomic.Uint32 // counts syncs
}

const (
	minPart  = 16 // the smallest parts have 64 KiB
	maxParts = 64 << 10
)

// open maps an image that can be written, unless every write is to be durable.
func (v *hotView) open(im *hostImage) {
	if im.ro || im.blk || im.through {
		return
	}
	p, err := unix.Mmap(im.fd, 0, int(im.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return
	}
	v.shift = minPart
	for im.size>>v.shift >= maxParts {
		v.shift++
	}
	v.parts = make([]atomic.Uint32, im.size>>v.shift+1)
	v.era.Store(1)
	v.view = p
}

func (v *hotView) close() {
	if v.view != nil {
		_ = unix.Munmap(v.view)
		v.view = nil
	}
}

// written says that n bytes at off were written.
func (v *hotView) written(off, n int64) {
	if v.view == nil {
		return
	}
	era := v.era.Load()
	for i := off >> v.shift; i < int64(len(v.parts)) && i <= (off+n-1)>>v.shift; i++ {
		if v.parts[i].Load() != era {
			v.parts[i].Store(era)
		}
	}
}

// cool says that everything was synced: all pages are clean.
func (v *hotView) cool() { v.era.Add(1) }

// store calls fill with the memory of n bytes at off. It returns false if they are to be written in the other way.
func (v *hotView) store(off, n int64, fill func(p []byte)) bool {
	if off < 0 || n <= 0 || off > int64(len(v.view)) || n > int64(len(v.view))-off {
		return false
	}
	era := v.era.Load()
	for i := off >> v.shift; i <= (off+n-1)>>v.shift; i++ {
		if v.parts[i].Load() != era {
			return false
		}
	}
	fill(v.view[off : off+n : off+n])
	return true
}
