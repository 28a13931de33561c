package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_READ:      {Name: "read", Fn: sysRead},
		unix.SYS_WRITE:     {Name: "write", Fn: sysWrite},
		unix.SYS_PREAD64:   {Name: "pread64", Fn: sysPread64},
		unix.SYS_PWRITE64:  {Name: "pwrite64", Fn: sysPwrite64},
		unix.SYS_READV:     {Name: "readv", Fn: sysReadv},
		unix.SYS_WRITEV:    {Name: "writev", Fn: sysWritev},
		unix.SYS_PREADV:    {Name: "preadv", Fn: sysPreadv},
		unix.SYS_PWRITEV:   {Name: "pwritev", Fn: sysPwritev},
		unix.SYS_PREADV2:   {Name: "preadv2", Fn: sysPreadv2, Note: "RWF_NOWAIT gives EOPNOTSUPP"},
		unix.SYS_PWRITEV2:  {Name: "pwritev2", Fn: sysPwritev2, Note: "RWF_NOWAIT gives EOPNOTSUPP"},
		unix.SYS_LSEEK:     {Name: "lseek", Fn: sysLseek},
		unix.SYS_FADVISE64: {Name: "fadvise64", Fn: sysFadvise64},
		unix.SYS_READAHEAD: {Name: "readahead", Fn: sysReadahead},
		unix.SYS_FALLOCATE: {Name: "fallocate", Fn: sysFallocate},
		unix.SYS_FTRUNCATE: {Name: "ftruncate", Fn: sysFtruncate},
		unix.SYS_TRUNCATE:  {Name: "truncate", Fn: sysTruncate},
	})
}

// moved is the result of a read or write: bytes that were moved win over an error.
func moved(n int, err error) (uint64, error) {
	if n > 0 {
		return uint64(n), nil
	}
	return 0, err
}

// noPos is the position of reads and writes that use and move the file's own.
const noPos = -1

// readFile reads into the guest buffer (addr, n), writeFile writes from it.
func readFile(t *task.Task, fd, addr, n uint64, pos int64) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if pos != noPos && f.IsStream() {
		return 0, unix.ESPIPE
	}
	if err := checkBuffer(f.Readable(), addr, n); err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	s.dst.Reset(t.Mem(), addr, min(n, maxRW))
	return s.read(t, f, pos)
}

func writeFile(t *task.Task, fd, addr, n uint64, pos int64) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if pos != noPos && f.IsStream() {
		return 0, unix.ESPIPE
	}
	if err := checkBuffer(f.Writable(), addr, n); err != nil {
		return 0, err
	}
	s := getScratch()
	defer s.put()
	s.src.Reset(t.Mem(), addr, min(n, maxRW))
	return s.write(t, f, pos)
}

// checkBuffer makes the checks of vfs_read: the descriptor's mode, and a range that cannot be in user memory.
func checkBuffer(mode bool, addr, n uint64) error {
	switch {
	case !mode:
		return unix.EBADF
	case int64(n) < 0 || int64(addr+n) < 0 || addr+n < addr:
		return unix.EFAULT
	}
	return nil
}

// read reads into s.dst, write writes from s.src.
func (s *scratch) read(t *task.Task, f *vfs.File, pos int64) (uint64, error) {
	if pos == noPos {
		return moved(vfs.Read(t, f, &s.dst))
	}
	return moved(vfs.Pread(t, f, &s.dst, pos))
}

func (s *scratch) write(t *task.Task, f *vfs.File, pos int64) (uint64, error) {
	if pos == noPos {
		return moved(vfs.Write(t, f, &s.src))
	}
	return moved(vfs.Pwrite(t, f, &s.src, pos))
}

// sysRead implements read(2).
func sysRead(t *task.Task, a *platform.Args) (uint64, error) {
	return readFile(t, a[0], a[1], a[2], noPos)
}

// sysWrite implements write(2).
func sysWrite(t *task.Task, a *platform.Args) (uint64, error) {
	return writeFile(t, a[0], a[1], a[2], noPos)
}

// sysPread64 implements pread(2).
func sysPread64(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	return readFile(t, a[0], a[1], a[2], int64(a[3]))
}

// sysPwrite64 implements pwrite(2).
func sysPwrite64(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	return writeFile(t, a[0], a[1], a[2], int64(a[3]))
}

// readVector reads into a vector of buffers, writeVector writes from one; flags are RWF_*.
func readVector(t *task.Task, fd, iov, cnt uint64, pos int64, flags uint32) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if pos != noPos && f.IsStream() {
		return 0, unix.ESPIPE
	}
	s := getScratch()
	defer s.put()
	r, err := s.vector(t, f.Readable(), iov, cnt, flags)
	if err != nil || cnt == 0 {
		return 0, err
	}
	s.dst.ResetV(t.Mem(), r)
	return s.read(t, f, pos)
}

func writeVector(t *task.Task, fd, iov, cnt uint64, pos int64, flags uint32) (uint64, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if pos != noPos && f.IsStream() {
		return 0, unix.ESPIPE
	}
	s := getScratch()
	defer s.put()
	r, err := s.vector(t, f.Writable(), iov, cnt, flags&^unix.RWF_APPEND)
	if err != nil || cnt == 0 {
		return 0, err
	}
	s.src.ResetV(t.Mem(), r)
	var n uint64
	if flags&unix.RWF_APPEND != 0 {
		n, err = moved(vfs.Append(t, f, &s.src, pos == noPos))
	} else {
		n, err = s.write(t, f, pos)
	}
	if err == nil && flags&(unix.RWF_DSYNC|unix.RWF_SYNC) != 0 {
		if err := vfs.Fsync(t, f, flags&unix.RWF_SYNC == 0); err != nil && err != unix.EINVAL {
			return 0, err
		}
	}
	return n, err
}

