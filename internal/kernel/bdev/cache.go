package bdev

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Cache is a buffer cache: blocks of one size of one device. Buffers that are pinned or dirty stay; others are dropped,
// least recently used first, when the bound is reached.
type Cache struct {
	dev   Device // immutable
	size  int    // block size; immutable
	limit int    // number of buffers; immutable
	last  uint64 // number of blocks; immutable

	mu sync.Mutex
	// +checklocks:mu
	bufs map[uint64]*Buffer
	// +checklocks:mu
	lru lruList // of buffers without pins
	// +checklocks:mu
	nextSeq uint64 // block after the last miss, to see sequential reading
	// +checklocks:mu
	ahead int // current read-ahead window in blocks
	// +checklocks:mu
	dirty map[uint64]*Buffer
}

// Buffer is a cached block. It is pinned from Get to Release.
type Buffer struct {
	Block uint64 // immutable
	cache *Cache // immutable
	data  []byte // content; changed only by who holds the owner's lock for it

	// Checked is for the user: that the content was found valid. It is false after every read from the device.
	Checked atomic.Bool

	mu    sync.Mutex // held while the device is read or written
	valid atomic.Bool

	// Guarded by cache.mu.
	pins       int
	next, prev *Buffer // in lru, nil if it is not there
	dirty      bool
}

// lruList is a list of buffers, least recently used first.
type lruList struct{ first, last *Buffer }

func (l *lruList) push(b *Buffer) {
	if b.prev = l.last; b.prev != nil {
		b.prev.next = b
	} else {
		l.first = b
	}
	l.last = b
}

// remove takes a buffer off the list if it is there.
func (l *lruList) remove(b *Buffer) {
	if b.prev == nil && l.first != b {
		return
	}
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		l.first = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		l.last = b.prev
	}
	b.next, b.prev = nil, nil
}

// pop takes off the first buffer, nil if there is none.
func (l *lruList) pop() *Buffer {
	b := l.first
	if b != nil {
		l.remove(b)
	}
	return b
}

// maxReadAhead is the largest read-ahead in bytes.
const maxReadAhead = 128 << 10

// NewCache makes a cache of blocks of blockSize bytes (a power of two, at least SectorSize) of at most limit bytes.
func NewCache(dev Device, blockSize int, limit int64) *Cache {
	return &Cache{dev: dev, size: blockSize, limit: int(max(limit/int64(blockSize), 64)), last: uint64(dev.Size()) / uint64(blockSize),
		bufs: map[uint64]*Buffer{}, dirty: map[uint64]*Buffer{}}
}

// Data is the block's content. Readers must not change it.
func (b *Buffer) Data() []byte { return b.data }

// Release undoes Get.
func (b *Buffer) Release() {
	c := b.cache
	c.mu.Lock()
	if b.pins--; b.pins == 0 && !b.dirty && c.bufs[b.Block] == b {
		c.lru.push(b)
		c.shrinkLocked()
	}
	c.mu.Unlock()
}

// Get returns a block, reading it if need be. When blocks are asked for in order it reads ahead. EIO if there is no such
// block.
func (c *Cache) Get(block uint64) (*Buffer, error) { return c.get(block, 0, true) }

// GetAhead is Get with the hint that the n blocks from block on will be wanted.
func (c *Cache) GetAhead(block uint64, n int) (*Buffer, error) { return c.get(block, n, true) }

// GetNew returns a block that the caller is about to overwrite wholly: it is not read.
func (c *Cache) GetNew(block uint64) (*Buffer, error) { return c.get(block, 0, false) }

