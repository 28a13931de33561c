// Package client is uml_mconsole: the program of the host that talks to the management console of a guest. Its command line, prompt,
// output and exit status are those of the program of that name in uml-utilities; the commands exec and attach do more with a server
// of ours, because it passes its own streams on.
package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// find is the socket of a guest, which is given by its umid or by the socket's path. The error has a line for each place where it is
// not.
func find(name string) (string, error) {
	places := []string{filepath.Join("/tmp/uml", name, "mconsole"), name}
	if home := os.Getenv("HOME"); home != "" {
		places = append([]string{filepath.Join(home, ".uml", name, "mconsole")}, places...)
	}
	var errs []error
	for _, p := range places {
		fi, err := os.Stat(p)
		if err == nil && fi.IsDir() {
			p = filepath.Join(p, "mconsole") // a umid directory
			_, err = os.Stat(p)
		}
		if err == nil {
			return p, nil
		}
		errs = append(errs, fmt.Errorf("Warning: couldn't stat file: %s - %w", p, errors.Unwrap(err)))
	}
	return "", errors.Join(errs...)
}

// Conn is a connection to the console of a guest.
type Conn struct {
	sock   *net.UnixConn
	server *net.UnixAddr
	owner  int // of the server's socket
}

// Dial makes a Conn to the server at a path, which need not be there.
func Dial(path string) (*Conn, error) {
	owner := os.Geteuid()
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		owner = int(st.Uid)
	}
	name := fmt.Sprintf("@uml_mconsole %d %d", os.Getpid(), time.Now().UnixNano())
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	c := &Conn{sock, &net.UnixAddr{Name: path, Net: "unixgram"}, owner}
	if err := c.passCredentials(); err != nil {
		sock.Close()
		return nil, err
	}
	return c, nil
}

// Close ends it.
func (c *Conn) Close() error { return c.sock.Close() }

// passCredentials has answers come with who sends them: every user of the host can send to our socket.
func (c *Conn) passCredentials() error {
	conn, err := c.sock.SyscallConn()
	if err == nil {
		cerr := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		err = errors.Join(err, cerr)
	}
	return err
}

// read reads an answer of the server.
func (c *Conn) read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := c.sock.ReadMsgUnix(b, oob)
		if err != nil {
			return 0, err
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(msgs) == 0 {
			continue
		}
		if cred, err := unix.ParseUnixCredentials(&msgs[0]); err == nil && (int(cred.Uid) == c.owner || cred.Uid == 0) {
			return n, nil
		}
	}
}

// Ask sends a command, with files for the server to use, and calls each for every packet of the answer. It returns the error number
// of the answer.
func (c *Conn) Ask(command string, each func(text string), files ...*os.File) (int32, error) {
	b, err := wire.EncodeRequest(command)
	if err != nil {
		return 0, err
	}
	var rights []byte
	if len(files) > 0 {
		// Whoever has our terminal can type on it. Everybody can make a socket in /tmp/uml.
		if me := os.Geteuid(); me != 0 && c.owner != me && c.owner != 0 {
			return 0, fmt.Errorf("the guest belongs to another user: %w", unix.EPERM)
		}
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.sock.WriteMsgUnix(b, rights, c.server); err != nil {
		return 0, err
	}
	buf := make([]byte, wire.MaxDatagram)
	for {
		_ = c.sock.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// The guest takes its time, or it has ended.
			if err = c.alive(); err == nil {
				continue
			}
		}
		if err != nil {
			return 0, err
		}
		r, err := wire.DecodeReply(buf[:n])
		if err != nil {
			return 0, fmt.Errorf("a malformed answer: %w", err)
		}
		each(r.Text)
		if !r.More {
			return r.Err, nil
		}
	}
}

// alive is an error if nobody has the server's socket.
func (c *Conn) alive() error {
	probe, err := net.DialUnix("unixgram", nil, c.server)
	if err != nil {
		return err
	}
	return probe.Close()
}

// reason is what the system says about an error, without what was tried.
func reason(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// guest is the machine that commands go to.
type guest struct {
	name, path string
}

// prompt is the prompt for it.
func (g *guest) prompt() string {
	if g.path == "" {
		return "([None]) "
	}
	return "(" + g.name + ") "
}

// session runs commands.
type session struct {
	guest
	in       *os.File
	out, err io.Writer
}

// request sends a command and prints the answer.
func (s *session) request(command string) int {
	c, err := Dial(s.path)
	if err != nil {
		fmt.Fprintln(s.err, err)
		return 1
	}
	defer c.Close()
	var text strings.Builder
	number, err := c.Ask(command, func(t string) { text.WriteString(t) })
	if err != nil {
		fmt.Fprintf(s.err, "Sending command to '%s' : %v\n", s.path, reason(err))
		return 1
	}
	verdict := "OK"
	if number != 0 {
		verdict = "ERR"
	}
	fmt.Fprintf(s.out, "%s %s\n", verdict, text.String())
	return int(number) & 0xff
}
