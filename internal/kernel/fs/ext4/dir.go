package ext4

import (
	"encoding/binary"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// dir is an open directory. On a read-only file system, and in very large directories, a position is the byte offset of an
// entry in the directory. An inline directory has no "." and ".." on disk: positions 0 and 1 stand for them, and an entry at
// byte n of its data has position n.
//
// When a directory with an index grows its entries move between blocks. So that a reader sees each name once, reading from
// the beginning takes a list of the names as they are; then positions count entries of the list.
type dir struct {
	vfs.FileBase
	in *inode

	// The position's lock of the open file guards these.
	begun bool
	list  []vfs.DirEnt // nil if positions are offsets
}

// maxListed is the largest directory, in bytes, whose entries are listed at once.
const maxListed = 4 << 20

// Read is not for directories.
func (d *dir) Read(vfs.Caller, *vfs.File, *uio.Dst, int64) (int, error) { return 0, unix.EISDIR }

// Fsync makes the directory durable.
func (d *dir) Fsync(_ vfs.Caller, _ *vfs.File, dataOnly bool) error { return d.in.fsync(dataOnly) }

// Ioctl has the requests that ask.
func (d *dir) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	return d.in.ioctl(c, cmd, arg)
}

var direntTypes = [...]uint8{
	disk.FTUnknown: unix.DT_UNKNOWN, disk.FTReg: unix.DT_REG, disk.FTDir: unix.DT_DIR, disk.FTChr: unix.DT_CHR,
	disk.FTBlk: unix.DT_BLK, disk.FTFifo: unix.DT_FIFO, disk.FTSock: unix.DT_SOCK, disk.FTSymlink: unix.DT_LNK,
}

func direntType(t uint8) uint8 {
	if int(t) < len(direntTypes) {
		return direntTypes[t]
	}
	return unix.DT_UNKNOWN
}

// ReadDir lists the directory from a position on.
func (d *dir) ReadDir(_ vfs.Caller, _ *vfs.File, off int64, emit func(vfs.DirEnt) bool) error {
	in := d.in
	if off < 0 {
		return unix.EINVAL
	}
	if in.encrypted() {
		return unix.EOPNOTSUPP
	}
	if off == 0 || !d.begun {
		d.begun, d.list = true, nil
		if a := in.Attr(); !in.sb.ro.Load() && in.sb.s.Compat&disk.CompatDirIndex != 0 && a.Size <= maxListed {
			if err := d.takeList(); err != nil {
				return err
			}
		}
	}
	if d.list != nil {
		for ; off < int64(len(d.list)); off++ {
			e := d.list[off]
			e.Off = off + 1
			if !emit(e) {
				return nil
			}
		}
		return nil
	}
	// emit may touch guest memory: entries are collected with the lock held, and given without it.
	var some []vfs.DirEnt
	for {
		some = some[:0]
		if err := in.collect(off, 64, &some); err != nil || len(some) == 0 {
			return err
		}
		for _, e := range some {
			if !emit(e) {
				return nil
			}
			off = e.Off
		}
	}
}

// takeList lists all entries.
func (d *dir) takeList() error {
	d.list = []vfs.DirEnt{}
	return d.in.collect(0, maxListed, &d.list)
}

// collect lists up to limit entries from an offset on.
func (in *inode) collect(off int64, limit int, out *[]vfs.DirEnt) error {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.scan(off, func(e vfs.DirEnt) bool {
		if len(*out) >= limit {
			return false
		}
		*out = append(*out, e)
		return true
	})
}

// scan visits the entries from an offset on. The caller holds in.mu.
func (in *inode) scan(off int64, emit func(vfs.DirEnt) bool) error {
	if in.inline() {
		return in.readInlineDir(off, emit)
	}
	size := in.attr.Size
	mask := int64(in.sb.blockSize - 1)
	for off < size {
		r, err := in.mapBlock(uint64(off) >> in.sb.blockBits)
		if err != nil {
			return err
		}
		if r.kind != written {
			off = int64(r.start+r.n) << in.sb.blockBits
			continue
		}
		blockOff := off &^ mask
		more, err := in.readDirBlock(r, blockOff, int(off&mask), emit)
		if err != nil || !more {
			return err
		}
		off = blockOff + mask + 1
	}
	return nil
}

