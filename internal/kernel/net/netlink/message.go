package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

var ne = binary.NativeEndian

// header is struct nlmsghdr.
type header struct {
	length uint32
	typ    uint16
	flags  uint16
	seq    uint32
	pid    uint32
}

const headerSize = unix.SizeofNlMsghdr

func align(n int) int { return (n + 3) &^ 3 }

// next takes the first message off a buffer. ok is false at its end, and for a rest that is no message.
func next(b []byte) (h header, body, rest []byte, ok bool) {
	if len(b) < headerSize {
		return h, nil, nil, false
	}
	h = header{ne.Uint32(b), ne.Uint16(b[4:]), ne.Uint16(b[6:]), ne.Uint32(b[8:]), ne.Uint32(b[12:])}
	if h.length < headerSize || uint64(h.length) > uint64(len(b)) {
		return h, nil, nil, false
	}
	return h, b[headerSize:h.length], b[min(align(int(h.length)), len(b)):], true
}

// attributes are the attributes of a message by type; of several of a type the last.
type attributes map[uint16][]byte

// parse reads the attributes behind the first n bytes of a body: EINVAL if it is shorter, or an attribute does not fit. A
// rest too short for an attribute is ignored.
func parse(body []byte, n int) (attributes, error) {
	if len(body) < n {
		return nil, unix.EINVAL
	}
	a := attributes{}
	const typeMask = 0x3fff // NLA_TYPE_MASK
	for b := body[min(align(n), len(body)):]; len(b) >= unix.SizeofRtAttr; {
		l := int(ne.Uint16(b))
		if l < unix.SizeofRtAttr || l > len(b) {
			return nil, unix.EINVAL
		}
		a[ne.Uint16(b[2:])&typeMask] = b[unix.SizeofRtAttr:l]
		b = b[min(align(l), len(b)):]
	}
	return a, nil
}

// u32 is a number; ok is false if there is none: EINVAL if it is too short.
func (a attributes) u32(typ uint16) (v uint32, ok bool, err error) {
	b, ok := a[typ]
	if !ok {
		return 0, false, nil
	}
	if len(b) < 4 {
		return 0, false, unix.EINVAL
	}
	return ne.Uint32(b), true, nil
}

// name is a string without its final 0.
func (a attributes) name(typ uint16) string { return unix.ByteSliceToString(a[typ]) }

// addr is an address of a family: the zero Addr if there is none, EINVAL if it is of another size.
func (a attributes) addr(typ uint16, family uint8) (netip.Addr, error) {
	b, ok := a[typ]
	if !ok {
		return netip.Addr{}, nil
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok || ip.Is4() != (family == unix.AF_INET) {
		return netip.Addr{}, unix.EINVAL
	}
	return ip, nil
}

// builder makes messages, one behind the other.
type builder struct {
	b     []byte
	start int // of the current message
}

// begin starts a message; end must be called when it is whole.
func (m *builder) begin(typ, flags uint16, seq, pid uint32) {
	m.start = len(m.b)
	m.b = ne.AppendUint32(m.b, 0)
	m.b = ne.AppendUint16(m.b, typ)
	m.b = ne.AppendUint16(m.b, flags)
	m.b = ne.AppendUint32(m.b, seq)
	m.b = ne.AppendUint32(m.b, pid)
}

func (m *builder) end() {
	ne.PutUint32(m.b[m.start:], uint32(len(m.b)-m.start))
	m.pad()
}

func (m *builder) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

// raw adds what stands before the attributes.
func (m *builder) raw(p ...byte) { m.b = append(m.b, p...) }

func (m *builder) raw32(v uint32) { m.b = ne.AppendUint32(m.b, v) }
func (m *builder) raw16(v uint16) { m.b = ne.AppendUint16(m.b, v) }

func (m *builder) attr(typ uint16, data []byte) {
	m.raw16(uint16(unix.SizeofRtAttr + len(data)))
	m.raw16(typ)
	m.b = append(m.b, data...)
	m.pad()
}

func (m *builder) attr8(typ uint16, v uint8)       { m.attr(typ, []byte{v}) }
func (m *builder) attr32(typ uint16, v uint32)     { m.attr(typ, ne.AppendUint32(nil, v)) }
func (m *builder) attrString(typ uint16, s string) { m.attr(typ, append([]byte(s), 0)) }

// nest starts an attribute of attributes; the result ends it.
func (m *builder) nest(typ uint16) (end func()) {
	at := len(m.b)
	m.raw16(0)
	m.raw16(typ)
	return func() { ne.PutUint16(m.b[at:], uint16(len(m.b)-at)) }
}
