package ext4

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// featureTable says of each feature that mke2fs can make how it is mounted: "rw"; "ro", with its name in the log; or "no".
var featureTable = []struct {
	name, how, log string
	args           []string
}{
	{name: "defaults", how: "rw", args: []string{"-t", "ext4"}},
	{name: "64bit", how: "rw", args: []string{"-t", "ext4", "-O", "64bit"}},
	{name: "extra_isize", how: "rw", args: []string{"-t", "ext4", "-I", "512"}},
	{name: "uninit_bg", how: "rw", args: []string{"-t", "ext4", "-O", "^metadata_csum,uninit_bg"}},
	{name: "huge_file", how: "rw", args: []string{"-t", "ext4", "-O", "^huge_file"}},
	{name: "dir_nlink", how: "rw", args: []string{"-t", "ext4", "-O", "^dir_nlink"}},
	{name: "metadata_csum_seed", how: "rw", args: []string{"-t", "ext4", "-O", "metadata_csum_seed"}},
	{name: "orphan_file", how: "rw", args: []string{"-t", "ext4", "-O", "orphan_file"}},
	{name: "newer defaults", how: "rw", args: []string{"-t", "ext4", "-O", "orphan_file,metadata_csum_seed,large_dir"}},
	{name: "fast_commit", how: "rw", args: []string{"-t", "ext4", "-O", "fast_commit"}},
	{name: "stable_inodes", how: "rw", args: []string{"-t", "ext4", "-O", "stable_inodes"}},
	{name: "sparse_super2", how: "rw", args: []string{"-t", "ext4", "-O", "sparse_super2"}},
	{name: "meta_bg", how: "rw", args: []string{"-t", "ext4", "-O", "meta_bg,^resize_inode"}},
	{name: "large_dir", how: "rw", args: []string{"-t", "ext4", "-O", "large_dir"}},
	{name: "inline_data", how: "rw", args: []string{"-t", "ext4", "-O", "inline_data"}},
	{name: "project", how: "rw", args: []string{"-t", "ext4", "-O", "project,^quota"}},
	{name: "verity", how: "rw", args: []string{"-t", "ext4", "-O", "verity"}},
	{name: "encrypt", how: "rw", args: []string{"-t", "ext4", "-O", "encrypt"}},
	{name: "no journal", how: "rw", args: []string{"-t", "ext4", "-O", "^has_journal"}},
	{name: "no extents", how: "rw", args: []string{"-t", "ext4", "-O", "^extent,^64bit"}},
	{name: "no flex_bg", how: "rw", args: []string{"-t", "ext4", "-O", "^flex_bg"}},
	{name: "no resize_inode", how: "rw", args: []string{"-t", "ext4", "-O", "^resize_inode"}},
	{name: "no sparse_super", how: "rw", args: []string{"-t", "ext4", "-O", "^sparse_super,^resize_inode"}},
	{name: "quota", how: "ro", log: "feature quota is not supported for writing", args: []string{"-t", "ext4", "-O", "quota"}},
	{name: "mmp", how: "ro", log: "feature mmp is not supported for writing", args: []string{"-t", "ext4", "-O", "mmp"}},
	{name: "ea_inode", how: "rw", args: []string{"-t", "ext4", "-O", "ea_inode"}},
	{name: "bigalloc", how: "ro", log: "feature bigalloc is not supported for writing", args: []string{"-t", "ext4", "-O", "bigalloc", "-C", "16384"}},
	{name: "casefold", how: "no", log: "unsupported optional features (20000: casefold)", args: []string{"-t", "ext4", "-O", "casefold"}},
	{name: "journal_dev", how: "no", log: "unsupported optional features (8: journal_dev)", args: []string{"-O", "journal_dev"}},
}

