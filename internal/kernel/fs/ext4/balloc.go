package ext4

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// group is a block group of a file system that is written.
type group struct {
	desc disk.GroupDesc
	// held has the blocks that are free in the bitmap but must not be used yet: their freeing is not durable, or somebody
	// still maps them. nil if there are none.
	held  []uint64
	nheld uint32
	full  uint32 // all blocks before this one are used or held
	bad   bool   // the bitmaps cannot be trusted
}

// groupBlocks is how many blocks a group has.
func (sb *superBlock) groupBlocks(n uint32) uint32 {
	return uint32(min(uint64(sb.s.BlocksPerGroup), sb.s.BlocksCount-sb.groupFirst(n)))
}

// groupOf finds the group of a block.
func (sb *superBlock) groupOf(block uint64) (group, bit uint32) {
	block -= uint64(sb.s.FirstDataBlock)
	return uint32(block / uint64(sb.s.BlocksPerGroup)), uint32(block % uint64(sb.s.BlocksPerGroup))
}

func bitSet(p []byte, i uint32) bool { return p[i/8]>>(i%8)&1 != 0 }

// setBits sets n bits from i on, and clearBits clears them.
func setBits(p []byte, i, n uint32) {
	for ; n > 0; i, n = i+1, n-1 {
		if i%8 == 0 && n >= 8 {
			p[i/8] = 0xff
			i, n = i+7, n-7
			continue
		}
		p[i/8] |= 1 << (i % 8)
	}
}

func clearBits(p []byte, i, n uint32) {
	for ; n > 0; i, n = i+1, n-1 {
		p[i/8] &^= 1 << (i % 8)
	}
}

// nextClear is the first bit from i on that is clear in p, and in held unless that is nil; size if there is none. p has whole
// words of 64 bits.
func nextClear(p []byte, held []uint64, i, size uint32) uint32 {
	for below := uint64(1)<<(i%64) - 1; i < size; below = 0 {
		v := binary.LittleEndian.Uint64(p[i/64*8:]) | below
		if held != nil {
			v |= held[i/64]
		}
		if v != ^uint64(0) {
			return min(i/64*64+uint32(bits.TrailingZeros64(^v)), size)
		}
		i = (i/64 + 1) * 64
	}
	return size
}

// markGroup says that a group's descriptor, or a bitmap of it, has changed. The commit brings the checksums up to date.
func (sb *superBlock) markGroup(n uint32) {
	sb.w.dirtyGroups[n] = struct{}{}
	sb.arm()
}

// bitmapSum is the checksum of a bitmap of n bits, as far as the descriptor has room for it.
func (sb *superBlock) bitmapSum(p []byte, n uint32) uint32 {
	sum := disk.CRC32C(sb.seed, p[:n/8])
	if sb.descSize < 64 {
		sum &= 0xffff
	}
	return sum
}

// bitmap reads a bitmap and checks it once. The caller holds w.mu.
func (sb *superBlock) bitmap(n uint32, inodes bool) (*bdev.Buffer, error) {
	g := &sb.w.groups[n]
	if g.bad {
		return nil, errCorrupt
	}
	block, sum, count, flag := g.desc.BlockBitmap, g.desc.BlockBitmapCsum, sb.s.BlocksPerGroup, uint16(disk.GroupBlockUninit)
	if inodes {
		block, sum, count, flag = g.desc.InodeBitmap, g.desc.InodeBitmapCsum, sb.s.InodesPerGroup, disk.GroupInodeUninit
	}
	if !sb.onDevice(block, 1) {
		g.bad = true
		return nil, sb.errorf(errCorrupt, "group %d: bitmap at invalid block %d", n, block)
	}
	if g.desc.Flags&flag != 0 {
		return sb.initBitmap(n, block, inodes)
	}
	b, err := sb.block(block)
	if err != nil {
		return nil, err
	}
	if b.Checked.Load() {
		return b, nil
	}
	p := b.Data()
	var bad error
	switch {
	case sb.csum && sb.bitmapSum(p, count) != sum:
		bad = sb.errorf(errBadCRC, "group %d: bad bitmap checksum (block %d)", n, block)
	case !inodes:
		free := sb.groupBlocks(n) - countBits(p, sb.groupBlocks(n))
		first := sb.groupFirst(n)
		own := func(x uint64) bool {
			return x < first || x-first >= uint64(sb.groupBlocks(n)) || bitSet(p, uint32(x-first))
		}
		if free != g.desc.FreeBlocks || !own(g.desc.BlockBitmap) || !own(g.desc.InodeBitmap) || !own(g.desc.InodeTable) {
			bad = sb.errorf(errCorrupt, "group %d: block bitmap and descriptor inconsistent: %d vs %d free clusters", n, free, g.desc.FreeBlocks)
		}
	default:
		if free := count - countBits(p, count); free != g.desc.FreeInodes {
			bad = sb.errorf(errCorrupt, "group %d: inode bitmap and descriptor inconsistent: %d vs %d free inodes", n, free, g.desc.FreeInodes)
		}
	}
	if bad != nil {
		b.Release()
		g.bad = true
		return nil, bad
	}
	b.Checked.Store(true)
	return b, nil
}

