package ext4

import (
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// inode is a file. It implements vfs.Inode for every type of file and vfs.Mapping.
type inode struct {
	sb   *superBlock
	ino  uint32
	seed uint32 // of its blocks' checksums; immutable, as are the two above

	// io is held by what changes the content of a regular file: one at a time.
	io sync.Mutex

	// mu guards what follows and the content of directories and block maps. Changes also hold the writer's mu, unless they
	// are of the content of blocks that are there.
	mu        sync.RWMutex
	raw       disk.Inode
	room      []byte // the inode as stored, for attributes inside it; nil if there are none
	hadRoom   bool   // room is nil, but there are attributes in the table
	fresh     bool   // never stored
	gone      bool   // freed
	must      bool   // to be written with the running transaction; guarded by the writer's mu
	tailClean bool   // the last block is zero after the end of the file
	lastPhys  uint64 // block that was allocated last
	dirHint   uint64 // the blocks of a directory before this one are full
	busy      []run  // freed blocks that are mapped from the image; guarded by the writer's mu

	// attrMu guards attr. What is no time is changed only with mu, too.
	attrMu sync.RWMutex
	attr   vfs.Attr
	quick  atomic.Uint64 // what QuickPerm tells

	lastRun atomic.Pointer[run] // the run that was found last
	tailAt  atomic.Int64        // the size at which the rest of the last page was found zero in the image
	noIndex atomic.Bool         // the hash tree was found unusable: search linearly
	dead    atomic.Bool         // freed, and stored for the last time
	dax     atomic.Bool         // mappings of it may have blocks of the image
	writers atomic.Int32        // open files that can be written through
	seq     atomic.Uint64       // the transaction that changed it last
	lazy    atomic.Bool         // its times have changed after that

	memMu sync.Mutex
	// +checklocks:memMu
	mem platform.Memfile
	// +checklocks:memMu
	filled map[uint64]struct{} // chunks of mem that hold the file's content
	// +checklocks:memMu
	mapped int
	// memDirty: there is a shared writable mapping, so that mem is newer than the device. Changed with memMu.
	memDirty atomic.Bool
	// lost is the error with which pages of the last mapping could not be written back: the next fsync returns it.
	lost atomic.Pointer[unix.Errno]
}

// iget returns the inode with a number. special allows the reserved ones.
func (sb *superBlock) iget(ino uint32, special bool) (*inode, error) {
	return sb.igetLinks(ino, special, false)
}

// igetLinks is iget; with orphan the inode may be one without links.
func (sb *superBlock) igetLinks(ino uint32, special, orphan bool) (*inode, error) {
	if ino == 0 || ino > sb.s.InodesCount || ino < sb.s.FirstInode && ino != disk.RootInode && !special {
		return nil, sb.errorf(errCorrupt, "inode #%d: bad inode number", ino)
	}
	if in := sb.inodes.get(ino); in != nil {
		return in, nil
	}
	in, err := sb.load(ino, orphan)
	if err != nil {
		return nil, err
	}
	return sb.inodes.add(in), nil
}

// inodeTable finds the inodes in use by number. It holds them weakly, and refers to nothing else, so that neither an inode
// nor a file system lives on because of it.
type inodeTable struct {
	mu sync.Mutex
	// +checklocks:mu
	m map[uint32]weak.Pointer[inode]
	// +checklocks:mu
	sweepAt int // so many entries are worth a look for dead ones
}

func (t *inodeTable) get(ino uint32) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[ino].Value()
}

// add enters an inode, unless another goroutine was faster: then that one is returned.
func (t *inodeTable) add(in *inode) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.m[in.ino].Value(); old != nil {
		return old
	}
	if t.m == nil {
		t.m = map[uint32]weak.Pointer[inode]{}
	}
	if len(t.m) >= t.sweepAt {
		t.sweep()
	}
	t.m[in.ino] = weak.Make(in)
	return in
}

// enter enters a new inode. It reports false if its number is somebody's.
func (t *inodeTable) enter(in *inode) bool { return t.add(in) == in }

// remove takes out an inode that is freed.
func (t *inodeTable) remove(in *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[in.ino].Value() == in {
		delete(t.m, in.ino)
	}
}

// sweep drops the entries of inodes that the garbage collector has taken, and says when to look again. The caller holds t.mu.
func (t *inodeTable) sweep() {
	for ino, w := range t.m {
		if w.Value() == nil {
			delete(t.m, ino)
		}
	}
	t.sweepAt = max(2*len(t.m), 1024)
}

