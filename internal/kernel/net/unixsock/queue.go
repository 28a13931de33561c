package unixsock

import (
	"math/bits"
	"sync"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// packet is a message, or a piece of a stream.
type packet struct {
	next *packet
	data []byte // not yet received
	buf  []byte // where data lies
	pool *sync.Pool
	// owner is charged with charge bytes.
	owner  *Socket
	charge int
	// from is the name of the sender (datagrams).
	from []byte
	cred ucred
	// stamp is CLOCK_REALTIME of the send in nanoseconds, 0 if the receiver did not ask for it then.
	stamp int64
	// files are in flight, sent by user sender; guarded by rightsMu.
	files  []*vfs.File
	sender uint32
	// hasFiles says that the packet came with files that are not received yet.
	hasFiles bool
}

// ucred is struct ucred.
type ucred struct {
	pid      int32
	uid, gid uint32
}

// Buffers come from pools by size class: 256 bytes to 64 KiB.
const (
	minClass = 8
	maxClass = 16
)

var pools [maxClass - minClass + 1]sync.Pool

// charge is what n bytes of a packet cost their sender: as much as Linux's socket buffer (truesize), because programs see
// how many messages fit.
func charge(n int) int {
	const head, tail = 256, 320 // struct sk_buff and struct skb_shared_info
	if n+tail > 4096 {
		return (n+4095)&^4095 + head + 512
	}
	return head + 1<<max(bits.Len(uint(n+tail-1)), 9)
}

// newPacket makes a packet with room for n bytes.
func newPacket(n int) *packet {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		return &packet{buf: make([]byte, n)}
	}
	pool := &pools[class-minClass]
	if p, ok := pool.Get().(*packet); ok {
		return p
	}
	return &packet{buf: make([]byte, 1<<class), pool: pool}
}

// free gives the packet back and its charge to its owner. It has no files any more.
func (p *packet) free() {
	if p.owner != nil {
		p.owner.uncharge(p.charge)
	}
	if p.pool != nil {
		pool := p.pool
		*p = packet{buf: p.buf, pool: pool}
		pool.Put(p)
	}
}

// queue is the receive queue of a socket.
type queue struct {
	// readMu makes receives one at a time, while they copy to the guest; it is not held while waiting.
	readMu sync.Mutex

	mu         sync.Mutex
	head, tail *packet
	n          int // packets
	bytes      int // of data
	closed     bool
}

func (q *queue) pushLocked(p *packet) {
	if q.tail == nil {
		q.head = p
	} else {
		q.tail.next = p
	}
	q.tail = p
	q.n++
	q.bytes += len(p.data)
}

func (q *queue) popLocked() *packet {
	p := q.head
	if q.head = p.next; q.head == nil {
		q.tail = nil
	}
	p.next = nil
	q.n--
	q.bytes -= len(p.data)
	return p
}

// addCharge adds to what s has in queues.
func (s *Socket) addCharge(n int) {
	kmem.Add(n)
	s.inFlight.Add(int64(n))
}

// uncharge takes some of it back and tells writers when the socket becomes writable.
func (s *Socket) uncharge(n int) {
	kmem.Add(-n)
	snd := s.sndbuf.Load()
	left := s.inFlight.Add(-int64(n))
	if left*4 <= snd && (left+int64(n))*4 > snd {
		s.q.Notify(writable)
	}
}

const (
	readable = wait.In | wait.RdNorm
	writable = wait.Out | wait.WrNorm | wait.WrBand
)

// canQueue reports whether a sender may put more into queues; isWritable whether poll says so.
func (s *Socket) canQueue() bool   { return s.inFlight.Load() < s.sndbuf.Load() }
func (s *Socket) isWritable() bool { return s.inFlight.Load()*4 <= s.sndbuf.Load() }
