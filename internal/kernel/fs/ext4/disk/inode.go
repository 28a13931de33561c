package disk

import "errors"

// ErrCorrupt says that a structure does not fit where it is. ErrChecksum says that its checksum is wrong.
var (
	ErrCorrupt  = errors.New("ext4: corrupt structure")
	ErrChecksum = errors.New("ext4: bad checksum")
)

// Inode numbers with a meaning.
const (
	RootInode    = 2
	ResizeInode  = 7
	JournalInode = 8
)

// Inode.Flags bits.
const (
	InodeSecrm       = 0x1
	InodeSync        = 0x8
	InodeImmutable   = 0x10
	InodeAppend      = 0x20
	InodeNodump      = 0x40
	InodeNoatime     = 0x80
	InodeCompressed  = 0x200
	InodeEncrypt     = 0x800
	InodeIndex       = 0x1000
	InodeJournalData = 0x4000
	InodeDirsync     = 0x10000
	InodeHugeFile    = 0x40000
	InodeExtents     = 0x80000
	InodeVerity      = 0x100000
	InodeEAInode     = 0x200000
	InodeDAX         = 0x2000000
	InodeInlineData  = 0x10000000
	InodeProjinherit = 0x20000000
	InodeCasefold    = 0x40000000
)

// BaseInodeSize is the size of an inode without extra fields. BlockBytes is the size of Inode.Block.
const (
	BaseInodeSize = 128
	BlockBytes    = 60
)

// Time is a time stamp with nanoseconds.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Inode is an inode without its extended attributes.
type Inode struct {
	Mode                        uint16
	UID, GID                    uint32
	Size                        uint64 // both halves
	Atime, Ctime, Mtime, Crtime Time
	Dtime                       uint32
	Links                       uint16
	Blocks                      uint64 // both halves, unit depends on flags
	Flags                       uint32
	Version                     uint64
	Block                       [BlockBytes]byte
	Generation                  uint32
	FileACL                     uint64
	ExtraIsize                  uint16
	Projid                      uint32
	Checksum                    uint32
}

func decodeTime(sec, extra uint32) Time {
	return Time{int64(int32(sec)) + int64(extra&3)<<32, extra >> 2}
}

func encodeTime(t Time) (sec, extra uint32) {
	sec = uint32(t.Sec)
	return sec, uint32((t.Sec-int64(int32(sec)))>>32)&3 | t.Nsec<<2
}

// Decode reads an inode of len(b) bytes (128 or more). An ExtraIsize that does not fit is kept for the caller to refuse, and
// the extra fields are then not read.
func (in *Inode) Decode(b []byte) {
	_ = b[BaseInodeSize-1]
	u32 := func(o int) uint32 { return le.Uint32(b[o:]) }
	u16 := func(o int) uint16 { return le.Uint16(b[o:]) }
	*in = Inode{
		Mode: u16(0), UID: uint32(u16(2)) | uint32(u16(120))<<16, GID: uint32(u16(24)) | uint32(u16(122))<<16,
		Size: uint64(u32(4)) | uint64(u32(108))<<32, Dtime: u32(20), Links: u16(26),
		Blocks: uint64(u32(28)) | uint64(u16(116))<<32, Flags: u32(32), Version: uint64(u32(36)),
		Block: [BlockBytes]byte(b[40:]), Generation: u32(100), FileACL: uint64(u32(104)) | uint64(u16(118))<<32,
		Checksum: uint32(u16(124)),
	}
	var extra [4]uint32 // ctime, mtime, atime, crtime
	crtime, hasCrtime := uint32(0), false
	if len(b) > BaseInodeSize+4 {
		in.ExtraIsize = u16(128)
		end := BaseInodeSize + int(in.ExtraIsize)
		if end <= len(b) {
			has := func(off, n int) bool { return off+n <= end }
			if has(130, 2) {
				in.Checksum |= uint32(u16(130)) << 16
			}
			for i, off := range [3]int{132, 136, 140} {
				if has(off, 4) {
					extra[i] = u32(off)
				}
			}
			if has(144, 4) {
				crtime, hasCrtime = u32(144), true
			}
			if has(148, 4) {
				extra[3] = u32(148)
			}
			if has(152, 4) {
				in.Version |= uint64(u32(152)) << 32
			}
			if has(156, 4) {
				in.Projid = u32(156)
			}
		}
	}
	in.Ctime, in.Mtime, in.Atime = decodeTime(u32(12), extra[0]), decodeTime(u32(16), extra[1]), decodeTime(u32(8), extra[2])
	if hasCrtime {
		in.Crtime = decodeTime(crtime, extra[3])
	}
}

