package jbd2

import (
	"errors"
	"slices"
)

// Sink is a journal that can be written.
type Sink struct {
	Source
	// Write writes a block of the journal.
	Write func(block uint64, p []byte) error
	// Flush makes everything written so far durable.
	Flush func() error
	// Csum asks for checksums (version 3), Wide for 64-bit block numbers.
	Csum, Wide bool
}

// Block is a block of the device with the content that a transaction gives it.
type Block struct {
	Number uint64
	Data   []byte
}

// Writer appends transactions to a journal. It is used by one goroutine at a time.
//
// The log is empty after Open and after each Empty. In between it holds the transactions of all Commits, so that a crash
// loses none of them; Empty may be called once all of their blocks are durable in their places.
type Writer struct {
	journal
	sink  Sink
	super []byte
	tid   uint32 // of the next transaction
	head  uint64 // where it will begin
	used  uint64 // blocks in use
	live  bool   // the superblock says where the log begins
}

// Open begins to write a journal that has nothing to replay.
func Open(sink Sink) (*Writer, error) {
	w := &Writer{sink: sink, journal: journal{Source: sink.Source, buf: make([]byte, sink.BlockSize)}}
	seq, start, err := w.journal.super()
	if err != nil {
		return nil, err
	}
	if start != 0 {
		return nil, errors.New("the journal has not been replayed")
	}
	if be.Uint32(w.buf[4:]) != typeSuperV2 {
		return nil, errors.New("the journal has an old format")
	}
	w.super = slices.Clone(w.buf)
	f := w.features&^(incompatAsyncCommit|incompatCsumV2|incompatCsumV3) | incompatRevoke
	if sink.Csum {
		f |= incompatCsumV3
		w.super[80] = 4 // crc32c
	}
	if sink.Wide {
		f |= incompat64bit
	}
	be.PutUint32(w.super[36:], 0) // no checksums of version 1
	be.PutUint32(w.super[40:], f)
	w.setFeatures(f, w.super)
	w.tid, w.head = seq, w.first
	return w, nil
}

// setFeatures sets what follows from the feature bits.
func (j *journal) setFeatures(f uint32, super []byte) {
	j.features = f
	j.csum = f&(incompatCsumV2|incompatCsumV3) != 0
	if j.csum {
		j.seed = crc(^uint32(0), super[48:48+uuidSize])
	}
	switch {
	case f&incompatCsumV3 != 0:
		j.tagSize = 16
	default:
		j.tagSize = 8
		if f&incompat64bit != 0 {
			j.tagSize += 4
		}
		if f&incompatCsumV2 != 0 {
			j.tagSize += 2
		}
	}
}

// Capacity is the number of blocks of the log.
func (w *Writer) Capacity() int { return int(min(w.last-w.first, 1<<30)) }

// Room reports whether a transaction of that many blocks and revocations fits behind those that are in the log.
func (w *Writer) Room(blocks, revokes int) bool {
	return w.used+w.need(blocks, revokes) <= w.last-w.first
}

func (w *Writer) need(blocks, revokes int) uint64 {
	perDesc := (w.BlockSize - headerSize - uuidSize - tailSize) / w.tagSize
	perRevoke := (w.BlockSize - headerSize - 4 - tailSize) / 8
	return uint64(blocks + (blocks+perDesc-1)/perDesc + (revokes+perRevoke-1)/perRevoke + 1)
}

// put writes a block at the head of the log.
func (w *Writer) put(p []byte) error {
	if err := w.sink.Write(w.head, p); err != nil {
		return err
	}
	w.head = w.next(w.head)
	w.used++
	return nil
}

func (w *Writer) header(p []byte, typ uint32) {
	clear(p)
	be.PutUint32(p, magic)
	be.PutUint32(p[4:], typ)
	be.PutUint32(p[8:], w.tid)
}

// seal puts the checksum at the end of a descriptor or revoke block.
func (w *Writer) seal(p []byte) {
	if w.csum {
		t := len(p) - tailSize
		be.PutUint32(p[t:], crc(crc(w.seed, p[:t]), []byte{0, 0, 0, 0}))
	}
}

