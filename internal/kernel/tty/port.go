package tty

import "golang.org/x/sys/unix"

// Port is what is below a terminal: the driver of a host channel, or the master side of a pseudo-terminal.
//
// The terminal calls Write, Room, Pending, Discard and SetLine with its own lock held; they must not block and must
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

// Carrier is a Port whose user comes later, and may come and go: somebody who connects, a window that is being opened. It calls
// TTY.CarrierChanged when somebody has come, or will not come, and TTY.Hangup when its user has gone.
type Carrier interface {
	// Carrier tells whether somebody is there. An error ends all waiting for that.
	Carrier() (bool, error)
}

// LineControl is a Port with a real line below it. SetLine follows the settings of the terminal: speed and format; it is called
// with the terminal's lock held. SetBreak begins and ends a break; false if the line has none.
type LineControl interface {
	SetLine(t *unix.Termios)
	SetBreak(on bool) bool
}