// load reads an inode from its table.
func (sb *superBlock) load(ino uint32, orphan bool) (*inode, error) {
	group, index := (ino-1)/sb.s.InodesPerGroup, (ino-1)%sb.s.InodesPerGroup
	off := uint64(index) * uint64(sb.inodeSize)
	block := sb.tables[group] + off>>sb.blockBits
	tableEnd := sb.tables[group] + (uint64(sb.s.InodesPerGroup)*uint64(sb.inodeSize)+uint64(sb.blockSize)-1)>>sb.blockBits
	b, err := sb.cache.GetAhead(block, int(min(8, tableEnd-block)))
	if err != nil {
		return nil, sb.errorf(unix.EIO, "inode #%d: block %d: unable to read itable block", ino, block)
	}
	defer b.Release()
	at := int(off) & (sb.blockSize - 1)
	in := &inode{sb: sb, ino: ino}
	d := &in.raw
	sb.w.itable.RLock()
	valid := in.decode(b.Data()[at : at+sb.inodeSize])
	sb.w.itable.RUnlock()
	if !valid {
		return nil, sb.errorf(errBadCRC, "inode #%d: block %d: iget: checksum invalid", ino, block)
	}
	if sb.inodeSize > disk.BaseInodeSize && (disk.BaseInodeSize+int(d.ExtraIsize) > sb.inodeSize || d.ExtraIsize%4 != 0) {
		return nil, sb.errorf(errCorrupt, "inode #%d: block %d: iget: bad extra_isize %d (inode size %d)", ino, block, d.ExtraIsize, sb.inodeSize)
	}
	if d.Links == 0 && !orphan || d.Mode == 0 {
		return nil, unix.ESTALE
	}
	in.seed = disk.InodeSeed(sb.seed, ino, d.Generation)
	if err := in.setAttr(); err != nil {
		return nil, err
	}
	in.publish()
	return in, nil
}

// decode takes an inode over from its place in the table. It reports whether the checksum is right.
func (in *inode) decode(raw []byte) bool {
	sb, d := in.sb, &in.raw
	d.Decode(raw)
	if sb.csum {
		sum, wide := disk.InodeChecksum(sb.seed, in.ino, raw)
		stored := d.Checksum
		if !wide {
			stored &= 0xffff
		}
		if sum != stored {
			return false
		}
	}
	if e := disk.BaseInodeSize + int(d.ExtraIsize); len(raw) > disk.BaseInodeSize && e+8 <= len(raw) && leU32(raw[e:]) == disk.XattrMagic {
		in.room = slices.Clone(raw)
	}
	return true
}

