package ubd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
)

// header is the head of a COW file, in any of its versions.
type header struct {
	version    uint32
	broken     bool // version 3 as 64-bit hosts once wrote it
	backing    string
	mtime      uint32
	size       uint64 // of the backing file
	sectorSize uint32
	align      uint32
	bitmapOff  int64
	bitmapLen  int64
	dataOff    int64
}

const (
	cowMagic   = 0x4f4f4f4d
	maxBacking = 4096
	headerMax  = 4136
)

// readHeader reads the header of a COW file. It returns nil if the file is not one.
func readHeader(im *hostImage) (*header, error) {
	b := make([]byte, headerMax)
	if err := im.readAt(b, 0); err != nil {
		return nil, openError(im.name, err)
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, &FileError{im.name, "bad COW header: " + err.Error(), "a COW file of version 1, 2 or 3 (flag d uses the file as it is)", unix.EINVAL}
	}
	return h, nil
}

func decodeHeader(b []byte) (*header, error) {
	be, ne := binary.BigEndian, binary.NativeEndian
	h := &header{}
	var name []byte
	var align, headLen uint64
	switch {
	case ne.Uint32(b) == cowMagic && ne.Uint32(b[4:]) == 1:
		h.version, name, headLen = 1, b[8:264], 280
		h.mtime, h.size, h.sectorSize = ne.Uint32(b[264:]), ne.Uint64(b[268:]), ne.Uint32(b[276:])
	case be.Uint32(b) != cowMagic:
		return nil, nil
	case be.Uint32(b[4:]) == 2:
		h.version, name, headLen = 2, b[8:8+maxBacking], 4120
		h.mtime, h.size, h.sectorSize = be.Uint32(b[4104:]), be.Uint64(b[4108:]), be.Uint32(b[4116:])
	case be.Uint32(b[4:]) == 3:
		at := 0
		h.version, headLen = 3, 4128
		if be.Uint32(b[32:]) == 0 {
			h.broken, at, headLen = true, 4, 4136
		}
		h.mtime = be.Uint32(b[8:])
		h.size, h.sectorSize, align = be.Uint64(b[12+at:]), be.Uint32(b[20+at:]), uint64(be.Uint32(b[24+at:]))
		if f := be.Uint32(b[28+at:]); f != 0 {
			return nil, fmt.Errorf("unknown format %d", f)
		}
		start := 32
		if h.broken {
			start = 40
		}
		name = b[start : start+maxBacking]
	default:
		return nil, fmt.Errorf("unknown version %d", be.Uint32(b[4:]))
	}
	end := bytes.IndexByte(name, 0)
	if end <= 0 {
		return nil, errors.New("no backing file name")
	}
	h.backing = string(name[:end])
	if h.sectorSize == 0 || h.sectorSize%bdev.SectorSize != 0 || h.sectorSize > 1<<20 {
		return nil, fmt.Errorf("bad sector size %d", h.sectorSize)
	}
	if h.size > 1<<62 {
		return nil, fmt.Errorf("bad size %d", h.size)
	}
	h.layout(headLen, align)
	return h, nil
}

// nameField makes room for the name of the backing file as the header has it, and says where in the file that is.
func (h *header) nameField() (room []byte, off int64) {
	switch {
	case h.version == 1:
		return make([]byte, 256), 8
	case h.version == 2:
		return make([]byte, maxBacking), 8
	case h.broken:
		return make([]byte, maxBacking), 40
	}
	return make([]byte, maxBacking), 32
}

// mtimeField is the backing file's time as the header has it, and says where in the file that is.
func (h *header) mtimeField(mtime uint32) (b []byte, off int64) {
	switch h.version {
	case 1:
		return binary.NativeEndian.AppendUint32(nil, mtime), 264
	case 2:
		return binary.BigEndian.AppendUint32(nil, mtime), 4104
	}
	return binary.BigEndian.AppendUint32(nil, mtime), 8
}

// layout computes where bitmap and data are.
func (h *header) layout(headLen, align uint64) {
	ss := uint64(h.sectorSize)
	up := func(n, to uint64) uint64 { return (n + to - 1) / to * to }
	if h.version < 3 {
		h.bitmapOff, h.bitmapLen = int64(headLen), int64((h.size+ss-1)/(8*ss))
		h.dataOff = int64(up(headLen+uint64(h.bitmapLen), ss))
		return
	}
	if align == 0 || align > 1<<30 {
		align = ss
	}
	h.bitmapOff = int64(up(headLen, align))
	h.bitmapLen = int64((up(h.size, ss)/ss + 7) / 8)
	h.dataOff = int64(up(uint64(h.bitmapOff+h.bitmapLen), align))
}

// createCow makes an empty COW file (version 3). With force one that is there is overwritten.
func createCow(file, backing string, force bool) error {
	im, err := openImage(backing, false, false)
	if err != nil {
		return err
	}
	defer im.close()
	var st unix.Stat_t
	if err := unix.Fstat(im.fd, &st); err != nil {
		return openError(backing, err)
	}
	h := &header{version: 3, mtime: uint32(st.Mtim.Sec), size: uint64(im.size), sectorSize: bdev.SectorSize, align: cowAlign}
	if h.backing, err = storedName(file, backing); err != nil {
		return err
	}
	h.layout(cowHeaderLen, cowAlign)
	flags := unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	if force {
		flags ^= unix.O_EXCL | unix.O_TRUNC
		if unix.Stat(file, &st) == nil && uint64(st.Dev) == im.host.ID.Dev && st.Ino == im.host.ID.Ino {
			return &FileError{file, "it is the backing file", "another name for the COW file", unix.EINVAL}
		}
	}
	fd, err := unix.Open(file, flags, 0o644)
	if err != nil {
		return openError(file, err)
	}
	out := &hostImage{name: file, fd: fd, rofd: -1}
	defer out.close()
	err = out.writeAt(h.encode(), 0)
	if err == nil {
		err = out.writeAt([]byte{0}, h.dataOff+max(int64(h.size)-1, 0))
	}
	if err != nil {
		_ = unix.Unlink(file)
		return &FileError{file, "the COW header cannot be written: " + err.Error(), "a file system with room for the COW file", err}
	}
	return nil
}

// storedName is the absolute name of the backing file as the header keeps it.
func storedName(file, backing string) (string, error) {
	name := absolute(backing)
	if len(name) >= maxBacking {
		return "", &FileError{file, "the name of the backing file is too long", fmt.Sprintf("at most %d characters", maxBacking-1), unix.ENAMETOOLONG}
	}
	return name, nil
}

// Layout of a version 3 header as it is written.
const (
	cowHeaderLen = 4128
	cowAlign     = 4096
)

// encode makes the bytes of a version 3 header.
func (h *header) encode() []byte {
	b, be := make([]byte, cowHeaderLen), binary.BigEndian
	be.PutUint32(b, cowMagic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[8:], h.mtime)
	be.PutUint64(b[12:], h.size)
	be.PutUint32(b[20:], h.sectorSize)
	be.PutUint32(b[24:], h.align)
	copy(b[32:], h.backing)
	return b
}
