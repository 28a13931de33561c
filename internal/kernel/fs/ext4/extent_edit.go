package ext4

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// Extent trees are changed one leaf at a time: the leaf of a logical block is read into a list of extents, the list is
// changed, and written back, which splits or removes the leaf if need be. Callers hold w.mu and in.mu.

// extNode is a node on the way from the root to a leaf.
type extNode struct {
	buf *bdev.Buffer // nil for the root
	p   []byte
	h   disk.ExtentHeader
	i   int // the entry that leads on; in a leaf unused
}

type extPath []extNode

func (p extPath) release() {
	for i := range p {
		if p[i].buf != nil {
			p[i].buf.Release()
			p[i].buf = nil
		}
	}
}

// pathRoom is room for a path, so that none has to be allocated.
type pathRoom [disk.MaxExtentDepth + 1]extNode

// leafRoom is room for the extents of a leaf that lies in the inode, and for what is added to them.
type leafRoom [4 + 3]disk.Extent

// extPath walks to the leaf where block b belongs.
func (in *inode) extPath(b uint32, room *pathRoom) (path extPath, err error) {
	var h disk.ExtentHeader
	h.Decode(in.raw.Block[:])
	depth := int(h.Depth)
	if depth > disk.MaxExtentDepth {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: extent tree too deep: %d", in.ino, depth)
	}
	path = room[:0]
	n := extNode{p: in.raw.Block[:]}
	for {
		if n.h, err = disk.CheckExtentNode(n.p, depth); err != nil {
			err = in.sb.damage(err, "inode #%d: extent tree node at depth %d", in.ino, depth)
			path = append(path, n)
			path.release()
			return nil, err
		}
		if depth == 0 {
			return append(path, n), nil
		}
		n.i = max(searchEntries(n.p, int(n.h.Entries), b), 0)
		path = append(path, n)
		var x disk.ExtentIndex
		x.Decode(entry(n.p, n.i))
		if !in.sb.validBlocks(in.ino, x.Leaf, 1) {
			path.release()
			return nil, in.sb.errorf(errCorrupt, "inode #%d: extent index points to invalid block %d", in.ino, x.Leaf)
		}
		buf, err := in.sb.block(x.Leaf)
		if err != nil {
			path.release()
			return nil, err
		}
		depth--
		n = extNode{buf: buf, p: buf.Data()}
		if err := in.checkExtentBlock(buf, depth); err != nil {
			buf.Release()
			path.release()
			return nil, err
		}
	}
}

// extents decodes the leaf and checks it. That it begins where the index says is what makes going through a tree end.
func (in *inode) extents(path extPath, room *leafRoom) ([]disk.Extent, error) {
	leaf := &path[len(path)-1]
	out := room[:min(int(leaf.h.Entries), len(room))]
	if n := int(leaf.h.Entries); n+3 > len(room) {
		out = make([]disk.Extent, n, n+3)
	}
	if len(path) > 1 && len(out) > 0 {
		if up := &path[len(path)-2]; binary.LittleEndian.Uint32(entry(up.p, up.i)) != binary.LittleEndian.Uint32(entry(leaf.p, 0)) {
			return nil, in.sb.errorf(errCorrupt, "inode #%d: extent tree leaf does not begin where its index says", in.ino)
		}
	}
	end := uint64(0)
	for i := range out {
		out[i].Decode(entry(leaf.p, i))
		e := &out[i]
		if e.Len == 0 || uint64(e.Block) < end || uint64(e.Block)+uint64(e.Len) > maxBlocks || !in.sb.validBlocks(in.ino, e.Start, uint64(e.Len)) {
			return nil, in.sb.errorf(errCorrupt, "inode #%d: bad extent: block %d, len %d", in.ino, e.Block, e.Len)
		}
		end = uint64(e.Block) + uint64(e.Len)
	}
	return out, nil
}

// store says that a node has changed.
func (in *inode) storeNode(n *extNode) {
	n.h.Encode(n.p)
	if n.buf == nil {
		in.markDirty(false)
		return
	}
	if in.sb.csum {
		tail := disk.ExtentHeaderSize + int(n.h.Max)*disk.ExtentSize
		if tail+4 <= len(n.p) {
			binary.LittleEndian.PutUint32(n.p[tail:], disk.CRC32C(in.seed, n.p[:tail]))
		}
	}
	in.sb.dirtyBuf(n.buf)
}

// nodeMax is how many entries a node in a block of its own has.
func (sb *superBlock) nodeMax() int {
	room := sb.blockSize - disk.ExtentHeaderSize
	if room%disk.ExtentSize < 4 {
		room -= 4 // the checksum
	}
	return room / disk.ExtentSize
}

