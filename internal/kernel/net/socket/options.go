package socket

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Limits of socket buffers in bytes (net.core.wmem_max and the like, socket(7)).
const (
	DefaultBuf = 212992
	maxBuf     = 212992
	minSndBuf  = 4608
	minRcvBuf  = 2304
)

// Base is the state of SOL_SOCKET options; a family embeds it.
type Base struct {
	// Family, Type and Protocol are immutable.
	Family, Type, Protocol int

	mu                 sync.Mutex
	sndbuf, rcvbuf     int
	rcvtimeo, sndtimeo time.Duration // 0 is for ever
	ints               map[int]int32 // options that are kept and have no effect here
	pacing             uint64        // SO_MAX_PACING_RATE, which is kept and has no effect
	linger             [2]int32
	lowat              int32
	err                unix.Errno
}

// Init sets a new Base up.
func (b *Base) Init(af, typ, protocol int) {
	b.Family, b.Type, b.Protocol = af, typ, protocol
	b.sndbuf, b.rcvbuf, b.lowat, b.pacing = DefaultBuf, DefaultBuf, 1, math.MaxUint64
}

// SetBuffers sets the sizes that buffers have before anybody asks for others.
func (b *Base) SetBuffers(snd, rcv int) {
	b.mu.Lock()
	b.sndbuf, b.rcvbuf = snd, rcv
	b.mu.Unlock()
}

// CopyOptions makes b's options those of l; an accepted socket inherits them.
func (b *Base) CopyOptions(l *Base) {
	l.mu.Lock()
	sndbuf, rcvbuf, rt, st, linger, lowat := l.sndbuf, l.rcvbuf, l.rcvtimeo, l.sndtimeo, l.linger, l.lowat
	ints := make(map[int]int32, len(l.ints))
	for k, v := range l.ints {
		ints[k] = v
	}
	l.mu.Unlock()
	b.mu.Lock()
	b.sndbuf, b.rcvbuf, b.rcvtimeo, b.sndtimeo, b.linger, b.lowat = sndbuf, rcvbuf, rt, st, linger, lowat
	b.ints = ints
	b.mu.Unlock()
}

// SetError stores an asynchronous error (SO_ERROR); TakeError returns and clears it, HasError only looks.
func (b *Base) SetError(e unix.Errno) {
	b.mu.Lock()
	b.err = e
	b.mu.Unlock()
}

// TakeError returns the stored error, nil if there is none, and clears it.
func (b *Base) TakeError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.err
	if e == 0 {
		return nil
	}
	b.err = 0
	return e
}

// HasError reports whether an error is stored.
func (b *Base) HasError() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != 0
}

// Buffers are SO_SNDBUF and SO_RCVBUF.
func (b *Base) Buffers() (snd, rcv int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sndbuf, b.rcvbuf
}

// Flag reports whether a boolean option (SO_PASSCRED, SO_BROADCAST, ...) is set.
func (b *Base) Flag(name int) bool { return b.Int(name) != 0 }

// Int is the value of an option that Base keeps.
func (b *Base) Int(name int) int32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ints[name]
}

// Lowat is SO_RCVLOWAT.
func (b *Base) Lowat() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.lowat)
}

// Linger is SO_LINGER: whether it is on, and the time.
func (b *Base) Linger() (bool, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.linger[0] != 0, time.Duration(b.linger[1]) * time.Second
}

// Timeout is how long a call may wait and what its end gives.
type Timeout struct {
	Deadline int64
	limited  bool
}

// RecvTimeout and SendTimeout start the timeout of one call (SO_RCVTIMEO, SO_SNDTIMEO).
func (b *Base) RecvTimeout() Timeout {
	b.mu.Lock()
	defer b.mu.Unlock()
	return timeout(b.rcvtimeo)
}

// Await waits for a datagram as recvmsg(2) does with these flags: take fetches one, or with peek looks at it, and returns
// false if there is none. q is where their coming is notified. A stored error comes first.
func (b *Base) Await(c vfs.Caller, q *wait.Queue, flags int, take func(peek bool) bool) error {
	if flags&unix.MSG_ERRQUEUE != 0 {
		return unix.EAGAIN
	}
	var failed error
	try := func() bool {
		if failed = b.TakeError(); failed != nil {
			return true
		}
		return take(flags&unix.MSG_PEEK != 0)
	}
	if try() {
		return failed
	}
	if flags&unix.MSG_DONTWAIT != 0 {
		return unix.EAGAIN
	}
	t := b.RecvTimeout()
	if err := q.Wait(c, wait.Readable, t.Deadline, try); err != nil {
		return t.Err(err)
	}
	return failed
}

