package skas

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is memory of the test's own with an end behind which nothing is mapped.
func mapping(t testing.TB, n int) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, n+pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(p) })
	if err := unix.Mprotect(p[n:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

// TestNear asks for memory that cannot be touched.
func TestNear(t *testing.T) {
	p := mapping(t, 1<<20)
	if err := unix.Mprotect(p, unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	near(p)
	near(p[:nearLeast-1])
	near(nil)
}

// TestLargeCopies copies more than is asked for at once, whole and up to pages that cannot be touched, on either side.
func TestLargeCopies(t *testing.T) {
	as := newAddressSpace()
	as.add(os.Getpid(), os.Getpid())
	const size = 3<<20 + 5*pageSize
	guest, ours := mapping(t, size), mapping(t, size)
	fill := rand.NewChaCha8([32]byte{})
	address := func(p []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&p[0]))) }
	type move func(p []byte, addr uint64) (int, error)
	try := func(name string, f move, p, q, from, to []byte, want int) {
		t.Helper()
		_, _ = fill.Read(from[:want])
		clear(to[:want])
		n, err := f(p, address(q))
		if n != want || (err == nil) != (n == len(p)) || err != nil && err != unix.EFAULT {
			t.Errorf("%s: %d, %v, want %d of %d", name, n, err, want, len(p))
		}
		if !bytes.Equal(from[:want], to[:want]) {
			t.Errorf("%s: copied other bytes", name)
		}
	}
	for _, skip := range []int{0, 1, pageSize - 1} {
		for _, n := range []int{nearLeast - 1, nearLeast, nearStep + 1, 2<<20 + 77} {
			g, o := guest[skip:][:n], ours[100:][:n]
			try("to the guest", as.WriteAt, o, g, o, g, n)
			try("from the guest", as.ReadAt, o, g, g, o, n)
		}
	}
	hole := 1<<20 + 7*pageSize
	if err := unix.Mprotect(guest[hole:hole+pageSize], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	for _, skip := range []int{0, 3, pageSize - 1} {
		g, o := guest[skip:][:2<<20], ours[skip:][:2<<20]
		try("to a guest with a hole", as.WriteAt, o, g, o, g, hole-skip)
		try("from a guest with a hole", as.ReadAt, o, g, g, o, hole-skip)
	}
}

// BenchmarkLargeCopies copies from memory that is in no cache, and from such that is.
func BenchmarkLargeCopies(b *testing.B) {
	as := newAddressSpace()
	as.add(os.Getpid(), os.Getpid())
	for _, c := range []struct {
		name    string
		span, n int
	}{{"Far128K", 64 << 20, 128 << 10}, {"Far1M", 64 << 20, 1 << 20}, {"Near128K", 128 << 10, 128 << 10}, {"Near1M", 1 << 20, 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			p, guest := mapping(b, c.span), mapping(b, c.n)
			for i := 0; i < len(p); i += pageSize {
				p[i] = 1
			}
			addr := uint64(uintptr(unsafe.Pointer(&guest[0])))
			_, _ = as.WriteAt(p[:c.n], addr)
			b.SetBytes(int64(c.n))
			b.ResetTimer()
			off := 0
			for range b.N {
				if _, err := as.WriteAt(p[off:][:c.n], addr); err != nil {
					b.Fatal(err)
				}
				if off += c.n; off == c.span {
					off = 0
				}
			}
		})
	}
}
