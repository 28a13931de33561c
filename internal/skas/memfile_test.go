package skas

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A window shows the object and takes stores; behind the end a copy fails and nothing worse happens.
func TestWindow(t *testing.T) {
	f, err := new(Platform).NewMemfile("test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const page = 4096
	if err := f.Truncate(3 * page); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{7}, page), page); err != nil {
		t.Fatal(err)
	}
	as := newAddressSpace()
	as.add(os.Getpid(), os.Getpid())
	buf := make([]byte, 2*page)
	at := uint64(uintptr(unsafe.Pointer(&buf[0])))

	if f.Window(0, page, false) != nil {
		t.Error("a hole has a window")
	}
	if f.Allocated() != page {
		t.Error("looking filled a hole")
	}
	w := f.Window(page, page, false)
	if n, err := as.WriteAt(w, at); n != page || err != nil || buf[0] != 7 || buf[page-1] != 7 || buf[page] != 0 {
		t.Error(n, err, buf[0])
	}
	if n, err := as.ReadAt(f.Window(page/2, 2*page, true), at); n != 2*page || err != nil {
		t.Error(n, err)
	}
	got := make([]byte, 2)
	if _, err := f.ReadAt(got, page+page/2-1); err != nil || got[0] != 7 || got[1] != 0 {
		t.Error(got, err)
	}
	if far := f.Window(64<<20, page, true); far == nil {
		t.Error("no window far out")
	} else if n, err := as.WriteAt(far, at); n != 0 || err != unix.EFAULT {
		t.Error(n, err)
	}
	if f.Window(-1, 1, true) != nil || f.Window(1<<62, 1<<30, true) != nil {
		t.Error("a window of nothing")
	}
}
