package tty

import "golang.org/x/sys/unix"

// Port is what is below a terminal: the driver of a host channel, or the master side of a pseudo-terminal.
//
// The terminal calls Write, Room, Pending, Discard and SetTermios with its own lock held; they must not block and must
// not call the terminal. A Port calls TTY.Receive, TTY.ReceiveEOF, TTY.WriteWakeup, TTY.Resize and TTY.Hangup with none
// of its own locks held.
type Port interface {
	// Open is called at the first open of the terminal, Close after the last close and at a hangup. Both may block.
	Open(t *TTY) error
	Close()
	// Write takes output, as many bytes as there is room for. After a short Write the Port calls t.WriteWakeup once
	// there is room again.
	Write(p []byte) int
	// Room is how many bytes Write would take now.
	Room() int
	// Pending is how many bytes are accepted and not yet sent.
	Pending() int
	// Discard throws those away (TCFLSH, interrupt characters).
	Discard()
	// Unthrottle says that Receive, after it took less than it was given, takes more again.
	Unthrottle()
	// Size is the window size, false if the port does not know one.
	Size() (unix.Winsize, bool)
}
