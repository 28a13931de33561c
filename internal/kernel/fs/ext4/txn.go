package ext4

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/jbd2"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

const (
	// opBlocks is how many metadata blocks one change may touch: changes that could need more are cut into several.
	opBlocks = 96
	// maxTxnBlocks bounds a transaction, whatever the size of the journal.
	maxTxnBlocks = 2048
	// maxPending bounds the memory of committed blocks that are not yet in their places.
	maxPending = 16 << 20
	// commitInterval is how long a change may stay in memory (ext4(5), the default of commit=).
	commitInterval = 5 * time.Second
)

// writer is what a file system has while it may be written.
type writer struct {
	// handle is held for reading for as long as a change lasts, and for writing while the state is copied for a commit.
	handle sync.RWMutex
	// mu is held while metadata is changed: one change at a time.
	mu sync.Mutex

	ready atomic.Bool // the rest is filled in

	// Guarded by mu.
	groups      []group
	freeBlocks  uint64 // free blocks, without those that are held
	heldBlocks  uint64
	freeInodes  uint64
	dirtyGroups map[uint32]struct{}
	tx          *txn
	must        int                 // how many inodes must be written with it
	logged      map[uint64]struct{} // blocks that the journal has content for
	orphans     []*inode            // the list on disk, first one first
	maxTx       int
	nextDirGrp  uint32

	// commitMu serialises commits. What follows is guarded by it.
	commitMu sync.Mutex
	journal  *jbd2.Writer // nil without a journal
	pending  map[uint64]pendingBlock

	committed atomic.Uint64 // number of the last transaction that is durable

	dirtyMu sync.Mutex
	// +checklocks:dirtyMu
	dirty map[*inode]struct{} // inodes to be written: those that must with the running transaction, others at some time
	// +checklocks:dirtyMu
	timer *time.Timer
	armed atomic.Bool // timer is not nil; changed with dirtyMu
	// +checklocks:dirtyMu
	mapped map[*inode]struct{} // inodes with shared writable mappings

	// itable is held while blocks of inode tables are copied from or to.
	itable sync.RWMutex
}

// pendingBlock is a committed block that is not in its place yet.
type pendingBlock struct {
	buf  *bdev.Buffer // pinned, so that nobody reads the old content from the device
	data []byte
}

// txn is the running transaction.
type txn struct {
	seq     uint64
	bufs    map[uint64]*bdev.Buffer // pinned
	freed   []run                   // blocks to be usable again after the commit
	nfreed  uint64
	revoked []uint64
}

func newTxn(seq uint64) *txn { return &txn{seq: seq, bufs: map[uint64]*bdev.Buffer{}} }

// tick is how fine the times of files are. Linux stamps them by its clock interrupt (HZ=100 in User-Mode Linux), too: what
// is written often has new times, and so has to be stored, once a tick.
const tick = 10 * time.Millisecond

// now is the time for files.
func now() unix.Timespec {
	t := ktime.Realtime()
	return abi.NsecToTimespec(t - t%int64(tick))
}

// begin starts a change of metadata: w.mu and w.handle are held until end. EROFS if the file system is read-only.
func (sb *superBlock) begin() error {
	if sb.ro.Load() {
		return unix.EROFS
	}
	w := sb.w
	for tries := 0; ; tries++ {
		w.handle.RLock()
		w.mu.Lock()
		if sb.ro.Load() {
			sb.end()
			return unix.EROFS
		}
		size := len(w.tx.bufs) + w.must + len(w.tx.revoked)/64 + 2*len(w.dirtyGroups) + 2
		low := w.tx.nfreed > 0 && w.freeBlocks < sb.s.ReservedBlocks+sb.s.BlocksCount/256+64 && tries == 0
		if size+opBlocks <= w.maxTx && !low {
			return nil
		}
		sb.end()
		if err := sb.commit(false); err != nil {
			return err
		}
	}
}

// end ends what begin has started.
func (sb *superBlock) end() {
	sb.w.mu.Unlock()
	sb.w.handle.RUnlock()
}

// dirtyBuf puts a block into the transaction. The caller has it pinned, has changed it and is between begin and end.
func (sb *superBlock) dirtyBuf(b *bdev.Buffer) {
	w := sb.w
	b.Checked.Store(true)
	if w.tx.bufs[b.Block] != nil {
		return
	}
	pin, err := sb.cache.Get(b.Block)
	if err != nil { // it is valid and pinned: cannot be
		panic("ext4: pinned block is not cached")
	}
	w.tx.bufs[b.Block] = pin
	sb.arm()
}

// arm makes sure that there will be a commit. The caller is between begin and end.
func (sb *superBlock) arm() {
	w := sb.w
	if w.armed.Load() { // no commit disarms it meanwhile
		return
	}
	w.dirtyMu.Lock()
	defer w.dirtyMu.Unlock()
	sb.armLocked()
}

