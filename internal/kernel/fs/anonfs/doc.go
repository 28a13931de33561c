// Package anonfs has the files without a place in the tree: the inodes of pipes, sockets and of the descriptors that
// eventfd(2), timerfd_create(2), signalfd(2), epoll_create(2), pidfd_open(2) and inotify_init(2) make, and the objects
// behind the first three and pidfd. epoll, inotify, pipes and sockets have packages of their own.
//
// Each kind of file is an instance of FS, a file system that is mounted nowhere and only gives st_dev and inode numbers.
// As in Linux all anon_inode files share one inode, while each pipe and socket has its own.
//
// # Lock order
//
// EventFD.mu, TimerFD.mu and the like are leaves above wait.Queue: no lock of another package is taken under them.
package anonfs