// reserveNodes takes the blocks that storing one leaf with n extents may need. Nothing has been changed on error.
func (in *inode) reserveNodes(path extPath, n int) (spare []*bdev.Buffer, err error) {
	need := 0
	if n > int(path[len(path)-1].h.Max) {
		for i := len(path) - 1; ; i-- {
			if i < len(path)-1 && path[i].h.Entries < path[i].h.Max {
				break
			}
			need++ // a split, or a level more below the root
			if i == 0 {
				if path[0].h.Depth >= disk.MaxExtentDepth {
					return nil, unix.EFBIG
				}
				break
			}
		}
		if len(path) == 1 && n > in.sb.nodeMax() {
			return nil, errCorrupt
		}
	}
	for range need {
		b, err := in.sb.allocMeta(in.goal())
		if err != nil {
			for _, b := range spare {
				blk := b.Block
				b.Release()
				in.sb.freeBlocksNow(nil, blk, 1, true)
			}
			return nil, err
		}
		spare = append(spare, b)
	}
	return spare, nil
}

// putLeaf writes the extents of the leaf at the end of path. The path cannot be used after that.
func (in *inode) putLeaf(path extPath, exts []disk.Extent) error {
	spare, err := in.reserveNodes(path, len(exts))
	if err != nil {
		return err
	}
	in.lastRun.Store(nil)
	in.addBlocks(len(spare))
	take := func() *bdev.Buffer {
		b := spare[0]
		spare = spare[1:]
		return b
	}
	leaf := &path[len(path)-1]
	if len(exts) > int(leaf.h.Max) && leaf.buf == nil {
		b := take()
		defer b.Release()
		path = in.grow(path, b)
		leaf = &path[len(path)-1]
	}
	if len(exts) <= int(leaf.h.Max) {
		if len(exts) == 0 && leaf.buf != nil {
			in.dropNode(path)
			return nil
		}
		writeExtents(leaf, exts)
		in.storeNode(leaf)
		if len(exts) > 0 {
			in.fixKeys(path, exts[0].Block)
		}
		return nil
	}
	// At the end of the file full leaves stay full.
	cut := len(exts) / 2
	if path.last() && exts[len(exts)-1].Block == exts[len(exts)-2].Block+exts[len(exts)-2].Len {
		cut = int(leaf.h.Max)
	}
	right := newNode(take(), 0, in.sb.nodeMax())
	writeExtents(leaf, exts[:cut])
	writeExtents(&right, exts[cut:])
	in.storeNode(leaf)
	in.storeNode(&right)
	in.fixKeys(path, exts[0].Block)
	x := disk.ExtentIndex{Block: exts[cut].Block, Leaf: right.buf.Block}
	right.buf.Release()
	in.addIndex(path[:len(path)-1], x, take)
	return nil
}

// last reports whether the path leads to the last leaf.
func (p extPath) last() bool {
	for _, n := range p[:len(p)-1] {
		if n.i != int(n.h.Entries)-1 {
			return false
		}
	}
	return true
}

func newNode(b *bdev.Buffer, depth, max int) extNode {
	clear(b.Data())
	return extNode{buf: b, p: b.Data(), h: disk.ExtentHeader{Magic: disk.ExtentMagic, Depth: uint16(depth), Max: uint16(max)}}
}

func writeExtents(n *extNode, exts []disk.Extent) {
	for i := range exts {
		exts[i].Encode(entry(n.p, i))
	}
	for i := len(exts); i < int(n.h.Entries); i++ {
		clear(entry(n.p, i)[:disk.ExtentSize])
	}
	n.h.Entries = uint16(len(exts))
}

// grow moves the root's entries to a block of their own below it. The new path leads to the same place.
func (in *inode) grow(path extPath, b *bdev.Buffer) extPath {
	root := &path[0]
	child := newNode(b, int(root.h.Depth), in.sb.nodeMax())
	child.h.Entries, child.i = root.h.Entries, root.i
	copy(child.p[disk.ExtentHeaderSize:], root.p[disk.ExtentHeaderSize:disk.ExtentHeaderSize+int(root.h.Entries)*disk.ExtentSize])
	first := uint32(0)
	if root.h.Entries > 0 {
		first = binary.LittleEndian.Uint32(entry(root.p, 0))
	}
	clear(root.p[disk.ExtentHeaderSize:])
	x := disk.ExtentIndex{Block: first, Leaf: b.Block}
	x.Encode(entry(root.p, 0))
	root.h.Entries, root.i = 1, 0
	root.h.Depth++
	in.storeNode(root)
	in.storeNode(&child)
	out := append(extPath{*root, child}, path[1:]...)
	return out
}

