package vfs

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// deadRefs is what the reference count of a dead dentry is near to, so that a late tryGet fails.
const deadRefs = -1 << 40

// Dentry is a name in the tree: the cached answer of one lookup. Its inode never changes; a negative dentry (nil inode)
// says that the name does not exist and is replaced when it is created.
//
// A dentry in the cache holds a reference on its parent. One with no references stays in the cache, on the list of unused
// ones, until memory is wanted. A dentry of a NoDcache file system is not counted and lives as long as somebody points to
// it.
type Dentry struct {
	sb    *super      // immutable
	inode Inode       // immutable, nil if negative
	ist   *inodeState // immutable, nil if negative or not counted
	typ   uint32      // S_IFMT of the inode, immutable
	magic bool        // inode is a LinkFollower, immutable
	quick QuickPermer // inode, if it is a directory that is one and no Permissioner; immutable
	vol   Volatile    // inode, if it is one; immutable

	refs   atomic.Int64
	state  atomic.Uint32 // dUnhashed, ...
	mounts atomic.Int32  // how many mounts are on it, in any namespace

	parent atomic.Pointer[Dentry] // itself for a root; changed under treeMu
	name   string                 // guarded by treeMu

	// mu is the directory's lock, held around Lookup and all changes of its entries.
	mu sync.Mutex

	kidsMu sync.RWMutex
	kids   map[string]*Dentry // guarded by kidsMu

	lruNext, lruPrev *Dentry // guarded by lru.mu
}

// Bits of Dentry.state.
const (
	dUnhashed = 1 << iota // not (any more) a child of its parent
	dDeleted              // unlinked: its name gets " (deleted)"
	dDead                 // a removed directory: nothing can be made in it
	dLRU                  // on the list of unused dentries
	dRecent               // used since the shrinker saw it last
	dUncached             // of a NoDcache file system: not counted
	dTmpfile              // made by O_TMPFILE without O_EXCL: can be linked though it has no name
	dEndTold              // IN_DELETE_SELF has been sent
)

// treeMu guards the names and parents of all dentries; only rename takes it for writing.
var treeMu sync.RWMutex

// renameSeq counts changes of treeMu's data and of the mount tree, for walks that must not be fooled by them.
var renameSeq atomic.Uint64

// Inode is the file that the name refers to, nil if there is none.
func (d *Dentry) Inode() Inode { return d.inode }

// Name is the last component of the dentry's path.
func (d *Dentry) Name() string {
	treeMu.RLock()
	defer treeMu.RUnlock()
	return d.name
}

// Parent is the directory that the name is in, the dentry itself for the root of a file system.
func (d *Dentry) Parent() *Dentry { return d.parent.Load() }

// Super is the file system.
func (d *Dentry) Super() SuperBlock { return d.sb.sb }

// Deleted reports whether the name has been unlinked.
func (d *Dentry) Deleted() bool { return d.has(dDeleted) }

func (d *Dentry) has(bit uint32) bool { return d.state.Load()&bit != 0 }
func (d *Dentry) isDir() bool         { return d.typ == unix.S_IFDIR }

// newDentry makes a dentry with one reference that is not in the cache yet. It keeps name. The caller holds sb.lookupMu for reading if
// in comes from a lookup.
func newDentry(sb *super, parent *Dentry, name string, in Inode) *Dentry {
	d := &Dentry{sb: sb, inode: in, name: name}
	d.refs.Store(1)
	if parent == nil {
		parent = d
	}
	d.parent.Store(parent)
	if in != nil {
		a := in.Attr()
		d.typ = a.Mode & unix.S_IFMT
		if sb.volatile {
			d.vol, _ = in.(Volatile)
		}
		switch d.typ {
		case unix.S_IFLNK:
			_, d.magic = in.(LinkFollower)
		case unix.S_IFDIR:
			if _, ok := in.(Permissioner); !ok {
				d.quick, _ = in.(QuickPermer)
			}
		}
	}
	if sb.uncached {
		d.state.Store(dUncached | dUnhashed)
		return d
	}
	d.state.Store(dUnhashed)
	if in != nil {
		d.ist = holdInode(in)
	}
	if parent != d {
		parent.refs.Add(1)
	}
	return d
}

// tryGet takes a reference unless the dentry is dead.
func (d *Dentry) tryGet() bool {
	if d.refs.Add(1) > 0 {
		return true
	}
	d.refs.Add(-1)
	return false
}

