package uio

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// memory is guest memory from address 0; what is beyond it gives EFAULT.
type memory []byte

func (m memory) move(p []byte, addr uint64, out bool) (n int, err error) {
	if addr < uint64(len(m)) {
		if out {
			n = copy(m[addr:], p)
		} else {
			n = copy(p, m[addr:])
		}
	}
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

func (m memory) moveV(p []byte, r []Range, out bool) (done int, err error) {
	for _, x := range r {
		n, err := m.move(p[done:min(len(p), done+int(x.Len))], x.Addr, out)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

func (m memory) ReadAt(p []byte, addr uint64) (int, error)  { return m.move(p, addr, false) }
func (m memory) WriteAt(p []byte, addr uint64) (int, error) { return m.move(p, addr, true) }
func (m memory) ReadV(p []byte, r []Range) (int, error)     { return m.moveV(p, r, false) }
func (m memory) WriteV(p []byte, r []Range) (int, error)    { return m.moveV(p, r, true) }

// TestCursor moves bytes over ranges in pieces that fit none of them.
func TestCursor(t *testing.T) {
	m := memory("abcdefghijklmnopqrstuvwxyz")
	var s Src
	s.ResetV(m, []Range{{0, 3}, {10, 5}, {20, 4}})
	var got []byte
	for p := make([]byte, 4); s.Len() > 0; {
		n, err := s.CopyIn(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if want := "abcklmnouvwx"; string(got) != want || s.Done() != len(want) {
		t.Errorf("%q, %d done; want %q", got, s.Done(), want)
	}
	var d Dst
	d.ResetV(m, []Range{{1, 1}, {4, 6}})
	d.Limit(5)
	n1, err1 := d.CopyOut([]byte("12"))
	n2, err2 := d.Zero(10)
	if n1 != 2 || n2 != 3 || err1 != nil || err2 != nil || d.Len() != 0 {
		t.Errorf("%d %v, %d %v, %d left", n1, err1, n2, err2, d.Len())
	}
	if want := "a1cd2\x00\x00\x00ij"; string(m[:10]) != want {
		t.Errorf("%q, want %q", m[:10], want)
	}
}

func TestEach(t *testing.T) {
	full := errors.New("full")
	for _, c := range []struct {
		name       string
		addr, n    uint64
		room       int // what write takes before it fails
		want       string
		err        error
		wantPieces int
	}{
		{"all", 0, 10, 100, "0123456789", nil, 3},
		{"nothing", 0, 0, 100, "", nil, 0},
		{"full at once", 0, 10, 0, "", full, 1},
		{"full later", 0, 10, 6, "012345", nil, 2},
		{"fault later", 5, 10, 100, "56789", nil, 2},
		{"fault at once", 10, 10, 100, "", unix.EFAULT, 0},
	} {
		var s Src
		s.Reset(memory("0123456789"), c.addr, c.n)
		var got bytes.Buffer
		pieces := 0
		done, err := s.Each(make([]byte, 4), func(p []byte) (int, error) {
			pieces++
			k := min(len(p), c.room-got.Len())
			got.Write(p[:k])
			if k < len(p) {
				return k, full
			}
			return k, nil
		})
		if done != got.Len() || got.String() != c.want || err != c.err || pieces != c.wantPieces {
			t.Errorf("%s: %d bytes %q in %d pieces, %v; want %q in %d, %v", c.name, done, got.String(), pieces, err, c.want, c.wantPieces, c.err)
		}
	}
}