// addIndex puts an index entry behind the one that each node of the path leads on with.
func (in *inode) addIndex(path extPath, x disk.ExtentIndex, take func() *bdev.Buffer) {
	n := &path[len(path)-1]
	if n.h.Entries == n.h.Max && n.buf == nil {
		path = in.grow(path, take())
		defer path[1].buf.Release()
		n = &path[len(path)-1]
	}
	if n.h.Entries < n.h.Max {
		insertIndex(n, n.i+1, x)
		in.storeNode(n)
		return
	}
	// Split: what is behind the middle, or only the new entry if it is the last, moves to a new node.
	total := int(n.h.Entries)
	cut := total / 2
	if n.i == total-1 {
		cut = total
	}
	right := newNode(take(), int(n.h.Depth), int(n.h.Max))
	copy(entry(right.p, 0), n.p[disk.ExtentHeaderSize+cut*disk.ExtentSize:disk.ExtentHeaderSize+total*disk.ExtentSize])
	right.h.Entries = uint16(total - cut)
	clear(n.p[disk.ExtentHeaderSize+cut*disk.ExtentSize : disk.ExtentHeaderSize+total*disk.ExtentSize])
	n.h.Entries = uint16(cut)
	if at := n.i + 1; at < cut || at == cut && cut < total {
		insertIndex(n, at, x)
	} else {
		insertIndex(&right, at-cut, x)
	}
	in.storeNode(n)
	in.storeNode(&right)
	up := disk.ExtentIndex{Block: binary.LittleEndian.Uint32(entry(right.p, 0)), Leaf: right.buf.Block}
	right.buf.Release()
	in.addIndex(path[:len(path)-1], up, take)
}

func insertIndex(n *extNode, at int, x disk.ExtentIndex) {
	end := disk.ExtentHeaderSize + int(n.h.Entries)*disk.ExtentSize
	from := disk.ExtentHeaderSize + at*disk.ExtentSize
	copy(n.p[from+disk.ExtentSize:end+disk.ExtentSize], n.p[from:end])
	clear(n.p[from : from+disk.ExtentSize])
	x.Encode(n.p[from:])
	n.h.Entries++
}

// fixKeys makes the index entries that lead to a leaf say where it begins.
func (in *inode) fixKeys(path extPath, first uint32) {
	for i := len(path) - 2; i >= 0; i-- {
		n := &path[i]
		if binary.LittleEndian.Uint32(entry(n.p, n.i)) != first {
			binary.LittleEndian.PutUint32(entry(n.p, n.i), first)
			in.storeNode(n)
		}
		if n.i > 0 {
			return
		}
	}
}

// dropNode removes an empty node, and what becomes empty above it.
func (in *inode) dropNode(path extPath) {
	for i := len(path) - 1; i > 0; i-- {
		blk := path[i].buf.Block
		path[i].buf.Release()
		path[i].buf = nil
		in.sb.freeBlocksNow(nil, blk, 1, true)
		in.addBlocks(-1)
		up := &path[i-1]
		from := disk.ExtentHeaderSize + up.i*disk.ExtentSize
		end := disk.ExtentHeaderSize + int(up.h.Entries)*disk.ExtentSize
		copy(up.p[from:], up.p[from+disk.ExtentSize:end])
		clear(up.p[end-disk.ExtentSize : end])
		up.h.Entries--
		if up.h.Entries > 0 {
			in.storeNode(up)
			if up.i == 0 {
				in.fixKeys(path[:i], binary.LittleEndian.Uint32(entry(up.p, 0)))
			}
			return
		}
		if up.buf == nil {
			up.h.Depth = 0
			in.storeNode(up)
			return
		}
	}
}

// maxLen is the length of the longest extent.
func maxLen(unwritten bool) uint32 {
	if unwritten {
		return disk.MaxExtentLen - 1
	}
	return disk.MaxExtentLen
}

// joins reports whether b goes on where a ends.
func joins(a, b *disk.Extent) bool {
	return a.Unwritten == b.Unwritten && a.Block+a.Len == b.Block && a.Start+uint64(a.Len) == b.Start && a.Len+b.Len <= maxLen(a.Unwritten)
}

// splice puts e into the list, which has nothing there, and joins it with its neighbours.
func splice(exts []disk.Extent, e disk.Extent) []disk.Extent {
	i := 0
	for i < len(exts) && exts[i].Block < e.Block {
		i++
	}
	if i > 0 && joins(&exts[i-1], &e) {
		exts[i-1].Len += e.Len
		if i < len(exts) && joins(&exts[i-1], &exts[i]) {
			exts[i-1].Len += exts[i].Len
			exts = append(exts[:i], exts[i+1:]...)
		}
		return exts
	}
	if i < len(exts) && joins(&e, &exts[i]) {
		exts[i].Block, exts[i].Start, exts[i].Len = e.Block, e.Start, exts[i].Len+e.Len
		return exts
	}
	exts = append(exts, disk.Extent{})
	copy(exts[i+1:], exts[i:])
	exts[i] = e
	return exts
}

