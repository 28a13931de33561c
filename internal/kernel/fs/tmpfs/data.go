package tmpfs

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// data is the content of a regular file. Bytes that nobody has written are zero.
//
// Without mem the pages are in heap; a page may be shorter than pageSize (the rest is zero), and empty if it has only been
// allocated. With mem they are there, and have tells which pages read, write and fallocate have charged for; the guest adds
// more through its mappings, which recount finds.
type data struct {
	heap  map[int64][]byte
	mem   platform.Memfile
	have  map[int64]uint64 // page/64 to bits
	pages int64            // charged
	seals uint32
	// reserved is where the last fallocate ended: there may be pages up to it behind the end of the file.
	reserved int64

	mapped int  // mappings
	writes int  // of them, shared ones through a writable descriptor
	opens  int  // open files, for files that are in no directory
	anon   bool // a memfd: freed with its last open file
}

// freeData frees all pages. The caller holds mu.
func (in *inode) freeData() {
	d := &in.data
	d.heap = nil
	if d.mem != nil && d.mapped == 0 {
		in.closeMem()
	}
	if d.mem == nil {
		in.charged(-d.pages)
	}
}

// closeMem gives up the host memory object.
func (in *inode) closeMem() {
	_ = in.data.mem.Close() // it is memory: nothing is lost
	in.data.mem, in.data.have = nil, nil
	shared.mu.Lock()
	delete(shared.m, in)
	shared.mu.Unlock()
}

// charged books n pages that are there already.
func (in *inode) charged(n int64) {
	in.data.pages += n
	in.sb.pages.Add(n)
	used.Add(n)
}

// charge books n pages, or ENOSPC.
func (in *inode) charge(n int64) error {
	if err := in.sb.charge(n); err != nil {
		return err
	}
	in.data.pages += n
	return nil
}

// recount books what guests have added to or taken from the host memory object. The caller holds mu.
func (in *inode) recount() {
	if d := &in.data; d.mem != nil {
		in.charged(d.mem.Allocated()/pageSize - d.pages)
	}
}

// page returns the heap page idx with room for its first n bytes, making it if needed. The caller holds mu.
func (in *inode) page(idx int64, n int) ([]byte, error) {
	d := &in.data
	p, ok := d.heap[idx]
	if !ok {
		if err := in.charge(1); err != nil {
			return nil, err
		}
	}
	if len(p) < n {
		// Small files stay small; what grows gets a whole page soon.
		size := 64
		for size < n {
			size *= 4
		}
		np := make([]byte, min(size, pageSize))
		copy(np, p)
		p = np
	}
	if d.heap == nil {
		d.heap = make(map[int64][]byte)
	}
	d.heap[idx] = p
	return p, nil
}

// reserve charges for the pages of a range of the host memory object. The caller holds mu.
func (in *inode) reserve(off, n int64) error {
	d := &in.data
	fresh := int64(0)
	for idx, last := off/pageSize, (off+n-1)/pageSize; idx <= last; idx++ {
		if d.have[idx/64]>>(idx%64)&1 == 0 {
			fresh++
		}
	}
	if fresh == 0 {
		return nil
	}
	if err := in.charge(fresh); err != nil {
		return err
	}
	for idx, last := off/pageSize, (off+n-1)/pageSize; idx <= last; idx++ {
		d.have[idx/64] |= 1 << (idx % 64)
	}
	return nil
}

// holds reports whether all pages of a range have been written or reserved.
func (d *data) holds(off, n int64) bool {
	for idx, last := off/pageSize, (off+n-1)/pageSize; idx <= last; idx++ {
		if d.have[idx/64]>>(idx%64)&1 == 0 {
			return false
		}
	}
	return true
}

