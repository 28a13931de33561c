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
// Lock order: registry.mu and Node.mu are leaves. Buffer.mu, held while the device is read or written, comes before
// Cache.mu. Device methods are called without registry.mu, Node.mu and Cache.mu.
//
// Not here: request queues and schedulers (the host has them), a page cache for file data and for block special files (the
// host's page cache is it).
package bdev
