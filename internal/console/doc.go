// Package console is the host side of consoles and serial lines: it parses con= and ssl= options, opens the host channels
// behind them (fd, null, pts, pty, tty, port, xterm) and moves bytes between them and the guest's terminals (package tty).
//
// # Concepts
//
// A Set has the configuration of all lines of both kinds: consoles con0..con15 (/dev/tty0..15) and serial lines
// ssl0..ssl63 (/dev/ttyS0..63). A line has an input and an output channel, written "<in>,<out>" or as one channel for both.
// Set.Register makes a terminal of each line; the channel is opened when the guest first opens the terminal. Set.Drivers is
// how the management console changes lines.
//
// A conn is the host's end of an open channel. It is never read or written when that could block: output that does not fit
// stays with the guest's writer, which waits, and only it. Input is read by one goroutine per open line; closing the line ends it.
//
// # Who comes later
//
// The user of a port (a telnet client) and of an xterm (the window) comes some time after the line was opened: until
// then a guest program waits in open(2), or, if it does not want to wait, its output does. When the user goes, the line is
// hung up, and waits for the next one if the guest opens it again. Ptys, connections and windows outlive the guest's last close,
// so that a user stays from one login to the next. /dev/console only waits for the first user: the system goes on without.
//
// A pty that no program on the host has open takes all output and keeps what came last, because nobody may ever come; with a
// user it has flow control.
//
// # End of input
//
// If the input of a line is a terminal, its end (the terminal was closed) hangs the guest's terminal up. If it is a pipe, a
// socket or a regular file, its end is not the loss of a user but of input: programs read what was sent, to the last byte,
// then end of file, for ever; a hangup would throw away what they have not read yet and kill them before they acted on it.
// /dev/null and other devices that are no terminals never deliver input: reads block, as in User-Mode Linux, so that a
// guest started by a service manager does not restart its login programs for ever.
//
// Stream is for guest programs that are given the host's standard streams themselves: bytes pass untouched, and the end of
// input is the end of file.
//
// # Lock order
//
// Set.mu and port.mu are not held during calls into package tty; below TTY.mu come port.mu, then listener.mu and
// telnetConn.mu.
package console
