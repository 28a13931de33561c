// Package anonfs has the objects behind the descriptors that eventfd(2), timerfd_create(2), signalfd(2) and pidfd_open(2)
// make. epoll, inotify, pipes and sockets have packages of their own.
//
// # Lock order
//
// EventFD.mu and TimerFD.mu are leaves above wait.Queue: no lock of another package is taken under them.
package anonfs

import "github.com/user-mode-linux/linux/internal/kernel/vfs"

// newFile makes an open file; name is "[eventfd]" and the like.
func newFile(c vfs.Caller, name string, ops vfs.FileOps, flags uint32) *vfs.File {
	return vfs.NewAnonFile(c, "anon_inode:"+name, ops, flags, 0o600)
}
