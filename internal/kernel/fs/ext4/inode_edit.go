package ext4

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Limits of the number of links.
const (
	maxLinksExt2 = 32000
	maxLinks     = 65000
)

// metaData reports that the blocks of the file are metadata: they are changed through the journal.
func (in *inode) metaData() bool { return !in.attr.IsRegular() || in.journalData() }

// update changes the attributes. The caller holds in.mu, or changes only times.
func (in *inode) update(f func(a *vfs.Attr)) {
	in.attrMu.Lock()
	f(&in.attr)
	in.attrMu.Unlock()
}

// addBlocks counts blocks that the inode has got or lost.
func (in *inode) addBlocks(n int) {
	if n != 0 {
		in.update(func(a *vfs.Attr) { a.Blocks += int64(n) << (in.sb.blockBits - 9) })
		in.markDirty(false)
	}
}

// goal is where the next block of the inode should be.
func (in *inode) goal() uint64 {
	if in.lastPhys != 0 {
		return in.lastPhys + 1
	}
	return in.sb.groupFirst((in.ino - 1) / in.sb.s.InodesPerGroup)
}

func diskTime(t unix.Timespec) disk.Time { return disk.Time{Sec: t.Sec, Nsec: uint32(t.Nsec)} }

// encode writes the inode into its place b in the table. The caller keeps it from being changed.
func (in *inode) encode(b []byte) {
	sb, d := in.sb, &in.raw
	in.attrMu.RLock()
	a := in.attr
	in.attrMu.RUnlock()
	d.Mode, d.UID, d.GID, d.Links = uint16(a.Mode), a.UID, a.GID, uint16(a.Nlink)
	d.Atime, d.Mtime, d.Ctime, d.Crtime = diskTime(a.Atime), diskTime(a.Mtime), diskTime(a.Ctime), diskTime(a.Btime)
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		d.Size = uint64(a.Size)
	}
	d.Blocks = uint64(a.Blocks)
	if d.Flags&disk.InodeHugeFile != 0 && sb.s.ROCompat&disk.ROHugeFile != 0 {
		d.Blocks >>= sb.blockBits - 9
	}
	if in.fresh {
		clear(b)
		in.fresh = false
	}
	d.Encode(b)
	if end := disk.BaseInodeSize + int(d.ExtraIsize); len(b) > disk.BaseInodeSize {
		if in.room != nil {
			copy(b[end:], in.room[end:])
		} else if in.hadRoom {
			clear(b[end:])
		}
	}
	if sb.csum {
		sum, wide := disk.InodeChecksum(sb.seed, in.ino, b)
		d.Checksum = sum
		if !wide {
			d.Checksum &= 0xffff
		}
		d.Encode(b)
	}
}

// touch sets mtime and ctime.
func (in *inode) touch() {
	t := now()
	in.update(func(a *vfs.Attr) { a.Mtime, a.Ctime = t, t })
	in.markDirty(false)
}

// changed sets ctime.
func (in *inode) changed() {
	t := now()
	in.update(func(a *vfs.Attr) { a.Ctime = t })
	in.markDirty(false)
}

// UpdateAtime implements vfs.AtimeUpdater.
func (in *inode) UpdateAtime(t unix.Timespec) {
	if in.sb.ro.Load() {
		return
	}
	in.update(func(a *vfs.Attr) { a.Atime = t })
	in.markDirty(true)
}

// maxSize is the largest size of a file with this kind of block map.
func (in *inode) maxSize() int64 {
	sb := in.sb
	if in.raw.Flags&disk.InodeExtents != 0 {
		return int64(maxBlocks-1) << sb.blockBits
	}
	bits := sb.blockBits - 2
	n := int64(directBlocks + 1<<bits + 1<<(2*bits) + 1<<(3*bits))
	n = min(n, int64(1)<<31) // i_blocks counts sectors in 32 bits, or more with huge_file; stay below both
	return n << sb.blockBits
}

// limit is maxSize for who does not hold in.mu.
func (in *inode) limit() int64 {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.maxSize()
}

// clampTime makes a time one that an inode can hold: with extra fields 34 bits of seconds from 1901 on, else 32 and no parts of
// a second.
func (sb *superBlock) clampTime(t unix.Timespec) unix.Timespec {
	const first = -1 << 31
	last := int64(first + 1<<34 - 1)
	if sb.inodeSize == disk.BaseInodeSize {
		last, t.Nsec = 1<<31-1, 0
	}
	if t.Sec = min(max(t.Sec, first), last); t.Sec == first || t.Sec == last {
		t.Nsec = 0
	}
	return t
}

