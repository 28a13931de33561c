package ext4

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// xattr is an attribute as it is stored.
type xattr struct {
	index uint8
	name  string
	value []byte
}

func (x *xattr) size() int {
	return (16+len(x.name)+3)&^3 + (len(x.value)+3)&^3
}

// compareXattr is the order that attribute blocks are searched in.
func compareXattr(a, b xattr) int {
	if a.index != b.index {
		return int(a.index) - int(b.index)
	}
	if len(a.name) != len(b.name) {
		return len(a.name) - len(b.name)
	}
	return strings.Compare(a.name, b.name)
}

// splitXattrName finds the index of a name's prefix.
func splitXattrName(name string) (index uint8, rest string, ok bool) {
	for _, i := range [...]uint8{disk.XattrUser, disk.XattrACLAccess, disk.XattrACLDefault, disk.XattrTrusted, disk.XattrSecurity} {
		prefix, whole, _ := disk.XattrPrefix(i)
		if whole && name == prefix {
			return i, "", true
		}
		if !whole && strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return i, name[len(prefix):], true
		}
	}
	return 0, "", false
}

// Setxattr sets an attribute.
func (in *inode) Setxattr(_ vfs.Caller, name string, value []byte, flags int) error {
	index, rest, ok := splitXattrName(name)
	if !ok || in.sb.disabled(name) {
		return unix.EOPNOTSUPP
	}
	if index == disk.XattrACLAccess || index == disk.XattrACLDefault {
		v, err := disk.ACLFromXattr(value)
		if err != nil {
			return unix.EINVAL
		}
		value = v
	}
	return in.editXattr(index, rest, value, true, flags)
}

// Removexattr removes one.
func (in *inode) Removexattr(_ vfs.Caller, name string) error {
	index, rest, ok := splitXattrName(name)
	if !ok {
		return unix.EOPNOTSUPP
	}
	return in.editXattr(index, rest, nil, false, unix.XATTR_REPLACE)
}

// editXattr sets or removes an attribute.
func (in *inode) editXattr(index uint8, name string, value []byte, set bool, flags int) error {
	return in.change(func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.gone {
			return unix.ENOENT
		}
		inner, err := in.innerXattrs()
		if err != nil {
			return err
		}
		outer, err := in.outerXattrs()
		if err != nil {
			return err
		}
		is := func(x xattr) bool { return x.index == index && x.name == name }
		had := slices.ContainsFunc(inner, is) || slices.ContainsFunc(outer, is)
		if had && flags&unix.XATTR_CREATE != 0 {
			return unix.EEXIST
		}
		if !had && flags&unix.XATTR_REPLACE != 0 {
			return unix.ENODATA
		}
		inner, outer = slices.DeleteFunc(inner, is), slices.DeleteFunc(outer, is)
		if set {
			x := xattr{index, name, slices.Clone(value)}
			switch {
			case in.innerRoom()-listSize(inner) >= x.size():
				inner = append(inner, x)
			case in.outerRoom()-listSize(outer) >= x.size():
				outer = append(outer, x)
			default:
				return unix.ENOSPC
			}
		}
		if listSize(inner) > in.roomSize() || listSize(outer) > in.outerRoom() {
			return in.sb.errorf(errCorrupt, "inode #%d: extended attributes overlap", in.ino)
		}
		if err := in.putOuter(outer); err != nil {
			return err
		}
		in.putInner(inner)
		in.changed()
		return nil
	})
}

func listSize(list []xattr) (n int) {
	for i := range list {
		n += list[i].size()
	}
	return n
}

// innerRoom is how many bytes of attributes may be put into the inode, outerRoom how many into a block. roomSize is what the
// inode has: one without extra fields gets no attributes.
func (in *inode) innerRoom() int {
	if in.raw.ExtraIsize < 4 {
		return 0
	}
	return in.roomSize()
}

func (in *inode) roomSize() int {
	return max(in.sb.inodeSize-disk.BaseInodeSize-int(in.raw.ExtraIsize)-8, 0)
}

func (in *inode) outerRoom() int { return in.sb.blockSize - disk.XattrHeaderSize - 4 }

func copyXattr(list *[]xattr, bad *bool) func(x disk.Xattr) bool {
	return func(x disk.Xattr) bool {
		if x.ValueInode != 0 {
			*bad = true
			return false
		}
		*list = append(*list, xattr{x.Index, string(x.Name), slices.Clone(x.Value)})
		return true
	}
}

func (in *inode) innerXattrs() (list []xattr, err error) {
	bad := false
	if in.room != nil {
		if err := disk.InodeXattrs(in.room, copyXattr(&list, &bad)); err != nil {
			return nil, in.sb.damage(err, "inode #%d: in-inode extended attributes", in.ino)
		}
	}
	if bad {
		return nil, unix.EOPNOTSUPP
	}
	return list, nil
}

