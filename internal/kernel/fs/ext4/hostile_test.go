package ext4

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// inodeOf is the inode of a path. It is in use for as long as the file is open.
func (d *rwDisk) inodeOf(path string) (*inode, *vfs.File) {
	d.t.Helper()
	f, err := vfs.Open(d, nil, path, vfs.OpenHow{Flags: unix.O_RDWR})
	must(d.t, err)
	return f.Inode.(*inode), f
}

// TestSharedLeaf cuts a file whose extent tree has a hundred million leaves, all of them the same block, which has nothing
// that is to be freed.
func TestSharedLeaf(t *testing.T) {
	const levels = 4
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-O", "none,extent,filetype")
	d.write("/nodes", make([]byte, (levels+1)*4096), 0)
	d.write("/f", []byte("x"), 0)
	nodes, f := d.inodeOf("/nodes")
	blocks := make([]uint64, levels+1)
	for i := range blocks {
		r, err := nodes.mapBlock(uint64(i))
		must(t, err)
		blocks[i] = r.phys
	}
	f.DecRef()
	in, f := d.inodeOf("/f")
	// Each node's entries begin where they must, so that only the leaf is wrong.
	node := func(p []byte, depth int, entries, first, step uint32) {
		h := disk.ExtentHeader{Magic: disk.ExtentMagic, Entries: uint16(entries), Max: uint16((len(p) - 12) / 12), Depth: uint16(depth)}
		h.Encode(p)
		for i := range entries {
			x := disk.ExtentIndex{Block: first + i*step, Leaf: blocks[max(depth-1, 0)]}
			x.Encode(p[12+12*i:])
		}
	}
	for depth := range levels {
		p := make([]byte, 4096)
		if depth == 0 {
			node(p, 0, 1, 0, 0)
			e := disk.Extent{Block: 0, Len: 1, Start: blocks[levels]}
			e.Encode(p[12:])
		} else {
			node(p, depth, 340, 10, 12)
		}
		d.write("/nodes", p, int64(depth)*4096)
	}
	must(t, d.sb.Sync())
	root := make([]byte, disk.BlockBytes)
	node(root, levels, 4, 10, 1<<28)
	in.mu.Lock()
	copy(in.raw.Block[:], root)
	in.lastRun.Store(nil)
	in.attr.Size = 1 << 40
	in.mu.Unlock()
	if err := vfs.Truncate(d, nil, "/f", 5*4096); err != unix.EUCLEAN {
		t.Errorf("truncate: %v", err)
	}
	f.DecRef()
}

// TestOwnValue has attributes whose values are said to be in the inode that has the attributes, and in a file with a name.
func TestOwnValue(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-I", "256", "-O", "none,extent,filetype,ext_attr,ea_inode")
	d.write("/f", []byte("x"), 0)
	in, f := d.inodeOf("/f")
	defer f.DecRef()
	in.mu.Lock()
	in.putInner([]xattr{{index: disk.XattrUser, name: "a", ea: in.ino, eaSize: 1}})
	in.raw.Flags |= disk.InodeEAInode
	in.mu.Unlock()
	if _, err := in.Getxattr(d, "user.a"); err != unix.EUCLEAN {
		t.Errorf("getxattr: %v", err)
	}
	if err := in.Removexattr(d, "user.a"); err != unix.EUCLEAN {
		t.Errorf("removexattr: %v", err)
	}
	if _, err := d.sb.root.Lookup(d, "f"); err != unix.EUCLEAN {
		t.Errorf("lookup of a value: %v", err)
	}
}

// TestInodeTwice has an inode in use that is free in the bitmap.
func TestInodeTwice(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-O", "none,extent,filetype")
	d.write("/f", []byte("x"), 0)
	in, f := d.inodeOf("/f")
	defer f.DecRef()
	must(t, d.sb.begin())
	d.sb.freeInode(in.ino, false)
	d.sb.end()
	if err := vfs.Mknod(d, nil, "/g", unix.S_IFREG|0o600, 0); err != unix.EUCLEAN {
		t.Errorf("a second inode with the same number: %v", err)
	}
	d.expect("/f", []byte("x"))
}

// TestNotClean mounts a file system without a journal that was not unmounted the last time: it stays so until e2fsck has seen
// it.
func TestNotClean(t *testing.T) {
	d := newDisk(t, Ext2, "4M")
	valid := func() bool {
		return binary.LittleEndian.Uint16(content(t, d.dev)[disk.SuperOffset+58:])&disk.StateValid != 0
	}
	d.umount()
	if !valid() {
		t.Error("not clean after mount and umount")
	}
	d.mount()
	if valid() {
		t.Error("clean while it is mounted")
	}
	must(t, d.sb.Sync())
	left := content(t, d.dev)
	d.umount()
	_, err := d.dev.WriteAt(left, 0)
	must(t, err)
	d.mount()
	must(t, d.sb.Remount(d, unix.MS_RDONLY, ""))
	must(t, d.sb.Remount(d, 0, ""))
	d.umount()
	if valid() {
		t.Error("an unclean file system became clean by being mounted")
	}
}

// TestLostPages fills the disk below a shared mapping of a hole: what cannot be written back with the last mapping is an
// error of the next fsync, and does not take with it what can be written.
func TestLostPages(t *testing.T) {
	fake := platform.NewFake()
	NewMemfile = fake.NewMemfile
	t.Cleanup(func() { NewMemfile = nil })
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-O", "none,extent,filetype")
	d.write("/f", []byte("data"), 200000)
	f, m, mem := mapFile(t, d, "/f", 1<<20)
	fill, err := vfs.Open(d, nil, "/fill", vfs.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT, Mode: 0o600})
	must(t, err)
	for {
		if _, err := vfs.Write(d, fill, uio.FromBytes(make([]byte, 4096))); err != nil {
			break
		}
	}
	fill.DecRef()
	for _, at := range []int64{100, 200000} {
		_, err := mem.WriteAt([]byte("page"), at)
		must(t, err)
	}
	m.Mapped(-1, false)
	if err := vfs.Fsync(d, f, false); err != unix.ENOSPC {
		t.Errorf("fsync: %v", err)
	}
	if err := vfs.Fsync(d, f, false); err != nil {
		t.Errorf("second fsync: %v", err)
	}
	f.DecRef()
	if got := readFile(t, d, "/f"); !bytes.Equal(got[200000:], []byte("page")) {
		t.Errorf("%q", got[200000:])
	}
}
