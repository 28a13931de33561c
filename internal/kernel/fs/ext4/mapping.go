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
	if shared && write {
		return nil, unix.EROFS
	}
	return f.in, nil
}

// Extents implements vfs.Mapping.
func (in *inode) Extents(off, n uint64, shared, write bool) ([]vfs.Extent, error) {
	if shared && write {
		return nil, unix.EROFS
	}
	end := (uint64(in.attr.Size) + pageSize - 1) &^ (pageSize - 1)
	if off%pageSize != 0 || off >= end || n == 0 {
		return nil, nil
	}
	end = off + min((n+pageSize-1)&^(pageSize-1), end-off)
	if x, ok := in.imageExtents(off, end); ok {
		return x, nil
	}
	return in.memExtents(off, end)
}

// imageExtents maps [off, end) from the image, and its holes from the Memfile, which reads as zero there. ok is false if
// some data is not in host pages that stay as they are (immutable ones, or all while the file system is not written), or
// lies in too many pieces.
func (in *inode) imageExtents(off, end uint64) (out []vfs.Extent, ok bool) {
	sb := in.sb
	if sb.mapper == nil || sb.blockSize != pageSize || in.inline() {
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
			h, hostOff, k, immutable := sb.mapper.HostRange(phys, int64(left))
			k &^= pageSize - 1
			if !immutable && !sb.ReadOnly() || h == nil || k <= 0 || hostOff%pageSize != 0 {
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
	return true
}

// memExtents maps [off, end) from a Memfile that holds the file's content there.
func (in *inode) memExtents(off, end uint64) ([]vfs.Extent, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.makeMemLocked(); err != nil {
		return nil, err
	}
	end = min(end, off+maxFill)
	if err := in.fillLocked(off, end); err != nil {
		return nil, err
	}
	return []vfs.Extent{{Off: off, Len: end - off, Host: in.mem.Host(), HostOff: off}}, nil
}

// memHost is the Memfile's host file, nil if there can be none.
func (in *inode) memHost() *platform.HostFile {
	in.mu.Lock()
	defer in.mu.Unlock()
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

// fillLocked copies the file's data between off and end to the Memfile, whole chunks at a time. Holes stay holes.
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
			if n, err := in.read(uio.ToBytes(p), int64(at)); err != nil || n < len(p) {
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

// MSync has nothing to write back.
func (in *inode) MSync(uint64, uint64) error { return nil }

// Mapped counts mappings; without any the Memfile is dropped.
func (in *inode) Mapped(delta int) {
	in.mu.Lock()
	var m platform.Memfile
	if in.mapped += delta; in.mapped <= 0 {
		m, in.mem, in.filled = in.mem, nil, nil
	}
	in.mu.Unlock()
	if m != nil {
		_ = m.Close()
	}
}