func countBits(p []byte, n uint32) (sum uint32) {
	i := uint32(0)
	for ; i+64 <= n; i += 64 {
		sum += uint32(bits.OnesCount64(binary.LittleEndian.Uint64(p[i/8:])))
	}
	for ; i < n; i++ {
		if bitSet(p, i) {
			sum++
		}
	}
	return sum
}

// initBitmap makes the bitmap of a group that has never been used.
func (sb *superBlock) initBitmap(n uint32, block uint64, inodes bool) (*bdev.Buffer, error) {
	g := &sb.w.groups[n]
	b, err := sb.cache.GetNew(block)
	if err != nil {
		return nil, err
	}
	p := b.Data()
	clear(p)
	all := uint32(len(p) * 8)
	if inodes {
		if g.desc.FreeInodes != sb.s.InodesPerGroup {
			g.bad = true
			b.Release()
			return nil, sb.errorf(errCorrupt, "group %d: uninitialised inode bitmap, but %d free inodes", n, g.desc.FreeInodes)
		}
		setBits(p, sb.s.InodesPerGroup, all-sb.s.InodesPerGroup)
		g.desc.Flags &^= disk.GroupInodeUninit
	} else {
		first, size := sb.groupFirst(n), sb.groupBlocks(n)
		setBits(p, 0, min(sb.baseMeta(n), size))
		mark := func(x uint64, k uint32) {
			for ; k > 0; x, k = x+1, k-1 {
				if x >= first && x-first < uint64(size) {
					setBits(p, uint32(x-first), 1)
				}
			}
		}
		mark(g.desc.BlockBitmap, 1)
		mark(g.desc.InodeBitmap, 1)
		mark(g.desc.InodeTable, sb.tableBlocks())
		if free := size - countBits(p, size); free != g.desc.FreeBlocks {
			g.bad = true
			b.Release()
			return nil, sb.errorf(errCorrupt, "group %d: uninitialised block bitmap has %d free blocks, descriptor %d", n, free, g.desc.FreeBlocks)
		}
		setBits(p, size, all-size)
		g.desc.Flags &^= disk.GroupBlockUninit
	}
	sb.dirtyBuf(b)
	sb.markGroup(n)
	return b, nil
}

// tableBlocks is the number of blocks of an inode table.
func (sb *superBlock) tableBlocks() uint32 {
	return uint32((uint64(sb.s.InodesPerGroup)*uint64(sb.inodeSize) + uint64(sb.blockSize) - 1) >> sb.blockBits)
}

