// Package jbd2 is the journal of ext3 and ext4: the layout of its blocks, the replay of what was committed but not
// yet written to its place.
//
// Replay does not write: it returns the blocks, newest content first decided, and the caller puts them over the device or
// writes them. All numbers in a journal are big-endian. Every length and block number is checked; a journal that does not
// make sense ends the replay at the last transaction that does, as a crash in the middle of a commit would.
//
// Not here: what a transaction consists of (package ext4 decides), and fast commits (a journal that has them is refused).
package jbd2
