package ext4

import (
	"encoding/binary"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// runKind says what is in a run of logical blocks.
type runKind uint8

const (
	hole runKind = iota
	written
	unwritten // has blocks, reads as zeroes
)

// run is a piece of a file: n blocks from logical block start on.
type run struct {
	start, n uint64
	phys     uint64 // first physical block, unless hole
	kind     runKind
}

// from cuts the blocks before b off.
func (r run) from(b uint64) run {
	d := b - r.start
	r.start, r.n = b, r.n-d
	if r.kind != hole {
		r.phys += d
	}
	return r
}

// maxBlocks is one more than the largest logical block number.
const maxBlocks = 1 << 32

// mapBlock returns the run that begins at logical block b. n is at least 1.
func (in *inode) mapBlock(b uint64) (run, error) {
	if r := in.lastRun.Load(); r != nil && b >= r.start && b-r.start < r.n {
		return r.from(b), nil
	}
	if b >= maxBlocks {
		return run{start: b, n: 1 << 20}, nil
	}
	var r run
	var err error
	if in.raw.Flags&disk.InodeExtents != 0 {
		r, err = in.mapExtent(uint32(b))
	} else {
		r, err = in.mapIndirect(b)
	}
	if err != nil {
		return run{}, err
	}
	if r.kind != hole && !in.sb.validBlocks(in.ino, r.phys, r.n) {
		return run{}, in.sb.errorf(errCorrupt, "inode #%d: invalid block %d (logical block %d, len %d)", in.ino, r.phys, r.start, r.n)
	}
	in.lastRun.Store(&r)
	return r.from(b), nil
}

// mapExtent finds the run that contains b in the extent tree.
func (in *inode) mapExtent(b uint32) (run, error) {
	node := in.raw.Block[:]
	var h disk.ExtentHeader
	h.Decode(node)
	depth := int(h.Depth)
	if depth > disk.MaxExtentDepth {
		return run{}, in.sb.errorf(errCorrupt, "inode #%d: extent tree too deep: %d", in.ino, depth)
	}
	end := uint64(maxBlocks) // first logical block that the current subtree does not cover
	var buf *bdev.Buffer
	defer func() {
		if buf != nil {
			buf.Release()
		}
	}()
	for {
		h, err := disk.CheckExtentNode(node, depth)
		if err != nil {
			return run{}, in.sb.damage(err, "inode #%d: extent tree node at depth %d", in.ino, depth)
		}
		// i is the last entry that begins at or before b.
		n := int(h.Entries)
		i := searchEntries(node, n, b)
		if i+1 < n {
			end = min(end, uint64(binary.LittleEndian.Uint32(entry(node, i+1))))
		}
		if depth == 0 {
			return in.leafRun(node, i, b, end)
		}
		if i < 0 {
			return run{start: uint64(b), n: hole1(uint64(b), end), kind: hole}, nil
		}
		var x disk.ExtentIndex
		x.Decode(entry(node, i))
		if !in.sb.validBlocks(in.ino, x.Leaf, 1) {
			return run{}, in.sb.errorf(errCorrupt, "inode #%d: extent index points to invalid block %d", in.ino, x.Leaf)
		}
		next, err := in.sb.block(x.Leaf)
		if err != nil {
			return run{}, err
		}
		if buf != nil {
			buf.Release()
		}
		buf, node = next, next.Data()
		depth--
		if err := in.checkExtentBlock(buf, depth); err != nil {
			return run{}, err
		}
	}
}

// hole1 is the length of a hole from b to end, at least 1 (a tree that is out of order must not stop progress).
func hole1(b, end uint64) uint64 {
	if end <= b {
		return 1
	}
	return end - b
}

func entry(node []byte, i int) []byte { return node[disk.ExtentHeaderSize+i*disk.ExtentSize:] }

// searchEntries returns the last of n entries whose first block is not above b, -1 if all are.
func searchEntries(node []byte, n int, b uint32) int {
	lo, hi := 0, n
	for lo < hi {
		if m := (lo + hi) / 2; binary.LittleEndian.Uint32(entry(node, m)) > b {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo - 1
}

// leafRun makes the run of block b from entry i of a leaf; end bounds a hole.
func (in *inode) leafRun(node []byte, i int, b uint32, end uint64) (run, error) {
	if i < 0 {
		return run{start: uint64(b), n: hole1(uint64(b), end), kind: hole}, nil
	}
	var e disk.Extent
	e.Decode(entry(node, i))
	if e.Len == 0 || uint64(e.Block)+uint64(e.Len) > maxBlocks {
		return run{}, in.sb.errorf(errCorrupt, "inode #%d: bad extent: block %d, len %d", in.ino, e.Block, e.Len)
	}
	if b-e.Block >= e.Len {
		return run{start: uint64(b), n: hole1(uint64(b), end), kind: hole}, nil
	}
	r := run{start: uint64(e.Block), n: uint64(e.Len), phys: e.Start, kind: written}
	if e.Unwritten {
		r.kind = unwritten
	}
	return r, nil
}

// checkExtentBlock verifies the checksum of a node that was just read.
func (in *inode) checkExtentBlock(b *bdev.Buffer, depth int) error {
	if !in.sb.csum || b.Checked.Load() {
		return nil
	}
	h, err := disk.CheckExtentNode(b.Data(), depth)
	if err == nil {
		if sum, stored, ok := disk.ExtentBlockChecksum(in.seed, b.Data(), &h); ok && sum != stored {
			err = disk.ErrChecksum
		}
	}
	if err != nil {
		return in.sb.damage(err, "inode #%d: block %d: extent tree node", in.ino, b.Block)
	}
	b.Checked.Store(true)
	return nil
}

// mapIndirect finds the run that contains b in the block map of ext2: 12 direct blocks, then one tree each of depth 1, 2
// and 3.
func (in *inode) mapIndirect(b uint64) (run, error) {
	const direct = 12
	if b < direct {
		return in.pointerRun(in.raw.Block[:4*direct], b, b)
	}
	bits := in.sb.blockBits - 2
	base := uint64(direct)
	for level := uint(1); level <= 3; level++ {
		span := uint64(1) << (bits * level)
		if b-base >= span {
			base += span
			continue
		}
		ptr := uint64(binary.LittleEndian.Uint32(in.raw.Block[4*(direct+level-1):]))
		for {
			if ptr == 0 {
				return run{start: base, n: span, kind: hole}, nil
			}
			if !in.sb.validBlocks(in.ino, ptr, 1) {
				return run{}, in.sb.errorf(errCorrupt, "inode #%d: block %d: invalid indirect block", in.ino, ptr)
			}
			buf, err := in.sb.block(ptr)
			if err != nil {
				return run{}, err
			}
			span >>= bits
			i := (b - base) / span
			if span == 1 {
				r, err := in.pointerRun(buf.Data(), i, b)
				buf.Release()
				return r, err
			}
			ptr = uint64(binary.LittleEndian.Uint32(buf.Data()[4*i:]))
			base += i * span
			buf.Release()
		}
	}
	return run{start: b, n: hole1(b, maxBlocks), kind: hole}, nil
}

// pointerRun makes a run that begins with logical block b from pointer i of a list.
func (in *inode) pointerRun(list []byte, i, b uint64) (run, error) {
	le, count := binary.LittleEndian, uint64(len(list)/4)
	r := run{start: b, n: 1, phys: uint64(le.Uint32(list[4*i:])), kind: written}
	if r.phys == 0 {
		r.kind = hole
	}
	for i++; i < count; i++ {
		p := uint64(le.Uint32(list[4*i:]))
		if r.kind == hole && p != 0 || r.kind == written && p != r.phys+r.n {
			break
		}
		r.n++
	}
	return r, nil
}
