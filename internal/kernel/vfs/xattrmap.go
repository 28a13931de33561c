package vfs

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// XattrCost is about what an attribute takes besides its name and value, in bytes.
	XattrCost = 96
	// maxXattrMap bounds the bytes of all attributes of an inode.
	maxXattrMap = 128 << 10
)

// XattrMap is the extended attributes of an inode whose file system has them in memory. The zero value is empty; its owner
// guards it. Charge is called with the bytes that are about to be taken, and with a negative number, for which it does not
// fail, when they are given back.
type XattrMap struct {
	m    map[string][]byte
	size int
	gone bool
}

// PlainXattr reports whether an attribute means nothing to a file system that keeps it: user.*, trusted.*, security.*.
func PlainXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.")
}

// Has reports whether there is an attribute of that name.
func (x *XattrMap) Has(name string) bool { _, ok := x.m[name]; return ok }

// Len is how many there are.
func (x *XattrMap) Len() int { return len(x.m) }

// Get returns a copy of the value: ENODATA.
func (x *XattrMap) Get(name string) ([]byte, error) {
	v, ok := x.m[name]
	if !ok {
		return nil, unix.ENODATA
	}
	return append([]byte{}, v...), nil
}

// Set sets one, as setxattr(2) says: EEXIST, ENODATA, ENOSPC if that would be too much for an inode, ENODEV after Clear, or
// the error of charge.
func (x *XattrMap) Set(name string, value []byte, flags int, charge func(n int) error) error {
	old, ok := x.m[name]
	more := len(value) - len(old)
	if !ok {
		more += len(name) + XattrCost
	}
	switch {
	case x.gone:
		return unix.ENODEV
	case ok && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !ok && flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	case x.size+more > maxXattrMap:
		return unix.ENOSPC
	}
	if err := charge(more); err != nil {
		return err
	}
	x.size += more
	if x.m == nil {
		x.m = make(map[string][]byte)
	}
	x.m[strings.Clone(name)] = append([]byte{}, value...)
	return nil
}

// Remove removes one: ENODATA.
func (x *XattrMap) Remove(name string, charge func(n int) error) error {
	v, ok := x.m[name]
	if !ok {
		return unix.ENODATA
	}
	delete(x.m, name)
	n := len(name) + len(v) + XattrCost
	x.size -= n
	return charge(-n)
}

// List is their names.
func (x *XattrMap) List() []string { return slices.Sorted(maps.Keys(x.m)) }

// Clear removes all, for good: the inode goes, though somebody may still have it open.
func (x *XattrMap) Clear(charge func(n int) error) {
	_ = charge(-x.size)
	*x = XattrMap{gone: true}
}
