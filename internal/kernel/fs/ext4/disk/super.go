package disk

import (
	"bytes"
	"encoding/binary"
)

var le = binary.LittleEndian

// Where the superblock is, its size and magic number.
const (
	SuperOffset = 1024
	SuperSize   = 1024
	SuperMagic  = 0xef53
)

// Compatible features.
const (
	CompatDirPrealloc = 1 << iota
	CompatImagicInodes
	CompatHasJournal
	CompatExtAttr
	CompatResizeInode
	CompatDirIndex
	CompatLazyBG
	CompatExcludeInode
	CompatExcludeBitmap
	CompatSparseSuper2
	CompatFastCommit
	CompatStableInodes
	CompatOrphanFile
)

// Incompatible features: an implementation that does not know one must not mount.
const (
	IncompatCompression = 0x1
	IncompatFiletype    = 0x2
	IncompatRecover     = 0x4
	IncompatJournalDev  = 0x8
	IncompatMetaBG      = 0x10
	IncompatExtents     = 0x40
	Incompat64bit       = 0x80
	IncompatMMP         = 0x100
	IncompatFlexBG      = 0x200
	IncompatEAInode     = 0x400
	IncompatDirdata     = 0x1000
	IncompatCsumSeed    = 0x2000
	IncompatLargedir    = 0x4000
	IncompatInlineData  = 0x8000
	IncompatEncrypt     = 0x10000
	IncompatCasefold    = 0x20000
)

// Read-only compatible features: an implementation that does not know one must not write.
const (
	ROSparseSuper   = 0x1
	ROLargeFile     = 0x2
	ROBtreeDir      = 0x4
	ROHugeFile      = 0x8
	ROGdtCsum       = 0x10
	RODirNlink      = 0x20
	ROExtraIsize    = 0x40
	ROHasSnapshot   = 0x80
	ROQuota         = 0x100
	ROBigalloc      = 0x200
	ROMetadataCsum  = 0x400
	ROReplica       = 0x800
	ROReadonly      = 0x1000
	ROProject       = 0x2000
	ROSharedBlocks  = 0x4000
	ROVerity        = 0x8000
	ROOrphanPresent = 0x10000
)

// Super.State and Super.Flags bits; Super.Errors values; default mount options.
const (
	StateValid  = 1
	StateError  = 2
	StateOrphan = 4

	FlagSignedHash   = 1
	FlagUnsignedHash = 2

	ErrorsContinue = 1
	ErrorsRO       = 2
	ErrorsPanic    = 3

	DefmBSDGroups  = 0x2
	DefmXattrUser  = 0x4
	DefmACL        = 0x8
	DefmJMode      = 0x60 // mask
	DefmJModeData  = 0x20
	DefmJModeWback = 0x60
	DefmNoBarrier  = 0x100
	DefmDiscard    = 0x400
)

// Super is the superblock.
type Super struct {
	InodesCount                             uint32
	BlocksCount, ReservedBlocks, FreeBlocks uint64
	FreeInodes                              uint32
	FirstDataBlock                          uint32
	LogBlockSize, LogClusterSize            uint32
	BlocksPerGroup, ClustersPerGroup        uint32
	InodesPerGroup                          uint32
	MountTime, WriteTime                    uint32
	MountCount, MaxMountCount               uint16
	Magic, State, Errors                    uint16
	LastCheck, CheckInterval                uint32
	CreatorOS, RevLevel                     uint32
	DefResUID, DefResGID                    uint16
	FirstInode                              uint32
	InodeSize                               uint16
	Compat, Incompat, ROCompat              uint32
	UUID                                    [16]byte
	VolumeName                              [16]byte
	LastMounted                             [64]byte
	ReservedGDT                             uint16
	JournalUUID                             [16]byte
	JournalInode, JournalDev, LastOrphan    uint32
	HashSeed                                [4]uint32
	DefHashVersion                          uint8
	DescSize                                uint16
	DefaultMountOpts, FirstMetaBG           uint32
	MkfsTime                                uint32
	MinExtraIsize, WantExtraIsize           uint16
	Flags                                   uint32
	LogGroupsPerFlex, ChecksumType          uint8
	ErrorCount                              uint32
	OverheadClusters                        uint32
	BackupBGs                               [2]uint32
	MountOpts                               string // options as mount(8) takes them
	ChecksumSeed                            uint32
	OrphanFileInode                         uint32
	Checksum                                uint32
}