func (in *inode) outerXattrs() (list []xattr, err error) {
	if in.raw.FileACL == 0 {
		return nil, nil
	}
	bad := false
	b, err := in.xattrBlock()
	if err != nil {
		return nil, err
	}
	defer b.Release()
	if err := disk.BlockXattrs(b.Data(), copyXattr(&list, &bad)); err != nil {
		return nil, in.sb.damage(err, "inode #%d: extended attribute block %d", in.ino, b.Block)
	}
	if bad {
		return nil, unix.EOPNOTSUPP
	}
	return list, nil
}

// editRoom changes the list of attributes in the inode.
func (in *inode) editRoom(f func(list []xattr) []xattr) error {
	list, err := in.innerXattrs()
	if err != nil {
		return err
	}
	if list = f(list); listSize(list) > in.roomSize() {
		return in.sb.errorf(errCorrupt, "inode #%d: extended attributes overlap", in.ino)
	}
	in.putInner(list)
	return nil
}

// putInner writes the attributes in the inode. They fit.
func (in *inode) putInner(list []xattr) {
	if len(list) == 0 {
		if in.room != nil {
			in.room, in.hadRoom = nil, true
			in.markDirty(false)
		}
		return
	}
	room := make([]byte, in.sb.inodeSize)
	binary.LittleEndian.PutUint16(room[128:], in.raw.ExtraIsize)
	at := disk.BaseInodeSize + int(in.raw.ExtraIsize)
	binary.LittleEndian.PutUint32(room[at:], disk.XattrMagic)
	packXattrs(room[at+4:], 0, list, false)
	in.room = room
	in.markDirty(false)
}

// packXattrs writes entries from first on, and their values from the end of p.
func packXattrs(p []byte, first int, list []xattr, hashes bool) (total uint32) {
	le := binary.LittleEndian
	at, end := first, len(p)&^3
	for _, x := range list {
		end -= (len(x.value) + 3) &^ 3
		e := p[at:]
		e[0], e[1] = byte(len(x.name)), x.index
		if len(x.value) > 0 {
			le.PutUint16(e[2:], uint16(end))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		copy(e[16:], x.name)
		copy(p[end:], x.value)
		var h uint32
		if hashes {
			h = xattrHash(&x)
			le.PutUint32(e[12:], h)
			total = total<<16 ^ total>>16 ^ h
		}
		at += (16 + len(x.name) + 3) &^ 3
	}
	return total
}

// xattrHash is the hash of an entry of an attribute block.
func xattrHash(x *xattr) (h uint32) {
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	v := append(slices.Clone(x.value), make([]byte, (4-len(x.value)%4)%4)...)
	for ; len(v) > 0; v = v[4:] {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(v)
	}
	return h
}

// putOuter writes the attribute block. One that other inodes share is left to them.
func (in *inode) putOuter(list []xattr) error {
	le, sb := binary.LittleEndian, in.sb
	if len(list) == 0 {
		return in.dropXattrBlock()
	}
	slices.SortFunc(list, compareXattr)
	b, own, err := in.ownXattrBlock()
	if err != nil {
		return err
	}
	if !own {
		if b, err = sb.allocMeta(in.goal()); err != nil {
			return err
		}
		if sb.s.Incompat&disk.Incompat64bit == 0 && b.Block >= 1<<32 || b.Block >= 1<<48 {
			n := b.Block
			b.Release()
			sb.freeBlocksNow(nil, n, 1, true)
			return unix.ENOSPC
		}
		if err := in.dropXattrBlock(); err != nil {
			b.Release()
			return err
		}
		in.raw.FileACL = b.Block
		in.addBlocks(1)
	}
	defer b.Release()
	sb.w.itable.Lock() // attribute blocks may be shared: readers hold it, too
	p := b.Data()
	clear(p)
	le.PutUint32(p, disk.XattrMagic)
	le.PutUint32(p[4:], 1)
	le.PutUint32(p[8:], 1)
	total := packXattrs(p, disk.XattrHeaderSize, list, true)
	le.PutUint32(p[12:], total)
	sb.sealXattrs(b.Block, p)
	sb.w.itable.Unlock()
	sb.dirtyBuf(b)
	in.markDirty(false)
	return nil
}

func (sb *superBlock) sealXattrs(block uint64, p []byte) {
	if sb.csum {
		sum, _ := disk.XattrBlockChecksum(sb.seed, block, p)
		binary.LittleEndian.PutUint32(p[16:], sum)
	}
}

// dropXattrBlock gives up the attribute block. The caller holds w.mu and in.mu.
func (in *inode) dropXattrBlock() error {
	le, sb := binary.LittleEndian, in.sb
	if in.raw.FileACL == 0 {
		return nil
	}
	b, err := in.xattrBlock()
	if err != nil {
		return err
	}
	p := b.Data()
	if refs := le.Uint32(p[4:]); refs > 1 {
		sb.w.itable.Lock()
		le.PutUint32(p[4:], refs-1)
		sb.sealXattrs(b.Block, p)
		sb.w.itable.Unlock()
		sb.dirtyBuf(b)
		b.Release()
	} else {
		n := b.Block
		b.Release()
		sb.freeBlocksNow(nil, n, 1, true)
	}
	in.raw.FileACL = 0
	in.addBlocks(-1)
	in.markDirty(false)
	return nil
}
