package ext4

import (
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Journalled data: with data=journal, or of a file with the flag j (chattr(1)), the content of a file is written as metadata
// is: to buffers that join the transaction. A crash finds a write of up to maxJournalled bytes wholly or not at all, and
// never a later one without it. Until a checkpoint has written a block to its place, its buffer is newer than the device:
// such buffers are Checked, and what the cache has of such a file's blocks by accident (read-ahead) is not.

// maxJournalled is how many blocks of content one change writes.
const maxJournalled = 32

// journalData reports whether the content of the file goes through the journal. The caller holds in.mu.
func (in *inode) journalData() bool {
	sb := in.sb
	return sb.s.Compat&disk.CompatHasJournal != 0 && in.attr.IsRegular() &&
		(sb.opts.Load().data == dataJournal || in.raw.Flags&disk.InodeJournalData != 0)
}

// readJournalled copies n bytes from byte at of the device, which lie in one run of journalled blocks.
func (sb *superBlock) readJournalled(dst *uio.Dst, at int64, n int) (done int, err error) {
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for done < n {
		pos := at + int64(done)
		inBlock := int(pos & int64(sb.blockSize-1))
		p := (*buf)[:min(n-done, sb.blockSize-inBlock)]
		cached := false
		sb.cache.Peek(uint64(pos)>>sb.blockBits, func(b *bdev.Buffer) {
			if cached = b.Checked.Load(); cached {
				copy(p, b.Data()[inBlock:])
			}
		})
		var k int
		if cached {
			k, err = dst.CopyOut(p)
		} else {
			k, err = sb.readData(dst, pos, len(p))
		}
		done += k
		if err != nil || k < len(p) {
			return done, err
		}
	}
	return done, nil
}

// changeJournalled overwrites a part of a journalled block that the file has. The caller is between begin and end and holds
// in.mu.
func (sb *superBlock) changeJournalled(block uint64, at int, p []byte) error {
	if len(p) == sb.blockSize {
		return sb.newJournalled(block, p)
	}
	cached := false
	sb.cache.Peek(block, func(b *bdev.Buffer) { cached = b.Checked.Load() })
	if !cached {
		sb.cache.Forget(block)
	}
	b, err := sb.cache.Get(block)
	if err != nil {
		return err
	}
	defer b.Release()
	copy(b.Data()[at:], p)
	sb.dirtyBuf(b)
	return nil
}

// newJournalled gives a block new content.
func (sb *superBlock) newJournalled(block uint64, p []byte) error {
	b, err := sb.cache.GetNew(block)
	if err != nil {
		return err
	}
	defer b.Release()
	copy(b.Data(), p)
	sb.dirtyBuf(b)
	return nil
}

// writeJournalled is writeBlocksOf for a file whose data is journalled: the buffers get the pieces.
func (in *inode) writeJournalled(p []byte, pieces []piece) error {
	sb := in.sb
	for _, pc := range pieces {
		block := pc.phys
		for from := pc.from; from < pc.to; block++ {
			at := from & (sb.blockSize - 1)
			to := min(from-at+sb.blockSize, pc.to)
			if err := sb.changeJournalled(block, at, p[from:to]); err != nil {
				return sb.abort(err, "cannot get a block for data")
			}
			from = to
		}
	}
	return nil
}

// setJournalData sets or clears the flag of a file. Whatever the journal has of the file is in its place before the file is
// written in another way.
func (in *inode) setJournalData(on bool) error {
	sb := in.sb
	in.io.Lock()
	defer in.io.Unlock()
	if err := in.flushMemLocked(0, 1<<62); err != nil {
		return err
	}
	w := sb.w
	if err := sb.commit(true); err != nil {
		return err
	}
	w.commitMu.Lock()
	err := sb.checkpoint(nil)
	w.commitMu.Unlock()
	if err != nil {
		return sb.abort(err, "cannot write the journal back")
	}
	return in.change(func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		if err := in.eachBlockRun(func(r run) {
			for b := r.phys; b < r.phys+r.n; b++ {
				sb.cache.Forget(b)
			}
		}); err != nil {
			return err
		}
		in.raw.Flags &^= disk.InodeJournalData
		if on {
			in.raw.Flags |= disk.InodeJournalData
		}
		in.changed()
		return nil
	})
}

// eachBlockRun calls f for all runs with blocks. The caller holds in.mu.
func (in *inode) eachBlockRun(f func(r run)) error {
	if in.inline() || !in.hasMap() {
		return nil
	}
	for b := uint64(0); ; {
		r, err := in.nextRun(b)
		if err != nil || r.kind == hole {
			return err
		}
		f(r)
		b = r.start + r.n
	}
}