func lohi(b []byte, lo, hi int) uint64 {
	return uint64(le.Uint32(b[lo:])) | uint64(le.Uint32(b[hi:]))<<32
}

// Decode reads the superblock from SuperSize bytes. High halves of 64-bit fields are read only with Incompat64bit.
func (s *Super) Decode(b []byte) {
	_ = b[SuperSize-1]
	u32 := func(o int) uint32 { return le.Uint32(b[o:]) }
	u16 := func(o int) uint16 { return le.Uint16(b[o:]) }
	*s = Super{
		InodesCount: u32(0), FreeInodes: u32(16), FirstDataBlock: u32(20), LogBlockSize: u32(24), LogClusterSize: u32(28),
		BlocksPerGroup: u32(32), ClustersPerGroup: u32(36), InodesPerGroup: u32(40), MountTime: u32(44), WriteTime: u32(48),
		MountCount: u16(52), MaxMountCount: u16(54), Magic: u16(56), State: u16(58), Errors: u16(60),
		LastCheck: u32(64), CheckInterval: u32(68), CreatorOS: u32(72), RevLevel: u32(76), DefResUID: u16(80), DefResGID: u16(82),
		FirstInode: u32(84), InodeSize: u16(88), Compat: u32(92), Incompat: u32(96), ROCompat: u32(100),
		UUID: [16]byte(b[104:]), VolumeName: [16]byte(b[120:]), LastMounted: [64]byte(b[136:]), ReservedGDT: u16(206),
		JournalUUID: [16]byte(b[208:]), JournalInode: u32(224), JournalDev: u32(228), LastOrphan: u32(232),
		HashSeed: [4]uint32{u32(236), u32(240), u32(244), u32(248)}, DefHashVersion: b[252], DescSize: u16(254),
		DefaultMountOpts: u32(256), FirstMetaBG: u32(260), MkfsTime: u32(264), MinExtraIsize: u16(348), WantExtraIsize: u16(350),
		Flags: u32(352), LogGroupsPerFlex: b[372], ChecksumType: b[373], ErrorCount: u32(404), OverheadClusters: u32(584),
		MountOpts: string(b[512:576][:max(bytes.IndexByte(b[512:576], 0), 0)]),
		BackupBGs: [2]uint32{u32(588), u32(592)}, ChecksumSeed: u32(624), OrphanFileInode: u32(640), Checksum: u32(1020),
	}
	if s.RevLevel == 0 {
		s.FirstInode, s.InodeSize = 11, 128
		s.Compat, s.Incompat, s.ROCompat = 0, 0, 0
	}
	s.BlocksCount, s.ReservedBlocks, s.FreeBlocks = uint64(u32(4)), uint64(u32(8)), uint64(u32(12))
	if s.Incompat&Incompat64bit != 0 {
		s.BlocksCount, s.ReservedBlocks, s.FreeBlocks = lohi(b, 4, 336), lohi(b, 8, 340), lohi(b, 12, 344)
	}
}

