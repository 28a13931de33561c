package client

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// escape is the key that ends attach: Ctrl-].
const escape = 0x1d

// attach joins our terminal to a console of the guest until Ctrl-] or the end of the input.
func (s *session) attach(device string) int {
	c, err := Dial(s.path)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	defer c.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "attach"), os.NewFile(uintptr(pair[1]), "attach")
	defer ours.Close()
	shown, attached := make(chan struct{}), false
	number, text := int32(0), ""
	number, err = c.Ask("attach "+device, func(t string) {
		if attached || t != "attached" {
			text += t
			return
		}
		attached = true
		theirs.Close()
		fd := int(s.in.Fd())
		if old, err := term.MakeRaw(fd); err == nil {
			fmt.Fprintf(s.err, "Attached to %s; Ctrl-] ends it.\r\n", device)
			defer term.Restore(fd, old)
		}
		go func() {
			io.Copy(s.out, ours)
			close(shown)
		}()
		sendInput(pair[0], s.in)
		unix.Shutdown(pair[0], unix.SHUT_WR)
	}, theirs)
	if attached {
		<-shown
	} else {
		theirs.Close()
	}
	if err != nil {
		fmt.Fprintf(s.err, "Sending command to '%s' : %v\n", s.path, reason(err))
		return 1
	}
	if number != 0 {
		fmt.Fprintf(s.err, "ERR %s\n", text)
	}
	return int(number) & 0xff
}

// sendInput copies input until its end, the escape key, or the end of the console.
func sendInput(sock int, in *os.File) {
	buf := make([]byte, 1024)
	poll := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(sock), Events: unix.POLLRDHUP}}
	for {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[1].Revents != 0 {
			return
		}
		if poll[0].Revents == 0 {
			continue
		}
		n, err := in.Read(buf)
		b, _, end := bytes.Cut(buf[:n], []byte{escape})
		for len(b) > 0 {
			k, err := unix.SendmsgN(sock, b, nil, nil, unix.MSG_NOSIGNAL)
			if err != nil && err != unix.EINTR {
				return
			}
			b = b[max(k, 0):]
		}
		if end || err != nil {
			return
		}
	}
}
