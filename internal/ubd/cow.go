package ubd

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// cow is a disk that is a COW file over a backing file. Sectors are written to the COW file only, and the bitmap in the
// file is never ahead of the data: a bit is written once the data that it stands for is durable, so that whatever a power
// cut leaves of the host's file is the old sector or the new one, and not a hole. Until then the bit is in memory only; a
// flush writes it, and so does a timer, so that a killed kernel has lost no more than a disk with a write cache would.
type cow struct {
	name    string
	h       *header
	file    *hostImage
	io      storage // file, for its content
	backing *hostImage
	ro      bool
	through bool // O_SYNC: what is written is durable
	noPunch bool // flag t

	// flushMu serialises flushes; it comes before mu.
	flushMu sync.Mutex
	// +checklocks:flushMu
	closed bool
	// late is the error of a flush by the timer, which nobody waited for: the next one returns it.
	// +checklocks:flushMu
	late error

	// upMu is held for reading while sectors are written, and for writing while others are copied from the backing file. It
	// comes before mu.
	upMu sync.RWMutex

	// mu guards the bitmap in memory.
	mu sync.RWMutex
	// +checklocks:mu
	bitmap []byte
	// +checklocks:mu
	ahead map[int64]struct{} // the pieces of the bitmap that are newer than the file
	// +checklocks:mu
	timer *time.Timer
}

// storage is the content of a COW file. Tests have one that remembers what was written and what is durable.
type storage interface {
	readAt(p []byte, off int64) error
	writeAt(p []byte, off int64) error
	sync() error
	fallocate(mode uint32, off, n int64) error
}

// bitmapPiece is the unit in which the bitmap is written, and bitmapDelay how long a piece may stay in memory.
const (
	bitmapPiece = 512
	bitmapDelay = time.Second
)