// readDirBlock lists the entries of one block from byte from on.
func (in *inode) readDirBlock(r run, blockOff int64, from int, emit func(vfs.DirEnt) bool) (more bool, err error) {
	b, err := in.dirBlock(r)
	if err != nil {
		return false, err
	}
	defer b.Release()
	p := b.Data()
	// A position that somebody made up may lie inside an entry: walk from the beginning of the block.
	for at := 0; at < len(p); {
		e, err := disk.DecodeDirent(p, at, in.sb.filetype)
		if err != nil {
			return false, in.sb.damage(err, "inode #%d: block %d: directory entry at offset %d", in.ino, b.Block, at)
		}
		at += e.RecLen
		if e.Off < from || e.Inode == 0 || len(e.Name) == 0 {
			continue
		}
		if !emit(vfs.DirEnt{Name: string(e.Name), Ino: uint64(e.Inode), Type: direntType(e.Type), Off: blockOff + int64(at)}) {
			return false, nil
		}
	}
	return true, nil
}

// dirBlock reads the first block of a run of a directory and verifies its checksum. In a hashed directory inner nodes look
// like blocks with one empty entry; their checksum lies elsewhere.
func (in *inode) dirBlock(r run) (*bdev.Buffer, error) {
	b, err := in.sb.block(r.phys)
	if err != nil {
		return nil, err
	}
	if !in.sb.csum || b.Checked.Load() {
		return b, nil
	}
	// The root of a hash tree may still have what looks like the tail of the leaf that it once was.
	if p := b.Data(); in.raw.Flags&disk.InodeIndex != 0 && (r.start == 0 || int(binary.LittleEndian.Uint16(p[4:])) == len(p)) {
		start := disk.DxNodeEntries
		if r.start == 0 {
			start = disk.DxRootEntries
		}
		var n disk.DxNode
		if n, err = disk.DecodeDxNode(p, start, true); err == nil {
			if sum, stored := n.Checksum(in.seed); sum != stored {
				err = disk.ErrChecksum
			}
		}
	} else if sum, stored, ok := disk.DirChecksum(in.seed, p); !ok || sum != stored {
		err = disk.ErrChecksum
	}
	if err != nil {
		err = in.sb.damage(err, "inode #%d: block %d: directory block", in.ino, r.phys)
		b.Release()
		return nil, err
	}
	b.Checked.Store(true)
	return b, nil
}

// Lookup finds a name.
func (in *inode) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	if a := in.Attr(); !a.IsDir() {
		return nil, unix.ENOTDIR
	}
	if len(name) > disk.MaxName {
		return nil, unix.ENAMETOOLONG
	}
	in.mu.RLock()
	ino, err := in.find(name)
	in.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if ino == in.ino && name != "." {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: '%s' linked to parent dir", in.ino, name)
	}
	child, err := in.sb.iget(ino, false)
	if err == nil && child.isValue() {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: '%s' is the value of an attribute (inode #%d)", in.ino, name, ino)
	}
	if err == unix.ESTALE {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: deleted inode referenced: %d", in.ino, ino)
	}
	if err != nil {
		return nil, err
	}
	return child, nil
}

// find returns the inode number of a name.
func (in *inode) find(name string) (uint32, error) {
	if in.inline() {
		return in.findInline(name)
	}
	if in.raw.Flags&disk.InodeIndex != 0 && in.sb.s.Compat&disk.CompatDirIndex != 0 && !in.noIndex.Load() && name != "." && name != ".." {
		ino, ok, err := in.findHashed(name)
		if ok || err != nil {
			return ino, err
		}
		if !in.noIndex.Swap(true) {
			_ = in.sb.errorf(nil, "inode #%d: unusable directory index, searching linearly", in.ino)
		}
	}
	size := uint64(in.attr.Size)
	for b := uint64(0); b<<in.sb.blockBits < size; {
		r, err := in.mapBlock(b)
		if err != nil {
			return 0, err
		}
		if r.kind != written {
			b = r.start + r.n
			continue
		}
		ino, err := in.searchBlock(r, name)
		if ino != 0 || err != nil {
			return ino, err
		}
		b++
	}
	return 0, unix.ENOENT
}