func (sb *superBlock) armLocked() {
	w := sb.w
	if w.timer == nil {
		d := sb.opts.Load().commit
		if d == 0 {
			d = commitInterval
		}
		w.armed.Store(true)
		w.timer = time.AfterFunc(d, func() {
			if err := sb.commit(false); err != nil && err != unix.EROFS {
				klog.Errf("EXT4-fs (%s): commit failed: %v", sb.dev.Name(), err)
			}
		})
	}
}

// markDirty says that an inode has to be written with the running transaction, when the caller holds w.mu, or if lazy at some
// time.
func (in *inode) markDirty(lazy bool) {
	sb := in.sb
	w := sb.w
	if !lazy {
		if in.must {
			return
		}
		in.seq.Store(w.tx.seq)
	}
	w.dirtyMu.Lock()
	defer w.dirtyMu.Unlock()
	if in.dead.Load() {
		return // its number may be another's
	}
	if !lazy {
		in.must = true
		w.must++
	}
	w.dirty[in] = struct{}{}
	sb.armLocked()
}

// commit makes all changes so far durable. With flush also data that was written without a change of metadata.
func (sb *superBlock) commit(flush bool) error {
	w := sb.w
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	return sb.commitLocked(flush)
}

// commitTo makes transaction seq, and all data, durable.
func (sb *superBlock) commitTo(seq uint64) error {
	w := sb.w
	if w.committed.Load() >= seq {
		return sb.flush()
	}
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	if w.committed.Load() >= seq {
		return sb.flush()
	}
	return sb.commitLocked(true)
}

func (sb *superBlock) commitLocked(flush bool) error {
	w := sb.w
	if sb.aborted.Load() {
		return unix.EIO
	}
	w.handle.Lock()
	w.mu.Lock()
	w.dirtyMu.Lock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
		w.armed.Store(false)
	}
	w.dirtyMu.Unlock()
	err := sb.gather()
	t := w.tx
	if err == nil && len(t.bufs) > 0 {
		err = sb.gatherSuper()
	}
	if err != nil {
		w.mu.Unlock()
		w.handle.Unlock()
		return sb.abort(err, "cannot prepare a commit")
	}
	if len(t.bufs) == 0 && len(t.freed) == 0 {
		w.mu.Unlock()
		w.handle.Unlock()
		if flush {
			return sb.flush()
		}
		return nil
	}
	blocks := make([]jbd2.Block, 0, len(t.bufs))
	for n, b := range t.bufs {
		blocks = append(blocks, jbd2.Block{Number: n, Data: slices.Clone(b.Data())})
		if w.journal != nil {
			w.logged[n] = struct{}{}
		}
	}
	w.tx = newTxn(t.seq + 1)
	w.mu.Unlock()
	w.handle.Unlock()
	slices.SortFunc(blocks, func(a, b jbd2.Block) int {
		if a.Number < b.Number {
			return -1
		}
		return 1
	})
	if w.journal != nil {
		err = sb.logTxn(t, blocks)
	} else {
		err = sb.writeBlocks(blocks)
		if err == nil && flush {
			err = sb.flush()
		}
		for _, b := range t.bufs {
			b.Release()
		}
	}
	if err != nil {
		return sb.abort(err, "commit failed")
	}
	w.mu.Lock()
	sb.discardFreed(t.freed)
	sb.unhold(t.freed)
	w.mu.Unlock()
	w.committed.Store(t.seq)
	if len(w.pending)*sb.blockSize > maxPending {
		return sb.checkpoint(nil)
	}
	return nil
}

// logTxn writes a transaction to the journal.
func (sb *superBlock) logTxn(t *txn, blocks []jbd2.Block) error {
	w := sb.w
	if !w.journal.Room(len(blocks), len(t.revoked)) {
		if err := sb.checkpoint(t); err != nil {
			return err
		}
	}
	ts := now()
	if err := w.journal.Commit(blocks, t.revoked, uint64(ts.Sec), uint32(ts.Nsec)); err != nil {
		return err
	}
	for _, n := range t.revoked {
		if p, ok := w.pending[n]; ok && t.bufs[n] == nil {
			p.buf.Release()
			delete(w.pending, n)
		}
	}
	for _, b := range blocks {
		if p, ok := w.pending[b.Number]; ok {
			p.buf.Release()
		}
		w.pending[b.Number] = pendingBlock{t.bufs[b.Number], b.Data}
	}
	return nil
}

// checkpoint writes all committed blocks to their places and empties the journal. next is a transaction that is about to
// be written to it.
func (sb *superBlock) checkpoint(next *txn) error {
	w := sb.w
	if w.journal == nil || len(w.pending) == 0 {
		return nil
	}
	blocks := make([]jbd2.Block, 0, len(w.pending))
	for n, p := range w.pending {
		blocks = append(blocks, jbd2.Block{Number: n, Data: p.data})
	}
	slices.SortFunc(blocks, func(a, b jbd2.Block) int {
		if a.Number < b.Number {
			return -1
		}
		return 1
	})
	if err := sb.writeBlocks(blocks); err != nil {
		return err
	}
	if err := sb.flush(); err != nil {
		return err
	}
	if err := w.journal.Empty(); err != nil {
		return err
	}
	for _, p := range w.pending {
		p.buf.Release()
	}
	clear(w.pending)
	w.mu.Lock()
	clear(w.logged)
	if next != nil {
		for n := range next.bufs {
			w.logged[n] = struct{}{}
		}
	}
	w.mu.Unlock()
	return nil
}

