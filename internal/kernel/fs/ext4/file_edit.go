package ext4

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// maxPieces is how many runs of blocks one change of a file's content may consist of.
const maxPieces = 16

// Write is write(2) and pwrite(2).
func (f *file) Write(c vfs.Caller, vf *vfs.File, src *uio.Src, off int64) (int, error) {
	in := f.in
	sb := in.sb
	if sb.ro.Load() {
		return 0, unix.EROFS
	}
	in.io.Lock()
	defer in.io.Unlock()
	appending := vf != nil && vf.Appends(off)
	if appending {
		off = in.Attr().Size
	}
	if src.Len() == 0 {
		return 0, nil
	}
	if !bdev.Aligned(vf, &src.IO, off) {
		return 0, unix.EINVAL
	}
	in.mu.RLock()
	limit, fixed := in.maxSize(), in.attr.Flags&unix.STATX_ATTR_IMMUTABLE != 0
	in.mu.RUnlock()
	if fixed { // since it was opened
		return 0, unix.EPERM
	}
	if off < 0 || off >= limit {
		return 0, unix.EFBIG
	}
	src.Limit(int(min(int64(src.Len()), limit-off)))
	done := in.store(src, off)
	if src.Len() == 0 {
		return done, nil
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	root := sb.privileged(c)
	for src.Len() > 0 {
		at := off + int64(done)
		lead := int(at & int64(sb.blockSize-1))
		n := min(src.Len(), bounceSize-lead-sb.blockSize)
		k, cerr := src.CopyIn((*buf)[lead : lead+n])
		if k == 0 && cerr != nil {
			return done, cerr
		}
		w, err := in.writeFrom(root, *buf, lead, k, at, true)
		done += w
		if appending && done > 0 {
			vf.SetPos(off + int64(done))
		}
		if err != nil {
			return done, err
		}
		if cerr != nil {
			return done, cerr
		}
	}
	return done, nil
}

// writeFrom writes the n bytes at buf[lead:] to the file at off, where lead is off's place in its block; what lies around
// them in buf, to the next block boundary, is overwritten. through says that pages of mappings get the bytes, too. The
// caller holds in.io.
func (in *inode) writeFrom(root bool, buf []byte, lead, n int, off int64, through bool) (done int, err error) {
	sb := in.sb
	bs := sb.blockSize
	for tried := false; done < n; {
		at := lead + done
		skip := at & (bs - 1)
		p := buf[at-skip:]
		if done > 0 && skip > 0 {
			// The bytes before were written; a new block would need them again.
			p = p[skip:]
			if k, err := in.writePart(root, p[:n-done], off+int64(done), through); err != nil || k == 0 {
				return done, err
			} else {
				done += k
			}
			continue
		}
		k, err := in.writeBlocksOf(root, p, skip, n-done, off+int64(done), through)
		done += k
		if err == unix.ENOSPC && k == 0 && !tried && sb.reclaim() {
			tried = true // a failed attempt frees blocks itself: that does not help the next
			continue
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writePart is writeFrom for bytes that lie anywhere.
func (in *inode) writePart(root bool, p []byte, off int64, through bool) (int, error) {
	skip := int(off & int64(in.sb.blockSize-1))
	q := make([]byte, (skip+len(p)+in.sb.blockSize)&^(in.sb.blockSize-1))
	copy(q[skip:], p)
	return in.writeBlocksOf(root, q, skip, len(p), off, through)
}

// reclaim makes freed blocks usable, and reports whether there were any.
func (sb *superBlock) reclaim() bool {
	sb.w.mu.Lock()
	n := sb.w.tx.nfreed
	sb.w.mu.Unlock()
	return n > 0 && sb.commit(false) == nil
}

// piece is a run of blocks that a write goes to.
type piece struct {
	phys     uint64
	from, to int  // bytes of the buffer
	fresh    bool // the blocks were not written before: from and to are whole blocks
}

// writeBlocksOf writes some of the n bytes at p[skip:] to the file at off and returns how many. p begins at a block
// boundary of the file and ends at one.
func (in *inode) writeBlocksOf(root bool, p []byte, skip, n int, off int64, through bool) (int, error) {
	sb := in.sb
	if k, ok, err := in.overwrite(p[skip:skip+n], off, through); ok || err != nil {
		return k, err
	}
	if err := sb.begin(); err != nil {
		return 0, err
	}
	in.mu.Lock()
	journalled := in.journalData()
	if journalled { // what fits into one change
		n = min(n, maxJournalled*sb.blockSize-skip)
		keep := (skip + n + sb.blockSize - 1) &^ (sb.blockSize - 1)
		p = p[:min(keep, len(p))]
	}
	var room [4]piece
	pieces, done, err := in.preparePieces(room[:0], root, p, skip, n, off)
	if journalled {
		if werr := in.writeJournalled(p, pieces); werr != nil {
			done, err = 0, werr
		}
		pieces = nil
	}
	sb.w.mu.Unlock()
	// The blocks are entered; no commit can come before their content is there, and no reader.
	defer sb.w.handle.RUnlock()
	if done > 0 {
		err = nil
	}
	// Those that are journalled are in their buffers.
	for _, pc := range pieces {
		if err = sb.writeData(p[pc.from:pc.to], int64(pc.phys)<<sb.blockBits+int64(pc.from&(sb.blockSize-1))); err != nil {
			break
		}
	}
	if err == nil && through && done > 0 {
		in.writeMem(p[skip:skip+done], off)
	}
	in.mu.Unlock()
	if err != nil && len(pieces) > 0 {
		// New blocks hold what was there before: nobody may read that through this file.
		in.dropFresh(pieces, off>>sb.blockBits)
		return 0, err
	}
	return done, err
}

// dropFresh frees the blocks that a failed write has entered.
func (in *inode) dropFresh(pieces []piece, first int64) {
	sb := in.sb
	sb.w.mu.Lock()
	defer sb.w.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, pc := range pieces {
		if !pc.fresh {
			continue
		}
		from := uint64(first) + uint64(pc.from>>sb.blockBits)
		to := uint64(first) + uint64(pc.to>>sb.blockBits)
		for {
			if done, err := in.cut(from, to); done || err != nil {
				break
			}
		}
	}
}

// preparePieces finds or makes the blocks for a part of a write, appends them to pieces and counts it as written: done bytes. The caller holds
// w.mu and in.mu.
func (in *inode) preparePieces(pieces []piece, root bool, p []byte, skip, n int, off int64) (_ []piece, done int, err error) {
	sb := in.sb
	if err := in.needMap(); err != nil {
		return nil, 0, err
	}
	old := in.attr.Size
	if end := off + int64(n); end > old && !in.tailClean {
		if err := in.zeroTailOf(old); err != nil {
			return nil, 0, err
		}
		in.tailClean = true
	}
	bits := sb.blockBits
	first := uint64(off) >> bits
	blocks := uint64(skip+n+sb.blockSize-1) >> bits
	clear(p[:skip])
	clear(p[skip+n : int(blocks<<bits)])
	b := uint64(0)
	for b < blocks && len(pieces) < maxPieces {
		var r run
		if r, err = in.mapBlock(first + b); err != nil {
			break
		}
		k := min(r.n, blocks-b)
		pc := piece{phys: r.phys, from: int(b << bits), to: int((b + k) << bits)}
		switch r.kind {
		case written:
			pc.phys = r.phys
			pc.from, pc.to = max(pc.from, skip), min(pc.to, skip+n)
		case unwritten:
			if err = in.markWritten(uint32(first+b), uint32(k)); err == nil {
				var again run
				if again, err = in.mapBlock(first + b); err == nil && again.kind != written {
					err = errCorrupt
				} else {
					pc.fresh = true
					k = min(k, again.n)
					pc.to = int((b + k) << bits)
				}
			}
		case hole:
			var got uint32
			pc.phys, got, err = in.allocAt(first+b, uint32(k), root, false)
			if err == nil {
				k = uint64(got)
				pc.to = int((b + k) << bits)
				pc.fresh = true
			}
		}
		if err != nil {
			break
		}
		pieces = append(pieces, pc)
		b += k
	}
	if b == 0 {
		return nil, 0, err
	}
	done = min(int(b<<bits)-skip, n)
	t := now()
	in.update(func(a *vfs.Attr) {
		a.Size = max(a.Size, off+int64(done))
		a.Mtime, a.Ctime = t, t
	})
	if in.attr.Size > 1<<31-1 && old <= 1<<31-1 {
		sb.largeFile()
	}
	in.markDirty(false)
	if in.attr.Size != old {
		in.resizeMem(old, in.attr.Size)
	}
	return pieces, done, nil
}

// overwrite writes p if all of it goes to blocks that are there already: then nothing but times changes.
func (in *inode) overwrite(p []byte, off int64, through bool) (n int, ok bool, err error) {
	sb := in.sb
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.inline() || off+int64(len(p)) > in.attr.Size || in.journalData() {
		return 0, false, nil
	}
	for at := off; at < off+int64(len(p)); {
		r, err := in.mapBlock(uint64(at) >> sb.blockBits)
		if err != nil {
			return 0, false, err
		}
		if r.kind != written {
			return 0, false, nil
		}
		at = int64(r.start+r.n) << sb.blockBits
	}
	for n < len(p) {
		at := off + int64(n)
		r, err := in.mapBlock(uint64(at) >> sb.blockBits)
		if err != nil {
			return n, true, err
		}
		inBlock := at & int64(sb.blockSize-1)
		k := int(min(uint64(len(p)-n), r.n<<sb.blockBits-uint64(inBlock)))
		if err := sb.writeData(p[n:n+k], int64(r.phys)<<sb.blockBits+inBlock); err != nil {
			return n, true, err
		}
		n += k
	}
	if through {
		in.writeMem(p, off)
	}
	in.touchLazily()
	return n, true, nil
}

// touchLazily takes note of the time of a write that has changed nothing else.
func (in *inode) touchLazily() {
	t := now()
	same := false
	in.update(func(a *vfs.Attr) {
		same = a.Mtime == t && a.Ctime == t
		a.Mtime, a.Ctime = t, t
	})
	if !same {
		in.lazy.Store(true)
		in.markDirty(true)
	}
}

// store copies bytes that overwrite others from guest memory straight to the pages of the image, as far as there are such.
// It returns how many; the rest is to be written in the other way. The caller holds in.io.
func (in *inode) store(src *uio.Src, off int64) (done int) {
	sb := in.sb
	if sb.storer == nil || !src.Guest() {
		return 0
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.inline() || int64(src.Len()) > in.attr.Size-off || in.journalData() || in.hasMem() {
		return 0
	}
	if done = in.storeMapped(src, off); done == 0 {
		return 0
	}
	if in.hasMem() { // it was made meanwhile, and may have been filled before
		in.reloadMem(off, done)
	}
	in.touchLazily()
	return done
}

// storeMapped is the copying of store. The caller holds in.mu, too.
func (in *inode) storeMapped(src *uio.Src, off int64) (done int) {
	sb := in.sb
	for src.Len() > 0 {
		at := off + int64(done)
		r, err := in.mapBlock(uint64(at) >> sb.blockBits)
		if err != nil || r.kind != written {
			break
		}
		inBlock := at & int64(sb.blockSize-1)
		k := min(uint64(src.Len()), r.n<<sb.blockBits-uint64(inBlock))
		ok := sb.storer.Store(int64(r.phys)<<sb.blockBits+inBlock, int64(k), func(p []byte) {
			var n int
			n, err = src.CopyMapped(p)
			done += n
		})
		if !ok || err != nil {
			break // an error may be of either side
		}
	}
	return done
}

// writeData writes bytes to the device, at any place: what is around them in their sectors stays.
func (sb *superBlock) writeData(p []byte, at int64) error {
	const mask = bdev.SectorSize - 1
	head := int(at & mask)
	if head == 0 && len(p)&mask == 0 {
		_, err := sb.dev.WriteAt(p, at)
		return err
	}
	var sector [bdev.SectorSize]byte
	if head > 0 || len(p) < bdev.SectorSize {
		if _, err := sb.dev.ReadAt(sector[:], at-int64(head)); err != nil {
			return err
		}
		n := copy(sector[head:], p)
		if _, err := sb.dev.WriteAt(sector[:], at-int64(head)); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	if whole := len(p) &^ mask; whole > 0 {
		if _, err := sb.dev.WriteAt(p[:whole], at); err != nil {
			return err
		}
		p, at = p[whole:], at+int64(whole)
	}
	if len(p) > 0 {
		return sb.writeData(p, at)
	}
	return nil
}

// Fsync is fsync(2) and fdatasync(2).
func (f *file) Fsync(_ vfs.Caller, _ *vfs.File, dataOnly bool) error {
	return f.in.fsync(dataOnly)
}

func (in *inode) fsync(dataOnly bool) error {
	sb := in.sb
	if sb.ro.Load() {
		if sb.aborted.Load() {
			return unix.EIO
		}
		return nil
	}
	if err := in.flushMem(0, math.MaxInt64); err != nil {
		return err
	}
	if err := in.lost.Swap(nil); err != nil {
		return *err
	}
	if !dataOnly && in.lazy.Swap(false) {
		return sb.commit(true)
	}
	return sb.commitTo(in.seq.Load())
}

// Fallocate is fallocate(2).
func (f *file) Fallocate(c vfs.Caller, _ *vfs.File, mode uint32, off, n int64) error {
	in := f.in
	sb := in.sb
	if sb.ro.Load() {
		return unix.EROFS
	}
	in.io.Lock()
	defer in.io.Unlock()
	if off > in.limit()-n {
		return unix.EFBIG
	}
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_PUNCH_HOLE:
		return in.punch(off, n)
	case unix.FALLOC_FL_ZERO_RANGE:
		if !in.canPreallocate() {
			return unix.EOPNOTSUPP
		}
		if err := in.punch(off, n); err != nil {
			return err
		}
		return in.preallocate(sb.privileged(c), off, n, keep)
	case 0:
		if !in.canPreallocate() {
			return unix.EOPNOTSUPP
		}
		return in.preallocate(sb.privileged(c), off, n, keep)
	case unix.FALLOC_FL_COLLAPSE_RANGE:
		return in.collapse(off, n)
	case unix.FALLOC_FL_INSERT_RANGE:
		return in.insert(off, n)
	}
	return unix.EOPNOTSUPP
}

// canPreallocate reports whether the file can have unwritten blocks.
func (in *inode) canPreallocate() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.metaMap()
}

func (in *inode) metaMap() bool {
	return in.sb.extents() && (in.inline() || in.extentMapped())
}

// preallocate fills the holes of a range with unwritten blocks. What there was room for stays when there is no more, and the
// file ends with it. The caller holds in.io.
func (in *inode) preallocate(root bool, off, n int64, keep bool) error {
	sb := in.sb
	b, end := uint64(off)>>sb.blockBits, in.blocksFor(off+n)
	var full error
	for tried := false; b < end && full == nil; {
		if err := sb.begin(); err != nil {
			return err
		}
		in.mu.Lock()
		err := in.needMap()
		pieces := 0
		for err == nil && b < end && pieces < maxPieces {
			var r run
			if r, err = in.mapBlock(b); err != nil {
				break
			}
			if r.kind != hole {
				b = r.start + r.n
				continue
			}
			var got uint32
			if _, got, err = in.allocAt(b, uint32(min(r.n, end-b, 1<<16)), root, true); err == nil {
				b += uint64(got)
				tried = false
			}
			pieces++
		}
		if err == nil {
			in.touch()
		}
		in.mu.Unlock()
		sb.end()
		if err == unix.ENOSPC {
			if tried || !sb.reclaim() {
				full = err
			}
			tried = true
		} else if err != nil {
			return err
		}
	}
	size := min(off+n, int64(b)<<sb.blockBits)
	if keep || size <= in.Attr().Size {
		return full
	}
	if err := sb.begin(); err != nil {
		return err
	}
	defer sb.end()
	in.mu.Lock()
	defer in.mu.Unlock()
	old := in.attr.Size
	if err := in.zeroTailOf(old); err != nil {
		return err
	}
	in.tailClean = true
	t := now()
	in.update(func(a *vfs.Attr) { a.Size, a.Mtime, a.Ctime = size, t, t })
	if size > 1<<31-1 {
		sb.largeFile()
	}
	in.markDirty(false)
	in.resizeMem(old, size)
	return full
}

// punch makes a hole. The caller holds in.io.
func (in *inode) punch(off, n int64) error {
	sb := in.sb
	bs := int64(sb.blockSize)
	if err := sb.begin(); err != nil {
		return err
	}
	in.mu.Lock()
	err := in.needMap()
	end := off + n
	first, last := in.blocksFor(off), uint64(end)>>sb.blockBits
	if err == nil {
		if first > last { // within one block
			err = in.zeroBytes(off, n)
		} else {
			if head := int64(first)*bs - off; head > 0 {
				err = in.zeroBytes(off, head)
			}
			if tail := end & (bs - 1); err == nil && tail > 0 {
				err = in.zeroBytes(end-tail, tail)
			}
		}
	}
	if err == nil {
		in.touch()
		in.punchMem(off, n)
	}
	in.mu.Unlock()
	sb.end()
	if err != nil {
		return err
	}
	return in.cutAll(first, min(last, maxBlocks))
}