func leU32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func timespec(t disk.Time) unix.Timespec {
	if t.Nsec >= 1e9 {
		t.Nsec = 0
	}
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// setAttr computes what stat tells and checks what can be checked of it.
func (in *inode) setAttr() error {
	sb, d := in.sb, &in.raw
	a := &in.attr
	*a = vfs.Attr{
		Ino: uint64(in.ino), Mode: uint32(d.Mode), Nlink: uint32(d.Links), UID: d.UID, GID: d.GID, Blksize: int64(sb.blockSize),
		Atime: timespec(d.Atime), Mtime: timespec(d.Mtime), Ctime: timespec(d.Ctime), Btime: timespec(d.Crtime),
	}
	size := d.Size
	switch typ := a.Mode & unix.S_IFMT; typ {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		if sb.s.Incompat&disk.IncompatLargedir == 0 {
			size &= 1<<32 - 1 // the upper half was the ACL of directories
		}
		if size > 1<<40 {
			return sb.errorf(errCorrupt, "inode #%d: iget: bad i_size for directory: %d", in.ino, size)
		}
	case unix.S_IFLNK:
		size &= 1<<32 - 1
		if size == 0 || size > uint64(sb.blockSize) || size > unix.PathMax {
			return sb.errorf(errCorrupt, "inode #%d: iget: bad symlink size %d", in.ino, size)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Rdev = unix.Mkdev(d.DecodeRdev())
		size = 0
	case unix.S_IFIFO, unix.S_IFSOCK:
		size = 0
	default:
		return sb.errorf(errCorrupt, "inode #%d: iget: bogus i_mode (%o)", in.ino, d.Mode)
	}
	if size > 1<<63-1 || size>>sb.blockBits >= 1<<32 {
		return sb.errorf(errCorrupt, "inode #%d: iget: bad i_size value: %d", in.ino, size)
	}
	a.Size = int64(size)
	blocks := d.Blocks
	if sb.s.ROCompat&disk.ROHugeFile == 0 {
		blocks &= 1<<32 - 1
	} else if d.Flags&disk.InodeHugeFile != 0 {
		blocks <<= sb.blockBits - 9
	}
	a.Blocks = int64(blocks)
	for _, f := range [...]struct {
		flag uint32
		attr uint64
	}{
		{disk.InodeAppend, unix.STATX_ATTR_APPEND}, {disk.InodeCompressed, unix.STATX_ATTR_COMPRESSED},
		{disk.InodeEncrypt, unix.STATX_ATTR_ENCRYPTED}, {disk.InodeImmutable, unix.STATX_ATTR_IMMUTABLE},
		{disk.InodeNodump, unix.STATX_ATTR_NODUMP}, {disk.InodeVerity, unix.STATX_ATTR_VERITY},
	} {
		if d.Flags&f.flag != 0 {
			a.Flags |= f.attr
		}
	}
	if d.Flags&disk.InodeInlineData != 0 && sb.s.Incompat&disk.IncompatInlineData == 0 {
		return sb.errorf(errCorrupt, "inode #%d: iget: unexpected inline data flag", in.ino)
	}
	if in.inline() && in.raw.Flags&disk.InodeExtents != 0 {
		return sb.errorf(errCorrupt, "inode #%d: iget: both inline data and extents", in.ino)
	}
	return nil
}

// inline reports that the content is in the inode itself.
func (in *inode) inline() bool { return in.raw.Flags&disk.InodeInlineData != 0 }

// Super, Attr and Forget are vfs.Inode's.
func (in *inode) Super() vfs.SuperBlock { return in.sb }
func (in *inode) Attr() vfs.Attr {
	in.attrMu.RLock()
	a := in.attr
	in.attrMu.RUnlock()
	return a
}

// quickACL says in inode.quick that there may be an ACL.
const quickACL = 1 << 31

// publish tells QuickPerm of a change. The caller holds in.mu.
func (in *inode) publish() {
	q := uint64(in.attr.UID)<<32 | uint64(in.attr.Mode&0xffff)
	if in.room != nil || in.raw.FileACL != 0 {
		q |= quickACL
	}
	in.quick.Store(q)
}

// QuickPerm implements vfs.QuickPermer.
func (in *inode) QuickPerm() (mode, uid uint32, acl bool) {
	q := in.quick.Load()
	return uint32(q & 0xffff), uint32(q >> 32), q&quickACL != 0
}

// Readlink returns the target of a symbolic link.
func (in *inode) Readlink(vfs.Caller) (string, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if !in.attr.IsSymlink() {
		return "", unix.EINVAL
	}
	if in.raw.Flags&disk.InodeEncrypt != 0 {
		return "", unix.EOPNOTSUPP
	}
	n := int(in.attr.Size)
	var p []byte
	switch {
	case in.inline():
		b, err := in.inlineData()
		if err != nil {
			return "", err
		}
		p = b
	case in.fastSymlink():
		if n >= disk.BlockBytes {
			return "", in.sb.errorf(errCorrupt, "inode #%d: bad symlink size %d", in.ino, n)
		}
		p = in.raw.Block[:n]
	default:
		r, err := in.mapBlock(0)
		if err != nil {
			return "", err
		}
		if r.kind != written {
			return "", in.sb.errorf(errCorrupt, "inode #%d: bad symlink", in.ino)
		}
		b, err := in.sb.block(r.phys)
		if err != nil {
			return "", err
		}
		defer b.Release()
		p = b.Data()[:n]
	}
	if len(p) < n {
		return "", in.sb.errorf(errCorrupt, "inode #%d: bad symlink size %d", in.ino, n)
	}
	for i, c := range p[:n] {
		if c == 0 {
			p, n = p[:i], i
			break
		}
	}
	if n == 0 {
		return "", errCorrupt
	}
	return string(p[:n]), nil
}

// fastSymlink reports that the target is in the block array.
func (in *inode) fastSymlink() bool {
	acl := uint64(0)
	if in.raw.FileACL != 0 {
		acl = uint64(in.sb.blockSize) << in.sb.clusterLog >> 9
	}
	if in.sb.s.Incompat&disk.IncompatEAInode != 0 { // values of attributes count as blocks, too
		return in.attr.Size < disk.BlockBytes
	}
	return uint64(in.attr.Blocks) == acl
}

// Open makes the operations of an open file.
func (in *inode) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	a := in.Attr()
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if a.Flags&(unix.STATX_ATTR_ENCRYPTED|unix.STATX_ATTR_VERITY|unix.STATX_ATTR_COMPRESSED) != 0 {
			return nil, unix.EOPNOTSUPP
		}
		if f != nil && f.Writable() {
			in.writers.Add(1)
		}
		return &file{in: in}, nil
	case unix.S_IFDIR:
		return &dir{in: in}, nil
	case unix.S_IFLNK:
		return nil, unix.ELOOP
	}
	return vfs.OpenSpecial(c, f, a.Mode, a.Rdev)
}
