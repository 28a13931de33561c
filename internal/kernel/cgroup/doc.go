// Package cgroup is the hierarchy of control groups, version 2 (cgroups(7), Documentation/admin-guide/cgroup-v2.rst): which
// processes are in which group, what is counted and limited there. How it looks as files is package fs/cgroupfs's.
//
// # Concepts
//
// A Tree has one root Group, which never goes. A process has a Seat, which says in which group it is; its threads are
// always there with it. A seat is taken before the process is born (Fork), so that a group that somebody is about to be
// born in cannot be removed, and is left when the process has ended (Exit): a zombie is in no list any more, but counts
// for the pids controller until it is reaped (Uncharge).
//
// The figures of a group include those of its descendants. Tasks are counted everywhere all the time; enabling the pids
// controller only adds the limit and its files.
//
// Freezing is a wish (Seat.FreezeWanted) that processes carry out themselves (Process.UpdateFreeze) and report back
// (Seat.SetFrozen).
//
// # Lock order
//
// Tree.opMu is held over operations of the file system (moving, freezing, enabling controllers), above the locks of processes.
// Tree.mu is a leaf; processes are never called with it held. What Group.Changed is set to is called with neither, but maybe
// with locks of processes: it must only queue the news.
//
// # Not here
//
// Threads of one process in different groups (type "threaded"), cgroup name spaces, version 1, and all controllers but
// pids: CPU time, memory and I/O are given out by the host, which does not know of groups.
package cgroup