// Encode writes an inode. ExtraIsize says which extra fields there are. The caller sets the checksum after it.
func (in *Inode) Encode(b []byte) {
	_ = b[BaseInodeSize-1]
	p32 := func(o int, v uint32) { le.PutUint32(b[o:], v) }
	p16 := func(o int, v uint16) { le.PutUint16(b[o:], v) }
	p16(0, in.Mode)
	p16(2, uint16(in.UID))
	p32(4, uint32(in.Size))
	var extra [4]uint32
	var sec [4]uint32
	for i, t := range [4]Time{in.Ctime, in.Mtime, in.Atime, in.Crtime} {
		sec[i], extra[i] = encodeTime(t)
	}
	p32(8, sec[2])
	p32(12, sec[0])
	p32(16, sec[1])
	p32(20, in.Dtime)
	p16(24, uint16(in.GID))
	p16(26, in.Links)
	p32(28, uint32(in.Blocks))
	p32(32, in.Flags)
	p32(36, uint32(in.Version))
	copy(b[40:100], in.Block[:])
	p32(100, in.Generation)
	p32(104, uint32(in.FileACL))
	p32(108, uint32(in.Size>>32))
	p16(116, uint16(in.Blocks>>32))
	p16(118, uint16(in.FileACL>>32))
	p16(120, uint16(in.UID>>16))
	p16(122, uint16(in.GID>>16))
	p16(124, uint16(in.Checksum))
	if len(b) <= BaseInodeSize+4 {
		return
	}
	p16(128, in.ExtraIsize)
	end := min(BaseInodeSize+int(in.ExtraIsize), len(b))
	put := func(off int, v uint32) {
		if off+4 <= end {
			p32(off, v)
		}
	}
	if 132 <= end {
		p16(130, uint16(in.Checksum>>16))
	}
	put(132, extra[0])
	put(136, extra[1])
	put(140, extra[2])
	put(144, sec[3])
	put(148, extra[3])
	put(152, uint32(in.Version>>32))
	put(156, in.Projid)
}

// InodeSeed is what the checksums of an inode's blocks start from.
func InodeSeed(seed, ino, generation uint32) uint32 {
	return CRC32CU32(CRC32CU32(seed, ino), generation)
}

// InodeChecksum computes the checksum of the inode in b; wide says whether all 32 bits are stored.
func InodeChecksum(seed, ino uint32, b []byte) (sum uint32, wide bool) {
	c := InodeSeed(seed, ino, le.Uint32(b[100:]))
	c = CRC32C(c, b[:124])
	c = CRC32C(c, zeroes[:2])
	c = CRC32C(c, b[126:BaseInodeSize])
	if len(b) > BaseInodeSize {
		c = CRC32C(c, b[128:130])
		if le.Uint16(b[128:]) >= 4 {
			wide = true
			c = CRC32C(c, zeroes[:2])
		} else {
			c = CRC32C(c, b[130:132])
		}
		c = CRC32C(c, b[132:])
	}
	if !wide {
		c &= 0xffff
	}
	return c, wide
}

// Extent tree layout.
const (
	ExtentMagic      = 0xf30a
	ExtentHeaderSize = 12
	ExtentSize       = 12
	MaxExtentDepth   = 5
	// MaxExtentLen is the length of the longest written extent; stored lengths above it are unwritten ones.
	MaxExtentLen = 1 << 15
)

// ExtentHeader begins every node of an extent tree.
type ExtentHeader struct {
	Magic, Entries, Max, Depth uint16
	Generation                 uint32
}

