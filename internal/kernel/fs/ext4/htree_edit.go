package ext4

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
)

// dxStep is a node of the hash tree on the way to a leaf.
type dxStep struct {
	buf   *bdev.Buffer
	start int
	node  disk.DxNode
	i     int
}

type dxPath []dxStep

func (p dxPath) release() {
	for _, s := range p {
		s.buf.Release()
	}
}

// hashName computes the hash of a name with the directory's hash version.
func (in *inode) hashName(name []byte, version uint8) (uint32, error) {
	if version <= disk.HashTEA {
		version += in.sb.hashDelta
	}
	h, _, ok := disk.DirHash(name, version, in.sb.s.HashSeed)
	if !ok {
		return 0, errCorrupt
	}
	return h, nil
}

// dxWalk walks to the node whose entry leads to the leaf of a name.
func (in *inode) dxWalk(name []byte) (path dxPath, version uint8, err error) {
	fail := func(err error) (dxPath, uint8, error) {
		path.release()
		if err == disk.ErrCorrupt {
			err = in.sb.errorf(errCorrupt, "inode #%d: corrupt directory index", in.ino)
		}
		return nil, 0, err
	}
	b, err := in.dxBlock(0)
	if err != nil {
		return fail(err)
	}
	path = append(path, dxStep{buf: b, start: disk.DxRootEntries})
	root, err := disk.DecodeDxRoot(b.Data())
	if err != nil || root.Levels >= maxDxLevels {
		return fail(disk.ErrCorrupt)
	}
	hash, err := in.hashName(name, root.HashVersion)
	if err != nil {
		return fail(disk.ErrCorrupt)
	}
	for {
		s := &path[len(path)-1]
		if s.node, err = disk.DecodeDxNode(s.buf.Data(), s.start, in.sb.csum); err != nil {
			return fail(err)
		}
		s.i = s.node.Find(hash)
		if len(path) > int(root.Levels) {
			return path, root.HashVersion, nil
		}
		next, err := in.dxBlock(s.node.Block(s.i))
		if err != nil {
			return fail(err)
		}
		path = append(path, dxStep{buf: next, start: disk.DxNodeEntries})
	}
}

// hashedBlock is the leaf where a name belongs: it may also be in one that follows.
func (in *inode) hashedBlock(name string) (uint64, bool) {
	path, _, err := in.dxWalk([]byte(name))
	if err != nil {
		return 0, false
	}
	defer path.release()
	s := path[len(path)-1]
	return uint64(s.node.Block(s.i)), true
}

// sealDx puts the checksum into a node of the hash tree.
func (in *inode) sealDx(p []byte, start int) {
	if !in.sb.csum {
		return
	}
	if n, err := disk.DecodeDxNode(p, start, true); err == nil {
		n.Seal(in.seed)
	}
}

// hashedEntry is an entry with its hash.
type hashedEntry struct {
	disk.Dirent
	hash uint32
}

