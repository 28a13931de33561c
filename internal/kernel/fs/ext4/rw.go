package ext4

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/jbd2"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// What we can write. Of encrypted and verity files only what a kernel without the code for them can do: they cannot be opened.
const (
	writeIncompat = disk.IncompatFiletype | disk.IncompatRecover | disk.IncompatMetaBG | disk.IncompatExtents |
		disk.Incompat64bit | disk.IncompatFlexBG | disk.IncompatCsumSeed | disk.IncompatLargedir | disk.IncompatInlineData |
		disk.IncompatEncrypt | disk.IncompatEAInode
	writeROCompat = disk.ROSparseSuper | disk.ROLargeFile | disk.ROBtreeDir | disk.ROHugeFile | disk.ROGdtCsum |
		disk.RODirNlink | disk.ROExtraIsize | disk.ROMetadataCsum | disk.ROOrphanPresent |
		disk.ROVerity | disk.ROProject
)

// extents reports whether new files have extent trees.
func (sb *superBlock) extents() bool { return sb.s.Incompat&disk.IncompatExtents != 0 }

// extentMapped reports whether the block map is an extent tree.
func (in *inode) extentMapped() bool { return in.raw.Flags&disk.InodeExtents != 0 }

// whyNot says why the file system cannot be written, "" if it can.
func (sb *superBlock) whyNot() string {
	s := &sb.s
	switch {
	case sb.dev.ReadOnly():
		return "the device is read-only"
	case s.Incompat&^writeIncompat != 0:
		return "feature " + disk.FeatureNames(disk.IncompatNames, 'I', s.Incompat&^writeIncompat)[0] + " is not supported for writing"
	case s.ROCompat&^writeROCompat != 0:
		return "feature " + disk.FeatureNames(disk.ROCompatNames, 'R', s.ROCompat&^writeROCompat)[0] + " is not supported for writing"
	case s.Incompat&disk.IncompatRecover != 0:
		return "the journal has not been replayed"
	case s.Compat&disk.CompatHasJournal != 0 && (s.JournalInode == 0 || s.JournalDev != 0):
		return "the journal is on another device"
	case s.RevLevel == 0:
		return "revision 0"
	case sb.opts.Load().sbBlock > 1:
		return "mounted from a backup superblock"
	case s.InodesPerGroup%8 != 0:
		return "odd number of inodes per group"
	}
	return ""
}

// startWriting makes the file system writable.
func (sb *superBlock) startWriting() error {
	if sb.aborted.Load() {
		return unix.EROFS
	}
	if sb.mayNot == "" {
		sb.mayNot = sb.whyNot()
	}
	if sb.mayNot != "" {
		return unix.EROFS
	}
	w := sb.w
	if !w.ready.Load() {
		if err := sb.fillWriter(); err != nil {
			return err
		}
	}
	w.commitMu.Lock()
	w.mu.Lock()
	s := &sb.s
	s.MountTime = uint32(now().Sec)
	s.MountCount++
	sb.wasValid = s.State & disk.StateValid
	if sb.wasValid == 0 {
		klog.Warnf("EXT4-fs (%s): warning: mounting unchecked fs, running e2fsck is recommended", sb.dev.Name())
	}
	if w.journal != nil {
		s.Incompat |= disk.IncompatRecover
	} else {
		s.State &^= disk.StateValid
	}
	err := sb.writeSuper()
	w.mu.Unlock()
	w.commitMu.Unlock()
	if err != nil {
		return sb.abort(err, "cannot write the superblock")
	}
	sb.ro.Store(false)
	err = sb.cleanOrphans()
	if err != nil {
		sb.ro.Store(true)
	}
	return err
}

// newWriter makes a writer that knows nothing yet.
func newWriter() *writer {
	return &writer{dirtyGroups: map[uint32]struct{}{}, tx: newTxn(1), logged: map[uint64]struct{}{}, maxTx: maxTxnBlocks,
		pending: map[uint64]pendingBlock{}, dirty: map[*inode]struct{}{}}
}

// fillWriter reads what writing needs.
func (sb *superBlock) fillWriter() error {
	w := sb.w
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freeBlocks, w.freeInodes = 0, 0
	old := w.groups
	w.groups = make([]group, sb.groups)
	for i := range w.groups {
		b, err := sb.block(sb.descBlock(uint32(i) / sb.perBlock))
		if err != nil {
			return err
		}
		at := i % int(sb.perBlock) * sb.descSize
		g := &w.groups[i].desc
		g.Decode(b.Data()[at : at+sb.descSize])
		b.Release()
		if g.FreeBlocks > sb.groupBlocks(uint32(i)) || g.FreeInodes > sb.s.InodesPerGroup || g.ItableUnused > sb.s.InodesPerGroup {
			return sb.errorf(errCorrupt, "group %d: invalid counts in the descriptor", i)
		}
		if !sb.s.GroupChecksums() {
			g.Flags &^= disk.GroupInodeUninit | disk.GroupBlockUninit
		}
		if old != nil { // blocks that are still mapped
			w.groups[i].held, w.groups[i].nheld = old[i].held, old[i].nheld
		}
		w.freeBlocks += uint64(g.FreeBlocks) - min(uint64(g.FreeBlocks), uint64(w.groups[i].nheld))
		w.freeInodes += uint64(g.FreeInodes)
	}
	if sb.s.Compat&disk.CompatHasJournal != 0 {
		j, err := sb.openJournal()
		if err != nil {
			klog.Errf("EXT4-fs (%s): cannot write the journal: %v", sb.dev.Name(), err)
			return unix.EROFS
		}
		w.journal = j
		w.maxTx = min(maxTxnBlocks, j.Capacity()/3)
		if w.maxTx < opBlocks+32 {
			klog.Errf("EXT4-fs (%s): the journal is too small", sb.dev.Name())
			return unix.EROFS
		}
	}
	w.ready.Store(true)
	return nil
}