// SetAttr changes attributes.
func (in *inode) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	sb := in.sb
	if sb.ro.Load() {
		return unix.EROFS
	}
	if sa.Valid&vfs.SetSize != 0 {
		if a := in.Attr(); !a.IsRegular() {
			return unix.EINVAL
		} else if a.Flags&unix.STATX_ATTR_IMMUTABLE != 0 {
			return unix.EPERM
		} else if a.Flags&unix.STATX_ATTR_ENCRYPTED != 0 {
			return unix.EOPNOTSUPP
		} else if a.Flags&unix.STATX_ATTR_VERITY != 0 {
			return unix.EPERM
		}
		if err := in.truncate(sa.Size); err != nil {
			return err
		}
	}
	if err := sb.begin(); err != nil {
		return err
	}
	defer sb.end()
	in.mu.Lock()
	defer in.mu.Unlock()
	t := now()
	in.update(func(a *vfs.Attr) {
		if sa.Valid&vfs.SetMode != 0 {
			a.Mode = a.Mode&unix.S_IFMT | sa.Mode&0o7777
		}
		if sa.Valid&vfs.SetUID != 0 {
			a.UID = sa.UID
		}
		if sa.Valid&vfs.SetGID != 0 {
			a.GID = sa.GID
		}
		if sa.Valid&vfs.SetAtime != 0 {
			a.Atime = sb.clampTime(sa.Atime)
		}
		if sa.Valid&vfs.SetMtime != 0 {
			a.Mtime = sb.clampTime(sa.Mtime)
		}
		a.Ctime = t
	})
	in.publish()
	in.markDirty(false)
	return nil
}

// truncate sets the size of a regular file.
func (in *inode) truncate(size int64) error {
	sb := in.sb
	in.io.Lock()
	defer in.io.Unlock()
	if err := sb.begin(); err != nil {
		return err
	}
	in.mu.Lock()
	more, err := in.truncateLocked(size)
	in.mu.Unlock()
	sb.end()
	if err != nil || !more {
		return err
	}
	err = in.cutAll(in.blocksFor(size), maxBlocks)
	if e := sb.begin(); e == nil {
		if in.Attr().Nlink > 0 {
			sb.delOrphan(in)
		}
		sb.end()
	}
	return err
}

// blocksFor is how many blocks a file of a size has.
func (in *inode) blocksFor(size int64) uint64 {
	return (uint64(size) + uint64(in.sb.blockSize) - 1) >> in.sb.blockBits
}

// truncateLocked sets the size and frees blocks if that is little work. With more there are blocks left to free, and the
// inode is on the list of orphans until that is done.
func (in *inode) truncateLocked(size int64) (more bool, err error) {
	sb := in.sb
	if size < 0 {
		return false, unix.EINVAL
	}
	if size > in.maxSize() {
		return false, unix.EFBIG
	}
	old := in.attr.Size
	if err := in.needMap(); err != nil {
		return false, err
	}
	if size != old {
		if err := in.zeroTailOf(min(size, old)); err != nil {
			return false, err
		}
		in.tailClean = true
	}
	if size > 1<<31-1 {
		sb.largeFile()
	}
	t := now()
	in.update(func(a *vfs.Attr) { a.Size, a.Mtime, a.Ctime = size, t, t })
	in.markDirty(false)
	in.resizeMem(old, size)
	if size > old {
		return false, nil
	}
	for range 2 {
		done, err := in.cut(in.blocksFor(size), maxBlocks)
		if done || err != nil {
			return false, err
		}
	}
	sb.addOrphan(in)
	return true, nil
}

// cutAll frees the blocks in [from, to), in as many transactions as it takes.
func (in *inode) cutAll(from, to uint64) error {
	if from >= to {
		return nil
	}
	for {
		if err := in.sb.begin(); err != nil {
			return err
		}
		in.mu.Lock()
		done, err := in.cut(from, to)
		in.mu.Unlock()
		in.sb.end()
		if done || err != nil {
			return err
		}
	}
}

// cut frees a part of the blocks in [from, to). The caller holds w.mu and in.mu.
func (in *inode) cut(from, to uint64) (done bool, err error) {
	in.lastPhys = 0
	switch {
	case in.inline() || !in.hasMap():
		return true, nil
	case in.raw.Flags&disk.InodeExtents != 0:
		return in.cutExtents(from, min(to, maxBlocks))
	}
	return in.cutIndirect(from, to)
}

// hasMap reports whether the inode's block array is a block map.
func (in *inode) hasMap() bool {
	switch in.attr.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return true
	case unix.S_IFLNK:
		return !in.fastSymlink()
	}
	return false
}

