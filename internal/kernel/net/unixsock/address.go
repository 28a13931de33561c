package unixsock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// maxPath is the size of sun_path.
const maxPath = 108

// address is a parsed or bound name.
type address struct {
	// abstract is the name without the leading zero byte, path a path; bound says which table it is in.
	abstract bool
	name     string
	// inode is the socket's inode in the file system and at the place that holds it, for a bound path.
	at    vfs.Path
	inode vfs.Inode
}

// parseAddress decodes a struct sockaddr_un with a name.
func parseAddress(sa []byte) (*address, error) {
	if len(sa) <= 2 || len(sa) > 2+maxPath || binary.LittleEndian.Uint16(sa) != unix.AF_UNIX {
		return nil, unix.EINVAL
	}
	p := sa[2:]
	if p[0] == 0 {
		return &address{abstract: true, name: string(p[1:])}, nil
	}
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return &address{name: string(p)}, nil
}

// encode is the struct sockaddr_un of a name; a nil address has only the family.
func (a *address) encode() []byte {
	b := []byte{unix.AF_UNIX, 0}
	switch {
	case a == nil:
	case a.abstract:
		b = append(append(b, 0), a.name...)
	default:
		b = append(append(b, a.name...), 0)
	}
	return b
}

type abstractKey struct {
	typ  int
	name string
}

// nameTable has the bound sockets.
type nameTable struct {
	mu       sync.Mutex
	abstract map[abstractKey]*Socket
	inodes   map[vfs.Inode]*Socket
	last     uint32 // of autobind
}

var names = nameTable{abstract: map[abstractKey]*Socket{}, inodes: map[vfs.Inode]*Socket{}}

// Bind is bind(2).
func (s *Socket) Bind(c vfs.Caller, sa []byte) error {
	if len(sa) < 2 || binary.LittleEndian.Uint16(sa) != unix.AF_UNIX {
		return unix.EINVAL
	}
	if len(sa) == 2 {
		return s.autobind()
	}
	a, err := parseAddress(sa)
	if err != nil {
		return err
	}
	if s.addr.Load() != nil {
		return unix.EINVAL
	}
	if a.abstract {
		return s.bindAbstract(a)
	}
	switch err := vfs.Mknod(c, nil, a.name, unix.S_IFSOCK|0o777, 0); err {
	case nil:
	case unix.EEXIST:
		return unix.EADDRINUSE
	default:
		return err
	}
	if a.at, err = vfs.Lookup(c, nil, a.name, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	a.inode = a.at.Inode()
	names.mu.Lock()
	ok := s.addr.CompareAndSwap(nil, a)
	if ok {
		names.inodes[a.inode] = s
	}
	names.mu.Unlock()
	if !ok {
		a.at.Put()
		return unix.EINVAL
	}
	return nil
}

func (s *Socket) bindAbstract(a *address) error {
	names.mu.Lock()
	defer names.mu.Unlock()
	k := abstractKey{s.Type, a.name}
	if names.abstract[k] != nil {
		return unix.EADDRINUSE
	}
	if !s.addr.CompareAndSwap(nil, a) {
		return unix.EINVAL
	}
	names.abstract[k] = s
	return nil
}

// autobind gives an unbound socket an abstract name of five hexadecimal digits.
func (s *Socket) autobind() error {
	names.mu.Lock()
	defer names.mu.Unlock()
	if s.addr.Load() != nil {
		return nil
	}
	for range 1 << 20 {
		names.last = (names.last + 1) & 0xfffff
		a := &address{abstract: true, name: fmt.Sprintf("%05x", names.last)}
		k := abstractKey{s.Type, a.name}
		if names.abstract[k] != nil {
			continue
		}
		if s.addr.CompareAndSwap(nil, a) {
			names.abstract[k] = s
		}
		return nil
	}
	return unix.ENOSPC
}

// unbind takes the socket's name out of the tables; the name of an accepted socket is its listener's.
func (s *Socket) unbind() {
	a := s.addr.Load()
	if a == nil {
		return
	}
	names.mu.Lock()
	mine := false
	if a.abstract {
		k := abstractKey{s.Type, a.name}
		if mine = names.abstract[k] == s; mine {
			delete(names.abstract, k)
		}
	} else if mine = names.inodes[a.inode] == s; mine {
		delete(names.inodes, a.inode)
	}
	names.mu.Unlock()
	if mine && !a.abstract {
		a.at.Put()
	}
}

// find returns the socket bound to a name: ECONNREFUSED, EPROTOTYPE and what path walk gives.
func (a *address) find(c vfs.Caller, typ int) (*Socket, error) {
	if a.abstract {
		names.mu.Lock()
		defer names.mu.Unlock()
		if s := names.abstract[abstractKey{typ, a.name}]; s != nil {
			return s, nil
		}
		return nil, unix.ECONNREFUSED
	}
	p, err := vfs.Lookup(c, nil, a.name, 0)
	if err != nil {
		return nil, err
	}
	defer p.Put()
	in := p.Inode()
	if err := vfs.Permission(c, in, vfs.MayWrite); err != nil {
		return nil, err
	}
	attr := in.Attr()
	if attr.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, unix.ECONNREFUSED
	}
	names.mu.Lock()
	s := names.inodes[in]
	names.mu.Unlock()
	switch {
	case s == nil:
		return nil, unix.ECONNREFUSED
	case s.Type != typ:
		return nil, unix.EPROTOTYPE
	}
	return s, nil
}

