package ext4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// replayed runs e2fsck to replay the journal and then to check: only the replay may change anything.
func replayed(t testing.TB, img []byte, what string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "crash")
	must(t, os.WriteFile(name, img, 0o600))
	defer os.Remove(name)
	// A journal that was replayed makes e2fsck exit with 1.
	cmd := exec.Command(tool(t, "e2fsck"), "-p", "-E", "journal_only", name)
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
		t.Fatalf("%s: e2fsck -p: %v\n%s", what, err, out)
	}
	out, err := exec.Command(tool(t, "e2fsck"), "-fn", name).CombinedOutput()
	if err != nil {
		// Orphans are left by the journal: those alone are no damage.
		if s := string(out); !strings.Contains(s, "orphan") || strings.Contains(s, "bitmap differences") && !strings.Contains(s, "orphaned") {
			t.Fatalf("%s: e2fsck -fn: %v\n%s", what, err, out)
		}
		out, err := exec.Command(tool(t, "e2fsck"), "-fp", name).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "orphan") {
			t.Fatalf("%s: e2fsck -fp: %v\n%s", what, err, out)
		}
	}
}

// TestCrash takes what a crash leaves at many points of a random history.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  *vfs.FilesystemType
		opt  string
		args []string
	}{
		{"ext4-1k", Ext4, "", []string{"-b", "1024", "-O", ext4Features}},
		{"ext4-4k", Ext4, "", []string{"-b", "4096", "-O", ext4Features}},
		{"ext3-1k", Ext3, "", []string{"-t", "ext3", "-b", "1024"}},
		{"ext4-journal", Ext4, "data=journal", []string{"-b", "1024", "-O", ext4Features}},
		{"ext4-nocsum", Ext4, "", []string{"-b", "1024", "-O", ext4Features + ",^metadata_csum,^64bit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(newDiskWith(t, c.typ, c.opt, "24M", c.args...), 5)
			rng := rand.New(rand.NewPCG(7, 7))
			synced := map[string][]byte{}
			for i := range 300 {
				m.step()
				if i%25 == 7 {
					p := fmt.Sprintf("/synced%d", i)
					m.write(p, pattern(3000+i, i), 0)
					f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_RDONLY})
					must(t, err)
					must(t, vfs.Fsync(m, f, false))
					f.DecRef()
					synced[p] = pattern(3000+i, i)
					dir, name, _ := m.find(p)
					dir.dir[name] = &modelNode{links: 1, data: synced[p]}
				}
				if i%12 == 0 {
					crash := m.dev.CrashClone(rng)
					replayed(t, content(t, crash), fmt.Sprintf("crash after %d operations", i))
					d := &rwDisk{t: t, typ: c.typ, opt: c.opt, dev: crash}
					d.mount()
					for p, want := range synced {
						if _, _, n := m.find(p); n != nil && bytes.Equal(n.data, want) && n.links == 1 {
							d.expect(p, want)
						}
					}
					d.umount()
					check(t, content(t, crash), fmt.Sprintf("own recovery after %d operations", i))
				}
			}
			m.umount()
		})
	}
}

