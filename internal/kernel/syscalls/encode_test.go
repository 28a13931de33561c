package syscalls

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// golden is the memory image of one of the C library's structures.
func golden(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, le, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dirty is a buffer that an encoder must overwrite completely.
func dirty(n int) []byte { return bytes.Repeat([]byte{0xaa}, n) }

var sample = vfs.Attr{
	Dev: unix.Mkdev(98, 0x12345), Ino: 0x1122334455667788, Mode: unix.S_IFBLK | 0o4755, Nlink: 3, UID: 70000, GID: 70001,
	Rdev: unix.Mkdev(0xabc, 0x54321), Size: 1<<40 + 5, Blocks: 99, Blksize: 4096,
	Atime: unix.Timespec{Sec: 1, Nsec: 2}, Mtime: unix.Timespec{Sec: -3, Nsec: 4}, Ctime: unix.Timespec{Sec: 1 << 40, Nsec: 6},
	Btime: unix.Timespec{Sec: 7, Nsec: 8}, Flags: unix.STATX_ATTR_IMMUTABLE, MountID: 77,
}

func TestEncodeStat(t *testing.T) {
	a := &sample
	want := golden(t, unix.Stat_t{
		Dev: a.Dev, Ino: a.Ino, Nlink: 3, Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev, Size: a.Size,
		Blksize: a.Blksize, Blocks: a.Blocks, Atim: a.Atime, Mtim: a.Mtime, Ctim: a.Ctime,
	})
	got := dirty(statSize)
	encodeStat(got, a)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestEncodeStatx(t *testing.T) {
	a := &sample
	ts := func(x unix.Timespec) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: x.Sec, Nsec: uint32(x.Nsec)}
	}
	want := golden(t, unix.Statx_t{
		Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID, Mnt_id: 77, Blksize: 4096, Attributes: a.Flags, Nlink: 3, Uid: a.UID, Gid: a.GID,
		Mode: uint16(a.Mode), Ino: a.Ino, Size: uint64(a.Size), Blocks: 99, Attributes_mask: statxAttributes,
		Atime: ts(a.Atime), Btime: ts(a.Btime), Ctime: ts(a.Ctime), Mtime: ts(a.Mtime),
		Rdev_major: 0xabc, Rdev_minor: 0x54321, Dev_major: 98, Dev_minor: 0x12345,
	})
	got := dirty(statxSize)
	encodeStatx(got, a, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	b := *a
	b.Btime = unix.Timespec{}
	b.MountID = 0
	encodeStatx(got, &b, 0)
	if m := le.Uint32(got); m != unix.STATX_BASIC_STATS {
		t.Errorf("mask without a birth time: %#x", m)
	}
}

func TestEncodeStatfs(t *testing.T) {
	s := unix.Statfs_t{
		Type: 0xef53, Bsize: 4096, Blocks: 1, Bfree: 2, Bavail: 3, Files: 4, Ffree: 5,
		Fsid: unix.Fsid{Val: [2]int32{-6, 7}}, Namelen: 255, Frsize: 1024, Flags: 0x1020,
	}
	got := dirty(statfsSize)
	encodeStatfs(got, &s)
	if want := golden(t, s); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestEncodeSysinfo(t *testing.T) {
	m := system.Memory{Total: 1, Free: 2, Shmem: 3, Buffers: 4, SwapTotal: 5, SwapFree: 6}
	got := dirty(sysinfoSize)
	encodeSysinfo(got, 9, [3]uint64{10, 11, 12}, &m, 13)
	want := golden(t, unix.Sysinfo_t{
		Uptime: 9, Loads: [3]uint64{10, 11, 12}, Totalram: 1, Freeram: 2, Sharedram: 3, Bufferram: 4, Totalswap: 5, Freeswap: 6,
		Procs: 13, Unit: 1,
	})
	// encoding/binary leaves out the padding that the compiler puts before Totalhigh and after Unit.
	want = slices.Insert(want, 84, 0, 0, 0, 0)
	want = append(want, make([]byte, sysinfoSize-len(want))...)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestEncodeUname(t *testing.T) {
	var u unix.Utsname
	copy(u.Sysname[:], "Linux")
	copy(u.Nodename[:], "host")
	copy(u.Release[:], abi.Release)
	copy(u.Version[:], abi.Version)
	copy(u.Machine[:], "x86_64")
	copy(u.Domainname[:], "dom")
	want := golden(t, u)
	got := dirty(len(want))
	encodeUname(got, "host", "dom")
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFlock(t *testing.T) {
	fl := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_END, Start: -5, Len: 1 << 40, Pid: 77}
	var want bytes.Buffer
	for _, v := range []any{fl.Type, fl.Whence, int32(0), fl.Start, fl.Len, fl.Pid, int32(0)} {
		_ = binary.Write(&want, le, v)
	}
	got := dirty(flockSize)
	encodeFlock(got, &fl)
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got  %x\nwant %x", got, want.Bytes())
	}
	if d := decodeFlock(got); d.Type != fl.Type || d.Whence != fl.Whence || d.Start != fl.Start || d.Len != fl.Len || d.Pid != fl.Pid {
		t.Errorf("decoded %+v", d)
	}
}

func TestDirents(t *testing.T) {
	e := vfs.DirEnt{Name: "abc", Ino: 5, Type: unix.DT_REG, Off: 9}
	b, ok := appendDirent64(make([]byte, 0, 64), &e)
	if want := "\x05\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08abc\x00\x00"; !ok || string(b) != want {
		t.Errorf("dirent64 %q, want %q", b, want)
	}
	b, ok = appendDirent(make([]byte, 0, 64), &e)
	if want := "\x05\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x18\x00abc\x00\x00\x08"; !ok || string(b) != want {
		t.Errorf("dirent %q, want %q", b, want)
	}
	if b, ok := appendDirent64(make([]byte, 0, 23), &e); ok || len(b) != 0 {
		t.Error("a record was put where there is no room for it")
	}
}

func TestDecodeDev(t *testing.T) {
	for _, c := range []struct {
		d            uint32
		major, minor uint32
	}{{0x6210, 0x62, 0x10}, {0x00b00105, 1, 0xb05}, {0xfff00000 | 0xfff00 | 0xff, 0xfff, 0xfffff}} {
		if r := decodeDev(c.d); unix.Major(r) != c.major || unix.Minor(r) != c.minor {
			t.Errorf("%#x is %d:%d", c.d, unix.Major(r), unix.Minor(r))
		}
	}
}

func TestFallocateModes(t *testing.T) {
	const (
		keep, punch, collapse = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_COLLAPSE_RANGE
		zero, insert          = unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_INSERT_RANGE
	)
	for mode, want := range map[uint32]error{
		0: nil, keep: nil, punch | keep: nil, punch: unix.EOPNOTSUPP, zero: nil, zero | keep: nil, collapse: nil, insert: nil,
		collapse | keep: unix.EINVAL, insert | keep: unix.EINVAL, punch | zero | keep: unix.EOPNOTSUPP, 0x1000: unix.EOPNOTSUPP,
	} {
		if err := checkFallocate(mode); err != want {
			t.Errorf("mode %#x: %v, want %v", mode, err, want)
		}
	}
}
