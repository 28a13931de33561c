package syscalls

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostileArguments makes every call about files with odd arguments: none may panic, and none may leave a file locked.
func TestHostileArguments(t *testing.T) {
	g := newGuest(t)
	path := g.str("/f")
	fd := g.ok(unix.SYS_OPEN, path, unix.O_RDWR|unix.O_CREAT, 0o644)
	dir := g.ok(unix.SYS_OPEN, g.str("/"), unix.O_RDONLY|unix.O_DIRECTORY)
	odd := []uint64{
		0, 1, 2, 7, 8, 4095, 4096, fd, dir, atFDCWD, path, path + 1, g.buf(4096), 1 << 31, 1<<31 - 1, 1 << 32, 1<<63 - 1, 1 << 63,
		1<<64 - 1, 1<<64 - 4096, 0x7ffff000, guestBase + guestSize - 1, 0xffffffff, unix.O_CREAT | unix.O_RDWR,
	}
	nrs := []int{
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_READV,
		unix.SYS_WRITEV, unix.SYS_PREADV, unix.SYS_PWRITEV2, unix.SYS_LSEEK, unix.SYS_FALLOCATE, unix.SYS_FTRUNCATE, unix.SYS_STAT,
		unix.SYS_FSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FACCESSAT2, unix.SYS_GETDENTS,
		unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_MKNODAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UTIMENSAT,
		unix.SYS_FCHMODAT2, unix.SYS_FCHOWNAT, unix.SYS_GETXATTR, unix.SYS_SETXATTR, unix.SYS_LISTXATTR, unix.SYS_IOCTL,
		unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_CLOSE_RANGE, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FADVISE64,
		unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_MEMFD_CREATE, unix.SYS_SETHOSTNAME, unix.SYS_UNAME, unix.SYS_SYSINFO,
		unix.SYS_GETRANDOM, unix.SYS_GETCPU, unix.SYS_USTAT, unix.SYS_GETCWD, unix.SYS_MOUNT, unix.SYS_FUTIMESAT,
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 30000 {
		nr := nrs[i%len(nrs)]
		var a [6]uint64
		for j := range a {
			a[j] = odd[rnd.IntN(len(odd))]
		}
		if nr == unix.SYS_GETRANDOM || nr == unix.SYS_FALLOCATE {
			a[1], a[3] = a[1]%65536, a[3]%65536
		}
		g.call(nr, a[:]...) //nolint:errcheck // any errno will do
		if i%1000 == 0 {
			g.call(unix.SYS_CLOSE_RANGE, 3, 1<<32-1, 0)            //nolint:errcheck // see above
			g.call(unix.SYS_DUP2, g.reopen(path, unix.O_RDWR), fd) //nolint:errcheck // see above
			g.call(unix.SYS_DUP2, g.reopen(g.str("/"), 0), dir)    //nolint:errcheck // see above
			g.call(unix.SYS_FTRUNCATE, fd, 100)                    //nolint:errcheck // see above
		}
	}
}

// reopen opens a file again after random calls may have closed or removed it.
func (g *guest) reopen(path uint64, flags uint64) uint64 {
	fd, err := g.call(unix.SYS_OPEN, path, flags)
	if err != nil {
		fd, _ = g.call(unix.SYS_OPEN, path, flags|unix.O_CREAT, 0o644)
	}
	return fd
}
