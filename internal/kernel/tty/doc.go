// Package tty has the terminals of the guest: the line discipline, job control, pseudo-terminals, the console and serial
// devices, /dev/tty and /dev/console (tty_ioctl(4), termios(3), pts(4), credentials(7)).
//
// # Concepts
//
// A TTY is one terminal as a program sees it: settings, window size, session, foreground process group and the N_TTY
// line discipline. Below it is a Port, which moves bytes: a console channel of the host (package console) or the master
// side of a pseudo-terminal (Pty). Bytes from the port come in by TTY.Receive, pass the line discipline and wait for
// read(2); bytes of write(2) and echo pass output processing and go to Port.Write, which never blocks.
//
// Process is what the package must know of the calling process, Controller what it must do to others; package task
// implements both.
//
// An open file is a file; it, not the TTY, is hung up: after Hangup old files are dead, and the terminal can be opened
// anew. Files of /dev/console survive a hangup.
//
// # Lock order
//
//	ctlMu (who has which controlling terminal)
//	  < task's locks, taken by Process and Controller methods
//	ctlMu < ptySet.mu < TTY.mu < Port's locks (Pty.mu) < wait.Queue
//	TTY.writer (a lock that a signal can interrupt, held during one write(2)) comes before TTY.mu
//
// Controller is never called with TTY.mu held: what happens under the lock is noted in TTY.after and done by TTY.unlock.
// Functions of this package must be called without any lock of task held.
//
// # What it does not do
//
// No virtual terminals (KD* and VT_* ioctls are ENOTTY, as on a serial line), no modem lines, no line disciplines but
// N_TTY, no BSD ptys.
package tty
