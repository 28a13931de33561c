// Package ext4 is the ext2, ext3 and ext4 file system.
//
// The layout of the disk is in package disk, replay of the journal in package jbd2; here is what a mounted file system
// does. A superBlock reads metadata through a bdev.Cache and verifies every checksum once per read; file data goes straight
// from the device to the reader without a cache of its own, because the host's page cache holds the image already.
//
// An inode is loaded by iget and shared by number: the cache holds weak pointers, so the same *inode comes back for as long
// as anybody holds it and costs nothing after that.
//
// Block maps (extents, indirect blocks, inline data) all answer one question, mapBlock: which run of physical blocks,
// hole or unwritten space begins at this logical block. Reading, directories, SEEK_HOLE and mapping are built on it.
//
// mmap: file pages that lie aligned in the image are mapped from it, because nothing writes the blocks of a mounted file
// (what root does to the block special file is root's affair). Everything else is copied to a Memfile.
//
// The image is not trusted: every number from it is checked where it is used, trees have a bounded depth, directory
// chains end with their size. What is wrong gives EUCLEAN, a wrong checksum EBADMSG, and a line in the log.
//
// Lock order: inodeTable.mu and inode.mu (Memfile) are leaves apart from the bdev.Cache's locks, which come
// last. The fields of an inode are immutable, because the file system is read-only.
//
// Not here: writing. A mount that asks for it is made read-only and says so.
package ext4