func (c *Cache) get(block uint64, ahead int, read bool) (*Buffer, error) {
	if block >= c.last {
		return nil, unix.EIO
	}
	c.mu.Lock()
	b := c.pinLocked(block)
	if !b.valid.Load() && read && ahead == 0 {
		if block == c.nextSeq {
			c.ahead = min(max(2*c.ahead, 4), maxReadAhead/c.size)
		} else {
			c.ahead = 1
		}
		ahead = c.ahead
		c.nextSeq = block + uint64(ahead)
	}
	c.mu.Unlock()
	if b.valid.Load() {
		return b, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.valid.Load() {
		return b, nil
	}
	if !read {
		clear(b.data)
		b.valid.Store(true)
		return b, nil
	}
	ahead = min(ahead, maxReadAhead/c.size, c.limit/4)
	if ahead > 1 && c.readAhead(b, ahead) {
		return b, nil
	}
	if _, err := c.dev.ReadAt(b.data, int64(block)*int64(c.size)); err != nil {
		b.Release()
		return nil, err
	}
	b.valid.Store(true)
	return b, nil
}

// readAhead reads b, whose mu is held, and up to n-1 blocks after it in one go.
func (c *Cache) readAhead(b *Buffer, n int) bool {
	n = int(min(uint64(n), c.last-b.Block))
	p := make([]byte, n*c.size)
	if _, err := c.dev.ReadAt(p, int64(b.Block)*int64(c.size)); err != nil {
		return false
	}
	copy(b.data, p)
	b.valid.Store(true)
	for i := 1; i < n; i++ {
		c.mu.Lock()
		if c.bufs[b.Block+uint64(i)] != nil { // cached, being read, or perhaps newer than what was read here
			c.mu.Unlock()
			continue
		}
		x := c.pinLocked(b.Block + uint64(i))
		c.mu.Unlock()
		x.mu.Lock()
		if !x.valid.Load() {
			copy(x.data, p[i*c.size:])
			x.valid.Store(true)
		}
		x.mu.Unlock()
		x.Release()
	}
	return true
}

// pinLocked finds or makes the buffer of a block and pins it.
func (c *Cache) pinLocked(block uint64) *Buffer {
	b := c.bufs[block]
	if b == nil {
		b = &Buffer{Block: block, cache: c, data: make([]byte, c.size)}
		c.bufs[block] = b
		c.shrinkLocked()
	} else {
		c.lru.remove(b)
	}
	b.pins++
	return b
}

func (c *Cache) shrinkLocked() {
	for len(c.bufs) > c.limit {
		b := c.lru.pop()
		if b == nil {
			return
		}
		delete(c.bufs, b.Block)
	}
}

// Peek calls f with the content of a block if it is cached; nobody drops it meanwhile. f must not call the cache.
func (c *Cache) Peek(block uint64, f func(b *Buffer)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.bufs[block]; b != nil && b.valid.Load() {
		f(b)
	}
}

// Forget drops what is cached of a block: who asks for it next gets a new buffer, who has it pinned keeps the old one.
func (c *Cache) Forget(block uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.bufs[block]
	if b == nil {
		return
	}
	c.lru.remove(b)
	delete(c.bufs, block)
	if b.dirty {
		b.dirty = false
		delete(c.dirty, block)
	}
}

// MarkDirty says that the buffer, which the caller has pinned and changed, must be written before it may be dropped.
func (b *Buffer) MarkDirty() {
	c := b.cache
	c.mu.Lock()
	b.dirty = true
	c.dirty[b.Block] = b
	c.mu.Unlock()
}

// WriteBack writes one dirty buffer that the caller has pinned; the caller keeps it from being changed meanwhile.
func (b *Buffer) WriteBack() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.cache
	c.mu.Lock()
	was := b.dirty
	b.dirty = false
	delete(c.dirty, b.Block)
	c.mu.Unlock()
	if !was {
		return nil
	}
	if _, err := c.dev.WriteAt(b.data, int64(b.Block)*int64(c.size)); err != nil {
		b.MarkDirty()
		return err
	}
	return nil
}

// Sync writes all dirty buffers in the order of their block numbers and flushes the device. Callers that need an order
// between writes call WriteBack and Device.Flush themselves.
func (c *Cache) Sync() error {
	c.mu.Lock()
	list := make([]*Buffer, 0, len(c.dirty))
	for _, b := range c.dirty {
		b.pins++
		list = append(list, b)
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b *Buffer) int {
		if a.Block < b.Block {
			return -1
		}
		return 1
	})
	var first error
	for _, b := range list {
		if err := b.WriteBack(); err != nil && first == nil {
			first = err
		}
		b.Release()
	}
	if err := c.dev.Flush(); err != nil && first == nil {
		first = err
	}
	return first
}

// Len is how many blocks are cached, Dirty how many of them are dirty.
func (c *Cache) Len() int   { c.mu.Lock(); defer c.mu.Unlock(); return len(c.bufs) }
func (c *Cache) Dirty() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.dirty) }

// Invalidate drops all buffers that are neither pinned nor dirty (BLKFLSBUF).
func (c *Cache) Invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := c.lru.pop(); b != nil; b = c.lru.pop() {
		delete(c.bufs, b.Block)
	}
}
