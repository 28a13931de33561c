package ext4

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// smallTree is a tree whose image has every kind of metadata in little room.
func smallTree(t testing.TB, dir string) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "small"), []byte("small"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "medium"), make([]byte, 40_000), 0o644))
	must(os.MkdirAll(filepath.Join(dir, "d/e"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "d/e/x"), []byte("x"), 0o644))
	must(os.Symlink("d/e/x", filepath.Join(dir, "fast")))
	must(os.Symlink(strings.Repeat("s", 200), filepath.Join(dir, "slow")))
	must(os.Mkdir(filepath.Join(dir, "hashed"), 0o755))
	for i := range 150 {
		must(os.WriteFile(filepath.Join(dir, "hashed", fmt.Sprintf("name-%d-%s", i, strings.Repeat("y", 20))), nil, 0o644))
	}
	f, err := os.Create(filepath.Join(dir, "striped"))
	must(err)
	for i := range 60 {
		_, err := f.WriteAt([]byte{byte(i) | 1}, int64(i)*4096)
		must(err)
	}
	_, err = f.WriteAt([]byte("far"), 20_000_000)
	must(err)
	must(f.Close())
	_ = unix.Setxattr(filepath.Join(dir, "small"), "user.a", []byte(strings.Repeat("v", 300)), 0)
	_ = unix.Setxattr(filepath.Join(dir, "medium"), "user.b", []byte("w"), 0)
}

// target is a range of the image that corruption aims at.
type target struct{ off, n int }

// targets finds the metadata of an image.
func targets(t testing.TB, img []byte) (out []target) {
	sb0, err := Mount(Ext4, bdev.NewMem("ubda", append([]byte(nil), img...), true), unix.MS_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	sb := sb0.(*superBlock)
	bs := sb.blockSize
	out = append(out, target{1024, 300}, target{1024 + 336, 300}, target{int(sb.descBlock(0)) * bs, bs})
	add := func(block uint64) { out = append(out, target{int(block) * bs, bs}) }
	for ino := uint32(1); ino <= sb.s.InodesCount; ino++ {
		in, err := sb.iget(ino, true)
		if err != nil {
			continue
		}
		g, i := (ino-1)/sb.s.InodesPerGroup, (ino-1)%sb.s.InodesPerGroup
		if i < 24 {
			out = append(out, target{int(sb.tables[g])*bs + int(i)*sb.inodeSize, sb.inodeSize})
		}
		if in.raw.FileACL != 0 {
			add(in.raw.FileACL)
		}
		if in.attr.IsDir() && !in.inline() {
			for b := uint64(0); int64(b*uint64(bs)) < in.attr.Size; b++ {
				if r, err := in.mapBlock(b); err == nil && r.kind == written {
					add(r.phys)
				}
			}
		}
		if le := binary.LittleEndian; in.raw.Flags&0x80000 != 0 && in.raw.Block[6] > 0 {
			add(uint64(le.Uint32(in.raw.Block[16:])))
		} else if in.raw.Flags&0x10080000 == 0 && in.attr.IsRegular() {
			for i := 12; i < 15; i++ {
				if p := le.Uint32(in.raw.Block[4*i:]); p != 0 {
					add(uint64(p))
				}
			}
		}
	}
	return out
}

// corrupt changes a few bytes of a copy of img.
func corrupt(img []byte, where []target, rng *rand.Rand) []byte {
	p := append([]byte(nil), img...)
	le := binary.LittleEndian
	for range 1 + rng.IntN(6) {
		tg := where[rng.IntN(len(where))]
		at := tg.off + rng.IntN(tg.n)
		if rng.IntN(3) == 0 { // aim at the beginning, where headers are
			at = tg.off + rng.IntN(min(tg.n, 64))
		}
		if at+8 > len(p) {
			continue
		}
		switch rng.IntN(7) {
		case 0:
			p[at] ^= 1 << rng.IntN(8)
		case 1:
			p[at] = byte(rng.Uint32())
		case 2:
			le.PutUint32(p[at&^3:], ^uint32(0))
		case 3:
			le.PutUint32(p[at&^3:], 0)
		case 4:
			le.PutUint32(p[at&^3:], rng.Uint32()>>rng.IntN(32))
		case 5:
			le.PutUint16(p[at&^1:], uint16(rng.Uint32()>>rng.IntN(16)))
		case 6:
			src := where[rng.IntN(len(where))]
			copy(p[tg.off:tg.off+min(tg.n, src.n)], p[src.off:src.off+min(tg.n, src.n)])
		}
	}
	return p
}

// walk uses everything of a file system that may be broken.
func walk(t testing.TB, sb *superBlock) {
	budget := 3000
	var visit func(in vfs.Inode, depth int)
	visit = func(in vfs.Inode, depth int) {
		budget--
		if budget < 0 || depth > 20 {
			return
		}
		a := in.Attr()
		names, _ := in.Listxattr(nil)
		for _, n := range names {
			_, _ = in.Getxattr(nil, n)
		}
		switch a.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			_, _ = in.Readlink(nil)
		case unix.S_IFREG:
			ops, err := in.Open(nil, vfs.NewFile(vfs.Path{}, in, nil, unix.O_RDONLY))
			if err != nil {
				return
			}
			p := make([]byte, 8192)
			for _, off := range []int64{0, 4096, a.Size / 2, a.Size - 100, 1 << 40} {
				if off >= 0 {
					_, _ = ops.Read(nil, nil, uio.ToBytes(p), off)
				}
			}
			off := int64(0)
			for range 100 {
				n, err := ops.(vfs.Seeker).Seek(nil, nil, off, unix.SEEK_DATA)
				if err != nil {
					break
				}
				if off, err = ops.(vfs.Seeker).Seek(nil, nil, n, unix.SEEK_HOLE); err != nil {
					break
				}
			}
			_, _ = in.(*inode).Extents(0, 1<<20, false, false)
			in.(*inode).Mapped(0, false)
		case unix.S_IFDIR:
			_, _ = in.Lookup(nil, "missing")
			_, _ = in.Lookup(nil, "..")
			count := 0
			ops, err := in.Open(nil, vfs.NewFile(vfs.Path{}, in, nil, unix.O_RDONLY))
			if err != nil {
				return
			}
			var ents []vfs.DirEnt
			_ = ops.(vfs.DirReader).ReadDir(nil, nil, 0, func(e vfs.DirEnt) bool {
				ents = append(ents, e)
				count++
				return count < 500
			})
			for _, e := range ents {
				if child, err := in.Lookup(nil, e.Name); err == nil && e.Name != "." && e.Name != ".." {
					visit(child, depth+1)
				}
			}
		}
	}
	visit(sb.Root(), 0)
	sb.Statfs()
}