// openCow opens the pair of a COW file and its backing file. The COW file is made if it does not exist.
func openCow(name string, sp *Spec, backing string) (Device, error) {
	file, err := openImage(sp.File, !sp.ReadOnly, sp.Sync)
	if errors.Is(err, unix.ENOENT) && sp.Backing != "" {
		if sp.ReadOnly {
			return nil, &FileError{sp.File, "the COW file does not exist", "an existing COW file (flag r never makes one)", unix.ENOENT}
		}
		klog.Infof("Creating \"%s\" as COW file for \"%s\"", sp.File, backing)
		if err := createCow(sp.File, backing, false); err != nil {
			return nil, err
		}
		file, err = openImage(sp.File, true, sp.Sync)
	}
	if err != nil {
		return nil, err
	}
	c := &cow{name: name, file: file, io: file, ro: file.ro, through: sp.Sync, noPunch: sp.NoTrim, ahead: map[int64]struct{}{}}
	if err := c.open(sp, backing); err != nil {
		c.ro = true
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *cow) open(sp *Spec, backing string) (err error) {
	if c.h, err = readHeader(c.file); err != nil {
		return err
	}
	if c.h == nil {
		return &FileError{sp.File, "it is no COW file", "a COW file for " + backing, unix.EINVAL}
	}
	path := backing
	if sp.Backing == "" {
		path = c.backingPath()
	}
	if c.backing, err = openImage(path, false, false); err != nil {
		return err
	}
	if err := c.check(sp.File); err != nil {
		return err
	}
	for _, im := range []*hostImage{c.file, c.backing} {
		if err := lockImage(im, sp.Shared); err != nil {
			return err
		}
	}
	if !c.ro && (c.h.sectorSize != bdev.SectorSize || c.h.bitmapLen*8 < c.Size()/bdev.SectorSize) {
		// Old versions forget the last sectors if their number is no multiple of 8.
		klog.Warnf("%s: %s is a COW file of version %d that cannot hold every sector: it is used read-only", c.name, sp.File, c.h.version)
		c.ro = true
	}
	if err := c.switchBacking(sp); err != nil {
		return err
	}
	if c.h.bitmapLen > max(c.file.size, 1<<20) {
		return &FileError{sp.File, "the bitmap is larger than the file", "a COW file that is whole", unix.EINVAL}
	}
	bitmap := make([]byte, c.h.bitmapLen)
	if err := c.file.readAt(bitmap, c.h.bitmapOff); err != nil {
		return openError(sp.File, err)
	}
	c.mu.Lock()
	c.bitmap = bitmap
	c.mu.Unlock()
	c.file.share()
	c.backing.share()
	return nil
}

// switchBacking writes the name of another backing file, which has passed check, into the header.
func (c *cow) switchBacking(sp *Spec) error {
	if sp.Backing == "" || absolute(sp.Backing) == c.backingPath() {
		return nil
	}
	var a unix.Stat_t
	if unix.Stat(c.backingPath(), &a) == nil && (c.backing.host.ID == platform.FileID{Dev: uint64(a.Dev), Ino: a.Ino}) {
		return nil
	}
	klog.Warnf("Backing file mismatch - \"%s\" requested, \"%s\" specified in COW header of \"%s\"", sp.Backing, c.h.backing, sp.File)
	if c.ro {
		return nil
	}
	name, err := storedName(sp.File, sp.Backing)
	if err != nil {
		return err
	}
	klog.Infof("Switching backing file to '%s'", sp.Backing)
	b, at := c.h.nameField()
	if len(name) >= len(b) {
		return &FileError{sp.File, "the name of the backing file is too long", fmt.Sprintf("at most %d characters", len(b)-1), unix.ENAMETOOLONG}
	}
	copy(b, name)
	if err := c.file.writeAt(b, at); err != nil {
		return openError(sp.File, err)
	}
	c.h.backing = name
	return nil
}

// backingPath is the backing file's name in the header; a relative one counts from the COW file.
func (c *cow) backingPath() string {
	if filepath.IsAbs(c.h.backing) {
		return c.h.backing
	}
	return filepath.Join(filepath.Dir(absolute(c.file.name)), c.h.backing)
}

// check compares the backing file with what it was when the COW file was made.
func (c *cow) check(file string) error {
	var st unix.Stat_t
	if err := unix.Fstat(c.backing.fd, &st); err != nil {
		return openError(c.backing.name, err)
	}
	if c.backing.size != int64(c.h.size) {
		return &FileError{file, fmt.Sprintf("Size mismatch (%d vs %d) of COW header vs backing file", c.h.size, c.backing.size),
			"the unchanged backing file " + c.backing.name, unix.EINVAL}
	}
	if !c.backing.blk && uint32(st.Mtim.Sec) != c.h.mtime {
		return &FileError{file, fmt.Sprintf("mtime mismatch (%d vs %d) of COW header vs backing file", c.h.mtime, st.Mtim.Sec),
			fmt.Sprintf("%s as it was on %s: it was changed since", c.backing.name, time.Unix(int64(c.h.mtime), 0).UTC().Format(time.DateTime)), unix.EINVAL}
	}
	return nil
}

// in reports whether the sector at off is in the COW file, and how many bytes from there on are in the same file.
func (c *cow) in(off, n int64) (inCow bool, length int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ss := int64(c.h.sectorSize)
	s := off / ss
	inCow = hasBit(c.bitmap, s)
	length = ss - off%ss
	for s++; length < n && hasBit(c.bitmap, s) == inCow; s++ {
		length += ss
	}
	return inCow, min(length, n)
}

func hasBit(bitmap []byte, s int64) bool {
	return s/8 < int64(len(bitmap)) && bitmap[s/8]>>(s%8)&1 != 0
}

// Name, Size and ReadOnly are bdev.Device's.
func (c *cow) Name() string { return c.name }

// Size is the backing file's, rounded up to whole sectors.
func (c *cow) Size() int64    { return (int64(c.h.size) + bdev.SectorSize - 1) &^ (bdev.SectorSize - 1) }
func (c *cow) ReadOnly() bool { return c.ro }

// ReadAt is bdev.Device's.
func (c *cow) ReadAt(p []byte, off int64) (int, error) {
	for at := int64(0); at < int64(len(p)); {
		inCow, n := c.in(off+at, int64(len(p))-at)
		var err error
		if inCow {
			err = c.io.readAt(p[at:at+n], c.h.dataOff+off+at)
		} else {
			err = c.backing.readAt(p[at:at+n], off+at)
		}
		if err != nil {
			return 0, err
		}
		at += n
	}
	return len(p), nil
}

// WriteAt is bdev.Device's.
func (c *cow) WriteAt(p []byte, off int64) (int, error) {
	if c.ro {
		return 0, unix.EROFS
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.upMu.RLock()
	defer c.upMu.RUnlock()
	if err := c.io.writeAt(p, c.h.dataOff+off); err != nil {
		return 0, err
	}
	if err := c.mark(off/bdev.SectorSize, (off+int64(len(p)))/bdev.SectorSize); err != nil {
		return 0, err
	}
	return len(p), nil
}

// mark sets the bits of sectors [first, end), whose data has been written.
func (c *cow) mark(first, end int64) error {
	c.mu.RLock()
	all := true
	for s := first; s < end && all; s++ {
		all = hasBit(c.bitmap, s)
	}
	c.mu.RUnlock()
	if all {
		return c.settled()
	}
	c.mu.Lock()
	for s := first; s < end; s++ {
		c.bitmap[s/8] |= 1 << (s % 8)
	}
	for n := first / 8 / bitmapPiece; n <= (end-1)/8/bitmapPiece; n++ {
		c.ahead[n] = struct{}{}
	}
	if c.timer == nil && !c.through {
		c.timer = time.AfterFunc(bitmapDelay, c.flushLate)
	}
	c.mu.Unlock()
	if c.through {
		return c.Flush()
	}
	return nil
}

// settled sees to it, for disks whose writes are durable, that bits which are set in memory are so, too: another write to the
// same sectors may not have come as far.
func (c *cow) settled() error {
	if !c.through {
		return nil
	}
	c.flushMu.Lock() // waits for a flush that is on its way
	c.mu.RLock()
	ahead := len(c.ahead) > 0
	c.mu.RUnlock()
	c.flushMu.Unlock()
	if ahead {
		return c.Flush()
	}
	return nil
}

// flushLate is the timer's. The host tells an error of its disk once, and may have lost what it could not write.
func (c *cow) flushLate() {
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	if err := c.flushLocked(); err != nil {
		klog.Errf("%s: the COW file cannot be written: %v", c.name, err)
		c.late = err
	}
}

// Flush is bdev.Device's: first the data becomes durable, then the bits that say that it is there.
func (c *cow) Flush() error {
	if c.ro {
		return nil
	}
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	err := c.flushLocked()
	if err == nil {
		err = c.late
	}
	c.late = nil
	return err
}

// flushLocked is Flush with flushMu held.
func (c *cow) flushLocked() error {
	if c.closed { // a timer comes late
		return nil
	}
	// Bits that are set from here on stand for data that the sync below may miss.
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	pieces := make(map[int64][]byte, len(c.ahead))
	for n := range c.ahead {
		at := n * bitmapPiece
		pieces[n] = slices.Clone(c.bitmap[at:min(at+bitmapPiece, int64(len(c.bitmap)))])
	}
	clear(c.ahead)
	c.mu.Unlock()
	err := c.io.sync()
	for n, p := range pieces {
		if err == nil {
			err = c.io.writeAt(p, c.h.bitmapOff+n*bitmapPiece)
		}
	}
	if err == nil && len(pieces) > 0 {
		err = c.io.sync()
	}
	if err != nil {
		c.mu.Lock()
		for n := range pieces {
			c.ahead[n] = struct{}{}
		}
		c.mu.Unlock()
	}
	return err
}

// Discard gives back what the COW file has of a range. Sectors of the backing file stay: there is nothing to give back.
func (c *cow) Discard(off, n int64) error {
	if c.noPunch {
		return unix.EOPNOTSUPP
	}
	if c.ro {
		return unix.EROFS
	}
	for n > 0 {
		inCow, k := c.in(off, n)
		if inCow {
			if err := c.io.fallocate(unix.FALLOC_FL_PUNCH_HOLE, c.h.dataOff+off, k); err != nil {
				return err
			}
		}
		off, n = off+k, n-k
	}
	return nil
}

// WriteZeroes makes a hole in the COW file over the range, or writes zeroes if the host cannot do that.
func (c *cow) WriteZeroes(off, n int64) error {
	if c.ro {
		return unix.EROFS
	}
	if n == 0 {
		return nil
	}
	c.upMu.RLock()
	err := c.io.fallocate(unix.FALLOC_FL_PUNCH_HOLE, c.h.dataOff+off, n)
	if err == nil {
		err = c.mark(off/bdev.SectorSize, (off+n)/bdev.SectorSize)
	}
	c.upMu.RUnlock()
	if err == nil {
		return nil
	}
	zero := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, int64(len(zero)))
		if _, err := c.WriteAt(zero[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Limits are those of UML's disks.
func (c *cow) Limits() bdev.Limits { return limits(!c.noPunch && !c.ro) }

// View is bdev.Viewer's for ranges that are wholly in one of the files.
func (c *cow) View(off, n int64) []byte {
	if off < 0 || n < 0 || off > c.Size() || n > c.Size()-off {
		return nil
	}
	inCow, k := c.in(off, n)
	switch {
	case k < n:
		return nil
	case inCow:
		return c.file.viewOf(c.h.dataOff+off, n)
	}
	return c.backing.viewOf(off, n)
}

// Store is bdev.Storer's for ranges that are wholly in the COW file.
func (c *cow) Store(off, n int64, fill func(p []byte)) bool {
	if off < 0 || n < 0 || off > c.Size() || n > c.Size()-off {
		return false
	}
	if inCow, k := c.in(off, n); !inCow || k < n {
		return false
	}
	return c.file.hot.store(c.h.dataOff+off, n, fill)
}

// HostRange is bdev.Mapper's: what lies in the backing file moves to the COW file when it is written.
func (c *cow) HostRange(off, n int64) (h *platform.HostFile, hostOff, length int64) {
	inCow, k := c.in(off, n)
	if inCow {
		return c.file.pagesOf(c.file.host, c.h.dataOff+off, k)
	}
	return c.backing.pagesOf(c.backing.host, off, k)
}

// mapOnce bounds what is copied from the backing file for one request of HostPages.
const mapOnce = 1 << 20

// HostPages is bdev.PageMapper's. Shared pages of a disk that can be written are the COW file's, to which they are copied
// first; else they lie where their sectors are.
func (c *cow) HostPages(off, n int64, shared bool) (h *platform.HostFile, hostOff, length int64, err error) {
	left := c.Size() - off
	if left <= 0 {
		return nil, 0, 0, nil
	}
	inCow, k := c.in(off, min(n, left))
	mixed := k < pageSize && k < left
	if !c.ro && (shared || mixed) {
		inCow, k = true, min(n, mapOnce)
		if !shared {
			k = pageSize
		}
		if c.h.dataOff%pageSize == 0 {
			err = c.copyUp(off, min(k, left))
		}
	} else if mixed {
		return nil, 0, 0, nil
	}
	if k == left {
		k = (k + pageSize - 1) &^ (pageSize - 1)
	}
	switch {
	case err != nil:
	case !inCow:
		h, hostOff, length = c.backing.pagesOf(c.backing.pages, off, k)
	case c.h.dataOff%pageSize == 0:
		h, hostOff, length = c.file.pagesOf(c.file.pages, c.h.dataOff+off, k)
	}
	return h, hostOff, length, err
}

// copyUp copies those sectors of a range to the COW file that are not there.
func (c *cow) copyUp(off, n int64) error {
	c.upMu.Lock()
	defer c.upMu.Unlock()
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		inCow, k := c.in(off, n)
		if !inCow {
			k = min(k, int64(len(buf)))
			if err := c.backing.readAt(buf[:k], off); err != nil {
				return err
			}
			if err := c.io.writeAt(buf[:k], c.h.dataOff+off); err != nil {
				return err
			}
			if err := c.mark(off/bdev.SectorSize, (off+k)/bdev.SectorSize); err != nil {
				return err
			}
		}
		off, n = off+k, n-k
	}
	return nil
}

// Close writes the rest of the bitmap and closes both files.
func (c *cow) Close() error {
	err := c.Flush()
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	c.closed = true
	for _, im := range []*hostImage{c.file, c.backing} {
		if im != nil {
			im.close()
		}
	}
	return err
}
