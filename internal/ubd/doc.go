// Package ubd has the guest's disks: image files and block devices of the host as bdev.Devices.
//
// A Set holds the disks of one guest. Setup takes an option of the command line (ubd0=file, ubd=sync), opens the files and
// registers the disk with bdev; Config, Remove and Query are what the management console does at run time.
//
// Parse knows the option's syntax, raw.go files, cow.go pairs of a COW file and its backing file, lock.go keeps two
// guests from writing one file.
//
// Reads never change a host file; only a shared mapping of a COW disk's special file copies what it maps to the COW file. A
// disk is read-only if it was asked to be (flag r), if the host lets the file be only read, or if it is a COW pair of an old
// version. File systems map the files' pages straight into guest processes.
//
// Lock order: Set.mu is outermost; it is held while files are opened. Then cow.upMu, cow.flushMu and cow.mu, a leaf.
package ubd
