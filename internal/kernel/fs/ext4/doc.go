// Package ext4 is the ext2, ext3 and ext4 file system.
//
// The layout of the disk is in package disk, the journal's in package jbd2; here is what a mounted file system does. A
// superBlock reads metadata through a bdev.Cache and verifies every checksum once per read; file data goes straight between
// the device and the reader or writer without a cache of its own, because the host's page cache holds the image already.
//
// An inode is loaded by iget and shared by number: the table holds weak pointers, so the same *inode comes back for as long
// as anybody holds it; dead pointers are swept out when the table has doubled. What has been changed is held by the writer
// until it is stored.
//
// Block maps (extents, indirect blocks, inline data) all answer one question, mapBlock: which run of physical blocks,
// hole or unwritten space begins at this logical block. Reading, directories, SEEK_HOLE and mapping are built on it.
//
// Writing. A change of metadata lies between begin and end, one at a time. It changes cached blocks, which join the
// running transaction, and inodes and group descriptors in memory, which the commit writes to their blocks, with the
// checksums of bitmaps. A commit copies the blocks of the transaction while no change is under way and writes them to
// the journal, or without one to their places. A checkpoint writes committed blocks to their places and empties the
// journal. Data is on the device before the transaction that makes it part of a file (ordered mode). What can take many
// blocks (truncation, holes) is cut into several changes, with the inode on the list of orphans meanwhile. Freed blocks
// are held: nobody gets them before the commit, so that a crash never finds them in two files, nor while they are
// mapped from the image; metadata that is freed is revoked. ENOSPC commits and tries again once if that gives blocks.
//
// mmap: pages that lie aligned in the image are mapped from it: all on a read-only file system, else private ones of files
// that nobody has open for writing, as programs and libraries are. Blocks under such mappings are not given to others when
// they are freed, so that a mapping never shows another file's bytes. It shows later writes to its own file if those are in
// place, and goes on to show what is cut off, where Linux sends SIGBUS (what a private mapping shows of later changes is
// unspecified, mmap(2)). Everything else is a Memfile, one for an inode: write, truncation and holes go to it, too, and while
// there is a shared writable mapping it is newer than the device and written back by msync, fsync, sync and with the last
// mapping.
//
// The image is not trusted: every number from it is checked where it is used, trees have a bounded depth, directory
// chains end with their size. What is wrong gives EUCLEAN, a wrong checksum EBADMSG, and a line in the log. An error after
// which memory and disk differ makes the file system read-only.
//
// Lock order: writer.commitMu, inode.io, writer.handle, writer.mu, inode.mu (of several inodes only with writer.mu),
// inode.memMu, inode.attrMu, writer.dirtyMu, writer.itable, inodeTable.mu; then the bdev.Cache's locks. inode.io comes before
// a commit of the same goroutine, never after one's commitMu.
//
// Data modes: ordered and writeback are one, data before the metadata that refers to it. With data=journal, and of files with
// the flag j, content is written as metadata is (data_journal.go).
//
// Features that are read but not written: bigalloc, quota, MMP and external journals; such a file system is mounted
// read-only and says which it is. Encrypted and verity files cannot be opened, and casefold is refused, as by a kernel without
// the code for them. Orphans are noted in the list of the superblock; what Linux has left in the orphan file moves there. Fast
// commits are not made, and a journal that has some is not replayed. Not here: delayed allocation, online resizing.
package ext4
