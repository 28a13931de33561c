package ubd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// header is the head of a COW file, in any of its versions.
type header struct {
	version    uint32
	broken     bool // version 3 as 64-bit hosts once wrote it
	backing    string
	mtime      uint32
	size       uint64 // of the backing file
	sectorSize uint32
	align      uint32
	bitmapOff  int64
	bitmapLen  int64
	dataOff    int64
}

const (
	cowMagic   = 0x4f4f4f4d
	maxBacking = 4096
	headerMax  = 4136
)

// readHeader reads the header of a COW file. It returns nil if the file is not one.
func readHeader(im *hostImage) (*header, error) {
	b := make([]byte, headerMax)
	if err := im.readAt(b, 0); err != nil {
		return nil, openError(im.name, err)
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, &FileError{im.name, "bad COW header: " + err.Error(), "a COW file of version 1, 2 or 3 (flag d uses the file as it is)", unix.EINVAL}
	}
	return h, nil
}

func decodeHeader(b []byte) (*header, error) {
	be, ne := binary.BigEndian, binary.NativeEndian
	h := &header{}
	var name []byte
	var align, headLen uint64
	switch {
	case ne.Uint32(b) == cowMagic && ne.Uint32(b[4:]) == 1:
		h.version, name, headLen = 1, b[8:264], 280
		h.mtime, h.size, h.sectorSize = ne.Uint32(b[264:]), ne.Uint64(b[268:]), ne.Uint32(b[276:])
	case be.Uint32(b) != cowMagic:
		return nil, nil
	case be.Uint32(b[4:]) == 2:
		h.version, name, headLen = 2, b[8:8+maxBacking], 4120
		h.mtime, h.size, h.sectorSize = be.Uint32(b[4104:]), be.Uint64(b[4108:]), be.Uint32(b[4116:])
	case be.Uint32(b[4:]) == 3:
		at := 0
		h.version, headLen = 3, 4128
		if be.Uint32(b[32:]) == 0 {
			h.broken, at, headLen = true, 4, 4136
		}
		h.mtime = be.Uint32(b[8:])
		h.size, h.sectorSize, align = be.Uint64(b[12+at:]), be.Uint32(b[20+at:]), uint64(be.Uint32(b[24+at:]))
		if f := be.Uint32(b[28+at:]); f != 0 {
			return nil, fmt.Errorf("unknown format %d", f)
		}
		start := 32
		if h.broken {
			start = 40
		}
		name = b[start : start+maxBacking]
	default:
		return nil, fmt.Errorf("unknown version %d", be.Uint32(b[4:]))
	}
	end := bytes.IndexByte(name, 0)
	if end <= 0 {
		return nil, errors.New("no backing file name")
	}
	h.backing = string(name[:end])
	if h.sectorSize == 0 || h.sectorSize%bdev.SectorSize != 0 || h.sectorSize > 1<<20 {
		return nil, fmt.Errorf("bad sector size %d", h.sectorSize)
	}
	if h.size > 1<<62 {
		return nil, fmt.Errorf("bad size %d", h.size)
	}
	h.layout(headLen, align)
	return h, nil
}

// layout computes where bitmap and data are.
func (h *header) layout(headLen, align uint64) {
	ss := uint64(h.sectorSize)
	up := func(n, to uint64) uint64 { return (n + to - 1) / to * to }
	if h.version < 3 {
		h.bitmapOff, h.bitmapLen = int64(headLen), int64((h.size+ss-1)/(8*ss))
		h.dataOff = int64(up(headLen+uint64(h.bitmapLen), ss))
		return
	}
	if align == 0 || align > 1<<30 {
		align = ss
	}
	h.bitmapOff = int64(up(headLen, align))
	h.bitmapLen = int64((up(h.size, ss)/ss + 7) / 8)
	h.dataOff = int64(up(uint64(h.bitmapOff+h.bitmapLen), align))
}

// cow is a disk that is a COW file over a backing file. Sectors are written to the COW file only, first the data, then
// its bit in the bitmap, so that a killed kernel leaves either the old sector or the new one.
type cow struct {
	name    string
	h       *header
	file    *hostImage
	backing *hostImage
	ro      bool

	// mu guards the bitmap, in memory and in the file.
	mu sync.RWMutex
	// +checklocks:mu
	bitmap []byte
}

