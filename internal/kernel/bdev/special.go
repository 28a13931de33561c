package bdev

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// RegisterSpecial registers the block special files with the vfs.
func RegisterSpecial() {
	vfs.SyncDevices = SyncAll
	vfs.RegisterBlkdev(Major, 0, 256*MinorsPerDisk, "ubd", OpenSpecial)
	vfs.RegisterBlkdev(ExtMajor, 0, 1<<20, "blkext", OpenSpecial)
}

// OpenSpecial opens a block special file by its inode's device number.
func OpenSpecial(_ vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	a := f.Inode.Attr()
	n := ByRdev(a.Rdev)
	if n == nil {
		return nil, unix.ENXIO
	}
	return n.OpenFile(f.Flags())
}

// OpenFile makes the operations of a block special file opened with the given flags (open(2)). EROFS for writing to a
// read-only disk, EBUSY for O_EXCL on a node that a file system holds.
func (n *Node) OpenFile(flags uint32) (vfs.FileOps, error) {
	if flags&unix.O_ACCMODE != unix.O_RDONLY && n.ReadOnly() {
		return nil, unix.EROFS
	}
	s := &special{n: n}
	s.seen.Store(n.failed.sample())
	var holder any
	if flags&unix.O_EXCL != 0 {
		s.exclusive = true
		holder = s
	}
	if err := n.Open(holder); err != nil {
		return nil, err
	}
	return s, nil
}

// special is an open block special file. Small writes are held back for a while (see writeback), and who reads a little at a
// time in order gets more from the device than he asked for (see window). Everything else is in the host's page cache
// already, and goes between it and the guest's memory at once. What a mounted file system has in memory is put over what is
// read, and it is told of writes.
type special struct {
	vfs.FileBase
	n         *Node
	exclusive bool
	ahead     window
	seen      atomic.Uint64 // of n.failed
}

// Release ends the open.
func (s *special) Release(*vfs.File) {
	s.ahead.drop()
	if s.exclusive {
		s.n.Close(s)
	} else {
		s.n.Close(nil)
	}
}

func (s *special) readAt(p []byte, off int64) error {
	if s.n.disk.wb.read(p, s.n.start+off) {
		return nil
	}
	if _, err := s.n.ReadAt(p, off); err != nil {
		return err
	}
	if c := s.n.cacher.Load(); c != nil {
		(*c).Overlay(p, off)
	}
	return nil
}

// writeAt writes whole sectors, or holds them until later.
func (s *special) writeAt(p []byte, off int64, direct bool) error {
	n := s.n
	if !direct {
		if n.ReadOnly() {
			return unix.EROFS
		}
		if err := n.check(off, int64(len(p))); err != nil {
			return err
		}
		if n.disk.wb.hold(n, p, n.start+off) {
			return nil
		}
	}
	if _, err := n.WriteAt(p, off); err != nil {
		return err
	}
	if c := n.cacher.Load(); c != nil {
		(*c).Written(p, off)
	}
	return nil
}

// Aligned reports whether a transfer may be made: with O_DIRECT only whole sectors, to and from memory that is aligned alike
// (open(2)).
func Aligned(f *vfs.File, io *uio.IO, off int64) bool {
	return f == nil || f.Flags()&unix.O_DIRECT == 0 || off%SectorSize == 0 && io.Len()%SectorSize == 0 && io.Aligned(SectorSize)
}

const (
	bounceSize = 256 << 10
	// viewSize is the size from which reads are worth a copy straight from the host's pages.
	viewSize = 32 << 10
)

var bounces = sync.Pool{New: func() any { p := make([]byte, bounceSize); return &p }}

