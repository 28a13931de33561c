package ext4

import (
	"encoding/binary"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// The orphan file (feature orphan_file): Linux notes there, in place of the list that begins in the superblock, which inodes
// are to be freed or truncated after a crash. Each block has inode numbers, 0 where there is none, and a tail. Both the list
// and the file are looked at after a crash, by Linux and by e2fsck, so the list is enough for writing; what Linux has left in
// the file is moved to the list.

const (
	orphanMagic    = 0x0b10ca04
	orphanTailSize = 8
	// orphansAtOnce is how many inodes one change moves: each may be in a block of its own.
	orphansAtOnce = 32
)

// orphanSum is the checksum of a block of the orphan file.
func (in *inode) orphanSum(block uint64, p []byte) uint32 {
	return disk.CRC32C(disk.CRC32CU64(in.seed, block), p[:len(p)-orphanTailSize])
}

// takeOrphanFile moves the entries of the orphan file to the list.
func (sb *superBlock) takeOrphanFile() error {
	if sb.s.ROCompat&disk.ROOrphanPresent == 0 {
		return nil
	}
	if sb.s.Compat&disk.CompatOrphanFile == 0 {
		return sb.errorf(errCorrupt, "orphan file is in use, but the feature is not set")
	}
	in, err := sb.iget(sb.s.OrphanFileInode, false)
	if err != nil {
		return err
	}
	a := in.Attr()
	if !a.IsRegular() || in.inline() {
		return sb.errorf(errCorrupt, "inode #%d: the orphan file is no regular file", in.ino)
	}
	moved := map[uint32]bool{}
	for b := range in.blocksFor(a.Size) {
		for done := false; !done; {
			if err := sb.begin(); err != nil {
				return err
			}
			done, err = sb.takeOrphanBlock(in, b, moved)
			sb.end()
			if err != nil {
				return err
			}
		}
	}
	if err := sb.begin(); err != nil {
		return err
	}
	sb.s.ROCompat &^= disk.ROOrphanPresent
	sb.markGroup(0) // so that the superblock is written
	sb.end()
	return nil
}

// takeOrphanBlock moves some entries of a block.
func (sb *superBlock) takeOrphanBlock(in *inode, n uint64, moved map[uint32]bool) (done bool, err error) {
	le := binary.LittleEndian
	r, err := in.mapBlock(n)
	if err != nil {
		return false, err
	}
	if r.kind != written {
		return true, nil
	}
	b, err := sb.orphanBlock(in, r.phys)
	if err != nil {
		return false, err
	}
	defer b.Release()
	p := b.Data()
	tail := len(p) - orphanTailSize
	count := 0
	for at := 0; at+4 <= tail; at += 4 {
		ino := le.Uint32(p[at:])
		if ino == 0 {
			continue
		}
		if count == orphansAtOnce {
			break
		}
		count++
		if !moved[ino] {
			moved[ino] = true
			o, err := sb.igetLinks(ino, false, true)
			if err != nil {
				return false, sb.errorf(errCorrupt, "orphan file is damaged at inode %d: run e2fsck", ino)
			}
			sb.addOrphan(o)
		}
		le.PutUint32(p[at:], 0)
	}
	if count == 0 {
		return true, nil
	}
	if sb.csum {
		le.PutUint32(p[tail+4:], in.orphanSum(b.Block, p))
	}
	sb.dirtyBuf(b)
	return count < orphansAtOnce, nil
}

// orphanBlock reads a block of the orphan file and checks it.
func (sb *superBlock) orphanBlock(in *inode, block uint64) (*bdev.Buffer, error) {
	b, err := sb.block(block)
	if err != nil {
		return nil, err
	}
	p := b.Data()
	tail := len(p) - orphanTailSize
	switch {
	case leU32(p[tail:]) != orphanMagic:
		err = disk.ErrCorrupt
	case sb.csum && leU32(p[tail+4:]) != in.orphanSum(block, p):
		err = disk.ErrChecksum
	}
	if err != nil {
		b.Release()
		return nil, sb.damage(err, "orphan file block %d", block)
	}
	return b, nil
}
