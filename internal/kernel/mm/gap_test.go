package mm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
)

// TestGap compares gap, which remembers what it has searched, with a search of the whole list.
func TestGap(t *testing.T) {
	const pages, base = 64, lowest
	top := uint64(base + pages*abi.PageSize)
	rng := rand.New(rand.NewPCG(1, 2))
	var k book
	var used [pages]bool
	for step := range 20000 {
		n := uint64(1 + rng.IntN(4))
		at, ok := k.gap(n*abi.PageSize, top)
		want, run := -1, uint64(0)
		for p := pages - 1; p >= 0 && want < 0; p-- {
			if run++; used[p] {
				run = 0
			}
			if run == n {
				want = p
			}
		}
		// Below base is free too, as far as the list knows, but gap does not go there.
		if ok != (want >= 0) || ok && at != base+uint64(want)*abi.PageSize {
			t.Fatalf("step %d: gap of %d pages at page %d (%v), want page %d", step, n, (int64(at)-base)/abi.PageSize, ok, want)
		}
		if ok && rng.IntN(3) > 0 {
			k.insert(area{start: at, end: at + n*abi.PageSize, b: &FileMap{}})
			for p := range n {
				used[uint64(want)+p] = true
			}
		} else {
			p := uint64(rng.IntN(pages))
			k.cut(base+p*abi.PageSize, base+min(p+n, pages)*abi.PageSize)
			for ; n > 0 && p < pages; p, n = p+1, n-1 {
				used[p] = false
			}
		}
		k.dead = nil
	}
}

// TestBookReplace compares with slices.Replace.
func TestBookReplace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var k book
	var want []area
	next := uint64(1)
	for range 3000 {
		i := rng.IntN(len(want) + 1)
		if rng.IntN(2) == 0 {
			i = min(i, 3) // mostly in front
		}
		j := min(i+rng.IntN(3), len(want))
		with := make([]area, rng.IntN(4))
		for n := range with {
			with[n].start = next
			next++
		}
		want = slices.Replace(want, i, j, with...)
		k.replace(i, j, with...)
		if !slices.Equal(k.areas, want) {
			t.Fatalf("replace(%d, %d, %d areas): %v, want %v", i, j, len(with), k.areas, want)
		}
		for _, a := range k.all[:k.front] {
			if a != (area{}) {
				t.Fatal("the places in front keep something alive")
			}
		}
	}
}
