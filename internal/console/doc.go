// Package console is the host side of consoles and serial lines: it parses con= and ssl= options, opens the host channels
// behind them (fd, null, pts, pty) and moves bytes between them and the guest's terminals (package tty).
//
// # Concepts
//
// A Set has the configuration of all lines of both kinds: consoles con0..con15 (/dev/tty0..15) and serial lines
// ssl0..ssl63 (/dev/ttyS0..63). A line has an input and an output channel, written "<in>,<out>" or as one channel for both.
// Set.Register makes a terminal of each line; the channel is opened when the guest first opens the terminal.
//
// A hostFD is an open host descriptor that is never read or written when that could block: output that does not fit stays
// with the guest's writer, which waits, and only it. Input is read by one goroutine per open line; closing the line ends it.
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
// Set.mu and port.mu are not held during calls into package tty; port.mu and hostFD's fields are below TTY.mu.
package console
