// Package hotplug is how drivers of the host's side let the management console change their devices while the guest runs.
// It only has the interface, so that drivers need not know the console.
package hotplug

import (
	"os"

	"golang.org/x/sys/unix"
)

// Driver is a kind of device. Its methods are called from any goroutine, may be called concurrently, and may take their time:
// the console serves other requests meanwhile.
//
// What an error says is shown to the user. The number that goes with it is the errno that it wraps (errors.As), else
// just "failed"; Error is one whose text does not tell the errno.
type Driver interface {
	// Name is what the names of its devices begin with: "ubd", "con". The rest of a name is its id: "0", "" for
	// drivers with only one device ("mem").
	Name() string
	// Config makes or changes a device. The argument is what an option of the command line has after the driver's name:
	// "0r=file", "1=pts", "0:transport=tap", "=+32M".
	Config(arg string) error
	// Query is the configuration of a device as Config would take it, without id and "=". A device that is not there
	// is "" or "none".
	Query(id string) (string, error)
	// Remove takes a device away. ENODEV and EBUSY, bare, get the texts that all drivers share.
	Remove(id string) error
}

// Attacher is a Driver whose devices are terminals that somebody else can join.
type Attacher interface {
	// Attach joins f, a socket, to a device until its other end is closed or the device goes away. The file stays the caller's.
	Attach(id string, f *os.File) (Attachment, error)
}

// Attachment is who has joined a device.
type Attachment interface {
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Resize says how large the window is.
	Resize(ws unix.Winsize)
}

// Error is an errno with the text that users are to see.
type Error struct {
	Errno unix.Errno
	Text  string
}

func (e *Error) Error() string { return e.Text }

// Unwrap is the errno.
func (e *Error) Unwrap() error { return e.Errno }
