package bdev

import (
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// SectorSize is the unit of alignment and of sector counts.
const SectorSize = 512

// Device is a random access block device. Offsets and lengths are multiples of SectorSize and lie within Size; Node checks
// that for its users. Reads and writes are all or nothing: a short count comes with an error. Errors are bare unix.Errno:
// EIO, ENOSPC, EROFS, EOPNOTSUPP. All methods may be called concurrently.
type Device interface {
	// Name is for log messages ("ubda").
	Name() string
	// Size is in bytes, a multiple of SectorSize.
	Size() int64
	ReadOnly() bool
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Flush makes all completed writes durable.
	Flush() error
	// Discard says that a range's content is no longer needed; it may read as anything after that, but
	// zeroes stay zeroes. EOPNOTSUPP.
	Discard(off, n int64) error
	// WriteZeroes makes a range read as zeroes.
	WriteZeroes(off, n int64) error
}

// Viewer is a Device whose bytes are mapped into the kernel's memory.
type Viewer interface {
	// View returns memory that holds the n bytes at off, or nil if there is none. The memory follows writes to the
	// device. It may fault when the image is cut or the host cannot read it, and touching it may wait for the host's
	// disk: hand it to a host call, never touch it from Go.
	View(off, n int64) []byte
}

// Storer is a Device with bytes that can be changed in the kernel's memory.
type Storer interface {
	// Store calls fill with memory that holds the n bytes at off, which need not be whole sectors: what is copied there is
	// written. The same is true of the memory as of View's. It returns false if WriteAt is better.
	Store(off, n int64, fill func(p []byte)) bool
}

// Mapper is a Device whose bytes are pages of host files.
type Mapper interface {
	// HostRange says where the bytes at off are now: for the first length bytes of n. length is 0 if they are in no host
	// file. What is written there later may go to another place.
	HostRange(off, n int64) (h *platform.HostFile, hostOff, length int64)
}

// PageMapper is a Device whose bytes are pages of host files while it is written, too: its block special file can be mapped.
type PageMapper interface {
	// HostPages says where the pages from off on are, which is a multiple of the page size: the first length bytes of n,
	// which may be less than there are, in h at hostOff, both whole pages but for the device's end. h is nil if they are in
	// no host file. shared asks for pages that are the device's bytes from now on, whoever writes to either; else they
	// hold what the device has now.
	HostPages(off, n int64, shared bool) (h *platform.HostFile, hostOff, length int64, err error)
}

// MapCounter is a PageMapper that hands out the pages of something else, if that has some, and tells it what is mapped.
type MapCounter interface {
	CanMap() bool
	// Mapped is vfs.Mapping's.
	Mapped(delta int, write bool)
}

// Limits describe what a device likes; drivers may implement Limiter, others get DefaultLimits.
type Limits struct {
	DiscardGranularity, DiscardMax int64
	PhysicalBlock                  int
	Rotational                     bool
	WriteCache                     bool
}

// Limiter is a Device that tells its Limits.
type Limiter interface{ Limits() Limits }

// LimitsOf returns a device's limits.
func LimitsOf(d Device) Limits {
	if l, ok := d.(Limiter); ok {
		return l.Limits()
	}
	return Limits{PhysicalBlock: SectorSize, WriteCache: true}
}
