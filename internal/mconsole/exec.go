package mconsole

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// terminalSwitch before the command asks for a terminal.
const terminalSwitch = "-t"

// exec runs a command in the guest. The streams are those that the client passed, and a control stream after them; with the
// terminal switch it passes a socket for the terminal's bytes and a control stream. Without any the output is sent as text, as
// it comes, and the input is empty. The error number of the answer is 0 or 1, and the status stands in its last line.
func (s *Server) exec(r *request) {
	command, terminal := r.arg, false
	if rest, ok := strings.CutPrefix(command, terminalSwitch); ok && (rest == "" || rest[0] == ' ') {
		command, terminal = strings.TrimSpace(rest), true
	}
	if command == "" {
		r.done(errors.New("Please specify a command"))
		return
	}
	s.freezeMu.Lock()
	frozen := s.frozen
	s.freezeMu.Unlock()
	if frozen {
		r.done(errors.New("The guest is stopped"))
		return
	}
	var status int
	var err error
	switch {
	case terminal && len(r.files) == 0:
		err = errors.New("This client cannot pass its terminal")
	case terminal:
		status, err = s.execTerminal(r, command)
	case len(r.files) >= 3:
		status, err = s.execFiles(r, command)
	default:
		status, err = s.execText(r, command)
	}
	if err != nil {
		r.done(err)
		return
	}
	r.data(map[string]int{"status": status})
	if status != 0 {
		r.done(fmt.Errorf("exit status %d", status))
	}
}

func (s *Server) execTerminal(r *request, command string) (int, error) {
	ctl, err := newControl(r.files, 1)
	if err != nil {
		return 0, err
	}
	defer ctl.close()
	var size unix.Winsize
	if ctl != nil {
		size = ctl.firstSize()
	}
	f, err := pollable(r.files[0])
	if err != nil {
		return 0, err
	}
	defer f.Close()
	p, err := s.guest.ExecOnTerminal(command, f, size)
	if err != nil {
		return 0, err
	}
	return waitFor(p, ctl), nil
}

func (s *Server) execFiles(r *request, command string) (int, error) {
	ctl, err := newControl(r.files, 3)
	if err != nil {
		return 0, err
	}
	defer ctl.close()
	p, err := s.guest.Exec(command, [3]*os.File(r.files))
	if err != nil {
		return 0, err
	}
	return waitFor(p, ctl), nil
}

// waitFor waits for the end of a command whose client has a control stream, or nil.
func waitFor(p Process, ctl *control) int {
	if ctl != nil {
		go ctl.follow(func(m message) {
			if m.signal != 0 {
				p.Signal(m.signal)
			} else {
				p.Resize(m.size)
			}
		}, p.Hangup)
	}
	return p.Wait()
}

// execText collects standard output and error in a pipe.
func (s *Server) execText(r *request, command string) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	rd, wr, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	p, err := s.guest.Exec(command, [3]*os.File{null, wr, wr})
	wr.Close()
	if err != nil {
		rd.Close()
		return 0, err
	}
	status := make(chan int, 1)
	go func() {
		status <- p.Wait()
		// What it left running may have the pipe open: the output ends here all the same.
		_ = rd.SetReadDeadline(time.Now())
	}()
	sendOutput(rd, r)
	rd.Close() // if nobody listens, the command finds its pipe closed
	return <-status, nil
}

// sendOutput sends what comes out of a pipe, each piece at once, until its end or its deadline.
func sendOutput(rd *os.File, r *request) {
	buf := make([]byte, 4096)
	last := byte('\n')
	pass := func(b []byte) bool {
		if len(b) == 0 {
			return true
		}
		last = b[len(b)-1]
		_, err := r.Write(b)
		return err == nil && r.flush() == nil
	}
	for {
		n, err := rd.Read(buf)
		if !pass(buf[:n]) {
			return
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// The rest of what the command wrote, without what others may still write.
			if conn, err := rd.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) {
					for range pipeReads {
						if n, err := unix.Read(int(fd), buf); n <= 0 || err != nil || !pass(buf[:n]) {
							return
						}
					}
				})
			}
		}
		if last != '\n' {
			_, _ = r.Write([]byte("\n"))
		}
		return
	}
}

// pipeReads is more than any pipe of the usual sizes needs to be emptied.
const pipeReads = 256
