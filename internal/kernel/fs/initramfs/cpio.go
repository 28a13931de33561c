package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	magicNewc = "070701"
	magicCRC  = "070702"

	headerLen = 110
	pathMax   = 4096
	trailer   = "TRAILER!!!"
)

// header is the start of an entry.
type header struct {
	ino, mode, uid, gid, nlink, mtime, size uint32
	devMajor, devMinor                      uint32
	rdevMajor, rdevMinor                    uint32
	nameLen, check                          uint32
	crc                                     bool
}

// parseHeader reads the 110 bytes: a magic number and 13 numbers of 8 hexadecimal digits.
func parseHeader(b []byte) (h header, err error) {
	switch string(b[:6]) {
	case magicNewc:
	case magicCRC:
		h.crc = true
	default:
		return h, fmt.Errorf("initramfs: bad magic %q", b[:6])
	}
	to := [...]*uint32{&h.ino, &h.mode, &h.uid, &h.gid, &h.nlink, &h.mtime, &h.size, &h.devMajor, &h.devMinor,
		&h.rdevMajor, &h.rdevMinor, &h.nameLen, &h.check}
	for i, p := range to {
		s := string(b[6+8*i : 14+8*i])
		n, err := strconv.ParseUint(s, 16, 32)
		if err != nil {
			return h, fmt.Errorf("initramfs: bad number %q in a header", s)
		}
		*p = uint32(n)
	}
	return h, nil
}

// fileID tells the links of one file from those of others.
type fileID struct{ major, minor, ino, typ uint32 }

type unpacker struct {
	c        vfs.Caller
	dir      *vfs.File
	left     int64 // of the limit
	archives int   // read to their end
	links    map[fileID]string
	times    []dirTime
	buf      []byte
}

// dirTime is a directory whose time is set when nothing is made in it any more.
type dirTime struct {
	name  string
	mtime uint32
}

// archive unpacks one archive, up to its trailer or the end of the stream.
func (u *unpacker) archive(br *bufio.Reader) error {
	u.links = make(map[fileID]string)
	u.times = nil
	for {
		h, name, err := u.next(br)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if name == trailer {
			break
		}
		if err := u.entry(br, &h, strings.TrimLeft(name, "/")); err != nil {
			return err
		}
	}
	for _, d := range u.times {
		u.setTime(d.name, d.mtime)
	}
	u.archives++
	return nil
}

// next reads an entry's header and name, and takes its data from the limit.
func (u *unpacker) next(br *bufio.Reader) (h header, name string, err error) {
	var b [headerLen]byte
	if _, err := io.ReadFull(br, b[:]); err != nil {
		if err == io.EOF {
			return h, "", io.EOF
		}
		return h, "", truncated(err)
	}
	if h, err = parseHeader(b[:]); err != nil {
		return h, "", err
	}
	if h.nameLen == 0 || h.nameLen > pathMax {
		return h, "", fmt.Errorf("initramfs: name of %d bytes", h.nameLen)
	}
	nb := make([]byte, int(h.nameLen)+pad(headerLen+int64(h.nameLen)))
	if _, err := io.ReadFull(br, nb); err != nil {
		return h, "", truncated(err)
	}
	name, _, _ = strings.Cut(string(nb[:h.nameLen]), "\x00")
	if u.left -= headerLen + int64(len(nb)) + int64(h.size); u.left < 0 {
		return h, "", ErrTooBig
	}
	return h, name, nil
}

// pad is how many bytes are missing to a multiple of 4.
func pad(n int64) int { return int(-n & 3) }

func truncated(err error) error {
	if errors.Is(err, ErrTooBig) {
		return ErrTooBig
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("initramfs: archive ends in the middle")
	}
	return fmt.Errorf("initramfs: %w", err)
}

// entry makes one file. That a file cannot be made (a name below a file, say) fails the whole, with its name.
func (u *unpacker) entry(br *bufio.Reader, h *header, name string) error {
	typ := h.mode & unix.S_IFMT
	if name == "" || name == "." {
		// The root directory itself.
		if name == "." && typ == unix.S_IFDIR {
			u.setOwner(name, h)
			u.times = append(u.times, dirTime{name, h.mtime})
		}
		return u.skip(br, int64(h.size))
	}
	var err error
	switch typ {
	case unix.S_IFREG:
		return u.regular(br, h, name)
	case unix.S_IFLNK:
		return u.symlink(br, h, name)
	case unix.S_IFDIR:
		err = u.mkdir(h, name)
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		err = u.special(h, name)
	default:
		err = unix.EINVAL
	}
	if err != nil {
		return failed(name, err)
	}
	return u.skip(br, int64(h.size))
}

func failed(name string, err error) error { return fmt.Errorf("initramfs: %q: %w", name, err) }

// skip passes over n bytes and their padding.
func (u *unpacker) skip(br *bufio.Reader, n int64) error {
	if _, err := io.CopyN(io.Discard, br, n); err != nil {
		return truncated(err)
	}
	return u.padding(br, n)
}

func (u *unpacker) padding(br *bufio.Reader, n int64) error {
	if _, err := br.Discard(pad(n)); err != nil && err != io.EOF {
		return truncated(err)
	}
	return nil
}