// openCow opens the pair of a COW file and its backing file. The COW file is made if it does not exist.
func openCow(name string, sp *Spec, backing string) (Device, error) {
	file, err := openImage(sp.File, !sp.ReadOnly, sp.Sync)
	if errors.Is(err, unix.ENOENT) && sp.Backing != "" {
		if sp.ReadOnly {
			return nil, &FileError{sp.File, "the COW file does not exist", "an existing COW file (flag r never makes one)", unix.ENOENT}
		}
		if err := createCow(sp.File, backing); err != nil {
			return nil, err
		}
		file, err = openImage(sp.File, true, sp.Sync)
	}
	if err != nil {
		return nil, err
	}
	c := &cow{name: name, file: file, ro: file.ro}
	if err := c.open(sp, backing); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// createCow makes an empty COW file (version 3).
func createCow(file, backing string) error {
	klog.Infof("Creating \"%s\" as COW file for \"%s\"", file, backing)
	im, err := openImage(backing, false, false)
	if err != nil {
		return err
	}
	defer im.close()
	var st unix.Stat_t
	if err := unix.Fstat(im.fd, &st); err != nil {
		return openError(backing, err)
	}
	h := &header{version: 3, mtime: uint32(st.Mtim.Sec), size: uint64(im.size), sectorSize: bdev.SectorSize, align: cowAlign}
	if h.backing, err = storedName(file, backing); err != nil {
		return err
	}
	h.layout(cowHeaderLen, cowAlign)
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return openError(file, err)
	}
	out := &hostImage{name: file, fd: fd, rofd: -1}
	defer out.close()
	err = out.writeAt(h.encode(), 0)
	if err == nil {
		err = out.writeAt([]byte{0}, h.dataOff+max(int64(h.size)-1, 0))
	}
	if err != nil {
		_ = unix.Unlink(file)
		return &FileError{file, "the COW header cannot be written: " + err.Error(), "a file system with room for the COW file", err}
	}
	return nil
}

// storedName is the absolute name of the backing file as the header keeps it.
func storedName(file, backing string) (string, error) {
	name := absolute(backing)
	if len(name) >= maxBacking {
		return "", &FileError{file, "the name of the backing file is too long", fmt.Sprintf("at most %d characters", maxBacking-1), unix.ENAMETOOLONG}
	}
	return name, nil
}

// Layout of a version 3 header as it is written.
const (
	cowHeaderLen = 4128
	cowAlign     = 4096
)

// encode makes the bytes of a version 3 header.
func (h *header) encode() []byte {
	b, be := make([]byte, cowHeaderLen), binary.BigEndian
	be.PutUint32(b, cowMagic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[8:], h.mtime)
	be.PutUint64(b[12:], h.size)
	be.PutUint32(b[20:], h.sectorSize)
	be.PutUint32(b[24:], h.align)
	copy(b[32:], h.backing)
	return b
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
	if !c.ro && (c.h.version < 3 || c.h.sectorSize != bdev.SectorSize) {
		klog.Warnf("%s: %s is a COW file of version %d: it is used read-only", c.name, sp.File, c.h.version)
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
	b, at := make([]byte, maxBacking), int64(32)
	if c.h.broken {
		at = 40
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
			err = c.file.readAt(p[at:at+n], c.h.dataOff+off+at)
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
	if err := c.file.writeAt(p, c.h.dataOff+off); err != nil {
		return 0, err
	}
	if err := c.mark(off/bdev.SectorSize, (off+int64(len(p)))/bdev.SectorSize); err != nil {
		return 0, err
	}
	return len(p), nil
}

// mark sets the bits of sectors [first, end), in whole words of 8 bytes, in the file and then in memory.
func (c *cow) mark(first, end int64) error {
	c.mu.RLock()
	all := true
	for s := first; s < end && all; s++ {
		all = hasBit(c.bitmap, s)
	}
	c.mu.RUnlock()
	if all {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to := first/64*8, min((end+63)/64*8, int64(len(c.bitmap)))
	words := append([]byte(nil), c.bitmap[from:to]...)
	for s := first; s < end; s++ {
		words[s/8-from] |= 1 << (s % 8)
	}
	if err := c.file.writeAt(words, c.h.bitmapOff+from); err != nil {
		return err
	}
	copy(c.bitmap[from:], words)
	return nil
}

// Flush is bdev.Device's.
func (c *cow) Flush() error {
	if c.ro {
		return nil
	}
	return c.file.sync()
}

// Discard is not supported: what is dropped would show the backing file again.
func (c *cow) Discard(int64, int64) error { return unix.EOPNOTSUPP }

// WriteZeroes writes zeroes.
func (c *cow) WriteZeroes(off, n int64) error {
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

// Limits are those of UML's disks, without discard.
func (c *cow) Limits() bdev.Limits {
	return bdev.Limits{PhysicalBlock: bdev.SectorSize, WriteCache: true}
}

// View is bdev.Viewer's for ranges that are wholly in the backing file.
func (c *cow) View(off, n int64) []byte {
	if off < 0 || n < 0 || off > int64(len(c.backing.view)) || n > int64(len(c.backing.view))-off {
		return nil
	}
	if inCow, k := c.in(off, n); inCow || k < n {
		return nil
	}
	return c.backing.view[off : off+n : off+n]
}

// HostRange is bdev.Mapper's: the backing file's pages cannot change.
func (c *cow) HostRange(off, n int64) (h *platform.HostFile, hostOff, length int64, immutable bool) {
	inCow, k := c.in(off, n)
	if inCow {
		return nil, 0, 0, false
	}
	return c.backing.hostRange(off, k, true)
}

// Close closes both files.
func (c *cow) Close() error {
	for _, im := range []*hostImage{c.file, c.backing} {
		if im != nil {
			im.close()
		}
	}
	return nil
}
