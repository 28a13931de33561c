package tty

import "sync/atomic"

// Recorder is told what happens on the guest's terminals (tty_log_dir=, tty_log_fd=). Terminals are named by their device
// numbers in the form of EncodedDev. Its methods are called from any goroutine, must not block and must not keep p.
type Recorder interface {
	// Open: a terminal was opened that was not open; from is the controlling terminal of who did it, 0 if none.
	Open(tty, from uint32)
	Close(tty uint32)
	// Data is what a program has read from or written to a terminal.
	Data(tty uint32, read bool, p []byte)
	// Exec is a program that was started on a terminal.
	Exec(tty uint32, argv []string)
}

var recorder atomic.Pointer[Recorder]

// SetRecorder installs the Recorder, once at boot.
func SetRecorder(r Recorder) { recorder.Store(&r) }

// recording is the Recorder, nil if there is none.
func recording() Recorder {
	if r := recorder.Load(); r != nil {
		return *r
	}
	return nil
}

// RecordExec is told of every program that is executed; t is the process's controlling terminal, nil if none.
func RecordExec(t *TTY, argv []string) {
	if r := recording(); r != nil && t != nil {
		r.Exec(t.EncodedDev(), argv)
	}
}
