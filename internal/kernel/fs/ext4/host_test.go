package ext4

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
)

// hostMount mounts an image with the host's own ext4, and returns the directory. umount is for who needs it before the end.
func hostMount(t *testing.T, img, options string) (dir string, umount func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root mounts on the host")
	}
	dir = filepath.Join(t.TempDir(), "host")
	must(t, os.Mkdir(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,"+options, img, dir).CombinedOutput(); err != nil {
		t.Skipf("the host does not mount it: %s", out)
	}
	mounted := true
	umount = func() {
		if mounted {
			mounted = false
			if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// TestHostKernel lets the host's ext4 read what we have written, and us what it has written; it also replays our journals and
// we its. Every kind of file system in three block sizes; without EXT4_LONG only some.
func TestHostKernel(t *testing.T) {
	sizes := []string{"1024", "2048", "4096"}
	for i, f := range featureTable {
		for j, bs := range sizes {
			if f.how == "no" || os.Getenv("EXT4_LONG") == "" && (i%7 != 0 || i/7%len(sizes) != j) {
				continue
			}
			t.Run(f.name+"-"+bs, func(t *testing.T) {
				img := filepath.Join(t.TempDir(), "img")
				args := append(append([]string{"-q", "-F", "-b", bs}, f.args...), img, "64M")
				mkfs := func() {
					if out, err := exec.Command(tool(t, "mke2fs"), args...).CombinedOutput(); err != nil {
						t.Skipf("this mke2fs cannot make it: %s", out)
					}
				}
				mkfs()
				hostWrites(t, img)
				if f.how == "rw" {
					mkfs()
					weWrite(t, img, uint64(i))
				}
			})
		}
	}
}

// hostWrites has the host make a tree. We read it from an image as a crash leaves it, and again when it is unmounted.
func hostWrites(t *testing.T, img string) {
	t.Helper()
	dir, umount := hostMount(t, img, "rw")
	tree := filepath.Join(dir, "tree")
	must(t, os.Mkdir(tree, 0o755))
	makeTree(t, tree)
	orphan, err := os.Create(filepath.Join(dir, "orphan"))
	must(t, err)
	defer orphan.Close()
	_, err = orphan.Write(pattern(100000, 1))
	must(t, err)
	must(t, os.Remove(orphan.Name()))
	unix.Sync()
	crashed, err := os.ReadFile(img)
	must(t, err)
	dev := bdev.NewMem("ubda", crashed, false)
	sb, err := Mount(Ext4, dev, 0, "")
	must(t, err)
	in, err := sb.Root().Lookup(nil, "tree")
	must(t, err)
	compareTree(t, in, tree, "crashed")
	told := sb.(*superBlock).ReadOnly() || sb.(*superBlock).w.journal == nil // then the orphan stays
	sb.Release()
	if !told {
		check(t, content(t, dev), "after the host's crash")
	}
	orphan.Close()
	reference := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-a", tree, reference).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	umount()
	clean := mountImage(t, Ext4, img)
	if in, err = clean.Root().Lookup(nil, "tree"); err != nil {
		t.Fatal(err)
	}
	compareTree(t, in, reference, "clean")
}

// weWrite plays a random history. The host reads what a crash leaves, then what an unmount leaves, and changes it.
func weWrite(t *testing.T, img string, seed uint64) {
	t.Helper()
	raw, err := os.ReadFile(img)
	must(t, err)
	d := &rwDisk{t: t, typ: Ext4, dev: bdev.NewMem("ubda", raw, false)}
	d.mount()
	m := newModel(d, seed)
	for range 300 {
		m.step()
	}
	m.compare()
	must(t, m.sb.Sync())
	for _, state := range []string{"crashed", "unmounted"} {
		if state == "unmounted" {
			d.umount()
		}
		must(t, os.WriteFile(img, content(t, d.dev), 0o600))
		dir, umount := hostMount(t, img, "rw")
		ours := mountImage(t, Ext4, img)
		compareTree(t, ours.Root(), dir, state)
		if state == "unmounted" {
			must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
			makeTree(t, filepath.Join(dir, "tree"))
			if out, err := exec.Command("rm", "-rf", filepath.Join(dir, "tree")).CombinedOutput(); err != nil {
				t.Fatalf("rm: %v\n%s", err, out)
			}
		}
		umount()
		after, err := os.ReadFile(img)
		must(t, err)
		check(t, after, state+", used by the host")
	}
}
