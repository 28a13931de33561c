package loop

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// device is a loop device.
type device struct {
	index int
	disk  *bdev.Disk

	// ctl is held while the device is bound, unbound or changed.
	ctl sync.Mutex

	mu sync.RWMutex
	// +checklocks:mu
	b *binding // nil if there is no file

	mapped atomic.Int64 // mappings of the special file
}

// binding is what a device is bound to. It is immutable, apart from flags, and replaced as a whole.
type binding struct {
	file          *vfs.File
	path          string // as the file was opened
	offset, limit int64  // limit is 0 for the whole file
	name, crypt   [nameSize]byte
	readOnly      bool
	flags         atomic.Uint32
	users         sync.WaitGroup
	pages         vfs.Mapping // of the file; nil if it cannot be mapped, or the device does not begin at a page
}

func newDevice(index int) (*device, error) {
	d := &device{index: index}
	d.disk = &bdev.Disk{Dev: d, Index: index, Major: major, Minors: 1, Name: fmt.Sprintf("loop%d", index), Path: "virtual/block", NoPartitions: true}
	return d, bdev.Register(d.disk)
}

// get returns the binding, held until its users are told.
func (d *device) get() *binding {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.b != nil {
		d.b.users.Add(1)
	}
	return d.b
}

// peek returns the binding for who only looks at it.
func (d *device) peek() *binding {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.b
}

// Name, Size and ReadOnly are bdev.Device's.
func (d *device) Name() string { return d.disk.Name }

// Size is what the file has room for, in whole sectors.
func (d *device) Size() int64 {
	b := d.get()
	if b == nil {
		return 0
	}
	defer b.users.Done()
	size := fileSize(b.file) - b.offset
	if b.limit > 0 {
		size = min(size, b.limit)
	}
	return max(size, 0) &^ (bdev.SectorSize - 1)
}

// fileSize is the size of a regular file or block device.
func fileSize(f *vfs.File) int64 {
	a := f.Inode.Attr()
	if a.Mode&unix.S_IFMT == unix.S_IFBLK {
		if n := bdev.ByRdev(a.Rdev); n != nil {
			return n.Size()
		}
		return 0
	}
	return a.Size
}

// PartScan is bdev.PartScanner's.
func (d *device) PartScan() bool {
	b := d.peek()
	return b != nil && b.flags.Load()&flagPartscan != 0
}

func (d *device) ReadOnly() bool {
	b := d.peek()
	return b != nil && b.readOnly
}

// ReadAt is bdev.Device's. What lies beyond the end of the file is zero: it may have been cut.
func (d *device) ReadAt(p []byte, off int64) (int, error) {
	b := d.get()
	if b == nil {
		return 0, unix.EIO
	}
	defer b.users.Done()
	for at := 0; at < len(p); {
		n, err := vfs.Pread(kernel, b.file, uio.ToBytes(p[at:]), b.offset+off+int64(at))
		if err != nil {
			return 0, unix.EIO
		}
		if n == 0 {
			clear(p[at:])
			break
		}
		at += n
	}
	return len(p), nil
}

// WriteAt is bdev.Device's.
func (d *device) WriteAt(p []byte, off int64) (int, error) {
	b := d.get()
	if b == nil {
		return 0, unix.EIO
	}
	defer b.users.Done()
	if b.readOnly {
		return 0, unix.EROFS
	}
	for at := 0; at < len(p); {
		n, err := vfs.Pwrite(kernel, b.file, uio.FromBytes(p[at:]), b.offset+off+int64(at))
		if err != nil || n == 0 {
			return 0, guestError(err)
		}
		at += n
	}
	return len(p), nil
}

func guestError(err error) error {
	switch err {
	case unix.ENOSPC, unix.EDQUOT:
		return unix.ENOSPC
	}
	return unix.EIO
}

// Flush is bdev.Device's.
func (d *device) Flush() error {
	b := d.get()
	if b == nil {
		return nil
	}
	defer b.users.Done()
	if b.readOnly {
		return nil
	}
	if err := vfs.Fsync(kernel, b.file, true); err != nil && err != unix.EINVAL {
		return unix.EIO
	}
	return nil
}

