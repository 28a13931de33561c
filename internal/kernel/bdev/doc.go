// Package bdev has the block devices of the guest: the interface that drivers implement, the registry of disks and their
// partitions, the block special files under /dev, and a buffer cache for file system metadata.
//
// A driver (internal/ubd) implements Device and calls Register with a Disk. Register reads the partition table; the disk
// and each partition become a Node, which is itself a Device bounded to its range and counts statistics. File systems and
// block special files work on Nodes.
//
// Optional parts of a Device are interfaces: Viewer (the device's bytes are in the kernel's memory), Mapper (which host file
// holds a byte range, for mapping file pages straight from the image) and PageMapper (the same while the device is written,
// for mapping its block special file).
//
// Cache is a write-back-ready buffer cache over one Device: bounded, with read-ahead, and with the dirty state and flush
// order that a journal needs.
//
// Block special files hold small writes back for a while and write them in long runs (writeback), and read ahead of who
// reads them in order (window). Whoever else looks at the disk finds what was written before.
//
// Lock order: registry.mu and Node.mu are leaves. Buffer.mu, held while the device is read or written, comes before
// Cache.mu. special's rmw and window.mu come before writeback.run, that before writeback.mu, a leaf. Device methods are
// called without registry.mu, Node.mu, Cache.mu and writeback.mu; a loop device's enter the special file of the disk below.
//
// Not here: request queues and schedulers (the host has them), a cache for what was read from a disk (the host's page cache
// is it).
package bdev
