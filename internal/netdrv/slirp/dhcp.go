package slirp

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The layout of a DHCP message (RFC 2131 2, RFC 2132).
const (
	bootServer, bootClient = 67, 68 // ports

	bootOp, bootHType, bootHLen = 0, 1, 2
	bootXID, bootFlags          = 4, 10
	bootCIAddr, bootYIAddr      = 12, 16
	bootSIAddr, bootGIAddr      = 20, 24
	bootCHAddr                  = 28
	bootCookie, bootOptions     = 236, 240
	bootMin                     = 300 // what relays and old clients expect

	bootRequest, bootReply = 1, 2
	dhcpCookie             = 0x63825363

	optPad, optMask, optRouter, optDNS = 0, 1, 3, 6
	optRequested, optLease, optType    = 50, 51, 53
	optServer, optEnd                  = 54, 255

	dhcpDiscover, dhcpOffer, dhcpRequest = 1, 2, 3
	dhcpAck, dhcpNak, dhcpInform         = 5, 6, 8

	leaseTime = 86400 // seconds
)

// dhcp takes a frame of the guest if it is a DHCP message, and answers it.
func (n *Net) dhcp(eth header.Ethernet) bool {
	ip := header.IPv4(eth[header.EthernetMinimumSize:])
	if !ip.IsValid(len(ip)) || ip.Protocol() != uint8(header.UDPProtocolNumber) || ip.FragmentOffset() != 0 || ip.More() {
		return false
	}
	if dst := addr(ip.DestinationAddress()); dst != Router && dst != broadcast && dst != everybody {
		return false
	}
	u := header.UDP(ip.Payload())
	if len(u) < header.UDPMinimumSize || int(u.Length()) < header.UDPMinimumSize || int(u.Length()) > len(u) || u.DestinationPort() != bootServer {
		return false
	}
	if msg := answer(u[header.UDPMinimumSize:u.Length()]); msg != nil {
		n.queue(bootFrame(eth.SourceAddress(), msg))
	}
	return true
}

var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// answer is the answer to a DHCP message; nil for none.
func answer(q []byte) []byte {
	if len(q) < bootOptions || q[bootOp] != bootRequest || q[bootHType] != 1 || q[bootHLen] != 6 || binary.BigEndian.Uint32(q[bootCookie:]) != dhcpCookie {
		return nil
	}
	kind, wanted, server := byte(0), netip.AddrFrom4([4]byte(q[bootCIAddr:])), netip.Addr{}
	for o := q[bootOptions:]; len(o) > 1 && o[0] != optEnd; {
		if o[0] == optPad {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			return nil
		}
		v := o[2 : 2+o[1]]
		switch {
		case o[0] == optType && len(v) == 1:
			kind = v[0]
		case o[0] == optRequested && len(v) == 4:
			wanted = netip.AddrFrom4([4]byte(v))
		case o[0] == optServer && len(v) == 4:
			server = netip.AddrFrom4([4]byte(v))
		}
		o = o[2+len(v):]
	}
	reply := byte(dhcpAck)
	switch kind {
	case dhcpDiscover:
		reply = dhcpOffer
	case dhcpRequest:
		if server.IsValid() && server != Router {
			return nil // it chose another
		}
		if wanted != Guest {
			reply = dhcpNak
		}
	case dhcpInform:
	default:
		return nil
	}
	a := make([]byte, bootOptions, bootMin)
	a[bootOp], a[bootHType], a[bootHLen] = bootReply, 1, 6
	copy(a[bootXID:bootXID+4], q[bootXID:])
	copy(a[bootFlags:bootFlags+2], q[bootFlags:])
	copy(a[bootGIAddr:bootGIAddr+4], q[bootGIAddr:])
	copy(a[bootCHAddr:bootCHAddr+16], q[bootCHAddr:])
	binary.BigEndian.PutUint32(a[bootCookie:], dhcpCookie)
	option := func(code byte, v ...byte) { a = append(append(a, code, byte(len(v))), v...) }
	option(optType, reply)
	option(optServer, Router.AsSlice()...)
	if reply != dhcpNak {
		if kind == dhcpInform {
			copy(a[bootCIAddr:bootCIAddr+4], q[bootCIAddr:])
		} else {
			copy(a[bootYIAddr:], Guest.AsSlice())
			option(optLease, binary.BigEndian.AppendUint32(nil, leaseTime)...)
		}
		copy(a[bootSIAddr:], Router.AsSlice())
		option(optMask, binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-Network.Bits()))...)
		option(optRouter, Router.AsSlice()...)
		option(optDNS, DNS.AsSlice()...)
	}
	a = append(a, optEnd)
	return append(a, make([]byte, max(0, bootMin-len(a)))...)
}

// bootFrame is a frame with a DHCP message for a guest that may have no address yet.
func bootFrame(to tcpip.LinkAddress, msg []byte) []byte {
	const headers = header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize
	frame := make([]byte, headers, headers+len(msg))
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: routerMAC, DstAddr: to, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	src, dst := address(Router), address(everybody)
	length := uint16(header.UDPMinimumSize + len(msg))
	ip.Encode(&header.IPv4Fields{TotalLength: header.IPv4MinimumSize + length, TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: src, DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
	u := header.UDP(frame[header.EthernetMinimumSize+header.IPv4MinimumSize:])
	u.Encode(&header.UDPFields{SrcPort: bootServer, DstPort: bootClient, Length: length})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, length)
	u.SetChecksum(^u.CalculateChecksum(checksum.Checksum(msg, sum)))
	return append(frame, msg...)
}