// truncate sets the size. The caller holds mu.
func (in *inode) truncate(size int64) error {
	d := &in.data
	if size < 0 {
		return unix.EINVAL
	}
	old := in.attr.Size
	if size < old && d.seals&unix.F_SEAL_SHRINK != 0 || size > old && d.seals&unix.F_SEAL_GROW != 0 {
		return unix.EPERM
	}
	if d.mem != nil {
		if err := d.mem.Truncate(size); err != nil {
			return hostError(err)
		}
		if size < old {
			in.forgetPages((size+pageSize-1)/pageSize, math.MaxInt64/pageSize+1)
			in.recount()
		}
	} else if size < old {
		in.zeroHeap(size, max(old, d.reserved)-size)
		d.reserved = min(d.reserved, size)
	}
	in.attr.Size = size
	in.touch()
	return nil
}

// forgetPages clears have for pages [from, to).
func (in *inode) forgetPages(from, to int64) {
	for w := range in.data.have {
		lo, hi := max(from-w*64, 0), min(to-w*64, 64)
		if lo < hi {
			mask := (^uint64(0) >> (64 - uint(hi-lo))) << uint(lo)
			if in.data.have[w] &^= mask; in.data.have[w] == 0 {
				delete(in.data.have, w)
			}
		}
	}
}

// zeroHeap makes a range of heap pages read as zero and frees the whole pages in it. The range may be far beyond the end.
func (in *inode) zeroHeap(off, n int64) {
	d := &in.data
	first, last := off/pageSize, (off+n-1)/pageSize
	clearPage := func(idx int64, p []byte) {
		lo, hi := max(off-idx*pageSize, 0), min(off+n-idx*pageSize, pageSize)
		if lo == 0 && (hi == pageSize || idx*pageSize+hi >= in.attr.Size) {
			delete(d.heap, idx)
			_ = in.charge(-1) // giving back does not fail
			return
		}
		if lo < int64(len(p)) {
			clear(p[lo:min(hi, int64(len(p)))])
		}
	}
	if last-first < int64(len(d.heap)) {
		for idx := first; idx <= last; idx++ {
			if p, ok := d.heap[idx]; ok {
				clearPage(idx, p)
			}
		}
		return
	}
	for idx, p := range d.heap {
		if idx >= first && idx <= last {
			clearPage(idx, p)
		}
	}
}

// hostError makes an errno of what a Memfile returned.
func hostError(err error) error {
	if e := abi.Errno(err); e == unix.ENOMEM || e == unix.ENOSPC || e == unix.EFBIG {
		return e
	}
	return unix.EIO
}

