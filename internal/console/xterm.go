package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/host"
)

// DefaultXterm is the terminal emulator of the xterm channel: program, switch before the title, switch before the command.
var DefaultXterm = [3]string{"xterm", "-T", "-e"}

// helperSwitch makes this program the port helper: what runs in the window and hands the window's terminal over.
const helperSwitch = "-uml-socket"

// xtermPatience is how long a terminal emulator may take to run the helper.
const xtermPatience = 30 * time.Second

// xtermConn is the terminal of a window. Closing it closes the window.
type xtermConn struct {
	*hostFD
	helper *os.Process
	window *window
}

func (x *xtermConn) hangsUp() bool { return true }

func (x *xtermConn) close() {
	x.hostFD.close()
	_ = x.helper.Signal(unix.SIGHUP) // it may be gone
	x.window.close()
}

// window is a terminal emulator and the socket to its helper.
type window struct {
	dir    string
	socket *net.UnixConn
	emu    *os.Process
	once   sync.Once
}

func (w *window) close() {
	w.once.Do(func() {
		w.socket.Close()
		os.RemoveAll(w.dir)
		_ = w.emu.Signal(unix.SIGTERM) // it may be gone
	})
}

// openWindow starts a terminal emulator. When its helper has answered, take is called with the terminal, or with what went
// wrong; then changed is called whenever the window has a new size.
func openWindow(emulator [3]string, title string, raw bool, take func(conn, error), changed func()) (cancel func(), err error) {
	if os.Getenv("DISPLAY") == "" {
		return nil, errors.New("xterm_open: $DISPLAY not set.")
	}
	path, err := exec.LookPath(emulator[0])
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Nobody else can reach the socket in a directory of ours.
	w := &window{}
	if w.dir, err = os.MkdirTemp("", "xterm-pipe"); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: filepath.Join(w.dir, "socket"), Net: "unixgram"}
	if w.socket, err = net.ListenUnixgram("unixgram", addr); err != nil {
		os.RemoveAll(w.dir)
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.socket.Close()
		os.RemoveAll(w.dir)
		return nil, err
	}
	defer null.Close()
	argv := []string{emulator[0], emulator[1], title, emulator[2], exe, helperSwitch, addr.Name}
	var ended <-chan *os.ProcessState
	w.emu, ended, err = host.StartProcess(path, argv, &os.ProcAttr{
		Files: []*os.File{null, null, null},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM},
	})
	if err != nil {
		w.socket.Close()
		os.RemoveAll(w.dir)
		return nil, err
	}
	go func() {
		// An emulator that only asks a server for a window ends at once, with success.
		if st := <-ended; st == nil || !st.Success() {
			_ = w.socket.SetReadDeadline(time.Now())
		}
	}()
	_ = w.socket.SetReadDeadline(time.Now().Add(xtermPatience))
	go w.run(raw, take, changed)
	return w.close, nil
}

// run waits for the helper, and then for its reports.
func (w *window) run(raw bool, take func(conn, error), changed func()) {
	c, err := w.receive(raw)
	if err != nil {
		w.close()
		take(nil, fmt.Errorf("the terminal emulator did not open a terminal: %w", err))
		return
	}
	_ = w.socket.SetReadDeadline(time.Time{})
	os.RemoveAll(w.dir) // the helper is connected
	take(c, nil)
	b := make([]byte, 16)
	for {
		if _, err := w.socket.Read(b); errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			_ = w.socket.SetReadDeadline(time.Time{}) // the emulator's end came late
			continue
		}
		changed()
	}
}

// receive takes the helper's message: its pid and, as ancillary data, its standard input.
func (w *window) receive(raw bool) (*xtermConn, error) {
	b, oob := make([]byte, 16), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := w.socket.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for _, m := range msgs {
			got, _ := unix.ParseUnixRights(&m)
			fds = append(fds, got...)
		}
	}
	if n < 4 || len(fds) != 1 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, errors.New("not a message of a port helper")
	}
	unix.CloseOnExec(fds[0])
	h, err := ownHostFD(fds[0])
	if err != nil {
		return nil, err
	}
	helper, err := os.FindProcess(int(binary.NativeEndian.Uint32(b)))
	if err != nil {
		h.close()
		return nil, err
	}
	if raw {
		h.raw()
	}
	return &xtermConn{h, helper, w}, nil
}

// PortHelper is the main function of the program if it was started as port helper, otherwise it returns at once. Under the name
// port-helper it also serves other implementations of UML: without arguments the socket is descriptor 3.
func PortHelper() {
	compat := filepath.Base(os.Args[0]) == "port-helper"
	if !compat && (len(os.Args) != 3 || os.Args[1] != helperSwitch) {
		return
	}
	if err := portHelper(os.Args[1:], compat); err != nil {
		fmt.Fprintln(os.Stderr, "port-helper:", err)
		time.Sleep(5 * time.Second) // the window goes with us
		os.Exit(1)
	}
	os.Exit(0)
}

func portHelper(args []string, compat bool) error {
	fd := 3
	switch {
	case len(args) == 2 && args[0] == helperSwitch:
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(s, &unix.SockaddrUnix{Name: args[1]}); err != nil {
			return fmt.Errorf("connect to %s: %w", args[1], err)
		}
		fd = s
	case len(args) != 0:
		return errors.New("usage: port-helper [-uml-socket <path>]")
	}
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, unix.SIGWINCH)
	if compat {
		// That kernel makes the terminal the controlling one of a process of its own.
		signal.Ignore(unix.SIGHUP)
		_ = unix.IoctlSetInt(0, unix.TIOCNOTTY, 0) // it may be none
		signal.Reset(unix.SIGHUP)
	}
	pid := binary.NativeEndian.AppendUint32(nil, uint32(os.Getpid()))
	if err := unix.Sendmsg(fd, pid, unix.UnixRights(0), nil, 0); err != nil {
		return err
	}
	for range winch {
		if !compat && unix.Send(fd, pid, unix.MSG_DONTWAIT) == unix.ECONNREFUSED {
			return nil // the kernel has gone
		}
	}
	return nil
}
