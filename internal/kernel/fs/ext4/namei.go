package ext4

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// change runs f between begin and end. After ENOSPC it is tried again if freed blocks can be used then.
func (in *inode) change(f func() error) error {
	sb := in.sb
	for tries := 0; ; tries++ {
		if err := sb.begin(); err != nil {
			return err
		}
		err := f()
		sb.end()
		if err != unix.ENOSPC || tries > 0 || !sb.reclaim() {
			return err
		}
	}
}

// encrypted reports whether a file, or the names in a directory, are encrypted (fscrypt): nothing can be done with those, as
// with a kernel that has no code for it.
func (in *inode) encrypted() bool { return in.Attr().Flags&unix.STATX_ATTR_ENCRYPTED != 0 }

// mayEnter reports why a file cannot get a name in the directory: its names are encrypted (EOPNOTSUPP), or it is a tree of
// another project (EXDEV).
func (in *inode) mayEnter(k *inode) error {
	if in.encrypted() || k.encrypted() {
		return unix.EOPNOTSUPP
	}
	if in.raw.Flags&disk.InodeProjinherit != 0 && in.raw.Projid != k.raw.Projid {
		return unix.EXDEV
	}
	return nil
}

// dirLinks is the number of links of a directory with one subdirectory more, or less. Directories with too many count as 1.
func (sb *superBlock) dirLinks(n uint32, delta int) (uint32, error) {
	if n == 1 && sb.s.ROCompat&disk.RODirNlink != 0 {
		return 1, nil
	}
	if delta < 0 {
		return max(n, 3) - 1, nil
	}
	if sb.s.ROCompat&disk.RODirNlink != 0 {
		if n+1 >= maxLinks {
			return 1, nil
		}
		return n + 1, nil
	}
	if n >= sb.linkMax() {
		return 0, unix.EMLINK
	}
	return n + 1, nil
}

func (sb *superBlock) linkMax() uint32 {
	if sb.s.Incompat&disk.IncompatExtents == 0 {
		return maxLinksExt2
	}
	return maxLinks
}

func (in *inode) setLinks(n uint32) {
	in.update(func(a *vfs.Attr) { a.Nlink = n })
	in.markDirty(false)
}

