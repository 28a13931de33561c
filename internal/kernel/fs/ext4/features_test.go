package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	img := mkImage(t, dir, "8M", "-b", "1024", "-O", "none,filetype,extent")
	raw, err := os.ReadFile(img)
	must(t, err)
	for _, tc := range []struct {
		name   string
		typ    *vfs.FilesystemType
		data   string
		damage func(b []byte)
		err    error
		log    string
	}{
		{"feature", Ext4, "", func(b []byte) { b[1024+96+2] = 3 }, unix.EINVAL, "unsupported optional features (20000: casefold)"},
		{"unknown feature", Ext4, "", func(b []byte) { b[1024+96+3] = 0x80 }, unix.EINVAL, "FEATURE_I31"},
		{"magic", Ext4, "", func(b []byte) { b[1024+56] = 0 }, unix.EINVAL, "Can't find ext4 filesystem"},
		{"as ext2", Ext2, "", func([]byte) {}, unix.EINVAL, "couldn't mount as ext2 due to feature incompatibilities"},
		{"as ext3", Ext3, "", func([]byte) {}, unix.EINVAL, "couldn't mount as ext3 due to feature incompatibilities"},
		{"block size", Ext4, "", func(b []byte) { b[1024+24] = 3 }, unix.EINVAL, "bad block size 8192"},
		{"too large", Ext4, "", func(b []byte) { b[1024+4+3] = 1 }, unix.EINVAL, "exceeds size of device"},
		{"option", Ext4, "nosuchoption", func([]byte) {}, unix.EINVAL, "Unknown parameter 'nosuchoption'"},
		{"root", Ext4, "", func(b []byte) {}, nil, "mounted filesystem"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := append([]byte(nil), raw...)
			tc.damage(b)
			seq := klog.Next()
			_, err := Mount(tc.typ, bdev.NewMem("ubda", b, true), unix.MS_RDONLY, tc.data)
			if err != tc.err {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if len(logged(seq, tc.log)) == 0 {
				t.Errorf("log has no %q: %q", tc.log, logged(seq, ""))
			}
		})
	}
}

func TestChecksumErrors(t *testing.T) {
	dir := t.TempDir()
	smallTree(t, dir)
	img := mkImage(t, dir, "8M", "-b", "1024", "-I", "256", "-O", ext4Features)
	fsck(t, img)
	raw, err := os.ReadFile(img)
	must(t, err)
	sb := mountImage(t, Ext4, img)
	look := func(sb vfs.SuperBlock, name string) *inode {
		in, err := sb.Root().Lookup(nil, name)
		must(t, err)
		return in.(*inode)
	}
	dirPhys, err := look(sb, "hashed").mapBlock(1)
	must(t, err)
	small := look(sb, "small")
	leaf := uint64(leU32(look(sb, "striped").raw.Block[16:]))
	damaged := func(off int) vfs.SuperBlock {
		b := append([]byte(nil), raw...)
		b[off] ^= 0x10
		s, err := Mount(Ext4, bdev.NewMem("ubda", b, true), unix.MS_RDONLY, "")
		must(t, err)
		return s
	}
	seq := klog.Next()
	s := damaged(int(dirPhys.phys)*1024 + 40)
	if _, err := list(t, look(s, "hashed")); err != errBadCRC {
		t.Errorf("directory: %v", err)
	}
	s = damaged(int(leaf)*1024 + 20)
	if _, err := readAt(openRegular(t, look(s, "striped")), make([]byte, 10), 0); err != errBadCRC {
		t.Errorf("extents: %v", err)
	}
	if small.raw.FileACL != 0 {
		s = damaged(int(small.raw.FileACL)*1024 + 500)
		if _, err := look(s, "small").Getxattr(nil, "user.a"); err != errBadCRC {
			t.Errorf("attributes: %v", err)
		}
	}
	g, i := (small.ino-1)/sb.s.InodesPerGroup, (small.ino-1)%sb.s.InodesPerGroup
	s = damaged(int(sb.tables[g])*1024 + int(i)*sb.inodeSize + 4)
	if _, err := s.Root().Lookup(nil, "small"); err != errBadCRC {
		t.Errorf("inode: %v", err)
	}
	if l := logged(seq, "EXT4-fs error (device ubda)"); len(l) < 3 || !strings.Contains(strings.Join(l, "\n"), "inode #") {
		t.Errorf("log: %q", l)
	}
	b := append([]byte(nil), raw...)
	b[1024+0x1c0] ^= 1
	if _, err := Mount(Ext4, bdev.NewMem("ubda", b, true), unix.MS_RDONLY, ""); err != errBadCRC {
		t.Errorf("superblock: %v", err)
	}
	b = append([]byte(nil), raw...)
	b[2048+12] ^= 1
	if _, err := Mount(Ext4, bdev.NewMem("ubda", b, true), unix.MS_RDONLY, ""); err != errBadCRC {
		t.Errorf("group descriptor: %v", err)
	}
}