// get takes a reference; the caller has one already.
func (d *Dentry) get() *Dentry { d.refs.Add(1); return d }

// put drops a reference.
func (d *Dentry) put() {
	for d != nil {
		if d.refs.Add(-1) != 0 || d.has(dUncached) {
			return
		}
		if !d.has(dUnhashed) {
			if s := d.state.Load(); s&dLRU == 0 {
				lru.add(d)
			} else if s&dRecent == 0 {
				d.state.Or(dRecent)
			}
			return
		}
		if !d.refs.CompareAndSwap(0, deadRefs) {
			return
		}
		d = d.bury()
	}
}

// bury takes apart a dentry that has just died and returns the parent, on which the caller must drop a reference.
func (d *Dentry) bury() *Dentry {
	lru.remove(d)
	p := d.parent.Load()
	if d.ist != nil {
		d.notifyEnd()
		d.ist.drop(d.sb)
	}
	if p == d {
		return nil
	}
	return p
}

// child returns a cached child, without a reference.
func (d *Dentry) child(name string) *Dentry {
	d.kidsMu.RLock()
	k := d.kids[name]
	d.kidsMu.RUnlock()
	return k
}

// hash puts a new child into the cache. The caller holds d.mu.
func (d *Dentry) hash(k *Dentry) {
	d.kidsMu.Lock()
	if d.kids == nil {
		d.kids = make(map[string]*Dentry)
	}
	d.kids[k.name] = k
	k.state.And(^uint32(dUnhashed))
	d.kidsMu.Unlock()
}

// unhash takes a child out of the cache; whoever drops its last reference buries it. The caller holds d.mu and a
// reference to k.
func (d *Dentry) unhash(k *Dentry) {
	d.kidsMu.Lock()
	if d.kids[k.name] == k {
		delete(d.kids, k.name)
	}
	k.state.Or(dUnhashed)
	d.kidsMu.Unlock()
}

// kill removes an unused child from the cache if it is still unused.
func (d *Dentry) kill() bool {
	if d.has(dUncached) {
		return false
	}
	p := d.parent.Load()
	p.kidsMu.Lock()
	if d.parent.Load() != p || !d.refs.CompareAndSwap(0, deadRefs) {
		p.kidsMu.Unlock()
		return false
	}
	if p.kids[d.name] == d {
		delete(p.kids, d.name)
	}
	d.state.Or(dUnhashed)
	p.kidsMu.Unlock()
	d.bury().put()
	return true
}

// lookupLocked finds name in d, from the cache or from the file system. The result (negative if the name does not exist) has a
// reference. The caller holds d.mu.
func (d *Dentry) lookupLocked(c Caller, name string) (*Dentry, error) {
	k, err := d.findLocked(c, name)
	if k == nil && err == nil {
		k = newDentry(d.sb, d, strings.Clone(name), nil)
		if !d.sb.uncached {
			d.hash(k)
		}
	}
	return k, err
}

// findLocked is lookupLocked for who is about to make the name: nil if it does not exist, unless the cache says so.
func (d *Dentry) findLocked(c Caller, name string) (*Dentry, error) {
	if k := d.child(name); k != nil && k.tryGet() {
		if d.stands(k, name) {
			return k, nil
		}
		d.invalidate(k)
		k.put()
	}
	if d.has(dDead) {
		return nil, unix.ENOENT
	}
	sb := d.sb
	sb.lookupMu.RLock()
	in, err := d.inode.Lookup(c, name)
	if err != nil {
		sb.lookupMu.RUnlock()
		if err == unix.ENOENT {
			err = nil
		}
		return nil, err
	}
	k := newDentry(sb, d, strings.Clone(name), in)
	sb.lookupMu.RUnlock()
	if !sb.uncached {
		d.hash(k)
	}
	return k, nil
}

