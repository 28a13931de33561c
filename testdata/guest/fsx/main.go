// Fsx does random operations on one file of a disk, in every way there is to change and look at it, and compares each result
// with what it remembers. It mounts the disk itself, and now and then anew.
//
//	fsx <device> <options of the mount> <seed> <number of operations>
package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

const (
	dir     = "/fsx"
	path    = dir + "/file"
	maxSize = 1 << 20
	maxOp   = 100_000
	page    = 4096

	keepSize, punchHole, collapse, zeroRange, insert = 1, 2, 8, 0x10, 0x20
)

// fsx is the file, what it should hold, and what was done to it.
type fsx struct {
	device, options string
	rng             *rand.Rand
	want            []byte
	file, direct    int
	mapping         []byte // of maxSize bytes, shared and writable; nil if there is none
	private         []byte // of maxSize bytes; nil if there is none
	buffer          []byte // aligned
	block           int
	log             []string
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: fsx <device> <options> <seed> <operations>")
		os.Exit(2)
	}
	seed, err1 := strconv.ParseUint(os.Args[3], 10, 64)
	count, err2 := strconv.Atoi(os.Args[4])
	x := &fsx{device: os.Args[1], options: os.Args[2], rng: rand.New(rand.NewPCG(seed, 1)), file: -1, direct: -1}
	x.try("arguments", err1)
	x.try("arguments", err2)
	var err error
	x.buffer, err = syscall.Mmap(-1, 0, maxOp+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	x.try("mmap", err)
	x.try("mkdir", os.MkdirAll(dir, 0o755))
	x.mount()
	for range count {
		x.step()
	}
	x.unmount()
	fmt.Printf("fsx: %d operations, %d bytes\n", count, len(x.want))
}

// note remembers what is about to be done.
func (x *fsx) note(format string, args ...any) { x.log = append(x.log, fmt.Sprintf(format, args...)) }

func (x *fsx) fail(format string, args ...any) {
	fmt.Printf("fsx: operation %d: %s\n  %s\n", len(x.log), fmt.Sprintf(format, args...), strings.Join(x.log[max(0, len(x.log)-25):], "\n  "))
	os.Exit(1)
}

func (x *fsx) try(what string, err error) {
	if err != nil {
		x.fail("%s: %v", what, err)
	}
}

func (x *fsx) mount() {
	x.try("mount", syscall.Mount(x.device, dir, "ext4", 0, x.options))
	var err error
	x.file, err = syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT, 0o644)
	x.try("open", err)
	x.direct, err = syscall.Open(path, syscall.O_RDWR|syscall.O_DIRECT, 0)
	x.try("open with O_DIRECT", err)
	var st syscall.Stat_t
	x.try("fstat", syscall.Fstat(x.file, &st))
	x.block = int(st.Blksize)
	x.size()
}

func (x *fsx) unmount() {
	x.unmap()
	x.try("close", syscall.Close(x.file))
	x.try("close", syscall.Close(x.direct))
	x.try("umount", syscall.Unmount(dir, 0))
}

// size compares the size.
func (x *fsx) size() {
	var st syscall.Stat_t
	x.try("fstat", syscall.Fstat(x.file, &st))
	if int(st.Size) != len(x.want) {
		x.fail("the size is %d, not %d", st.Size, len(x.want))
	}
}

func (x *fsx) unmap() {
	for _, m := range []*[]byte{&x.mapping, &x.private} {
		if *m != nil {
			x.try("munmap", syscall.Munmap(*m))
			*m = nil
		}
	}
}

// span is a place in the file, or if beyond is set perhaps behind its end, and a length.
func (x *fsx) span(beyond bool) (off, n int) {
	limit := len(x.want)
	if beyond {
		limit = maxSize
		if x.rng.IntN(3) > 0 {
			limit = min(len(x.want)+20_000, maxSize)
		}
	}
	if limit == 0 {
		return 0, 0
	}
	off = x.rng.IntN(limit)
	if x.rng.IntN(3) == 0 {
		off &^= page - 1
	}
	n = 1 + x.rng.IntN(1<<(1+x.rng.IntN(17)))
	if x.rng.IntN(4) == 0 {
		n = (n + page - 1) &^ (page - 1)
	}
	return off, min(n, maxOp, limit-off)
}