// Encode writes the fields that a mounted file system changes, and the checksum if there is one.
func (s *Super) Encode(b []byte) {
	_ = b[SuperSize-1]
	le.PutUint32(b[12:], uint32(s.FreeBlocks))
	if s.Incompat&Incompat64bit != 0 {
		le.PutUint32(b[344:], uint32(s.FreeBlocks>>32))
	}
	le.PutUint32(b[16:], s.FreeInodes)
	le.PutUint32(b[44:], s.MountTime)
	le.PutUint32(b[48:], s.WriteTime)
	le.PutUint16(b[52:], s.MountCount)
	le.PutUint16(b[58:], s.State)
	if s.RevLevel > 0 {
		le.PutUint32(b[92:], s.Compat)
		le.PutUint32(b[96:], s.Incompat)
		le.PutUint32(b[100:], s.ROCompat)
	}
	copy(b[120:136], s.VolumeName[:])
	copy(b[136:200], s.LastMounted[:])
	le.PutUint32(b[232:], s.LastOrphan)
	le.PutUint32(b[404:], s.ErrorCount)
	if s.ROCompat&ROMetadataCsum != 0 {
		s.Checksum = SuperChecksum(b)
		le.PutUint32(b[1020:], s.Checksum)
	}
}

// SuperChecksum computes the checksum of a superblock.
func SuperChecksum(b []byte) uint32 { return CRC32C(^uint32(0), b[:1020]) }

// Seed is what metadata checksums start from.
func (s *Super) Seed() uint32 {
	if s.Incompat&IncompatCsumSeed != 0 {
		return s.ChecksumSeed
	}
	return CRC32C(^uint32(0), s.UUID[:])
}

// GroupDesc is a block group descriptor.
type GroupDesc struct {
	BlockBitmap, InodeBitmap, InodeTable uint64
	FreeBlocks, FreeInodes, UsedDirs     uint32
	ItableUnused                         uint32
	Flags                                uint16
	BlockBitmapCsum, InodeBitmapCsum     uint32
	Checksum                             uint16
}

// GroupDesc.Flags bits.
const (
	GroupInodeUninit = 1
	GroupBlockUninit = 2
	GroupInodeZeroed = 4
)

// Decode reads a descriptor of 32 or 64 bytes (or more).
func (g *GroupDesc) Decode(b []byte) {
	_ = b[31]
	u32 := func(o int) uint32 { return le.Uint32(b[o:]) }
	u16 := func(o int) uint32 { return uint32(le.Uint16(b[o:])) }
	*g = GroupDesc{
		BlockBitmap: uint64(u32(0)), InodeBitmap: uint64(u32(4)), InodeTable: uint64(u32(8)),
		FreeBlocks: u16(12), FreeInodes: u16(14), UsedDirs: u16(16), Flags: uint16(u16(18)),
		BlockBitmapCsum: u16(24), InodeBitmapCsum: u16(26), ItableUnused: u16(28), Checksum: uint16(u16(30)),
	}
	if len(b) >= 64 {
		g.BlockBitmap |= uint64(u32(32)) << 32
		g.InodeBitmap |= uint64(u32(36)) << 32
		g.InodeTable |= uint64(u32(40)) << 32
		g.FreeBlocks |= u16(44) << 16
		g.FreeInodes |= u16(46) << 16
		g.UsedDirs |= u16(48) << 16
		g.ItableUnused |= u16(50) << 16
		g.BlockBitmapCsum |= u16(56) << 16
		g.InodeBitmapCsum |= u16(58) << 16
	}
}

