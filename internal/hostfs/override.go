package hostfs

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	// overrideXattr has owner, mode and type of a file with the option map, as container tools write it.
	overrideXattr = "user.containers.override_stat"
	// hiddenPrefix is put before the names of attributes that users may not set on the host.
	hiddenPrefix = "user.uml."
)

// override is what overrideXattr says of a file. The zero value says nothing.
type override struct {
	has      bool
	uid, gid uint32
	mode     uint32 // permission bits
	typ      uint32 // S_IFMT, 0 for what it is on the host
	rdev     uint64
	read     unix.Timespec // the file's ctime then
}

// types are the names of file types in the attribute.
var types = []struct {
	name string
	typ  uint32
}{
	{"file", unix.S_IFREG}, {"dir", unix.S_IFDIR}, {"symlink", unix.S_IFLNK}, {"pipe", unix.S_IFIFO}, {"socket", unix.S_IFSOCK},
	{"block", unix.S_IFBLK}, {"char", unix.S_IFCHR},
}

// readOverride reads the attribute of a file of which st was just read. What cannot be understood counts as not there.
func readOverride(h *handle, st *unix.Statx_t) override {
	o := override{read: timespec(st.Ctime)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return o // only these can have it
	}
	var buf [128]byte
	n, err := unix.Getxattr(h.path(), overrideXattr, buf[:])
	if err != nil {
		return o
	}
	if p, ok := parseOverride(string(buf[:n])); ok && (st.Mode&unix.S_IFMT != unix.S_IFDIR || p.typ == unix.S_IFDIR || p.typ == 0) {
		p.read = o.read
		if st.Mode&unix.S_IFMT == unix.S_IFREG && (p.typ == unix.S_IFDIR || p.typ == unix.S_IFLNK) {
			p.typ = 0
		}
		return p
	}
	return o
}

// parseOverride decodes "uid:gid:mode" or "uid:gid:mode:type"; mode is octal, type may be followed by -major-minor.
func parseOverride(s string) (o override, ok bool) {
	f := strings.Split(s, ":")
	if len(f) != 3 && len(f) != 4 {
		return o, false
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return o, false
	}
	o = override{has: true, uid: uint32(uid), gid: uint32(gid), mode: uint32(mode) & 0o7777}
	if len(f) == 3 {
		return o, true
	}
	t := strings.Split(f[3], "-")
	for _, x := range types {
		if x.name == t[0] {
			o.typ = x.typ
		}
	}
	device := o.typ == unix.S_IFBLK || o.typ == unix.S_IFCHR
	switch {
	case o.typ == 0 || device != (len(t) == 3) || !device && len(t) != 1:
		return o, false
	case device:
		major, err1 := strconv.ParseUint(t[1], 10, 12)
		minor, err2 := strconv.ParseUint(t[2], 10, 20)
		if err1 != nil || err2 != nil {
			return o, false
		}
		o.rdev = unix.Mkdev(uint32(major), uint32(minor))
	}
	return o, true
}

// format is the opposite of parseOverride.
func (o *override) format() string {
	name := "file"
	for _, x := range types {
		if x.typ == o.typ {
			name = x.name
		}
	}
	if o.typ == unix.S_IFBLK || o.typ == unix.S_IFCHR {
		name += fmt.Sprintf("-%d-%d", unix.Major(o.rdev), unix.Minor(o.rdev))
	}
	return fmt.Sprintf("%d:%d:%04o:%s", o.uid, o.gid, o.mode, name)
}

// guestType is the type in the guest of a file with the type hostType.
func (o *override) guestType(hostType uint32) uint32 {
	if o.has && o.typ != 0 {
		return o.typ
	}
	return hostType
}

// apply makes what the guest sees of the host's attributes.
func (o *override) apply(a *vfs.Attr, srv *Server) {
	if !o.has {
		if a.UID == srv.uid {
			a.UID = 0
		}
		if a.GID == srv.gid {
			a.GID = 0
		}
		return
	}
	a.UID, a.GID = o.uid, o.gid
	a.Mode = a.Mode&unix.S_IFMT | o.mode
	if o.typ != 0 && o.typ != a.Mode&unix.S_IFMT {
		a.Mode = o.typ | o.mode
		a.Rdev, a.Size = o.rdev, 0
	}
}

// hostMode is the mode on the host of a file that has mode in the guest: enough for the program itself.
func hostMode(mode uint32, dir bool) uint32 {
	if dir {
		return mode&0o777 | 0o700
	}
	return mode&0o777 | 0o600
}

// plain reports whether a file with these attributes needs no override.
func plain(uid, gid, mode uint32, dir bool) bool {
	return uid == 0 && gid == 0 && hostMode(mode, dir) == mode
}

// write stores the override of a file.
func (o *override) write(h *handle) error {
	return unix.Setxattr(h.path(), overrideXattr, []byte(o.format()), 0)
}