// baseMeta is how many blocks at the beginning of a group are taken by copies of the superblock and the descriptors.
func (sb *superBlock) baseMeta(n uint32) uint32 {
	descBlocks := (sb.groups + sb.perBlock - 1) / sb.perBlock
	super := uint32(0)
	if sb.hasSuper(n) {
		super = 1
	}
	if meta := sb.s.Incompat&disk.IncompatMetaBG != 0; meta {
		if n >= sb.s.FirstMetaBG*sb.perBlock {
			if i := n % sb.perBlock; i == 0 || i == 1 || i == sb.perBlock-1 {
				super++
			}
			return super
		}
		descBlocks = sb.s.FirstMetaBG
	}
	if super == 0 {
		return 0
	}
	return super + descBlocks + uint32(sb.s.ReservedGDT)
}

// privileged reports whether the caller may use the reserved blocks.
func (sb *superBlock) privileged(c vfs.Caller) bool {
	if c == nil {
		return true
	}
	cr, o := c.Cred(), sb.opts.Load()
	uid, gid := uint32(sb.s.DefResUID), uint32(sb.s.DefResGID)
	if o.resUID != nil {
		uid = *o.resUID
	}
	if o.resGID != nil {
		gid = *o.resGID
	}
	return cr.FSUID == uid || gid != 0 && cr.InGroup(gid) || cr.Capable(unix.CAP_SYS_RESOURCE)
}

// available is how many blocks the caller can still get.
func (sb *superBlock) available(root bool) uint64 {
	free := sb.w.freeBlocks
	if root {
		return free
	}
	return free - min(free, sb.s.ReservedBlocks)
}

// allocBlocks takes up to want blocks in one run, as near to goal as there is room. ENOSPC if there is none. The caller
// holds w.mu.
func (sb *superBlock) allocBlocks(goal uint64, want uint32, root bool) (first uint64, n uint32, err error) {
	avail := sb.available(root)
	if avail == 0 {
		return 0, 0, unix.ENOSPC
	}
	want = uint32(min(uint64(want), avail))
	if !sb.onDevice(goal, 1) {
		goal = uint64(sb.s.FirstDataBlock) + 1
	}
	g0, bit := sb.groupOf(goal)
	// First a place for all of it, then for a good part, then anything.
	for pass, least := range [3]uint32{want, min(want, 8), 1} {
		if pass > 0 && least == want {
			continue
		}
		for i := range sb.groups {
			gn := (g0 + i) % sb.groups
			g := &sb.w.groups[gn]
			if g.bad || g.desc.FreeBlocks < g.nheld+least {
				continue
			}
			from := uint32(0)
			if i == 0 {
				from = bit
			}
			b, err := sb.bitmap(gn, false)
			if err != nil {
				continue // reported; other groups may do
			}
			at, k := g.findRun(b.Data(), from, sb.groupBlocks(gn), want, least)
			if k == 0 && from > 0 {
				at, k = g.findRun(b.Data(), 0, sb.groupBlocks(gn), want, least)
			}
			if k == 0 {
				b.Release()
				continue
			}
			k = min(k, g.desc.FreeBlocks-g.nheld) // more only if the bitmap was changed behind our back
			setBits(b.Data(), at, k)
			g.desc.FreeBlocks -= k
			sb.dirtyBuf(b)
			b.Release()
			sb.markGroup(gn)
			sb.w.freeBlocks -= uint64(k)
			first = sb.groupFirst(gn) + uint64(at)
			if !sb.validBlocks(0, first, uint64(k)) {
				return 0, 0, sb.abort(errCorrupt, "allocated an invalid block")
			}
			return first, k, nil
		}
	}
	return 0, 0, unix.ENOSPC
}

// findRun finds up to want, and not below least, usable blocks from bit from on. A run that begins at from is taken
// whatever its length.
func (g *group) findRun(p []byte, from, size, want, least uint32) (at, n uint32) {
	used := func(w uint32) uint64 { // word w of 64 bits
		v := binary.LittleEndian.Uint64(p[8*w:])
		if g.held != nil {
			v |= g.held[w]
		}
		return v
	}
	for i := max(from, g.full); i < size; {
		start := nextClear(p, g.held, i, size)
		if i == g.full {
			g.full = start
		}
		if i = start; i == size {
			break
		}
		for i < size && i-start < want {
			v := used(i/64) >> (i % 64)
			if v != 0 {
				i += uint32(bits.TrailingZeros64(v))
				break
			}
			i = (i/64 + 1) * 64
		}
		k := min(i, size) - start
		if k >= least || start == from && from > 0 && k > 0 {
			return start, min(k, want)
		}
	}
	return 0, 0
}

