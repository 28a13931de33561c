package bdev

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// writeback holds what was written to the block special files of a disk and has not been given to the device: small writes
// are gathered, and go to the device in runs as long as possible. Everybody else who looks at the disk (file systems, direct
// I/O, mappings, another partition's file) has what lies in his way written first, so that there is one truth. While a file
// system is mounted on the disk, or its special file is mapped, nothing is held at all.
//
// fsync, the last close, BLKFLSBUF, sync, a timer and want of memory have it written. A failure is found then: it is told to
// each open file once, by fsync, and what could not be written is dropped, as by Linux.
type writeback struct {
	disk *Disk

	held   atomic.Int64  // pages that are held, those being written included
	direct atomic.Int32  // reasons to hold nothing
	gen    atomic.Uint64 // changes with the content of the disk
	loose  atomic.Bool   // the device has been changed since it was flushed
	stores atomic.Int32  // mappings through which it may be changed at any time

	// run is held while pages are written. It comes before mu.
	run sync.Mutex

	mu sync.Mutex
	// +checklocks:mu
	pages map[int64]*dirtyPage // by number, counted from the start of the disk
	// +checklocks:mu
	timer *time.Timer
}

// dirtyPage is a page of a disk of which some sectors are newer than the device: a bit for each.
type dirtyPage struct {
	data           [abi.PageSize]byte
	dirty, writing uint8
	node           *Node // through which it was written
}

const (
	pageSectors = abi.PageSize / SectorSize
	// directSize is the size of writes that gain nothing from being held.
	directSize = 64 << 10
	// maxHeld is how many pages of a disk are held, and writebackDelay how long.
	maxHeld        = 16 << 20 / abi.PageSize
	writebackDelay = 5 * time.Second
	// maxRun is the longest write to a device.
	maxRun = 512 << 10
)

var (
	dirtyPages sync.Pool // of *dirtyPage
	runs       = sync.Pool{New: func() any { p := make([]byte, maxRun); return &p }}
	dirtyCount atomic.Int64 // pages of all disks
)

// Dirty is how many bytes were written to block special files and are not on their devices.
func Dirty() uint64 { return uint64(dirtyCount.Load()) * abi.PageSize }

// SyncAll gives all devices what was written to their special files, and makes it durable: sync(2). Who has a special file
// open hears of errors. A file system that is mounted on a disk sees to that by itself.
func SyncAll() {
	for _, d := range Disks() {
		d.wb.cleanAll()
		if d.wb.stores.Load() > 0 || d.wb.loose.Load() && d.wb.direct.Load() == 0 {
			_ = d.whole.flush()
		}
	}
}

// changed notes that the content of the device is not what it was.
func (w *writeback) changed() {
	w.gen.Add(1)
	if !w.loose.Load() {
		w.loose.Store(true)
	}
}

// flush is Flush for special files: each open one of the disk is told of an error once.
func (n *Node) flush() error {
	err := n.Flush()
	if err != nil {
		for _, x := range n.disk.Nodes() {
			x.failed.set(err)
		}
	}
	return err
}

// sectorMask is the bits of the sectors of a page between from and to, byte offsets in the page.
func sectorMask(from, to int64) uint8 {
	return uint8(1<<(to/SectorSize) - 1<<(from/SectorSize))
}

// eachPage calls f for the part of each page between off and end.
func eachPage(off, end int64, f func(page, from, to int64) bool) {
	for off < end {
		page, from := off/abi.PageSize, off%abi.PageSize
		to := min(abi.PageSize, from+end-off)
		if !f(page, from, to) {
			return
		}
		off += to - from
	}
}

// hold takes p, whole sectors, for writing at off of the disk. It reports false if nothing may be held.
func (w *writeback) hold(n *Node, p []byte, off int64) bool {
	if w.direct.Load() > 0 || len(p) >= directSize || kmem.Full() {
		return false
	}
	w.mu.Lock()
	if w.direct.Load() > 0 {
		w.mu.Unlock()
		return false
	}
	if w.pages == nil {
		w.pages = map[int64]*dirtyPage{}
	}
	eachPage(off, off+int64(len(p)), func(page, from, to int64) bool {
		x := w.pages[page]
		if x == nil {
			if x, _ = dirtyPages.Get().(*dirtyPage); x == nil {
				x = new(dirtyPage)
			}
			w.pages[page] = x
			w.held.Add(1)
			dirtyCount.Add(1)
			kmem.Add(abi.PageSize)
		}
		p = p[copy(x.data[from:to], p):]
		x.dirty |= sectorMask(from, to)
		x.node = n
		return true
	})
	if w.timer == nil {
		w.timer = time.AfterFunc(writebackDelay, func() {
			w.mu.Lock()
			w.timer = nil
			w.mu.Unlock()
			w.cleanAll()
		})
	}
	full := len(w.pages) > maxHeld
	w.mu.Unlock()
	w.gen.Add(1)
	if full {
		w.cleanAll()
	}
	return true
}

