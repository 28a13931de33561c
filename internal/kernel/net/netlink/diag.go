package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

// Layout of requests of sock_diag(7).
const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	sizeDiagReq  = 56 // struct inet_diag_req_v2
)

// diag lists the sockets of AF_INET or AF_INET6: ENOENT for other families, which ss(8) then reads from /proc.
func (r *request) diag() error {
	if r.typ != diagByFamily {
		return unix.EINVAL
	}
	if len(r.body) < 2 {
		return unix.EINVAL
	}
	family, protocol := r.body[0], int(r.body[1])
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return unix.ENOENT
	}
	if len(r.body) < sizeDiagReq {
		return unix.EINVAL
	}
	states := ne.Uint32(r.body[4:])
	want := func(s *inet.SockInfo) bool {
		return s.Family == int(family) && s.Protocol == protocol && states>>s.State&1 != 0 && s.Local.Port() != 0
	}
	if !r.dumps() {
		sport, dport := binary.BigEndian.Uint16(r.body[8:]), binary.BigEndian.Uint16(r.body[10:])
		for _, s := range inet.Sockets() {
			if s.Family == int(family) && s.Protocol == protocol && s.Local.Port() == sport && s.Remote.Port() == dport {
				r.putSocket(&s)
				return nil
			}
		}
		return unix.ENOENT
	}
	for _, s := range inet.Sockets() {
		if want(&s) {
			r.putSocket(&s)
		}
	}
	return r.done()
}

// putSocket adds a struct inet_diag_msg.
func (r *request) putSocket(s *inet.SockInfo) {
	r.begin(diagByFamily)
	m := &r.out
	m.raw(uint8(s.Family), s.State, 0, 0)
	m.b = binary.BigEndian.AppendUint16(m.b, s.Local.Port())
	m.b = binary.BigEndian.AppendUint16(m.b, s.Remote.Port())
	for _, ip := range []netip.Addr{s.Local.Addr(), s.Remote.Addr()} {
		b := ip.AsSlice()
		m.raw(append(b, make([]byte, 16-len(b))...)...)
	}
	m.raw32(uint32(s.Device))
	m.raw32(uint32(s.Inode)) // the cookie
	m.raw32(0)
	tx := s.TxQueue
	if s.Backlog != 0 {
		tx = s.Backlog
	}
	for _, v := range []uint32{0, uint32(s.RxQueue), uint32(tx), s.UID, uint32(s.Inode)} {
		m.raw32(v)
	}
	if s.Family == unix.AF_INET6 {
		const v6only = 11 // INET_DIAG_SKV6ONLY
		m.attr8(v6only, 0)
	}
	m.end()
}
