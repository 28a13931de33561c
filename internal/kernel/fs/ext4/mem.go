package ext4

import (
	"bytes"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// The Memfile of a file that is written: write(2) goes to the device and to it, truncation and holes to it, too. While
// there is a shared writable mapping it is newer than the device: read(2) reads it, and it is written back by msync, fsync,
// sync and with the last mapping.

// addMapped and delMapped keep the list of inodes with shared writable mappings.
func (w *writer) addMapped(in *inode) {
	w.dirtyMu.Lock()
	if w.mapped == nil {
		w.mapped = map[*inode]struct{}{}
	}
	w.mapped[in] = struct{}{}
	w.dirtyMu.Unlock()
}

func (w *writer) delMapped(in *inode) {
	w.dirtyMu.Lock()
	delete(w.mapped, in)
	w.dirtyMu.Unlock()
}

// flushMapped writes back all shared writable mappings.
func (sb *superBlock) flushMapped() (first error) {
	w := sb.w
	w.dirtyMu.Lock()
	list := make([]*inode, 0, len(w.mapped))
	for in := range w.mapped {
		list = append(list, in)
	}
	w.dirtyMu.Unlock()
	for _, in := range list {
		if err := in.flushMem(0, math.MaxInt64); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// flushMem writes back what guests have changed through shared mappings between off and end.
func (in *inode) flushMem(off, end int64) error {
	if !in.memDirty.Load() {
		return nil
	}
	in.io.Lock()
	defer in.io.Unlock()
	return in.flushMemLocked(off, end)
}

// flushMemLocked is flushMem for who holds in.io. What cannot be written does not keep the rest from being: the first error
// is returned.
func (in *inode) flushMemLocked(off, end int64) (first error) {
	if !in.memDirty.Load() {
		return nil
	}
	chunks := in.filledChunks(off, end)
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for _, c := range chunks {
		if err := in.flushChunk(int64(c*fillChunk), (*buf)[:fillChunk], (*buf)[fillChunk:2*fillChunk]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// filledChunks lists the chunks of the Memfile that have bytes between off and end.
func (in *inode) filledChunks(off, end int64) []uint64 {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	chunks := make([]uint64, 0, len(in.filled))
	for c := range in.filled {
		if at := int64(c * fillChunk); at < end && at+fillChunk > off {
			chunks = append(chunks, c)
		}
	}
	slices.Sort(chunks)
	return chunks
}

// flushChunk writes back the chunk at a byte. mem and old are room for what is mapped and for what the file has. Pages that
// are as they were are left alone, so that holes stay holes.
func (in *inode) flushChunk(at int64, mem, old []byte) (first error) {
	n, err := in.loadChunk(at, mem, old)
	if err != nil {
		return err
	}
	same := func(p int) bool { return bytes.Equal(mem[p:min(p+pageSize, n)], old[p:min(p+pageSize, n)]) }
	for p := 0; p < n; {
		if same(p) {
			p += pageSize
			continue
		}
		q := min(p+pageSize, n)
		for q < n && !same(q) {
			q = min(q+pageSize, n)
		}
		data := make([]byte, (q-p+in.sb.blockSize)&^(in.sb.blockSize-1))
		copy(data, mem[p:q])
		if _, err := in.writeFrom(true, data, 0, q-p, at+int64(p), false); err != nil && first == nil {
			first = err
		}
		p = q
	}
	return first
}

// loadChunk reads what is mapped of the chunk at a byte, and what the file has there: n bytes of each.
func (in *inode) loadChunk(at int64, mem, old []byte) (n int, err error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if n = int(min(fillChunk, in.attr.Size-at)); n <= 0 {
		return 0, nil
	}
	clear(mem)
	in.memMu.Lock()
	if in.mem == nil {
		err = unix.EIO
	} else {
		_, err = in.mem.ReadAt(mem[:n], at)
	}
	in.memMu.Unlock()
	if err != nil {
		return 0, unix.EIO
	}
	if in.inline() {
		clear(old)
	} else if k, err := in.readDisk(uio.ToBytes(old[:n]), at, n); err != nil || k < n {
		return 0, unix.EIO
	}
	return n, nil
}

// readMem reads from the Memfile where it has the file's content, else from the device. The caller holds in.mu.
func (in *inode) readMem(dst *uio.Dst, off int64, left int) (int, error) {
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	done := 0
	for done < left {
		at := off + int64(done)
		n := int(min(int64(left-done), fillChunk-at%fillChunk))
		in.memMu.Lock()
		_, have := in.filled[uint64(at)/fillChunk]
		if have = have && in.mem != nil; have {
			p := (*buf)[:n]
			clear(p)
			if _, err := in.mem.ReadAt(p, at); err != nil {
				in.memMu.Unlock()
				return done, partial(done, unix.EIO)
			}
		}
		in.memMu.Unlock()
		var k int
		var err error
		if have {
			k, err = dst.CopyOut((*buf)[:n])
		} else {
			k, err = in.readDisk(dst, at, n)
		}
		done += k
		if err != nil || k < n {
			return done, partial(done, err)
		}
	}
	return done, nil
}

// storedData finds what guests have stored through shared mappings between at and end, where the file has nothing yet: the
// first run of pages that are not zero, or its end twice if there are none. The caller holds in.mu.
func (in *inode) storedData(at, end int64) (from, to int64, err error) {
	if !in.memDirty.Load() {
		return end, end, nil
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for _, c := range in.filledChunks(at, end) {
		first := max(at&^(pageSize-1), int64(c*fillChunk)) // whole pages are written back
		p := (*buf)[:min(end, int64(c+1)*fillChunk)-first]
		clear(p)
		in.memMu.Lock()
		if in.mem != nil {
			_, err = in.mem.ReadAt(p, first)
		}
		in.memMu.Unlock()
		if err != nil {
			return 0, 0, unix.EIO
		}
		i := slices.IndexFunc(p, func(b byte) bool { return b != 0 })
		if i < 0 {
			continue
		}
		from = max(at, (first+int64(i))&^(pageSize-1))
		to = from&^(pageSize-1) + pageSize
		return from, min(to, end), nil
	}
	return end, end, nil
}

// writeMem gives the Memfile what was written to the device.
func (in *inode) writeMem(p []byte, off int64) {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if in.mem == nil {
		return
	}
	for len(p) > 0 {
		n := int(min(int64(len(p)), fillChunk-off%fillChunk))
		if _, ok := in.filled[uint64(off)/fillChunk]; ok {
			if _, err := in.mem.WriteAt(p[:n], off); err != nil {
				_ = in.sb.errorf(nil, "inode #%d: cannot write to mapped pages: %v", in.ino, err)
			}
		}
		p, off = p[n:], off+int64(n)
	}
}

// hasMem reports whether there is a Memfile.
func (in *inode) hasMem() bool {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	return in.mem != nil
}

// reloadMem gives the Memfile what n bytes at off of the device are now. The caller holds in.mu.
func (in *inode) reloadMem(off int64, n int) {
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for n > 0 {
		p := (*buf)[:min(n, bounceSize)]
		if k, err := in.readDisk(uio.ToBytes(p), off, len(p)); err != nil || k < len(p) {
			_ = in.sb.errorf(nil, "inode #%d: cannot read for mapped pages: %v", in.ino, err)
			return
		}
		in.writeMem(p, off)
		off, n = off+int64(len(p)), n-len(p)
	}
}

// resizeMem makes the Memfile as long as the file: pages beyond give SIGBUS, bytes between are zero. The caller holds
// in.mu.
func (in *inode) resizeMem(old, size int64) {
	in.tailAt.Store(0)
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if in.mem == nil {
		return
	}
	up := func(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }
	if edge := min(old, size); edge%pageSize != 0 {
		if err := in.mem.Punch(edge, up(edge)-edge); err != nil {
			_ = in.sb.errorf(nil, "inode #%d: cannot clear mapped pages: %v", in.ino, err)
		}
	}
	if up(old) == up(size) {
		return
	}
	if err := in.mem.Truncate(up(size)); err != nil {
		_ = in.sb.errorf(nil, "inode #%d: cannot resize mapped pages: %v", in.ino, err)
	}
	// Chunks beyond the end stay filled, with zeroes: when the file grows again guests can store there unseen.
}

// punchMem makes a hole in the Memfile.
func (in *inode) punchMem(off, n int64) {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if in.mem == nil {
		return
	}
	if n = min(n, in.attr.Size-off); n > 0 {
		if err := in.mem.Punch(off, n); err != nil {
			_ = in.sb.errorf(nil, "inode #%d: cannot punch mapped pages: %v", in.ino, err)
		}
	}
}

// releaseBusy makes blocks usable that were freed while they were mapped from the image.
func (sb *superBlock) releaseBusy(in *inode) {
	w := sb.w
	if !w.ready.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if in.dax.Load() {
		return // it has been mapped again
	}
	for _, r := range in.busy {
		w.tx.freed = append(w.tx.freed, r)
		w.tx.nfreed += r.n
	}
	if len(in.busy) > 0 {
		in.busy = nil
		sb.arm()
	}
}
