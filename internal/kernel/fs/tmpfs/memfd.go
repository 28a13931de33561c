package tmpfs

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// internal is the instance that files without a name in any tree belong to.
var internal = sync.OnceValue(func() *superBlock { return newSuper(Type, options{mode: 0o1777}, false) })

// Flags of memfd_create(2) that x/sys may not have.
const (
	mfdNoexecSeal = 0x8
	mfdExec       = 0x10

	memfdNameMax = 249
)

// ValidMemfdFlags reports whether memfd_create(2) knows the flags.
func ValidMemfdFlags(flags uint32) bool {
	return flags&^(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|mfdNoexecSeal|mfdExec) == 0 &&
		flags&(mfdNoexecSeal|mfdExec) != mfdNoexecSeal|mfdExec
}

// NewMemfd is memfd_create(2): the file is open for reading and writing. Flags are MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL and
// MFD_EXEC; MFD_CLOEXEC is the caller's.
func NewMemfd(c vfs.Caller, name string, flags uint32) (*vfs.File, error) {
	if !ValidMemfdFlags(flags) || len(name) > memfdNameMax {
		return nil, unix.EINVAL
	}
	mode := uint32(unix.S_IFREG | 0o777)
	seals := uint32(unix.F_SEAL_SEAL)
	switch {
	case flags&mfdNoexecSeal != 0:
		mode, seals = unix.S_IFREG|0o666, unix.F_SEAL_EXEC
	case flags&unix.MFD_ALLOW_SEALING != 0:
		seals = 0
	}
	return newAnon(c, "/memfd:"+name+" (deleted)", mode, seals)
}

// NewShared makes the file behind shared anonymous memory ("/dev/zero (deleted)") or a System V segment
// ("/SYSV00000000 (deleted)").
func NewShared(c vfs.Caller, name string, size int64) (*vfs.File, error) {
	f, err := newAnon(c, name, unix.S_IFREG|0o777, unix.F_SEAL_SEAL)
	if err != nil {
		return nil, err
	}
	in := f.Inode.(*inode)
	in.mu.Lock()
	err = in.truncate(size)
	in.mu.Unlock()
	if err != nil {
		f.DecRef()
		return nil, err
	}
	return f, nil
}

func newAnon(c vfs.Caller, name string, mode, seals uint32) (*vfs.File, error) {
	cr := c.Cred()
	in := internal().newInode(mode, cr.FSUID, cr.FSGID)
	in.data.anon = true
	in.data.seals = seals
	return vfs.NewAnonFileAt(name, in, in.openData(), unix.O_RDWR|oLargefile), nil
}

// oLargefile is O_LARGEFILE as F_GETFL shows it.
const oLargefile = 0o100000
