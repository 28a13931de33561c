package ext4

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Values of attributes in inodes of their own (feature ea_inode), for those that fit nowhere else. Such an inode has no name;
// it counts the attributes that refer to it in its version and ctime, and has the checksum of the value as atime.

// newEAInode makes the inode for a value. The caller holds w.mu and in.mu.
func (in *inode) newEAInode(value []byte) (*inode, error) {
	sb := in.sb
	k, err := sb.newInode(nil, in, unix.S_IFREG|0o600)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.raw.Flags = k.raw.Flags&disk.InodeExtents | disk.InodeEAInode
	k.raw.Version = 1 // references
	k.update(func(a *vfs.Attr) {
		a.Nlink, a.UID, a.GID, a.Size = 1, in.attr.UID, in.attr.GID, int64(len(value))
		a.Atime, a.Ctime = unix.Timespec{Sec: int64(disk.CRC32C(sb.seed, value))}, unix.Timespec{}
	})
	for at := 0; at < len(value) && err == nil; {
		var phys uint64
		var n uint32
		left := in.blocksFor(int64(len(value) - at))
		if phys, n, err = k.allocAt(uint64(at)>>sb.blockBits, uint32(left), true, false); err != nil {
			break
		}
		p := make([]byte, int(n)<<sb.blockBits)
		at += copy(p, value[at:])
		err = sb.writeData(p, int64(phys)<<sb.blockBits)
	}
	if err != nil {
		k.undo()
		return nil, err
	}
	return k, nil
}

// isValue reports whether the inode is an attribute's value.
func (in *inode) isValue() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.raw.Flags&disk.InodeEAInode != 0
}

// eaHash is the hash of an entry whose value is in the inode.
func (in *inode) eaHash(name string) uint32 {
	sum := binary.LittleEndian.AppendUint32(nil, uint32(in.Attr().Atime.Sec))
	return xattrHash(&xattr{name: name, value: sum})
}

// eaBlocks is what the values of a list that are in inodes count as blocks of the inode that has the attributes.
func eaBlocks(in *inode, list []xattr) (n int) {
	for _, x := range list {
		if x.ea != 0 {
			n += int(in.blocksFor(int64(x.eaSize)))
		}
	}
	return n
}

// addEARefs counts delta references more to the values of a list that are in inodes. An inode with none is returned: it is on
// the list of orphans, and the caller evicts it after the change. The caller holds w.mu.
func (sb *superBlock) addEARefs(list []xattr, delta int64) (unused []*inode, err error) {
	for _, x := range list {
		if x.ea == 0 {
			continue
		}
		ea, err := sb.iget(x.ea, false)
		if err != nil {
			return unused, err
		}
		ea.mu.Lock()
		if ea.raw.Flags&disk.InodeEAInode == 0 || !ea.attr.IsRegular() {
			ea.mu.Unlock()
			return unused, sb.errorf(errCorrupt, "inode #%d: not an inode of an attribute's value", x.ea)
		}
		refs := int64(uint64(ea.attr.Ctime.Sec)<<32|ea.raw.Version&(1<<32-1)) + delta
		if refs < 0 {
			ea.mu.Unlock()
			return unused, sb.errorf(errCorrupt, "inode #%d: wrong number of references", x.ea)
		}
		ea.raw.Version = uint64(refs) & (1<<32 - 1)
		ea.update(func(a *vfs.Attr) { a.Ctime = unix.Timespec{Sec: refs >> 32} })
		ea.markDirty(false)
		if refs == 0 {
			ea.setLinks(0)
			sb.addOrphan(ea)
			unused = append(unused, ea)
		}
		ea.mu.Unlock()
	}
	return unused, nil
}

// evictAll evicts inodes that addEARefs has found unused.
func evictAll(list []*inode) {
	for _, in := range list {
		_ = in.evict() // what cannot be freed now stays on the list of orphans
	}
}