// writeBlocks writes sorted blocks to their places, neighbours together.
func (sb *superBlock) writeBlocks(blocks []jbd2.Block) error {
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for len(blocks) > 0 {
		n := 1
		for n < len(blocks) && blocks[n].Number == blocks[0].Number+uint64(n) && (n+1)*sb.blockSize <= bounceSize {
			n++
		}
		p := blocks[0].Data
		if n > 1 {
			p = (*buf)[:0]
			for _, b := range blocks[:n] {
				p = append(p, b.Data...)
			}
		}
		if _, err := sb.dev.WriteAt(p, int64(blocks[0].Number)<<sb.blockBits); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

// gather writes the changed inodes and group descriptors to their blocks. The caller holds w.handle for writing and w.mu.
func (sb *superBlock) gather() error {
	w := sb.w
	w.dirtyMu.Lock()
	dirty := w.dirty
	w.dirty, w.must = map[*inode]struct{}{}, 0
	w.dirtyMu.Unlock()
	var lazy []*inode
	for in := range dirty {
		if !in.must {
			lazy = append(lazy, in)
			continue
		}
		in.must = false
		if err := sb.storeInode(in); err != nil {
			return err
		}
	}
	for _, in := range lazy {
		if len(w.tx.bufs) > w.maxTx/2 {
			in.markDirty(true)
			continue
		}
		if err := sb.storeInode(in); err != nil {
			return err
		}
	}
	for g := range w.dirtyGroups {
		if err := sb.storeGroup(g); err != nil {
			return err
		}
	}
	clear(w.dirtyGroups)
	return nil
}

// gatherSuper writes the superblock to its block.
func (sb *superBlock) gatherSuper() error {
	b, err := sb.cache.Get(disk.SuperOffset / uint64(sb.blockSize))
	if err != nil {
		return err
	}
	defer b.Release()
	sb.encodeSuper(b.Data()[disk.SuperOffset%sb.blockSize:])
	sb.dirtyBuf(b)
	return nil
}

func (sb *superBlock) encodeSuper(p []byte) {
	w := sb.w
	sb.s.FreeBlocks, sb.s.FreeInodes = w.freeBlocks+w.heldBlocks, uint32(w.freeInodes)
	sb.s.WriteTime = uint32(now().Sec)
	if sb.damaged.Load() {
		sb.s.State |= disk.StateError
	}
	sb.s.Encode(p)
}

// writeSuper writes the superblock to the device at once. Nothing else is being changed.
func (sb *superBlock) writeSuper() error {
	b, err := sb.cache.Get(disk.SuperOffset / uint64(sb.blockSize))
	if err != nil {
		return err
	}
	defer b.Release()
	sb.encodeSuper(b.Data()[disk.SuperOffset%sb.blockSize:])
	if _, err := sb.dev.WriteAt(b.Data(), int64(b.Block)<<sb.blockBits); err != nil {
		return err
	}
	return sb.flush()
}

// storeInode writes an inode to its table block.
func (sb *superBlock) storeInode(in *inode) error {
	block, at := sb.inodePlace(in.ino)
	b, err := sb.cache.Get(block)
	if err != nil {
		return err
	}
	defer b.Release()
	w := sb.w
	w.itable.Lock()
	in.encode(b.Data()[at : at+sb.inodeSize])
	w.itable.Unlock()
	sb.dirtyBuf(b)
	return nil
}

// storeGroup writes a group's descriptor, with the checksums of the bitmaps that have changed, to its block.
func (sb *superBlock) storeGroup(n uint32) error {
	g := &sb.w.groups[n]
	if sb.csum {
		if b := sb.w.tx.bufs[g.desc.BlockBitmap]; b != nil {
			g.desc.BlockBitmapCsum = sb.bitmapSum(b.Data(), sb.s.BlocksPerGroup)
		}
		if b := sb.w.tx.bufs[g.desc.InodeBitmap]; b != nil {
			g.desc.InodeBitmapCsum = sb.bitmapSum(b.Data(), sb.s.InodesPerGroup)
		}
	}
	b, err := sb.cache.Get(sb.descBlock(n / sb.perBlock))
	if err != nil {
		return err
	}
	defer b.Release()
	raw := b.Data()[int(n%sb.perBlock)*sb.descSize:][:sb.descSize]
	g.desc.Encode(raw)
	if sum, ok := sb.s.GroupChecksum(n, raw); ok {
		g.desc.Checksum = sum
		g.desc.Encode(raw)
	}
	sb.dirtyBuf(b)
	return nil
}
