// Package pipefs has pipes and FIFOs (pipe(7), fifo(7)).
//
// A Pipe is a ring of page-sized slots over one contiguous buffer. Neighbouring slots are neighbours in memory, so that a
// large write or read is one copy between guest memory and the ring. The buffer is small at first and grows to the pipe's
// capacity when it is needed; nothing is allocated for a transfer.
//
// The slots follow Linux's rules, because programs see them: a pipe is writable when a whole slot is free, a short write is
// appended to the last slot when it fits there, and in packet mode (O_DIRECT) each slot is one message.
//
// # Lock order
//
//	fifos.mu (the table of FIFOs) < Pipe.mu < guest memory, wait.Queue
//
// Transfer takes two Pipe.mu, by increasing Pipe.id. Feed and Drain call their function under Pipe.mu; it may take the
// locks of the other file but must not sleep for long.
//
// What is not here: the accounting of pipe memory per user (pipe-user-pages-soft).
package pipefs
