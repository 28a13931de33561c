package pseudo

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// Limits of the attributes of one node, as kernfs has them for user attributes.
const (
	maxXattrs     = 128
	maxXattrBytes = 128 << 10
)

// Xattrs are extended attributes of a node that can have them, in memory, which is charged to kmem. The zero value is empty; the
// owner's methods of vfs.Inode call these, and Clear when the node goes.
type Xattrs struct {
	mu    sync.Mutex
	m     map[string][]byte
	bytes int
}

func keepsXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.")
}

// Get returns a copy: ENODATA, EOPNOTSUPP.
func (x *Xattrs) Get(name string) ([]byte, error) {
	if !keepsXattr(name) {
		return nil, unix.EOPNOTSUPP
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	v, ok := x.m[name]
	if !ok {
		return nil, unix.ENODATA
	}
	return slices.Clone(v), nil
}

// Set sets one, as setxattr(2) says; ENOSPC if there are too many, ENOMEM if the kernel may not hold more.
func (x *Xattrs) Set(name string, value []byte, flags int) error {
	if !keepsXattr(name) {
		return unix.EOPNOTSUPP
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	old, ok := x.m[name]
	switch {
	case ok && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !ok && flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	case !ok && len(x.m) >= maxXattrs, x.bytes+len(value)-len(old) > maxXattrBytes:
		return unix.ENOSPC
	case len(value) > len(old) && !kmem.Take(len(value)-len(old)):
		return unix.ENOMEM
	}
	kmem.Add(min(len(value)-len(old), 0))
	if x.m == nil {
		x.m = map[string][]byte{}
	}
	x.m[name] = slices.Clone(value)
	x.bytes += len(value) - len(old)
	return nil
}

// List is their names.
func (x *Xattrs) List() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Sorted(maps.Keys(x.m))
}

// Remove removes one: ENODATA, EOPNOTSUPP.
func (x *Xattrs) Remove(name string) error {
	if !keepsXattr(name) {
		return unix.EOPNOTSUPP
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	v, ok := x.m[name]
	if !ok {
		return unix.ENODATA
	}
	x.bytes -= len(v)
	kmem.Add(-len(v))
	delete(x.m, name)
	return nil
}

// Clear removes all.
func (x *Xattrs) Clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	kmem.Add(-x.bytes)
	x.m, x.bytes = nil, 0
}
