package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDHCPPacket looks at a request as a server does, and has the server's answer understood.
func TestDHCPPacket(t *testing.T) {
	c := &dhcpClient{mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}, xid: [4]byte{1, 2, 3, 4}, pause: time.Second}
	offer := &lease{address: net.IP{10, 0, 2, 15}, options: map[byte][]byte{optFrom: {10, 0, 2, 2}}}
	p := c.packet(dhcpRequest, offer)
	if int(binary.BigEndian.Uint16(p[2:])) != len(p) || checksum(p[:ipHeader]) != 0 || p[9] != unix.IPPROTO_UDP {
		t.Fatalf("%x", p)
	}
	if n := int(binary.BigEndian.Uint16(p[ipHeader+4:])); n != len(p)-ipHeader {
		t.Errorf("UDP length %d of %d", n, len(p))
	}
	if !bytes.Contains(p, []byte{optType, 1, dhcpRequest, optAddress, 4, 10, 0, 2, 15, optFrom, 4, 10, 0, 2, 2}) {
		t.Errorf("%x", p)
	}

	a := bytes.Clone(p)
	binary.BigEndian.PutUint16(a[ipHeader+2:], dhcpClientPort)
	m := a[ipHeader+udpHeader:]
	m[0] = 2
	copy(m[16:], []byte{10, 0, 2, 15})
	copy(m[dhcpFixed:], []byte{0, optType, 1, dhcpAck, optMask, 4, 255, 255, 255, 0, optLease, 4, 0, 1, 0, 0, optEnd})
	l := c.answer(a)
	if l == nil || l.kind() != dhcpAck || l.address.String() != "10.0.2.15" || l.option(optMask).String() != "255.255.255.0" || l.seconds() != 65536 || !l.option(optRouter).IsUnspecified() {
		t.Errorf("%+v", l)
	}
	for i := range a {
		c.answer(a[:i])
	}
	other := bytes.Clone(a)
	other[ipHeader+udpHeader+4]++
	if c.answer(other) != nil {
		t.Error("takes an answer to somebody else")
	}
}