// read fills p from what is held, if all of it is.
func (w *writeback) read(p []byte, off int64) bool {
	if w.held.Load() == 0 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	end := off + int64(len(p))
	ok := true
	eachPage(off, end, func(page, from, to int64) bool {
		x, m := w.pages[page], sectorMask(from, to)
		ok = x != nil && (x.dirty|x.writing)&m == m
		return ok
	})
	if ok {
		eachPage(off, end, func(page, from, to int64) bool {
			p = p[copy(p, w.pages[page].data[from:to]):]
			return true
		})
	}
	return ok
}

// clean writes what is held between off and off+n, and waits for what is being written there.
func (w *writeback) clean(off, n int64) {
	if w.held.Load() == 0 || n <= 0 {
		return
	}
	first, last := off/abi.PageSize, (off+n-1)/abi.PageSize
	if len(w.within(first, last)) == 0 {
		return
	}
	w.run.Lock()
	defer w.run.Unlock()
	buf := runs.Get().(*[]byte)
	defer runs.Put(buf)
	list := w.within(first, last)
	for len(list) > 0 {
		list = w.writeRun(*buf, list)
	}
}

// cleanAll writes all that is held, also what lies beyond the end of a disk that has become smaller meanwhile.
func (w *writeback) cleanAll() { w.clean(0, math.MaxInt64) }

// within lists the pages that are held from first to last.
func (w *writeback) within(first, last int64) (list []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last-first < int64(len(w.pages)) {
		for i := first; i <= last; i++ {
			if w.pages[i] != nil {
				list = append(list, i)
			}
		}
		return list
	}
	for i := range w.pages {
		if i >= first && i <= last {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

// writeRun writes sectors that lie side by side at the beginning of the list, and returns what is left of it. The caller
// holds run.
func (w *writeback) writeRun(buf []byte, list []int64) []int64 {
	w.mu.Lock()
	var node *Node
	var start int64
	size, taken, done := 0, 0, 0
	for i, no := range list {
		x := w.pages[no]
		if x == nil || x.dirty == 0 {
			if size > 0 {
				break
			}
			done = i + 1
			continue
		}
		// The first run of sectors of the page; the page is taken up again for others.
		from := int64(0)
		for x.dirty>>from&1 == 0 {
			from++
		}
		to := from
		for to < pageSectors && x.dirty>>to&1 != 0 {
			to++
		}
		at, end := no*abi.PageSize+from*SectorSize, no*abi.PageSize+to*SectorSize
		if size == 0 {
			node, start = x.node, at
		} else if x.node != node || at != start+int64(size) || size+int(end-at) > len(buf) {
			break
		}
		copy(buf[size:], x.data[from*SectorSize:to*SectorSize])
		m := sectorMask(from*SectorSize, to*SectorSize)
		x.dirty &^= m
		x.writing |= m
		size += int(end - at)
		taken++
		if x.dirty != 0 {
			break
		}
		done = i + 1
		if to < pageSectors {
			break
		}
	}
	w.mu.Unlock()
	if size == 0 {
		return list[done:]
	}
	node.writeOut(buf[:size], start, taken)
	w.mu.Lock()
	for no := start / abi.PageSize; no*abi.PageSize < start+int64(size); no++ {
		x := w.pages[no]
		x.writing = 0
		if x.dirty == 0 {
			delete(w.pages, no)
			x.node = nil
			dirtyPages.Put(x)
			w.held.Add(-1)
			dirtyCount.Add(-1)
			kmem.Add(-abi.PageSize)
		}
	}
	w.mu.Unlock()
	return list[done:]
}

// writeOut writes a run of held sectors, which were in so many pages, at off of the disk.
func (n *Node) writeOut(p []byte, off int64, pages int) {
	err := error(unix.EIO)
	if w := n.disk.whole; off <= w.Size()-int64(len(p)) {
		t := n.begin(kindWrite)
		_, err = n.disk.Dev.WriteAt(p, off)
		n.end(kindWrite, t, int64(len(p)))
		n.mergedWrites(pages - 1)
		n.disk.wb.changed()
	}
	if err != nil {
		klog.Errf("Buffer I/O error on dev %s, logical block %d, lost async page write", n.name, (off-n.start)/abi.PageSize)
		n.failed.set(err)
	}
}

// stopHolding and holdAgain bracket times in which writes go to the device at once.
func (w *writeback) stopHolding() {
	w.mu.Lock()
	w.direct.Add(1) // hold looks at it under mu
	w.mu.Unlock()
	w.cleanAll()
}

func (w *writeback) holdAgain() { w.direct.Add(-1) }

// failure is the last error of writing back, for everybody to be told once.
type failure struct {
	mu sync.Mutex
	// +checklocks:mu
	seq uint64
	// +checklocks:mu
	err error
	// +checklocks:mu
	told bool
}

func (f *failure) set(err error) {
	f.mu.Lock()
	f.seq, f.err, f.told = f.seq+1, err, false
	f.mu.Unlock()
}

// sample is where somebody begins who has opened the file: he hears of an error that nobody has heard of.
func (f *failure) sample() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && !f.told {
		return f.seq - 1
	}
	return f.seq
}

// check returns an error that is newer than seen.
func (f *failure) check(seen *atomic.Uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen.Swap(f.seq) == f.seq {
		return nil
	}
	f.told = true
	return f.err
}