// Read reads any bytes: what is not whole sectors goes through a buffer.
func (s *special) Read(_ vfs.Caller, f *vfs.File, dst *uio.Dst, off int64) (int, error) {
	n := s.n
	if off < 0 || !Aligned(f, &dst.IO, off) {
		return 0, unix.EINVAL
	}
	if off >= n.Size() {
		return 0, nil
	}
	left := int(min(int64(dst.Len()), n.Size()-off))
	done := 0
	if left < viewSize && !direct(f) {
		for done < left {
			p := s.ahead.get(n, off, int64(left-done))
			if p == nil {
				break
			}
			k, err := dst.CopyOut(p)
			s.ahead.put()
			if done, off = done+k, off+int64(k); err != nil {
				return short(done, err)
			}
		}
	} else if n.cacher.Load() == nil && dst.Guest() {
		if v := n.View(off, int64(left)); v != nil {
			k, err := dst.CopyMapped(v)
			if done, off = k, off+int64(k); err == nil {
				return done, nil
			}
			// Either side may have faulted: reading the rest in the other way tells which.
		}
	}
	if done == left {
		return done, nil
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for done < left {
		skip := int(off % SectorSize)
		k := min(left-done, bounceSize-skip)
		p := (*buf)[:(skip+k+SectorSize-1)&^(SectorSize-1)]
		if err := s.readAt(p, off-int64(skip)); err != nil {
			return short(done, err)
		}
		k, err := dst.CopyOut(p[skip : skip+k])
		done, off = done+k, off+int64(k)
		if err != nil {
			return short(done, err)
		}
	}
	return done, nil
}

// direct reports whether a file was opened for direct I/O.
func direct(f *vfs.File) bool { return f != nil && f.Flags()&unix.O_DIRECT != 0 }

// short hides an error behind a short count.
func short(done int, err error) (int, error) {
	if done > 0 {
		return done, nil
	}
	return 0, err
}

// Write writes any bytes: sectors that are written in part are read first. ENOSPC at the end of the device.
func (s *special) Write(_ vfs.Caller, f *vfs.File, src *uio.Src, off int64) (int, error) {
	n := s.n
	if off < 0 || !Aligned(f, &src.IO, off) {
		return 0, unix.EINVAL
	}
	if src.Len() == 0 {
		return 0, nil
	}
	if off >= n.Size() {
		return 0, unix.ENOSPC
	}
	left := int(min(int64(src.Len()), n.Size()-off))
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	done := 0
	for done < left {
		k, err := s.writePiece(*buf, src, off, left-done, direct(f))
		done, off = done+k, off+int64(k)
		if err != nil {
			return short(done, err)
		}
	}
	return done, nil
}

// writePiece writes at most len(buf) bytes.
func (s *special) writePiece(buf []byte, src *uio.Src, off int64, want int, direct bool) (int, error) {
	n := s.n
	skip := int(off % SectorSize)
	k := min(want, len(buf)-skip)
	end := (skip + k + SectorSize - 1) &^ (SectorSize - 1)
	p := buf[:end]
	if skip != 0 || (skip+k)%SectorSize != 0 {
		n.rmw.Lock()
		defer n.rmw.Unlock()
		if err := s.readAt(p[:SectorSize], off-int64(skip)); err != nil {
			return 0, err
		}
		if end > SectorSize {
			if err := s.readAt(p[end-SectorSize:], off-int64(skip)+int64(end-SectorSize)); err != nil {
				return 0, err
			}
		}
	}
	got, err := src.CopyIn(p[skip : skip+k])
	if got < k { // a fault: write the whole sectors that were copied
		p = p[:(skip+got)&^(SectorSize-1)]
		got = max(len(p)-skip, 0)
	}
	if got == 0 {
		return 0, err
	}
	if werr := s.writeAt(p, off-int64(skip), direct); werr != nil {
		return 0, werr
	}
	return got, err
}

// Fsync makes durable what was written to the node, by whomever. A write that has failed since is told once.
func (s *special) Fsync(vfs.Caller, *vfs.File, bool) error {
	n := s.n
	n.disk.wb.clean(n.start, n.Size())
	err := n.flush()
	if failed := n.failed.check(&s.seen); failed != nil {
		return failed
	}
	return err
}

// Fallocate is fallocate(2), which zeroes a range (ZERO_RANGE) or gives its space back, too (PUNCH_HOLE).
func (s *special) Fallocate(_ vfs.Caller, _ *vfs.File, mode uint32, off, n int64) error {
	const keep, zero, punch = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_PUNCH_HOLE
	size := s.n.Size()
	if off >= size || n > size-off && mode&keep == 0 {
		return unix.EINVAL
	}
	if n = min(n, size-off); (off|n)%SectorSize != 0 {
		return unix.EINVAL
	}
	switch mode &^ keep {
	case zero, punch:
	default:
		return unix.EOPNOTSUPP
	}
	err := s.n.WriteZeroes(off, n)
	if err == nil && mode&punch != 0 && s.n.Limits().DiscardGranularity > 0 {
		_ = s.n.Discard(off, n) // the zeroes are there
	}
	return err
}

// Seek is lseek(2): the end is the device's, not the inode's.
func (s *special) Seek(_ vfs.Caller, f *vfs.File, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_END:
		if off > 0 {
			return 0, unix.EINVAL
		}
		off, whence = s.n.Size()+off, unix.SEEK_SET
	case unix.SEEK_SET, unix.SEEK_CUR:
	default:
		return 0, unix.EINVAL
	}
	off, err := vfs.GenericSeek(f, off, whence)
	if err == nil && off > s.n.Size() {
		err = unix.EINVAL
	}
	return off, err
}

