package ext4

import (
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// inodePlace is where an inode is stored.
func (sb *superBlock) inodePlace(ino uint32) (block uint64, at int) {
	group, index := (ino-1)/sb.s.InodesPerGroup, (ino-1)%sb.s.InodesPerGroup
	off := uint64(index) * uint64(sb.inodeSize)
	return sb.tables[group] + off>>sb.blockBits, int(off) & (sb.blockSize - 1)
}

// goalGroup chooses the group of a new inode: files near their directory, directories below the root spread over groups
// that have more room than the average, others near their parent if that is not full.
func (sb *superBlock) goalGroup(parent *inode, isDir bool) uint32 {
	w := sb.w
	pg := (parent.ino - 1) / sb.s.InodesPerGroup
	if !isDir {
		return pg
	}
	avgInodes, avgBlocks := uint32(w.freeInodes/uint64(sb.groups)), uint32(w.freeBlocks/uint64(sb.groups))
	fit := func(n uint32, share uint32) bool {
		g := &w.groups[n]
		return !g.bad && g.desc.FreeInodes > 0 && g.desc.FreeInodes >= avgInodes/share && g.desc.FreeBlocks >= avgBlocks/share
	}
	if parent.ino == disk.RootInode {
		for i := range sb.groups {
			n := (w.nextDirGrp + i) % sb.groups
			if fit(n, 1) {
				w.nextDirGrp = n + 1
				return n
			}
		}
		return pg
	}
	for i := range sb.groups {
		if n := (pg + i) % sb.groups; fit(n, 4) {
			return n
		}
	}
	return pg
}

// allocInode takes an inode number. The caller holds w.mu.
func (sb *superBlock) allocInode(parent *inode, isDir bool) (uint32, error) {
	w := sb.w
	if w.freeInodes == 0 {
		return 0, unix.ENOSPC
	}
	goal := sb.goalGroup(parent, isDir)
	for i := range sb.groups {
		gn := (goal + i) % sb.groups
		g := &w.groups[gn]
		if g.bad || g.desc.FreeInodes == 0 {
			continue
		}
		b, err := sb.bitmap(gn, true)
		if err != nil {
			continue // reported; other groups may do
		}
		p := b.Data()
		index := uint32(0)
		if gn == 0 {
			index = sb.s.FirstInode - 1
		}
		if index = nextClear(p, nil, index, sb.s.InodesPerGroup); index == sb.s.InodesPerGroup {
			b.Release()
			continue
		}
		setBits(p, index, 1)
		sb.dirtyBuf(b)
		b.Release()
		g.desc.FreeInodes--
		if isDir {
			g.desc.UsedDirs++
		}
		ino := gn*sb.s.InodesPerGroup + index + 1
		if err := sb.useTable(g, ino, index); err != nil {
			return 0, sb.abort(err, "cannot initialise an inode table")
		}
		sb.markGroup(gn)
		w.freeInodes--
		return ino, nil
	}
	return 0, unix.ENOSPC
}

// useTable notes that an inode of a group's table is used, and clears what has never been written after it in its block:
// only the part of the table that counts as used is known to be valid.
func (sb *superBlock) useTable(g *group, ino, index uint32) error {
	if !sb.s.GroupChecksums() {
		return nil // the table is always initialised
	}
	used := sb.s.InodesPerGroup - min(g.desc.ItableUnused, sb.s.InodesPerGroup)
	if index < used {
		return nil
	}
	if g.desc.Flags&disk.GroupInodeZeroed == 0 {
		block, at := sb.inodePlace(ino)
		b, err := sb.cache.Get(block)
		if err != nil {
			return err
		}
		sb.w.itable.Lock()
		clear(b.Data()[at:])
		sb.w.itable.Unlock()
		sb.dirtyBuf(b)
		b.Release()
	}
	g.desc.ItableUnused = sb.s.InodesPerGroup - index - 1
	if g.desc.Flags&disk.GroupBlockUninit != 0 {
		// A group whose inodes are used has its blocks accounted for, too.
		if b, err := sb.bitmap((ino-1)/sb.s.InodesPerGroup, false); err == nil {
			b.Release()
		}
	}
	return nil
}

// freeInode gives an inode number back. The caller holds w.mu.
func (sb *superBlock) freeInode(ino uint32, isDir bool) {
	w := sb.w
	gn, index := (ino-1)/sb.s.InodesPerGroup, (ino-1)%sb.s.InodesPerGroup
	g := &w.groups[gn]
	b, err := sb.bitmap(gn, true)
	if err != nil {
		return
	}
	defer b.Release()
	if !bitSet(b.Data(), index) {
		_ = sb.errorf(nil, "inode #%d: freeing a free inode", ino)
		return
	}
	clearBits(b.Data(), index, 1)
	sb.dirtyBuf(b)
	g.desc.FreeInodes++
	if isDir && g.desc.UsedDirs > 0 {
		g.desc.UsedDirs--
	}
	sb.markGroup(gn)
	w.freeInodes++
}

// newInode makes an inode without links or blocks that belongs to the caller. The caller holds w.mu.
func (sb *superBlock) newInode(c vfs.Caller, parent *inode, mode uint32) (*inode, error) {
	isDir := mode&unix.S_IFMT == unix.S_IFDIR
	ino, err := sb.allocInode(parent, isDir)
	if err != nil {
		return nil, err
	}
	in := &inode{sb: sb, ino: ino}
	uid, gid := uint32(0), uint32(0)
	if c != nil {
		uid, gid = c.Cred().FSUID, c.Cred().FSGID
	}
	pa := parent.Attr()
	if sb.opts.Load().grpid || pa.Mode&unix.S_ISGID != 0 {
		gid = pa.GID
		if isDir && pa.Mode&unix.S_ISGID != 0 {
			mode |= unix.S_ISGID
		}
	}
	t := now()
	in.attr = vfs.Attr{Ino: uint64(ino), Mode: mode, UID: uid, GID: gid, Blksize: int64(sb.blockSize), Atime: t, Mtime: t, Ctime: t, Btime: t}
	d := &in.raw
	d.Generation = rand.Uint32()
	const inherited = disk.InodeSecrm | 0x2 | 0x4 | disk.InodeSync | disk.InodeNodump | disk.InodeNoatime | disk.InodeJournalData | 0x8000 |
		disk.InodeDirsync | disk.InodeDAX | disk.InodeProjinherit
	d.Flags = flagsFor(mode, parent.raw.Flags&inherited)
	if parent.raw.Flags&disk.InodeProjinherit != 0 && sb.s.ROCompat&disk.ROProject != 0 {
		d.Projid = parent.raw.Projid
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		if sb.s.Incompat&disk.IncompatExtents != 0 {
			d.Flags |= disk.InodeExtents
			emptyExtents(d.Block[:])
		}
	}
	if sb.inodeSize > disk.BaseInodeSize {
		d.ExtraIsize = 32
		if w := sb.s.WantExtraIsize; w > 32 && disk.BaseInodeSize+int(w) <= sb.inodeSize && w%4 == 0 {
			d.ExtraIsize = w
		}
	}
	in.seed = disk.InodeSeed(sb.seed, ino, d.Generation)
	in.fresh = true
	in.publish()
	if !sb.inodes.enter(in) {
		return nil, sb.errorf(errCorrupt, "inode #%d: in use, but free in the bitmap", ino)
	}
	in.markDirty(false)
	return in, nil
}

// emptyExtents makes the root of an extent tree without extents.
func emptyExtents(root []byte) {
	clear(root)
	h := disk.ExtentHeader{Magic: disk.ExtentMagic, Max: uint16((len(root) - disk.ExtentHeaderSize) / disk.ExtentSize)}
	h.Encode(root)
}