// searchBlock looks for a name in one block: 0 if it is not there.
func (in *inode) searchBlock(r run, name string) (uint32, error) {
	b, err := in.dirBlock(r)
	if err != nil {
		return 0, err
	}
	defer b.Release()
	return in.searchEntries(b.Data(), 0, b.Block, name)
}

func (in *inode) searchEntries(p []byte, at int, block uint64, name string) (uint32, error) {
	_, at, err := disk.FindDirent(p, at, name, in.sb.filetype)
	if err != nil {
		return 0, in.sb.damage(err, "inode #%d: block %d: directory entry at offset %d", in.ino, block, at)
	}
	if at < 0 {
		return 0, nil
	}
	return leU32(p[at:]), nil
}

// maxDxLevels is the deepest hash tree (large_dir).
const maxDxLevels = 3

// findHashed looks a name up in the hash tree. ok is false if the tree cannot be used.
func (in *inode) findHashed(name string) (ino uint32, ok bool, err error) {
	b, err := in.dxBlock(0)
	if err != nil {
		return 0, false, nil
	}
	root, err := disk.DecodeDxRoot(b.Data())
	node, err2 := disk.DecodeDxNode(b.Data(), disk.DxRootEntries, in.sb.csum)
	if err != nil || err2 != nil || root.Levels >= maxDxLevels {
		b.Release()
		return 0, false, nil
	}
	version := root.HashVersion
	if version <= disk.HashTEA {
		version += in.sb.hashDelta
	}
	hash, _, known := disk.DirHash([]byte(name), version, in.sb.s.HashSeed)
	if !known {
		b.Release()
		return 0, false, nil
	}
	// path has the place in each node on the way down, to find the next leaf when a hash goes on there.
	type step struct {
		buf  *bdev.Buffer
		node disk.DxNode
		i    int
	}
	path := make([]step, 0, maxDxLevels)
	release := func() {
		for _, s := range path {
			s.buf.Release()
		}
		path = path[:0]
	}
	defer release()
	path = append(path, step{b, node, node.Find(hash)})
	descend := func() bool { // from the last step's entry to a full path
		for len(path) <= int(root.Levels) {
			s := &path[len(path)-1]
			b, err := in.dxBlock(s.node.Block(s.i))
			if err != nil {
				return false
			}
			n, err := disk.DecodeDxNode(b.Data(), disk.DxNodeEntries, in.sb.csum)
			if err != nil {
				b.Release()
				return false
			}
			path = append(path, step{b, n, n.Find(hash)})
		}
		return true
	}
	if !descend() {
		return 0, false, nil
	}
	for {
		leaf := &path[len(path)-1]
		r, err := in.mapBlock(uint64(leaf.node.Block(leaf.i)))
		if err != nil || r.kind != written {
			return 0, false, nil
		}
		ino, err := in.searchBlock(r, name)
		if err != nil {
			return 0, false, err
		}
		if ino != 0 {
			return ino, true, nil
		}
		// The next leaf continues this hash if the lowest bit of its own says so.
		for len(path) > 0 && path[len(path)-1].i+1 >= path[len(path)-1].node.Count {
			path[len(path)-1].buf.Release()
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return 0, true, unix.ENOENT
		}
		s := &path[len(path)-1]
		s.i++
		if h := s.node.Hash(s.i); h&1 == 0 || h&^1 != hash {
			return 0, true, unix.ENOENT
		}
		if !descend() {
			return 0, false, nil
		}
	}
}

// dxBlock reads a node of the hash tree.
func (in *inode) dxBlock(block uint32) (*bdev.Buffer, error) {
	r, err := in.mapBlock(uint64(block))
	if err != nil {
		return nil, err
	}
	if r.kind != written {
		return nil, errCorrupt
	}
	return in.dirBlock(r)
}
