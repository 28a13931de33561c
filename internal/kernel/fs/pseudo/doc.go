// Package pseudo has what file systems without storage (proc, sysfs) are made of: directories with fixed and computed
// entries, files whose text is made when they are read, and links.
//
// # Concepts
//
// An FS is one mounted instance. Its nodes are Dir, File, Symlink and Magic; each embeds Base, which answers stat(2). A
// package that has thousands of short-lived nodes (the processes of proc) makes its own comparable inode types instead and
// uses Text and List for their open files.
//
// Text has the semantics of Linux's seq_file: the text is made at the first read and whenever a read begins at offset 0, so
// that a program that reads in pieces sees one consistent text, and one that rewinds sees a fresh one.
//
// # Lock order
//
// Dir.mu and the lock of an open Text are leaves, except that Text makes its text under its own lock: Show functions may
// take any lock of their subsystem.
//
// # Not here
//
// No caching of pages, no mmap, no creation of files by the guest.
package pseudo
