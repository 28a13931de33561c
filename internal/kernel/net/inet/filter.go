package inet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Filter is a program of SO_ATTACH_FILTER (socket(7)).
type Filter struct{ prog bpf.Program }

// NewFilter reads a struct sock_fprog and what it points to: EINVAL, EFAULT.
func NewFilter(c vfs.Caller, val []byte) (*Filter, error) {
	const insnSize = 8
	if len(val) < 16 {
		return nil, unix.EINVAL
	}
	n := int(binary.NativeEndian.Uint16(val))
	if n == 0 || n > bpf.MaxInstructions {
		return nil, unix.EINVAL
	}
	b := make([]byte, n*insnSize)
	if err := uio.ReadFull(c.Mem(), b, binary.NativeEndian.Uint64(val[8:])); err != nil {
		return nil, err
	}
	insns := make([]bpf.Instruction, n)
	for i := range insns {
		p := b[i*insnSize:]
		insns[i] = bpf.RawInstruction(binary.NativeEndian.Uint16(p), p[2], p[3], binary.NativeEndian.Uint32(p[4:]))
	}
	prog, err := bpf.Compile(insns, true)
	if err != nil {
		return nil, unix.EINVAL
	}
	return &Filter{prog}, nil
}

// Run is how many bytes of a packet the filter lets through, 0 for none.
func (f *Filter) Run(p []byte) int {
	n, err := bpf.Exec[bpf.BigEndian](f.prog, bpf.Input(p))
	if err != nil {
		return 0
	}
	return int(min(n, 1<<31-1))
}

func (s *Socket) attachFilter(c vfs.Caller, val []byte) error {
	if s.stream() {
		return unix.EOPNOTSUPP
	}
	f, err := NewFilter(c, val)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.filter = f
	s.mu.Unlock()
	return nil
}

// verdict decides whether a received packet is to be seen.
type verdict struct {
	f    *Filter
	udp  bool
	deny uint32 // types of ICMP, one bit each; packets begin with the IP header
}

// verdict is that of the socket now, nil if it lets everything through.
func (s *Socket) verdict() *verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := verdict{f: s.filter, udp: s.kind == kindUDP}
	if s.kind == kindRaw {
		v.deny = uint32(s.opts[option{unix.SOL_RAW, icmpFilter}])
	}
	if v.f == nil && v.deny == 0 {
		return nil
	}
	return &v
}

// pass reports whether a packet is to be seen. A filter on UDP sees a header, which the stack has taken off.
func (v *verdict) pass(p []byte) bool {
	if v.deny != 0 && len(p) > 0 {
		if n := int(p[0]&15) * 4; n < len(p) && p[n] < 32 && v.deny&(1<<p[n]) != 0 {
			return false
		}
	}
	if v.f == nil {
		return true
	}
	if v.udp {
		p = append(make([]byte, 8), p...)
	}
	return v.f.Run(p) > 0
}

const (
	icmpFilter  = 1 // ICMP_FILTER of SOL_RAW
	icmp6Filter = 1 // ICMPV6_FILTER of IPPROTO_ICMPV6
)

// setRaw has the options of raw sockets: which types of ICMP they are not to get.
func (s *Socket) setRaw(level, name int, val []byte) error {
	switch {
	case s.kind == kindRaw && level == unix.SOL_RAW && name == icmpFilter && s.Protocol == unix.IPPROTO_ICMP:
		if len(val) < 4 {
			return unix.EINVAL
		}
		s.keep(unix.SOL_RAW, icmpFilter, int32(binary.NativeEndian.Uint32(val)))
		return nil
	case s.kind == kindRaw && level == unix.IPPROTO_ICMPV6 && name == icmp6Filter && s.Protocol == unix.IPPROTO_ICMPV6:
		if len(val) < 32 {
			return unix.EINVAL
		}
		var f tcpip.ICMPv6Filter
		for i := range f.DenyType {
			f.DenyType[i] = binary.NativeEndian.Uint32(val[4*i:])
		}
		return errno(s.endpoint().SetSockOpt(&f))
	case s.kind == kindRaw && s.v6 && level == unix.SOL_RAW && name == unix.IPV6_CHECKSUM:
		v, err := intOrByte(val)
		if err != nil {
			return err
		}
		if v > 0 && v&1 != 0 {
			return unix.EINVAL
		}
		if s.Protocol == unix.IPPROTO_ICMPV6 {
			return nil // it has its checksum without being asked for, and ping asks at this level
		}
		return errno(s.endpoint().SetSockOptInt(tcpip.IPv6Checksum, int(v)))
	}
	return unix.ENOPROTOOPT
}

func (s *Socket) rawFilter(level, name int) ([]byte, bool) {
	if s.kind != kindRaw {
		return nil, false
	}
	switch {
	case level == unix.SOL_RAW && name == icmpFilter:
		return socket.PutInt32(s.kept(level, name)), s.Protocol == unix.IPPROTO_ICMP
	case level == unix.IPPROTO_ICMPV6 && name == icmp6Filter:
		var f tcpip.ICMPv6Filter
		err := s.endpoint().GetSockOpt(&f)
		var b []byte
		for _, v := range f.DenyType {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
		return b, err == nil
	}
	return nil, false
}