// Name is getsockname(2).
func (s *Socket) Name(vfs.Caller) ([]byte, error) { return s.addr.Load().encode(), nil }

// PeerName is getpeername(2).
func (s *Socket) PeerName(vfs.Caller) ([]byte, error) {
	p := s.peer.Load()
	if p == nil {
		return nil, unix.ENOTCONN
	}
	return p.addr.Load().encode(), nil
}

// socketTable has all sockets, for /proc/net/unix.
type socketTable struct {
	mu sync.Mutex
	m  map[*Socket]uint64
	n  uint64
}

var sockets = socketTable{m: map[*Socket]uint64{}}

func (t *socketTable) add(s *Socket) {
	t.mu.Lock()
	t.n++
	t.m[s] = t.n
	t.mu.Unlock()
}

func (t *socketTable) remove(s *Socket) {
	t.mu.Lock()
	delete(t.m, s)
	t.mu.Unlock()
}

// Info is a line of /proc/net/unix.
type Info struct {
	Flags uint32 // 0x10000 for a listener
	Type  int
	State int // 1 unconnected, 2 connecting, 3 connected
	Inode uint64
	// Path is the name, with "@" for the zero bytes of an abstract one, "" if it has none.
	Path string
}

// List returns all sockets in the order in which they were made.
func List() []Info {
	sockets.mu.Lock()
	all := make([]*Socket, 0, len(sockets.m))
	order := make(map[*Socket]uint64, len(sockets.m))
	for s, n := range sockets.m {
		all = append(all, s)
		order[s] = n
	}
	sockets.mu.Unlock()
	sort.Slice(all, func(i, j int) bool { return order[all[i]] < order[all[j]] })
	infos := make([]Info, len(all))
	for i, s := range all {
		x := Info{Type: s.Type, State: 1, Inode: s.ino.Load()}
		switch {
		case s.state() == listening:
			x.Flags = 0x10000
		case x.Inode == 0:
			x.State = 2
		case s.peer.Load() != nil:
			x.State = 3
		}
		if a := s.addr.Load(); a != nil {
			x.Path = a.name
			if a.abstract {
				x.Path = "@" + string(bytes.ReplaceAll([]byte(a.name), []byte{0}, []byte("@")))
			}
		}
		infos[i] = x
	}
	return infos
}
