package ext4

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// matrix is the kinds of file system that are tried.
var matrix = []struct {
	name string
	typ  *vfs.FilesystemType
	args []string
}{
	{"ext2-default", Ext2, []string{"-t", "ext2"}},
	{"ext3-default", Ext3, []string{"-t", "ext3"}},
	{"ext4-default", Ext4, []string{"-t", "ext4"}},
	{"ext2-1k", Ext2, []string{"-t", "ext2", "-b", "1024", "-O", "none,filetype,sparse_super,ext_attr"}},
	{"ext2-4k-as-ext4", Ext4, []string{"-t", "ext2", "-b", "4096", "-O", "ext_attr"}},
	{"ext2-nofiletype", Ext2, []string{"-t", "ext2", "-b", "1024", "-I", "128", "-O", "none,ext_attr"}},
	{"ext2-dir_index", Ext2, []string{"-t", "ext2", "-b", "2048", "-O", "none,filetype,dir_index,ext_attr"}},
	{"ext3-1k", Ext3, []string{"-b", "1024", "-I", "256", "-O", "none,filetype,has_journal,dir_index,ext_attr,sparse_super,large_file"}},
	{"ext3-4k", Ext4, []string{"-b", "4096", "-I", "128", "-O", "none,filetype,has_journal,dir_index,ext_attr,sparse_super,large_file"}},
	{"ext4-1k", Ext4, []string{"-b", "1024", "-I", "256", "-O", ext4Features}},
	{"ext4-2k", Ext4, []string{"-b", "2048", "-I", "256", "-O", ext4Features}},
	{"ext4-4k", Ext4, []string{"-b", "4096", "-I", "256", "-O", ext4Features}},
	{"ext4-512inode", Ext4, []string{"-b", "4096", "-I", "512", "-O", ext4Features + ",inline_data"}},
	{"ext4-inline", Ext4, []string{"-b", "1024", "-I", "256", "-O", ext4Features + ",inline_data"}},
	{"ext4-nocsum", Ext4, []string{"-b", "4096", "-O", ext4Features + ",^metadata_csum,uninit_bg"}},
	{"ext4-32bit", Ext4, []string{"-b", "4096", "-O", ext4Features + ",^64bit,^metadata_csum,uninit_bg"}},
	{"ext4-nojournal", Ext4, []string{"-b", "4096", "-O", ext4Features + ",^has_journal"}},
	{"ext4-meta_bg", Ext4, []string{"-b", "1024", "-O", ext4Features + ",meta_bg,^resize_inode"}},
	{"ext4-csum_seed", Ext4, []string{"-b", "4096", "-O", ext4Features + ",metadata_csum_seed"}},
	{"ext4-sparse2", Ext4, []string{"-b", "1024", "-O", ext4Features + ",sparse_super2"}},
	{"ext4-bigalloc", Ext4, []string{"-b", "4096", "-C", "16384", "-O", ext4Features + ",bigalloc"}},
	{"ext4-ea_inode", Ext4, []string{"-b", "1024", "-O", ext4Features + ",ea_inode,large_dir"}},
	{"ext4-noflex", Ext4, []string{"-b", "1024", "-g", "1024", "-O", ext4Features + ",^flex_bg"}},
}

const ext4Features = "none,filetype,has_journal,dir_index,ext_attr,sparse_super,large_file,huge_file,resize_inode,extent," +
	"64bit,flex_bg,metadata_csum,dir_nlink,extra_isize"

func TestMatrix(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	for _, m := range matrix {
		t.Run(m.name, func(t *testing.T) {
			img := mkImage(t, dir, "48M", m.args...)
			// e2fsck -D builds the hash trees, which mke2fs -d does not.
			for _, step := range []string{"fresh", "indexed"} {
				if step == "indexed" {
					fsck(t, img)
				}
				sb := mountImage(t, m.typ, img)
				compareTree(t, sb.Root(), dir, "")
				st := sb.Statfs()
				if st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Ffree >= st.Files {
					t.Errorf("statfs: %+v", st)
				}
				if step == "indexed" {
					many, err := sb.Root().Lookup(nil, "many")
					if err != nil {
						t.Fatal(err)
					}
					if m := many.(*inode); m.noIndex.Load() {
						t.Errorf("hash tree was not usable")
					}
				}
			}
		})
	}
}