func TestReadWriteFallsBack(t *testing.T) {
	img := mkImage(t, t.TempDir(), "16M", "-b", "4096", "-C", "16384", "-O", ext4Features+",bigalloc")
	raw, err := os.ReadFile(img)
	must(t, err)
	seq := klog.Next()
	sb, err := Mount(Ext4, bdev.NewMem("ubda", raw, false), 0, "")
	must(t, err)
	if len(logged(seq, "EXT4-fs (ubda): write access unavailable (feature bigalloc is not supported for writing), mounting read-only")) != 1 {
		t.Errorf("log: %q", logged(seq, ""))
	}
	if _, err := sb.Root().Mkdir(nil, "x", 0o755); err != unix.EROFS {
		t.Errorf("mkdir: %v", err)
	}
	if err := sb.Remount(nil, 0, ""); err != unix.EROFS {
		t.Errorf("remount rw: %v", err)
	}
	if err := sb.Remount(nil, unix.MS_RDONLY, "noatime=3"); err != unix.EINVAL {
		t.Errorf("remount with a bad option: %v", err)
	}
}

// daxDevice is a memory device that says its bytes are pages of a host file.
type daxDevice struct {
	*bdev.Mem
	host  *platform.HostFile
	shift int64
}

func (d *daxDevice) HostRange(off, n int64) (*platform.HostFile, int64, int64) {
	return d.host, off + d.shift, n
}

func TestExtents(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	open := useMemfiles(t)
	load := func(bs string) (*superBlock, []byte, *daxDevice) {
		img := mkImage(t, dir, "48M", "-b", bs, "-O", ext4Features)
		raw, err := os.ReadFile(img)
		must(t, err)
		d := &daxDevice{bdev.NewMem("ubda", raw, true), &platform.HostFile{}, 0}
		sb, err := Mount(Ext4, d, unix.MS_RDONLY, "")
		must(t, err)
		return sb.(*superBlock), raw, d
	}
	// content puts the pages of a mapping together, from the image or the Memfile.
	content := func(in *inode, raw []byte, d *daxDevice) (p []byte, fromImage bool) {
		t.Helper()
		x, err := in.Extents(0, 1<<40, false, false)
		must(t, err)
		fromImage = true
		at := uint64(0)
		for _, e := range x {
			if e.Off != at || e.Len%pageSize != 0 || e.HostOff%pageSize != 0 || e.Len == 0 {
				t.Fatalf("extent %+v at %d", e, at)
			}
			src := raw
			if e.Host != d.host {
				fromImage = false
				src = e.Host.Installed.(*memMemfile).p
				src = append(src, make([]byte, int(e.HostOff+e.Len))...)
			}
			p = append(p, src[e.HostOff:e.HostOff+e.Len]...)
			at += e.Len
		}
		return p, fromImage
	}
	for _, bs := range []string{"4096", "1024"} {
		sb, raw, d := load(bs)
		for _, name := range []string{"size1", "size4095", "size4096", "size4097", "size1048576", "sparse", "striped", "size0"} {
			ino, err := sb.Root().Lookup(nil, name)
			must(t, err)
			in := ino.(*inode)
			want, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			p, fromImage := content(in, raw, d)
			if len(p) != (len(want)+pageSize-1)&^(pageSize-1) {
				t.Fatalf("%s: %d bytes mapped of %d", name, len(p), len(want))
			}
			if !bytes.Equal(p[:len(want)], want) || strings.Trim(string(p[len(want):]), "\x00") != "" {
				t.Errorf("%s: content differs at %d", name, firstDiff(p, want))
			}
			dax := bs == "4096" && name != "sparse" && name != "striped"
			if fromImage != dax && len(want) > 0 {
				t.Errorf("bs %s: %s: from the image %v", bs, name, fromImage)
			}
			in.Mapped(1, false)
			in.Mapped(-1, false)
		}
		if *open != 0 {
			t.Errorf("%d Memfiles left", *open)
		}
	}
	// Of a file with few holes the data comes from the image and the holes from the Memfile.
	{
		sb, raw, d := load("4096")
		ino, err := sb.Root().Lookup(nil, "sparse")
		must(t, err)
		in := ino.(*inode)
		content(in, raw, d)
		if in.mem == nil || len(in.filled) != 0 {
			t.Errorf("the data of a sparse file was copied: %d chunks", len(in.filled))
		}
		in.Mapped(0, false)
	}
	// A file whose last block has something after its end must not show it.
	sb, raw, d := load("4096")
	ino, err := sb.Root().Lookup(nil, "size4097")
	must(t, err)
	in := ino.(*inode)
	r, err := in.mapBlock(1)
	must(t, err)
	raw[r.phys*4096+1] = 7
	if p, fromImage := content(in, raw, d); fromImage || p[4097] != 0 {
		t.Errorf("bytes after the end are shown")
	}
	if x, err := in.Extents(0, pageSize, false, false); err != nil || len(x) != 1 || x[0].Host != d.host {
		t.Errorf("first page alone: %+v %v", x, err)
	}
	if x, err := in.Extents(8192, pageSize, false, false); err != nil || len(x) != 0 {
		t.Errorf("beyond the end: %+v %v", x, err)
	}
	if _, err := in.Extents(0, pageSize, true, true); err != unix.EROFS {
		t.Errorf("shared writable: %v", err)
	}
	in.Mapped(0, false)
	if *open != 0 {
		t.Errorf("%d Memfiles left", *open)
	}
}