// replayToDisk replays a journal that was not closed and writes the blocks to their places.
func (sb *superBlock) replayToDisk() error {
	sink, err := sb.sink()
	if err != nil {
		return err
	}
	found := sb.s.State & disk.StateError // what is in the journal may be older
	next, err := jbd2.Recover(sink.Source, func(n uint64, p []byte) error {
		_, err := sb.dev.WriteAt(p, int64(n)<<sb.blockBits)
		return err
	})
	if err != nil {
		return err
	}
	if err := sb.flush(); err != nil {
		return err
	}
	if err := jbd2.Reset(sink, next); err != nil {
		return err
	}
	p := make([]byte, disk.SuperSize)
	if _, err := sb.dev.ReadAt(p, disk.SuperOffset); err != nil {
		return err
	}
	var s disk.Super
	s.Decode(p)
	if s.Magic != disk.SuperMagic {
		return errCorrupt
	}
	s.Incompat &^= disk.IncompatRecover
	s.State |= found
	s.Encode(p)
	if _, err := sb.dev.WriteAt(p, disk.SuperOffset); err != nil {
		return err
	}
	klog.Infof("EXT4-fs (%s): recovery complete", sb.dev.Name())
	return sb.flush()
}

// sink is the journal for writing.
func (sb *superBlock) sink() (jbd2.Sink, error) {
	in, err := sb.iget(sb.s.JournalInode, true)
	if err != nil {
		return jbd2.Sink{}, err
	}
	return jbd2.Sink{
		Source: sb.source(in),
		Write: func(block uint64, p []byte) error {
			r, err := in.mapBlock(block)
			if err != nil {
				return err
			}
			if r.kind != written {
				return errCorrupt
			}
			_, err = sb.dev.WriteAt(p, int64(r.phys)<<sb.blockBits)
			return err
		},
		Flush: func() error { return sb.flush() },
		Csum:  sb.csum,
		Wide:  sb.s.Incompat&disk.Incompat64bit != 0,
	}, nil
}

func (sb *superBlock) openJournal() (*jbd2.Writer, error) {
	sink, err := sb.sink()
	if err != nil {
		return nil, err
	}
	// Every block must be there before anything depends on it.
	in, err := sb.iget(sb.s.JournalInode, true)
	if err != nil {
		return nil, err
	}
	for b := uint64(0); b < sink.Blocks; {
		r, err := in.mapBlock(b)
		if err != nil {
			return nil, err
		}
		if r.kind != written {
			return nil, errCorrupt
		}
		b = r.start + r.n
	}
	return jbd2.Open(sink)
}

// cleanOrphans frees or truncates the inodes that a crash has left half done.
func (sb *superBlock) cleanOrphans() error {
	w := sb.w
	w.mu.Lock()
	next := sb.s.LastOrphan
	seen := map[uint32]bool{}
	var list []*inode
	for next != 0 && !seen[next] {
		seen[next] = true
		in, err := sb.igetLinks(next, false, true)
		if err != nil {
			w.mu.Unlock()
			sb.ro.Store(true)
			return sb.errorf(errCorrupt, "orphan list is damaged at inode %d: run e2fsck", next)
		}
		list = append(list, in)
		next = in.raw.Dtime
	}
	known := len(w.orphans) > 0
	if !known {
		w.orphans = append([]*inode(nil), list...)
	}
	w.mu.Unlock()
	if known {
		return nil // they are in use
	}
	if err := sb.takeOrphanFile(); err != nil {
		return err
	}
	w.mu.Lock()
	list = append([]*inode(nil), w.orphans...)
	w.mu.Unlock()
	for _, in := range list {
		var err error
		if a := in.Attr(); a.Nlink == 0 {
			err = in.evict()
		} else {
			if err = in.cutAll(in.blocksFor(a.Size), maxBlocks); err == nil {
				if err = sb.begin(); err == nil {
					sb.delOrphan(in)
					sb.end()
				}
			}
		}
		if err != nil {
			return err
		}
	}
	if len(list) > 0 {
		klog.Infof("EXT4-fs (%s): %d orphan inodes cleaned up", sb.dev.Name(), len(list))
	}
	return nil
}

