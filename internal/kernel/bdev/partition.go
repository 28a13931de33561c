package bdev

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// partition is an entry of a partition table, in bytes.
type partition struct {
	number      int
	start, size int64
	uuid, label string
}

// MBR layout: four entries of 16 bytes at 446, the disk signature at 440, 0x55aa at 510.
const (
	mbrEntries   = 446
	mbrSignature = 440
	mbrGPT       = 0xee
	gptMaxTable  = 1 << 20
)

// scanPartitions reads the partition table of a disk: GPT if there is a valid one, else MBR with logical partitions.
func scanPartitions(d Device) []partition {
	if d.Size() < 2*SectorSize {
		return nil
	}
	mbr := make([]byte, SectorSize)
	if _, err := d.ReadAt(mbr, 0); err != nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil
	}
	for i := range 4 {
		if mbr[mbrEntries+16*i+4] == mbrGPT {
			if p, ok := scanGPT(d, 1); ok {
				return p
			}
			if p, ok := scanGPT(d, d.Size()/SectorSize-1); ok {
				return p
			}
		}
	}
	return scanMBR(d, mbr)
}

func isExtended(typ byte) bool { return typ == 0x05 || typ == 0x0f || typ == 0x85 }

// mbrEntry returns type, first sector and number of sectors of entry i.
func mbrEntry(b []byte, i int) (typ byte, start, n int64) {
	e := b[mbrEntries+16*i:]
	return e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
}

func scanMBR(d Device, mbr []byte) []partition {
	// A file system's boot sector also ends in 55 aa: the boot flags tell it from a partition table.
	for i := range 4 {
		if mbr[mbrEntries+16*i]&0x7f != 0 {
			return nil
		}
	}
	sectors := d.Size() / SectorSize
	sig := binary.LittleEndian.Uint32(mbr[mbrSignature:])
	var out []partition
	add := func(num int, start, n int64) {
		if n > 0 && start > 0 && start < sectors {
			n = min(n, sectors-start)
			out = append(out, partition{number: num, start: start * SectorSize, size: n * SectorSize,
				uuid: fmt.Sprintf("%08x-%02x", sig, num)})
		}
	}
	next := 5
	for i := range 4 {
		typ, start, n := mbrEntry(mbr, i)
		if typ == 0 || n == 0 {
			continue
		}
		if !isExtended(typ) {
			add(i+1, start, n)
			continue
		}
		// The extended partition itself is shown with two sectors, as Linux does, so that nobody formats it.
		add(i+1, start, min(n, 2))
		ebr := make([]byte, SectorSize)
		for at, hops := start, 0; hops < 64 && at > 0 && at < sectors; hops++ {
			if _, err := d.ReadAt(ebr, at*SectorSize); err != nil || ebr[510] != 0x55 || ebr[511] != 0xaa {
				break
			}
			if t, s, k := mbrEntry(ebr, 0); t != 0 && k > 0 && !isExtended(t) {
				add(next, at+s, k)
				next++
			}
			t, s, k := mbrEntry(ebr, 1)
			if !isExtended(t) || k == 0 || s == 0 {
				break
			}
			at = start + s
		}
	}
	return out
}

func scanGPT(d Device, lba int64) ([]partition, bool) {
	h := make([]byte, SectorSize)
	if _, err := d.ReadAt(h, lba*SectorSize); err != nil || string(h[:8]) != "EFI PART" {
		return nil, false
	}
	le := binary.LittleEndian
	hsize := le.Uint32(h[12:])
	if hsize < 92 || hsize > SectorSize {
		return nil, false
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:hsize]) != sum || le.Uint64(h[24:]) != uint64(lba) {
		return nil, false
	}
	table, num, esize := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	sectors := uint64(d.Size() / SectorSize)
	if esize < 128 || esize > 4096 || num > gptMaxTable/esize || table >= sectors {
		return nil, false
	}
	bytes := (int64(num)*int64(esize) + SectorSize - 1) &^ (SectorSize - 1)
	if uint64(bytes/SectorSize) > sectors-table {
		return nil, false
	}
	t := make([]byte, bytes)
	if _, err := d.ReadAt(t, int64(table)*SectorSize); err != nil || crc32.ChecksumIEEE(t[:num*esize]) != le.Uint32(h[88:]) {
		return nil, false
	}
	var out []partition
	for i := range num {
		e := t[i*esize:]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if [16]byte(e[:16]) == [16]byte{} || first == 0 || last < first || last >= sectors {
			continue
		}
		var name []uint16
		for j := range 36 {
			if c := le.Uint16(e[56+2*j:]); c != 0 {
				name = append(name, c)
			} else {
				break
			}
		}
		out = append(out, partition{number: int(i) + 1, start: int64(first) * SectorSize,
			size: int64(last-first+1) * SectorSize, uuid: guid(e[16:32]), label: string(utf16.Decode(name))})
	}
	return out, true
}

// guid formats a GUID: the first three fields are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
