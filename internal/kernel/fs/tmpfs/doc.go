// Package tmpfs is the file system in memory: tmpfs(5), ramfs and the root that an initramfs is unpacked into, and the
// files behind memfd_create(2) and shared anonymous memory.
//
// The bytes of a regular file are pages on the Go heap until somebody maps it. Then they move into a host memory object
// (platform.Memfile), one for the inode, and read and write go through that: so thousands of small files need no host
// descriptors, and a mapped file is the host's pages.
//
// Lock order: the vfs's directory locks, then inode.mu of one inode at a time; superBlock counters are atomic.
//
// Not here: huge pages, memory policies, quotas, collapse and insert of ranges.
package tmpfs
