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

	// Of a value that is in an inode of its own: value is nil.
	ea, eaSize, eaHash uint32
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
	var unused []*inode
	err := in.change(func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		defer in.publish()
		unused = nil
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
		own, _, err := in.ownXattrBlock()
		if err != nil {
			return err
		}
		shared := own == nil && in.raw.FileACL != 0
		if own != nil {
			own.Release()
		}
		is := func(x xattr) bool { return x.index == index && x.name == name }
		had := slices.ContainsFunc(inner, is) || slices.ContainsFunc(outer, is)
		var dropped []xattr // and with them references to their values
		charge := -eaBlocks(in, inner) - eaBlocks(in, outer)
		for _, l := range []*[]xattr{&inner, &outer} {
			if i := slices.IndexFunc(*l, is); i >= 0 {
				if l == &inner || !shared {
					dropped = append(dropped, (*l)[i])
				}
				*l = slices.Delete(*l, i, i+1)
			}
		}
		if had && flags&unix.XATTR_CREATE != 0 {
			return unix.EEXIST
		}
		if !had && flags&unix.XATTR_REPLACE != 0 {
			return unix.ENODATA
		}
		var copied []xattr // the block that is shared keeps its references
		if shared {
			copied = slices.Clone(outer)
		}
		var ea *inode
		if set {
			if ea, err = in.place(xattr{index: index, name: name, value: slices.Clone(value)}, &inner, &outer); err != nil {
				return err
			}
		}
		if listSize(inner) > in.roomSize() || listSize(outer) > in.outerRoom() {
			return in.sb.errorf(errCorrupt, "inode #%d: extended attributes overlap", in.ino)
		}
		if err := in.putOuter(outer); err != nil {
			if ea != nil {
				ea.mu.Lock()
				ea.undo()
				ea.mu.Unlock()
			}
			return err
		}
		in.putInner(inner)
		in.addBlocks(charge + eaBlocks(in, inner) + eaBlocks(in, outer))
		in.changed()
		if _, err := in.sb.addEARefs(copied, 1); err != nil {
			return err
		}
		unused, err = in.sb.addEARefs(dropped, -1)
		return err
	})
	evictAll(unused)
	return err
}

// place puts an attribute into one of the lists: if its value fits into neither, that gets an inode of its own, which is
// returned.
func (in *inode) place(x xattr, inner, outer *[]xattr) (ea *inode, err error) {
	put := func() bool {
		switch {
		case in.innerRoom()-listSize(*inner) >= x.size():
			*inner = append(*inner, x)
		case in.outerRoom()-listSize(*outer) >= x.size():
			*outer = append(*outer, x)
		default:
			return false
		}
		return true
	}
	if put() {
		return nil, nil
	}
	bare := xattr{index: x.index, name: x.name}
	if in.sb.s.Incompat&disk.IncompatEAInode == 0 ||
		max(in.innerRoom()-listSize(*inner), in.outerRoom()-listSize(*outer)) < bare.size() {
		return nil, unix.ENOSPC
	}
	if ea, err = in.newEAInode(x.value); err != nil {
		return nil, err
	}
	bare.ea, bare.eaSize, bare.eaHash = ea.ino, uint32(len(x.value)), ea.eaHash(x.name)
	x = bare
	put()
	return ea, nil
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

func copyXattr(list *[]xattr) func(x disk.Xattr) bool {
	return func(x disk.Xattr) bool {
		a := xattr{index: x.Index, name: string(x.Name)}
		if x.ValueInode != 0 {
			a.ea, a.eaSize, a.eaHash = x.ValueInode, x.ValueSize, x.Hash
		} else {
			a.value = slices.Clone(x.Value)
		}
		*list = append(*list, a)
		return true
	}
}

func (in *inode) innerXattrs() (list []xattr, err error) {
	if in.room != nil {
		if err := disk.InodeXattrs(in.room, copyXattr(&list)); err != nil {
			return nil, in.sb.damage(err, "inode #%d: in-inode extended attributes", in.ino)
		}
	}
	return list, in.checkValues(list)
}

func (in *inode) outerXattrs() (list []xattr, err error) {
	if in.raw.FileACL == 0 {
		return nil, nil
	}
	b, err := in.xattrBlock()
	if err != nil {
		return nil, err
	}
	defer b.Release()
	if err := disk.BlockXattrs(b.Data(), copyXattr(&list)); err != nil {
		return nil, in.sb.damage(err, "inode #%d: extended attribute block %d", in.ino, b.Block)
	}
	return list, in.checkValues(list)
}

// checkValues refuses an attribute whose value is in the inode that has the attribute.
func (in *inode) checkValues(list []xattr) error {
	if slices.ContainsFunc(list, func(x xattr) bool { return x.ea == in.ino }) {
		return in.sb.errorf(errCorrupt, "inode #%d: attribute value in the inode itself", in.ino)
	}
	return nil
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
		size, h := uint32(len(x.value)), x.eaHash
		if x.ea != 0 {
			le.PutUint32(e[4:], x.ea)
			size = x.eaSize
		} else if hashes {
			h = xattrHash(&x)
		}
		le.PutUint32(e[8:], size)
		le.PutUint32(e[12:], h)
		copy(e[16:], x.name)
		copy(p[end:], x.value)
		total = total<<16 ^ total>>16 ^ h
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

// allEAValues lists the attributes that go with the inode: not those of a block that others share.
func (in *inode) allEAValues() ([]xattr, error) {
	if in.sb.s.Incompat&disk.IncompatEAInode == 0 {
		return nil, nil
	}
	list, err := in.innerXattrs()
	if err != nil {
		return nil, err
	}
	own, _, err := in.ownXattrBlock()
	if err != nil || own == nil {
		return list, err
	}
	own.Release()
	outer, err := in.outerXattrs()
	return append(list, outer...), err
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
