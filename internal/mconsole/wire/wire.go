// Package wire is the layout of the management console's datagrams, protocol version 2. All numbers are 32 bits wide, in
// the byte order of the host.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
)

const (
	// Magic is the first word of requests and notifications.
	Magic = 0xcafebabe
	// Version is the protocol's version.
	Version = 2
	// MaxData is the size of the data field. A text may be one byte shorter, for the NUL at its end.
	MaxData = 512
	// RequestSize is how long the datagrams of clients are, whatever they ask; HeaderSize is what the server needs.
	RequestSize = HeaderSize + MaxData
	// HeaderSize is the part of requests and replies before the data.
	HeaderSize = 12
	// MaxDatagram is the longest datagram there is, a notification.
	MaxDatagram = notifyHeader + MaxData
)

const notifyHeader = 16

var order = binary.NativeEndian

// What is wrong with a datagram.
var (
	// ErrUnversioned: it does not begin with Magic. Such clients of long ago get UnversionedReply, which has no header.
	ErrUnversioned = errors.New("ERR Version 0 mconsole clients are not supported by this driver")
	ErrVersion     = errors.New("This driver only supports version 2 clients")
	ErrTooLarge    = errors.New("Request too large")
	// ErrShort: it ends within the header.
	ErrShort = errors.New("Request too short")
)

// UnversionedReply is the whole answer to ErrUnversioned.
func UnversionedReply() []byte { return []byte(ErrUnversioned.Error()) }

// EncodeRequest makes a request of a command, which must be shorter than MaxData.
func EncodeRequest(command string) ([]byte, error) {
	if len(command) >= MaxData {
		return nil, ErrTooLarge
	}
	b := make([]byte, RequestSize)
	order.PutUint32(b[0:], Magic)
	order.PutUint32(b[4:], Version)
	order.PutUint32(b[8:], uint32(len(command)))
	copy(b[HeaderSize:], command)
	return b, nil
}

// DecodeRequest is the command of a request. Its text ends at the given length, at the end of the datagram or at a NUL.
func DecodeRequest(b []byte) (string, error) {
	if len(b) < 4 || order.Uint32(b) != Magic {
		return "", ErrUnversioned
	}
	if len(b) < HeaderSize {
		return "", ErrShort
	}
	if order.Uint32(b[4:]) != Version {
		return "", ErrVersion
	}
	n := order.Uint32(b[8:])
	if n >= MaxData {
		return "", ErrTooLarge
	}
	data := b[HeaderSize:]
	return text(data[:min(int(n), len(data))]), nil
}

// Reply is one packet of an answer.
type Reply struct {
	// Err is 0, 1 or a negative errno. More says that another packet follows.
	Err  int32
	More bool
	Text string
}

// Encode makes the packet; a text that is too long is cut.
func (r *Reply) Encode() []byte {
	t := r.Text[:min(len(r.Text), MaxData-1)]
	b := make([]byte, HeaderSize+len(t)+1)
	order.PutUint32(b[0:], uint32(r.Err))
	if r.More {
		order.PutUint32(b[4:], 1)
	}
	order.PutUint32(b[8:], uint32(len(t)+1))
	copy(b[HeaderSize:], t)
	return b
}

// DecodeReply reads a packet of a server.
func DecodeReply(b []byte) (Reply, error) {
	if len(b) < HeaderSize {
		return Reply{}, ErrShort
	}
	n := order.Uint32(b[8:])
	data := b[HeaderSize:]
	if n > MaxData || int(n) > len(data) {
		return Reply{}, ErrTooLarge
	}
	return Reply{Err: int32(order.Uint32(b)), More: order.Uint32(b[4:]) != 0, Text: text(data[:n])}, nil
}

// NotifyType is what a notification is about.
type NotifyType uint32

const (
	// NotifySocket has the path of the management socket: it is ready.
	NotifySocket NotifyType = iota
	// NotifyPanic has the text of a panic of the guest.
	NotifyPanic
	// NotifyHang comes from a watchdog: the guest does not respond.
	NotifyHang
	// NotifyUser has what a program of the guest wrote to /proc/mconsole.
	NotifyUser
)

// Notify is a notification.
type Notify struct {
	Type NotifyType
	Data []byte
}

// Encode makes the datagram; data that is too long is cut.
func (n *Notify) Encode() []byte {
	d := n.Data[:min(len(n.Data), MaxData)]
	b := make([]byte, notifyHeader+len(d))
	order.PutUint32(b[0:], Magic)
	order.PutUint32(b[4:], Version)
	order.PutUint32(b[8:], uint32(n.Type))
	order.PutUint32(b[12:], uint32(len(d)))
	copy(b[notifyHeader:], d)
	return b
}

// DecodeNotify reads a notification, also one of the 64-bit uml_watchdog, whose magic word is 8 bytes wide and which ends in
// 4 bytes of padding.
func DecodeNotify(b []byte) (Notify, error) {
	if len(b) < 4 || order.Uint32(b) != Magic {
		return Notify{}, ErrUnversioned
	}
	wide := bytes.Clone(b)
	if len(b) >= 8 && order.Uint32(b[4:]) == 0 {
		wide = append(wide[:4], wide[8:]...)
	}
	b = wide
	if len(b) < notifyHeader {
		return Notify{}, ErrShort
	}
	if order.Uint32(b[4:]) != Version {
		return Notify{}, ErrVersion
	}
	n := order.Uint32(b[12:])
	if n > MaxData || int(n) > len(b)-notifyHeader {
		return Notify{}, ErrTooLarge
	}
	return Notify{NotifyType(order.Uint32(b[8:])), b[notifyHeader : notifyHeader+int(n)]}, nil
}

// text is what stands before the first NUL.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