func TestTimesAndACL(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o640))
	img := mkImage(t, dir, "8M", "-b", "4096", "-I", "256", "-O", ext4Features)
	acl := filepath.Join(t.TempDir(), "acl")
	// user::rw-, user:1000:r--, group::r--, mask::r--, other::---; debugfs stores it in ext4's own form
	want := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		0x10, 0, 4, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}
	must(t, os.WriteFile(acl, want, 0o644))
	script := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(script, []byte("sif f mtime @0x12345678\nsif f mtime_extra 0xee6b27fd\nsif f crtime @0x23456789\n"+
		"sif f atime @-5\nea_set -f "+acl+" f system.posix_acl_access\n"), 0o644))
	mustRun(t, "debugfs", "-w", "-f", script, img)
	sb := mountImage(t, Ext4, img)
	in, err := sb.Root().Lookup(nil, "f")
	must(t, err)
	a := in.Attr()
	if a.Mtime.Sec != 0x112345678 || a.Mtime.Nsec != 0xee6b27fd>>2 {
		t.Errorf("mtime %x.%d", a.Mtime.Sec, a.Mtime.Nsec)
	}
	if a.Btime.Sec != 0x23456789 {
		t.Errorf("btime %x", a.Btime.Sec)
	}
	v, err := in.Getxattr(nil, "system.posix_acl_access")
	if err != nil || !bytes.Equal(v, want) {
		t.Errorf("acl % x, %v", v, err)
	}
	if back, err := disk.ACLFromXattr(want); err != nil || len(back) != 28 {
		t.Errorf("acl back: % x, %v", back, err)
	}
	if names, _ := in.Listxattr(nil); len(names) != 1 || names[0] != "system.posix_acl_access" {
		t.Errorf("list %q", names)
	}
}

// TestIndexLikeLeaf reads a hash tree whose root still has the end of the leaf that it once was, as Linux leaves it.
func TestIndexLikeLeaf(t *testing.T) {
	d := newDisk(t, Ext4, "8M", "-t", "ext4", "-b", "1024")
	must(t, vfs.Mkdir(d, nil, "/d", 0o755))
	for i := range 200 {
		must(t, vfs.Mknod(d, nil, fmt.Sprintf("/d/file%d", i), unix.S_IFREG|0o644, 0))
	}
	dir, err := d.sb.Root().Lookup(nil, "d")
	must(t, err)
	r, err := dir.(*inode).mapBlock(0)
	must(t, err)
	seed := dir.(*inode).seed
	d.umount()
	p := make([]byte, 1024)
	_, err = d.dev.ReadAt(p, int64(r.phys)*1024)
	must(t, err)
	copy(p[1012:], "\x00\x00\x00\x00\x0c\x00\x00\xde")
	n, err := disk.DecodeDxNode(p, disk.DxRootEntries, true)
	must(t, err)
	n.Seal(seed)
	_, err = d.dev.WriteAt(p, int64(r.phys)*1024)
	must(t, err)
	check(t, content(t, d.dev), "root with the end of a leaf")
	d.mount()
	if got := len(d.list("/d")); got != 200 {
		t.Errorf("%d entries", got)
	}
	if _, err := vfs.Stat(d, nil, "/d/file77", 0); err != nil {
		t.Error(err)
	}
	d.umount()
}
