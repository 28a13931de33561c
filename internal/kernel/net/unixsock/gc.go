package unixsock

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// maxRights is how many files one message may carry (SCM_MAX_FD).
const maxRights = 253

var (
	// rightsMu guards packet.files of packets in queues and what follows.
	rightsMu sync.Mutex
	// flying has the files of sockets that are in flight, and flyingN their number.
	flying  = map[*vfs.File]*flight{}
	flyingN atomic.Int32
	// perUser counts files in flight by the user who sent them.
	perUser = map[uint32]int{}
)

// flight is a socket that is in flight.
type flight struct {
	s *Socket
	n int32 // how often
	// left is, during a collection, how many of these are not in queues of other candidates.
	left int32
}

// socketOf returns the AF_UNIX socket behind a file, nil if it is something else.
func socketOf(f *vfs.File) *Socket {
	x, err := socket.Of(f)
	if err != nil {
		return nil
	}
	s, _ := x.(*Socket)
	return s
}

// launch counts files that are put into a queue. Called with rightsMu held.
func launch(uid uint32, files []*vfs.File) {
	perUser[uid] += len(files)
	for _, f := range files {
		s := socketOf(f)
		if s == nil {
			continue
		}
		x := flying[f]
		if x == nil {
			x = &flight{s: s}
			flying[f] = x
			flyingN.Add(1)
		}
		x.n++
	}
}

// takeFiles takes the files out of a packet that is or was in a queue. Called with rightsMu held.
func (p *packet) takeFiles() []*vfs.File {
	files := p.files
	p.files = nil
	if len(files) == 0 {
		return nil
	}
	if perUser[p.sender] -= len(files); perUser[p.sender] <= 0 {
		delete(perUser, p.sender)
	}
	for _, f := range files {
		if x := flying[f]; x != nil {
			if x.n--; x.n == 0 {
				delete(flying, f)
				flyingN.Add(-1)
			}
		}
	}
	return files
}

// tooMany reports whether a sender has too many files in flight.
func tooMany(c vfs.Caller) bool {
	cr := c.Cred()
	rightsMu.Lock()
	n := perUser[cr.UID]
	rightsMu.Unlock()
	return uint64(n) > c.Rlimit(unix.RLIMIT_NOFILE) && !cr.Capable(unix.CAP_SYS_RESOURCE) && !cr.Capable(unix.CAP_SYS_ADMIN)
}

// eachPacket calls fn for the packets that a socket keeps: its own, or those of the connections in its backlog.
func (s *Socket) eachPacket(fn func(p *packet)) {
	s.mu.Lock()
	backlog := s.backlog
	s.mu.Unlock()
	for _, e := range backlog {
		e.eachPacket(fn)
	}
	s.rx.mu.Lock()
	defer s.rx.mu.Unlock()
	for p := s.rx.head; p != nil; p = p.next {
		fn(p)
	}
}

// collect releases sockets in flight that only each other's queues refer to. A socket all of whose references are in
// flight is a candidate. It is alive if one of these is in the queue of something that is no candidate, or in that of a
// candidate that is alive. While rightsMu is held nobody can take a reference out of a queue, and there is no descriptor
// of a candidate.
func collect() {
	if flyingN.Load() == 0 {
		return
	}
	rightsMu.Lock()
	candidates := map[*Socket]*flight{}
	for f, x := range flying {
		if f.Refs() == x.n {
			x.left = x.n
			candidates[x.s] = x
		}
	}
	children := func(s *Socket, fn func(x *flight)) {
		s.eachPacket(func(p *packet) {
			for _, f := range p.files {
				if x := flying[f]; x != nil && candidates[x.s] == x {
					fn(x)
				}
			}
		})
	}
	for s := range candidates {
		children(s, func(x *flight) { x.left-- })
	}
	var alive []*Socket
	for s, x := range candidates {
		if x.left > 0 {
			alive = append(alive, s)
		}
	}
	for _, s := range alive {
		delete(candidates, s)
	}
	for len(alive) > 0 {
		s := alive[len(alive)-1]
		alive = alive[:len(alive)-1]
		children(s, func(x *flight) {
			delete(candidates, x.s)
			alive = append(alive, x.s)
		})
	}
	var garbage []*vfs.File
	for s := range candidates {
		s.eachPacket(func(p *packet) { garbage = append(garbage, p.takeFiles()...) })
	}
	rightsMu.Unlock()
	for _, f := range garbage {
		f.DecRef()
	}
}
