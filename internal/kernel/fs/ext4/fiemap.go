package ext4

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// FIEMAP (linux/fiemap.h, Documentation/filesystems/fiemap.rst).
const (
	fiemapRequest = 0xc020660b
	fiemapHeader  = 32
	fiemapExtent  = 56

	fiemapSync  = 1
	fiemapXattr = 2
	fiemapCache = 4

	fiemapMaxRoom = (1<<32 - 1) / fiemapExtent

	fiemapLast       = 0x1
	fiemapNotAligned = 0x100
	fiemapInline     = 0x200
	fiemapUnwritten  = 0x800
	fiemapMerged     = 0x1000
)

// ioctlFiemap lists the runs of a file.
func (in *inode) ioctlFiemap(c vfs.Caller, arg uint64) error {
	le := binary.LittleEndian
	var h [fiemapHeader]byte
	if err := uio.ReadFull(c.Mem(), h[:], arg); err != nil {
		return err
	}
	start, length, flags, room := le.Uint64(h[:]), le.Uint64(h[8:]), le.Uint32(h[16:]), le.Uint32(h[24:])
	if room > fiemapMaxRoom || length == 0 {
		return unix.EINVAL
	}
	if start > uint64(in.limit()) {
		return unix.EFBIG
	}
	if bad := flags &^ (fiemapSync | fiemapXattr | fiemapCache); bad != 0 {
		le.PutUint32(h[16:], bad)
		_ = uio.WriteFull(c.Mem(), h[:], arg)
		return unix.EBADR
	}
	le.PutUint32(h[16:], flags&fiemapSync) // the others are done with
	length = min(length, 1<<63-start)
	if flags&fiemapSync != 0 {
		if err := in.flushMem(0, 1<<62); err != nil {
			return err
		}
	}
	count := uint32(0)
	put := func(logical, phys, n uint64, flags uint32) error {
		if room == 0 { // only the number is asked for
			count++
			return nil
		}
		var e [fiemapExtent]byte
		le.PutUint64(e[:], logical)
		le.PutUint64(e[8:], phys)
		le.PutUint64(e[16:], n)
		le.PutUint32(e[40:], flags)
		err := uio.WriteFull(c.Mem(), e[:], arg+fiemapHeader+uint64(count)*fiemapExtent)
		count++
		return err
	}
	if flags&fiemapXattr != 0 {
		if err := in.xattrPlace(put); err != nil {
			return err
		}
	} else if err := in.eachRun(start, start+length, func(r run, last bool) (bool, error) {
		bits := in.sb.blockBits
		f := uint32(0)
		if last {
			f = fiemapLast
		}
		switch {
		case in.inline():
			block, at := in.sb.inodePlace(in.ino)
			const blockField = 40 // of i_block in the inode
			return true, put(0, block<<bits+uint64(at)+blockField, uint64(in.attr.Size), f|fiemapInline|fiemapNotAligned)
		case r.kind == unwritten:
			f |= fiemapUnwritten
		case !in.extentMapped():
			f |= fiemapMerged
		}
		err := put(r.start<<bits, r.phys<<bits, r.n<<bits, f)
		return room == 0 || count < room, err
	}); err != nil {
		return err
	}
	le.PutUint32(h[20:], count)
	return uio.WriteFull(c.Mem(), h[:], arg)
}

// xattrPlace is FIEMAP with FIEMAP_FLAG_XATTR: where the attributes are, those in the inode if there are any.
func (in *inode) xattrPlace(put func(logical, phys, n uint64, flags uint32) error) error {
	in.mu.RLock()
	defer in.mu.RUnlock()
	bits := in.sb.blockBits
	switch {
	case in.room != nil:
		block, at := in.sb.inodePlace(in.ino)
		first := disk.BaseInodeSize + int(in.raw.ExtraIsize)
		return put(0, block<<bits+uint64(at+first), uint64(in.sb.inodeSize-first), fiemapLast|fiemapInline|fiemapNotAligned)
	case in.raw.FileACL != 0:
		return put(0, in.raw.FileACL<<bits, uint64(in.sb.blockSize), fiemapLast)
	}
	return nil
}

// eachRun calls f for the runs with blocks that touch the bytes from..to, until it returns false. last says that there is no
// other.
func (in *inode) eachRun(from, to uint64, f func(r run, last bool) (bool, error)) error {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.inline() {
		if in.attr.Size == 0 || from >= uint64(in.attr.Size) {
			return nil
		}
		_, err := f(run{}, true)
		return err
	}
	if !in.hasMap() {
		return nil
	}
	bits := in.sb.blockBits
	end := min((to-1)>>bits+1, maxBlocks)
	r, err := in.nextRun(from >> bits)
	for err == nil && r.kind != hole && r.start < end {
		var next run
		if next, err = in.nextRun(r.start + r.n); err != nil {
			break
		}
		var more bool
		if more, err = f(r, next.kind == hole || next.start >= end); !more {
			break
		}
		r = next
	}
	return err
}

// nextRun is the first run with blocks from block b on; a hole if there is none.
func (in *inode) nextRun(b uint64) (run, error) {
	for b < maxBlocks {
		r, err := in.mapBlock(b)
		if err != nil || r.kind != hole {
			return r, err
		}
		b = r.start + r.n
	}
	return run{}, nil
}
