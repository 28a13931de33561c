package ext4

import (
	"cmp"
	"slices"
	"sort"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// zone is a run of blocks that belongs to the file system itself: superblocks, descriptors, bitmaps, tables of inodes, the
// journal. A damaged or made-up tree that points there must neither show nor overwrite it (block_validity, ext4(5)).
type zone struct {
	first, n uint64
	ino      uint32 // the inode that these are the blocks of, 0 if there is none
}

// addZones notes what a group has for the file system. readGroups calls it for each group in turn.
func (sb *superBlock) addZones(group uint32, g *disk.GroupDesc) {
	add := func(first, n uint64) {
		if n == 0 || !sb.onDevice(first, n) {
			return // group 0 begins with the superblock: that is before what can be on the device for others
		}
		// With flex_bg bitmaps and tables of many groups follow each other.
		for i := len(sb.zones) - 1; i >= 0 && i >= len(sb.zones)-4; i-- {
			if z := &sb.zones[i]; z.first+z.n == first {
				z.n += n
				return
			}
		}
		sb.zones = append(sb.zones, zone{first: first, n: n})
	}
	first := sb.groupFirst(group)
	base := uint64(sb.baseMeta(group))
	if group == 0 && base > 0 {
		first, base = first+1, base-1
	}
	add(first, min(base, sb.s.BlocksCount-min(first, sb.s.BlocksCount)))
	add(g.BlockBitmap, 1)
	add(g.InodeBitmap, 1)
	add(g.InodeTable, uint64(sb.tableBlocks()))
}

// sortZones ends a series of addZones: after it the zones are in order and none touches another.
func (sb *superBlock) sortZones() {
	slices.SortFunc(sb.zones, func(a, b zone) int { return cmp.Compare(a.first, b.first) })
	out := sb.zones[:0]
	for _, z := range sb.zones {
		if k := len(out) - 1; k >= 0 && out[k].ino == z.ino && z.first <= out[k].first+out[k].n {
			out[k].n = max(out[k].n, z.first+z.n-out[k].first)
			continue
		}
		out = append(out, z)
	}
	sb.zones = slices.Clip(out)
}

// protectJournal makes zones of the journal's blocks. A journal that cannot be mapped is what opening it will complain of.
func (sb *superBlock) protectJournal() {
	const most = 1 << 16 // runs: more than any journal is cut into
	ino := sb.s.JournalInode
	if sb.s.Compat&disk.CompatHasJournal == 0 || ino == 0 {
		return
	}
	in, err := sb.iget(ino, true)
	if err != nil {
		return
	}
	var own []zone
	for b, end := uint64(0), uint64(in.attr.Size)>>sb.blockBits; b < end && len(own) < most; {
		r, err := in.mapBlock(b)
		if err != nil {
			break
		}
		if r.kind != hole {
			own = append(own, zone{r.phys, r.n, ino})
		}
		b = r.start + r.n
	}
	sb.zones = append(sb.zones, own...)
	sb.sortZones()
}

// onDevice reports whether n blocks from first on are there at all, behind the superblock.
func (sb *superBlock) onDevice(first, n uint64) bool {
	return first > uint64(sb.s.FirstDataBlock) && first < sb.s.BlocksCount && n <= sb.s.BlocksCount-first
}

// validBlocks reports whether n blocks from first on can belong to the inode ino, and to no inode's zone but its own.
func (sb *superBlock) validBlocks(ino uint32, first, n uint64) bool {
	if !sb.onDevice(first, n) {
		return false
	}
	i := sort.Search(len(sb.zones), func(i int) bool { return sb.zones[i].first+sb.zones[i].n > first })
	for ; i < len(sb.zones) && sb.zones[i].first < first+n; i++ {
		if z := &sb.zones[i]; z.ino == 0 || z.ino != ino {
			return false
		}
	}
	return true
}