// Requests that golang.org/x/sys does not have (linux/fs.h, linux/hdreg.h), and the geometry of ubd disks.
const (
	blkBszSet    = 0x40081271
	blkpg        = 0x1269
	hdioGetGeo   = 0x0301
	hdioIdentity = 0x030d

	blkGetDiskSeq = 0x80081280

	heads, sectors = 128, 32
)

// Ioctl has the requests of blkdev (blockdev(8), fdisk, mkfs use them) and of ubd.
func (s *special) Ioctl(c vfs.Caller, f *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	n, le := s.n, binary.LittleEndian
	put := func(b []byte) (uint64, error) { return 0, uio.WriteFull(c.Mem(), b, arg) }
	put32 := func(v uint32) (uint64, error) { return put(le.AppendUint32(nil, v)) }
	put64 := func(v uint64) (uint64, error) { return put(le.AppendUint64(nil, v)) }
	admin := func() error {
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return unix.EACCES
		}
		return nil
	}
	lim := n.Limits()
	switch cmd {
	case unix.BLKGETSIZE:
		return put64(uint64(n.Size() / SectorSize))
	case unix.BLKGETSIZE64:
		return put64(uint64(n.Size()))
	case unix.BLKSSZGET:
		return put32(SectorSize)
	case unix.BLKPBSZGET, unix.BLKIOMIN:
		return put32(uint32(lim.PhysicalBlock))
	case unix.BLKIOOPT, unix.BLKALIGNOFF, unix.BLKDISCARDZEROES:
		return put32(0)
	case unix.BLKROTATIONAL:
		v := uint16(0)
		if lim.Rotational {
			v = 1
		}
		return put(le.AppendUint16(nil, v))
	case unix.BLKBSZGET:
		return put32(4096)
	case blkBszSet:
		return 0, admin()
	case unix.BLKROGET:
		v := uint32(0)
		if n.ReadOnly() {
			v = 1
		}
		return put32(v)
	case unix.BLKROSET:
		if err := admin(); err != nil {
			return 0, err
		}
		var b [4]byte
		if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
			return 0, err
		}
		n.ro.Store(le.Uint32(b[:]) != 0)
		return 0, nil
	case blkpg:
		if err := admin(); err != nil {
			return 0, err
		}
		return 0, s.partitionRequest(c, arg)
	case unix.BLKRAGET, unix.BLKFRAGET:
		return put64(uint64(n.disk.ReadAhead() / SectorSize))
	case unix.BLKRASET, unix.BLKFRASET:
		err := admin()
		if err == nil {
			n.disk.SetReadAhead(int64(min(arg, 1<<32)) * SectorSize)
		}
		return 0, err
	case unix.BLKSECTGET:
		return put(le.AppendUint16(nil, 1280))
	case unix.BLKFLSBUF:
		if err := admin(); err != nil {
			return 0, err
		}
		n.disk.wb.clean(n.start, n.Size())
		return 0, n.flush()
	case unix.BLKRRPART:
		if err := admin(); err != nil {
			return 0, err
		}
		if n.partno != 0 || !n.disk.scans() {
			return 0, unix.EINVAL
		}
		return 0, n.disk.Rescan()
	case unix.BLKDISCARD, unix.BLKZEROOUT, unix.BLKSECDISCARD:
		return 0, s.rangeRequest(c, f, cmd, arg)
	case blkGetDiskSeq:
		return put64(n.disk.Seq())
	case hdioGetGeo:
		var b [16]byte
		b[0], b[1] = heads, sectors
		le.PutUint16(b[2:], uint16(n.disk.whole.Size()/(heads*sectors*SectorSize)))
		le.PutUint64(b[8:], uint64(n.start/SectorSize))
		return put(b[:])
	case hdioIdentity:
		return put(n.identity())
	}
	if d, ok := n.disk.Dev.(Ioctler); ok {
		return d.Ioctl(c, f, cmd, arg)
	}
	return 0, unix.ENOTTY
}