// vector makes the checks of vfs_readv and copies the buffers' places in; open says whether the descriptor's mode fits.
func (s *scratch) vector(t *task.Task, open bool, iov, cnt uint64, flags uint32) ([]uio.Range, error) {
	if !open {
		return nil, unix.EBADF
	}
	r, err := s.iovec(t.Mem(), iov, cnt)
	if err == nil && flags&^(unix.RWF_HIPRI|unix.RWF_DSYNC|unix.RWF_SYNC) != 0 {
		err = unix.EOPNOTSUPP
	}
	return r, err
}

// sysReadv implements readv(2).
func sysReadv(t *task.Task, a *platform.Args) (uint64, error) {
	return readVector(t, a[0], a[1], a[2], noPos, 0)
}

// sysWritev implements writev(2).
func sysWritev(t *task.Task, a *platform.Args) (uint64, error) {
	return writeVector(t, a[0], a[1], a[2], noPos, 0)
}

// sysPreadv implements preadv(2). The position is one argument; the next one (pos_h) is not used by a 64-bit kernel.
func sysPreadv(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	return readVector(t, a[0], a[1], a[2], int64(a[3]), 0)
}

// sysPwritev implements pwritev(2).
func sysPwritev(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	return writeVector(t, a[0], a[1], a[2], int64(a[3]), 0)
}

// sysPreadv2 implements preadv2(2).
func sysPreadv2(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < noPos {
		return 0, unix.EINVAL
	}
	return readVector(t, a[0], a[1], a[2], int64(a[3]), u32(a[5]))
}

// sysPwritev2 implements pwritev2(2).
func sysPwritev2(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[3]) < noPos {
		return 0, unix.EINVAL
	}
	return writeVector(t, a[0], a[1], a[2], int64(a[3]), u32(a[5]))
}

// sysLseek implements lseek(2).
func sysLseek(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if u32(a[2]) > unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	n, err := vfs.Seek(t, f, int64(a[1]), int(a[2]))
	return uint64(n), err
}

// isPipe reports whether f is a pipe or fifo.
func isPipe(f *vfs.File) bool { return f.Inode.Attr().Mode&unix.S_IFMT == unix.S_IFIFO }

// sysFadvise64 implements posix_fadvise(2): the advice is checked and not needed, as the host caches.
func sysFadvise64(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if isPipe(f) {
		return 0, unix.ESPIPE
	}
	if int64(a[2]) < 0 || u32(a[3]) > unix.FADV_NOREUSE {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysReadahead implements readahead(2), which may do nothing.
func sysReadahead(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Readable() {
		return 0, unix.EBADF
	}
	if m := f.Inode.Attr().Mode & unix.S_IFMT; m != unix.S_IFREG && m != unix.S_IFBLK {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysFallocate implements fallocate(2).
func sysFallocate(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	off, n := int64(a[2]), int64(a[3])
	if off < 0 || n <= 0 {
		return 0, unix.EINVAL
	}
	mode := u32(a[1])
	if err := checkFallocate(mode); err != nil {
		return 0, err
	}
	if !f.Writable() {
		return 0, unix.EBADF
	}
	switch f.Inode.Attr().Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return 0, unix.ESPIPE
	case unix.S_IFDIR:
		return 0, unix.EISDIR
	case unix.S_IFREG, unix.S_IFBLK:
	default:
		return 0, unix.ENODEV
	}
	if off+n < 0 {
		return 0, unix.EFBIG
	}
	return 0, vfs.Fallocate(t, f, mode, off, n)
}

// checkFallocate checks the mode bits of fallocate(2): the operations exclude each other.
func checkFallocate(mode uint32) error {
	const ops = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_ZERO_RANGE |
		unix.FALLOC_FL_INSERT_RANGE | unix.FALLOC_FL_UNSHARE_RANGE
	if mode&^(ops|unix.FALLOC_FL_KEEP_SIZE) != 0 {
		return unix.EOPNOTSUPP
	}
	keep := mode&unix.FALLOC_FL_KEEP_SIZE != 0
	switch mode & ops {
	case 0, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_UNSHARE_RANGE:
		return nil
	case unix.FALLOC_FL_PUNCH_HOLE:
		if !keep {
			return unix.EOPNOTSUPP
		}
		return nil
	case unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE:
		if keep {
			return unix.EINVAL
		}
		return nil
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE:
		return unix.EOPNOTSUPP
	}
	return unix.EINVAL
}

// sysTruncate implements truncate(2).
func sysTruncate(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[1]) < 0 {
		return 0, unix.EINVAL
	}
	p, err := pathAt(t, atFDCWD, a[0], 0)
	if err != nil {
		return 0, err
	}
	return 0, vfs.Truncate(t, nil, p.path, int64(a[1]))
}

// sysFtruncate implements ftruncate(2).
func sysFtruncate(t *task.Task, a *platform.Args) (uint64, error) {
	if int64(a[1]) < 0 {
		return 0, unix.EINVAL
	}
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if !f.Writable() || f.Inode.Attr().Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	return 0, vfs.Ftruncate(t, f, int64(a[1]))
}

// interrupted is err for calls that must not be restarted, like close(2).
func interrupted(err error) error {
	switch err {
	case abi.ERESTARTSYS, abi.ERESTARTNOINTR, abi.ERESTARTNOHAND, abi.ERESTART_RESTARTBLOCK:
		return unix.EINTR
	}
	return err
}