// TestBigDirectory makes and removes many entries.
func TestBigDirectory(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		n    int
	}{
		{"1k", []string{"-b", "1024", "-N", "12000", "-O", ext4Features}, 10000},
		{"4k", []string{"-b", "4096", "-N", "12000", "-O", ext4Features}, 10000},
		{"nocsum", []string{"-b", "1024", "-N", "8000", "-O", ext4Features + ",^metadata_csum"}, 6000},
		{"linear", []string{"-b", "4096", "-N", "4000", "-O", ext4Features + ",^dir_index"}, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t, Ext4, "40M", c.args...)
			must(t, vfs.Mkdir(d, nil, "/d", 0o755))
			name := func(i int) string { return fmt.Sprintf("/d/file-%d-%s", i*7919, strings.Repeat("q", i%40)) }
			for i := range c.n {
				must(t, vfs.Mknod(d, nil, name(i), unix.S_IFREG|0o644, 0))
			}
			d.remount("filled")
			if n := len(d.list("/d")); n != c.n {
				t.Fatalf("%d entries", n)
			}
			dir, err := d.sb.Root().Lookup(nil, "d")
			must(t, err)
			if c.name != "linear" && !dir.(*inode).indexed() {
				t.Error("no index")
			}
			for i := range c.n {
				if _, err := vfs.Stat(d, nil, name(i), 0); err != nil {
					t.Fatalf("%s: %v", name(i), err)
				}
			}
			for i := 0; i < c.n; i += 2 {
				must(t, vfs.Unlink(d, nil, name(i)))
			}
			d.remount("half removed")
			for i := 0; i < c.n; i += 2 {
				must(t, vfs.Mknod(d, nil, name(i)+"x", unix.S_IFREG|0o644, 0))
			}
			d.remount("filled again")
			for i := range c.n {
				p := name(i)
				if i%2 == 0 {
					p += "x"
				}
				must(t, vfs.Unlink(d, nil, p))
			}
			must(t, vfs.Rmdir(d, nil, "/d"))
			d.remount("empty")
			d.umount()
		})
	}
}

// TestFull fills small disks.
func TestFull(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  *vfs.FilesystemType
		args []string
	}{
		{"ext4", Ext4, []string{"-b", "1024", "-O", ext4Features}},
		{"ext4-4k", Ext4, []string{"-b", "4096", "-m", "0", "-O", ext4Features}},
		{"ext2", Ext2, []string{"-t", "ext2", "-b", "1024"}},
		{"ext4-nojournal", Ext4, []string{"-b", "1024", "-O", ext4Features + ",^has_journal"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(newDisk(t, c.typ, "6M", append(c.args, "-N", "64")...), 3)
			fill := pattern(300000, 1)
			full := false
			for i := 0; !full && i < 60; i++ {
				p := fmt.Sprintf("/fill%d", i)
				f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600})
				if err == unix.ENOSPC {
					break
				}
				must(t, err)
				k, err := vfs.Pwrite(m, f, uio.FromBytes(fill), 0)
				f.DecRef()
				if full = err == unix.ENOSPC || k < len(fill); !full {
					must(t, err)
				}
				dir, name, _ := m.find(p)
				dir.dir[name] = &modelNode{links: 1, data: append([]byte(nil), fill[:k]...)}
			}
			if !full {
				t.Fatal("the disk does not get full")
			}
			m.compare()
			m.remount("full")
			for range 4 {
				for range 60 {
					m.step()
				}
				m.compare()
				m.remount(fmt.Sprintf("full, %d operations", m.ops))
				m.compare()
			}
			user := m.As(1000, 1000)
			must(t, vfs.Chmod(m, nil, "/", 0o777, 0))
			if st := m.sb.Statfs(); st.Bavail == 0 {
				if _, err := vfs.Open(user, nil, "/user", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}); err == nil {
					f, err := vfs.Open(user, nil, "/user", vfs.OpenHow{Flags: unix.O_WRONLY})
					must(t, err)
					if _, err := vfs.Pwrite(user, f, uio.FromBytes(fill), 0); err != unix.ENOSPC {
						t.Errorf("a user got reserved blocks: %v", err)
					}
				}
			}
		})
	}
}