// Encode writes a descriptor. The caller sets the checksum after it (GroupChecksum).
func (g *GroupDesc) Encode(b []byte) {
	_ = b[31]
	le.PutUint32(b[0:], uint32(g.BlockBitmap))
	le.PutUint32(b[4:], uint32(g.InodeBitmap))
	le.PutUint32(b[8:], uint32(g.InodeTable))
	le.PutUint16(b[12:], uint16(g.FreeBlocks))
	le.PutUint16(b[14:], uint16(g.FreeInodes))
	le.PutUint16(b[16:], uint16(g.UsedDirs))
	le.PutUint16(b[18:], g.Flags)
	le.PutUint16(b[24:], uint16(g.BlockBitmapCsum))
	le.PutUint16(b[26:], uint16(g.InodeBitmapCsum))
	le.PutUint16(b[28:], uint16(g.ItableUnused))
	le.PutUint16(b[30:], g.Checksum)
	if len(b) >= 64 {
		le.PutUint32(b[32:], uint32(g.BlockBitmap>>32))
		le.PutUint32(b[36:], uint32(g.InodeBitmap>>32))
		le.PutUint32(b[40:], uint32(g.InodeTable>>32))
		le.PutUint16(b[44:], uint16(g.FreeBlocks>>16))
		le.PutUint16(b[46:], uint16(g.FreeInodes>>16))
		le.PutUint16(b[48:], uint16(g.UsedDirs>>16))
		le.PutUint16(b[50:], uint16(g.ItableUnused>>16))
		le.PutUint16(b[56:], uint16(g.BlockBitmapCsum>>16))
		le.PutUint16(b[58:], uint16(g.InodeBitmapCsum>>16))
	}
}

// GroupChecksums reports whether the descriptors of groups have checksums.
func (s *Super) GroupChecksums() bool { return s.ROCompat&(ROMetadataCsum|ROGdtCsum) != 0 }

// GroupChecksum computes the checksum of the descriptor b of a group; ok is false if the file system has none.
func (s *Super) GroupChecksum(group uint32, b []byte) (sum uint16, ok bool) {
	const field = 30
	switch {
	case s.ROCompat&ROMetadataCsum != 0:
		return uint16(crcZeroed(CRC32CU32(s.Seed(), group), b, field, 2)), true
	case s.ROCompat&ROGdtCsum != 0:
		var g [4]byte
		le.PutUint32(g[:], group)
		c := CRC16(CRC16(CRC16(0xffff, s.UUID[:]), g[:]), b[:field])
		if len(b) > 32 && s.Incompat&Incompat64bit != 0 {
			c = CRC16(c, b[32:])
		}
		return c, true
	}
	return 0, false
}

// FeatureNames names the bits of a feature word, as e2fsprogs does; unknown ones are given as FEATURE_I17.
func FeatureNames(names map[uint32]string, class byte, bits uint32) (out []string) {
	for i := range 32 {
		if bit := uint32(1) << i; bits&bit != 0 {
			if n := names[bit]; n != "" {
				out = append(out, n)
			} else {
				out = append(out, "FEATURE_"+string(class)+string(rune('0'+i/10))+string(rune('0'+i%10)))
			}
		}
	}
	return out
}

// IncompatNames and ROCompatNames are for FeatureNames.
var (
	IncompatNames = map[uint32]string{
		IncompatCompression: "compression", IncompatFiletype: "filetype", IncompatRecover: "needs_recovery",
		IncompatJournalDev: "journal_dev", IncompatMetaBG: "meta_bg", IncompatExtents: "extent", Incompat64bit: "64bit",
		IncompatMMP: "mmp", IncompatFlexBG: "flex_bg", IncompatEAInode: "ea_inode", IncompatDirdata: "dirdata",
		IncompatCsumSeed: "metadata_csum_seed", IncompatLargedir: "large_dir", IncompatInlineData: "inline_data",
		IncompatEncrypt: "encrypt", IncompatCasefold: "casefold",
	}
	ROCompatNames = map[uint32]string{
		ROSparseSuper: "sparse_super", ROLargeFile: "large_file", ROBtreeDir: "btree_dir", ROHugeFile: "huge_file",
		ROGdtCsum: "uninit_bg", RODirNlink: "dir_nlink", ROExtraIsize: "extra_isize", ROHasSnapshot: "snapshot",
		ROQuota: "quota", ROBigalloc: "bigalloc", ROMetadataCsum: "metadata_csum", ROReplica: "replica",
		ROReadonly: "read-only", ROProject: "project", ROSharedBlocks: "shared_blocks", ROVerity: "verity",
		ROOrphanPresent: "orphan_present",
	}
)
