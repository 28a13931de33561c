package ext4

import (
	"math"
	"slices"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Pages that are mapped from the image follow what is written in place by themselves. When blocks no longer belong to the file,
// or the file's bytes are elsewhere now, the pages are mapped from the Memfile instead. That takes a file that is mapped from the
// image; all others cost a look at a flag.

// leaveImage has the pages of bytes [off, end) that are mapped from the image come from the Memfile. keep says that copies of
// private mappings stay: at truncation and where bytes move they are lost. The file has been changed; the caller does not hold
// in.mu.
func (in *inode) leaveImage(off, end int64, keep bool) {
	if in.dax.Load() {
		in.mapMem(off, end, keep)
	}
}

// mapMem is leaveImage for all pages that are mapped.
func (in *inode) mapMem(off, end int64, keep bool) {
	if Remap == nil {
		return
	}
	first, last := uint64(off)&^(pageSize-1), pageUp(min(end, math.MaxInt64-pageSize))
	Remap(in, first, last, keep, func() []vfs.Extent {
		in.mu.RLock()
		defer in.mu.RUnlock()
		in.memMu.Lock()
		defer in.memMu.Unlock()
		// What is not filled now is asked for when it is touched. Behind the end of the file there is nothing to fill.
		if size := pageUp(in.attr.Size); first < size {
			if full := min(first+maxFill, size); full < size {
				last = min(last, full)
			}
		}
		if in.makeMemLocked() != nil || in.fillLocked(first, last) != nil {
			return nil
		}
		return []vfs.Extent{{Off: first, Len: last - first, Host: in.mem.Host(), HostOff: first}}
	})
}

// leaveCut is leaveImage for a file whose size was old.
func (in *inode) leaveCut(old, size int64) {
	if size < old {
		in.leaveImage(int64(pageUp(size)), int64(pageUp(old)), false)
	}
}

// watchImage is called before something is written to bytes [off, end). What it returns is called afterwards: if the blocks lie
// elsewhere then, as those of the backing file of a COW pair do, pages that are mapped from the image leave it.
func (in *inode) watchImage(off, end int64) func() {
	if !in.dax.Load() || Remap == nil || off >= end {
		return func() {}
	}
	where := func() []vfs.Extent {
		in.mu.RLock()
		defer in.mu.RUnlock()
		x, _ := in.imageExtents(uint64(off)&^(pageSize-1), min(pageUp(end), pageUp(in.attr.Size)))
		return x
	}
	before := where()
	return func() {
		if !slices.Equal(before, where()) {
			in.leaveImage(off, end, true)
		}
	}
}

// pageUp rounds a size up to whole pages.
func pageUp(n int64) uint64 { return (uint64(n) + pageSize - 1) &^ (pageSize - 1) }