// make makes a new inode, lets init fill it, and enters it as name.
func (in *inode) make(c vfs.Caller, name string, mode uint32, init func(k *inode) error) (vfs.Inode, error) {
	sb := in.sb
	if in.encrypted() {
		return nil, unix.EOPNOTSUPP
	}
	var k *inode
	err := in.change(func() (err error) {
		isDir := mode&unix.S_IFMT == unix.S_IFDIR
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.attr.Nlink == 0 {
			return unix.ENOENT
		}
		links := in.attr.Nlink
		if isDir {
			if links, err = sb.dirLinks(links, 1); err != nil {
				return err
			}
		}
		if k, err = sb.newInode(c, in, mode); err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		err = init(k)
		if err == nil {
			err = in.addEntry(name, k.ino, sb.fileType(mode))
		}
		if err != nil {
			k.undo()
			return err
		}
		k.setLinks(1)
		if isDir {
			k.setLinks(2)
			in.setLinks(links)
		}
		in.touch()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// undo frees an inode that could not be made. The caller holds w.mu and k.mu.
func (in *inode) undo() {
	for {
		if done, err := in.cut(0, maxBlocks); done || err != nil {
			break
		}
	}
	in.gone = true
	in.raw.Dtime = uint32(now().Sec)
	in.update(func(a *vfs.Attr) { a.Nlink, a.Size = 0, 0 })
	_ = in.retire() // it has aborted then
}

// Create makes a regular file, fifo, socket or device.
func (in *inode) Create(c vfs.Caller, name string, mode uint32, rdev uint64) (vfs.Inode, error) {
	return in.make(c, name, mode, func(k *inode) error {
		switch mode & unix.S_IFMT {
		case unix.S_IFCHR, unix.S_IFBLK:
			k.raw.EncodeRdev(unix.Major(rdev), unix.Minor(rdev))
			k.attr.Rdev = rdev
		}
		return nil
	})
}

// Mkdir makes a directory.
func (in *inode) Mkdir(c vfs.Caller, name string, mode uint32) (vfs.Inode, error) {
	return in.make(c, name, mode&0o7777|unix.S_IFDIR, func(k *inode) error { return k.makeDir(in.ino) })
}

// Symlink makes a symbolic link.
func (in *inode) Symlink(c vfs.Caller, name, target string) (vfs.Inode, error) {
	sb := in.sb
	if len(target)+1 > sb.blockSize {
		return nil, unix.ENAMETOOLONG
	}
	return in.make(c, name, unix.S_IFLNK|0o777, func(k *inode) error {
		if len(target) < disk.BlockBytes {
			k.raw.Flags &^= disk.InodeExtents
			clear(k.raw.Block[:])
			copy(k.raw.Block[:], target)
			k.attr.Size = int64(len(target))
			return nil
		}
		phys, _, err := k.allocAt(0, 1, sb.privileged(c), false)
		if err != nil {
			return err
		}
		k.attr.Size = int64(len(target))
		b, err := sb.cache.GetNew(phys)
		if err != nil {
			return sb.abort(err, "cannot get a block for a symbolic link")
		}
		clear(b.Data())
		copy(b.Data(), target)
		sb.dirtyBuf(b)
		b.Release()
		return nil
	})
}

// Tmpfile implements vfs.TmpfileMaker.
func (in *inode) Tmpfile(c vfs.Caller, mode uint32) (vfs.Inode, error) {
	if in.encrypted() {
		return nil, unix.EOPNOTSUPP
	}
	var k *inode
	err := in.change(func() (err error) {
		if k, err = in.sb.newInode(c, in, mode); err == nil {
			in.sb.addOrphan(k)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Link makes another name for a file.
func (in *inode) Link(_ vfs.Caller, old vfs.Inode, name string) error {
	k, sb := old.(*inode), in.sb
	return in.change(func() error {
		if err := in.mayEnter(k); err != nil {
			return err
		}
		n := k.Attr().Nlink
		if n >= sb.linkMax() {
			return unix.EMLINK
		}
		if k.gone {
			return unix.ENOENT
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.attr.Nlink == 0 {
			return unix.ENOENT
		}
		if err := in.addEntry(name, k.ino, sb.fileType(k.Attr().Mode)); err != nil {
			return err
		}
		in.touch()
		k.mu.Lock()
		defer k.mu.Unlock()
		if n == 0 {
			sb.delOrphan(k)
		}
		k.setLinks(n + 1)
		k.changed()
		return nil
	})
}

// unlinked takes a link from a file that has lost a name; all of them from a directory.
func (in *inode) unlinked() {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := in.attr.Nlink
	switch {
	case in.attr.IsDir():
		n = 0
		in.update(func(a *vfs.Attr) { a.Size = 0 })
	case n > 0:
		n--
	}
	in.setLinks(n)
	if n == 0 {
		in.sb.addOrphan(in)
	}
	in.changed()
}

// Unlink removes a name of a file.
func (in *inode) Unlink(_ vfs.Caller, name string, child vfs.Inode) error {
	k := child.(*inode)
	return in.change(func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		if err := in.removeEntry(name); err != nil {
			return err
		}
		in.touch()
		k.unlinked()
		return nil
	})
}

// Rmdir removes an empty directory.
func (in *inode) Rmdir(_ vfs.Caller, name string, child vfs.Inode) error {
	k := child.(*inode)
	return in.change(func() error {
		k.mu.RLock()
		empty, err := k.emptyDir()
		k.mu.RUnlock()
		if err != nil {
			return err
		}
		if !empty {
			return unix.ENOTEMPTY
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if err := in.removeEntry(name); err != nil {
			return err
		}
		in.lessDirs()
		in.touch()
		k.unlinked()
		return nil
	})
}

// lessDirs and moreDirs count a subdirectory.
func (in *inode) lessDirs() {
	n, _ := in.sb.dirLinks(in.attr.Nlink, -1) // only more can fail
	in.setLinks(n)
}

func (in *inode) moreDirs() {
	if n, err := in.sb.dirLinks(in.attr.Nlink, 1); err == nil { // the caller has checked
		in.setLinks(n)
	}
}

// lockBoth takes the locks of two directories that may be one.
func lockBoth(a, b *inode) (unlock func()) {
	a.mu.Lock()
	if a == b {
		return a.mu.Unlock
	}
	b.mu.Lock()
	return func() { b.mu.Unlock(); a.mu.Unlock() }
}

// Rename moves or exchanges entries.
func (in *inode) Rename(c vfs.Caller, oldName string, child vfs.Inode, newDir vfs.Inode, newName string,
	target vfs.Inode, flags uint32) error {
	k, nd := child.(*inode), newDir.(*inode)
	t, _ := target.(*inode)
	if k == in || k == nd || t != nil && (t == nd || t == in && flags&unix.RENAME_EXCHANGE != 0) {
		return in.sb.errorf(errCorrupt, "inode #%d: a directory has a second name below itself", k.ino)
	}
	if in != nd {
		if err := nd.mayEnter(k); err != nil {
			return err
		}
		if flags&unix.RENAME_EXCHANGE != 0 {
			if err := in.mayEnter(t); err != nil {
				return err
			}
		}
	} else if in.encrypted() {
		return unix.EOPNOTSUPP
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return in.exchange(oldName, k, nd, newName, t)
	}
	return in.change(func() error { return in.rename(c, oldName, k, nd, newName, t, flags) })
}

// rename does what can fail first: a new entry or none, then the rest.
func (in *inode) rename(c vfs.Caller, oldName string, k, nd *inode, newName string, t *inode, flags uint32) error {
	sb := in.sb
	isDir := k.Attr().Mode&unix.S_IFMT == unix.S_IFDIR
	if t != nil && isDir {
		t.mu.RLock()
		empty, err := t.emptyDir()
		t.mu.RUnlock()
		if err != nil {
			return err
		}
		if !empty {
			return unix.ENOTEMPTY
		}
		if t == in {
			return sb.errorf(errCorrupt, "inode #%d: empty, but not for a lookup", t.ino)
		}
	}
	defer lockBoth(in, nd)()
	if nd.attr.Nlink == 0 {
		return unix.ENOENT
	}
	moved := isDir && in != nd
	if moved && t == nil {
		if _, err := sb.dirLinks(nd.attr.Nlink, 1); err != nil {
			return err
		}
	}
	if moved { // an inline directory needs a block before its ".." can be changed
		k.mu.Lock()
		err := k.needMap()
		k.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := in.needMap(); err != nil {
		return err
	}
	var white *inode
	if flags&unix.RENAME_WHITEOUT != 0 {
		var err error
		if white, err = sb.newInode(c, in, unix.S_IFCHR); err != nil {
			return err
		}
	}
	ftype := sb.fileType(k.Attr().Mode)
	var err error
	if t != nil {
		err = nd.setEntry(newName, k.ino, ftype)
	} else {
		err = nd.addEntry(newName, k.ino, ftype)
	}
	if err == nil {
		if white != nil {
			err = in.setEntry(oldName, white.ino, sb.fileType(unix.S_IFCHR))
		} else {
			err = in.removeEntry(oldName)
		}
		if err != nil { // take the new name back
			if t != nil {
				_ = nd.setEntry(newName, t.ino, sb.fileType(t.Attr().Mode))
			} else {
				_ = nd.removeEntry(newName)
			}
		}
	}
	if err != nil {
		if white != nil {
			white.mu.Lock()
			white.undo()
			white.mu.Unlock()
		}
		return err
	}
	if white != nil {
		white.setLinks(1)
	}
	if t != nil {
		t.unlinked()
		if isDir {
			nd.lessDirs()
		}
	}
	if isDir {
		in.lessDirs()
		nd.moreDirs()
	}
	in.touch()
	if nd != in {
		nd.touch()
	}
	return k.movedTo(nd, moved)
}

// movedTo sets ctime and, of a directory with a new parent, "..".
func (in *inode) movedTo(dir *inode, moved bool) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changed()
	if !moved {
		return nil
	}
	if err := in.setEntry("..", dir.ino, in.sb.fileType(unix.S_IFDIR)); err != nil {
		return in.sb.errorf(err, "inode #%d: cannot set '..'", in.ino)
	}
	return nil
}

// exchange is RENAME_EXCHANGE.
func (in *inode) exchange(oldName string, k, nd *inode, newName string, t *inode) error {
	sb := in.sb
	return in.change(func() error {
		kDir, tDir := k.Attr().Mode&unix.S_IFMT == unix.S_IFDIR, t.Attr().Mode&unix.S_IFMT == unix.S_IFDIR
		unlock := lockBoth(in, nd)
		defer unlock()
		if in != nd && kDir != tDir {
			gains := nd
			if tDir {
				gains = in
			}
			if _, err := sb.dirLinks(gains.attr.Nlink, 1); err != nil {
				return err
			}
		}
		for _, d := range [...]*inode{k, t} {
			if a := d.Attr(); in != nd && a.IsDir() {
				d.mu.Lock()
				err := d.needMap()
				d.mu.Unlock()
				if err != nil {
					return err
				}
			}
		}
		for _, d := range [...]*inode{in, nd} {
			if err := d.needMap(); err != nil {
				return err
			}
		}
		if err := in.setEntry(oldName, t.ino, sb.fileType(t.Attr().Mode)); err != nil {
			return err
		}
		if err := nd.setEntry(newName, k.ino, sb.fileType(k.Attr().Mode)); err != nil {
			_ = in.setEntry(oldName, k.ino, sb.fileType(k.Attr().Mode))
			return err
		}
		if in != nd && kDir != tDir {
			if kDir {
				in.lessDirs()
				nd.moreDirs()
			} else {
				nd.lessDirs()
				in.moreDirs()
			}
		}
		in.touch()
		if nd != in {
			nd.touch()
		}
		if err := k.movedTo(nd, kDir && in != nd); err != nil {
			return err
		}
		return t.movedTo(in, tDir && in != nd)
	})
}
