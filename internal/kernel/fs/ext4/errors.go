package ext4

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// Errors of corrupt file systems (EFSCORRUPTED and EFSBADCRC in Linux).
const (
	errCorrupt = unix.EUCLEAN
	errBadCRC  = unix.EBADMSG
)

// Panic ends the guest, for errors=panic; the kernel sets it at boot.
var Panic func(text string)

// errorf logs damage as Linux does, does what the option errors= asks for, and returns err. The caller may hold any lock.
func (sb *superBlock) errorf(err error, format string, args ...any) error {
	klog.Printf(klog.Crit, "EXT4-fs error (device %s): %s", sb.dev.Name(), fmt.Sprintf(format, args...))
	if sb.ro.Load() {
		return err
	}
	first := !sb.damaged.Swap(true)
	action := sb.s.Errors
	if o := sb.opts.Load(); o.onError != 0 {
		action = o.onError
	}
	switch {
	case action == disk.ErrorsRO:
		sb.stopAtError()
	case action == disk.ErrorsPanic && Panic != nil:
		Panic(fmt.Sprintf("EXT4-fs (device %s): panic forced after error", sb.dev.Name()))
	case first:
		go sb.recordError()
	}
	return err
}

// damage turns an error of package disk into an errno, with a log line.
func (sb *superBlock) damage(err error, format string, args ...any) error {
	switch err {
	case disk.ErrCorrupt:
		return sb.errorf(errCorrupt, format+": corrupt structure", args...)
	case disk.ErrChecksum:
		return sb.errorf(errBadCRC, format+": checksum failure", args...)
	}
	return err
}

// abort makes the file system read-only after an error that leaves memory and disk different.
func (sb *superBlock) abort(err error, what string) error {
	if !sb.aborted.Load() {
		klog.Printf(klog.Crit, "EXT4-fs error (device %s): %s: %v", sb.dev.Name(), what, err)
		sb.stopAtError()
	}
	return unix.EIO
}

// stopAtError makes the file system read-only, as it is on the device: nothing that is only in memory is written any more.
func (sb *superBlock) stopAtError() {
	if sb.aborted.Swap(true) {
		return
	}
	klog.Printf(klog.Crit, "EXT4-fs (%s): Remounting filesystem read-only", sb.dev.Name())
	sb.ro.Store(true)
	sb.damaged.Store(true)
	go sb.recordError()
}

// recordError marks the superblock on the device, for e2fsck at the next boot. What the cache has is left alone: it may
// belong to a transaction that is never written.
func (sb *superBlock) recordError() {
	w := sb.w
	w.commitMu.Lock()
	defer w.commitMu.Unlock()
	p := make([]byte, disk.SuperSize)
	if _, err := sb.dev.ReadAt(p, disk.SuperOffset); err != nil {
		return
	}
	var s disk.Super
	s.Decode(p)
	if s.Magic != disk.SuperMagic {
		return
	}
	s.State |= disk.StateError
	s.ErrorCount++
	s.Encode(p)
	_, err := sb.dev.WriteAt(p, disk.SuperOffset)
	if err == nil {
		err = sb.dev.Flush()
	}
	if err != nil {
		klog.Errf("EXT4-fs (%s): I/O error while writing superblock", sb.dev.Name())
	}
}