// SendTimeout starts the timeout of one sending call.
func (b *Base) SendTimeout() Timeout {
	b.mu.Lock()
	defer b.mu.Unlock()
	return timeout(b.sndtimeo)
}

func timeout(d time.Duration) Timeout {
	if d == 0 {
		return Timeout{Deadline: ktime.Forever}
	}
	return Timeout{ktime.After(d), true}
}

// Err translates what a sleep returned: EAGAIN after the timeout, and EINTR instead of a restart if there is one.
func (t Timeout) Err(err error) error {
	switch {
	case err == unix.ETIMEDOUT:
		return unix.EAGAIN
	case err == abi.ERESTARTSYS && t.limited:
		return unix.EINTR
	}
	return err
}

// Int32 decodes an int option: EINVAL if it is short.
func Int32(val []byte) (int32, error) {
	if len(val) < 4 {
		return 0, unix.EINVAL
	}
	return int32(binary.LittleEndian.Uint32(val)), nil
}

// PutInt32 encodes an int option.
func PutInt32(v int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }

// boolOptions are kept as 0 or 1, intOptions as they are.
var (
	boolOptions = map[int]bool{unix.SO_DEBUG: true, unix.SO_REUSEADDR: true, unix.SO_REUSEPORT: true, unix.SO_DONTROUTE: true,
		unix.SO_BROADCAST: true, unix.SO_KEEPALIVE: true, unix.SO_OOBINLINE: true, unix.SO_NO_CHECK: true,
		unix.SO_PASSCRED: true, unix.SO_PASSSEC: true, unix.SO_TIMESTAMP: true, unix.SO_TIMESTAMPNS: true,
		unix.SO_BSDCOMPAT: true, unix.SO_RXQ_OVFL: true, unix.SO_NOFCS: true, unix.SO_LOCK_FILTER: true, unix.SO_SELECT_ERR_QUEUE: true,
		unix.SO_TIMESTAMP_NEW: true, unix.SO_TIMESTAMPNS_NEW: true,
		unix.SO_WIFI_STATUS: true}
	intOptions = map[int]bool{unix.SO_PRIORITY: true, unix.SO_MARK: true, unix.SO_BUSY_POLL: true,
		unix.SO_INCOMING_CPU: true, unix.SO_TIMESTAMPING: true, unix.SO_TIMESTAMPING_NEW: true,
		unix.SO_PREFER_BUSY_POLL: true, unix.SO_BUSY_POLL_BUDGET: true, unix.SO_BUF_LOCK: true}
)