// corruptImages makes the images that corruption starts from.
func corruptImages(t testing.TB) map[string][]byte {
	dir := t.TempDir()
	smallTree(t, dir)
	out := map[string][]byte{}
	for name, args := range map[string][]string{
		"ext2":   {"-b", "1024", "-N", "256", "-O", "none,filetype,ext_attr,dir_index,sparse_super"},
		"ext4":   {"-b", "1024", "-N", "256", "-O", "none,filetype,ext_attr,dir_index,extent,64bit,flex_bg,extra_isize,huge_file,has_journal", "-J", "size=1"},
		"inline": {"-b", "1024", "-I", "512", "-N", "256", "-O", "none,filetype,ext_attr,dir_index,extent,inline_data,ea_inode,extra_isize"},
		"csum":   {"-b", "1024", "-N", "256", "-O", "none,filetype,ext_attr,dir_index,extent,metadata_csum,64bit,extra_isize"},
	} {
		img := mkImage(t, dir, "3M", args...)
		cmd := exec.Command(tool(t, "e2fsck"), "-fyD", img)
		if o, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
			t.Fatalf("%s: e2fsck: %v\n%s", name, err, o)
		}
		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	return out
}

func tryCorrupt(t testing.TB, p []byte) (mounted bool) {
	sb, err := Mount(Ext4, bdev.NewMem("ubda", p, true), unix.MS_RDONLY|unix.MS_SILENT, "")
	if err != nil {
		if _, ok := err.(unix.Errno); !ok {
			t.Fatalf("mount: error %v is no errno", err)
		}
		return false
	}
	walk(t, sb.(*superBlock))
	return true
}

// TestCorrupt mounts and walks thousands of damaged images: nothing may panic or hang.
func TestCorrupt(t *testing.T) {
	seeds := 300
	if s := os.Getenv("EXT4_CORRUPT_SEEDS"); s != "" {
		if _, err := fmt.Sscan(s, &seeds); err != nil {
			t.Fatal(err)
		}
	}
	useMemfiles(t)
	for name, img := range corruptImages(t) {
		t.Run(name, func(t *testing.T) {
			where := targets(t, img)
			ok := 0
			for seed := range seeds {
				func() {
					defer func() {
						if r := recover(); r != nil {
							t.Errorf("seed %d", seed)
							panic(r)
						}
					}()
					if tryCorrupt(t, corrupt(img, where, rand.New(rand.NewPCG(uint64(seed), 99)))) {
						ok++
					}
				}()
			}
			t.Logf("%d of %d images could be mounted", ok, seeds)
			if ok == 0 {
				t.Error("no damaged image could be mounted: nothing was tested")
			}
		})
	}
}

// FuzzMount is the same with the fuzzer's choice: seed pairs select the damage.
func FuzzMount(f *testing.F) {
	images := corruptImages(f)
	img := images["ext4"]
	where := targets(f, img)
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		tryCorrupt(t, corrupt(img, where, rand.New(rand.NewPCG(a, b))))
	})
}

// memMemfile is a platform.Memfile in memory.
type memMemfile struct {
	p    []byte
	host platform.HostFile
	open *int
}

func (m *memMemfile) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.p[off:]), nil }
func (m *memMemfile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.p) {
		m.p = append(m.p, make([]byte, need-len(m.p))...)
	}
	return copy(m.p[off:], p), nil
}
func (m *memMemfile) Truncate(int64) error     { return nil }
func (m *memMemfile) Punch(off, n int64) error { return nil }
func (m *memMemfile) Allocated() int64         { return int64(len(m.p)) }

func (m *memMemfile) Window(int64, int, bool) []byte { return nil }
func (m *memMemfile) Host() *platform.HostFile       { return &m.host }
func (m *memMemfile) Close() error                   { *m.open--; return nil }

// useMemfiles makes NewMemfile give memory; the result counts the open ones.
func useMemfiles(t testing.TB) *int {
	n := new(int)
	NewMemfile = func(string) (platform.Memfile, error) {
		*n++
		m := &memMemfile{open: n}
		m.host.Installed = m
		return m, nil
	}
	t.Cleanup(func() { NewMemfile = nil })
	return n
}
