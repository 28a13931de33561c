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
