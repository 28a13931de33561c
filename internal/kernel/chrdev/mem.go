package chrdev

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// The memory devices: major 1 (Documentation/admin-guide/devices.txt).
const (
	Major        = 1
	NullMinor    = 3
	ZeroMinor    = 5
	FullMinor    = 7
	RandomMinor  = 8
	URandomMinor = 9
	KmsgMinor    = 11
)

// maxIO bounds one read or write, as MAX_RW_COUNT does.
const maxIO = 0x7ffff000

// Init registers the devices.
func Init() {
	vfs.RegisterChrdev(Major, 0, 256, "mem", open)
	initMisc()
}

func open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	switch unix.Minor(f.Inode.Attr().Rdev) {
	case NullMinor:
		return null{}, nil
	case ZeroMinor:
		return zero{}, nil
	case FullMinor:
		return full{}, nil
	case RandomMinor, URandomMinor:
		return random{}, nil
	case KmsgMinor:
		return openKmsg(c, f)
	}
	return nil, unix.ENXIO
}

// rewound is the lseek of devices where every position is the beginning.
type rewound struct{ vfs.FileBase }

// Seek always lands at 0.
func (rewound) Seek(vfs.Caller, *vfs.File, int64, int) (int64, error) { return 0, nil }

// swallow takes all bytes of a write without looking at them.
func swallow(src *uio.Src) (int, error) {
	n := min(src.Len(), maxIO)
	src.Skip(n)
	return n, nil
}

// null is /dev/null.
type null struct{ rewound }

func (null) Read(vfs.Caller, *vfs.File, *uio.Dst, int64) (int, error) { return 0, nil }
func (null) Write(_ vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	return swallow(src)
}

// zero is /dev/zero.
type zero struct{ rewound }

// MapsAnonymous: a private mapping of /dev/zero is anonymous memory.
func (zero) MapsAnonymous() {}

func (zero) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	return readZeroes(dst)
}
func (zero) Write(_ vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	return swallow(src)
}

// IsZero tells whether ops are of /dev/zero, which mmap(2) treats as anonymous memory.
func IsZero(ops vfs.FileOps) bool {
	_, ok := ops.(zero)
	return ok
}

func readZeroes(dst *uio.Dst) (int, error) {
	n, err := dst.Zero(min(dst.Len(), maxIO))
	if n > 0 {
		err = nil
	}
	return n, err
}

// full is /dev/full: a disk without space.
type full struct{ rewound }

func (full) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	return readZeroes(dst)
}
func (full) Write(vfs.Caller, *vfs.File, *uio.Src, int64) (int, error) { return 0, unix.ENOSPC }