// SetSocketOption is setsockopt for SOL_SOCKET: EINVAL for what is shorter than an int, ENOPROTOOPT for what it does not know.
func (b *Base) SetSocketOption(c vfs.Caller, name int, val []byte) error {
	v, err := Int32(val)
	if err != nil {
		return err
	}
	switch name {
	case unix.SO_LINGER:
		if len(val) < 8 {
			return unix.EINVAL
		}
		t, _ := Int32(val[4:])
		b.mu.Lock()
		if b.linger[0] = 0; v != 0 {
			b.linger = [2]int32{1, t} // otherwise the time stays
		}
		b.mu.Unlock()
		return nil
	case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_RCVTIMEO_NEW, unix.SO_SNDTIMEO_NEW:
		return b.setTimeout(name == unix.SO_RCVTIMEO || name == unix.SO_RCVTIMEO_NEW, val)
	case unix.SO_BINDTODEVICE, unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_CBPF:
		return unix.ENOPROTOOPT
	case unix.SO_TYPE, unix.SO_PROTOCOL, unix.SO_DOMAIN, unix.SO_ERROR, unix.SO_ACCEPTCONN, unix.SO_PEERCRED:
		return unix.ENOPROTOOPT
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case name == unix.SO_SNDBUF:
		b.sndbuf = max(2*int(min(uint32(v), maxBuf)), minSndBuf)
	case name == unix.SO_RCVBUF:
		b.rcvbuf = max(2*int(min(uint32(v), maxBuf)), minRcvBuf)
	case name == unix.SO_SNDBUFFORCE || name == unix.SO_RCVBUFFORCE:
		if !c.Cred().Capable(unix.CAP_NET_ADMIN) {
			return unix.EPERM
		}
		n := 2 * int(min(max(v, 0), 1<<26))
		if name == unix.SO_SNDBUFFORCE {
			b.sndbuf = max(n, minSndBuf)
		} else {
			b.rcvbuf = max(n, minRcvBuf)
		}
	case name == unix.SO_RCVLOWAT:
		if v < 0 {
			v = 1<<31 - 1
		}
		b.lowat = max(v, 1)
	case name == unix.SO_PRIORITY && (v < 0 || v > 6) && !c.Cred().Capable(unix.CAP_NET_ADMIN),
		name == unix.SO_MARK && !c.Cred().Capable(unix.CAP_NET_ADMIN) && !c.Cred().Capable(unix.CAP_NET_RAW):
		return unix.EPERM
	case name == unix.SO_LOCK_FILTER && v == 0 && b.ints[name] != 0:
		return unix.EPERM // for good
	case name == unix.SO_BUSY_POLL && v < 0:
		return unix.EINVAL
	case name == unix.SO_MAX_PACING_RATE:
		b.pacing = uint64(uint32(v))
		if len(val) >= 8 {
			b.pacing = binary.LittleEndian.Uint64(val)
		} else if v == -1 {
			b.pacing = math.MaxUint64
		}
	case name == unix.SO_BSDCOMPAT: // does nothing any more
	case boolOptions[name]:
		if v != 0 {
			v = 1
		}
		b.setLocked(name, v)
	case intOptions[name]:
		b.setLocked(name, v)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (b *Base) setLocked(name int, v int32) {
	if b.ints == nil {
		b.ints = map[int]int32{}
	}
	b.ints[name] = v
}

func (b *Base) setTimeout(recv bool, val []byte) error {
	if len(val) < 16 {
		return unix.EINVAL
	}
	sec, usec := int64(binary.LittleEndian.Uint64(val)), int64(binary.LittleEndian.Uint64(val[8:]))
	if usec < 0 || usec >= 1e6 {
		return unix.EDOM
	}
	var d time.Duration
	switch {
	case sec < 0:
		d = 1 // no waiting; 0 is for ever
	case sec < int64(ktime.Forever/1e9)-1:
		d = time.Duration(sec*1e9 + usec*1e3)
	}
	b.mu.Lock()
	if recv {
		b.rcvtimeo = d
	} else {
		b.sndtimeo = d
	}
	b.mu.Unlock()
	return nil
}

// SocketOption is getsockopt for SOL_SOCKET: ENOPROTOOPT for what it does not know.
func (b *Base) SocketOption(name int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch name {
	case unix.SO_TYPE:
		return PutInt32(int32(b.Type)), nil
	case unix.SO_DOMAIN:
		return PutInt32(int32(b.Family)), nil
	case unix.SO_PROTOCOL:
		return PutInt32(int32(b.Protocol)), nil
	case unix.SO_ERROR:
		e := b.err
		b.err = 0
		return PutInt32(int32(e)), nil
	case unix.SO_SNDBUF:
		return PutInt32(int32(b.sndbuf)), nil
	case unix.SO_RCVBUF:
		return PutInt32(int32(b.rcvbuf)), nil
	case unix.SO_RCVLOWAT:
		return PutInt32(b.lowat), nil
	case unix.SO_SNDLOWAT:
		return PutInt32(1), nil
	case unix.SO_MAX_PACING_RATE:
		return binary.LittleEndian.AppendUint64(nil, b.pacing), nil
	case unix.SO_LINGER:
		return append(PutInt32(b.linger[0]), PutInt32(b.linger[1])...), nil
	case unix.SO_RCVTIMEO, unix.SO_RCVTIMEO_NEW:
		return timeval(b.rcvtimeo), nil
	case unix.SO_SNDTIMEO, unix.SO_SNDTIMEO_NEW:
		return timeval(b.sndtimeo), nil
	}
	if boolOptions[name] || intOptions[name] {
		return PutInt32(b.ints[name]), nil
	}
	return nil, unix.ENOPROTOOPT
}

func timeval(d time.Duration) []byte {
	us := uint64(d / time.Microsecond)
	v := binary.LittleEndian.AppendUint64(nil, us/1e6)
	return binary.LittleEndian.AppendUint64(v, us%1e6)
}