// Commit writes a transaction: when it returns the transaction is durable, and so is all that was written to the device
// before. The caller has made sure that there is Room. After an error the journal must not be used any more.
func (w *Writer) Commit(blocks []Block, revoked []uint64, sec uint64, nsec uint32) error {
	if !w.Room(len(blocks), len(revoked)) {
		return errors.New("transaction does not fit")
	}
	start := w.head
	if err := w.revoke(revoked); err != nil {
		return err
	}
	for rest := blocks; len(rest) > 0; {
		n, err := w.describe(rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if !w.live {
		if err := w.writeSuper(uint32(start)); err != nil {
			return err
		}
		w.live = true
	}
	if err := w.sink.Flush(); err != nil {
		return err
	}
	p := w.buf
	w.header(p, typeCommit)
	be.PutUint64(p[48:], sec)
	be.PutUint32(p[56:], nsec)
	if w.csum {
		be.PutUint32(p[headerSize+4:], crc(w.seed, p))
	}
	if err := w.put(p); err != nil {
		return err
	}
	if err := w.sink.Flush(); err != nil {
		return err
	}
	w.tid++
	return nil
}

// revoke writes the revoke blocks.
func (w *Writer) revoke(revoked []uint64) error {
	size := 4
	if w.features&incompat64bit != 0 {
		size = 8
	}
	for len(revoked) > 0 {
		p := w.buf
		w.header(p, typeRevoke)
		at := headerSize + 4
		for ; len(revoked) > 0 && at+size <= len(p)-tailSize; at += size {
			if size == 8 {
				be.PutUint64(p[at:], revoked[0])
			} else {
				be.PutUint32(p[at:], uint32(revoked[0]))
			}
			revoked = revoked[1:]
		}
		be.PutUint32(p[headerSize:], uint32(at))
		w.seal(p)
		if err := w.put(p); err != nil {
			return err
		}
	}
	return nil
}

// describe writes one descriptor and its blocks, and returns how many they were.
func (w *Writer) describe(blocks []Block) (int, error) {
	p := w.buf
	w.header(p, typeDescriptor)
	var seq [4]byte
	be.PutUint32(seq[:], w.tid)
	var escaped map[int]bool
	at, n, last := headerSize, 0, 0
	for ; n < len(blocks); n++ {
		size := w.tagSize
		if n == 0 {
			size += uuidSize
		}
		if at+size > len(p)-tailSize {
			break
		}
		b := blocks[n]
		flags := uint32(tagSameUUID)
		if n == 0 {
			flags = 0
			copy(p[at+w.tagSize:], w.super[48:48+uuidSize])
		}
		sum := uint32(0)
		if w.csum {
			sum = crc(w.seed, seq[:])
		}
		if be.Uint32(b.Data) == magic {
			flags |= tagEscape
			if escaped == nil {
				escaped = map[int]bool{}
			}
			escaped[n] = true
			sum = crc(crc(sum, []byte{0, 0, 0, 0}), b.Data[4:])
		} else if w.csum {
			sum = crc(sum, b.Data)
		}
		t := p[at:]
		be.PutUint32(t, uint32(b.Number))
		if w.features&incompatCsumV3 != 0 {
			be.PutUint32(t[4:], flags)
			be.PutUint32(t[8:], uint32(b.Number>>32))
			be.PutUint32(t[12:], sum)
		} else {
			be.PutUint16(t[6:], uint16(flags))
			if w.features&incompat64bit != 0 {
				be.PutUint32(t[8:], uint32(b.Number>>32))
			}
		}
		last = at
		at += size
	}
	if w.features&incompatCsumV3 != 0 {
		be.PutUint32(p[last+4:], be.Uint32(p[last+4:])|tagLast)
	} else {
		be.PutUint16(p[last+6:], be.Uint16(p[last+6:])|tagLast)
	}
	w.seal(p)
	if err := w.put(p); err != nil {
		return 0, err
	}
	for i, b := range blocks[:n] {
		data := b.Data
		if escaped[i] {
			data = slices.Clone(data)
			clear(data[:4])
		}
		if err := w.put(data); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// writeSuper says that the log begins at a block with the next transaction, or with 0 that it is empty.
func (w *Writer) writeSuper(start uint32) error {
	be.PutUint32(w.super[24:], w.tid)
	be.PutUint32(w.super[28:], start)
	be.PutUint32(w.super[252:], 0)
	if w.csum {
		be.PutUint32(w.super[252:], crc(^uint32(0), w.super[:superSize]))
	}
	return w.sink.Write(0, w.super)
}

// Empty drops all transactions. The caller has made their blocks durable in their places.
func (w *Writer) Empty() error {
	if !w.live {
		return nil
	}
	if err := w.writeSuper(0); err != nil {
		return err
	}
	if err := w.sink.Flush(); err != nil {
		return err
	}
	w.live, w.head, w.used = false, w.first, 0
	return nil
}

// Reset marks a journal that has been replayed as empty. next is what Recover returned.
func Reset(sink Sink, next uint32) error {
	w := &Writer{sink: sink, journal: journal{Source: sink.Source, buf: make([]byte, sink.BlockSize)}}
	if _, _, err := w.journal.super(); err != nil {
		return err
	}
	w.super, w.tid = slices.Clone(w.buf), next
	if err := w.writeSuper(0); err != nil {
		return err
	}
	return sink.Flush()
}
