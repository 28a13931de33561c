package ubd

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
)

// powerCut is the content of a COW file on a host that loses power: what was written since the last sync may be there or
// not, sector by sector, in any order.
type powerCut struct {
	durable map[int64][]byte // by sector; nil is zero
	loose   []sectorWrite    // since the last sync, oldest first
}

type sectorWrite struct {
	sector int64
	data   []byte
}

func newPowerCut(t *testing.T, file string) *powerCut {
	b, err := os.ReadFile(file)
	must(t, err)
	p := &powerCut{durable: map[int64][]byte{}}
	for s := 0; s*512 < len(b); s++ {
		sector := make([]byte, 512)
		if copy(sector, b[s*512:]); !bytes.Equal(sector, make([]byte, 512)) {
			p.durable[int64(s)] = sector
		}
	}
	return p
}

func (p *powerCut) now() map[int64][]byte {
	m := maps.Clone(p.durable)
	for _, w := range p.loose {
		m[w.sector] = w.data
	}
	return m
}

func (p *powerCut) readAt(b []byte, off int64) error {
	clear(b)
	m := p.now()
	for len(b) > 0 {
		n := int(min(512-off%512, int64(len(b))))
		if s := m[off/512]; s != nil {
			copy(b[:n], s[off%512:])
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (p *powerCut) writeAt(b []byte, off int64) error {
	for len(b) > 0 {
		n := int(min(512-off%512, int64(len(b))))
		s := make([]byte, 512)
		copy(s, p.now()[off/512])
		copy(s[off%512:], b[:n])
		p.loose = append(p.loose, sectorWrite{off / 512, s})
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (p *powerCut) fallocate(_ uint32, off, n int64) error { return p.writeAt(make([]byte, n), off) }

func (p *powerCut) sync() error {
	p.durable, p.loose = p.now(), nil
	return nil
}

// cut is the content that a power cut leaves.
func (p *powerCut) cut(rng *rand.Rand) *powerCut {
	m := maps.Clone(p.durable)
	for _, w := range p.loose {
		if rng.IntN(2) == 0 {
			m[w.sector] = w.data
		}
	}
	return &powerCut{durable: m}
}

// reopen makes a disk of what a power cut has left, with the bitmap that is in the file.
func (c *cow) reopen(t *testing.T, file *powerCut) *cow {
	n := &cow{name: c.name, h: c.h, file: c.file, io: file, backing: c.backing, ahead: map[int64]struct{}{}}
	b := make([]byte, c.h.bitmapLen)
	must(t, file.readAt(b, c.h.bitmapOff))
	n.bitmap = b
	return n
}

// TestCowPowerCut writes sectors and cuts the power: each sector is as it was at the last flush or as it was written since,
// and never anything else.
func TestCowPowerCut(t *testing.T) {
	const sectors = 9000 // more than one piece of the bitmap
	content := bytes.Repeat([]byte("backing."), sectors*64)
	back := imageFile(t, content)
	d, err := Open(&Spec{File: filepath.Join(t.TempDir(), "cow"), Backing: back})
	must(t, err)
	c := d.(*cow)
	t.Cleanup(func() { c.file.close(); c.backing.close() })
	disk := newPowerCut(t, c.file.name)
	c.io = disk
	rng := rand.New(rand.NewPCG(3, 4))
	allowed := map[int64][]string{} // what each sector may be, if not what the backing file has
	old := func(s int64) string { return string(content[s*512:][:512]) }
	for i := range 400 {
		s := rng.Int64N(sectors - 8)
		if rng.IntN(2) == 0 {
			s = rng.Int64N(100)
		}
		n := 1 + rng.Int64N(8)
		p := bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x', 'y'}, int(n)*128)
		switch rng.IntN(6) {
		case 0:
			clear(p)
			must(t, c.WriteZeroes(s*512, n*512))
		case 1:
			must(t, c.Discard(s*512, n*512))
			clear(p)
			for k := s; k < s+n; k++ {
				if hasBit(c.bitmap, k) {
					allowed[k] = append(allowed[k], string(p[:512]))
				}
			}
			n = 0
		default:
			_, err := c.WriteAt(p, s*512)
			must(t, err)
		}
		for k := s; k < s+n; k++ {
			if allowed[k] == nil {
				allowed[k] = []string{old(k)}
			}
			allowed[k] = append(allowed[k], string(p[:512]))
		}
		if rng.IntN(10) == 0 {
			must(t, c.Flush())
			for k, l := range allowed {
				allowed[k] = l[len(l)-1:]
			}
		}
		if i%4 != 0 {
			continue
		}
		after := c.reopen(t, disk.cut(rng))
		got := make([]byte, sectors*512)
		_, err := after.ReadAt(got, 0)
		must(t, err)
		for k := range int64(sectors) {
			is := string(got[k*512:][:512])
			if l := allowed[k]; l == nil && is != old(k) || l != nil && !slices.Contains(l, is) {
				t.Fatalf("step %d: sector %d is %q, which it never was since the last flush", i, k, is[:4])
			}
		}
		now := make([]byte, sectors*512)
		_, err = c.ReadAt(now, 0)
		must(t, err)
		for k, l := range allowed {
			if string(now[k*512:][:512]) != l[len(l)-1] {
				t.Fatalf("step %d: sector %d is not what was written last", i, k)
			}
		}
	}
}

// TestCowLateBitmap leaves the bitmap to the timer, and to a flush that fails at first.
func TestCowLateBitmap(t *testing.T) {
	back := imageFile(t, make([]byte, 64<<10))
	name := filepath.Join(t.TempDir(), "cow")
	d, err := Open(&Spec{File: name, Backing: back})
	must(t, err)
	c := d.(*cow)
	bits := func() byte {
		b := make([]byte, 1)
		must(t, c.file.readAt(b, c.h.bitmapOff))
		return b[0]
	}
	c.io = failingSync{c.file}
	_, err = c.WriteAt(make([]byte, bdev.SectorSize), 0)
	must(t, err)
	if err := c.Flush(); err != unix.EIO || bits() != 0 {
		t.Errorf("flush of a failing file: %v, bits %#x", err, bits())
	}
	c.io = c.file
	must(t, c.Flush())
	if bits() != 1 {
		t.Errorf("bits %#x after the second flush", bits())
	}
	_, err = c.WriteAt(make([]byte, bdev.SectorSize), 512)
	must(t, err)
	if bits() != 1 {
		t.Error("the bitmap is ahead of the data")
	}
	must(t, c.Close())
	d, err = Open(&Spec{File: name, Sync: true})
	must(t, err)
	c = d.(*cow)
	if bits() != 3 {
		t.Errorf("bits %#x after close", bits())
	}
	_, err = c.WriteAt(make([]byte, bdev.SectorSize), 1024)
	must(t, err)
	if bits() != 7 {
		t.Errorf("bits %#x with O_SYNC", bits())
	}
	must(t, c.Close())
}

// TestCowLateError has the flush by the timer fail: who flushes next hears of it, once.
func TestCowLateError(t *testing.T) {
	d, err := Open(&Spec{File: filepath.Join(t.TempDir(), "cow"), Backing: imageFile(t, make([]byte, 64<<10))})
	must(t, err)
	c := d.(*cow)
	c.io = failingSync{c.file}
	_, err = c.WriteAt(make([]byte, bdev.SectorSize), 0)
	must(t, err)
	c.timer.Stop()
	c.flushLate()
	c.io = c.file
	if err := c.Flush(); err != unix.EIO {
		t.Errorf("after the timer's flush failed: %v", err)
	}
	must(t, c.Flush())
	must(t, c.Close())
}

// TestCowThrough writes a sector of a disk whose writes are durable while the first write to it is still on its way.
func TestCowThrough(t *testing.T) {
	d, err := Open(&Spec{File: filepath.Join(t.TempDir(), "cow"), Backing: imageFile(t, make([]byte, 64<<10)), Sync: true})
	must(t, err)
	c := d.(*cow)
	slow := &slowSync{storage: c.file, begun: make(chan bool), end: make(chan bool)}
	c.io = slow
	first, second := make(chan error, 1), make(chan error, 1)
	write := func(done chan error) {
		_, err := c.WriteAt(make([]byte, bdev.SectorSize), 0)
		done <- err
	}
	go write(first)
	<-slow.begun
	go write(second)
	select {
	case <-second:
		t.Error("the second write was done before the bit of its sector was durable")
	case <-time.After(50 * time.Millisecond):
	}
	close(slow.end)
	must(t, <-first)
	if !t.Failed() {
		must(t, <-second)
	}
	must(t, c.Close())
}

// slowSync does not sync before it is told to.
type slowSync struct {
	storage
	begun, end chan bool
	once       sync.Once
}

func (s *slowSync) sync() error {
	s.once.Do(func() { close(s.begun) })
	<-s.end
	return s.storage.sync()
}

type failingSync struct{ storage }

func (failingSync) sync() error { return unix.EIO }
