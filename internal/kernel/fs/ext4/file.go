package ext4

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// file is an open regular file.
type file struct {
	vfs.FileBase
	in *inode
}

// Release ends an open file.
func (f *file) Release(vf *vfs.File) {
	if vf != nil && vf.Writable() {
		f.in.writers.Add(-1)
	}
}

// Read is read(2) and pread(2).
func (f *file) Read(_ vfs.Caller, vf *vfs.File, dst *uio.Dst, off int64) (int, error) {
	if !bdev.Aligned(vf, &dst.IO, off) {
		return 0, unix.EINVAL
	}
	return f.in.read(dst, off)
}

// Seek is lseek(2).
func (f *file) Seek(_ vfs.Caller, vf *vfs.File, off int64, whence int) (int64, error) {
	if whence == unix.SEEK_DATA || whence == unix.SEEK_HOLE {
		f.in.mu.RLock()
		defer f.in.mu.RUnlock()
		if off < 0 || off >= f.in.attr.Size {
			return 0, unix.ENXIO
		}
		return f.in.seekData(off, whence == unix.SEEK_HOLE)
	}
	n, err := vfs.GenericSeek(vf, off, whence)
	if err == nil && n > f.in.limit() {
		return 0, unix.EINVAL
	}
	return n, err
}

// seekData finds the next data or hole from off, which is below the size.
func (in *inode) seekData(off int64, wantHole bool) (int64, error) {
	size := in.attr.Size
	if in.inline() {
		if wantHole {
			return size, nil
		}
		return off, nil
	}
	for at := off; at < size; {
		r, err := in.mapBlock(uint64(at) >> in.sb.blockBits)
		if err != nil {
			return 0, err
		}
		end := int64(min((r.start+r.n)<<in.sb.blockBits, uint64(size)))
		from, to := at, end // of data
		if r.kind != written {
			if from, to, err = in.storedData(at, end); err != nil {
				return 0, err
			}
		}
		switch {
		case wantHole && from > at:
			return at, nil
		case wantHole:
			at = to
		case from < end:
			return from, nil
		default:
			at = end
		}
	}
	if wantHole {
		return size, nil
	}
	return 0, unix.ENXIO
}

// readOnce is how much is read without giving writers a chance.
const readOnce = 1 << 20

// read copies the file's bytes from off on.
func (in *inode) read(dst *uio.Dst, off int64) (int, error) {
	done := 0
	for {
		in.mu.RLock()
		n, err := in.readLocked(dst, off+int64(done), readOnce)
		in.mu.RUnlock()
		done += n
		if err != nil || n < readOnce || dst.Len() == 0 {
			return done, partial(done, err)
		}
	}
}

// readLocked copies up to limit bytes. The caller holds in.mu.
func (in *inode) readLocked(dst *uio.Dst, off int64, limit int) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	if off >= in.attr.Size {
		return 0, nil
	}
	left := int(min(int64(min(dst.Len(), limit)), in.attr.Size-off))
	if in.memDirty.Load() {
		return in.readMem(dst, off, left)
	}
	return in.readDisk(dst, off, left)
}

// readDisk copies n bytes, which the file has, from the device. The caller holds in.mu.
func (in *inode) readDisk(dst *uio.Dst, off int64, left int) (int, error) {
	if in.inline() {
		b, err := in.inlineData()
		if err != nil {
			return 0, err
		}
		if off < int64(len(b)) {
			n, err := dst.CopyOut(b[off:][:min(left, len(b)-int(off))])
			return n, err
		}
		return dst.Zero(left)
	}
	done := 0
	for left > 0 {
		r, err := in.mapBlock(uint64(off) >> in.sb.blockBits)
		if err != nil {
			return done, partial(done, err)
		}
		inBlock := off & int64(in.sb.blockSize-1)
		n := int(min(uint64(left), r.n<<in.sb.blockBits-uint64(inBlock)))
		switch at := int64(r.phys)<<in.sb.blockBits + inBlock; {
		case r.kind == written && in.journalData():
			n, err = in.sb.readJournalled(dst, at, n)
		case r.kind == written:
			n, err = in.sb.readData(dst, at, n)
		default:
			n, err = dst.Zero(n)
		}
		done, left, off = done+n, left-n, off+int64(n)
		if err != nil {
			return done, partial(done, err)
		}
	}
	return done, nil
}

