package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

var terminals struct {
	register sync.Once

	sync.Mutex
	saved map[int]*term.State
}

// MakeRaw puts the host terminal fd into raw mode, so that the guest's terminal does all the work, until RestoreTerminals
// (which is run at exit). It does nothing if fd is no terminal, is raw already, or if the program runs in the background
// of a shell, which would stop it.
func MakeRaw(fd int) error {
	if !term.IsTerminal(fd) {
		return nil
	}
	if fg, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && fg != unix.Getpgrp() {
		return nil
	}
	terminals.register.Do(func() { AtExit(RestoreTerminals) })
	terminals.Lock()
	defer terminals.Unlock()
	if terminals.saved[fd] != nil {
		return nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return err
	}
	if terminals.saved == nil {
		terminals.saved = map[int]*term.State{}
	}
	terminals.saved[fd] = state
	return nil
}

// RestoreTerminals undoes MakeRaw.
func RestoreTerminals() {
	terminals.Lock()
	defer terminals.Unlock()
	for fd, state := range terminals.saved {
		term.Restore(fd, state)
	}
	terminals.saved = nil
}

// IsRaw reports whether a terminal is in raw mode because of MakeRaw: then lines need a carriage return.
func IsRaw() bool {
	terminals.Lock()
	defer terminals.Unlock()
	return len(terminals.saved) > 0
}

// Stderr is the host's standard error; while a terminal is raw its lines end in CR LF.
var Stderr lineWriter

type lineWriter struct{}

func (lineWriter) Write(p []byte) (int, error) {
	out := p
	if IsRaw() {
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
