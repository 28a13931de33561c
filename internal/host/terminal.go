package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"golang.org/x/sys/unix"
)

// Stderr is the host's standard error; while it is a terminal in raw mode, lines end in CR LF.
var Stderr lineWriter

type lineWriter struct{}

func (lineWriter) Write(p []byte) (int, error) {
	out := p
	if t, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil && t.Oflag&unix.OPOST == 0 {
		out = bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))
	}
	for len(out) > 0 {
		n, err := unix.Write(2, out)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return 0, err
		}
		out = out[n:]
	}
	return len(p), nil
}

// encodeTermios and decodeTermios carry a terminal's mode to the janitor.
func encodeTermios(t *unix.Termios) string {
	b, err := binary.Append(nil, binary.LittleEndian, t)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(b)
}

func decodeTermios(s string) (*unix.Termios, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	t := new(unix.Termios)
	_, err = binary.Decode(b, binary.LittleEndian, t)
	return t, err
}
