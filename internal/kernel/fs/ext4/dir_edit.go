package ext4

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Changes of directories. Callers hold w.mu and in.mu of the directory.

// dirEnd is where the entries of a directory block end: a checksum may follow.
func (in *inode) dirEnd() int {
	if in.sb.csum {
		return in.sb.blockSize - disk.DirTailSize
	}
	return in.sb.blockSize
}

// sealDir puts the checksum into a block of entries.
func (in *inode) sealDir(p []byte) {
	if in.sb.csum {
		disk.PutDirTail(in.seed, p)
	}
}

// fileType is what directory entries say about a mode.
func (sb *superBlock) fileType(mode uint32) uint8 {
	if !sb.filetype {
		return disk.FTUnknown
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return disk.FTReg
	case unix.S_IFDIR:
		return disk.FTDir
	case unix.S_IFCHR:
		return disk.FTChr
	case unix.S_IFBLK:
		return disk.FTBlk
	case unix.S_IFIFO:
		return disk.FTFifo
	case unix.S_IFSOCK:
		return disk.FTSock
	case unix.S_IFLNK:
		return disk.FTSymlink
	}
	return disk.FTUnknown
}

// indexed reports whether the directory has a hash tree.
func (in *inode) indexed() bool {
	return in.raw.Flags&disk.InodeIndex != 0 && in.sb.s.Compat&disk.CompatDirIndex != 0
}

// dirRun is the run that begins at a block of the directory, which must be there.
func (in *inode) dirRun(b uint64) (run, error) {
	r, err := in.mapBlock(b)
	if err == nil && r.kind != written {
		err = in.sb.errorf(errCorrupt, "inode #%d: directory has no block %d", in.ino, b)
	}
	return r, err
}

// appendBlock adds a block to the directory and returns it, cleared and dirty, with its number.
func (in *inode) appendBlock() (*bdev.Buffer, uint64, error) {
	sb := in.sb
	n := uint64(in.attr.Size) >> sb.blockBits
	if sb.s.Incompat&disk.IncompatLargedir == 0 && (n+1)<<sb.blockBits > 1<<31 {
		return nil, 0, unix.ENOSPC
	}
	if kb := sb.opts.Load().maxDirKB; kb != 0 && in.attr.Size>>10 >= int64(kb) {
		return nil, 0, unix.ENOSPC
	}
	phys, _, err := in.allocAt(n, 1, true, false)
	if err != nil {
		return nil, 0, err
	}
	b, err := sb.cache.GetNew(phys)
	if err != nil {
		return nil, 0, sb.abort(err, "cannot get a directory block")
	}
	clear(b.Data())
	in.update(func(a *vfs.Attr) { a.Size += int64(sb.blockSize) })
	in.markDirty(false)
	sb.dirtyBuf(b)
	return b, n, nil
}

// insertInto puts an entry into a block of entries if there is room.
func (in *inode) insertInto(p []byte, block uint64, e *disk.Dirent) (bool, error) {
	sb := in.sb
	need := disk.DirentLen(len(e.Name))
	for at := 0; at < in.dirEnd(); {
		x, err := disk.DecodeDirent(p[:in.dirEnd()], at, sb.filetype)
		if err != nil {
			return false, sb.damage(err, "inode #%d: block %d: directory entry at offset %d", in.ino, block, at)
		}
		have := 0
		if x.Inode != 0 {
			have = disk.DirentLen(len(x.Name))
		}
		if x.RecLen-have >= need {
			n := *e
			n.RecLen = x.RecLen - have
			if have > 0 {
				x.RecLen = have
				disk.EncodeDirent(p, at, &x, sb.filetype)
			}
			disk.EncodeDirent(p, at+have, &n, sb.filetype)
			in.sealDir(p)
			return true, nil
		}
		at += x.RecLen
	}
	return false, nil
}

// addEntry enters a name that is not there. On error nothing has been changed.
func (in *inode) addEntry(name string, ino uint32, ftype uint8) error {
	sb := in.sb
	if in.inline() {
		if err := in.convertInline(); err != nil {
			return err
		}
	}
	e := &disk.Dirent{Inode: ino, Type: ftype, Name: []byte(name)}
	if in.indexed() && !in.noIndex.Load() {
		return in.addHashed(e)
	}
	if in.indexed() {
		return in.sb.errorf(errCorrupt, "inode #%d: directory index unusable", in.ino)
	}
	blocks := uint64(in.attr.Size) >> sb.blockBits
	for b := min(in.dirHint, blocks); b < blocks; b++ {
		ok, err := in.tryBlock(b, e)
		if ok || err != nil {
			return err
		}
		in.dirHint = b + 1
	}
	if blocks == 1 && sb.s.Compat&disk.CompatDirIndex != 0 {
		ok, err := in.makeIndex()
		if err != nil {
			return err
		}
		if ok {
			return in.addHashed(e)
		}
	}
	b, _, err := in.appendBlock()
	if err != nil {
		return err
	}
	defer b.Release()
	e.RecLen = in.dirEnd()
	disk.EncodeDirent(b.Data(), 0, e, sb.filetype)
	in.sealDir(b.Data())
	return nil
}

