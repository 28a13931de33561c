// Package poll waits for readiness of several files: poll(2), select(2) and epoll(7).
//
// # epoll
//
// An EPoll has an item for each (open file description, descriptor number) that was added, registered on the file's wait
// queue. The queue's callback puts the item on the ready list, so that a wait looks only at files that something happened
// to. What is on the list is a hint: the file is asked for its readiness when events are collected; level-triggered items
// that were ready go back to the end of the list.
//
// An item does not keep its file open: it is a vfs.FileWatcher and goes away with it.
//
// All waiters of an EPoll are woken by an event and those that find nothing sleep again; EPOLLEXCLUSIVE is therefore
// accepted and has no effect on who is woken.
//
// # Lock order
//
//	nesting (adding an epoll to an epoll) < EPoll.mu < EPoll.mu of a watched epoll < locks that Readiness takes
//	wait.Queue of a watched file < EPoll.rdyMu
//	wait.Queue of a watched epoll < wait.Queue of the epoll that watches it
//
// The last reference to a file must not be dropped under a lock that Readiness of any file takes.
package poll
