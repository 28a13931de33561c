package ext4

import (
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// The block special file of a mounted file system shows what the file system has in memory, and the file system takes over
// what is written to it: dumpe2fs and tune2fs work on what is mounted, and e2fsck on what is mounted read-only
// (refresh reads the counts again). Inodes that are in use are not read again.

// overlap calls f for the part of each block that p, at off of the device, has.
func (sb *superBlock) overlap(p []byte, off int64, f func(block uint64, at int, part []byte)) {
	for len(p) > 0 {
		at := int(off & int64(sb.blockSize-1))
		n := min(sb.blockSize-at, len(p))
		f(uint64(off)>>sb.blockBits, at, p[:n])
		p, off = p[n:], off+int64(n)
	}
}

// Overlay is bdev.Cacher's.
func (sb *superBlock) Overlay(p []byte, off int64) {
	w := sb.w
	w.handle.Lock()
	defer w.handle.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !sb.ro.Load() && !sb.aborted.Load() {
		err := sb.gather()
		if err == nil && len(w.tx.bufs) > 0 {
			err = sb.gatherSuper()
		}
		if err != nil {
			_ = sb.abort(err, "cannot prepare a commit")
		}
	}
	sb.overlap(p, off, func(block uint64, at int, part []byte) {
		sb.cache.Peek(block, func(b *bdev.Buffer) { copy(part, b.Data()[at:]) })
	})
}

// Written is bdev.Cacher's.
func (sb *superBlock) Written(p []byte, off int64) {
	w := sb.w
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	w.handle.Lock()
	defer w.handle.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.itable.Lock()
	defer w.itable.Unlock()
	sb.overlap(p, off, func(block uint64, at int, part []byte) {
		sb.cache.Peek(block, func(b *bdev.Buffer) {
			copy(b.Data()[at:], part)
			b.Checked.Store(false)
		})
		if x, ok := w.pending[block]; ok {
			copy(x.data[at:], part)
		}
	})
	if off < disk.SuperOffset+disk.SuperSize && off+int64(len(p)) > disk.SuperOffset {
		sb.superWritten()
	}
}

// superWritten takes over what others may change in the superblock of a mounted file system.
func (sb *superBlock) superWritten() {
	raw := make([]byte, disk.SuperSize)
	if _, err := sb.dev.ReadAt(raw, disk.SuperOffset); err != nil {
		return
	}
	var n disk.Super
	n.Decode(raw)
	s := &sb.s
	if n.Magic != disk.SuperMagic {
		return
	}
	s.VolumeName, s.MaxMountCount, s.CheckInterval, s.LastCheck = n.VolumeName, n.MaxMountCount, n.CheckInterval, n.LastCheck
	s.Errors, s.DefResUID, s.DefResGID, s.DefaultMountOpts = n.Errors, n.DefResUID, n.DefResGID, n.DefaultMountOpts
	if n.ReservedBlocks <= s.BlocksCount/2 {
		s.ReservedBlocks = n.ReservedBlocks
	}
}
