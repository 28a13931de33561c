package ext4

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const fitrim = 0xc0185879 // FITRIM (linux/fs.h): struct fstrim_range

// ioctlTrim tells the device of all free blocks of a range (fstrim(8)).
func (sb *superBlock) ioctlTrim(c vfs.Caller, arg uint64) error {
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	le := binary.LittleEndian
	var b [24]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	start, length, least := le.Uint64(b[:])>>sb.blockBits, le.Uint64(b[8:])>>sb.blockBits, le.Uint64(b[16:])>>sb.blockBits
	if start >= sb.s.BlocksCount || length == 0 || least > uint64(sb.s.BlocksPerGroup) {
		return unix.EINVAL
	}
	end := sb.s.BlocksCount
	if length < end-start {
		end = start + length
	}
	total := uint64(0)
	for g := range sb.groups {
		first := sb.groupFirst(g)
		if first >= end || first+uint64(sb.groupBlocks(g)) <= start {
			continue
		}
		n, err := sb.trimGroup(g, start, end, max(least, 1))
		total += n
		if err != nil {
			return err
		}
	}
	le.PutUint64(b[8:], total<<sb.blockBits)
	return uio.WriteFull(c.Mem(), b[:], arg)
}

// trimGroup discards the free runs of a group that lie between start and end and have at least so many blocks. Nothing is
// allocated meanwhile.
func (sb *superBlock) trimGroup(gn uint32, start, end, least uint64) (total uint64, err error) {
	if err := sb.begin(); err != nil {
		return 0, err
	}
	defer sb.end()
	g := &sb.w.groups[gn]
	if g.bad || g.desc.FreeBlocks == g.nheld {
		return 0, nil
	}
	b, err := sb.bitmap(gn, false)
	if err != nil {
		return 0, err
	}
	defer b.Release()
	size := sb.groupBlocks(gn)
	for at := uint32(0); at < size; {
		first, n := g.findRun(b.Data(), at, size, size, 1)
		if n == 0 {
			break
		}
		at = first + n
		from := max(sb.groupFirst(gn)+uint64(first), start)
		to := min(sb.groupFirst(gn)+uint64(at), end)
		if to <= from || to-from < least {
			continue
		}
		if err := sb.dev.Discard(int64(from)<<sb.blockBits, int64(to-from)<<sb.blockBits); err != nil {
			return total, err
		}
		total += to - from
	}
	return total, nil
}

// discardFreed tells the device of blocks whose freeing is durable (mount option discard). The caller holds w.mu, so that
// nobody gets them before.
func (sb *superBlock) discardFreed(freed []run) {
	if !sb.opts.Load().discard {
		return
	}
	for _, r := range freed {
		if err := sb.dev.Discard(int64(r.start)<<sb.blockBits, int64(r.n)<<sb.blockBits); err != nil {
			return // it was only a hint
		}
	}
}

// ioctlSetLabel is FS_IOC_SETFSLABEL (tune2fs -L, e2label).
func (sb *superBlock) ioctlSetLabel(c vfs.Caller, arg uint64) error {
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	var b [256]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	var label [len(sb.s.VolumeName)]byte
	n := bytes.IndexByte(b[:len(label)+1], 0)
	if n < 0 {
		return unix.EINVAL
	}
	copy(label[:], b[:n])
	if err := sb.begin(); err != nil {
		return err
	}
	sb.s.VolumeName = label
	sb.markGroup(0) // so that the superblock is written
	sb.end()
	return sb.commit(true)
}
