// Package mqueue has POSIX message queues (mq_overview(7)): the queues, and the file system that shows them when it is
// mounted, of which there is one instance for all.
//
// A queue is an inode. The calls mq_open(2) and mq_unlink(2) work on the root directory of the instance without a mount;
// the file system is uncached (NoDcache), so both ways see the same names.
//
// A message goes straight to a process that waits for one, and a process that waits for room leaves its message with its
// place in the line; so order is kept, and mq_notify(3) only tells of messages that nobody waited for.
//
// Lock order: Super.mu, then Queue.mu; wait queues are leaves. Signals are sent with no lock held.
package mqueue
