package ipc

import (
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// Flags and commands of the System V calls (linux/ipc.h).
const (
	Creat  = 0o1000
	Excl   = 0o2000
	Nowait = 0o4000

	Private = 0 // IPC_PRIVATE
)

// idBits is how many bits of an identifier are the index; maxIDs is the most objects of a kind.
const (
	idBits = 15
	maxIDs = 1 << idBits
	maxSeq = 1<<16 - 1
)

// Perm is who may use an object (struct ipc_perm).
type Perm struct {
	Key                  int32
	UID, GID, CUID, CGID uint32
	Mode                 uint32
	Seq                  uint16

	id int32
}

// ID is the object's identifier.
func (p *Perm) ID() int32 { return p.id }

// The permission bits that calls ask for, for owner, group and others.
const (
	wantRead  = 0o444
	wantWrite = 0o222
)

// check checks access as sysvipc(7) says; want has the wanted bits in any of the three places.
func (p *Perm) check(c *cred.Cred, want uint32) error {
	want = (want>>6 | want>>3 | want) & 7
	granted := p.Mode
	switch {
	case c.EUID == p.CUID || c.EUID == p.UID:
		granted >>= 6
	case c.InGroup(p.CGID) || c.InGroup(p.GID):
		granted >>= 3
	}
	if want&^granted != 0 && !c.Capable(unix.CAP_IPC_OWNER) {
		return unix.EACCES
	}
	return nil
}

// checkOwner checks that c may change or remove the object.
func (p *Perm) checkOwner(c *cred.Cred) error {
	if c.EUID == p.CUID || c.EUID == p.UID || c.Capable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	return unix.EPERM
}

// set is IPC_SET's part that all kinds have.
func (p *Perm) set(uid, gid, mode uint32) error {
	if uid == ^uint32(0) || gid == ^uint32(0) {
		return unix.EINVAL
	}
	p.UID, p.GID = uid, gid
	p.Mode = p.Mode&^0o777 | mode&0o777
	return nil
}

// header is what every object begins with. The mutex guards the whole object.
type header struct {
	mu      sync.Mutex
	perm    Perm
	removed bool
	ctime   int64 // seconds
}

func (h *header) head() *header { return h }

type object interface{ head() *header }

// now is the time that the structures tell.
func now() int64 { return ktime.Realtime() / 1e9 }

// table has all objects of one kind. The zero value is empty.
type table[T object] struct {
	mu   sync.Mutex
	m    map[int32]T // by index
	keys map[int32]T // those that are not private
	last int32       // index given out last
	seq  int32
}

// byID returns an object: EINVAL.
func (t *table[T]) byID(id int32) (x T, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.m[id&(maxIDs-1)]
	if id < 0 || !ok || x.head().perm.id != id {
		var none T
		return none, unix.EINVAL
	}
	return x, nil
}

// byIndex returns the object at an index: EINVAL.
func (t *table[T]) byIndex(i int32) (x T, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.m[i&(maxIDs-1)]
	if i < 0 || !ok {
		return x, unix.EINVAL
	}
	return x, nil
}

// get is the way of shmget, semget and msgget: it returns the identifier of the object with a key, or of a new one. fits
// checks an existing object, locked; make makes a new one when there may be limit of them.
func (t *table[T]) get(c *cred.Cred, key int32, flags uint32, limit int, fits func(T) error, make func() (T, error)) (int32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key != Private {
		if x, ok := t.keys[key]; ok {
			if flags&Creat != 0 && flags&Excl != 0 {
				return 0, unix.EEXIST
			}
			h := x.head()
			h.mu.Lock()
			defer h.mu.Unlock()
			if err := fits(x); err != nil {
				return 0, err
			}
			return h.perm.id, h.perm.check(c, flags)
		}
		if flags&Creat == 0 {
			return 0, unix.ENOENT
		}
	}
	if len(t.m) >= min(limit, maxIDs) {
		return 0, unix.ENOSPC
	}
	x, err := make()
	if err != nil {
		return 0, err
	}
	h := x.head()
	h.ctime = now()
	h.perm = Perm{Key: key, UID: c.EUID, CUID: c.EUID, GID: c.EGID, CGID: c.EGID, Mode: flags & 0o777}
	t.addLocked(x)
	return h.perm.id, nil
}

// addLocked gives a new object the lowest free index. The sequence number grows when indexes are used again.
func (t *table[T]) addLocked(x T) {
	if t.m == nil {
		t.m, t.keys, t.last = map[int32]T{}, map[int32]T{}, -1
	}
	i := int32(0)
	for {
		if _, taken := t.m[i]; !taken {
			break
		}
		i++
	}
	if i <= t.last {
		if t.seq++; t.seq > maxSeq {
			t.seq = 0
		}
	}
	t.last = i
	p := &x.head().perm
	p.Seq = uint16(t.seq)
	p.id = t.seq<<idBits | i
	t.m[i] = x
	if p.Key != Private {
		t.keys[p.Key] = x
	}
}

// hide takes away an object's key: no other can find it by that. The caller holds both locks.
func (t *table[T]) hideLocked(x T) {
	p := &x.head().perm
	if o, ok := t.keys[p.Key]; ok && o.head() == x.head() {
		delete(t.keys, p.Key)
	}
	p.Key = Private
}

// removeLocked forgets an object. The caller holds both locks.
func (t *table[T]) removeLocked(x T) {
	t.hideLocked(x)
	h := x.head()
	h.removed = true
	delete(t.m, h.perm.id&(maxIDs-1))
}

// all lists the objects by index, and maxIndex is the highest one in use (0 if there is none).
func (t *table[T]) all() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	idx := make([]int32, 0, len(t.m))
	for i := range t.m {
		idx = append(idx, i)
	}
	sort.Slice(idx, func(a, b int) bool { return idx[a] < idx[b] })
	out := make([]T, len(idx))
	for i, k := range idx {
		out[i] = t.m[k]
	}
	return out
}

func (t *table[T]) maxIndex() (top int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.m {
		top = max(top, i)
	}
	return top
}

// Namespace is a set of System V objects with their limits.
type Namespace struct {
	Limits Limits

	shm table[*Segment]
	sem table[*Set]
	msg table[*Queue]

	shmPages pageCount
	semCount pageCount
}

// NewNamespace makes an empty one with Linux's limits.
func NewNamespace() *Namespace {
	ns := &Namespace{}
	ns.Limits.init()
	return ns
}

// Init is the one that all processes are in.
var Init = NewNamespace()
