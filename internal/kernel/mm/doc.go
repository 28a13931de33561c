// Package mm is the memory of guest processes: mmap(2) and its relatives, brk, the books of what is mapped, copying
// between the kernel and programs, and the accounting of mem=.
//
// # The host's page tables are the truth
//
// Guest memory is memory of a host process, and most calls that only concern anonymous memory are carried out by the
// host without the kernel seeing them. So an MM does not know what is mapped where; the host does
// (platform.AddressSpace.Mappings). What an MM keeps are books of file mappings: which guest file lies behind a host
// mapping. A program can unmap such a mapping behind the kernel's back, but it cannot make one. So the books are a
// superset of the truth: an area that is not there any more costs a little memory and is forgotten when the host's list
// is next read (Prune); an area that is there is always in the books.
//
// Pages of a file mapping beyond the end of the file are mapped too, from an empty host file: access gives SIGBUS
// whatever mprotect does to them. If the file has grown meanwhile, or the file system left pages out of its answer because
// they were too many to read, HandleFault maps what is there now; so does FaultIn for a copy of the kernel, which fails there.
//
// # Where things are
//
// Anonymous memory is placed by the host. File mappings are placed by the kernel, below a random address, with
// MAP_FIXED_NOREPLACE: the host then tells if a program has put something there by itself, without the list of mappings
// being read. The stack is a MAP_GROWSDOWN mapping near the top, where the host never places anything by itself, so that
// the host grows it up to RLIMIT_STACK without a stop.
//
// # Threads, locks
//
// Calls that change mappings take the calling thread, which must be held. On the tracer thread nothing may sleep: there
// a call returns ErrOffload, before it has changed anything, if the lock is taken or if it has to do with files.
//
// MM.mu guards the books. It is held over platform calls, never over calls to file systems that may read a disk, and
// nothing of a file system is called with it held except Inode.Attr, and Mapping.Extents by mremap. References to
// files are dropped after it is released. Host.NewShared is called without it.
//
// Not here: which thread gets a signal for a fault (task), the text of /proc/<pid>/maps (procfs), decoding of system
// call arguments (syscalls), the pages of files (vfs.Mapping, by the file systems).
package mm