// Discard makes a hole in the file.
func (d *device) Discard(off, n int64) error {
	return d.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (d *device) fallocate(mode uint32, off, n int64) error {
	b := d.get()
	if b == nil {
		return unix.EIO
	}
	defer b.users.Done()
	if b.readOnly {
		return unix.EROFS
	}
	if n == 0 {
		return nil
	}
	switch err := vfs.Fallocate(kernel, b.file, mode, b.offset+off, n); err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENODEV, unix.EINVAL:
		return unix.EOPNOTSUPP
	default:
		return guestError(err)
	}
}

// WriteZeroes is bdev.Device's.
func (d *device) WriteZeroes(off, n int64) error {
	err := d.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err != unix.EOPNOTSUPP {
		return err
	}
	zero := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, int64(len(zero)))
		if _, err := d.WriteAt(zero[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Limits are those of a file.
func (d *device) Limits() bdev.Limits {
	return bdev.Limits{PhysicalBlock: bdev.SectorSize, WriteCache: true, DiscardGranularity: 4096, DiscardMax: 1<<32 - bdev.SectorSize}
}

// findPages sets pages.
func (b *binding) findPages() {
	if m, ok := b.file.Ops.(vfs.Mappable); ok && b.offset%abi.PageSize == 0 {
		if x, err := m.Mapping(kernel, b.file, true, !b.readOnly); err == nil {
			b.pages = x
		}
	}
}

// CanMap is bdev.MapCounter's.
func (d *device) CanMap() bool {
	b := d.peek()
	return b != nil && b.pages != nil
}

// Mapped is bdev.MapCounter's. Who has a mapping has the device open, so that it stays bound to the file.
func (d *device) Mapped(delta int, write bool) {
	d.mapped.Add(int64(delta))
	if b := d.peek(); b != nil && b.pages != nil {
		b.pages.Mapped(delta, write)
	}
}

// HostPages is bdev.PageMapper's: they are the file's.
func (d *device) HostPages(off, n int64, shared bool) (h *platform.HostFile, hostOff, length int64, err error) {
	b := d.get()
	if b == nil {
		return nil, 0, 0, nil
	}
	defer b.users.Done()
	if b.pages == nil {
		return nil, 0, 0, nil
	}
	at := uint64(b.offset + off)
	x, err := b.pages.Extents(at, uint64(n), shared, shared && !b.readOnly)
	if err != nil || len(x) == 0 || x[0].Off != at {
		return nil, 0, 0, err
	}
	return x[0].Host, int64(x[0].HostOff), int64(min(x[0].Len, uint64(n))), nil
}

// LastClose unbinds a device that was to go with its last user.
func (d *device) LastClose() {
	if b := d.peek(); b == nil || b.flags.Load()&flagAutoclear == 0 {
		return
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if b := d.peek(); b != nil && b.flags.Load()&flagAutoclear != 0 && d.disk.Opens() == 0 {
		d.unbind()
	}
}

// unbind takes the file away. The caller holds ctl, and nobody has the device open.
func (d *device) unbind() {
	d.mu.Lock()
	b := d.b
	d.b = nil
	d.mu.Unlock()
	if b == nil {
		return
	}
	b.users.Wait()
	b.file.DecRef()
	d.disk.Resized()
	if len(d.disk.Nodes()) > 1 {
		_ = d.disk.Rescan() // nothing is found: the partitions go
	}
}

// replace puts another binding to the same file, or another one, in the place of the present one.
func (d *device) replace(b *binding) {
	b.findPages()
	d.mu.Lock()
	old := d.b
	d.b = b
	d.mu.Unlock()
	if old != nil {
		old.users.Wait()
		if old.file != b.file {
			old.file.DecRef()
		}
	}
	d.disk.Resized()
	if b.flags.Load()&flagPartscan != 0 {
		_ = d.disk.Rescan()
	}
}

// caller does what a device needs of its file: as root, and without limits.
type caller struct{ cred *cred.Cred }

var kernel = &caller{cred.Root()}

// Sleep never waits: regular files do not make their readers sleep.
func (*caller) Sleep(int64) error  { return unix.EINTR }
func (*caller) Wake()              {}
func (c *caller) Cred() *cred.Cred { return c.cred }
func (*caller) Mem() uio.Memory    { return nil }
func (*caller) FS() *vfs.FSContext { return nil }
func (*caller) PID() int32         { return 0 }
func (*caller) Rlimit(int) uint64  { return unix.RLIM_INFINITY }
func (*caller) Signal(unix.Signal) {}