// fsck runs e2fsck -fyD, which optimises directories.
func fsck(t *testing.T, img string) {
	t.Helper()
	cmd := exec.Command(tool(t, "e2fsck"), "-fyD", img)
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

func TestHashVersions(t *testing.T) {
	dir := t.TempDir()
	for i := range 2000 {
		name := fmt.Sprintf("%d-ä-%x", i, i*7919)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []string{"legacy", "half_md4", "tea"} {
		for _, sign := range []string{"signed_hash", "unsigned_hash"} {
			t.Run(h+"-"+sign, func(t *testing.T) {
				img := mkImage(t, dir, "16M", "-b", "1024", "-N", "3000", "-O", ext4Features)
				mustRun(t, "tune2fs", "-E", "hash_alg="+h, img)
				setHashSign(t, img, sign == "unsigned_hash")
				fsck(t, img)
				sb := mountImage(t, Ext4, img)
				root := sb.Root().(*inode)
				if root.raw.Flags&0x1000 == 0 {
					t.Fatal("root directory has no index")
				}
				compareTree(t, root, dir, "")
				if root.noIndex.Load() {
					t.Error("hash tree was not usable")
				}
				// Without a fallback every name must be found through the tree.
				ents, err := list(t, root)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range ents {
					if e.Name == "." || e.Name == ".." {
						continue
					}
					if ino, ok, err := root.findHashed(e.Name); !ok || err != nil || uint64(ino) != e.Ino {
						t.Fatalf("%q: %d, %v, %v", e.Name, ino, ok, err)
					}
				}
			})
		}
	}
}

// setHashSign sets the superblock's hint whether characters are signed (e2fsck keeps it).
func setHashSign(t *testing.T, img string, unsigned bool) {
	flag := "1"
	if unsigned {
		flag = "2"
	}
	mustRun(t, "debugfs", "-w", "-R", "set_super_value flags "+flag, img)
}

func TestBigSparseFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	offs := []int64{0, 1 << 20, 1 << 30, 1<<32 + 12345, 1 << 38, size - 100}
	for _, o := range offs {
		if _, err := f.WriteAt([]byte(fmt.Sprintf("at %d", o)), o); err != nil {
			t.Skipf("the host file system has no files that large: %v", err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	sb := mountImage(t, Ext4, mkImage(t, dir, "32M", "-b", "4096", "-O", ext4Features))
	in, err := sb.Root().Lookup(nil, "big")
	if err != nil {
		t.Fatal(err)
	}
	if in.Attr().Size != size {
		t.Fatalf("size %d", in.Attr().Size)
	}
	ops := openRegular(t, in)
	for _, o := range offs {
		p := make([]byte, len(fmt.Sprintf("at %d", o)))
		if n, err := readAt(ops, p, o); err != nil || n != len(p) || string(p) != fmt.Sprintf("at %d", o) {
			t.Errorf("at %d: %q %v", o, p, err)
		}
	}
	seek := func(off int64, whence int) int64 {
		n, err := ops.(vfs.Seeker).Seek(nil, nil, off, whence)
		if err != nil {
			return -1
		}
		return n
	}
	if got := seek(4096, unix.SEEK_DATA); got != 1<<20 {
		t.Errorf("SEEK_DATA: %d", got)
	}
	if got := seek(0, unix.SEEK_HOLE); got != 4096 {
		t.Errorf("SEEK_HOLE: %d", got)
	}
	if got := seek(1<<32+3*4096+12345, unix.SEEK_DATA); got != 1<<38 {
		t.Errorf("SEEK_DATA far: %d", got)
	}
	if got := seek(size, unix.SEEK_DATA); got != -1 {
		t.Errorf("SEEK_DATA at the end: %d", got)
	}
}

// TestIndirect reads a file that needs blocks of all three indirections.
func TestIndirect(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	offs := []int64{0, 11 << 10, 12 << 10, 267 << 10, 268 << 10, 60 << 20, 70 << 20, 300<<20 + 17}
	for _, o := range offs {
		_, err := f.WriteAt(fmt.Appendf(nil, "at %d", o), o)
		must(t, err)
	}
	must(t, f.Close())
	sb := mountImage(t, Ext2, mkImage(t, dir, "8M", "-b", "1024", "-O", "none,filetype,large_file"))
	in, err := sb.Root().Lookup(nil, "f")
	must(t, err)
	ops := openRegular(t, in)
	for _, o := range offs {
		want := fmt.Sprintf("at %d", o)
		p := make([]byte, len(want))
		if n, err := readAt(ops, p, o); err != nil || n != len(p) || string(p) != want {
			t.Errorf("at %d: %q %v", o, p, err)
		}
		p = make([]byte, 3)
		if n, err := readAt(ops, p, o+int64(len(want))); err != nil || string(p[:n]) != string(make([]byte, n)) {
			t.Errorf("after %d: %q %v", o, p, err)
		}
	}
	var data []int64
	for off := int64(0); ; {
		d, err := ops.(vfs.Seeker).Seek(nil, nil, off, unix.SEEK_DATA)
		if err != nil {
			break
		}
		data = append(data, d)
		off, err = ops.(vfs.Seeker).Seek(nil, nil, d, unix.SEEK_HOLE)
		must(t, err)
	}
	want := []int64{0, 11 << 10, 267 << 10, 60 << 20, 70 << 20, 300 << 20}
	if fmt.Sprint(data) != fmt.Sprint(want) {
		t.Errorf("data at %v, want %v", data, want)
	}
}

func TestManyEntries(t *testing.T) {
	dir := t.TempDir()
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := mkImage(t, dir, "32M", "-b", "1024", "-N", "6000", "-O", ext4Features)
	fsck(t, img)
	sb := mountImage(t, Ext4, img)
	compareTree(t, sb.Root(), dir, "")
	if sb.root.noIndex.Load() {
		t.Error("hash tree was not usable")
	}
	a, _ := sb.Root().Lookup(nil, "file-77")
	b, _ := sb.Root().Lookup(nil, "file-77")
	if a != b {
		t.Error("two inodes for one file")
	}
}

// TestUnmountedIsCollected holds nothing of a file system and expects the garbage collector to find it.
func TestUnmountedIsCollected(t *testing.T) {
	dir := t.TempDir()
	smallTree(t, dir)
	raw, err := os.ReadFile(mkImage(t, dir, "4M", "-b", "1024", "-O", "none,filetype,extent"))
	must(t, err)
	w := func() weak.Pointer[superBlock] {
		sb, err := Mount(Ext4, bdev.NewMem("ubda", raw, true), unix.MS_RDONLY, "")
		must(t, err)
		walk(t, sb.(*superBlock))
		return weak.Make(sb.(*superBlock))
	}()
	for range 20 {
		runtime.GC()
		if w.Value() == nil {
			return
		}
	}
	t.Error("the file system is still in memory")
}