// leafEntries reads the entries of a leaf, with copies of their names, in the order of their hashes.
func (in *inode) leafEntries(p []byte, version uint8) ([]hashedEntry, error) {
	var out []hashedEntry
	for at := 0; at < in.dirEnd(); {
		e, err := disk.DecodeDirent(p[:in.dirEnd()], at, in.sb.filetype)
		if err != nil {
			return nil, in.sb.damage(err, "inode #%d: directory entry at offset %d", in.ino, at)
		}
		at += e.RecLen
		if e.Inode == 0 {
			continue
		}
		h, err := in.hashName(e.Name, version)
		if err != nil {
			return nil, err
		}
		e.Name = slices.Clone(e.Name)
		out = append(out, hashedEntry{e, h})
	}
	slices.SortStableFunc(out, func(a, b hashedEntry) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	return out, nil
}

// packLeaf fills a block with entries.
func (in *inode) packLeaf(p []byte, list []hashedEntry) {
	clear(p)
	at, end := 0, in.dirEnd()
	for i, e := range list {
		e.RecLen = disk.DirentLen(len(e.Name))
		if i == len(list)-1 {
			e.RecLen = end - at
		}
		disk.EncodeDirent(p, at, &e.Dirent, in.sb.filetype)
		at += e.RecLen
	}
	if len(list) == 0 {
		disk.EncodeDirent(p, 0, &disk.Dirent{RecLen: end}, in.sb.filetype)
	}
	in.sealDir(p)
}

// addHashed enters a name into a directory with a hash tree.
func (in *inode) addHashed(e *disk.Dirent) error {
	for range 8 {
		path, version, err := in.dxWalk(e.Name)
		if err != nil {
			return err
		}
		s := &path[len(path)-1]
		leaf := uint64(s.node.Block(s.i))
		ok, err := in.tryBlock(leaf, e)
		if ok || err != nil {
			path.release()
			return err
		}
		if s.node.Count < s.node.Limit {
			err = in.splitLeaf(path, leaf, version)
		} else {
			err = in.splitNode(path)
		}
		path.release()
		if err != nil {
			return err
		}
	}
	return unix.ENOSPC
}

// splitLeaf moves half of a full leaf to a new block. The node at the end of the path has room for it.
func (in *inode) splitLeaf(path dxPath, leaf uint64, version uint8) error {
	sb := in.sb
	r, err := in.dirRun(leaf)
	if err != nil {
		return err
	}
	old, err := in.dirBlock(r)
	if err != nil {
		return err
	}
	defer old.Release()
	list, err := in.leafEntries(old.Data(), version)
	if err != nil {
		return err
	}
	if len(list) < 2 {
		return unix.ENOSPC
	}
	size, cut := 0, len(list)
	for cut > 1 && size < sb.blockSize/2 {
		cut--
		size += disk.DirentLen(len(list[cut].Name))
	}
	nb, n, err := in.appendBlock()
	if err != nil {
		return err
	}
	defer nb.Release()
	in.packLeaf(nb.Data(), list[cut:])
	in.packLeaf(old.Data(), list[:cut])
	sb.dirtyBuf(old)
	hash := list[cut].hash
	if list[cut-1].hash == hash {
		hash |= 1 // the hash goes on here
	}
	in.insertDx(&path[len(path)-1], hash, uint32(n))
	return nil
}

// insertDx puts an entry behind the one that the step leads on with.
func (in *inode) insertDx(s *dxStep, hash, block uint32) {
	s.node.Insert(s.i+1, hash, block)
	in.sealDx(s.buf.Data(), s.start)
	in.sb.dirtyBuf(s.buf)
}

// splitNode makes room in the full node at the end of the path: it is split in two, or if it is the root the tree gets a
// level more.
func (in *inode) splitNode(path dxPath) error {
	le, sb := binary.LittleEndian, in.sb
	last := len(path) - 1
	s := &path[last]
	// The lowest full node below one that has room, or the root.
	for last > 0 && path[last-1].node.Count >= path[last-1].node.Limit {
		last--
		s = &path[last]
	}
	levels := int(path[0].buf.Data()[30])
	if last == 0 {
		limit := 2
		if sb.s.Incompat&disk.IncompatLargedir != 0 {
			limit = maxDxLevels
		}
		if levels+1 >= limit {
			return unix.ENOSPC
		}
	}
	nb, n, err := in.appendBlock()
	if err != nil {
		return err
	}
	defer nb.Release()
	p := nb.Data()
	// An inner node looks like a block with one empty entry.
	le.PutUint16(p[4:], uint16(sb.blockSize))
	limit := (sb.blockSize - disk.DxNodeEntries) / 8
	if sb.csum {
		limit = (sb.blockSize - disk.DxNodeEntries - 8) / 8
	}
	q := s.buf.Data()
	count := s.node.Count
	if last == 0 {
		copy(p[disk.DxNodeEntries:], q[s.start:s.start+8*count])
		le.PutUint16(p[disk.DxNodeEntries:], uint16(limit))
		le.PutUint16(p[disk.DxNodeEntries+2:], uint16(count))
		clear(q[s.start+8 : s.start+8*count])
		le.PutUint16(q[s.start+2:], 1)
		le.PutUint32(q[s.start+4:], uint32(n))
		q[30]++
		in.sealDx(p, disk.DxNodeEntries)
		in.sealDx(q, s.start)
		sb.dirtyBuf(s.buf)
		return nil
	}
	cut := count / 2
	hash := s.node.Hash(cut)
	copy(p[disk.DxNodeEntries:], q[s.start+8*cut:s.start+8*count])
	le.PutUint16(p[disk.DxNodeEntries:], uint16(limit))
	le.PutUint16(p[disk.DxNodeEntries+2:], uint16(count-cut))
	clear(q[s.start+8*cut : s.start+8*count])
	le.PutUint16(q[s.start+2:], uint16(cut))
	in.sealDx(p, disk.DxNodeEntries)
	in.sealDx(q, s.start)
	sb.dirtyBuf(s.buf)
	in.insertDx(&path[last-1], hash, uint32(n))
	return nil
}

// makeIndex gives a directory of one full block a hash tree: its entries move to a second block. ok is false if the block
// does not look as it must.
func (in *inode) makeIndex() (ok bool, err error) {
	le, sb := binary.LittleEndian, in.sb
	version := sb.s.DefHashVersion
	if version > disk.HashTEA {
		return false, nil
	}
	r, err := in.dirRun(0)
	if err != nil {
		return false, err
	}
	b, err := in.dirBlock(r)
	if err != nil {
		return false, err
	}
	defer b.Release()
	p := b.Data()
	dot, err1 := disk.DecodeDirent(p, 0, sb.filetype)
	if err1 != nil || dot.RecLen != 12 || string(dot.Name) != "." {
		return false, nil
	}
	up, err1 := disk.DecodeDirent(p, 12, sb.filetype)
	if err1 != nil || string(up.Name) != ".." {
		return false, nil
	}
	list, err := in.leafEntries(p, version)
	if err != nil {
		return false, err
	}
	list = slices.DeleteFunc(list, func(e hashedEntry) bool { return string(e.Name) == "." || string(e.Name) == ".." })
	nb, n, err := in.appendBlock()
	if err != nil {
		return false, err
	}
	defer nb.Release()
	in.packLeaf(nb.Data(), list)
	up.Name = []byte("..")
	up.RecLen = sb.blockSize - 12
	clear(p[24:])
	disk.EncodeDirent(p, 12, &up, sb.filetype)
	p[28], p[29], p[30], p[31] = version, 8, 0, 0
	limit := (sb.blockSize - disk.DxRootEntries) / 8
	if sb.csum {
		limit = (sb.blockSize - disk.DxRootEntries - 8) / 8
	}
	le.PutUint16(p[disk.DxRootEntries:], uint16(limit))
	le.PutUint16(p[disk.DxRootEntries+2:], 1)
	le.PutUint32(p[disk.DxRootEntries+4:], uint32(n))
	in.sealDx(p, disk.DxRootEntries)
	sb.dirtyBuf(b)
	in.raw.Flags |= disk.InodeIndex
	in.noIndex.Store(false)
	in.markDirty(false)
	return true, nil
}
