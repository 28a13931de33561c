package ubd

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
)

// TestDamagedHeaders opens COW files with damaged headers: they are refused, or can be read and written everywhere, and the
// backing file stays as it is.
func TestDamagedHeaders(t *testing.T) {
	content := bytes.Repeat([]byte("backing "), 4096)
	back := imageFile(t, content)
	dir, opened := t.TempDir(), 0
	for version := 1; version <= 4; version++ {
		good, err := os.ReadFile(cowFile(t, version, back, map[int]byte{0: 'A', 63: 'Z'}))
		must(t, err)
		for seed := range uint64(250) {
			rng := rand.New(rand.NewPCG(seed, uint64(version)))
			b := bytes.Clone(good)
			for range 1 + rng.IntN(3) {
				at := rng.IntN(64)
				switch rng.IntN(4) {
				case 0:
					at = 260 + rng.IntN(20)
				case 1:
					at = 4100 + rng.IntN(40)
				}
				if rng.IntN(2) == 0 {
					b[at] ^= 1 << rng.IntN(8)
				} else {
					b[at] = byte(rng.Uint32())
				}
			}
			if rng.IntN(4) == 0 {
				b = b[:rng.IntN(len(b))]
			}
			name := filepath.Join(dir, "cow")
			must(t, os.WriteFile(name, b, 0o600))
			d, err := Open(&Spec{File: name, Shared: true})
			if err != nil {
				continue
			}
			opened++
			p := make([]byte, bdev.SectorSize)
			for off := int64(0); off < min(d.Size(), 1<<20); off += bdev.SectorSize {
				_, _ = d.ReadAt(p, off)
			}
			for _, off := range []int64{0, d.Size() / 2 &^ (bdev.SectorSize - 1), d.Size() - bdev.SectorSize} {
				if off >= 0 && d.Size() > 0 {
					_, _ = d.WriteAt(p, off)
				}
			}
			_ = d.Flush()
			_ = d.Close()
		}
	}
	if opened == 0 {
		t.Error("no damaged file could be opened: nothing was tested")
	}
	if now, err := os.ReadFile(back); err != nil || !bytes.Equal(now, content) {
		t.Error("the backing file was changed")
	}
}
