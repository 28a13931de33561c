package vfs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// anonSupers has the vfs's side of file systems that are mounted nowhere (pipefs, sockfs, anon_inodefs).
var anonSupers sync.Map // SuperBlock to *super

// NewAnonFileAt makes an open file of an inode that has no place in a tree. name is what /proc/<pid>/fd shows
// ("pipe:[123]", "anon_inode:[eventfd]").
func NewAnonFileAt(name string, in Inode, ops FileOps, flags uint32) *File {
	sb := in.Super()
	s, ok := anonSupers.Load(sb)
	if !ok {
		s, _ = anonSupers.LoadOrStore(sb, &super{sb: sb, mounts: 1, uncached: true})
	}
	d := &Dentry{sb: s.(*super), inode: in, name: name, typ: in.Attr().Mode & unix.S_IFMT}
	d.refs.Store(1)
	d.parent.Store(d)
	d.state.Store(dUncached | dUnhashed)
	return NewFile(Path{Dentry: d}, in, ops, flags)
}
