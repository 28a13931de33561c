package ext4

import (
	"encoding/binary"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// TestAsLinux has what ext4 of Linux answers in corners.
func TestAsLinux(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-O", ext4Features)
	want := func(what string, err, want error) {
		t.Helper()
		if err != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	f, err := vfs.Open(d, nil, "/f", vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o644})
	must(t, err)
	defer f.DecRef()
	in := f.Inode.(*inode)
	// Times are kept as far as an inode can hold them.
	for sec, kept := range map[int64]int64{math.MaxInt64: 1<<34 - 1<<31 - 1, math.MinInt64: -1 << 31, 1 << 33: 1 << 33} {
		must(t, in.SetAttr(d, &vfs.SetAttr{Valid: vfs.SetMtime, Mtime: unix.Timespec{Sec: sec, Nsec: 5}}))
		if m := in.Attr().Mtime; m.Sec != kept || (m.Nsec == 0) != (sec != kept) {
			t.Errorf("time %d became %d.%09d", sec, m.Sec, m.Nsec)
		}
	}
	_, err = vfs.Seek(d, f, in.limit(), unix.SEEK_SET)
	want("seek to the limit", err, nil)
	_, err = vfs.Seek(d, f, in.limit()+1, unix.SEEK_SET)
	want("seek beyond it", err, unix.EINVAL)
	// An immutable file is not written through a descriptor from before either.
	set := func(flags uint32) error { return in.setFlags(d, in.raw.Flags&userVisibleFlags|flags, nil) }
	want("dirsync on a file", set(disk.InodeDirsync), unix.EOPNOTSUPP)
	want("no extents", in.setFlags(d, 0, nil), unix.EOPNOTSUPP)
	want("dax", set(disk.InodeDAX), nil)
	want("immutable", set(disk.InodeImmutable), nil)
	_, err = vfs.Pwrite(d, f, uio.FromBytes([]byte("x")), 0)
	want("write", err, unix.EPERM)
	want("ftruncate", vfs.Ftruncate(d, f, 10), unix.EPERM)
	want("another flag", set(disk.InodeNodump), unix.EPERM)
	want("mutable", in.setFlags(d, disk.InodeExtents, nil), nil)
	// A removed directory is empty.
	must(t, vfs.Mkdir(d, nil, "/dir", 0o755))
	dir, err := vfs.Open(d, nil, "/dir", vfs.OpenHow{Flags: unix.O_RDONLY})
	must(t, err)
	must(t, vfs.Rmdir(d, nil, "/dir"))
	if a := dir.Inode.Attr(); a.Size != 0 || a.Nlink != 0 {
		t.Errorf("removed directory: size %d, %d links", a.Size, a.Nlink)
	}
	dir.DecRef()
	// fallocate sets mtime, and keeps what there was room for.
	must(t, in.SetAttr(d, &vfs.SetAttr{Valid: vfs.SetMtime, Mtime: unix.Timespec{Sec: 5}}))
	must(t, vfs.Fallocate(d, f, unix.FALLOC_FL_KEEP_SIZE, 0, 100))
	if in.Attr().Mtime.Sec == 5 {
		t.Error("fallocate left mtime")
	}
	want("too much", vfs.Fallocate(d, f, 0, 0, 1<<30), unix.ENOSPC)
	if a := in.Attr(); a.Size == 0 || a.Size > a.Blocks*512 {
		t.Errorf("%d bytes in %d sectors", a.Size, a.Blocks)
	}
	// A file for whose inherited list there is no room is not made.
	acl := []byte{2, 0, 0, 0}
	for _, e := range [][3]uint32{{disk.ACLUserObj, 7, ^uint32(0)}, {disk.ACLUser, 7, 1}, {disk.ACLUser, 5, 2}, {disk.ACLUser, 4, 3}, {disk.ACLUser, 3, 4},
		{disk.ACLUser, 2, 5}, {disk.ACLUser, 1, 6}, {disk.ACLUser, 1, 7}, {disk.ACLUser, 1, 8}, {disk.ACLUser, 1, 9}, {disk.ACLUser, 1, 10},
		{disk.ACLGroupObj, 5, ^uint32(0)}, {disk.ACLMask, 7, ^uint32(0)}, {disk.ACLOther, 0, ^uint32(0)}} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	must(t, vfs.Ftruncate(d, f, 0))
	must(t, vfs.Mkdir(d, nil, "/acl", 0o755))
	must(t, vfs.Setxattr(d, nil, "/acl", 0, "system.posix_acl_default", acl, 0))
	want("too much again", vfs.Fallocate(d, f, 0, 0, 1<<30), unix.ENOSPC)
	want("file with a list", vfs.Mknod(d, nil, "/acl/f", unix.S_IFREG|0o600, 0), unix.ENOSPC)
	want("directory", vfs.Mkdir(d, nil, "/acl/d", 0o700), unix.ENOSPC)
	mode := in.Attr().Mode
	want("list", vfs.Setxattr(d, nil, "/f", 0, "system.posix_acl_access", acl, 0), unix.ENOSPC)
	if in.Attr().Mode != mode {
		t.Errorf("mode %o became %o without the list", mode, in.Attr().Mode)
	}
	must(t, vfs.Ftruncate(d, f, 0))
	if names := d.list("/acl"); len(names) != 0 {
		t.Errorf("left in the directory: %q", names)
	}
	want("security.", vfs.Setxattr(d, nil, "/f", 0, "security.", nil, 0), unix.EINVAL)
	// A file without a name gets one once.
	tmp, err := vfs.Open(d, nil, "/", vfs.OpenHow{Flags: unix.O_RDWR | unix.O_TMPFILE, Mode: 0o600})
	must(t, err)
	link := func() error { return vfs.Link(d, tmp, "", nil, "/t", unix.AT_EMPTY_PATH) }
	must(t, link())
	must(t, vfs.Unlink(d, nil, "/t"))
	want("link after unlink", link(), unix.ENOENT)
	tmp.DecRef()
	must(t, d.sb.Remount(d, unix.MS_RDONLY, ""))
}

// TestFileIoctls are requests about files.
func TestFileIoctls(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-b", "4096", "-O", ext4Features)
	d.write("/f", pattern(4096, 1), 0)
	d.write("/f", pattern(4096, 1), 16384)
	f, err := vfs.Open(d, nil, "/f", vfs.OpenHow{Flags: unix.O_RDWR})
	must(t, err)
	defer f.DecRef()
	in := f.Inode.(*inode)
	le := binary.LittleEndian
	mem := make(vfstest.Memory, 4096)
	d.Caller.Memory = mem
	fiemap := func(start, length uint64, flags, room uint32) (count uint32, last bool, err error) {
		le.PutUint64(mem, start)
		le.PutUint64(mem[8:], length)
		le.PutUint32(mem[16:], flags)
		le.PutUint32(mem[20:], 0)
		le.PutUint32(mem[24:], room)
		_, err = in.ioctl(d, fiemapRequest, 0)
		count = le.Uint32(mem[20:])
		if count > 0 && room > 0 {
			last = le.Uint32(mem[fiemapHeader+(count-1)*fiemapExtent+40:])&fiemapLast != 0
		}
		return count, last, err
	}
	for _, c := range []struct {
		start, length uint64
		flags, room   uint32
		count         uint32
		last          bool
		err           error
	}{
		{0, 1 << 62, 0, 10, 2, true, nil},
		{0, 4096, 0, 10, 1, true, nil}, // the last one that was asked for
		{0, 1 << 62, 0, 1, 1, false, nil},
		{0, 1 << 62, fiemapXattr, 10, 0, false, nil},
		{0, 0, 8, 10, 0, false, unix.EINVAL},
		{1 << 44, 1, 8, 10, 0, false, unix.EFBIG},
		{0, 1, 8, 10, 0, false, unix.EBADR},
		{0, 1, 0, 1 << 31, 0, false, unix.EINVAL},
	} {
		if count, last, err := fiemap(c.start, c.length, c.flags, c.room); count != c.count || last != c.last || err != c.err {
			t.Errorf("%+v: %d %v %v", c, count, last, err)
		}
	}
	must(t, vfs.Setxattr(d, nil, "/f", 0, "user.a", []byte("b"), 0))
	if count, last, err := fiemap(0, 1<<62, fiemapXattr, 1); count != 1 || !last || err != nil || le.Uint64(mem[fiemapHeader+16:]) != 256-160 {
		t.Errorf("attributes: %d %v %v", count, last, err)
	}
	clear(mem[:256])
	copy(mem, "new label")
	_, err = in.ioctl(d, fsIocSetFSLabel, 0)
	must(t, err)
	for i := range 17 {
		mem[i] = 'x'
	}
	if _, err := in.ioctl(d, fsIocSetFSLabel, 0); err != unix.EINVAL {
		t.Errorf("label of 17 bytes: %v", err)
	}
	le.PutUint32(mem, 1<<31)
	if _, err := in.ioctl(d, fibmap, 0); err != unix.EINVAL {
		t.Errorf("FIBMAP of a negative block: %v", err)
	}
	d.remount("label")
	if got := string(d.sb.s.VolumeName[:9]); got != "new label" {
		t.Errorf("label %q", got)
	}
}
