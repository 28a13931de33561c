package jbd2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var be = binary.BigEndian

const (
	magic = 0xc03b3998

	typeDescriptor = 1
	typeCommit     = 2
	typeSuperV1    = 3
	typeSuperV2    = 4
	typeRevoke     = 5

	headerSize = 12
	superSize  = 1024
	uuidSize   = 16
	tailSize   = 4

	incompatRevoke      = 0x1
	incompat64bit       = 0x2
	incompatAsyncCommit = 0x4
	incompatCsumV2      = 0x8
	incompatCsumV3      = 0x10
	incompatFastCommit  = 0x20

	tagEscape   = 1
	tagSameUUID = 2
	tagDeleted  = 4
	tagLast     = 8
)

// Source is a journal and the device it belongs to.
type Source struct {
	BlockSize int
	// Blocks is the number of blocks of the journal.
	Blocks uint64
	// Limit bounds what Replay keeps in memory, in bytes.
	Limit int64
	// Read reads a block of the journal.
	Read func(block uint64, p []byte) error
	// Valid reports whether a block of the device may be written.
	Valid func(block uint64) bool
}

// journal is a journal being replayed.
type journal struct {
	Source
	first, last uint64 // of the log, in journal blocks; last is exclusive
	features    uint32
	seed        uint32
	csum        bool
	tagSize     int
	buf         []byte
	data        []byte // a block of content
}

var table = crc32.MakeTable(crc32.Castagnoli)

func crc(c uint32, p []byte) uint32 { return ^crc32.Update(^c, table, p) }

