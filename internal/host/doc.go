// Package host is what the program does to its own host process around the guest kernel: the ways out, host signals,
// and the janitor.
//
// # Ways out
//
// Whatever has to be undone when the program ends is registered with AtExit. Exit, Die and Reexec are the ways out that
// run it; Watch turns host signals into one of them. A Go panic and SIGKILL run nothing: for them there is the janitor.
//
// # The janitor
//
// A second process, started from the same executable, that holds one end of a pipe and otherwise sleeps. When the pipe is
// closed without a word, the program has died without clean-up: then the janitor puts the terminal back into its old mode,
// deletes the umid directory and ends. Before an orderly end the program does that itself and tells the janitor to go.
// It is in a session of its own, holds none of the program's descriptors but the terminal's, and ignores the signals that
// a terminal or a shutdown sends to all. Deleting stale directories at the next start, as the C implementation does, is
// not enough: nobody else would restore the terminal, and tests and scripts look for leftovers at once.
//
// Stubs need no janitor: the host kills them with their tracer.
package host