// zeroTailOf makes the bytes from size to the end of its block zero on the device. The caller holds in.mu.
func (in *inode) zeroTailOf(size int64) error {
	skip := size & int64(in.sb.blockSize-1)
	if skip == 0 {
		return nil
	}
	return in.zeroBytes(size, int64(in.sb.blockSize)-skip)
}

// zeroBytes zeroes n bytes, within one block, where the file has a written block. The caller holds in.mu.
func (in *inode) zeroBytes(off, n int64) error {
	sb := in.sb
	r, err := in.mapBlock(uint64(off) >> sb.blockBits)
	if err != nil || r.kind != written {
		return err
	}
	if in.journalData() {
		return sb.changeJournalled(r.phys, int(off)&(sb.blockSize-1), make([]byte, n))
	}
	at := int64(r.phys)<<sb.blockBits + off&int64(sb.blockSize-1)
	return sb.writeData(make([]byte, n), at)
}

// needMap makes an inline file one with a block map. The caller holds w.mu and in.mu.
func (in *inode) needMap() error {
	if !in.inline() {
		return nil
	}
	return in.convertInline()
}

// largeFile notes that there is a file of 2 GiB or more.
func (sb *superBlock) largeFile() {
	sb.s.ROCompat |= disk.ROLargeFile
	sb.markGroup(0) // so that the superblock is written
}

// Forget is called when nobody uses the inode any more: without links it is freed.
func (in *inode) Forget() {
	in.Mapped(0, false)
	sb := in.sb
	if !sb.w.ready.Load() || in.Attr().Nlink > 0 {
		return
	}
	_ = in.evict() // what cannot be freed now stays on the list of orphans
}

// evict frees an inode without links.
func (in *inode) evict() error {
	unused, err := in.evictOne()
	evictAll(unused)
	return err
}

// evictOne frees the inode, and returns inodes of attributes' values that are to be evicted, too.
func (in *inode) evictOne() (unused []*inode, err error) {
	sb := in.sb
	if err := in.cutAll(0, maxBlocks); err != nil {
		return nil, err
	}
	if err := sb.begin(); err != nil {
		return nil, err
	}
	defer sb.end()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gone {
		return nil, nil
	}
	in.gone = true
	values, err := in.allEAValues()
	if err != nil {
		return nil, err
	}
	if unused, err = sb.addEARefs(values, -1); err != nil {
		return unused, err
	}
	if err := in.dropXattrBlock(); err != nil {
		return unused, err
	}
	sb.delOrphan(in)
	in.raw.Dtime = uint32(now().Sec)
	in.update(func(a *vfs.Attr) { a.Size = 0 })
	return unused, in.retire()
}

// retire stores an inode for the last time and gives its number back: after that the number may belong to another. The
// caller holds w.mu and in.mu.
func (in *inode) retire() error {
	sb := in.sb
	w := sb.w
	in.dead.Store(true)
	if in.must {
		in.must = false
		w.must--
	}
	w.dirtyMu.Lock()
	delete(w.dirty, in)
	w.dirtyMu.Unlock()
	if err := sb.storeInode(in); err != nil {
		return sb.abort(err, "cannot store an inode")
	}
	a := in.Attr()
	sb.freeInode(in.ino, a.IsDir())
	sb.inodes.remove(in)
	return nil
}

// addOrphan puts an inode on the list of those that are to be freed or truncated after a crash. The caller holds w.mu.
func (sb *superBlock) addOrphan(in *inode) {
	w := sb.w
	for _, o := range w.orphans {
		if o == in {
			return
		}
	}
	in.raw.Dtime = sb.s.LastOrphan
	sb.s.LastOrphan = in.ino
	w.orphans = slices.Insert(w.orphans, 0, in)
	in.markDirty(false)
	sb.markGroup(0) // so that the superblock is written
}

// delOrphan takes an inode off the list. The caller holds w.mu.
func (sb *superBlock) delOrphan(in *inode) {
	w := sb.w
	for i, o := range w.orphans {
		if o != in {
			continue
		}
		if i == 0 {
			sb.s.LastOrphan = in.raw.Dtime
		} else {
			prev := w.orphans[i-1]
			prev.raw.Dtime = in.raw.Dtime
			prev.markDirty(false)
		}
		in.raw.Dtime = 0
		in.markDirty(false)
		w.orphans = slices.Delete(w.orphans, i, i+1)
		sb.markGroup(0)
		return
	}
}

