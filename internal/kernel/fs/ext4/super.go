package ext4

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// superBlock is a mounted file system. Everything is immutable once it is mounted, apart from what says otherwise and the
// fields of s that a written file system changes, which the writer's mu guards.
type superBlock struct {
	fstype *vfs.FilesystemType
	node   *bdev.Node // nil in tests that mount a bare device
	dev    bdev.Device
	view   bdev.Viewer // nil if dev is none
	mapper bdev.Mapper // nil if dev is none
	storer bdev.Storer // nil if dev is none
	cache  *bdev.Cache
	opts   atomic.Pointer[options]

	s          disk.Super
	seed       uint32
	csum       bool // metadata_csum
	filetype   bool
	blockSize  int
	blockBits  uint
	clusterLog uint
	inodeSize  int
	descSize   int
	perBlock   uint32 // descriptors per block
	groups     uint32
	tables     []uint64 // first block of each group's inode table
	zones      []zone   // blocks of the file system itself, in order; immutable after the mount
	hashDelta  uint8    // added to hash versions of images with unsigned characters
	overhead   uint64   // blocks
	freeBlocks uint64   // sum over the groups: the superblock's own number is only brought up to date by a clean unmount
	freeInodes uint64
	root       *inode
	inodes     *inodeTable

	wasValid uint16 // disk.StateValid if the file system was clean when it became writable

	ro      atomic.Bool // nothing can be written
	aborted atomic.Bool // because of an error
	damaged atomic.Bool // something was found wrong since the mount
	w       *writer
	mayNot  string // why it cannot be written, "" if it can; immutable
}

// block reads a metadata block.
func (sb *superBlock) block(n uint64) (*bdev.Buffer, error) { return sb.cache.Get(n) }

// Root, Type and Dev are vfs.SuperBlock's.
func (sb *superBlock) Root() vfs.Inode           { return sb.root }
func (sb *superBlock) Type() *vfs.FilesystemType { return sb.fstype }

// Dev is the device number of the block device.
func (sb *superBlock) Dev() uint64 {
	if sb.node == nil {
		return 0
	}
	return sb.node.Rdev()
}

// SupportsACL tells the vfs that inodes may have POSIX ACLs.
func (sb *superBlock) SupportsACL() bool { return !sb.opts.Load().noACL }

// ReadOnly reports that nothing can be written, whatever the mount asked for.
func (sb *superBlock) ReadOnly() bool { return sb.ro.Load() }

// Statfs is statfs(2).
func (sb *superBlock) Statfs() unix.Statfs_t {
	s := &sb.s
	freeBlocks, freeInodes, flags := sb.freeBlocks, sb.freeInodes, int64(unix.ST_RDONLY)
	if w := sb.w; w.ready.Load() {
		w.mu.Lock()
		freeBlocks, freeInodes = w.freeBlocks+w.heldBlocks, w.freeInodes
		w.mu.Unlock()
	}
	if !sb.ro.Load() {
		flags = 0
	}
	free := min(freeBlocks, s.BlocksCount)
	reserved := min(s.ReservedBlocks, s.BlocksCount)
	st := unix.Statfs_t{
		Type: disk.SuperMagic, Bsize: int64(sb.blockSize), Frsize: int64(sb.blockSize), Blocks: s.BlocksCount, Bfree: free,
		Files: uint64(s.InodesCount), Ffree: min(freeInodes, uint64(s.InodesCount)), Namelen: disk.MaxName,
		Flags: flags,
	}
	if !sb.opts.Load().minixdf {
		st.Blocks -= min(sb.overhead, s.BlocksCount)
	}
	if free > reserved {
		st.Bavail = free - reserved
	}
	le32 := func(b []byte) int32 {
		return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
	}
	u := s.UUID[:]
	st.Fsid = unix.Fsid{Val: [2]int32{le32(u) ^ le32(u[8:]), le32(u[4:]) ^ le32(u[12:])}}
	return st
}

// flush makes what was written durable, unless the mount option nobarrier says that nobody needs that.
func (sb *superBlock) flush() error {
	if sb.opts.Load().noBarrier {
		return nil
	}
	return sb.dev.Flush()
}

// Options is the options column of /proc/mounts.
func (sb *superBlock) Options() string { return sb.opts.Load().String() }

