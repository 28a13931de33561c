package skas

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

var _ uio.PieceMemory = (*addressSpace)(nil)

// TestPieces copies within the test's own memory, which process_vm_readv reaches too.
func TestPieces(t *testing.T) {
	as := newAddressSpace()
	as.add(os.Getpid(), os.Getpid())
	var pieces [][]byte
	var want []byte
	for i := range maxPieces + 3 { // more than one call takes
		p := bytes.Repeat([]byte{byte(i)}, i%5) // some are empty
		pieces = append(pieces, p)
		want = append(want, p...)
	}
	guest := make([]byte, len(want)+1)
	addr := uint64(uintptr(unsafe.Pointer(&guest[0])))
	if n, err := as.WritePieces(pieces, addr); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	if !bytes.Equal(guest[:len(want)], want) || guest[len(want)] != 0 {
		t.Fatalf("wrote %x, want %x", guest, want)
	}
	for _, p := range pieces {
		clear(p)
	}
	if n, err := as.ReadPieces(pieces, addr); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	if got := bytes.Join(pieces, nil); !bytes.Equal(got, want) {
		t.Fatalf("read %x, want %x", got, want)
	}
	for _, bad := range []uint64{16, userMax - 1, userMax, ^uint64(0)} {
		if n, err := as.ReadPieces(pieces, bad); n != 0 || err != unix.EFAULT {
			t.Errorf("at %#x: %d, %v", bad, n, err)
		}
	}
}
