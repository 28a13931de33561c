package mm

import (
	"cmp"
	"slices"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// change says what lies behind pages of a mapped file from now on.
type change struct {
	x        vfs.Mapping
	off, end uint64 // in the file, page aligned
	ext      []vfs.Extent
	keep     bool     // pages that were copied at a write stay
	hold     *FileMap // a mapping of x: its host files stay while the change waits
}

// Remap has the pages [off, end) of the file x come from other places in all address spaces that have them mapped: from what
// resolve says, as vfs.Mapping's Extents does; what it leaves out gives a fault, which asks the file. With keep, pages of
// private mappings that have been copied stay, else those are lost too, as at truncation. resolve is only called if there are
// such mappings.
//
// The memory calls are made by a thread of each address space before one of them runs guest code again; when Remap returns none
// runs that could see what was there before. Guest memory that the kernel itself copies for a thread that has been waiting in a
// call is the exception: it is the old one until that call ends.
//
// The file must be changed already, so that who maps it now gets what is right. Locks that Extents needs must not be held.
func (h *Host) Remap(x vfs.Mapping, off, end uint64, keep bool, resolve func() []vfs.Extent) {
	h.remaps.Add(1)
	if off >= end {
		return
	}
	var c *change
	seen := map[*MM]bool{}
	// An address space may be forked from one that was not done yet, behind its back: until there are no new ones.
	for again := true; again; {
		again = false
		for _, m := range h.spaces() {
			if seen[m] || !m.maps(x, off, end) {
				m.PutLater()
				continue
			}
			if c == nil {
				c = &change{x: x, off: off, end: end, keep: keep, ext: resolve()}
			}
			seen[m] = true // with its reference
			m.addChange(*c)
			again = true
		}
	}
	for m := range seen {
		m.as.Halt()
		m.PutLater()
	}
}

// maps reports whether pages of x between off and end are mapped.
func (m *MM) maps(x vfs.Mapping, off, end uint64) bool {
	m.mu.Lock()
	defer m.unlockReady() // who asks may hold locks that letting go of a file needs
	if m.book.find(x, off, end) == nil {
		return false
	}
	m.pruneLocked(nil)
	return m.book.find(x, off, end) != nil
}

// find returns an area that has pages of x between off and end, nil if there is none.
func (k *book) find(x vfs.Mapping, off, end uint64) *area {
	for i := range k.areas {
		if a := &k.areas[i]; a.b.m == x && a.off < end && off < a.off+a.end-a.start {
			return a
		}
	}
	return nil
}

func (m *MM) addChange(c change) {
	m.mu.Lock()
	defer m.unlockReady()
	a := m.book.find(c.x, c.off, c.end)
	if a == nil {
		return
	}
	c.hold = a.b
	c.hold.refs.Add(1)
	m.changes = append(m.changes, c)
	m.changed.Store(true)
}

// Changed reports whether Settle has something to do.
func (m *MM) Changed() bool { return m.changed.Load() }

// Settle makes the changes that Remap has left for this address space. Its thread t is held, and not on the tracer. It is to
// be called whenever a thread that was stopped is about to run on.
func (m *MM) Settle(t platform.Thread) {
	m.mu.Lock()
	defer m.unlock()
	m.settleLocked(t)
}

// settleRounds bounds how often new threads are waited for.
const settleRounds = 16

func (m *MM) settleLocked(t platform.Thread) {
	if len(m.changes) == 0 {
		return
	}
	// A program can unmap, and map something else at that place, behind our back: not while none of its threads runs. Those
	// that have stopped come here, too, and wait for the lock.
	for n := 0; m.as.Halt() && n < settleRounds; n++ {
	}
	if host, err := m.as.Mappings(); err == nil {
		m.pruneLocked(host)
		for i := range m.changes {
			m.makeChange(t, &m.changes[i], host)
		}
	}
	m.dropChanges()
}

// dropChanges forgets what was left to do.
func (m *MM) dropChanges() {
	for i := range m.changes {
		m.book.dead = append(m.book.dead, m.changes[i].hold)
	}
	m.changes = nil
	m.changed.Store(false)
}

// makeChange maps the pages of one change. Those that are mapped so already are left alone.
func (m *MM) makeChange(t platform.Thread, c *change, host []platform.Mapping) {
	var ops []platform.MapOp
	for _, a := range m.book.areas {
		if a.b.m != c.x || a.off >= c.end || c.off >= a.off+a.end-a.start {
			continue
		}
		a = a.part(a.start+max(c.off, a.off)-a.off, min(a.end, a.start+c.end-a.off))
		for _, h := range host {
			lo, hi := max(a.start, h.Start), min(a.end, h.End)
			if lo >= hi {
				continue
			}
			for _, p := range m.toChange(c, lo, hi) {
				ops = m.appendChange(ops, c, a.part(p.Addr, p.Addr+p.Len), h)
			}
		}
	}
	for _, op := range ops {
		if m.run(t, op) != nil {
			// The host has no memory for it: better nothing than what is not there any more.
			_ = m.run(t, platform.MapOp{Kind: platform.Unmap, Addr: op.Addr, Len: op.Len})
		}
	}
}

// toChange is what of [lo, hi) a change is about.
func (m *MM) toChange(c *change, lo, hi uint64) []uio.Range {
	all := []uio.Range{{Addr: lo, Len: hi - lo}}
	if !c.keep {
		return all
	}
	copied, err := m.as.Copied(lo, hi)
	if err != nil {
		return nil
	}
	slices.SortFunc(copied, func(a, b uio.Range) int { return cmp.Compare(a.Addr, b.Addr) })
	out := all[:0]
	for _, r := range append(copied, uio.Range{Addr: hi}) {
		if at := min(r.Addr, hi); lo < at {
			out = append(out, uio.Range{Addr: lo, Len: at - lo})
		}
		lo = max(lo, r.Addr+r.Len)
	}
	return out
}

// appendChange appends the calls for area a, which lies in the host's mapping h.
func (m *MM) appendChange(ops []platform.MapOp, c *change, a area, h platform.Mapping) []platform.MapOp {
	first := len(ops)
	ops = appendFile(ops, m.host.Empty, a.start, a.off, a.end-a.start, h.Prot, a.shared, a.write, c.ext)
	if !c.keep && !a.shared {
		return ops // there may be copies
	}
	return append(ops[:first], slices.DeleteFunc(ops[first:], func(op platform.MapOp) bool {
		return op.File.ID == h.File && (op.File == m.host.Empty || op.Off == h.Off+op.Addr-h.Start)
	})...)
}

// Remaps counts calls of Remap, for Install.
func (h *Host) Remaps() uint64 { return h.remaps.Load() }

// settleNew has a new program see what has become of its files since they were resolved, when Remaps was seen.
func (m *MM) settleNew(t platform.Thread, segs []Segment, seen uint64) error {
	for now := m.host.remaps.Load(); now != seen; now = m.host.remaps.Load() {
		seen = now
		list := make([]change, 0, len(segs))
		for _, s := range segs {
			ext, err := s.Map.Extents(s.Off, s.Len)
			if err != nil {
				return err
			}
			list = append(list, change{x: s.Map.m, off: s.Off, end: s.Off + s.Len, ext: ext, hold: s.Map})
		}
		m.mu.Lock()
		for _, c := range list {
			c.hold.refs.Add(1)
		}
		m.changes = append(m.changes, list...)
		m.settleLocked(t)
		m.unlock()
	}
	return nil
}
