package ext4

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	pageSize = 4096
	// maxExtents is how many pieces of the image a mapping may consist of: each is a host mapping of its own.
	maxExtents = 64
	// fillChunk is how much of a Memfile is filled at once.
	fillChunk = 64 << 10
	// maxFill bounds what one call copies to a Memfile: what is left out is asked for again when it is touched.
	maxFill = 64 << 20
)

// Mapping is mmap(2). Writable shared mappings cannot be on a read-only file system.
func (f *file) Mapping(_ vfs.Caller, _ *vfs.File, shared, write bool) (vfs.Mapping, error) {
	if shared && write && f.in.sb.ro.Load() {
		return nil, unix.EROFS
	}
	return f.in, nil
}

// Extents implements vfs.Mapping.
func (in *inode) Extents(off, n uint64, shared, write bool) ([]vfs.Extent, error) {
	sb := in.sb
	if shared && write && sb.ro.Load() {
		return nil, unix.EROFS
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	end := (uint64(in.attr.Size) + pageSize - 1) &^ (pageSize - 1)
	if off%pageSize != 0 || off >= end || n == 0 {
		return nil, nil
	}
	end = off + min((n+pageSize-1)&^(pageSize-1), end-off)
	if in.mayDAX(shared) {
		in.dax.Store(true) // before blocks are handed out: they must not be used again while they are mapped
		if x, ok := in.imageExtents(off, end); ok {
			return x, nil
		}
	}
	return in.memExtents(off, end, shared && write)
}

// MapReady implements vfs.ReadyMappable: what lies in the run that was found last is mapped from the image.
func (f *file) MapReady(off, n uint64) (vfs.Mapping, []vfs.Extent) {
	in := f.in
	sb := in.sb
	if !in.mu.TryRLock() {
		return nil, nil
	}
	defer in.mu.RUnlock()
	r, size := in.lastRun.Load(), uint64(in.attr.Size)
	end := (size + pageSize - 1) &^ (pageSize - 1)
	if r == nil || off%pageSize != 0 || off >= end || sb.blockSize != pageSize || !in.mayDAX(false) {
		return nil, nil
	}
	end = off + min((n+pageSize-1)&^(pageSize-1), end-off)
	if r.kind != written || off/pageSize < r.start || end/pageSize > r.start+r.n || end > size && in.tailAt.Load() != int64(size) {
		return nil, nil
	}
	if !in.memMu.TryLock() {
		return nil, nil
	}
	in.mapped++
	in.memMu.Unlock()
	in.dax.Store(true)
	if x, ok := in.imageExtents(off, end); ok {
		return in, x
	}
	go in.Mapped(-1, false) // it may wait
	return nil, nil
}

// mayDAX reports whether pages may be mapped from the image. What is mapped shared must follow every write, and so must
// private mappings once there is such a mapping. A private mapping of the image follows what is written in place, but keeps
// what is cut off: so only of files that nobody writes now, as programs and libraries are.
func (in *inode) mayDAX(shared bool) bool {
	return in.sb.ro.Load() || !shared && !in.memDirty.Load() && in.writers.Load() == 0
}

// imageExtents maps [off, end) from the image, and its holes from the Memfile, which reads as zero there. ok is false if
// some data is not in host pages, or lies in too many pieces.
func (in *inode) imageExtents(off, end uint64) (out []vfs.Extent, ok bool) {
	sb := in.sb
	if sb.mapper == nil || sb.blockSize != pageSize || in.inline() || !sb.ro.Load() && in.journalData() {
		return nil, false
	}
	add := func(x vfs.Extent) bool {
		if l := len(out) - 1; l >= 0 && out[l].Host == x.Host && out[l].HostOff+out[l].Len == x.HostOff {
			out[l].Len += x.Len
			return true
		}
		out = append(out, x)
		return len(out) <= maxExtents
	}
	for at := off; at < end; {
		r, err := in.mapBlock(at / pageSize)
		if err != nil {
			return nil, false
		}
		left := min(r.n*pageSize, end-at)
		if r.kind != written {
			h := in.memHost()
			if h == nil || !add(vfs.Extent{Off: at, Len: left, Host: h, HostOff: at}) {
				return nil, false
			}
			at += left
			continue
		}
		if last := at + left; last > uint64(in.attr.Size) && !in.zeroTail() {
			return nil, false
		}
		for phys := int64(r.phys) * pageSize; left > 0; {
			h, hostOff, k := sb.mapper.HostRange(phys, int64(left))
			k &^= pageSize - 1
			if h == nil || k <= 0 || hostOff%pageSize != 0 {
				return nil, false
			}
			if !add(vfs.Extent{Off: at, Len: uint64(k), Host: h, HostOff: uint64(hostOff)}) {
				return nil, false
			}
			at, phys, left = at+uint64(k), phys+k, left-uint64(k)
		}
	}
	return out, true
}

// zeroTail reports whether the bytes between the end of the file and the end of its last page are zero in the image.
func (in *inode) zeroTail() bool {
	size := uint64(in.attr.Size)
	if in.tailAt.Load() == int64(size) {
		return true
	}
	r, err := in.mapBlock(size / pageSize)
	if err != nil || r.kind != written {
		return false
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	p := (*buf)[:pageSize]
	if _, err := in.sb.dev.ReadAt(p, int64(r.phys)*pageSize); err != nil {
		return false
	}
	for _, c := range p[size%pageSize:] {
		if c != 0 {
			return false
		}
	}
	in.tailAt.Store(int64(size))
	return true
}

// memExtents maps [off, end) from a Memfile that holds the file's content there.
func (in *inode) memExtents(off, end uint64, dirty bool) ([]vfs.Extent, error) {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if err := in.makeMemLocked(); err != nil {
		return nil, err
	}
	end = min(end, off+maxFill)
	if err := in.fillLocked(off, end); err != nil {
		return nil, err
	}
	if dirty && !in.memDirty.Swap(true) {
		in.sb.w.addMapped(in)
	}
	return []vfs.Extent{{Off: off, Len: end - off, Host: in.mem.Host(), HostOff: off}}, nil
}

// memHost is the Memfile's host file, nil if there can be none.
func (in *inode) memHost() *platform.HostFile {
	in.memMu.Lock()
	defer in.memMu.Unlock()
	if in.makeMemLocked() != nil {
		return nil
	}
	return in.mem.Host()
}

// makeMemLocked makes the Memfile, empty and as long as the file.
func (in *inode) makeMemLocked() error {
	if in.mem != nil {
		return nil
	}
	if NewMemfile == nil {
		return unix.ENODEV
	}
	m, err := NewMemfile("ext4")
	if err != nil {
		return unix.ENOMEM
	}
	if err := m.Truncate((in.attr.Size + pageSize - 1) &^ (pageSize - 1)); err != nil {
		_ = m.Close()
		return unix.ENOMEM
	}
	in.mem, in.filled = m, map[uint64]struct{}{}
	return nil
}

// fillLocked copies the file's data between off and end to the Memfile, whole chunks at a time. Holes stay holes. The
// caller holds in.mu for reading and in.memMu.
func (in *inode) fillLocked(off, end uint64) error {
	size := uint64(in.attr.Size)
	end = min(end, size)
	var buf *[]byte
	for at := off &^ (fillChunk - 1); at < end; {
		if !in.inline() {
			r, err := in.mapBlock(at >> in.sb.blockBits)
			if err != nil {
				return err
			}
			// Chunks that lie wholly in a hole need nothing; at stays a multiple of the chunk size.
			if e := (r.start + r.n) << in.sb.blockBits &^ (fillChunk - 1); r.kind != written && e > at {
				for ; at < min(e, end); at += fillChunk {
					if !in.sb.ro.Load() {
						in.filled[at/fillChunk] = struct{}{}
					}
				}
				at = e
				continue
			}
		}
		if _, ok := in.filled[at/fillChunk]; !ok {
			if buf == nil {
				buf = bounces.Get().(*[]byte)
				defer bounces.Put(buf)
			}
			p := (*buf)[:min(fillChunk, size-at)]
			if n, err := in.readDisk(uio.ToBytes(p), int64(at), len(p)); err != nil || n < len(p) {
				return unix.EIO
			}
			if _, err := in.mem.WriteAt(p, int64(at)); err != nil {
				return unix.ENOMEM
			}
			in.filled[at/fillChunk] = struct{}{}
		}
		at += fillChunk
	}
	return nil
}

// MSync writes shared pages back.
func (in *inode) MSync(off, n uint64) error {
	end := off + n
	if end < off || end > 1<<62 {
		end = 1 << 62
	}
	if in.sb.ro.Load() {
		return nil
	}
	if err := in.flushMem(int64(off), int64(end)); err != nil {
		return err
	}
	return in.fsync(true)
}

// Mapped counts mappings. With the last one the Memfile is written back and dropped, and freed blocks that were mapped can
// be used.
func (in *inode) Mapped(delta int, _ bool) {
	in.memMu.Lock()
	last := in.mapped+delta <= 0
	in.memMu.Unlock()
	if last && in.memDirty.Load() {
		if err, ok := in.flushMem(0, 1<<62).(unix.Errno); ok {
			in.lost.Store(&err)
		}
	}
	in.memMu.Lock()
	var m platform.Memfile
	if in.mapped += delta; in.mapped <= 0 {
		m, in.mem, in.filled = in.mem, nil, nil
		if in.memDirty.Swap(false) {
			in.sb.w.delMapped(in)
		}
	}
	busy := in.mapped <= 0 && in.dax.Swap(false)
	in.memMu.Unlock()
	if m != nil {
		_ = m.Close()
	}
	if busy {
		in.sb.releaseBusy(in)
	}
}
