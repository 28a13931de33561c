package ext4

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// seeds is how many damaged images of each kind a test tries: few, or what EXT4_CORRUPT_SEEDS says.
func seeds(t testing.TB, few int) uint64 {
	if s := os.Getenv("EXT4_CORRUPT_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		return uint64(n)
	}
	return uint64(few)
}

// TestWriteCorrupt writes to damaged file systems: errors are fine, panics and endless loops are not.
func TestWriteCorrupt(t *testing.T) {
	for _, features := range []string{
		"none,filetype,extent,dir_index,ext_attr",
		"none,filetype,has_journal,extent,dir_index,ext_attr",
		"none,filetype,dir_index,ext_attr",
		"none,filetype,extent,ext_attr,inline_data,dir_index",
	} {
		dir := t.TempDir()
		smallTree(t, dir)
		img := mkImage(t, dir, "6M", "-b", "1024", "-I", "256", "-O", features)
		fsck(t, img)
		raw, err := os.ReadFile(img)
		must(t, err)
		where := targets(t, raw)
		for seed := range seeds(t, 40) {
			rng := rand.New(rand.NewPCG(seed, 3))
			b := append([]byte(nil), raw...)
			if seed%2 == 0 {
				b = corrupt(raw, where, rng) // aims at structures
			} else {
				for range 30 {
					// The metadata is at the beginning; the superblock stays as it is, so that the mount succeeds.
					at := 2048 + rng.IntN(400<<10)
					b[at] ^= byte(1 << rng.IntN(8))
				}
			}
			sb, err := Mount(Ext4, bdev.NewMem("ubda", b, false), unix.MS_SILENT, "")
			if err != nil {
				continue
			}
			c := vfstest.New(sb)
			var paths []string
			var walk func(p string, depth int)
			walk = func(p string, depth int) {
				f, err := vfs.Open(c, nil, p, vfs.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
				if err != nil {
					return
				}
				defer f.DecRef()
				var names []string
				_ = vfs.ReadDir(c, f, func(e vfs.DirEnt) bool {
					if e.Name != "." && e.Name != ".." {
						names = append(names, e.Name)
					}
					return len(names) < 50
				})
				for _, n := range names {
					paths = append(paths, p+"/"+n)
					if depth < 3 {
						walk(p+"/"+n, depth+1)
					}
				}
			}
			walk("", 0)
			walk("/", 0)
			for i, p := range paths {
				switch i % 6 {
				case 0:
					if f, err := vfs.Open(c, nil, p, vfs.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT, Mode: 0o644}); err == nil {
						_, _ = vfs.Pwrite(c, f, uio.FromBytes(pattern(20000, i)), int64(rng.IntN(100000)))
						_ = vfs.Fallocate(c, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100, 5000)
						f.DecRef()
					}
				case 1:
					_ = vfs.Unlink(c, nil, p)
				case 2:
					_ = vfs.Rename(c, nil, p, nil, fmt.Sprintf("/new%d", i), 0)
				case 3:
					_ = vfs.Truncate(c, nil, p, 10)
				case 4:
					_ = vfs.Setxattr(c, nil, p, 0, "user.x", pattern(100, i), 0)
				case 5:
					_ = vfs.Mkdir(c, nil, p+"/sub", 0o755)
					_ = vfs.Rmdir(c, nil, p)
				}
			}
			for i := range 20 {
				_ = vfs.Mknod(c, nil, fmt.Sprintf("/made%d", i), unix.S_IFREG|0o600, 0)
			}
			_ = sb.Sync()
			c.Ctx.Release()
		}
	}
}