// TestConcurrent lets several callers work at once.
func TestConcurrent(t *testing.T) {
	for _, features := range []string{ext4Features, ext4Features + ",^has_journal"} {
		d := newDisk(t, Ext4, "48M", "-b", "1024", "-O", features)
		must(t, vfs.Mkdir(d, nil, "/shared", 0o777))
		var wg sync.WaitGroup
		for w := range 4 {
			c := &rwDisk{t: t, typ: d.typ, dev: d.dev, sb: d.sb, Caller: d.Fork()}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Ctx.Release()
				rng := rand.New(rand.NewPCG(uint64(w), 1))
				home := fmt.Sprintf("/home%d", w)
				must(t, vfs.Mkdir(c, nil, home, 0o755))
				for i := range 150 {
					p := fmt.Sprintf("%s/f%d", home, i%20)
					data := pattern(1+rng.IntN(40000), i)
					if _, err := vfs.Stat(c, nil, p, 0); err == nil && rng.IntN(2) == 0 {
						must(t, vfs.Unlink(c, nil, p))
					}
					c.write(p, data, 0)
					if got := readFile(t, c, p); !bytes.Equal(got[:len(data)], data) {
						t.Errorf("%s differs", p)
					}
					shared := fmt.Sprintf("/shared/s%d", rng.IntN(30))
					switch rng.IntN(5) {
					case 0:
						_ = vfs.Mknod(c, nil, shared, unix.S_IFREG|0o666, 0)
					case 1:
						_ = vfs.Unlink(c, nil, shared)
					case 2:
						_ = vfs.Rename(c, nil, shared, nil, fmt.Sprintf("/shared/s%d", rng.IntN(30)), 0)
					case 3:
						if f, err := vfs.Open(c, nil, shared, vfs.OpenHow{Flags: unix.O_RDWR}); err == nil {
							_, _ = vfs.Pwrite(c, f, uio.FromBytes(data), int64(rng.IntN(10000)))
							_, _ = vfs.Pread(c, f, uio.ToBytes(make([]byte, 5000)), 0)
							_ = vfs.Fsync(c, f, i%2 == 0)
							f.DecRef()
						}
					case 4:
						_ = vfs.Truncate(c, nil, shared, int64(rng.IntN(20000)))
						c.list("/shared")
						_, _ = vfs.Stat(c, nil, shared, 0)
						d.sb.Statfs()
					}
				}
			}()
		}
		wg.Wait()
		d.remount("concurrent")
		d.umount()
	}
}

// TestStates looks at the flags on the disk, and at changes between read-only and read-write.
func TestStates(t *testing.T) {
	flags := func(d *rwDisk) (recover, valid bool) {
		p := content(t, d.dev)[1024:2048]
		return p[96]&4 != 0, p[58]&1 != 0
	}
	j := newDisk(t, Ext4, "8M", "-b", "1024", "-O", ext4Features)
	if r, v := flags(j); !r || !v {
		t.Errorf("mounted with a journal: needs_recovery %v, valid %v", r, v)
	}
	n := newDisk(t, Ext2, "8M", "-t", "ext2")
	if r, v := flags(n); r || v {
		t.Errorf("mounted without a journal: needs_recovery %v, valid %v", r, v)
	}
	for _, d := range []*rwDisk{j, n} {
		d.write("/f", []byte("x"), 0)
		must(t, d.sb.Remount(nil, unix.MS_RDONLY, ""))
		if r, v := flags(d); r || !v {
			t.Errorf("read-only: needs_recovery %v, valid %v", r, v)
		}
		check(t, content(t, d.dev), "remounted read-only")
		if err := d.sb.root.SetAttr(nil, &vfs.SetAttr{}); err != unix.EROFS {
			t.Errorf("change of a read-only file system: %v", err)
		}
		must(t, d.sb.Remount(nil, 0, ""))
		d.write("/f", []byte("y"), 1)
		d.remount("read-write again")
		d.expect("/f", []byte("xy"))
		d.umount()
		if r, v := flags(d); r || !v {
			t.Errorf("unmounted: needs_recovery %v, valid %v", r, v)
		}
	}
	// A device that fails makes the file system read-only.
	b := newDisk(t, Ext4, "8M", "-b", "1024", "-O", ext4Features)
	b.umount()
	bad := &failing{Mem: b.dev}
	sb, err := Mount(Ext4, bad, 0, "")
	must(t, err)
	bad.fail = true
	if _, err := sb.Root().Mkdir(nil, "d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := sb.Sync(); err != unix.EIO {
		t.Errorf("sync of a failing device: %v", err)
	}
	if _, err := sb.Root().Mkdir(nil, "e", 0o755); err != unix.EROFS {
		t.Errorf("mkdir after an error: %v", err)
	}
	sb.Release()
}

// failing is a device whose writes fail.
type failing struct {
	*bdev.Mem
	fail bool
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.fail {
		return 0, unix.EIO
	}
	return f.Mem.WriteAt(p, off)
}