// clear removes what is in the place of a file of another type.
func (u *unpacker) clear(name string, typ uint32) error {
	a, err := vfs.Stat(u.c, u.dir, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || a.Mode&unix.S_IFMT == typ && typ != unix.S_IFLNK {
		return nil
	}
	if a.IsDir() {
		return vfs.Rmdir(u.c, u.dir, name)
	}
	return vfs.Unlink(u.c, u.dir, name)
}

// linked makes name a link to an earlier entry of the same file and reports whether there was one.
func (u *unpacker) linked(h *header, name string) (bool, error) {
	if h.nlink < 2 {
		return false, nil
	}
	id := fileID{h.devMajor, h.devMinor, h.ino, h.mode & unix.S_IFMT}
	first, ok := u.links[id]
	if !ok {
		u.links[id] = name
		return false, nil
	}
	if err := u.clear(name, 0); err != nil {
		return false, err
	}
	return true, vfs.Link(u.c, u.dir, first, u.dir, name, 0)
}

func (u *unpacker) mkdir(h *header, name string) error {
	if err := u.clear(name, unix.S_IFDIR); err != nil {
		return err
	}
	if err := vfs.Mkdir(u.c, u.dir, name, h.mode&0o7777); err != nil && err != unix.EEXIST {
		return err
	}
	u.setOwner(name, h)
	u.times = append(u.times, dirTime{name, h.mtime})
	return nil
}

func (u *unpacker) special(h *header, name string) error {
	if ok, err := u.linked(h, name); ok || err != nil {
		return err
	}
	if err := u.clear(name, 0); err != nil {
		return err
	}
	if err := vfs.Mknod(u.c, u.dir, name, h.mode&(unix.S_IFMT|0o7777), unix.Mkdev(h.rdevMajor, h.rdevMinor)); err != nil {
		return err
	}
	u.setOwner(name, h)
	u.setTime(name, h.mtime)
	return nil
}

func (u *unpacker) symlink(br *bufio.Reader, h *header, name string) error {
	if h.size == 0 || h.size > pathMax {
		return failed(name, unix.ENAMETOOLONG)
	}
	b := make([]byte, h.size)
	if _, err := io.ReadFull(br, b); err != nil {
		return truncated(err)
	}
	target, _, _ := strings.Cut(string(b), "\x00")
	err := u.makeSymlink(h, name, target)
	if err != nil {
		return failed(name, err)
	}
	return u.padding(br, int64(h.size))
}

func (u *unpacker) makeSymlink(h *header, name, target string) error {
	if ok, err := u.linked(h, name); ok || err != nil {
		return err
	}
	if err := u.clear(name, unix.S_IFLNK); err != nil {
		return err
	}
	if err := vfs.Symlink(u.c, target, u.dir, name); err != nil {
		return err
	}
	_ = vfs.Chown(u.c, u.dir, name, h.uid, h.gid, unix.AT_SYMLINK_NOFOLLOW) // as good as the file system can
	u.setTime(name, h.mtime)
	return nil
}

// setOwner sets owner and mode, as far as the file system has them.
func (u *unpacker) setOwner(name string, h *header) {
	_ = vfs.Chown(u.c, u.dir, name, h.uid, h.gid, unix.AT_SYMLINK_NOFOLLOW)
	_ = vfs.Chmod(u.c, u.dir, name, h.mode&0o7777, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) setTime(name string, mtime uint32) {
	t := unix.Timespec{Sec: int64(mtime)}
	_ = vfs.Utimens(u.c, u.dir, name, &[2]unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) regular(br *bufio.Reader, h *header, name string) error {
	ok, err := u.linked(h, name)
	if err == nil && !ok {
		err = u.clear(name, unix.S_IFREG)
	}
	if err != nil {
		return failed(name, err)
	}
	flags := uint32(unix.O_WRONLY | unix.O_CREAT | unix.O_NOFOLLOW)
	if !ok || h.size > 0 {
		flags |= unix.O_TRUNC
	}
	f, err := vfs.Open(u.c, u.dir, name, vfs.OpenHow{Flags: flags, Mode: h.mode & 0o7777})
	if err != nil {
		return failed(name, err)
	}
	err = u.copyBody(br, f, h, name)
	f.DecRef()
	if err != nil {
		return err
	}
	u.setOwner(name, h)
	u.setTime(name, h.mtime)
	return u.padding(br, int64(h.size))
}

// copyBody copies an entry's data to f and checks its sum.
func (u *unpacker) copyBody(br *bufio.Reader, f *vfs.File, h *header, name string) error {
	if u.buf == nil {
		u.buf = make([]byte, 64<<10)
	}
	var sum uint32
	for left := int64(h.size); left > 0; {
		p := u.buf[:min(left, int64(len(u.buf)))]
		if _, err := io.ReadFull(br, p); err != nil {
			return truncated(err)
		}
		left -= int64(len(p))
		if h.crc {
			for _, b := range p {
				sum += uint32(b)
			}
		}
		for src := uio.FromBytes(p); src.Len() > 0; {
			n, err := vfs.Write(u.c, f, src)
			if err == nil && n == 0 {
				err = unix.EIO
			}
			if err != nil {
				return failed(name, err)
			}
		}
	}
	if h.crc && sum != h.check {
		return fmt.Errorf("initramfs: %q: bad checksum", name)
	}
	return nil
}