// lookup is lookupLocked for callers without the lock.
func (d *Dentry) lookup(c Caller, name string) (*Dentry, error) {
	if k := d.child(name); k != nil && k.tryGet() {
		if d.stands(k, name) {
			return k, nil
		}
		k.put()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookupLocked(c, name)
}

// stands reports whether what the cache says of name is still true; k is the child with that name. On what is mounted on
// nothing else can be seen.
func (d *Dentry) stands(k *Dentry, name string) bool {
	return d.vol == nil || k.mounts.Load() > 0 || d.vol.Revalidate(name, k.inode)
}

// invalidate takes a child out of the cache that others have removed or replaced. The caller holds d.mu and a reference to
// k.
func (d *Dentry) invalidate(k *Dentry) {
	if k.inode != nil {
		k.state.Or(dDeleted)
	}
	d.unhash(k)
	if k.isDir() {
		k.forgetKids()
	}
}

// refresh brings the attributes of a volatile inode up to date.
func (d *Dentry) refresh() {
	if d.vol != nil {
		d.vol.Refresh()
	}
}

// attach makes a dentry for a file that was just created as name in d, in place of the negative one, if neg is not nil. It
// keeps name. The caller holds d.mu and keeps its reference to neg. The result has a reference.
func (d *Dentry) attach(neg *Dentry, name string, in Inode) *Dentry {
	k := newDentry(d.sb, d, name, in)
	if !d.sb.uncached {
		if neg != nil {
			d.unhash(neg)
		}
		d.hash(k)
	}
	return k
}

// detach is called when the name k has been removed from d. The caller holds d.mu and a reference to k.
func (d *Dentry) detach(k *Dentry) {
	k.state.Or(dDeleted)
	if k.isDir() {
		k.state.Or(dDead)
	}
	d.unhash(k)
}

// isAncestor reports whether a is d or above d in the same file system. The caller holds the file system's renameMu.
func (a *Dentry) isAncestor(d *Dentry) bool {
	for {
		if a == d {
			return true
		}
		p := d.parent.Load()
		if p == d {
			return false
		}
		d = p
	}
}

// move gives k the name and the parent np. The caller holds both parents' mu and has unhashed what was there.
func (k *Dentry) move(np *Dentry, name string) {
	op := k.parent.Load()
	hashed := !k.has(dUncached)
	if hashed {
		op.unhash(k)
		if op != np {
			np.refs.Add(1)
		}
	}
	treeMu.Lock()
	k.parent.Store(np)
	k.name = strings.Clone(name)
	treeMu.Unlock()
	renameSeq.Add(1)
	if hashed {
		np.hash(k)
		if op != np {
			op.put()
		}
	}
}

// swapDentries exchanges the places of two dentries. The caller holds both parents' mu.
func swapDentries(a, b *Dentry) {
	pa, pb := a.parent.Load(), b.parent.Load()
	hashed := !a.has(dUncached)
	if hashed {
		pa.unhash(a)
		pb.unhash(b)
	}
	treeMu.Lock()
	a.parent.Store(pb)
	b.parent.Store(pa)
	a.name, b.name = b.name, a.name
	treeMu.Unlock()
	renameSeq.Add(1)
	if hashed {
		pb.hash(a)
		pa.hash(b)
	}
}

// lruList is the list of dentries that nobody uses, oldest first. A dentry may stay on it while it is used again: the
// shrinker sorts that out.
type lruList struct {
	mu    sync.Mutex
	head  Dentry // ring
	n     int
	limit int
}

var lru = lruList{limit: 32768}

func (l *lruList) init() {
	if l.head.lruNext == nil {
		l.head.lruNext, l.head.lruPrev = &l.head, &l.head
	}
}

func (l *lruList) add(d *Dentry) {
	l.mu.Lock()
	l.init()
	if d.state.Load()&dLRU == 0 && d.refs.Load() >= 0 {
		d.state.Or(dLRU)
		l.link(d)
		l.n++
	}
	over := l.n > l.limit
	l.mu.Unlock()
	if over {
		l.shrink(64, nil)
	}
}

func (l *lruList) link(d *Dentry) {
	d.lruPrev, d.lruNext = l.head.lruPrev, &l.head
	d.lruPrev.lruNext, d.lruNext.lruPrev = d, d
}

func (l *lruList) unlink(d *Dentry) {
	d.lruPrev.lruNext, d.lruNext.lruPrev = d.lruNext, d.lruPrev
	d.lruPrev, d.lruNext = nil, nil
}

func (l *lruList) remove(d *Dentry) {
	if !d.has(dLRU) {
		return
	}
	l.mu.Lock()
	if d.has(dLRU) {
		l.unlink(d)
		l.n--
		d.state.And(^uint32(dLRU))
	}
	l.mu.Unlock()
}

// shrink frees up to n of the oldest dentries, of one file system if sb is not nil. It returns how many it took off the
// list.
func (l *lruList) shrink(n int, sb *super) int {
	took := 0
	l.mu.Lock()
	l.init()
	var victims []*Dentry
	for d := l.head.lruNext; d != &l.head && len(victims) < n && took < 4*n; {
		next := d.lruNext
		if sb != nil && d.sb != sb {
			d = next
			continue
		}
		took++
		switch {
		case d.refs.Load() != 0:
			l.unlink(d)
			l.n--
			d.state.And(^uint32(dLRU))
			// Its last user may have gone between the two lines above and have seen it still on the list.
			if d.refs.Load() == 0 && !d.has(dUnhashed) {
				d.state.Or(dLRU)
				l.link(d)
				l.n++
			}
		case sb == nil && d.has(dRecent):
			d.state.And(^uint32(dRecent))
			l.unlink(d)
			l.link(d)
		default:
			victims = append(victims, d)
		}
		d = next
	}
	l.mu.Unlock()
	for _, d := range victims {
		d.kill()
	}
	return took
}

// ShrinkDcache frees up to n unused dentries and with them inodes (drop_caches, memory pressure).
func ShrinkDcache(n int) int { return lru.shrink(n, nil) }

// inodeState is what the vfs keeps about an inode while somebody uses it.
type inodeState struct {
	in    Inode
	shard *inodeShard
	// refs counts dentries; guarded by the shard's mu.
	refs int32
	// writers counts files open for writing; below 0 programs that run from it and deny writing.
	writers atomic.Int32
	// readers counts files open for reading only.
	readers atomic.Int32
	// attrMu is held while attributes are looked at to decide what they change to, so that a file does not get an owner and
	// set-user-id bits that its old owner chose at the same time.
	attrMu sync.Mutex
}

// lockAttr takes attrMu, where there is one, and returns what releases it.
func (d *Dentry) lockAttr() func() {
	if d.ist == nil {
		return func() {}
	}
	d.ist.attrMu.Lock()
	return d.ist.attrMu.Unlock
}

// inodeShard is a part of the table of all inodes in use.
type inodeShard struct {
	mu sync.Mutex
	m  map[Inode]*inodeState
}

var (
	inodeSeed  = maphash.MakeSeed()
	inodeTable [64]inodeShard
)

// holdInode takes a reference to an inode's state.
func holdInode(in Inode) *inodeState {
	s := &inodeTable[maphash.Comparable(inodeSeed, in)%uint64(len(inodeTable))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[Inode]*inodeState)
	}
	ist := s.m[in]
	if ist == nil {
		ist = &inodeState{in: in, shard: s}
		s.m[in] = ist
	}
	ist.refs++
	return ist
}

