package disk

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C continues a CRC-32C as ext4 computes it: without the inversions at both ends.
func CRC32C(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// CRC32CU32 continues with a little-endian 32-bit number.
func CRC32CU32(crc, v uint32) uint32 {
	for range 4 { // by the table: crc32.Update would put the bytes on the heap
		crc = castagnoli[byte(crc)^byte(v)] ^ crc>>8
		v >>= 8
	}
	return crc
}

// CRC32CU64 continues with a little-endian 64-bit number.
func CRC32CU64(crc uint32, v uint64) uint32 {
	return CRC32CU32(CRC32CU32(crc, uint32(v)), uint32(v>>32))
}

// crc16 table for the reflected polynomial 0xa001 (CRC-16/ARC), which uninit_bg descriptors use.
var crc16Table = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xa001
			} else {
				c >>= 1
			}
		}
		t[i] = c
	}
	return t
}()

// CRC16 continues a CRC-16.
func CRC16(crc uint16, p []byte) uint16 {
	for _, b := range p {
		crc = crc>>8 ^ crc16Table[byte(crc)^b]
	}
	return crc
}

// zeroes stand for a checksum where its own field counts as zero.
var zeroes [4]byte

// crcZeroed is CRC32C of p with the n bytes at off taken as zero.
func crcZeroed(crc uint32, p []byte, off, n int) uint32 {
	crc = CRC32C(crc, p[:off])
	crc = CRC32C(crc, zeroes[:n])
	return CRC32C(crc, p[off+n:])
}
