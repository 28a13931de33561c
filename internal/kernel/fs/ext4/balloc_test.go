package ext4

import (
	"math/rand/v2"
	"testing"
)

// TestFindRun takes and gives back blocks of a group at random and compares what is found with a search bit by bit.
func TestFindRun(t *testing.T) {
	const bits = 640
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := bits - r.Uint32N(70)
		p, g := make([]byte, bits/8), &group{held: make([]uint64, bits/64)}
		setBits(p, size, bits-size)
		usable := func(i uint32) bool { return !bitSet(p, i) && g.held[i/64]>>(i%64)&1 == 0 }
		sb := &superBlock{w: &writer{groups: []group{{}}}}
		sb.s.BlocksPerGroup = bits
		for range 2000 {
			from, want := r.Uint32N(size), 1+r.Uint32N(20)
			if r.IntN(2) == 0 {
				from = 0
			}
			least := 1 + r.Uint32N(want)
			var at, n uint32
			for i := from; i < size; {
				k := uint32(0)
				for k < want && i+k < size && usable(i+k) {
					k++
				}
				if k >= least || k > 0 && i == from && from > 0 {
					at, n = i, k
					break
				}
				i += k + 1
			}
			if x, k := g.findRun(p, from, size, want, least); k != n || k > 0 && x != at {
				t.Fatalf("%d of at least %d from %d: found %d at %d, not %d at %d", want, least, from, k, x, n, at)
			}
			if n > 0 && r.IntN(3) > 0 {
				setBits(p, at, n)
			}
			if bit := r.Uint32N(size); bitSet(p, bit) { // freed, and usable after the commit
				clearBits(p, bit, 1)
				g.held[bit/64] |= 1 << (bit % 64)
				g.nheld = 2 // so that the map of what is held stays
				if r.IntN(2) == 0 {
					sb.w.groups[0] = *g
					sb.w.heldBlocks++
					sb.unhold([]run{{start: uint64(bit), n: 1}})
					*g = sb.w.groups[0]
				}
			}
		}
	}
}