// Replay returns the blocks of the device that the journal replaces. Nothing is returned with an error.
func Replay(src Source) (map[uint64][]byte, error) {
	out := map[uint64][]byte{}
	_, err := Recover(src, func(block uint64, p []byte) error {
		if out[block] == nil && int64(len(out)+1)*int64(src.BlockSize) > src.Limit {
			return errors.New("too many blocks to replay in memory")
		}
		out[block] = append(out[block][:0], p...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Recover calls write for the blocks of the device that the journal replaces, in the order in which they were logged, once it
// has seen that all can be read. It returns the number of the next transaction, which Reset wants.
func Recover(src Source, write func(block uint64, p []byte) error) (next uint32, err error) {
	j := &journal{Source: src, buf: make([]byte, src.BlockSize), data: make([]byte, src.BlockSize)}
	sequence, start, err := j.super()
	if err != nil || start == 0 {
		return sequence, err
	}
	// First pass: how far do complete transactions go? Second: is all of them valid, and what is revoked, and since when?
	// Third: the blocks.
	end, err := j.scan(sequence, start, sequence-1, visitor{})
	if err != nil {
		return 0, err
	}
	revoked := map[uint64]uint32{}
	if _, err = j.scan(sequence, start, end, visitor{revoke: func(block uint64, seq uint32) {
		revoked[block] = seq // later transactions come later
	}, data: func(block uint64, _ uint32, _ []byte) error {
		if !j.Valid(block) {
			return fmt.Errorf("block %d is not on the device", block)
		}
		return nil
	}}); err != nil {
		return 0, err
	}
	_, err = j.scan(sequence, start, end, visitor{data: func(block uint64, seq uint32, p []byte) error {
		if r, ok := revoked[block]; ok && int32(r-seq) >= 0 {
			return nil
		}
		return write(block, p)
	}})
	return end + 1, err
}

// super reads the journal's superblock.
func (j *journal) super() (sequence uint32, start uint64, err error) {
	if j.BlockSize < superSize {
		return 0, 0, errors.New("bad block size")
	}
	if err := j.Read(0, j.buf); err != nil {
		return 0, 0, err
	}
	b := j.buf
	typ := be.Uint32(b[4:])
	if be.Uint32(b) != magic || typ != typeSuperV1 && typ != typeSuperV2 {
		return 0, 0, errors.New("no journal superblock found")
	}
	maxLen := uint64(be.Uint32(b[16:]))
	j.first, j.last = uint64(be.Uint32(b[20:])), min(maxLen, j.Blocks)
	sequence, start = be.Uint32(b[24:]), uint64(be.Uint32(b[28:]))
	if be.Uint32(b[12:]) != uint32(j.BlockSize) || maxLen > j.Blocks || j.first == 0 || j.first >= j.last ||
		start != 0 && (start < j.first || start >= j.last) {
		return 0, 0, errors.New("invalid journal superblock")
	}
	j.tagSize = 8
	if typ == typeSuperV1 {
		return sequence, start, nil
	}
	j.features = be.Uint32(b[40:])
	if bad := j.features &^ (incompatRevoke | incompat64bit | incompatAsyncCommit | incompatCsumV2 | incompatCsumV3); bad != 0 {
		return 0, 0, fmt.Errorf("unsupported journal features %#x", bad)
	}
	j.csum = j.features&(incompatCsumV2|incompatCsumV3) != 0
	if j.csum {
		sum := be.Uint32(b[252:])
		be.PutUint32(b[252:], 0)
		if crc(^uint32(0), b[:superSize]) != sum {
			return 0, 0, errors.New("journal superblock checksum failure")
		}
	}
	j.setFeatures(j.features, b)
	return sequence, start, nil
}

// visitor is told what a scan finds.
type visitor struct {
	revoke func(block uint64, seq uint32)
	data   func(block uint64, seq uint32, p []byte) error
}

func (j *journal) next(b uint64) uint64 {
	if b++; b >= j.last {
		b = j.first
	}
	return b
}

// scan walks the transactions from sequence seq at block at up to, not including, end. It returns the sequence number
// after the last complete transaction.
func (j *journal) scan(seq uint32, at uint64, end uint32, v visitor) (uint32, error) {
	for budget := j.last - j.first; seq != end; {
		if budget == 0 {
			return seq, nil
		}
		if err := j.Read(at, j.buf); err != nil {
			return seq, err
		}
		b := j.buf
		if be.Uint32(b) != magic || be.Uint32(b[8:]) != seq {
			return seq, nil
		}
		budget--
		at = j.next(at)
		switch be.Uint32(b[4:]) {
		case typeDescriptor:
			if j.csum && !j.tailOK(b) {
				return seq, nil
			}
			tags, ok := j.tags(b)
			if !ok || uint64(len(tags)) > budget {
				return seq, nil
			}
			budget -= uint64(len(tags))
			for _, t := range tags {
				if v.data != nil {
					if err := j.block(t, at, seq, v.data); err != nil {
						return seq, err
					}
				}
				at = j.next(at)
			}
		case typeCommit:
			if j.csum && !commitOK(j.seed, b) {
				return seq, nil
			}
			seq++
		case typeRevoke:
			if j.csum && !j.tailOK(b) {
				return seq, nil
			}
			if v.revoke != nil {
				j.revokes(b, seq, v.revoke)
			}
		default:
			return seq, nil
		}
	}
	return seq, nil
}

// tag says where the next data block of a descriptor belongs.
type tag struct {
	block    uint64
	flags    uint32
	checksum uint32
}

func (j *journal) tags(b []byte) (out []tag, ok bool) {
	limit := len(b)
	if j.csum {
		limit -= tailSize
	}
	for at := headerSize; ; {
		if at+j.tagSize > limit {
			return nil, false
		}
		p := b[at:]
		t := tag{block: uint64(be.Uint32(p))}
		if j.features&incompatCsumV3 != 0 {
			t.flags, t.checksum = be.Uint32(p[4:]), be.Uint32(p[12:])
		} else {
			t.checksum, t.flags = uint32(be.Uint16(p[4:])), uint32(be.Uint16(p[6:]))
		}
		if j.features&incompat64bit != 0 {
			t.block |= uint64(be.Uint32(p[8:])) << 32
		}
		out = append(out, t)
		at += j.tagSize
		if t.flags&tagSameUUID == 0 {
			at += uuidSize
		}
		if t.flags&tagLast != 0 {
			return out, true
		}
	}
}

// block reads the data block of a tag from journal block at.
func (j *journal) block(t tag, at uint64, seq uint32, data func(uint64, uint32, []byte) error) error {
	p := j.data
	if err := j.Read(at, p); err != nil {
		return err
	}
	if j.csum {
		var s [4]byte
		be.PutUint32(s[:], seq)
		sum := crc(crc(j.seed, s[:]), p)
		if j.features&incompatCsumV3 == 0 {
			sum &= 0xffff
		}
		if sum != t.checksum {
			return fmt.Errorf("checksum failure in block %d of the log", at)
		}
	}
	if t.flags&tagEscape != 0 {
		be.PutUint32(p, magic)
	}
	return data(t.block, seq, p)
}

func (j *journal) revokes(b []byte, seq uint32, revoke func(uint64, uint32)) {
	n := int(min(be.Uint32(b[headerSize:]), uint32(len(b))))
	size := 4
	if j.features&incompat64bit != 0 {
		size = 8
	}
	for at := headerSize + 4; at+size <= n; at += size {
		if size == 8 {
			revoke(be.Uint64(b[at:]), seq)
		} else {
			revoke(uint64(be.Uint32(b[at:])), seq)
		}
	}
}

// tailOK checks the checksum at the end of descriptor and revoke blocks.
func (j *journal) tailOK(b []byte) bool {
	t := len(b) - tailSize
	return crc(crc(j.seed, b[:t]), []byte{0, 0, 0, 0}) == be.Uint32(b[t:])
}

// commitOK checks the checksum of a commit block.
func commitOK(seed uint32, b []byte) bool {
	const at = headerSize + 4
	c := crc(seed, b[:at])
	c = crc(c, []byte{0, 0, 0, 0})
	return crc(c, b[at+4:]) == be.Uint32(b[at:])
}
