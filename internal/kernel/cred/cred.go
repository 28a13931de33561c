// Package cred has the identity of a guest process: user and group ids and capabilities (credentials(7), capabilities(7)).
//
// A Cred is immutable once shared: change a Copy and install it with the task's SetCred.
package cred

import "slices"

// Cred is one set of credentials.
type Cred struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
	Groups                 []uint32 // supplementary groups, sorted

	Permitted, Effective, Inheritable, Bounding, Ambient CapSet

	Securebits uint32
}

// CapSet is a set of capabilities, bit n is capability n.
type CapSet uint64

// AllCaps is every capability that exists (0..CAP_CHECKPOINT_RESTORE).
const AllCaps CapSet = 1<<41 - 1

// Has reports whether c is in the set.
func (s CapSet) Has(c int) bool { return s>>uint(c)&1 != 0 }

// Root is the identity of the first process: uid 0 with all capabilities.
func Root() *Cred {
	return &Cred{Permitted: AllCaps, Effective: AllCaps, Bounding: AllCaps}
}

// Copy returns a copy that may be changed.
func (c *Cred) Copy() *Cred {
	n := *c
	n.Groups = slices.Clone(c.Groups)
	return &n
}

// Capable reports whether the effective set has capability n (unix.CAP_*).
func (c *Cred) Capable(n int) bool { return c.Effective.Has(n) }

// InGroup reports whether gid is the file system group or a supplementary one.
func (c *Cred) InGroup(gid uint32) bool {
	if c.FSGID == gid {
		return true
	}
	_, ok := slices.BinarySearch(c.Groups, gid)
	return ok
}

// Securebits (capabilities(7)).
const (
	SecbitNoRoot                   = 1 << 0
	SecbitNoSetuidFixup            = 1 << 2
	SecbitKeepCaps                 = 1 << 4
	SecbitNoCapAmbientRaise        = 1 << 6
	SecbitsAll                     = 1<<8 - 1
	SecbitsLocks                   = SecbitNoRoot<<1 | SecbitNoSetuidFixup<<1 | SecbitKeepCaps<<1 | SecbitNoCapAmbientRaise<<1
	fsCaps                  CapSet = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<27 | 1<<32 // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID MKNOD MAC_OVERRIDE
)

// FixCaps changes n's capabilities as a change of user ids from old does (capabilities(7), "Effect of user ID changes").
func FixCaps(old, n *Cred) {
	if old.Securebits&SecbitNoSetuidFixup != 0 {
		return
	}
	hadRoot := old.UID == 0 || old.EUID == 0 || old.SUID == 0
	hasRoot := n.UID == 0 || n.EUID == 0 || n.SUID == 0
	if hadRoot && !hasRoot {
		if n.Securebits&SecbitKeepCaps == 0 {
			n.Permitted, n.Effective = 0, 0
		}
		n.Ambient = 0
	}
	if old.EUID == 0 && n.EUID != 0 {
		n.Effective = 0
	}
	if old.EUID != 0 && n.EUID == 0 {
		n.Effective = n.Permitted
	}
	FixFSCaps(old, n)
}

// FixFSCaps does the same for a change of the file system user id.
func FixFSCaps(old, n *Cred) {
	if old.Securebits&SecbitNoSetuidFixup != 0 {
		return
	}
	if old.FSUID == 0 && n.FSUID != 0 {
		n.Effective &^= fsCaps
	}
	if old.FSUID != 0 && n.FSUID == 0 {
		n.Effective |= n.Permitted & fsCaps
	}
}