func uuidString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// hasSuper reports whether a group holds a copy of the superblock and descriptors.
func (sb *superBlock) hasSuper(group uint32) bool {
	s := &sb.s
	if s.Compat&disk.CompatSparseSuper2 != 0 {
		return group == 0 || group == s.BackupBGs[0] || group == s.BackupBGs[1]
	}
	if group <= 1 || s.ROCompat&disk.ROSparseSuper == 0 {
		return true
	}
	for _, base := range [3]uint64{3, 5, 7} {
		n := base
		for n < uint64(group) {
			n *= base
		}
		if n == uint64(group) {
			return true
		}
	}
	return false
}

// groupFirst is the first block of a group.
func (sb *superBlock) groupFirst(group uint32) uint64 {
	return uint64(group)*uint64(sb.s.BlocksPerGroup) + uint64(sb.s.FirstDataBlock)
}

// descBlock is where the nr-th block of descriptors is.
func (sb *superBlock) descBlock(nr uint32) uint64 {
	if sb.s.Incompat&disk.IncompatMetaBG == 0 || nr < sb.s.FirstMetaBG {
		// After the superblock: with bigalloc the first data block is 0 even if that is in block 1.
		return disk.SuperOffset/uint64(sb.blockSize) + 1 + uint64(nr)
	}
	group := nr * sb.perBlock
	at := sb.groupFirst(group)
	if sb.hasSuper(group) {
		at++
	}
	return at
}

// readGroups reads and checks all group descriptors.
func (sb *superBlock) readGroups() error {
	sb.tables = nil // grows with what is found valid: the number of groups is not to be trusted yet
	sb.zones = nil
	sb.freeBlocks, sb.freeInodes = 0, 0
	var g disk.GroupDesc
	for i := uint32(0); i < sb.groups; {
		nr := i / sb.perBlock
		b, err := sb.block(sb.descBlock(nr))
		if err != nil {
			klog.Errf("EXT4-fs (%s): can't read group descriptor %d", sb.dev.Name(), nr)
			return unix.EINVAL
		}
		for end := min(sb.groups, (nr+1)*sb.perBlock); i < end; i++ {
			at := int(i%sb.perBlock) * sb.descSize
			raw := b.Data()[at : at+sb.descSize]
			g.Decode(raw)
			if sum, ok := sb.s.GroupChecksum(i, raw); ok && sum != g.Checksum {
				klog.Errf("EXT4-fs (%s): ext4_check_descriptors: Checksum for group %d failed (%d!=%d)", sb.dev.Name(), i, sum, g.Checksum)
				b.Release()
				return errBadCRC
			}
			if !sb.onDevice(g.InodeTable, uint64(sb.tableBlocks())) {
				klog.Errf("EXT4-fs (%s): ext4_check_descriptors: Inode table for group %d not in group (block %d)!", sb.dev.Name(), i, g.InodeTable)
				b.Release()
				return errCorrupt
			}
			sb.tables = append(sb.tables, g.InodeTable)
			sb.addZones(i, &g)
			sb.freeBlocks += uint64(g.FreeBlocks) << sb.clusterLog
			sb.freeInodes += uint64(g.FreeInodes)
		}
		b.Release()
	}
	sb.sortZones()
	return nil
}

// computeOverhead counts the blocks that never hold files, for statfs.
func (sb *superBlock) computeOverhead() {
	s := &sb.s
	if s.OverheadClusters != 0 {
		sb.overhead = uint64(s.OverheadClusters) << sb.clusterLog
		return
	}
	table := (uint64(s.InodesPerGroup)*uint64(sb.inodeSize) + uint64(sb.blockSize) - 1) / uint64(sb.blockSize)
	gdt := (uint64(sb.groups) + uint64(sb.perBlock) - 1) / uint64(sb.perBlock)
	n := uint64(s.FirstDataBlock) + uint64(sb.groups)*(table+2)
	for g := range sb.groups {
		if sb.hasSuper(g) {
			n++
			if s.Incompat&disk.IncompatMetaBG == 0 {
				n += gdt + uint64(s.ReservedGDT)
			}
		}
	}
	if s.Incompat&disk.IncompatMetaBG != 0 {
		n += gdt
	}
	if s.Compat&disk.CompatHasJournal != 0 && s.JournalInode != 0 {
		if in, err := sb.iget(s.JournalInode, true); err == nil {
			n += uint64(in.attr.Size) >> sb.blockBits
		}
	}
	sb.overhead = n
}
