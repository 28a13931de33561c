package loop

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Requests, flags and layouts of linux/loop.h.
const (
	loopSetFD        = 0x4c00
	loopClrFD        = 0x4c01
	loopSetStatus    = 0x4c02
	loopGetStatus    = 0x4c03
	loopSetStatus64  = 0x4c04
	loopGetStatus64  = 0x4c05
	loopChangeFD     = 0x4c06
	loopSetCapacity  = 0x4c07
	loopSetDirectIO  = 0x4c08
	loopSetBlockSize = 0x4c09
	loopConfigure    = 0x4c0a
	loopCtlAdd       = 0x4c80
	loopCtlRemove    = 0x4c81
	loopCtlGetFree   = 0x4c82

	flagReadOnly  = 1
	flagAutoclear = 4
	flagPartscan  = 8
	flagDirectIO  = 16

	setFlags   = flagAutoclear | flagPartscan // that LOOP_SET_STATUS sets
	clearFlags = flagAutoclear                // that it clears
	allFlags   = flagReadOnly | flagAutoclear | flagPartscan | flagDirectIO

	nameSize   = 64
	info64Size = 232
	infoSize   = 168
	configSize = 304
)

// info is struct loop_info64.
type info struct {
	device, inode, rdevice uint64
	offset, limit          uint64
	number, encrypt, flags uint32
	name, crypt            [nameSize]byte
}

func decodeInfo64(p []byte) (i info) {
	le := binary.LittleEndian
	i.offset, i.limit = le.Uint64(p[24:]), le.Uint64(p[32:])
	i.encrypt, i.flags = le.Uint32(p[44:]), le.Uint32(p[52:])
	copy(i.name[:], p[56:])
	copy(i.crypt[:], p[120:])
	return i
}

func (i *info) encode64() []byte {
	p, le := make([]byte, info64Size), binary.LittleEndian
	le.PutUint64(p, i.device)
	le.PutUint64(p[8:], i.inode)
	le.PutUint64(p[16:], i.rdevice)
	le.PutUint64(p[24:], i.offset)
	le.PutUint64(p[32:], i.limit)
	le.PutUint32(p[40:], i.number)
	le.PutUint32(p[52:], i.flags)
	copy(p[56:], i.name[:])
	copy(p[120:], i.crypt[:])
	return p
}

// decodeInfo and encode are the old struct loop_info of 64-bit machines, which has no size limit.
func decodeInfo(p []byte) (i info) {
	le := binary.LittleEndian
	i.offset, i.encrypt, i.flags = uint64(int64(int32(le.Uint32(p[32:])))), le.Uint32(p[36:]), le.Uint32(p[44:])
	copy(i.name[:], p[48:])
	return i
}

func (i *info) encode() []byte {
	p, le := make([]byte, infoSize), binary.LittleEndian
	le.PutUint32(p, i.number)
	le.PutUint64(p[8:], i.device)
	le.PutUint64(p[16:], i.inode)
	le.PutUint64(p[24:], i.rdevice)
	le.PutUint32(p[32:], uint32(i.offset))
	le.PutUint32(p[44:], i.flags)
	copy(p[48:], i.name[:])
	return p
}

// Ioctl is bdev.Ioctler's (loop(4)).
func (d *device) Ioctl(c vfs.Caller, f *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case loopGetStatus, loopGetStatus64:
		i, err := d.info()
		if err != nil {
			return 0, err
		}
		if cmd == loopGetStatus {
			if int64(i.offset) != int64(int32(i.offset)) || i.limit != 0 {
				return 0, unix.EOVERFLOW
			}
			return 0, uio.WriteFull(c.Mem(), i.encode(), arg)
		}
		return 0, uio.WriteFull(c.Mem(), i.encode64(), arg)
	case loopSetFD, loopConfigure, loopChangeFD, loopClrFD, loopSetStatus, loopSetStatus64, loopSetCapacity, loopSetDirectIO, loopSetBlockSize:
	default:
		return 0, unix.ENOTTY
	}
	if !f.Writable() && !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	d.ctl.Lock()
	defer d.ctl.Unlock()
	switch cmd {
	case loopSetFD:
		return 0, d.bind(c, f, int32(arg), info{}, 0)
	case loopConfigure:
		var p [configSize]byte
		if err := uio.ReadFull(c.Mem(), p[:], arg); err != nil {
			return 0, err
		}
		i := decodeInfo64(p[8:])
		if i.flags&^allFlags != 0 {
			return 0, unix.EINVAL
		}
		return 0, d.bind(c, f, int32(binary.LittleEndian.Uint32(p[:])), i, binary.LittleEndian.Uint32(p[4:]))
	}
	b := d.peek()
	if b == nil {
		return 0, unix.ENXIO
	}
	switch cmd {
	case loopClrFD:
		if d.disk.Opens() > 1 {
			b.flags.Or(flagAutoclear)
			return 0, nil
		}
		b.flags.Or(flagAutoclear) // LastClose, when this descriptor is closed
	case loopSetStatus, loopSetStatus64:
		p := make([]byte, info64Size)
		if cmd == loopSetStatus {
			p = p[:infoSize]
		}
		if err := uio.ReadFull(c.Mem(), p, arg); err != nil {
			return 0, err
		}
		i := decodeInfo64
		if cmd == loopSetStatus {
			i = decodeInfo
		}
		return 0, d.change(b, i(p))
	case loopChangeFD:
		return 0, d.changeFile(c, b, int32(arg))
	case loopSetCapacity:
		d.disk.Resized()
	case loopSetDirectIO:
		if arg != 0 {
			b.flags.Or(flagDirectIO)
		} else {
			b.flags.And(^uint32(flagDirectIO))
		}
	case loopSetBlockSize:
		return 0, blockSize(uint32(min(arg, 1<<31)))
	}
	return 0, nil
}

