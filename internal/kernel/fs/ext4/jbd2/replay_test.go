package jbd2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

const bs = 1024

// memJournal is a journal in memory.
type memJournal [][]byte

func newJournal(blocks int, first, start uint64, seq uint32) memJournal {
	j := make(memJournal, blocks)
	for i := range j {
		j[i] = make([]byte, bs)
	}
	s := j[0]
	be.PutUint32(s, magic)
	be.PutUint32(s[4:], typeSuperV2)
	be.PutUint32(s[12:], bs)
	be.PutUint32(s[16:], uint32(blocks))
	be.PutUint32(s[20:], uint32(first))
	be.PutUint32(s[24:], seq)
	be.PutUint32(s[28:], uint32(start))
	be.PutUint32(s[40:], incompatRevoke)
	return j
}

func (j memJournal) header(at int, typ, seq uint32) []byte {
	b := j[at]
	be.PutUint32(b, magic)
	be.PutUint32(b[4:], typ)
	be.PutUint32(b[8:], seq)
	return b
}

// descriptor writes tags for device blocks.
func (j memJournal) descriptor(at int, seq uint32, blocks ...uint32) {
	b := j.header(at, typeDescriptor, seq)
	p := headerSize
	for i, n := range blocks {
		flags := uint16(tagSameUUID)
		if i == 0 {
			flags = 0
		}
		if i == len(blocks)-1 {
			flags |= tagLast
		}
		be.PutUint32(b[p:], n)
		be.PutUint16(b[p+6:], flags)
		p += 8
		if i == 0 {
			p += uuidSize
		}
	}
}

func (j memJournal) revoke(at int, seq uint32, blocks ...uint32) {
	b := j.header(at, typeRevoke, seq)
	be.PutUint32(b[headerSize:], uint32(headerSize+4+4*len(blocks)))
	for i, n := range blocks {
		be.PutUint32(b[headerSize+4+4*i:], n)
	}
}

func (j memJournal) fill(at int, c byte) { copy(j[at], bytes.Repeat([]byte{c}, bs)) }

func (j memJournal) source() Source {
	return Source{BlockSize: bs, Blocks: uint64(len(j)), Limit: 1 << 20,
		Valid: func(b uint64) bool { return b < 1000 },
		Read: func(b uint64, p []byte) error {
			if b >= uint64(len(j)) {
				return errors.New("outside the journal")
			}
			copy(p, j[b])
			return nil
		}}
}

// sample has three transactions, of which the second wraps round and the third is not complete.
func sample() memJournal {
	j := newJournal(16, 1, 9, 100)
	j.descriptor(9, 100, 5, 6, 7)
	j.fill(10, 'a')
	j.fill(11, 'b')
	j.fill(12, 'c')
	j.header(13, typeCommit, 100)
	j.revoke(14, 101, 6)
	j.descriptor(15, 101, 5)
	j.fill(1, 'd')
	j.header(2, typeCommit, 101)
	j.descriptor(3, 102, 7)
	j.fill(4, 'e')
	j.header(5, typeCommit, 99)
	return j
}

func TestReplay(t *testing.T) {
	out, err := Replay(sample().source())
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 2 || out[5] == nil || out[5][0] != 'd' || out[7] == nil || out[7][0] != 'c' {
		t.Errorf("%d blocks: %c %c", len(out), out[5][0], out[7][0])
	}
	j := sample()
	be.PutUint32(j[0][28:], 0)
	if out, err := Replay(j.source()); err != nil || len(out) != 0 {
		t.Errorf("clean journal: %v %v", out, err)
	}
	src := sample().source()
	src.Limit = bs
	if _, err := Replay(src); err == nil {
		t.Error("the limit was passed")
	}
	var order []uint64
	if next, err := Recover(src, func(b uint64, _ []byte) error { order = append(order, b); return nil }); err != nil || next != 103 ||
		!slices.Equal(order, []uint64{5, 7, 5}) {
		t.Errorf("recovery: next %d, blocks %d, %v", next, order, err)
	}
	src = sample().source()
	src.Valid = func(b uint64) bool { return b < 7 }
	if _, err := Recover(src, func(b uint64, _ []byte) error { t.Errorf("wrote block %d", b); return nil }); err == nil {
		t.Error("a block outside the device was accepted")
	}
	// The number of the first transaction may be any.
	j = newJournal(8, 1, 1, 1<<32-1)
	j.descriptor(1, 1<<32-1, 5)
	j.fill(2, 'x')
	j.header(3, typeCommit, 1<<32-1)
	if out, err := Replay(j.source()); err != nil || len(out) != 1 || out[5][0] != 'x' {
		t.Errorf("last number: %d blocks, %v", len(out), err)
	}
	j = sample()
	be.PutUint32(j[0][40:], incompatFastCommit)
	if _, err := Replay(j.source()); err == nil {
		t.Error("fast commits were accepted")
	}
}

// TestDamaged replays damaged journals: nothing may panic or hang.
func TestDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 20000 {
		j := sample()
		for range 1 + rng.IntN(5) {
			b := j[rng.IntN(len(j))]
			if rng.IntN(2) == 0 {
				b[rng.IntN(64)] = byte(rng.Uint32())
			} else {
				be.PutUint32(b[4*rng.IntN(16):], rng.Uint32()>>rng.IntN(32))
			}
		}
		_, _ = Replay(j.source())
	}
}