const (
	// windowLeast is the shortest copy for which looking up a Memfile's window is worth it, windowMost the longest.
	windowLeast = 16 << 10
	windowMost  = 1 << 20
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// read copies from off to dst.
func (in *inode) read(dst *uio.Dst, off int64) (int, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	n := in.attr.Size - off
	if n <= 0 {
		return 0, nil
	}
	dst.Limit(int(min(n, math.MaxInt)))
	done := 0
	if in.data.mem != nil {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		for dst.Len() > 0 {
			at := off + int64(done)
			if n := min(dst.Len(), windowMost); n >= windowLeast && dst.Guest() && in.data.holds(at, int64(n)) {
				if w := in.data.mem.Window(at, n, true); w != nil {
					k, err := dst.CopyOut(w)
					done += k
					if err != nil {
						return done, err
					}
					continue
				}
			}
			p := (*buf)[:min(dst.Len(), len(*buf))]
			k, err := in.data.mem.ReadAt(p, at)
			if err != nil && k == 0 {
				return done, hostError(err)
			}
			clear(p[k:])
			k, err = dst.CopyOut(p)
			done += k
			if err != nil {
				return done, err
			}
		}
		return done, nil
	}
	pieces := pieceLists.Get().(*pieceList)
	defer pieces.free()
	for dst.Len() > 0 {
		n, size := 0, 0
		for n < len(pieces) && size < dst.Len() {
			at := off + int64(done+size)
			lo := int(at % pageSize)
			want := min(pageSize-lo, dst.Len()-size)
			p := in.data.heap[at/pageSize]
			if lo < len(p) {
				p = p[lo:min(lo+want, len(p))]
			} else {
				p = zeroPage[:want]
			}
			pieces[n] = p
			size += len(p)
			n++
		}
		k, err := dst.CopyOutPieces(pieces[:n])
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// pieceList are heap pages that are copied at once.
type pieceList [64][]byte

var pieceLists = sync.Pool{New: func() any { return new(pieceList) }}

func (p *pieceList) free() {
	clear(p[:])
	pieceLists.Put(p)
}

var zeroPage [pageSize]byte

// write copies from src to off, or to the end if appending. It returns where it began.
func (in *inode) write(src *uio.Src, off int64, appending bool) (done int, at int64, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := &in.data
	if appending {
		off = in.attr.Size
	}
	n := int64(src.Len())
	if n == 0 {
		return 0, off, nil
	}
	if d.seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
		return 0, off, unix.EPERM
	}
	if off > math.MaxInt64-n {
		if off == math.MaxInt64 {
			return 0, off, unix.EFBIG
		}
		src.Limit(int(math.MaxInt64 - off))
	}
	if d.seals&unix.F_SEAL_GROW != 0 && off+n > in.attr.Size {
		if off >= in.attr.Size {
			return 0, off, unix.EPERM
		}
		src.Limit(int(in.attr.Size - off))
	}
	if d.mem != nil {
		done, err = in.writeMem(src, off)
	} else {
		done, err = in.writeHeap(src, off)
	}
	if done > 0 {
		in.attr.Size = max(in.attr.Size, off+int64(done))
		in.touch()
	}
	return done, off, err
}

func (in *inode) writeHeap(src *uio.Src, off int64) (int, error) {
	done := 0
	pieces := pieceLists.Get().(*pieceList)
	defer pieces.free()
	for src.Len() > 0 {
		n, size := 0, 0
		for n < len(pieces) && size < src.Len() {
			at := off + int64(done+size)
			lo := int(at % pageSize)
			want := min(pageSize-lo, src.Len()-size)
			p, err := in.page(at/pageSize, lo+want)
			if err != nil {
				if n == 0 {
					return done, err
				}
				break // what fits is written first
			}
			pieces[n] = p[lo : lo+want]
			size += want
			n++
		}
		k, err := src.CopyInPieces(pieces[:n])
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (in *inode) writeMem(src *uio.Src, off int64) (int, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	done := 0
	for src.Len() > 0 {
		at := off + int64(done)
		if n := min(src.Len(), windowMost); n >= windowLeast && src.Guest() && at+int64(n) <= in.attr.Size && in.reserve(at, int64(n)) == nil {
			if w := in.data.mem.Window(at, n, true); w != nil {
				k, err := src.CopyIn(w)
				done += k
				if err == nil {
					continue
				}
				// Guest memory that is not there, or none left on the host: the buffer tells.
			}
		}
		p := (*buf)[:min(src.Len(), len(*buf))]
		if err := in.reserve(at, int64(len(p))); err != nil {
			// Not all of it may fit: try to fill the page that is begun.
			p = p[:min(len(p), int(pageSize-at%pageSize))]
			if err := in.reserve(at, int64(len(p))); err != nil {
				return done, err
			}
		}
		k, cerr := src.CopyIn(p)
		if k > 0 {
			w, err := in.data.mem.WriteAt(p[:k], at)
			done += w
			if err != nil || w < k {
				return done, hostError(err)
			}
		}
		if cerr != nil {
			return done, cerr
		}
	}
	return done, nil
}

// file is an open regular file.
type file struct {
	vfs.FileBase
	in *inode
}

func (in *inode) openData() *file {
	if in.data.anon {
		in.mu.Lock()
		in.data.opens++
		in.mu.Unlock()
	}
	return &file{in: in}
}

// Release frees a memfd with its last open file.
func (f *file) Release(*vfs.File) {
	in := f.in
	if !in.data.anon {
		return
	}
	in.mu.Lock()
	in.data.opens--
	if in.data.opens == 0 {
		in.freeData()
		in.freeExtra()
	}
	in.mu.Unlock()
}

// Read implements vfs.FileOps.
func (f *file) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, off int64) (int, error) {
	return f.in.read(dst, off)
}

// Write implements vfs.FileOps.
func (f *file) Write(_ vfs.Caller, vf *vfs.File, src *uio.Src, off int64) (int, error) {
	appending := vf.Appends(off)
	n, at, err := f.in.write(src, off, appending)
	if appending && n > 0 {
		vf.SetPos(at + int64(n))
	}
	if n > 0 {
		return n, nil
	}
	return n, err
}

// Fsync has nothing to write.
func (f *file) Fsync(vfs.Caller, *vfs.File, bool) error { return nil }

// Seek knows holes, unless the file is in a host memory object: then all of it counts as data.
func (f *file) Seek(_ vfs.Caller, vf *vfs.File, off int64, whence int) (int64, error) {
	in := f.in
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return vfs.GenericSeek(vf, off, whence)
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.data.mem != nil {
		in.mu.RUnlock()
		defer in.mu.RLock()
		return vfs.GenericSeek(vf, off, whence)
	}
	size := in.attr.Size
	if off < 0 || off >= size {
		return 0, unix.ENXIO
	}
	idx := off / pageSize
	if whence == unix.SEEK_HOLE {
		for in.data.heap[idx] != nil {
			idx++
		}
		return min(max(idx*pageSize, off), size), nil
	}
	if in.data.heap[idx] != nil {
		return off, nil
	}
	next := int64(math.MaxInt64)
	for i := range in.data.heap {
		if i > idx {
			next = min(next, i)
		}
	}
	if next == math.MaxInt64 || next*pageSize >= size {
		return 0, unix.ENXIO
	}
	return next * pageSize, nil
}

// Fallocate allocates pages or punches holes.
func (f *file) Fallocate(_ vfs.Caller, _ *vfs.File, mode uint32, off, n int64) error {
	in := f.in
	d := &in.data
	in.mu.Lock()
	defer in.mu.Unlock()
	switch mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		if d.seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
			return unix.EPERM
		}
		return in.punch(off, n)
	case 0, unix.FALLOC_FL_KEEP_SIZE:
	default:
		return unix.EOPNOTSUPP
	}
	end := off + n
	if mode == 0 && end > in.attr.Size && d.seals&unix.F_SEAL_GROW != 0 {
		return unix.EPERM
	}
	if err := in.allocate(off, n); err != nil {
		return err
	}
	if mode == 0 && end > in.attr.Size {
		if d.mem != nil {
			if err := d.mem.Truncate(end); err != nil {
				return hostError(err)
			}
		}
		in.attr.Size = end
	}
	in.attr.Ctime = now()
	return nil
}

// allocate charges for a range. It fails before it begins if that cannot fit.
func (in *inode) allocate(off, n int64) error {
	d := &in.data
	first, last := off/pageSize, (off+n-1)/pageSize
	if limit := in.sb.limit(); last-first+1 > limit {
		return unix.ENOSPC
	}
	if d.mem != nil {
		return in.reserve(off, n)
	}
	fresh := int64(0)
	for idx := first; idx <= last; idx++ {
		if d.heap[idx] == nil {
			fresh++
		}
	}
	if err := in.charge(fresh); err != nil {
		return err
	}
	if d.heap == nil {
		d.heap = make(map[int64][]byte)
	}
	for idx := first; idx <= last; idx++ {
		if d.heap[idx] == nil {
			d.heap[idx] = []byte{}
		}
	}
	d.reserved = max(d.reserved, off+n)
	return nil
}

// maxReserve bounds fallocate where there is no other limit, in pages.
const maxReserve = 1 << 22

// limit is how many pages the instance can have in all.
func (sb *superBlock) limit() int64 {
	l := int64(maxReserve)
	if m := sb.maxPages.Load(); m > 0 {
		l = min(l, m)
	}
	if TotalPages > 0 {
		l = min(l, int64(TotalPages))
	}
	return l
}

// punch makes a hole.
func (in *inode) punch(off, n int64) error {
	d := &in.data
	if d.mem == nil {
		in.zeroHeap(off, n)
	} else {
		if n = min(n, in.attr.Size-off); n <= 0 {
			return nil
		}
		if err := d.mem.Punch(off, n); err != nil {
			return hostError(err)
		}
		in.forgetPages((off+pageSize-1)/pageSize, (off+n)/pageSize)
		in.recount()
	}
	in.touch()
	return nil
}

// Mapping moves the file into host memory and returns it.
func (f *file) Mapping(_ vfs.Caller, _ *vfs.File, shr, write bool) (vfs.Mapping, error) {
	in := f.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if shr && write {
		if in.data.seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
			return nil, unix.EPERM
		}
	}
	if err := in.toMem(); err != nil {
		return nil, err
	}
	return in, nil
}

