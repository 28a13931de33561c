// Package inotify has the files of inotify(7).
//
// The vfs tells one receiver of all events; this package is that receiver as long as there is a watch, so that events cost
// nothing otherwise. A watch belongs to an instance and an inode. It keeps the inode's dentry, but not its mount, so that a
// file system can be unmounted under it.
//
// # Lock order
//
//	directory locks of the vfs < marks.mu < Instance.mu < wait.Queue
//
// Dentries are put on a goroutine of their own when the watch ends in the receiver, which must not take vfs locks.
package inotify
