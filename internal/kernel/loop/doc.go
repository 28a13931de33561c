// Package loop has the loop devices (loop(4)): block devices whose content is a file of the guest.
//
// Devices are made by /dev/loop-control or are there from the start, without content. LOOP_SET_FD and LOOP_CONFIGURE bind a
// device to a file, LOOP_CLR_FD unbinds it: at once, or if somebody has it open with the last close. Reads and writes go to
// the file with the rights of who opened it; a write beyond what the file's file system has room for is ENOSPC, and any other
// failure EIO.
//
// Lock order: control.mu, device.ctl, then bdev's registry; device.mu is a leaf. ctl is held while partitions are read, which
// reads the file.
//
// Not here: encryption, and direct I/O other than as a flag that is kept (there is no cache to go round).
package loop