// toMem moves the pages from the heap into a host memory object. The caller holds mu.
func (in *inode) toMem() error {
	d := &in.data
	if d.mem != nil {
		return nil
	}
	if NewMemfile == nil {
		return unix.ENODEV
	}
	m, err := NewMemfile("tmpfs")
	if err != nil {
		return unix.ENFILE
	}
	if err := m.Truncate(in.attr.Size); err != nil {
		_ = m.Close() // the error that counts is known
		return hostError(err)
	}
	have := make(map[int64]uint64)
	for idx, p := range d.heap {
		have[idx/64] |= 1 << (idx % 64)
		if p = p[:max(min(int64(len(p)), in.attr.Size-idx*pageSize), 0)]; len(p) == 0 {
			continue
		}
		if _, err := m.WriteAt(p, idx*pageSize); err != nil {
			_ = m.Close() // the error that counts is known
			return hostError(err)
		}
	}
	d.heap, d.mem, d.have = nil, m, have
	shared.mu.Lock()
	if shared.m == nil {
		shared.m = make(map[*inode]struct{})
	}
	shared.m[in] = struct{}{}
	shared.mu.Unlock()
	return nil
}

// Extents implements vfs.Mapping: all of the file is in one object, in the same places.
func (in *inode) Extents(off, n uint64, shr, write bool) ([]vfs.Extent, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if shr && write && in.data.seals&unix.F_SEAL_WRITE != 0 {
		return nil, unix.EPERM // sealed after Mapping looked and before Mapped counted
	}
	if in.data.mem == nil {
		return nil, unix.EIO
	}
	// The host's object ends where the file ends, and gives SIGBUS behind it by itself.
	return []vfs.Extent{{Off: off, Len: n, Host: in.data.mem.Host(), HostOff: off}}, nil
}