// InodeRef keeps an inode, but neither a name of it nor its file system.
type InodeRef struct {
	Inode Inode
	ist   *inodeState
	sb    *super
}

// HoldInode makes a reference to the file at p.
func HoldInode(p Path) InodeRef {
	r := InodeRef{Inode: p.Dentry.inode, sb: p.Dentry.sb}
	if p.Dentry.ist != nil {
		r.ist = holdInode(r.Inode)
	}
	return r
}

// Put drops the reference.
func (r InodeRef) Put() {
	if r.ist != nil {
		r.ist.drop(r.sb)
	}
}

// drop drops a reference and forgets the inode after the last one. Forget runs while no lookup is in progress, so that a
// lookup never returns an inode that is being forgotten; an inode without links cannot be looked up.
func (ist *inodeState) drop(sb *super) {
	if ist.release(false) {
		return
	}
	if a := ist.in.Attr(); a.Nlink == 0 {
		ist.release(true)
		return
	}
	sb.lookupMu.Lock()
	ist.release(true)
	sb.lookupMu.Unlock()
}

// release drops a reference if that is not the last one, or if last is allowed. It reports whether it did.
func (ist *inodeState) release(last bool) bool {
	s := ist.shard
	s.mu.Lock()
	if ist.refs == 1 && !last {
		s.mu.Unlock()
		return false
	}
	ist.refs--
	gone := ist.refs == 0
	if gone {
		delete(s.m, ist.in)
	}
	s.mu.Unlock()
	if gone {
		ist.in.Forget()
	}
	return true
}
