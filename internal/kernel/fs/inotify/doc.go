// Package inotify has the files of inotify(7).
//
// The vfs tells its receivers of all events; this package has one as long as there is a watch, so that events cost
// nothing otherwise. A watch belongs to an instance and an inode. It keeps the inode, but neither a name nor the mount, so
// that the file can be deleted and its file system be unmounted under it.
//
// # Lock order
//
//	directory locks of the vfs < marks.mu < Instance.mu < wait.Queue
//
// Inodes are put on a goroutine of their own when the watch ends in the receiver, which must not take vfs locks.
package inotify
