package ubd

import (
	"bytes"
	"testing"
)

// FuzzHeader decodes heads of COW files: what is accepted lies in the file in order, and has a bit for each sector.
func FuzzHeader(f *testing.F) {
	v3 := header{version: 3, backing: "/back", size: 8192, sectorSize: 512, align: cowAlign}
	f.Add(v3.encode())
	f.Add([]byte("OOOM\x00\x00\x00\x02/back"))
	f.Add([]byte("MOOO\x01\x00\x00\x00/back"))
	f.Add([]byte("OOOM\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b[:min(len(b), headerMax)]), make([]byte, max(headerMax-len(b), 0))...)
		h, err := decodeHeader(b)
		if h == nil || err != nil {
			return
		}
		if h.bitmapOff <= 0 || h.bitmapLen < 0 || h.dataOff < h.bitmapOff+h.bitmapLen || h.dataOff+int64(h.size) < 0 {
			t.Fatalf("%+v", h)
		}
		if h.version == 3 && uint64(h.bitmapLen)*8 < h.size/uint64(h.sectorSize) {
			t.Fatalf("the bitmap has no bits for the last sectors: %+v", h)
		}
		name, at := h.nameField()
		if len(h.backing) >= len(name) || at+int64(len(name)) > headerMax {
			t.Fatalf("a name of %d bytes, room for %d at %d", len(h.backing), len(name), at)
		}
		if mtime, at := h.mtimeField(h.mtime); !bytes.Equal(b[at:at+4], mtime) {
			t.Fatalf("the time at %d is %x, want %x", at, b[at:at+4], mtime)
		}
	})
}
