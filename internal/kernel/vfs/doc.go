// Package vfs is the virtual file system: inodes and open files as interfaces that file systems implement, and the
// machinery above them: dentries, mounts, path walk, permissions, file descriptor tables, locks.
package vfs
