package bdev

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestDamagedTables reads damaged partition tables: whatever they say, partitions lie on the disk and have different numbers.
func TestDamagedTables(t *testing.T) {
	le := binary.LittleEndian
	for seed := range uint64(800) {
		rng := rand.New(rand.NewPCG(seed, 1))
		img := mbrDisk()
		if seed%2 == 0 {
			img = gptDisk()
		}
		for range 1 + rng.IntN(8) {
			at := rng.IntN(8 * SectorSize)
			switch rng.IntN(3) {
			case 0:
				at = mbrEntries + rng.IntN(64)
			case 1:
				at = SectorSize + rng.IntN(100)
			}
			if rng.IntN(2) == 0 {
				img[at] ^= 1 << rng.IntN(8)
			} else {
				le.PutUint32(img[at&^3:], rng.Uint32()>>rng.IntN(32))
			}
		}
		// Checksums that are right let more of the damage through.
		if h := img[SectorSize:]; seed%4 == 0 {
			if table, n := le.Uint64(h[72:])*SectorSize, uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:])); table < uint64(len(img)) && n <= uint64(len(img))-table {
				le.PutUint32(h[88:], crc32.ChecksumIEEE(img[table:table+n]))
			}
			if size := le.Uint32(h[12:]); size <= SectorSize {
				le.PutUint32(h[16:], 0)
				le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
			}
		}
		d := NewMem("x", img, true)
		numbers := map[int]bool{}
		for _, p := range scanPartitions(d) {
			if p.number < 1 || numbers[p.number] || p.start < 0 || p.size <= 0 || p.start > d.Size() || p.size > d.Size()-p.start || (p.start|p.size)%SectorSize != 0 {
				t.Fatalf("seed %d: partition %+v of a disk of %d bytes", seed, p, d.Size())
			}
			numbers[p.number] = true
		}
	}
}