func (x *fsx) data(n int) []byte {
	p := x.buffer[:n]
	v := x.rng.Uint32()
	for i := range p {
		v = v*1664525 + 1013904223
		p[i] = byte(v >> 24)
	}
	return p
}

func (x *fsx) grow(n int) {
	if n > len(x.want) {
		x.want = append(x.want, make([]byte, n-len(x.want))...)
	}
}

// same compares bytes that were read at off.
func (x *fsx) same(how string, got []byte, off int) {
	if want := x.want[off : off+len(got)]; !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		n := 0
		for j := i; j < len(got); j++ {
			if got[j] != want[j] {
				n++
			}
		}
		x.fail("%s: byte %d is %#x, not %#x; %d bytes differ of %d from %d on", how, off+i, got[i], want[i], n, len(got), off)
	}
}

func (x *fsx) step() {
	r := x.rng
	switch r.IntN(20) {
	case 0, 1:
		x.read()
	case 2, 3, 4:
		x.write()
	case 5:
		x.truncate()
	case 6:
		x.fallocate("punch", punchHole|keepSize)
	case 7:
		x.fallocate("zero", zeroRange|uint32(r.IntN(2))*keepSize)
	case 8:
		x.fallocate("allocate", uint32(r.IntN(2))*keepSize)
	case 9:
		x.shift(collapse)
	case 10:
		x.shift(insert)
	case 11, 12:
		x.store()
	case 13, 14:
		x.load()
	case 15:
		x.readDirect()
	case 16:
		x.writeDirect()
	case 17:
		x.sync()
	case 18:
		if r.IntN(4) == 0 {
			x.note("unmap")
			x.unmap()
		} else if r.IntN(8) == 0 {
			x.note("mount anew")
			x.unmount()
			x.mount()
		}
	case 19:
		x.copyPrivate()
	}
	if r.IntN(50) == 0 {
		x.whole()
	}
}

// whole compares all of the file.
func (x *fsx) whole() {
	x.size()
	got := make([]byte, len(x.want))
	n, err := syscall.Pread(x.file, got, 0)
	x.try("pread of all", err)
	if n != len(got) {
		x.fail("pread of all: %d of %d", n, len(got))
	}
	x.same("all", got, 0)
}

func (x *fsx) read() {
	off, n := x.span(false)
	if n == 0 {
		return
	}
	x.note("read %d+%d", off, n)
	k, err := syscall.Pread(x.file, x.buffer[:n], int64(off))
	x.try("pread", err)
	if k != n {
		x.fail("pread: %d of %d", k, n)
	}
	x.same("pread", x.buffer[:n], off)
}

func (x *fsx) write() {
	off, n := x.span(true)
	if n == 0 {
		return
	}
	x.note("write %d+%d of %d", off, n, len(x.want))
	p := x.data(n)
	k, err := syscall.Pwrite(x.file, p, int64(off))
	x.try("pwrite", err)
	if k != n {
		x.fail("pwrite: %d of %d", k, n)
	}
	x.grow(off + n)
	copy(x.want[off:], p)
}

// aligned is a span of whole pages.
func (x *fsx) aligned(beyond bool) (off, n int) {
	off, n = x.span(beyond)
	return off &^ (page - 1), max(n&^(page-1), page)
}

func (x *fsx) readDirect() {
	off, n := x.aligned(false)
	n = min(n, len(x.buffer))
	x.note("read directly %d+%d of %d", off, n, len(x.want))
	k, err := syscall.Pread(x.direct, x.buffer[:n], int64(off))
	x.try("pread", err)
	if want := max(min(n, len(x.want)-off), 0); k != want {
		x.fail("direct pread: %d of %d", k, want)
	}
	if k > 0 {
		x.same("direct pread", x.buffer[:k], off)
	}
}

func (x *fsx) writeDirect() {
	off, n := x.aligned(true)
	if off+n > maxSize {
		return
	}
	x.note("write directly %d+%d of %d", off, n, len(x.want))
	p := x.data(n)
	k, err := syscall.Pwrite(x.direct, p, int64(off))
	x.try("pwrite", err)
	if k != n {
		x.fail("direct pwrite: %d of %d", k, n)
	}
	x.grow(off + n)
	copy(x.want[off:], p)
}

