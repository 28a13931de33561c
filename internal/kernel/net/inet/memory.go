package inet

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// The stack does not tell of each buffer that it takes, so what it holds is counted from time to time. What it does not tell at all
// is how much of a send buffer is in use, only whether it is full: so send buffers are small when there are many.

var memory struct {
	stack atomic.Pointer[stack.Stack] // nil before it is used

	mu      sync.Mutex
	counted int       // what kmem was told last
	next    time.Time // when it is worth to count again

	sent atomic.Int64 // bytes since it was counted
}

// sent has memory counted when much has been sent since.
func sent(n int) {
	const much = 4 << 20
	if memory.sent.Add(int64(n)) > much {
		memory.sent.Store(0)
		CountMemory()
	}
}

// connectionCost is about what a connection takes beside its buffers. Some have no socket: those that nobody has accepted yet, and
// those that still have to send what was written before they were closed.
const connectionCost = 8 << 10

// CountMemory counts what the stack holds and tells kmem.
func CountMemory() {
	st := memory.stack.Load()
	if st == nil || !memory.mu.TryLock() {
		return
	}
	defer memory.mu.Unlock()
	begin := time.Now()
	if begin.Before(memory.next) {
		return
	}
	n := 0
	for _, te := range st.RegisteredEndpoints() {
		if ep, ok := te.(*tcp.Endpoint); ok {
			n += connectionCost + connectionMemory(ep)
		}
	}
	sockets.Lock()
	list := make([]*Socket, 0, len(sockets.m))
	for s := range sockets.m {
		if !s.stream() {
			list = append(list, s)
		}
	}
	sockets.Unlock()
	for _, s := range list {
		ep := s.endpoint()
		if ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents != 0 {
			n += int(ep.SocketOptions().GetReceiveBufferSize()) // it does not tell how much of it
		}
	}
	kmem.Add(n - memory.counted)
	memory.counted = n
	// A twentieth of the time at most.
	now := time.Now()
	memory.next = now.Add(20 * now.Sub(begin))
}

// connectionMemory is what is in the buffers of a connection, as far as it can be told.
func connectionMemory(ep *tcp.Endpoint) int {
	n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if err != nil {
		n = 0
	}
	switch st := ep.EndpointState(); st {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		n += int(ep.SocketOptions().GetSendBufferSize()) // it still has something to send
	case tcp.StateEstablished, tcp.StateCloseWait:
		if ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
			n += int(ep.SocketOptions().GetSendBufferSize())
		}
	}
	return n
}

// limitSend makes the send buffer of a connection so small that all that are open together stay within bounds.
func (s *Socket) limitSend(ep tcpip.Endpoint) {
	limit := kmem.Limit()
	if limit == 0 || !s.stream() {
		return
	}
	sockets.Lock()
	n := int64(len(sockets.m)) + 1
	sockets.Unlock()
	so := ep.SocketOptions()
	if share := max(limit/8/n, tcpMinBuf); share < so.GetSendBufferSize() {
		so.SetSendBufferSize(share, true)
	}
}