// stopWriting brings everything to its place and marks the file system as clean.
func (sb *superBlock) stopWriting() error {
	w := sb.w
	if err := sb.Sync(); err != nil {
		return err
	}
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	w.handle.Lock()
	sb.ro.Store(true)
	w.handle.Unlock()
	if err := sb.commitLocked(true); err != nil {
		return err
	}
	if err := sb.checkpoint(nil); err != nil {
		return sb.abort(err, "cannot write the journal back")
	}
	w.dirtyMu.Lock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.dirtyMu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.journal != nil {
		sb.s.Incompat &^= disk.IncompatRecover
	} else {
		sb.s.State |= sb.wasValid // one that was not clean before stays so until e2fsck has seen it
	}
	if err := sb.flush(); err != nil {
		return sb.abort(err, "cannot flush the device")
	}
	if err := sb.writeSuper(); err != nil {
		return sb.abort(err, "cannot write the superblock")
	}
	return nil
}

// Sync writes everything back.
func (sb *superBlock) Sync() error {
	if sb.aborted.Load() {
		return unix.EIO
	}
	if sb.ro.Load() {
		return nil
	}
	first := sb.flushMapped()
	if err := sb.commit(true); err != nil && first == nil {
		first = err
	}
	return first
}

// Remount changes options, and between read-only and read-write.
func (sb *superBlock) Remount(_ vfs.Caller, flags uint64, data string) error {
	o := *sb.opts.Load()
	if err := o.parse(sb.fstype.Name, data); err != nil {
		return err
	}
	name := sb.dev.Name()
	if old := sb.opts.Load(); o.data != old.data {
		klog.Errf("EXT4-fs (%s): Cannot change data mode on remount", name)
		return unix.EINVAL
	} else if o.dax != old.dax {
		klog.Errf("EXT4-fs (%s): can't change dax mount option while remounting", name)
		return unix.EINVAL
	}
	if err := sb.checkOptions(&o, func(err error, format string, args ...any) error {
		klog.Errf("EXT4-fs (%s): "+format, append([]any{name}, args...)...)
		return err
	}); err != nil {
		return err
	}
	if o.abort {
		o.abort = false
		if !sb.ro.Load() {
			_ = sb.abort(unix.EIO, "Abort forced by user")
		}
	}
	switch ro := flags&unix.MS_RDONLY != 0; {
	case ro && !sb.ro.Load():
		sb.w.mu.Lock()
		busy := len(sb.w.orphans) > 0
		sb.w.mu.Unlock()
		if busy {
			return unix.EBUSY
		}
		if err := sb.stopWriting(); err != nil {
			return err
		}
	case !ro && sb.ro.Load():
		err := sb.refresh()
		if err == nil {
			err = sb.startWriting()
		}
		if err != nil {
			if sb.mayNot != "" {
				klog.Errf("EXT4-fs (%s): write access unavailable (%s), remounting read-write refused", name, sb.mayNot)
			}
			return unix.EROFS
		}
	default:
		sb.opts.Store(&o)
		return nil
	}
	sb.opts.Store(&o)
	klog.Infof("EXT4-fs (%s): re-mounted %s %s.", name, uuidString(sb.s.UUID), map[bool]string{true: "ro", false: "r/w"}[sb.ro.Load()])
	return nil
}

// refresh reads the superblock and the counts of the groups again before a file system becomes writable: while it was
// read-only, e2fsck and tune2fs may have changed them on the device.
func (sb *superBlock) refresh() error {
	if sb.aborted.Load() || sb.opts.Load().sbBlock > 1 || sb.dev.ReadOnly() {
		return nil // startWriting refuses
	}
	w := sb.w
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	sb.cache.Invalidate()
	p := make([]byte, disk.SuperSize)
	if _, err := sb.dev.ReadAt(p, disk.SuperOffset); err != nil {
		return unix.EIO
	}
	var s disk.Super
	s.Decode(p)
	old := &sb.s
	if s.Magic != disk.SuperMagic || sb.csum && disk.SuperChecksum(p) != s.Checksum || s.UUID != old.UUID ||
		s.BlocksCount != old.BlocksCount || s.InodesCount != old.InodesCount || s.Compat != old.Compat ||
		(s.Incompat^old.Incompat)&^disk.IncompatRecover != 0 || s.ROCompat != old.ROCompat {
		return sb.errorf(errCorrupt, "the superblock was changed while the file system was mounted")
	}
	old.MountCount, old.State, old.ErrorCount, old.LastOrphan = s.MountCount, s.State, s.ErrorCount, s.LastOrphan
	w.ready.Store(false)
	return nil
}

// Release ends the file system and gives the device back.
func (sb *superBlock) Release() {
	if !sb.ro.Load() {
		if err := sb.stopWriting(); err != nil {
			klog.Errf("EXT4-fs (%s): not unmounted cleanly: %v", sb.dev.Name(), err)
		}
	}
	if sb.node != nil {
		sb.node.SetCacher(nil)
	}
	mounted.Lock()
	if mounted.m[sb.node] == sb {
		delete(mounted.m, sb.node)
	}
	mounted.Unlock()
	if sb.node != nil {
		klog.Infof("EXT4-fs (%s): unmounting filesystem %s.", sb.dev.Name(), uuidString(sb.s.UUID))
		sb.node.Close(sb)
	}
}
