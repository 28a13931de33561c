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
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	dir     = "/fsx"
	path    = dir + "/file"
	maxSize = 1 << 20
	maxOp   = 100_000
	page    = 4096

	keepSize, punchHole, collapse, zeroRange, insert = 1, 2, 8, 0x10, 0x20

	fadviseDontNeed    = 4
	seekData, seekHole = 3, 4
	sysCopyFileRange   = 326
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
	limit           int  // of the file's size, until it is made anew
	indirect        bool // blocks are mapped without extents, which have more operations
	log             []string

	mu sync.Mutex // held while file is closed or opened, and by beside while it works
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: fsx <device> <options> <seed> <operations>")
		os.Exit(2)
	}
	seed, err1 := strconv.ParseUint(os.Args[3], 10, 64)
	count, err2 := strconv.Atoi(os.Args[4])
	x := &fsx{device: os.Args[1], options: os.Args[2], rng: rand.New(rand.NewPCG(seed, 1)), file: -1, direct: -1, limit: maxSize}
	x.try("arguments", err1)
	x.try("arguments", err2)
	var err error
	x.buffer, err = syscall.Mmap(-1, 0, maxOp+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	x.try("mmap", err)
	x.try("mkdir", os.MkdirAll(dir, 0o755))
	x.mount()
	x.indirect = syscall.Fallocate(x.file, keepSize, 0, 1) == syscall.EOPNOTSUPP
	go x.beside(rand.New(rand.NewPCG(seed, 2)))
	for range count {
		x.step()
	}
	x.mu.Lock() // for good
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
	x.open()
}

func (x *fsx) open() {
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

func (x *fsx) close() {
	x.unmap()
	x.try("close", syscall.Close(x.file))
	x.try("close", syscall.Close(x.direct))
}

func (x *fsx) unmount() {
	x.close()
	x.try("umount", syscall.Unmount(dir, 0))
}

// anew removes the file and makes it again, to grow to another size: as one that fits into its inode, into few pages or not.
func (x *fsx) anew() {
	x.limit = []int{100, 200, 5000, 70_000, maxSize, maxSize}[x.rng.IntN(6)]
	x.note("new file, up to %d", x.limit)
	x.try("unlink", syscall.Unlink(path))
	x.size()
	x.close()
	x.want = x.want[:0]
	clear(x.want[:cap(x.want)])
	x.open()
}

// beside does meanwhile what changes nothing of the file.
func (x *fsx) beside(r *rand.Rand) {
	p := make([]byte, maxOp)
	for {
		x.mu.Lock()
		switch r.IntN(6) {
		case 0:
			_ = syscall.Fsync(x.file) // that it fails is told by the next one
		case 1:
			syscall.Sync()
		case 2:
			_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
		case 3:
			_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, uintptr(x.file), 0, 0, fadviseDontNeed, 0, 0)
		default:
			_, _ = syscall.Pread(x.file, p[:r.IntN(maxOp)], r.Int64N(maxSize))
		}
		x.mu.Unlock()
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond)
	}
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
		limit = x.limit
		if x.rng.IntN(3) > 0 {
			limit = min(len(x.want)+20_000, x.limit)
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
	switch r.IntN(24) {
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
			x.mu.Lock()
			if r.IntN(2) == 0 {
				x.anew()
			} else {
				x.note("mount anew")
				x.unmount()
				x.mount()
			}
			x.mu.Unlock()
		}
	case 19:
		x.copyPrivate()
	case 20:
		x.copyRange()
	case 21:
		x.seek()
	case 22:
		x.writeMapped()
	case 23:
		x.readMapped()
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
	if off+n > x.limit {
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
	n := x.rng.IntN(x.limit)
	if x.rng.IntN(2) == 0 {
		n = x.rng.IntN(len(x.want) + 5000)
	}
	n = min(n, x.limit)
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
	err := syscall.Fallocate(x.file, mode, int64(off), int64(n))
	if x.indirect && mode&punchHole == 0 {
		if err != syscall.EOPNOTSUPP {
			x.fail("%s without extents: %v", name, err)
		}
		return
	}
	x.try(name, err)
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
	case mode == insert && len(x.want)+n > x.limit:
		return
	case x.indirect:
		want = syscall.EOPNOTSUPP
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

// pieces are two spans of one length that do not overlap; the second may be behind the end of the file if beyond is set.
func (x *fsx) pieces(beyond bool) (from, to, n int) {
	from, n = x.span(false)
	to, m := x.span(beyond)
	n = min(n, m)
	if n == 0 || from < to+n && to < from+n {
		return 0, 0, 0
	}
	return from, to, n
}

// copyRange has the kernel copy a piece of the file.
func (x *fsx) copyRange() {
	from, to, n := x.pieces(true)
	if n == 0 {
		return
	}
	x.note("copy %d+%d to %d of %d", from, n, to, len(x.want))
	for done := 0; done < n; {
		in, out := int64(from+done), int64(to+done)
		k, _, e := syscall.Syscall6(sysCopyFileRange, uintptr(x.file), uintptr(unsafe.Pointer(&in)), uintptr(x.file), uintptr(unsafe.Pointer(&out)), uintptr(n-done), 0)
		if e != 0 || k == 0 || int(k) > n-done {
			x.fail("copy_file_range: %d, %v", k, e)
		}
		done += int(k)
	}
	x.grow(to + n)
	copy(x.want[to:to+n], x.want[from:from+n])
}

// seek looks for data and for a hole: what is no data is zero.
func (x *fsx) seek() {
	off, n := x.span(false)
	if n == 0 {
		return
	}
	x.note("seek from %d of %d", off, len(x.want))
	data, err := syscall.Seek(x.file, int64(off), seekData)
	if err == syscall.ENXIO {
		data, err = int64(len(x.want)), nil
	}
	x.try("SEEK_DATA", err)
	hole, err := syscall.Seek(x.file, int64(off), seekHole)
	x.try("SEEK_HOLE", err)
	if data < int64(off) || hole < int64(off) || max(data, hole) > int64(len(x.want)) || data > int64(off) && hole > int64(off) {
		x.fail("data at %d and a hole at %d", data, hole)
	}
	for i, b := range x.want[off:data] {
		if b != 0 {
			x.fail("byte %d is in a hole, which ends at %d, and not zero", off+i, data)
		}
	}
}

// writeMapped writes what is in the mapping of the same file.
func (x *fsx) writeMapped() {
	from, to, n := x.pieces(true)
	if n == 0 {
		return
	}
	x.note("write %d+%d of the mapping to %d of %d", from, n, to, len(x.want))
	x.inParts("pwrite of the mapping", x.mapped()[from:from+n], to, syscall.Pwrite)
	x.grow(to + n)
	copy(x.want[to:to+n], x.want[from:from+n])
}

// inParts does a call whose buffer is in the mapping: it may end where a page is not mapped yet.
func (x *fsx) inParts(what string, p []byte, off int, call func(int, []byte, int64) (int, error)) {
	for len(p) > 0 {
		k, err := call(x.file, p, int64(off))
		x.try(what, err)
		if k <= 0 {
			x.fail("%s: %d of %d", what, k, len(p))
		}
		p, off = p[k:], off+k
	}
}

// readMapped reads into the mapping of the same file.
func (x *fsx) readMapped() {
	from, to, n := x.pieces(false)
	if n == 0 {
		return
	}
	x.note("read %d+%d into the mapping at %d", from, n, to)
	x.inParts("pread into the mapping", x.mapped()[to:to+n], from, syscall.Pread)
	copy(x.want[to:to+n], x.want[from:from+n])
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
