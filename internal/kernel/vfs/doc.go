// Package vfs is the virtual file system: inodes and open files as interfaces that file systems implement, and the
// machinery above them: dentries, mounts, path walk, permissions, file descriptor tables, locks.
//
// # Concepts
//
// An Inode is one file of a file system (SuperBlock). A Dentry is a name of it in the cache, or the knowledge that a name
// does not exist. A Mount shows a file system, or a part of it, at one place of a Namespace; a Path is a Dentry seen
// through a Mount. A File is an open file description and holds a Path; an FDTable maps descriptors to Files. An FSContext
// has a task's root, working directory and umask. All operations take a Caller, on whose behalf they run.
//
// # References
//
// A child in the cache holds its parent, a File and an FSContext hold their Paths, a Mount holds its root and the place that
// it is on. What nobody holds stays in the cache until the list of unused dentries grows too long; an inode is forgotten
// with its last dentry. A walk takes no references on its way: the garbage collector keeps what it looks at, and the
// end of the walk is taken with tryGet, which fails for what has died meanwhile; then the walk is made again. Dentries of
// file systems with NoDcache are not counted at all, and their inodes are never forgotten.
//
// # Lock order
//
//	super.renameMu             renames between directories
//	  Dentry.mu                a directory; a parent before its child, two others only with renameMu
//	    inodeState.attrMu      attributes that depend on one another
//	    super.lookupMu         read by lookups; written to forget an inode
//	    mountMu                shape of all mount trees
//	      treeMu               names and parents of all dentries
//	      Dentry.kidsMu
//	        lruList.mu, inodeTable shards
//	File.posMu                 before the file system's own locks, after nothing
//	FDTable.mu                 leaf; files are closed after it is released
//	FSContext.mu               leaf
//	Namespace.usersMu          leaf
//	lockTable.mu               leaf; waiters are woken after it is released
//
// Receivers of events (AddReceiver) run with directory locks held.
//
// # What it does not do
//
// Mandatory locks do not exist, user name spaces do not map ids. Fifos, devices and sockets are other packages', found by OpenSpecial.
package vfs