// tryBlock enters a name into one block if there is room.
func (in *inode) tryBlock(b uint64, e *disk.Dirent) (bool, error) {
	r, err := in.dirRun(b)
	if err != nil {
		return false, err
	}
	buf, err := in.dirBlock(r)
	if err != nil {
		return false, err
	}
	defer buf.Release()
	ok, err := in.insertInto(buf.Data(), buf.Block, e)
	if ok {
		in.sb.dirtyBuf(buf)
	}
	return ok, err
}

// withEntry finds a name, hands its block and entry to change, and writes the block.
func (in *inode) withEntry(name string, change func(p []byte, prev, e disk.Dirent)) error {
	sb := in.sb
	if in.inline() {
		if err := in.convertInline(); err != nil {
			return err
		}
	}
	blocks := uint64(in.attr.Size) >> sb.blockBits
	first := uint64(0)
	if in.indexed() && !in.noIndex.Load() && name != "." && name != ".." {
		if b, ok := in.hashedBlock(name); ok {
			first = b
		}
	}
	for i := range blocks {
		b := (first + i) % blocks
		r, err := in.mapBlock(b)
		if err != nil {
			return err
		}
		if r.kind != written {
			continue
		}
		buf, err := in.dirBlock(r)
		if err != nil {
			return err
		}
		p := buf.Data()
		before, at, err := disk.FindDirent(p, 0, name, sb.filetype)
		if err != nil {
			buf.Release()
			return sb.damage(err, "inode #%d: block %d: directory entry at offset %d", in.ino, buf.Block, at)
		}
		if at >= 0 {
			var prev disk.Dirent
			if before >= 0 {
				prev, _ = disk.DecodeDirent(p, before, sb.filetype)
			}
			e, _ := disk.DecodeDirent(p, at, sb.filetype)
			change(p, prev, e)
			if in.indexed() && b == 0 {
				in.sealDx(p, disk.DxRootEntries)
			} else {
				in.sealDir(p)
			}
			sb.dirtyBuf(buf)
			buf.Release()
			return nil
		}
		buf.Release()
	}
	return unix.ENOENT
}

// removeEntry removes a name.
func (in *inode) removeEntry(name string) error {
	in.dirHint = 0
	return in.withEntry(name, func(p []byte, prev, e disk.Dirent) {
		if prev.RecLen > 0 {
			prev.RecLen += e.RecLen
			disk.EncodeDirent(p, prev.Off, &prev, in.sb.filetype)
			clear(p[e.Off : e.Off+disk.DirentLen(len(e.Name))])
			return
		}
		le32(p[e.Off:], 0)
	})
}

// setEntry makes a name point to another inode.
func (in *inode) setEntry(name string, ino uint32, ftype uint8) error {
	return in.withEntry(name, func(p []byte, _, e disk.Dirent) {
		e.Inode, e.Type = ino, ftype
		e.Name = slices.Clone(e.Name)
		disk.EncodeDirent(p, e.Off, &e, in.sb.filetype)
	})
}

func le32(p []byte, v uint32) { p[0], p[1], p[2], p[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24) }

// makeDir gives a new directory its first block.
func (in *inode) makeDir(parent uint32) error {
	b, _, err := in.appendBlock()
	if err != nil {
		return err
	}
	defer b.Release()
	p, ft := b.Data(), in.sb.filetype
	disk.EncodeDirent(p, 0, &disk.Dirent{Inode: in.ino, Type: disk.FTDir, Name: []byte("."), RecLen: 12}, ft)
	disk.EncodeDirent(p, 12, &disk.Dirent{Inode: parent, Type: disk.FTDir, Name: []byte(".."), RecLen: in.dirEnd() - 12}, ft)
	in.sealDir(p)
	return nil
}

// emptyDir reports whether a directory has only "." and "..".
func (in *inode) emptyDir() (bool, error) {
	sb := in.sb
	check := func(p []byte, at int) (bool, error) {
		for at < len(p) {
			e, err := disk.DecodeDirent(p, at, sb.filetype)
			if err != nil {
				return false, sb.damage(err, "inode #%d: directory entry at offset %d", in.ino, at)
			}
			if e.Inode != 0 && len(e.Name) > 0 && string(e.Name) != "." && string(e.Name) != ".." {
				return false, nil
			}
			at += e.RecLen
		}
		return true, nil
	}
	if in.inline() {
		data, regions, err := in.inlineDir()
		if err != nil {
			return false, err
		}
		for _, r := range regions {
			if ok, err := check(data[:r[1]], r[0]); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	for b, blocks := uint64(0), uint64(in.attr.Size)>>sb.blockBits; b < blocks; {
		r, err := in.mapBlock(b)
		if err != nil {
			return false, err
		}
		if r.kind != written {
			b = r.start + r.n
			continue
		}
		buf, err := in.dirBlock(r)
		if err != nil {
			return false, err
		}
		ok, err := check(buf.Data(), 0)
		buf.Release()
		if !ok || err != nil {
			return false, err
		}
		b++
	}
	return true, nil
}
