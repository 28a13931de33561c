package netlink

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// request is one message of a program to the kernel.
type request struct {
	header
	c    vfs.Caller
	s    *Socket
	body []byte
	out  builder
}

// has reports whether all of some flags are set.
func (r *request) has(flags uint16) bool { return r.flags&flags == flags }

// toKernel carries out the messages of a datagram, and queues the answers. A socket that does not read its answers misses those to
// what it asks further.
func (s *Socket) toKernel(c vfs.Caller, b []byte) {
	for len(b) > 0 {
		if s.full() {
			s.overrun()
			return
		}
		h, body, rest, ok := next(b)
		if !ok {
			return
		}
		b = rest
		if h.typ < unix.NLMSG_MIN_TYPE || h.flags&unix.NLM_F_REQUEST == 0 {
			if h.flags&unix.NLM_F_ACK != 0 {
				s.acknowledge(h, body, nil)
			}
			continue
		}
		r := &request{header: h, c: c, s: s, body: body}
		var err error
		switch s.Protocol {
		case unix.NETLINK_ROUTE:
			err = r.route()
		case unix.NETLINK_SOCK_DIAG:
			err = r.diag()
		default:
			err = unix.ECONNREFUSED
		}
		r.flush()
		if err != nil || h.flags&unix.NLM_F_ACK != 0 && !r.dumps() {
			s.acknowledge(h, body, err)
		}
	}
}

// dumps reports whether the answer is a list, which ends with a message of its own.
func (r *request) dumps() bool { return r.has(unix.NLM_F_DUMP) }

// maxDatagram is how long the datagrams of a list become: programs offer buffers of 32 KiB, or look first.
const maxDatagram = 16 << 10

// begin starts a message of the answer.
func (r *request) begin(typ uint16) {
	if len(r.out.b) > maxDatagram {
		r.flush()
	}
	flags := uint16(0)
	if r.dumps() {
		flags = unix.NLM_F_MULTI
	}
	r.out.begin(typ, flags, r.seq, r.s.address())
}

func (r *request) flush() {
	if len(r.out.b) > 0 {
		r.s.put(message{data: r.out.b}, true)
	}
	r.out = builder{}
}

// done ends a list.
func (r *request) done() error {
	r.begin(unix.NLMSG_DONE)
	r.out.raw32(0)
	r.out.end()
	return nil
}

// acknowledge answers with NLMSG_ERROR: the errno, 0 for none, and the message that it is about.
func (s *Socket) acknowledge(h header, body []byte, err error) {
	code, _ := err.(unix.Errno)
	s.mu.Lock()
	short := code == 0 || s.opts[unix.NETLINK_CAP_ACK]
	s.mu.Unlock()
	flags := uint16(0)
	if short {
		const capped = 0x100 // NLM_F_CAPPED
		flags, body = capped, nil
	}
	var m builder
	m.begin(unix.NLMSG_ERROR, flags, h.seq, s.address())
	m.raw32(uint32(-int32(code)))
	m.raw32(h.length)
	m.raw16(h.typ)
	m.raw16(h.flags)
	m.raw32(h.seq)
	m.raw32(h.pid)
	m.raw(body...)
	m.end()
	s.put(message{data: m.b}, true)
}