// MSync has nothing to write.
func (in *inode) MSync(uint64, uint64) error { return nil }

// Mapped counts mappings; the last one of a file that is gone frees it.
func (in *inode) Mapped(delta int, write bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := &in.data
	d.mapped += delta
	if write {
		d.writes += delta
	}
	if d.mapped != 0 {
		return
	}
	if d.mem != nil && in.attr.Nlink == 0 && d.anon && d.opens == 0 {
		in.freeData()
	}
}

// Seals is fcntl(2) F_GET_SEALS.
func (in *inode) Seals() (uint32, error) {
	if in.typ != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.data.seals, nil
}

// AddSeals is fcntl(2) F_ADD_SEALS, after the check that the file is open for writing.
func (in *inode) AddSeals(seals uint32) error {
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE |
		unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_EXEC
	if seals&^all != 0 || in.typ != unix.S_IFREG {
		return unix.EINVAL
	}
	d := &in.data
	in.mu.Lock()
	if d.writes > 0 && seals&unix.F_SEAL_WRITE != 0 && CountMapped != nil {
		// Mappings that a program has taken away by itself are found to be gone now.
		in.mu.Unlock()
		CountMapped(in)
		in.mu.Lock()
	}
	defer in.mu.Unlock()
	if d.seals&unix.F_SEAL_SEAL != 0 {
		return unix.EPERM
	}
	if seals&unix.F_SEAL_WRITE != 0 && d.seals&unix.F_SEAL_WRITE == 0 && d.writes > 0 {
		return unix.EBUSY
	}
	if seals&unix.F_SEAL_EXEC != 0 && in.attr.Mode&0o111 != 0 {
		seals |= unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE
	}
	d.seals |= seals
	return nil
}