// convertInline moves the content of an inline file or directory to a block. The caller holds w.mu and in.mu.
func (in *inode) convertInline() error {
	sb := in.sb
	data, err := in.inlineData()
	if err != nil {
		return err
	}
	data = append([]byte(nil), data...)
	isDir := in.attr.IsDir()
	var first uint64
	if isDir || in.attr.Size > 0 {
		b, err := sb.allocMeta(in.goal())
		if err != nil {
			return err
		}
		first = b.Block
		if isDir {
			err = in.fillInlineDir(b.Data(), data)
			if err == nil {
				in.sealDir(b.Data())
			}
		} else {
			copy(b.Data(), data[:min(int(in.attr.Size), len(data))])
			if in.journalData() {
				sb.dirtyBuf(b)
			} else if _, err = sb.dev.WriteAt(b.Data(), int64(b.Block)<<sb.blockBits); err == nil {
				sb.forgetBlock(b.Block)
			}
		}
		b.Release()
		if err != nil {
			sb.freeBlocksNow(nil, first, 1, true)
			return err
		}
	}
	if err := in.editRoom(func(list []xattr) []xattr {
		out := list[:0]
		for _, x := range list {
			if x.index != disk.XattrSystem || x.name != "data" {
				out = append(out, x)
			}
		}
		return out
	}); err != nil {
		if first != 0 {
			sb.freeBlocksNow(nil, first, 1, true)
		}
		return err
	}
	in.raw.Flags &^= disk.InodeInlineData
	in.lastRun.Store(nil)
	if sb.s.Incompat&disk.IncompatExtents != 0 {
		in.raw.Flags |= disk.InodeExtents
		emptyExtents(in.raw.Block[:])
	} else {
		clear(in.raw.Block[:])
	}
	if first != 0 {
		in.addBlocks(1)
		if _, err := in.enterBlocks(0, first, 1, false); err != nil {
			return sb.abort(err, "cannot enter a block into an empty map")
		}
	}
	if isDir {
		in.update(func(a *vfs.Attr) { a.Size = int64(sb.blockSize) })
	}
	in.markDirty(false)
	return nil
}

// fillInlineDir makes a directory block of the entries of an inline directory.
func (in *inode) fillInlineDir(p, data []byte) error {
	sb := in.sb
	end := in.dirEnd()
	put := func(at int, e *disk.Dirent) { disk.EncodeDirent(p, at, e, sb.filetype) }
	put(0, &disk.Dirent{Inode: in.ino, Type: disk.FTDir, Name: []byte("."), RecLen: 12})
	last := disk.Dirent{Inode: leU32(data), Type: disk.FTDir, Name: []byte("..")}
	at := 12
	regions := [][2]int{{inlineParentSize, disk.BlockBytes}}
	if len(data) > disk.BlockBytes {
		regions = append(regions, [2]int{disk.BlockBytes, len(data)})
	}
	for _, r := range regions {
		q := data[:r[1]]
		for o := r[0]; o < len(q); {
			e, err := disk.DecodeDirent(q, o, sb.filetype)
			if err != nil {
				return sb.damage(err, "inode #%d: inline directory entry at offset %d", in.ino, o)
			}
			o += e.RecLen
			if e.Inode == 0 {
				continue
			}
			last.RecLen = disk.DirentLen(len(last.Name))
			put(at, &last)
			at += last.RecLen
			last = disk.Dirent{Inode: e.Inode, Type: e.Type, Name: e.Name}
		}
	}
	last.RecLen = end - at
	put(at, &last)
	return nil
}

// enterBlocks enters n blocks that were allocated into the block map. It returns how many are entered.
func (in *inode) enterBlocks(b uint64, phys uint64, n uint32, unwrittenBlocks bool) (uint32, error) {
	in.lastPhys = phys + uint64(n) - 1
	if in.raw.Flags&disk.InodeExtents == 0 {
		return in.insertIndirect(b, phys, n)
	}
	if err := in.insertExtent(disk.Extent{Block: uint32(b), Len: n, Start: phys, Unwritten: unwrittenBlocks}); err != nil {
		return 0, err
	}
	return n, nil
}

// allocAt allocates up to n blocks for the hole at logical block b.
func (in *inode) allocAt(b uint64, n uint32, root, unwrittenBlocks bool) (phys uint64, got uint32, err error) {
	sb := in.sb
	n = min(n, maxLen(unwrittenBlocks))
	if in.lastPhys == 0 && b > 0 {
		if r, err := in.mapBlock(b - 1); err == nil && r.kind != hole {
			in.lastPhys = r.phys
		}
	}
	phys, got, err = sb.allocBlocks(in.goal(), n, root)
	if err != nil {
		return 0, 0, err
	}
	entered, err := in.enterBlocks(b, phys, got, unwrittenBlocks)
	if entered < got {
		sb.freeBlocksNow(nil, phys+uint64(entered), got-entered, false)
		in.lastPhys = 0
	}
	in.addBlocks(int(entered))
	if entered > 0 {
		err = nil
	}
	return phys, entered, err
}