// TestFeatureTable mounts an image with each feature in each block size. On those that are written a random history is
// played, and e2fsck finds nothing.
func TestFeatureTable(t *testing.T) {
	sizes := []string{"1024", "2048", "4096"}
	for i, f := range featureTable {
		for j, bs := range sizes {
			if os.Getenv("EXT4_LONG") == "" && f.how == "rw" && i%len(sizes) != j {
				continue
			}
			t.Run(f.name+"-"+bs, func(t *testing.T) {
				img := filepath.Join(t.TempDir(), "img")
				size := "32M"
				args := append(append([]string{"-q", "-F", "-b", bs}, f.args...), img, size)
				if out, err := exec.Command(tool(t, "mke2fs"), args...).CombinedOutput(); err != nil {
					t.Skipf("this mke2fs cannot make it: %s", out)
				}
				raw, err := os.ReadFile(img)
				must(t, err)
				seq := klog.Next()
				dev := bdev.NewMem("ubda", raw, false)
				m, err := Mount(Ext4, dev, 0, "")
				if f.log != "" && len(logged(seq, f.log)) == 0 {
					t.Errorf("log has no %q: %q", f.log, logged(seq, ""))
				}
				switch f.how {
				case "no":
					if err != unix.EINVAL {
						t.Fatalf("mounted, or %v", err)
					}
				case "ro":
					must(t, err)
					if !m.(*superBlock).ReadOnly() {
						t.Error("it may be written")
					}
					m.Release()
				case "rw":
					must(t, err)
					m.Release()
					d := &rwDisk{t: t, typ: Ext4, dev: dev}
					d.mount()
					k := newModel(d, uint64(3*i+j))
					for range 200 {
						k.step()
					}
					k.compare()
					k.remount("history")
					k.compare()
					k.umount()
				}
			})
		}
	}
}

// TestOrphanFile mounts what Linux leaves after a crash: inodes to be freed and to be truncated, noted in the orphan file.
func TestOrphanFile(t *testing.T) {
	for _, bs := range []string{"1024", "4096"} {
		d := newDisk(t, Ext4, "32M", "-t", "ext4", "-b", bs, "-O", "orphan_file")
		if d.sb.s.Compat>>12&1 == 0 {
			t.Skip("this mke2fs knows no orphan_file")
		}
		d.write("/keep", pattern(100000, 1), 0)
		names := []string{"/gone", "/short"}
		for _, n := range names {
			d.write(n, pattern(200000, 2), 0)
		}
		var inos []uint32
		for _, n := range names {
			in, err := d.sb.Root().Lookup(nil, n[1:])
			must(t, err)
			inos = append(inos, in.(*inode).ino)
		}
		file, err := d.sb.iget(d.sb.s.OrphanFileInode, false)
		must(t, err)
		r, err := file.mapBlock(1)
		must(t, err)
		block, size := int64(r.phys)<<d.sb.blockBits, d.sb.blockSize
		d.umount()
		script := filepath.Join(t.TempDir(), "script")
		must(t, os.WriteFile(script, []byte("sif gone links_count 0\nunlink gone\nsif short size 5000\n"), 0o644))
		img := filepath.Join(t.TempDir(), "img")
		must(t, os.WriteFile(img, content(t, d.dev), 0o600))
		mustRun(t, "debugfs", "-w", "-f", script, img)
		raw, err := os.ReadFile(img)
		must(t, err)
		bad := append([]byte(nil), raw...)
		p := raw[block:][:size]
		le32(p[8:], inos[0])
		le32(p[size-12:], inos[1])
		le32(p[size-4:], file.orphanSum(r.phys, p))
		s := raw[1024:2048]
		s[102] |= 1 // RO_COMPAT_ORPHAN_PRESENT
		le32(s[1020:], disk.SuperChecksum(s))
		copy(bad[1024:], s)
		bad[block+20] ^= 1 // the checksum is wrong
		m, err := Mount(Ext4, bdev.NewMem("ubda", bad, false), 0, "")
		must(t, err)
		if !m.(*superBlock).ReadOnly() {
			t.Error("mounted read-write with a damaged orphan file")
		}
		m.Release()
		d.dev = bdev.NewMem("ubda", raw, false)
		d.mount()
		free := d.sb.Statfs().Bfree
		d.expect("/short", pattern(200000, 2)[:5000])
		d.expect("/keep", pattern(100000, 1))
		d.remount("after the orphan file")
		if n := d.sb.Statfs().Bfree; n < free {
			t.Errorf("%d blocks free, before %d", n, free)
		}
		if d.sb.s.ROCompat>>16&1 != 0 {
			t.Error("the orphan file still counts as in use")
		}
		d.umount()
	}
}