// partitionRequest is BLKPG (linux/blkpg.h): struct blkpg_ioctl_arg with a struct blkpg_partition.
func (s *special) partitionRequest(c vfs.Caller, arg uint64) error {
	const addPartition, delPartition = 1, 2
	if s.n.partno != 0 {
		return unix.EINVAL
	}
	le := binary.LittleEndian
	var b [24]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	var p [20]byte // start, length, number
	if err := uio.ReadFull(c.Mem(), p[:], le.Uint64(b[16:])); err != nil {
		return err
	}
	start, size, number := int64(le.Uint64(p[:])), int64(le.Uint64(p[8:])), int(int32(le.Uint32(p[16:])))
	switch le.Uint32(b[:]) {
	case addPartition:
		if (start|size)%SectorSize != 0 {
			return unix.EINVAL
		}
		return s.n.disk.AddPart(number, start, size)
	case delPartition:
		return s.n.disk.DelPart(number)
	}
	return unix.EINVAL
}

// rangeRequest is BLKDISCARD and BLKZEROOUT: an array of offset and length.
func (s *special) rangeRequest(c vfs.Caller, f *vfs.File, cmd uint32, arg uint64) error {
	if !f.Writable() {
		return unix.EBADF
	}
	if s.n.ReadOnly() {
		return unix.EPERM
	}
	var b [16]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	off, size := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	if (off|size)%SectorSize != 0 || off > uint64(s.n.Size()) || size > uint64(s.n.Size())-off {
		return unix.EINVAL
	}
	switch cmd {
	case unix.BLKDISCARD:
		return s.n.Discard(int64(off), int64(size))
	case unix.BLKZEROOUT:
		return s.n.WriteZeroes(int64(off), int64(size))
	}
	return unix.EOPNOTSUPP
}

// identity is the ATA identity page (struct hd_driveid), of which only geometry and names are filled.
func (n *Node) identity() []byte {
	b, le := make([]byte, 512), binary.LittleEndian
	le.PutUint16(b[2:], uint16(n.disk.whole.Size()/(heads*sectors*SectorSize)))
	le.PutUint16(b[6:], heads)
	le.PutUint16(b[12:], sectors)
	swap := func(dst []byte, s string) { // ATA strings have the bytes of each word swapped
		for i := range dst {
			dst[i] = ' '
		}
		copy(dst, s)
		for i := 0; i+1 < len(dst); i += 2 {
			dst[i], dst[i+1] = dst[i+1], dst[i]
		}
	}
	swap(b[20:40], n.disk.Serial)
	copy(b[54:94], "User-Mode Linux disk")
	return b
}