func (x *fsx) truncate() {
	n := x.rng.IntN(maxSize)
	if x.rng.IntN(2) == 0 {
		n = x.rng.IntN(len(x.want) + 5000)
	}
	n = min(n, maxSize)
	x.note("truncate %d to %d", len(x.want), n)
	x.try("ftruncate", syscall.Ftruncate(x.file, int64(n)))
	x.grow(n)
	x.want = x.want[:n]
	clear(x.want[n:cap(x.want)])
}

func (x *fsx) fallocate(name string, mode uint32) {
	off, n := x.span(true)
	if n == 0 {
		return
	}
	x.note("%s %d+%d of %d, mode %#x", name, off, n, len(x.want), mode)
	x.try(name, syscall.Fallocate(x.file, mode, int64(off), int64(n)))
	if mode&keepSize == 0 {
		x.grow(off + n)
	}
	if mode&(punchHole|zeroRange) != 0 && off < len(x.want) {
		clear(x.want[off:min(off+n, len(x.want))])
	}
}

// shift takes a piece out of the file, or makes room in it.
func (x *fsx) shift(mode uint32) {
	off, n := x.span(false)
	off, n = off/x.block*x.block, (n/x.block+1)*x.block
	name, want := "collapse", syscall.Errno(0)
	if mode == insert {
		name = "insert"
	}
	switch {
	case mode == insert && len(x.want)+n > maxSize:
		return
	case mode == insert && off >= len(x.want), mode == collapse && off+n >= len(x.want):
		want = syscall.EINVAL
	}
	x.note("%s %d+%d of %d", name, off, n, len(x.want))
	err := syscall.Fallocate(x.file, mode, int64(off), int64(n))
	if want != 0 {
		if err != want {
			x.fail("%s: %v, not %v", name, err, want)
		}
		return
	}
	x.try(name, err)
	if mode == collapse {
		x.want = slices.Delete(x.want, off, off+n)
	} else {
		x.want = slices.Insert(x.want, off, make([]byte, n)...)
	}
}

// mapped makes the shared mapping if there is none.
func (x *fsx) mapped() []byte {
	if x.mapping == nil {
		var err error
		x.mapping, err = syscall.Mmap(x.file, 0, maxSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		x.try("mmap", err)
	}
	return x.mapping
}

func (x *fsx) store() {
	off, n := x.span(false)
	if n == 0 {
		return
	}
	x.note("store %d+%d of %d", off, n, len(x.want))
	p := x.data(n)
	copy(x.mapped()[off:], p)
	copy(x.want[off:], p)
}

func (x *fsx) load() {
	off, n := x.span(false)
	if n == 0 {
		return
	}
	x.note("load %d+%d of %d", off, n, len(x.want))
	x.same("mapping", x.mapped()[off:off+n], off)
}

// copyPrivate looks at the file through a private mapping, and stores there what nobody else may see.
func (x *fsx) copyPrivate() {
	off, n := x.span(false)
	if n == 0 {
		return
	}
	x.note("private mapping, %d+%d of %d", off, n, len(x.want))
	if x.private != nil {
		x.try("munmap", syscall.Munmap(x.private))
	}
	var err error
	x.private, err = syscall.Mmap(x.file, 0, maxSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	x.try("mmap", err)
	x.same("private mapping", x.private[off:off+n], off)
	copy(x.private[off:], x.data(n))
}

func (x *fsx) sync() {
	switch x.rng.IntN(4) {
	case 0:
		x.note("fsync")
		x.try("fsync", syscall.Fsync(x.file))
	case 1:
		x.note("fdatasync")
		x.try("fdatasync", syscall.Fdatasync(x.file))
	case 2:
		x.note("sync")
		syscall.Sync()
	default:
		if m := x.mapping; m != nil {
			x.note("msync")
			if _, _, e := syscall.Syscall(syscall.SYS_MSYNC, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), syscall.MS_SYNC); e != 0 {
				x.fail("msync: %v", e)
			}
		}
	}
}
