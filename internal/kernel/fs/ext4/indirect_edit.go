package ext4

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
)

const directBlocks = 12

// indirectPath returns the indexes that lead to logical block b: one in the inode, then one in each indirect block.
func (sb *superBlock) indirectPath(b uint64) (idx []uint32, err error) {
	if b < directBlocks {
		return []uint32{uint32(b)}, nil
	}
	b -= directBlocks
	bits := sb.blockBits - 2
	for level := uint(1); level <= 3; level++ {
		if b < 1<<(bits*level) {
			idx = append(idx, uint32(directBlocks+level-1))
			for l := level; l > 0; l-- {
				idx = append(idx, uint32(b>>(bits*(l-1)))&(1<<bits-1))
			}
			return idx, nil
		}
		b -= 1 << (bits * level)
	}
	return nil, unix.EFBIG
}

// insertIndirect enters n blocks from phys on as logical blocks from b on, which are holes. It returns how many were
// entered before an error. The caller holds w.mu and in.mu.
func (in *inode) insertIndirect(b uint64, phys uint64, n uint32) (done uint32, err error) {
	le, sb := binary.LittleEndian, in.sb
	if phys+uint64(n) > 1<<32 {
		return 0, unix.ENOSPC
	}
	in.lastRun.Store(nil)
	for done < n {
		idx, err := sb.indirectPath(b + uint64(done))
		if err != nil {
			return done, err
		}
		list := in.raw.Block[:]
		var buf *bdev.Buffer
		dirty := func() {
			if buf == nil {
				in.markDirty(false)
			} else {
				sb.dirtyBuf(buf)
			}
		}
		drop := func() {
			if buf != nil {
				buf.Release()
			}
		}
		for _, i := range idx[:len(idx)-1] {
			ptr := uint64(le.Uint32(list[4*i:]))
			var next *bdev.Buffer
			if ptr == 0 {
				if next, err = sb.allocMeta(phys); err == nil && next.Block >= 1<<32 {
					blk := next.Block
					next.Release()
					sb.freeBlocksNow(nil, blk, 1, true)
					err = unix.ENOSPC
				}
				if err == nil {
					in.addBlocks(1)
					le.PutUint32(list[4*i:], uint32(next.Block))
					dirty()
				}
			} else if !sb.validBlocks(in.ino, ptr, 1) {
				err = sb.errorf(errCorrupt, "inode #%d: block %d: invalid indirect block", in.ino, ptr)
			} else {
				next, err = sb.block(ptr)
			}
			drop()
			if err != nil {
				return done, err
			}
			buf, list = next, next.Data()
		}
		end := uint32(len(list) / 4)
		if buf == nil {
			end = directBlocks
		}
		for i := idx[len(idx)-1]; i < end && done < n; i++ {
			if le.Uint32(list[4*i:]) != 0 {
				drop()
				return done, sb.errorf(errCorrupt, "inode #%d: logical block %d is mapped already", in.ino, b+uint64(done))
			}
			le.PutUint32(list[4*i:], uint32(phys)+done)
			done++
		}
		dirty()
		drop()
	}
	return done, nil
}

// cutIndirect frees a part, from the end, of what lies in [from, to). done says that nothing is left there.
func (in *inode) cutIndirect(from, to uint64) (done bool, err error) {
	sb := in.sb
	in.lastRun.Store(nil)
	budget := 256 // pointers
	bits := sb.blockBits - 2
	base := uint64(directBlocks) + 1<<bits + 1<<(2*bits)
	for level := 3; level >= 1; level-- {
		if span := uint64(1) << (bits * uint(level)); to > base && from < base+span {
			at := 4 * (directBlocks + level - 1)
			lo, hi := max(from, base)-base, min(to-base, span)
			if err := in.cutTree(in.raw.Block[at:at+4], level, lo, hi, &budget, func() { in.markDirty(false) }); err != nil {
				return false, err
			}
			if budget <= 0 {
				return false, nil
			}
		}
		if level > 1 {
			base -= 1 << (bits * uint(level-1))
		}
	}
	for b := min(to, directBlocks); b > from; b-- {
		p := in.raw.Block[4*(b-1):]
		if n := binary.LittleEndian.Uint32(p); n != 0 {
			binary.LittleEndian.PutUint32(p, 0)
			in.markDirty(false)
			sb.freeBlocksNow(in, uint64(n), 1, in.metaData())
			in.addBlocks(-1)
		}
	}
	return true, nil
}

// cutTree frees what lies in [from, to), counted from the tree's first block, of the tree that the pointer at p leads to.
// It stops when the budget is used up. The pointer is cleared when nothing is left below it.
func (in *inode) cutTree(p []byte, level int, from, to uint64, budget *int, dirty func()) error {
	le, sb := binary.LittleEndian, in.sb
	ptr := uint64(le.Uint32(p))
	if ptr == 0 {
		return nil
	}
	if !sb.validBlocks(in.ino, ptr, 1) {
		return sb.errorf(errCorrupt, "inode #%d: block %d: invalid indirect block", in.ino, ptr)
	}
	buf, err := sb.block(ptr)
	if err != nil {
		return err
	}
	defer buf.Release()
	list := buf.Data()
	span := uint64(1) << ((sb.blockBits - 2) * uint(level-1))
	changed := false
	for i := int64((to - 1) / span); i >= int64(from/span) && *budget > 0; i-- {
		q := list[4*i : 4*i+4]
		n := uint64(le.Uint32(q))
		if n == 0 {
			continue
		}
		if level == 1 {
			le.PutUint32(q, 0)
			changed = true
			*budget -= 8
			if i > 0 && uint64(le.Uint32(list[4*i-4:])) == n-1 {
				*budget += 7 // neighbours cost little
			}
			sb.freeBlocksNow(in, n, 1, in.metaData())
			in.addBlocks(-1)
			continue
		}
		first := uint64(i) * span
		lo, hi := max(from, first)-first, min(to-first, span)
		if err := in.cutTree(q, level-1, lo, hi, budget, func() { changed = true }); err != nil {
			return err
		}
	}
	for _, c := range list {
		if c != 0 {
			if changed {
				sb.dirtyBuf(buf)
			}
			return nil
		}
	}
	le.PutUint32(p, 0)
	dirty()
	sb.freeBlocksNow(nil, ptr, 1, true)
	in.addBlocks(-1)
	return nil
}
