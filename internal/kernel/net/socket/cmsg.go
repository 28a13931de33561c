package socket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Cmsg is one control message (cmsg(3)).
type Cmsg struct {
	Level, Type int32
	Data        []byte
}

// hdrLen is the size of struct cmsghdr; messages are aligned to 8 bytes.
const hdrLen = 16

func align(n int) int { return (n + 7) &^ 7 }

// MaxControl is the longest control buffer that a send accepts (net.core.optmem_max).
const MaxControl = 131072

// NextCmsg takes the first message off a control buffer. ok is false at its end: a rest too short for a header is
// ignored. EINVAL for a length that does not fit.
func NextCmsg(buf []byte) (m Cmsg, rest []byte, ok bool, err error) {
	if len(buf) < hdrLen {
		return Cmsg{}, nil, false, nil
	}
	n := binary.LittleEndian.Uint64(buf)
	if n < hdrLen || n > uint64(len(buf)) {
		return Cmsg{}, nil, false, unix.EINVAL
	}
	m.Level = int32(binary.LittleEndian.Uint32(buf[8:]))
	m.Type = int32(binary.LittleEndian.Uint32(buf[12:]))
	m.Data = buf[hdrLen:n:n]
	return m, buf[min(align(int(n)), len(buf)):], true, nil
}

// AppendCmsg appends a message to a control buffer of which max bytes may be used in all. It cuts the message, or leaves
// it out, and returns false when it does not fit (MSG_CTRUNC).
func AppendCmsg(buf []byte, max int, level, typ int32, data []byte) ([]byte, bool) {
	left := max - len(buf)
	if left < hdrLen {
		return buf, false
	}
	n := min(hdrLen+len(data), left)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(n))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(level))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(typ))
	buf = append(buf, data[:n-hdrLen]...)
	for len(buf)%8 != 0 && len(buf) < max {
		buf = append(buf, 0)
	}
	return buf, n == hdrLen+len(data)
}

// RightsRoom is how many descriptors an SCM_RIGHTS message can have when used of max bytes are used.
func RightsRoom(used, max int) int {
	if max-used < hdrLen {
		return 0
	}
	return (max - used - hdrLen) / 4
}