// partial hides an error behind a short count.
func partial(done int, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

const bounceSize = 256 << 10

var bounces = sync.Pool{New: func() any { p := make([]byte, bounceSize); return &p }}

// readData copies n bytes of the device at off, which lie in one run. For guest memory it hands the host the image's own
// pages if it can: one host call, one copy.
func (sb *superBlock) readData(dst *uio.Dst, off int64, n int) (int, error) {
	const mask = bdev.SectorSize - 1
	done := 0
	if kernel := dst.Bytes(); kernel != nil {
		if off&mask == 0 && n > mask {
			whole := n &^ mask
			if _, err := sb.dev.ReadAt(kernel[:whole], off); err != nil {
				return 0, err
			}
			dst.Skip(whole)
			done = whole
		}
	} else if sb.view != nil {
		if v := sb.view.View(off, int64(n)); v != nil {
			k, err := dst.CopyMapped(v)
			if err == nil {
				return k, nil
			}
			// Either side may have faulted: reading the rest in the other way tells which.
			done = k
		}
	}
	if done == n {
		return done, nil
	}
	buf := bounces.Get().(*[]byte)
	defer bounces.Put(buf)
	for done < n {
		at := off + int64(done)
		skip := int(at & mask)
		k := min(n-done, bounceSize-skip)
		p := (*buf)[:(skip+k+mask)&^mask]
		if _, err := sb.dev.ReadAt(p, at-int64(skip)); err != nil {
			return done, err
		}
		k, err := dst.CopyOut(p[skip : skip+k])
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Ioctl has the requests that ask (ioctl_iflags(2)).
func (f *file) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	return f.in.ioctl(c, cmd, arg)
}

const (
	fsIocGetFlags    = 0x80086601 // FS_IOC_GETFLAGS
	fsIocSetFlags    = 0x40086602 // FS_IOC_SETFLAGS
	fsIocGetVersion  = 0x80087601 // FS_IOC_GETVERSION
	fsIocSetVersion  = 0x40087602 // FS_IOC_SETVERSION
	fsIocFSGetXattr  = 0x801c581f // FS_IOC_FSGETXATTR
	fsIocFSSetXattr  = 0x401c5820 // FS_IOC_FSSETXATTR
	figetbsz         = 2          // FIGETBSZ
	fibmap           = 1          // FIBMAP
	fsIocGetFSLabel  = 0x81009431 // FS_IOC_GETFSLABEL
	fsIocSetFSLabel  = 0x41009432 // FS_IOC_SETFSLABEL
	userVisibleFlags = 0x725bdfff // EXT4_FL_USER_VISIBLE
)

func (in *inode) ioctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case fsIocSetFlags:
		return 0, in.ioctlSetFlags(c, arg)
	case fsIocFSSetXattr:
		return 0, in.ioctlSetXflags(c, arg)
	case fiemapRequest:
		return 0, in.ioctlFiemap(c, arg)
	case fitrim:
		return 0, in.sb.ioctlTrim(c, arg)
	case fsIocSetFSLabel:
		return 0, in.sb.ioctlSetLabel(c, arg)
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	put := func(b []byte) (uint64, error) { return 0, uio.WriteFull(c.Mem(), b, arg) }
	u32 := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	switch cmd {
	case fsIocGetFlags:
		return put(u32(in.raw.Flags & userVisibleFlags))
	case fsIocGetVersion:
		return put(u32(in.raw.Generation))
	case fsIocSetVersion:
		return 0, unix.ENOTTY
	case figetbsz:
		return put(u32(uint32(in.sb.blockSize)))
	case fsIocGetFSLabel:
		var label [256]byte
		copy(label[:], in.sb.s.VolumeName[:])
		return put(label[:])
	case fsIocFSGetXattr:
		return put(in.getXflags())
	case fibmap:
		if !in.attr.IsRegular() {
			return 0, unix.ENOTTY
		}
		if !c.Cred().Capable(unix.CAP_SYS_RAWIO) {
			return 0, unix.EPERM
		}
		var b [4]byte
		if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
			return 0, err
		}
		if int32(leU32(b[:])) < 0 {
			return 0, unix.EINVAL
		}
		if in.inline() {
			return put(u32(0))
		}
		r, err := in.mapBlock(uint64(leU32(b[:])))
		if err != nil {
			return 0, err
		}
		if r.kind != written || r.phys > 1<<31-1 {
			r.phys = 0
		}
		return put(u32(uint32(r.phys)))
	}
	return 0, unix.ENOTTY
}
