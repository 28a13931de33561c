package ext4

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// TestZonesAreUsed compares the zones with the bitmaps that mke2fs made: all their blocks are used ones, and tables, bitmaps and
// the journal are among them.
func TestZonesAreUsed(t *testing.T) {
	for _, f := range featureTable {
		if f.how != "rw" {
			continue
		}
		for _, bs := range []string{"1024", "4096"} {
			t.Run(f.name+"-"+bs, func(t *testing.T) {
				d := newDisk(t, Ext4, "40M", append([]string{"-b", bs}, f.args...)...)
				defer d.umount()
				sb, end := d.sb, uint64(0)
				for _, z := range sb.zones {
					if z.first < end || z.n == 0 {
						t.Fatalf("zone of %d blocks at %d, the one before ends at %d", z.n, z.first, end)
					}
					end = z.first + z.n
					for b := z.first; b < end; b++ {
						gn, bit := sb.groupOf(b)
						sb.w.mu.Lock()
						buf, err := sb.bitmap(gn, false)
						sb.w.mu.Unlock()
						must(t, err)
						if !bitSet(buf.Data(), bit) {
							t.Fatalf("block %d is in a zone, but free", b)
						}
						buf.Release()
					}
				}
				for gn := range sb.groups {
					g := &sb.w.groups[gn].desc
					for _, b := range []uint64{g.BlockBitmap, g.InodeBitmap, g.InodeTable, g.InodeTable + uint64(sb.tableBlocks()) - 1} {
						if sb.validBlocks(12, b, 1) || sb.validBlocks(0, b-min(b, 2), 4) {
							t.Errorf("block %d of group %d is in no zone", b, gn)
						}
					}
				}
				if sb.s.JournalInode != 0 {
					in, err := sb.iget(sb.s.JournalInode, true)
					must(t, err)
					r, err := in.mapBlock(1)
					must(t, err)
					if sb.validBlocks(12, r.phys, 1) || !sb.validBlocks(in.ino, r.phys, 1) {
						t.Errorf("block %d of the journal is not the journal's alone", r.phys)
					}
				}
			})
		}
	}
}

// TestTreesIntoMetadata has files whose blocks are said to be those of the table of inodes, a bitmap, the descriptors and the
// journal. They can neither be read nor written, their removal frees nothing, and whose the blocks are finds them as they were.
func TestTreesIntoMetadata(t *testing.T) {
	for _, kind := range []struct {
		name string
		word int // of i_block, where the first block of a file is
		args []string
	}{
		{"extents", 5, []string{"-t", "ext4"}},
		{"pointers", 0, []string{"-t", "ext3", "-O", "^extent"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			img := mkImage(t, t.TempDir(), "32M", kind.args...)
			raw, err := os.ReadFile(img)
			must(t, err)
			d := &rwDisk{t: t, typ: Ext4, dev: bdev.NewMem("ubda", raw, false)}
			d.mount()
			sb := d.sb
			in, err := sb.iget(sb.s.JournalInode, true)
			must(t, err)
			r, err := in.mapBlock(0)
			must(t, err)
			g := &sb.w.groups[0].desc
			blocks := map[string]uint64{"table": g.InodeTable + 1, "bitmap": g.BlockBitmap, "descriptors": uint64(sb.s.FirstDataBlock) + 1, "journal": r.phys + 3}
			d.write("/good", pattern(5000, 1), 0)
			for name := range blocks {
				d.write("/"+name, []byte("x"), 0)
			}
			d.umount()
			must(t, os.WriteFile(img, content(t, d.dev), 0o600))
			var script strings.Builder
			for name, b := range blocks {
				fmt.Fprintf(&script, "set_inode_field %s block[%d] %d\n", name, kind.word, b)
			}
			cmds := filepath.Join(t.TempDir(), "cmds")
			must(t, os.WriteFile(cmds, []byte(script.String()), 0o600))
			mustRun(t, "debugfs", "-w", "-f", cmds, img)
			if raw, err = os.ReadFile(img); err != nil {
				t.Fatal(err)
			}
			d.dev, d.opt = bdev.NewMem("ubda", raw, false), "errors=continue"
			d.mount()
			mark := []byte("overwrites what is not its own")
			for name := range blocks {
				f, err := vfs.Open(d, nil, "/"+name, vfs.OpenHow{Flags: unix.O_RDWR})
				must(t, err)
				if n, err := vfs.Pread(d, f, uio.ToBytes(make([]byte, 1)), 0); err != errCorrupt {
					t.Errorf("%s: read %d bytes, %v", name, n, err)
				}
				if n, err := vfs.Pwrite(d, f, uio.FromBytes(mark), 0); err != errCorrupt {
					t.Errorf("%s: wrote %d bytes, %v", name, n, err)
				}
				f.DecRef()
				_ = vfs.Unlink(d, nil, "/"+name)
			}
			d.expect("/good", pattern(5000, 1))
			d.umount()
			after := content(t, d.dev)
			if i := bytes.Index(after, mark); i >= 0 {
				t.Errorf("block %d was overwritten", i>>d.sb.blockBits)
			}
			// What is to be mended are the four files and the blocks that they had, and nothing of others.
			must(t, os.WriteFile(img, after, 0o600))
			out, err := exec.Command(tool(t, "e2fsck"), "-fy", img).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "FILE SYSTEM WAS MODIFIED") {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
			for _, word := range []string{"/good", "Relocate", "Root inode", "uperblock"} {
				if strings.Contains(string(out), word) {
					t.Errorf("e2fsck speaks of %q:\n%s", word, out)
				}
			}
		})
	}
}
