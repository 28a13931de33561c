package slirp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// question is a message of a DHCP client.
func question(options ...byte) []byte {
	q := make([]byte, bootOptions)
	q[bootOp], q[bootHType], q[bootHLen] = bootRequest, 1, 6
	copy(q[bootXID:], "\x01\x02\x03\x04")
	copy(q[bootCHAddr:], guestMAC)
	binary.BigEndian.PutUint32(q[bootCookie:], dhcpCookie)
	return append(q, options...)
}

// options are the options of an answer.
func options(t *testing.T, a []byte) map[byte]string {
	t.Helper()
	if len(a) < bootMin || a[bootOp] != bootReply || string(a[bootXID:bootXID+4]) != "\x01\x02\x03\x04" || string(a[bootCHAddr:bootCHAddr+6]) != string(guestMAC) {
		t.Fatalf("%x", a)
	}
	m := map[byte]string{}
	for o := a[bootOptions:]; o[0] != optEnd; o = o[2+o[1]:] {
		m[o[0]] = string(o[2 : 2+o[1]])
	}
	return m
}

func TestDHCP(t *testing.T) {
	for name, c := range map[string]struct {
		q      []byte
		kind   byte // of the answer; 0 for none
		yiaddr string
	}{
		"discover":           {question(optType, 1, dhcpDiscover, optEnd), dhcpOffer, "\x0a\x00\x02\x0f"},
		"padded":             {question(optPad, optPad, optType, 1, dhcpDiscover), dhcpOffer, "\x0a\x00\x02\x0f"},
		"request":            {question(optType, 1, dhcpRequest, optRequested, 4, 10, 0, 2, 15, optServer, 4, 10, 0, 2, 2, optEnd), dhcpAck, "\x0a\x00\x02\x0f"},
		"request of another": {question(optType, 1, dhcpRequest, optRequested, 4, 10, 0, 2, 16, optEnd), dhcpNak, "\x00\x00\x00\x00"},
		"another server":     {question(optType, 1, dhcpRequest, optRequested, 4, 10, 0, 2, 15, optServer, 4, 10, 0, 2, 9, optEnd), 0, ""},
		"inform":             {question(optType, 1, dhcpInform, optEnd), dhcpAck, "\x00\x00\x00\x00"},
		"release":            {question(optType, 1, 7, optEnd), 0, ""},
		"no type":            {question(optEnd), 0, ""},
		"short option":       {question(optType, 1, dhcpDiscover, optServer, 4, 1), 0, ""},
		"short":              {question()[:100], 0, ""},
		"a reply":            {append([]byte{bootReply}, question(optType, 1, dhcpDiscover)[1:]...), 0, ""},
	} {
		a := answer(c.q)
		if c.kind == 0 {
			if a != nil {
				t.Errorf("%s: %x", name, a)
			}
			continue
		}
		if a == nil {
			t.Errorf("%s: no answer", name)
			continue
		}
		o := options(t, a)
		if o[optType] != string(c.kind) || string(a[bootYIAddr:bootYIAddr+4]) != c.yiaddr || o[optServer] != "\x0a\x00\x02\x02" {
			t.Errorf("%s: %v, %v", name, o, a[bootYIAddr:bootYIAddr+4])
		}
		if c.kind != dhcpNak && (o[optMask] != "\xff\xff\xff\x00" || o[optRouter] != "\x0a\x00\x02\x02" || o[optDNS] != "\x0a\x00\x02\x03") {
			t.Errorf("%s: %v", name, o)
		}
	}
}

// TestBootFrame looks at the frame of an answer as a receiver does.
func TestBootFrame(t *testing.T) {
	msg := answer(question(optType, 1, dhcpDiscover))
	frame := bootFrame(guestMAC, msg)
	eth := header.Ethernet(frame)
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	if eth.DestinationAddress() != guestMAC || !ip.IsValid(len(ip)) || !ip.IsChecksumValid() {
		t.Fatalf("%x", frame)
	}
	u := header.UDP(ip.Payload())
	if u.SourcePort() != bootServer || u.DestinationPort() != bootClient || !bytes.Equal(u.Payload(), msg) {
		t.Errorf("%x", u)
	}
	if !u.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), checksum.Checksum(msg, 0)) {
		t.Error("wrong checksum")
	}
}

// FuzzFrame sends frames that no guest's kernel would send.
func FuzzFrame(f *testing.F) {
	n, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.End)
	msg := question(optType, 1, dhcpDiscover, optEnd)
	boot := bootFrame(routerMAC, msg)
	binary.BigEndian.PutUint16(boot[header.EthernetMinimumSize+header.IPv4MinimumSize+2:], bootServer)
	f.Add(boot)
	f.Add(boot[:50])
	f.Add(append(bytes.Repeat([]byte{255}, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1))
	f.Fuzz(func(t *testing.T, frame []byte) {
		// To the world nothing is to go out: what is not for the network's own addresses is left out.
		if ip := header.IPv4(frame[min(len(frame), header.EthernetMinimumSize):]); len(ip) >= header.IPv4MinimumSize && worldly(addr(ip.DestinationAddress())) {
			return
		}
		n.Send(frame)
		answer(frame)
	})
}
