package ext4

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE (fallocate(2)): what lies behind a place of the file moves, without
// its blocks. Only extents can be moved. Up to shiftLeaves leaves of them move in one change, so a crash finds all of it
// done or nothing, unless the file is in very many pieces.

// shiftLeaves is how many leaves of an extent tree one change moves: each may be a block, and lie below a node of its own.
const shiftLeaves = 20

// checkShift is what both have in common: the bytes must be whole clusters and lie before the end of the file.
func (in *inode) checkShift(off, n int64) error {
	mask := int64(in.sb.blockSize)<<in.sb.clusterLog - 1
	switch {
	case !in.metaMap():
		return unix.EOPNOTSUPP
	case (off|n)&mask != 0:
		return unix.EINVAL
	}
	return nil
}

// collapse removes n bytes at off. The caller holds in.io.
func (in *inode) collapse(off, n int64) error {
	sb := in.sb
	first, count := uint64(off)>>sb.blockBits, uint64(n)>>sb.blockBits
	at := first + count // what begins here moves next
	return in.shift(off, func() error {
		if err := in.checkShift(off, n); err != nil {
			return err
		}
		if off+n >= in.attr.Size {
			return unix.EINVAL
		}
		return nil
	}, func() (done bool, err error) {
		if at == first+count {
			for range 2 {
				if done, err = in.cut(first, first+count); err != nil {
					return false, err
				}
			}
			if !done {
				return false, nil
			}
		}
		if at, err = in.moveDown(at, count); err != nil || at < maxBlocks {
			return false, err
		}
		in.setSize(in.attr.Size - n)
		return true, nil
	})
}

// insert makes room for n bytes at off, a hole. The caller holds in.io.
func (in *inode) insert(off, n int64) error {
	sb := in.sb
	first, count := uint64(off)>>sb.blockBits, uint64(n)>>sb.blockBits
	end, ready := uint64(maxBlocks), false // what is at or behind end has moved
	return in.shift(off, func() error {
		if err := in.checkShift(off, n); err != nil {
			return err
		}
		if n > in.maxSize()-in.attr.Size {
			return unix.EFBIG
		}
		if off >= in.attr.Size {
			return unix.EINVAL
		}
		last, err := in.lastBlock()
		if err == nil && last+count > maxBlocks-1 {
			err = unix.EINVAL
		}
		return err
	}, func() (done bool, err error) {
		if !ready { // only this may need blocks
			if err := in.splitAt(uint32(first)); err != nil {
				return false, err
			}
			in.setSize(in.attr.Size + n)
			ready = true
		}
		end, err = in.moveUp(first, end, count)
		return end <= first, err
	})
}

// setSize is for a file whose blocks have moved.
func (in *inode) setSize(size int64) {
	in.update(func(a *vfs.Attr) { a.Size = size })
	if size > 1<<31-1 {
		in.sb.largeFile()
	}
}

