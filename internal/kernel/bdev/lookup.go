package bdev

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Identify tells UUID and label of the file system on a device, "" if there is none; file systems set it.
var Identify func(d Device) (uuid, label string)

// Lookup finds a node by what people write in root= and mount without a file system to look in: /dev/ubda, ubda1,
// /dev/ubd0, /dev/ubd/0, /dev/ubd/disc0, 98:0, a hexadecimal device number (6200), PARTUUID= (also with /PARTNROFF=n) and
// PARTLABEL=, and of file systems UUID= and LABEL=. It returns nil if there is no such device.
func Lookup(name string) *Node {
	if v, ok := cutPrefixFold(name, "PARTUUID="); ok {
		return byPartUUID(v)
	}
	if v, ok := cutPrefixFold(name, "UUID="); ok {
		v = strings.Trim(v, `"'`)
		return identified(func(uuid, _ string) bool { return strings.EqualFold(uuid, v) })
	}
	if v, ok := cutPrefixFold(name, "LABEL="); ok {
		v = strings.Trim(v, `"'`)
		return identified(func(_, label string) bool { return label == v })
	}
	if v, ok := cutPrefixFold(name, "PARTLABEL="); ok {
		return find(func(n *Node) bool { return n.Label != "" && n.Label == v })
	}
	name, inDev := strings.CutPrefix(name, "/dev/")
	if n := find(func(n *Node) bool { return n.name == name }); n != nil {
		return n
	}
	if rest, ok := strings.CutPrefix(name, "ubd"); ok {
		rest = strings.TrimPrefix(rest, "/")
		rest = strings.TrimPrefix(rest, "disc")
		if n := byNumber(rest); n != nil {
			return n
		}
		return find(func(n *Node) bool { return n.name == "ubd"+rest })
	}
	if inDev {
		return nil
	}
	if maj, min, ok := strings.Cut(name, ":"); ok {
		a, err1 := strconv.ParseUint(maj, 10, 12)
		b, err2 := strconv.ParseUint(min, 10, 20)
		if err1 != nil || err2 != nil {
			return nil
		}
		return ByRdev(unix.Mkdev(uint32(a), uint32(b)))
	}
	if v, err := strconv.ParseUint(strings.TrimPrefix(name, "0x"), 16, 32); err == nil {
		return ByRdev(unix.Mkdev(uint32(v>>8&0xfff), uint32(v&0xff|v>>12&0xfff00)))
	}
	return nil
}

// byPartUUID finds a partition by its UUID, or the one whose number is PARTNROFF larger than that of the one with the UUID.
func byPartUUID(v string) *Node {
	v, rest, _ := strings.Cut(v, "/")
	off := 0
	if rest != "" {
		num, ok := cutPrefixFold(rest, "PARTNROFF=")
		var err error
		if off, err = strconv.Atoi(num); !ok || err != nil {
			return nil
		}
	}
	base := find(func(n *Node) bool { return n.UUID != "" && strings.EqualFold(n.UUID, v) })
	if base == nil || off == 0 {
		return base
	}
	return find(func(n *Node) bool { return n.disk == base.disk && n.partno > 0 && n.partno == base.partno+off })
}

// identified finds a node by the file system on it. A partition is preferred to a disk that begins with it.
func identified(match func(uuid, label string) bool) *Node {
	if Identify == nil {
		return nil
	}
	return find(func(n *Node) bool {
		uuid, label := Identify(n)
		return (uuid != "" || label != "") && match(uuid, label)
	})
}

// byNumber finds "0", "0p1" and "0/part1".
func byNumber(s string) *Node {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	idx, err := strconv.Atoi(s[:i])
	if err != nil {
		return nil
	}
	part := 0
	if rest := s[i:]; rest != "" {
		p, ok := strings.CutPrefix(rest, "/part")
		if !ok {
			p, ok = strings.CutPrefix(rest, "p")
		}
		if part, err = strconv.Atoi(p); !ok || err != nil {
			return nil
		}
	}
	return find(func(n *Node) bool { return n.disk.Index == idx && n.partno == part })
}

func find(match func(*Node) bool) *Node {
	for _, n := range Nodes() {
		if match(n) {
			return n
		}
	}
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// Find resolves a device as mount(2) names it: the path of a block special file in the caller's tree, or, when there is
// no caller with a tree yet (mounting the root), what Lookup understands. ENOTBLK, ENXIO, or what the path walk says.
func Find(c vfs.Caller, source string) (*Node, error) {
	if c == nil || c.FS() == nil {
		if n := Lookup(source); n != nil {
			return n, nil
		}
		return nil, unix.ENXIO
	}
	p, err := vfs.Lookup(c, nil, source, 0)
	if err != nil {
		return nil, err
	}
	defer p.Put()
	a := p.Inode().Attr()
	if a.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, unix.ENOTBLK
	}
	if n := ByRdev(a.Rdev); n != nil {
		return n, nil
	}
	return nil, unix.ENXIO
}