// blockSize accepts the only logical block size that there is.
func blockSize(n uint32) error {
	if n != 0 && n != bdev.SectorSize {
		return unix.EINVAL
	}
	return nil
}

// info is what LOOP_GET_STATUS tells.
func (d *device) info() (i info, err error) {
	b := d.get()
	if b == nil {
		return i, unix.ENXIO
	}
	defer b.users.Done()
	a := b.file.Inode.Attr()
	i = info{inode: a.Ino, rdevice: a.Rdev, offset: uint64(b.offset), limit: uint64(b.limit), number: uint32(d.index),
		flags: b.flags.Load(), name: b.name, crypt: b.crypt}
	if b.file.Path.Mount != nil {
		i.device = b.file.Path.Mount.Super().Dev()
	}
	return i, nil
}

// fileOf finds the file of a descriptor of the caller that a device can be bound to.
func (d *device) fileOf(c vfs.Caller, fd int32) (*vfs.File, error) {
	t, ok := c.(interface{ Files() *vfs.FDTable })
	if !ok {
		return nil, unix.EBADF
	}
	f, err := t.Files().GetFile(fd)
	if err != nil {
		return nil, err
	}
	a := f.Inode.Attr()
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		if d.loops(a.Rdev) {
			err = unix.EBADF
		}
	default:
		err = unix.EINVAL
	}
	if err == nil && !f.Readable() {
		err = unix.EBADF
	}
	if err != nil {
		f.DecRef()
		return nil, err
	}
	return f, nil
}

// loops reports whether a block device is this one, or is bound to it.
func (d *device) loops(rdev uint64) bool {
	for range maxDevices {
		n := bdev.ByRdev(rdev)
		if n == nil {
			return false
		}
		o, ok := n.Disk().Dev.(*device)
		if !ok {
			return false
		}
		if o == d {
			return true
		}
		b := o.peek()
		if b == nil {
			return false
		}
		a := b.file.Inode.Attr()
		if a.Mode&unix.S_IFMT != unix.S_IFBLK {
			return false
		}
		rdev = a.Rdev
	}
	return true
}

// bind binds the device to a file.
func (d *device) bind(c vfs.Caller, dev *vfs.File, fd int32, i info, size uint32) error {
	if d.peek() != nil {
		return unix.EBUSY
	}
	if err := blockSize(size); err != nil {
		return err
	}
	file, err := d.fileOf(c, fd)
	if err != nil {
		return err
	}
	b := &binding{file: file, path: vfs.PathName(c, file.Path)}
	b.flags.Store(i.flags)
	b.readOnly = i.flags&flagReadOnly != 0 || !file.Writable() || !dev.Writable()
	if b.readOnly {
		b.flags.Or(flagReadOnly)
	}
	if err := b.set(i); err != nil {
		file.DecRef()
		return err
	}
	d.disk.NewContent()
	d.replace(b)
	return nil
}

// set takes offset, limit and names.
func (b *binding) set(i info) error {
	if i.encrypt != 0 {
		return unix.EINVAL
	}
	if int64(i.offset) < 0 || int64(i.limit) < 0 {
		return unix.EOVERFLOW
	}
	b.offset, b.limit = int64(i.offset), int64(i.limit)
	b.name, b.crypt = i.name, i.crypt
	b.name[nameSize-1], b.crypt[nameSize-1] = 0, 0
	return nil
}

// change is LOOP_SET_STATUS.
func (d *device) change(old *binding, i info) error {
	b := &binding{file: old.file, path: old.path, readOnly: old.readOnly}
	if err := b.set(i); err != nil {
		return err
	}
	if d.mapped.Load() != 0 && b.offset != old.offset {
		return unix.EBUSY
	}
	b.flags.Store(old.flags.Load()&^clearFlags | i.flags&setFlags)
	d.disk.Sync()
	d.replace(b)
	return nil
}

// changeFile is LOOP_CHANGE_FD: a read-only device gets another file of the same size.
func (d *device) changeFile(c vfs.Caller, old *binding, fd int32) error {
	if !old.readOnly {
		return unix.EINVAL
	}
	if d.mapped.Load() != 0 { // its pages are the old file's
		return unix.EBUSY
	}
	file, err := d.fileOf(c, fd)
	if err != nil {
		return err
	}
	if fileSize(file) != fileSize(old.file) {
		file.DecRef()
		return unix.EINVAL
	}
	b := &binding{file: file, path: vfs.PathName(c, file.Path), offset: old.offset, limit: old.limit, name: old.name,
		crypt: old.crypt, readOnly: true}
	b.flags.Store(old.flags.Load())
	d.replace(b)
	return nil
}