// shift checks, and calls step, each time in a change of its own, until it is done. Pages of mappings from byte off on get
// the new content.
func (in *inode) shift(off int64, check func() error, step func() (bool, error)) error {
	sb := in.sb
	in.mu.RLock()
	err := check()
	in.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := in.flushMemLocked(0, 1<<62); err != nil {
		return err
	}
	for done, tried := false, false; !done; {
		if err := sb.begin(); err != nil {
			return err
		}
		in.mu.Lock()
		size := in.attr.Size
		err := in.needMap()
		if err == nil {
			done, err = step()
		}
		in.lastPhys = 0
		in.lastRun.Store(nil)
		in.touch()
		if in.attr.Size != size {
			in.resizeMem(size, in.attr.Size)
		}
		in.refillMem(off)
		in.mu.Unlock()
		sb.end()
		if err == unix.ENOSPC && !tried && sb.reclaim() {
			tried = true
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lastBlock is one more than the last logical block that has a physical one.
func (in *inode) lastBlock() (uint64, error) {
	if in.inline() {
		return 1, nil
	}
	var room pathRoom
	path, err := in.extPath(maxBlocks-1, &room)
	if err != nil {
		return 0, err
	}
	defer path.release()
	var leaf leafRoom
	exts, err := in.extents(path, &leaf)
	if err != nil || len(exts) == 0 {
		return 0, err
	}
	e := exts[len(exts)-1]
	return uint64(e.Block) + uint64(e.Len), nil
}

// moveDown moves the extents from block at on by n blocks to the front, where there is a hole, and returns where to go on;
// maxBlocks when it is done. Extents do not begin before at and end behind it.
func (in *inode) moveDown(at, n uint64) (uint64, error) {
	for range shiftLeaves {
		var room pathRoom
		path, err := in.extPath(uint32(at), &room)
		if err != nil {
			return at, err
		}
		next := uint64(maxBlocks) // the first block of the next leaf
		for _, p := range path[:len(path)-1] {
			if p.i+1 < int(p.h.Entries) {
				next = uint64(binary.LittleEndian.Uint32(entry(p.p, p.i+1)))
			}
		}
		if next <= at {
			path.release()
			return at, in.sb.errorf(errCorrupt, "inode #%d: extent index out of order", in.ino)
		}
		var leaf leafRoom
		exts, err := in.extents(path, &leaf)
		if err == nil {
			changed := false
			for i := range exts {
				if e := &exts[i]; uint64(e.Block) >= at {
					e.Block -= uint32(n)
					changed = true
				}
			}
			if changed {
				err = in.putLeaf(path, joined(exts))
			}
		}
		path.release()
		if err != nil {
			return at, err
		}
		if at = next; at == maxBlocks {
			return at, nil
		}
	}
	return at, nil
}

// splitAt sees to it that no extent goes across the beginning of block b.
func (in *inode) splitAt(b uint32) error {
	var room pathRoom
	path, err := in.extPath(b, &room)
	if err != nil {
		return err
	}
	defer path.release()
	var leaf leafRoom
	exts, err := in.extents(path, &leaf)
	if err != nil {
		return err
	}
	for i, e := range exts {
		if d := b - e.Block; e.Block < b && d < e.Len {
			exts[i].Len = d
			e.Block, e.Start, e.Len = b, e.Start+uint64(d), e.Len-d
			return in.putLeaf(path, slices.Insert(exts, i+1, e))
		}
	}
	return nil
}

// moveUp moves the extents between first and end by n blocks to the back, the last ones first, and returns the new end;
// first when it is done. No extent goes across first.
func (in *inode) moveUp(first, end, n uint64) (uint64, error) {
	for range shiftLeaves {
		var room pathRoom
		path, err := in.extPath(uint32(end-1), &room)
		if err != nil {
			return end, err
		}
		prev := uint64(0) // the first block of this leaf: what is before it comes next
		for _, p := range path[:len(path)-1] {
			if p.i > 0 {
				prev = uint64(binary.LittleEndian.Uint32(entry(p.p, p.i)))
			}
		}
		if prev >= end {
			path.release()
			return end, in.sb.errorf(errCorrupt, "inode #%d: extent index out of order", in.ino)
		}
		var leaf leafRoom
		exts, err := in.extents(path, &leaf)
		if err == nil {
			changed := false
			for i := range exts {
				if e := &exts[i]; uint64(e.Block) >= first && uint64(e.Block) < end {
					e.Block += uint32(n)
					changed = true
				}
			}
			if changed {
				err = in.putLeaf(path, exts)
			}
		}
		path.release()
		if err != nil {
			return end, err
		}
		if end = prev; end <= first {
			return first, nil
		}
	}
	return end, nil
}

// joined makes one extent of neighbours that can be one.
func joined(exts []disk.Extent) []disk.Extent {
	out := exts[:0]
	for _, e := range exts {
		if l := len(out) - 1; l >= 0 && joins(&out[l], &e) {
			out[l].Len += e.Len
			continue
		}
		out = append(out, e)
	}
	return out
}

// refillMem gives the pages of mappings from byte off on what the device has there now. The caller holds in.mu.
func (in *inode) refillMem(off int64) {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if in.mem == nil {
		return
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for c := range in.filled {
		at := int64(c * fillChunk)
		n := int(min(fillChunk, in.attr.Size-at))
		if at+fillChunk <= off || n <= 0 {
			continue
		}
		p := (*buf)[:n]
		clear(p)
		if k, err := in.readDisk(uio.ToBytes(p), at, n); err != nil || k < n {
			_ = in.sb.errorf(nil, "inode #%d: cannot read what mapped pages get: %v", in.ino, err)
			return
		}
		if _, err := in.mem.WriteAt(p, at); err != nil {
			_ = in.sb.errorf(nil, "inode #%d: cannot write to mapped pages: %v", in.ino, err)
			return
		}
	}
}
