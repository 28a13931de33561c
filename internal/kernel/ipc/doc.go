// Package ipc has the ways in which processes talk by objects of the kernel that outlive them: shared memory segments,
// semaphore sets and message queues of System V (sysvipc(7)), and POSIX message queues (mq_overview(7)) with the file
// system that shows them.
//
// # Concepts
//
// A Namespace has the limits and one table for each kind of System V object. An identifier is an index into the table and
// a sequence number, as on Linux, so that the identifier of a removed object is not soon another's. An object that has been
// removed stays alive for those who hold it: sleepers learn of it by EIDRM, and the memory of a segment goes with the last
// mapping.
//
// A segment is a file of tmpfs without a name; attaching is mapping it. How often it is attached is counted in the books
// of all address spaces when somebody asks, since programs may unmap without the kernel seeing it.
//
// Operations on semaphores that cannot be done wait in a list of their set; whoever changes the set carries them out in
// order. Undo has what semop(2) with SEM_UNDO takes back when a process ends.
//
// A POSIX queue is an inode of the mqueue file system, of which there is one instance for all mounts. Priorities are kept
// as Linux does: highest first, and first in first out among equals.
//
// # Lock order
//
// table.mu, then the mu of one object, then Undo.mu; in mqueue Super.mu, then Queue.mu. Wait queues are leaves. No lock is
// held while a caller sleeps, and none over guest memory or mm.
//
// # Not here
//
// Name spaces of CLONE_NEWIPC, huge pages, and the decoding of structures (package syscalls).
package ipc