// allocMeta takes one block for metadata and returns its buffer, cleared and dirty.
func (sb *superBlock) allocMeta(goal uint64) (*bdev.Buffer, error) {
	n, _, err := sb.allocBlocks(goal, 1, true)
	if err != nil {
		return nil, err
	}
	b, err := sb.cache.GetNew(n)
	if err != nil {
		sb.freeBlocksNow(nil, n, 1, false)
		return nil, err
	}
	clear(b.Data())
	sb.dirtyBuf(b)
	return b, nil
}

// freeBlocksNow gives blocks back. They can be used again after the commit, or if in has been mapped from the image when
// it no longer is. meta says that they were metadata, whose content the journal may have. The caller holds w.mu.
func (sb *superBlock) freeBlocksNow(in *inode, first uint64, n uint32, meta bool) {
	if !sb.validBlocks(0, first, uint64(n)) {
		_ = sb.errorf(nil, "freeing blocks not in datazone: %d, count %d", first, n)
		return
	}
	if meta {
		for b := first; b < first+uint64(n); b++ {
			sb.forgetBlock(b)
		}
	}
	for n > 0 {
		gn, bit := sb.groupOf(first)
		k := min(n, sb.groupBlocks(gn)-bit)
		sb.freeInGroup(in, gn, bit, k)
		first, n = first+uint64(k), n-k
	}
}

func (sb *superBlock) freeInGroup(in *inode, gn, bit, n uint32) {
	w := sb.w
	g := &w.groups[gn]
	b, err := sb.bitmap(gn, false)
	if err != nil {
		klog.Errf("EXT4-fs (%s): %d blocks of group %d are lost: %v", sb.dev.Name(), n, gn, err)
		return
	}
	defer b.Release()
	for i := bit; i < bit+n; i++ {
		if !bitSet(b.Data(), i) {
			_ = sb.errorf(nil, "group %d: freeing a free block (bit %d)", gn, i)
			g.bad = true
			return
		}
	}
	clearBits(b.Data(), bit, n)
	g.desc.FreeBlocks += n
	sb.dirtyBuf(b)
	sb.markGroup(gn)
	if g.held == nil {
		g.held = make([]uint64, (sb.s.BlocksPerGroup+63)/64)
	}
	for i := bit; i < bit+n; i++ {
		g.held[i/64] |= 1 << (i % 64)
	}
	g.nheld += n
	w.heldBlocks += uint64(n)
	r := run{start: sb.groupFirst(gn) + uint64(bit), n: uint64(n)}
	if in != nil && in.dax.Load() {
		in.busy = append(in.busy, r)
		return
	}
	w.tx.freed = append(w.tx.freed, r)
	w.tx.nfreed += uint64(n)
}

// unhold makes freed blocks usable. The caller holds w.mu.
func (sb *superBlock) unhold(freed []run) {
	w := sb.w
	for _, r := range freed {
		gn, bit := sb.groupOf(r.start)
		g := &w.groups[gn]
		for i := bit; i < bit+uint32(r.n); i++ {
			g.held[i/64] &^= 1 << (i % 64)
		}
		g.full = min(g.full, bit)
		if g.nheld -= uint32(r.n); g.nheld == 0 {
			g.held = nil
		}
		w.heldBlocks -= r.n
		w.freeBlocks += r.n
	}
}

// forgetBlock drops what is known of a metadata block that is freed.
func (sb *superBlock) forgetBlock(n uint64) {
	w := sb.w
	if b := w.tx.bufs[n]; b != nil {
		delete(w.tx.bufs, n)
		b.Release()
	}
	sb.cache.Forget(n) // it may become a block of data, which is written without the cache
	if _, ok := w.logged[n]; ok && w.journal != nil {
		delete(w.logged, n)
		w.tx.revoked = append(w.tx.revoked, n)
	}
}
