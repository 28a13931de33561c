package cred

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// FileCaps are the capabilities of a program file (capabilities(7), "File capabilities").
type FileCaps struct {
	Permitted, Inheritable CapSet
	// Effective: the program gets what it is permitted as its effective set at once.
	Effective bool
}

// ParseFileCaps decodes the attribute security.capability (struct vfs_cap_data of linux/capability.h). ENODATA if it is for
// another user name space than the only one, EINVAL if it is malformed.
func ParseFileCaps(v []byte) (FileCaps, error) {
	const (
		revisionMask = 0xff000000
		revision1    = 0x01000000 // 32 capabilities
		revision2    = 0x02000000 // 64
		revision3    = 0x03000000 // 64, and the user id of root in the name space that it is for
		effective    = 1
	)
	if len(v) < 4 {
		return FileCaps{}, unix.EINVAL
	}
	le := binary.LittleEndian
	magic := le.Uint32(v)
	size := map[uint32]int{revision1: 12, revision2: 20, revision3: 24}[magic&revisionMask]
	if size == 0 || len(v) != size {
		return FileCaps{}, unix.EINVAL
	}
	if size == 24 && le.Uint32(v[20:]) != 0 {
		return FileCaps{}, unix.ENODATA
	}
	c := FileCaps{Effective: magic&effective != 0, Permitted: CapSet(le.Uint32(v[4:])), Inheritable: CapSet(le.Uint32(v[8:]))}
	if size > 12 {
		c.Permitted |= CapSet(le.Uint32(v[12:])) << 32
		c.Inheritable |= CapSet(le.Uint32(v[16:])) << 32
	}
	c.Permitted &= AllCaps
	c.Inheritable &= AllCaps
	return c, nil
}