// insertExtent enters blocks at a place that is a hole.
func (in *inode) insertExtent(e disk.Extent) error {
	var room pathRoom
	path, err := in.extPath(e.Block, &room)
	if err != nil {
		return err
	}
	defer path.release()
	var leaf leafRoom
	exts, err := in.extents(path, &leaf)
	if err != nil {
		return err
	}
	return in.putLeaf(path, splice(exts, e))
}

// markWritten makes the n blocks from b on, which lie in one unwritten extent, written ones.
func (in *inode) markWritten(b, n uint32) error {
	var room pathRoom
	path, err := in.extPath(b, &room)
	if err != nil {
		return err
	}
	defer path.release()
	var leaf leafRoom
	exts, err := in.extents(path, &leaf)
	if err != nil {
		return err
	}
	for i, e := range exts {
		if b-e.Block >= e.Len || b < e.Block {
			continue
		}
		if !e.Unwritten {
			return nil
		}
		d := b - e.Block
		n = min(n, e.Len-d)
		exts = append(exts[:i], exts[i+1:]...)
		if d > 0 {
			exts = splice(exts, disk.Extent{Block: e.Block, Len: d, Start: e.Start, Unwritten: true})
		}
		if d+n < e.Len {
			exts = splice(exts, disk.Extent{Block: b + n, Len: e.Len - d - n, Start: e.Start + uint64(d+n), Unwritten: true})
		}
		exts = splice(exts, disk.Extent{Block: b, Len: n, Start: e.Start + uint64(d)})
		return in.putLeaf(path, exts)
	}
	return errCorrupt
}

// cutExtents frees a part, from the end, of what lies in [from, to). done says that nothing is left there.
func (in *inode) cutExtents(from, to uint64) (done bool, err error) {
	for prev := to; ; to = prev {
		if prev, done, err = in.cutLeaf(from, to); prev == 0 || err != nil {
			return done, err
		}
	}
}

// cutLeaf is cutExtents for the last leaf of the range. If it has nothing of the range, prev is where the leaf before it ends.
func (in *inode) cutLeaf(from, to uint64) (prev uint64, done bool, err error) {
	var room pathRoom
	path, err := in.extPath(uint32(to-1), &room)
	if err != nil {
		return 0, false, err
	}
	defer path.release()
	var leaf leafRoom
	exts, err := in.extents(path, &leaf)
	if err != nil {
		return 0, false, err
	}
	if len(exts) == 0 && len(path) > 1 { // nobody leaves such a leaf
		in.lastRun.Store(nil)
		in.dropNode(path)
		return 0, false, nil
	}
	meta := in.metaData()
	const atOnce = 16 // extents: each may be in a group of its own
	freed := make([]disk.Extent, 0, atOnce)
	i := len(exts)
	for i > 0 && len(freed) < atOnce {
		e := exts[i-1]
		first, end := uint64(e.Block), uint64(e.Block)+uint64(e.Len)
		if end <= from {
			break
		}
		if first >= to {
			i--
			continue
		}
		lo, hi := max(first, from), min(end, to)
		freed = append(freed, disk.Extent{Len: uint32(hi - lo), Start: e.Start + lo - first})
		var keep []disk.Extent
		if lo > first {
			keep = append(keep, disk.Extent{Block: e.Block, Len: uint32(lo - first), Start: e.Start, Unwritten: e.Unwritten})
		}
		if hi < end {
			keep = append(keep, disk.Extent{Block: uint32(hi), Len: uint32(end - hi), Start: e.Start + hi - first, Unwritten: e.Unwritten})
		}
		exts = append(exts[:i-1], append(keep, exts[i:]...)...)
		i--
	}
	if len(freed) == 0 {
		// Nothing in this leaf: there may be something in the one before.
		for _, n := range path[:len(path)-1] {
			if n.i > 0 {
				prev = uint64(binary.LittleEndian.Uint32(entry(n.p, n.i)))
			}
		}
		if prev <= from {
			return 0, true, nil
		}
		if prev >= to {
			return 0, true, in.sb.errorf(errCorrupt, "inode #%d: extent index out of order", in.ino)
		}
		return prev, false, nil
	}
	if err := in.putLeaf(path, exts); err != nil {
		return 0, false, err
	}
	for _, e := range freed {
		in.sb.freeBlocksNow(in, e.Start, e.Len, meta)
		in.addBlocks(-int(e.Len))
	}
	return 0, false, nil
}
