package ext4

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// TestCoherent reads and writes the block special file of a mounted file system.
func TestCoherent(t *testing.T) {
	raw, err := os.ReadFile(mkImage(t, t.TempDir(), "8M", "-t", "ext4", "-b", "1024"))
	must(t, err)
	reg := &bdev.Disk{Dev: bdev.NewMem("ubdo", raw, false), Index: 14}
	must(t, bdev.Register(reg))
	t.Cleanup(func() { must(t, bdev.Unregister(reg)) })
	node := reg.Whole()
	sb, err := MountNode(Ext4, node, 0, "")
	must(t, err)
	c := vfstest.New(sb)
	special, err := node.OpenFile(unix.O_RDWR)
	must(t, err)
	defer special.Release(nil)
	all := func() []byte {
		p := make([]byte, node.Size())
		for at := 0; at < len(p); {
			n, err := special.Read(nil, nil, uio.ToBytes(p[at:]), int64(at))
			must(t, err)
			at += n
		}
		return p
	}
	// What was not committed yet is seen: only the journal is not clean.
	for _, name := range []string{"/a", "/b", "/dir"} {
		if name == "/dir" {
			must(t, vfs.Mkdir(c, nil, name, 0o755))
			continue
		}
		f, err := vfs.Open(c, nil, name, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o644})
		must(t, err)
		_, err = vfs.Pwrite(c, f, uio.FromBytes([]byte("content of "+name)), 0)
		must(t, err)
		f.DecRef()
	}
	img := filepath.Join(t.TempDir(), "img")
	must(t, os.WriteFile(img, all(), 0o600))
	if out := mustRun(t, "debugfs", "-R", "cat /b", img); !strings.Contains(out, "content of /b") {
		t.Errorf("an uncommitted file is not seen: %q", out)
	}
	// A name written to the superblock stays.
	super := all()[disk.SuperOffset:][:disk.SuperSize]
	copy(super[120:136], "label\x00\x00\x00\x00")
	var s disk.Super
	s.Decode(super)
	s.Encode(super)
	if _, err := special.Write(nil, nil, uio.FromBytes(super), disk.SuperOffset); err != nil {
		t.Fatal(err)
	}
	must(t, vfs.Mkdir(c, nil, "/later", 0o755))
	c.Ctx.Release()
	if _, label := identify(node); label != "label" {
		t.Errorf("the label is %q", label)
	}
	bdev.Identify = identify
	if node.ReadOnly() || bdev.Lookup("LABEL=label") != node || bdev.Lookup("UUID="+uuidString(s.UUID)) != node {
		t.Error("the device is not found by its file system")
	}
	check(t, all(), "after writing to the superblock")
}

// TestCheckedWhileReadOnly changes the counts as e2fsck does while the file system is mounted read-only.
func TestCheckedWhileReadOnly(t *testing.T) {
	raw, err := os.ReadFile(mkImage(t, t.TempDir(), "8M", "-t", "ext4", "-b", "1024"))
	must(t, err)
	reg := &bdev.Disk{Dev: bdev.NewMem("ubdo", raw, false), Index: 14}
	must(t, bdev.Register(reg))
	t.Cleanup(func() { must(t, bdev.Unregister(reg)) })
	sb, err := MountNode(Ext4, reg.Whole(), 0, "")
	must(t, err)
	c := vfstest.New(sb)
	must(t, vfs.Mkdir(c, nil, "/d", 0o755))
	must(t, sb.Remount(c, unix.MS_RDONLY, ""))
	img := filepath.Join(t.TempDir(), "img")
	p := content(t, reg.Whole())
	must(t, os.WriteFile(img, p, 0o600))
	mustRun(t, "debugfs", "-w", "-R", "write /proc/version v", img)
	now, err := os.ReadFile(img)
	must(t, err)
	special, err := reg.Whole().OpenFile(unix.O_RDWR)
	must(t, err)
	for off := 0; off < len(p); off += 4096 {
		if !bytes.Equal(p[off:off+4096], now[off:off+4096]) {
			_, err := special.Write(nil, nil, uio.FromBytes(now[off:off+4096]), int64(off))
			must(t, err)
		}
	}
	special.Release(nil)
	must(t, sb.Remount(c, 0, ""))
	must(t, vfs.Mkdir(c, nil, "/e", 0o755))
	c.Ctx.Release()
	check(t, content(t, reg.Whole()), "written while read-only, then by us")
}
