// Package cgroupfs is the cgroup2 file system: the files by which programs see and change the control groups of package cgroup
// (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).
//
// # Concepts
//
// There is one tree, however often it is mounted. A directory is a group and knows its files; they are the same inodes as
// long as the group lives, so that they can be watched by inotify(7) and poll(2). What the files say is made when they are read.
//
// A process may be moved by whoever opened the target's cgroup.procs for writing and may write to the one of the nearest group
// above both places; the identity is that of the open(2), not that of the write(2).
//
// # Lock order
//
// FS.mu is a leaf.
package cgroupfs