// Decode reads a header.
func (h *ExtentHeader) Decode(b []byte) {
	*h = ExtentHeader{le.Uint16(b), le.Uint16(b[2:]), le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint32(b[8:])}
}

// Encode writes a header.
func (h *ExtentHeader) Encode(b []byte) {
	le.PutUint16(b, h.Magic)
	le.PutUint16(b[2:], h.Entries)
	le.PutUint16(b[4:], h.Max)
	le.PutUint16(b[6:], h.Depth)
	le.PutUint32(b[8:], h.Generation)
}

// Extent is an entry of a leaf.
type Extent struct {
	Block     uint32 // first logical block
	Len       uint32
	Unwritten bool
	Start     uint64 // first physical block
}

// Decode reads an extent.
func (e *Extent) Decode(b []byte) {
	n := uint32(le.Uint16(b[4:]))
	*e = Extent{Block: le.Uint32(b), Len: n, Start: uint64(le.Uint16(b[6:]))<<32 | uint64(le.Uint32(b[8:]))}
	if n > MaxExtentLen {
		e.Len, e.Unwritten = n-MaxExtentLen, true
	}
}

// Encode writes an extent.
func (e *Extent) Encode(b []byte) {
	le.PutUint32(b, e.Block)
	n := uint16(e.Len)
	if e.Unwritten {
		n += MaxExtentLen
	}
	le.PutUint16(b[4:], n)
	le.PutUint16(b[6:], uint16(e.Start>>32))
	le.PutUint32(b[8:], uint32(e.Start))
}

// ExtentIndex is an entry of an inner node.
type ExtentIndex struct {
	Block uint32
	Leaf  uint64
}

// Decode reads an index entry.
func (e *ExtentIndex) Decode(b []byte) {
	*e = ExtentIndex{le.Uint32(b), uint64(le.Uint16(b[8:]))<<32 | uint64(le.Uint32(b[4:]))}
}

// Encode writes an index entry.
func (e *ExtentIndex) Encode(b []byte) {
	le.PutUint32(b, e.Block)
	le.PutUint32(b[4:], uint32(e.Leaf))
	le.PutUint16(b[8:], uint16(e.Leaf>>32))
}

// CheckExtentNode checks the header of a node in b against its size and the depth it must have.
func CheckExtentNode(b []byte, depth int) (h ExtentHeader, err error) {
	if len(b) < ExtentHeaderSize {
		return h, ErrCorrupt
	}
	h.Decode(b)
	if h.Magic != ExtentMagic || h.Entries > h.Max || int(h.Depth) != depth ||
		ExtentHeaderSize+int(h.Max)*ExtentSize > len(b) || h.Max == 0 || depth > 0 && h.Entries == 0 {
		return h, ErrCorrupt
	}
	return h, nil
}

// ExtentBlockChecksum returns the computed and the stored checksum of a node in a block of its own, whose header is h. A
// node that leaves no room for the checksum has none: ok is false.
func ExtentBlockChecksum(inodeSeed uint32, b []byte, h *ExtentHeader) (sum, stored uint32, ok bool) {
	tail := ExtentHeaderSize + int(h.Max)*ExtentSize
	if tail+4 > len(b) {
		return 0, 0, false
	}
	return CRC32C(inodeSeed, b[:tail]), le.Uint32(b[tail:]), true
}

// DecodeRdev reads the device number of a device node: major and minor.
func (in *Inode) DecodeRdev() (major, minor uint32) {
	if v := le.Uint32(in.Block[0:]); v != 0 {
		return v >> 8 & 0xff, v & 0xff
	}
	v := le.Uint32(in.Block[4:])
	return v >> 8 & 0xfff, v&0xff | v>>12&0xfff00
}

// EncodeRdev stores a device number.
func (in *Inode) EncodeRdev(major, minor uint32) {
	clear(in.Block[:])
	if major < 256 && minor < 256 {
		le.PutUint32(in.Block[0:], major<<8|minor)
	} else {
		le.PutUint32(in.Block[4:], minor&0xff|major<<8|minor&^0xff<<12)
	}
}
