package ext4

import (
	"bytes"
	"math/bits"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/jbd2"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Ext4, Ext3 and Ext2 are the file system types, registered with the vfs by Register.
var (
	Ext4 = &vfs.FilesystemType{Name: "ext4", NeedsDev: true}
	Ext3 = &vfs.FilesystemType{Name: "ext3", NeedsDev: true}
	Ext2 = &vfs.FilesystemType{Name: "ext2", NeedsDev: true}
)

// NewMemfile makes the memory of file mappings that cannot come from the image; the kernel sets it to the platform's at
// boot. Without it such mappings give ENODEV.
var NewMemfile func(name string) (platform.Memfile, error)

// identify tells UUID and label of the file system on a device.
func identify(d bdev.Device) (uuid, label string) {
	b := make([]byte, disk.SuperSize)
	if d.Size() < disk.SuperOffset+disk.SuperSize {
		return "", ""
	}
	if _, err := d.ReadAt(b, disk.SuperOffset); err != nil {
		return "", ""
	}
	var s disk.Super
	s.Decode(b)
	if s.Magic != disk.SuperMagic {
		return "", ""
	}
	return uuidString(s.UUID), string(bytes.TrimRight(s.VolumeName[:], "\x00"))
}

// Register makes the types known to the vfs, in the order in which Linux tries them for the root.
func Register() {
	bdev.Identify = identify
	for _, t := range []*vfs.FilesystemType{Ext3, Ext2, Ext4} {
		t.Mount = func(c vfs.Caller, source string, flags uint64, data string) (vfs.SuperBlock, error) {
			node, err := bdev.Find(c, source)
			if err != nil {
				return nil, err
			}
			return MountNode(t, node, flags, data)
		}
		vfs.RegisterFilesystem(t)
	}
}

// mounted has the file systems by device: a second mount of a device gives the same SuperBlock.
var mounted struct {
	sync.Mutex
	m map[*bdev.Node]*superBlock
}

// MountNode mounts the file system on a node.
func MountNode(t *vfs.FilesystemType, node *bdev.Node, flags uint64, data string) (vfs.SuperBlock, error) {
	mounted.Lock()
	defer mounted.Unlock()
	if sb := mounted.m[node]; sb != nil {
		if err := new(options).parse(t.Name, data); err != nil {
			return nil, err
		}
		if sb.fstype != t || (flags&unix.MS_RDONLY != 0) != sb.ro.Load() && sb.mayNot == "" {
			return nil, unix.EBUSY
		}
		return sb, nil
	}
	sb := &superBlock{fstype: t, node: node}
	if err := node.Open(sb); err != nil {
		return nil, err
	}
	if err := sb.mount(node, flags, data); err != nil {
		node.Close(sb)
		return nil, err
	}
	if mounted.m == nil {
		mounted.m = map[*bdev.Node]*superBlock{}
	}
	mounted.m[node] = sb
	if sb.dev == bdev.Device(node) {
		node.SetCacher(sb)
	}
	return sb, nil
}

// Mount mounts the file system on a device that is not registered.
func Mount(t *vfs.FilesystemType, dev bdev.Device, flags uint64, data string) (vfs.SuperBlock, error) {
	sb := &superBlock{fstype: t}
	if err := sb.mount(dev, flags, data); err != nil {
		return nil, err
	}
	return sb, nil
}

// cacheBytes bounds the metadata cache of one file system.
const cacheBytes = 16 << 20

// What we can read. Features of writing that a read-only mount need not know are not here.
const (
	knownIncompat = disk.IncompatFiletype | disk.IncompatRecover | disk.IncompatMetaBG | disk.IncompatExtents |
		disk.Incompat64bit | disk.IncompatMMP | disk.IncompatFlexBG | disk.IncompatEAInode | disk.IncompatCsumSeed |
		disk.IncompatLargedir | disk.IncompatInlineData | disk.IncompatEncrypt
	ext2Incompat = disk.IncompatFiletype | disk.IncompatMetaBG
	ext3Incompat = ext2Incompat | disk.IncompatRecover
	ext2ROCompat = disk.ROSparseSuper | disk.ROLargeFile | disk.ROBtreeDir
)

// setDevice sets the device and its optional parts.
func (sb *superBlock) setDevice(dev bdev.Device) {
	sb.dev = dev
	sb.view, _ = dev.(bdev.Viewer)
	sb.mapper, _ = dev.(bdev.Mapper)
	sb.storer, _ = dev.(bdev.Storer)
}

func (sb *superBlock) mount(dev bdev.Device, flags uint64, data string) error {
	name, silent := dev.Name(), flags&unix.MS_SILENT != 0
	refuse := func(err error, format string, args ...any) error {
		if !silent {
			klog.Errf("EXT4-fs (%s): "+format, append([]any{name}, args...)...)
		}
		return err
	}
	sb.setDevice(dev)
	sb.ro.Store(true)
	sb.w = newWriter()
	sb.inodes = new(inodeTable)
	o := options{quiet: true}
	if err := o.parse(sb.fstype.Name, data); err != nil {
		return err
	}
	sb.opts.Store(&o)
	if err := sb.readSuper(refuse); err != nil {
		return err
	}
	o = options{}
	o.defaults(&sb.s, sb.fstype.Name)
	if err := o.parse(sb.fstype.Name, data); err != nil {
		return err
	}
	if err := sb.checkOptions(&o, refuse); err != nil {
		return err
	}
	if err := sb.checkFeatures(refuse); err != nil {
		return err
	}
	if err := sb.checkGeometry(refuse); err != nil {
		return err
	}
	sb.cache = bdev.NewCache(sb.dev, sb.blockSize, cacheBytes)
	if err := sb.readGroups(); err != nil {
		return refuse(err, "group descriptors corrupted!")
	}
	if err := sb.recoverJournal(); err != nil {
		return err
	}
	sb.protectJournal()
	root, err := sb.iget(disk.RootInode, false)
	if err == nil && !root.attr.IsDir() {
		err = errCorrupt
	}
	if err != nil {
		return refuse(err, "get root inode failed")
	}
	sb.root = root
	sb.computeOverhead()
	if flags&unix.MS_RDONLY == 0 {
		if err := sb.startWriting(); err != nil {
			sb.ro.Store(true)
			why := sb.mayNot
			if why == "" {
				why = err.Error()
			}
			klog.Warnf("EXT4-fs (%s): write access unavailable (%s), mounting read-only", name, why)
		}
	}
	sb.logMounted(flags)
	return nil
}

func (sb *superBlock) logMounted(flags uint64) {
	name := sb.dev.Name()
	if sb.fstype != Ext4 {
		klog.Infof("EXT4-fs (%s): mounting %s file system using the ext4 subsystem", name, sb.fstype.Name)
	}
	if sb.s.State&disk.StateError != 0 {
		klog.Warnf("EXT4-fs (%s): warning: mounting fs with errors, running e2fsck is recommended", name)
	}
	mode := "without journal"
	if sb.s.Compat&disk.CompatHasJournal != 0 {
		mode = "with " + sb.opts.Load().data.String() + " data mode"
	}
	access := "r/w"
	if sb.ro.Load() {
		access = "ro"
	}
	klog.Infof("EXT4-fs (%s): mounted filesystem %s %s %s. Quota mode: none.", name, uuidString(sb.s.UUID), access, mode)
}

type refusal func(err error, format string, args ...any) error

// readSuper reads and verifies the superblock.
func (sb *superBlock) readSuper(refuse refusal) error {
	off := int64(disk.SuperOffset)
	if n := sb.opts.Load().sbBlock; n > 1 {
		if n > uint64(sb.dev.Size())/1024 {
			return refuse(unix.EINVAL, "unable to read superblock")
		}
		off = int64(n) * 1024
	}
	b := make([]byte, disk.SuperSize)
	if sb.dev.Size() < off+disk.SuperSize {
		return refuse(unix.EINVAL, "unable to read superblock")
	}
	if _, err := sb.dev.ReadAt(b, off); err != nil {
		return refuse(unix.EIO, "unable to read superblock")
	}
	s := &sb.s
	s.Decode(b)
	if s.Magic != disk.SuperMagic {
		return refuse(unix.EINVAL, "VFS: Can't find ext4 filesystem")
	}
	if s.ROCompat&disk.ROMetadataCsum != 0 {
		if s.ChecksumType != 1 {
			return refuse(unix.EINVAL, "VFS: Found ext4 filesystem with unknown checksum algorithm.")
		}
		if disk.SuperChecksum(b) != s.Checksum {
			return refuse(errBadCRC, "VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?")
		}
		sb.csum = true
	}
	sb.seed = s.Seed()
	return nil
}

// checkFeatures refuses what the type, or the code, does not know.
func (sb *superBlock) checkFeatures(refuse refusal) error {
	s := &sb.s
	if bad := s.Incompat &^ knownIncompat; bad != 0 {
		return refuse(unix.EINVAL, "Couldn't mount because of unsupported optional features (%x: %s)", bad,
			strings.Join(disk.FeatureNames(disk.IncompatNames, 'I', bad), " "))
	}
	journal := s.Compat&disk.CompatHasJournal != 0
	switch sb.fstype {
	case Ext2:
		if s.Incompat&^ext2Incompat != 0 || s.ROCompat&^ext2ROCompat != 0 {
			return refuse(unix.EINVAL, "couldn't mount as ext2 due to feature incompatibilities")
		}
	case Ext3:
		if s.Incompat&^ext3Incompat != 0 || s.ROCompat&^ext2ROCompat != 0 || !journal {
			return refuse(unix.EINVAL, "couldn't mount as ext3 due to feature incompatibilities")
		}
	}
	sb.filetype = s.Incompat&disk.IncompatFiletype != 0
	if s.Flags&disk.FlagUnsignedHash != 0 {
		sb.hashDelta = disk.HashLegacyUnsigned
	}
	return nil
}

// checkGeometry checks the numbers that everything is computed from.
func (sb *superBlock) checkGeometry(refuse refusal) error {
	s := &sb.s
	if s.LogBlockSize > 2 {
		return refuse(unix.EINVAL, "bad block size %d", uint64(1024)<<min(s.LogBlockSize, 32))
	}
	sb.blockBits = uint(10 + s.LogBlockSize)
	sb.blockSize = 1 << sb.blockBits
	if s.ROCompat&disk.ROBigalloc != 0 {
		if s.LogClusterSize < s.LogBlockSize || s.LogClusterSize > 19 {
			return refuse(unix.EINVAL, "cluster size (log %d) is invalid", s.LogClusterSize)
		}
		sb.clusterLog = uint(s.LogClusterSize - s.LogBlockSize)
	}
	sb.inodeSize = int(s.InodeSize)
	if sb.inodeSize < disk.BaseInodeSize || sb.inodeSize > sb.blockSize || bits.OnesCount(uint(sb.inodeSize)) != 1 {
		return refuse(unix.EINVAL, "unsupported inode size: %d", sb.inodeSize)
	}
	sb.descSize = 32
	if s.Incompat&disk.Incompat64bit != 0 {
		sb.descSize = int(s.DescSize)
		if sb.descSize < 64 || sb.descSize > 1024 || bits.OnesCount(uint(sb.descSize)) != 1 {
			return refuse(unix.EINVAL, "unsupported descriptor size %d", sb.descSize)
		}
	}
	sb.perBlock = uint32(sb.blockSize / sb.descSize)
	maxPerGroup := uint64(sb.blockSize) * 8 << sb.clusterLog
	if s.BlocksPerGroup < 256 || uint64(s.BlocksPerGroup) > maxPerGroup || s.BlocksPerGroup%8 != 0 {
		return refuse(unix.EINVAL, "#blocks per group too big: %d", s.BlocksPerGroup)
	}
	if s.InodesPerGroup < uint32(sb.blockSize/sb.inodeSize) || uint64(s.InodesPerGroup) > uint64(sb.blockSize)*8 {
		return refuse(unix.EINVAL, "invalid inodes per group: %d", s.InodesPerGroup)
	}
	if s.FirstDataBlock > 1 || (s.FirstDataBlock == 1) != (sb.blockSize == 1024) && sb.clusterLog == 0 {
		return refuse(unix.EINVAL, "bad geometry: first data block is %d with a %d block size", s.FirstDataBlock, sb.blockSize)
	}
	devBlocks := uint64(sb.dev.Size()) >> sb.blockBits
	if s.BlocksCount > devBlocks {
		return refuse(unix.EINVAL, "bad geometry: block count %d exceeds size of device (%d blocks)", s.BlocksCount, devBlocks)
	}
	if s.BlocksCount <= uint64(s.FirstDataBlock)+1 {
		return refuse(unix.EINVAL, "bad geometry: block count %d", s.BlocksCount)
	}
	groups := (s.BlocksCount - uint64(s.FirstDataBlock) + uint64(s.BlocksPerGroup) - 1) / uint64(s.BlocksPerGroup)
	if groups > 1<<31 || groups*uint64(s.InodesPerGroup) != uint64(s.InodesCount) {
		return refuse(unix.EINVAL, "inodes count not valid: %d vs %d", s.InodesCount, groups*uint64(s.InodesPerGroup))
	}
	if s.FirstInode < 11 || s.FirstInode > s.InodesCount {
		return refuse(unix.EINVAL, "invalid first ino: %d", s.FirstInode)
	}
	sb.groups = uint32(groups)
	return nil
}

// recoverJournal replays a journal that was not closed: to the disk, or if that is read-only in memory. If that cannot be done the file system is mounted as it is, with a warning, as the option norecovery does.
func (sb *superBlock) recoverJournal() error {
	s := &sb.s
	name := sb.dev.Name()
	if s.Incompat&disk.IncompatRecover == 0 {
		return nil
	}
	if s.Compat&disk.CompatHasJournal == 0 {
		klog.Errf("EXT4-fs (%s): required journal recovery without a journal", name)
		return errCorrupt
	}
	if sb.opts.Load().noload {
		klog.Warnf("EXT4-fs (%s): journal not loaded (norecovery): the file system may be inconsistent", name)
		return nil
	}
	if !sb.dev.ReadOnly() && sb.opts.Load().sbBlock <= 1 {
		err := sb.replayToDisk()
		if err == nil {
			return sb.reread()
		}
		klog.Warnf("EXT4-fs (%s): the journal cannot be replayed to the disk (%s)", name, err)
	}
	blocks, err := sb.replay()
	if err != nil {
		klog.Warnf("EXT4-fs (%s): the journal cannot be replayed (%s): mounted without recovery, files may be missing or inconsistent; run e2fsck", name, err)
		return nil
	}
	klog.Infof("EXT4-fs (%s): recovery: %d blocks replayed in memory; the image stays as it is", name, len(blocks))
	if len(blocks) == 0 {
		return nil
	}
	sb.setDevice(&overlay{Device: sb.dev, view: sb.view, mapper: sb.mapper, blockSize: int64(sb.blockSize), blocks: blocks})
	return sb.reread()
}

// reread reads everything again after the journal has changed it.
func (sb *superBlock) reread() error {
	name, blockSize := sb.dev.Name(), sb.blockSize
	sb.cache = bdev.NewCache(sb.dev, sb.blockSize, cacheBytes)
	sb.inodes = new(inodeTable) // the journal's inode came from the old blocks
	quiet := func(err error, _ string, _ ...any) error { return err }
	if err := sb.readSuper(quiet); err != nil {
		klog.Errf("EXT4-fs (%s): superblock unreadable after recovery", name)
		return err
	}
	if err := sb.checkFeatures(quiet); err != nil {
		return err
	}
	if err := sb.checkGeometry(quiet); err != nil {
		klog.Errf("EXT4-fs (%s): bad geometry after recovery", name)
		return err
	}
	if sb.blockSize != blockSize {
		return errCorrupt
	}
	return sb.readGroups()
}

func (sb *superBlock) replay() (map[uint64][]byte, error) {
	in, err := sb.iget(sb.s.JournalInode, true)
	if err != nil {
		return nil, err
	}
	return jbd2.Replay(sb.source(in))
}

// source is the journal for reading.
func (sb *superBlock) source(in *inode) jbd2.Source {
	return jbd2.Source{
		BlockSize: sb.blockSize,
		Blocks:    uint64(in.attr.Size) >> sb.blockBits,
		Limit:     256 << 20,
		Valid:     func(block uint64) bool { return block < sb.s.BlocksCount },
		Read: func(block uint64, p []byte) error {
			r, err := in.mapBlock(block)
			if err != nil {
				return err
			}
			if r.kind != written {
				return errCorrupt
			}
			_, err = sb.dev.ReadAt(p, int64(r.phys)<<sb.blockBits)
			return err
		},
	}
}

// overlay is a device with some blocks replaced in memory. The map is immutable.
type overlay struct {
	bdev.Device
	view      bdev.Viewer
	mapper    bdev.Mapper
	blockSize int64
	blocks    map[uint64][]byte
}

// replaced reports whether a block of the range is replaced.
func (o *overlay) replaced(off, n int64) bool {
	for b := off / o.blockSize; b*o.blockSize < off+n; b++ {
		if o.blocks[uint64(b)] != nil {
			return true
		}
	}
	return false
}

// ReadOnly is true: the blocks below are older than those in memory.
func (o *overlay) ReadOnly() bool { return true }

// ReadAt reads from the device and puts the replaced blocks over it.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Device.ReadAt(p, off)
	if err != nil {
		return n, err
	}
	for b := off / o.blockSize; b*o.blockSize < off+int64(len(p)); b++ {
		if x := o.blocks[uint64(b)]; x != nil {
			if at := b*o.blockSize - off; at >= 0 {
				copy(p[at:], x)
			} else {
				copy(p, x[-at:])
			}
		}
	}
	return n, nil
}

// View is the device's where nothing is replaced.
func (o *overlay) View(off, n int64) []byte {
	if o.view == nil || o.replaced(off, n) {
		return nil
	}
	return o.view.View(off, n)
}

// HostRange is the device's where nothing is replaced.
func (o *overlay) HostRange(off, n int64) (h *platform.HostFile, hostOff, length int64) {
	if o.mapper == nil || o.replaced(off, n) {
		return nil, 0, 0
	}
	return o.mapper.HostRange(off, n)
}
