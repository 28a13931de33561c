package hostfs

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// hostXattr is the name on the host of an attribute of the guest. Those that mean something to the host's kernel never get
// there; with the option map they have other names.
func (in *inode) hostXattr(name string) (string, error) {
	switch {
	case in.covered, name == overrideXattr, strings.HasPrefix(name, hiddenPrefix):
		return "", unix.EOPNOTSUPP
	case strings.HasPrefix(name, "user."):
		return name, nil
	case in.sb.mapped && (strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")):
		return hiddenPrefix + name, nil
	}
	return "", unix.EOPNOTSUPP
}

// xattr calls f with a name of the file that calls about attributes take.
func (in *inode) xattr(name string, f func(path, name string) error) error {
	name, err := in.hostXattr(name)
	if err != nil {
		return err
	}
	h, err := in.hold()
	if err != nil {
		return err
	}
	defer h.put()
	return again(func() error { return f(h.path(), name) })
}

// Getxattr implements vfs.Inode.
func (in *inode) Getxattr(_ vfs.Caller, name string) (value []byte, err error) {
	err = in.xattr(name, func(path, name string) error {
		n, err := unix.Getxattr(path, name, nil)
		for err == nil && n > 0 {
			value = make([]byte, n)
			if n, err = unix.Getxattr(path, name, value); err == unix.ERANGE { // it has grown meanwhile
				n, err = unix.Getxattr(path, name, nil)
				continue
			}
			break
		}
		if err == nil {
			value = value[:n]
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// Setxattr implements vfs.Inode.
func (in *inode) Setxattr(_ vfs.Caller, name string, value []byte, flags int) error {
	in.sb.wrote()
	if h, err := in.hold(); err == nil {
		_ = in.suffice(h) // the call itself tells
		h.put()
	}
	return in.xattr(name, func(path, name string) error { return unix.Setxattr(path, name, value, flags) })
}

// Removexattr implements vfs.Inode.
func (in *inode) Removexattr(_ vfs.Caller, name string) error {
	in.sb.wrote()
	return in.xattr(name, unix.Removexattr)
}

// Listxattr implements vfs.Inode.
func (in *inode) Listxattr(vfs.Caller) ([]string, error) {
	if in.covered {
		return nil, nil
	}
	h, err := in.hold()
	if err != nil {
		return nil, err
	}
	defer h.put()
	var buf []byte
	err = again(func() error {
		n, err := unix.Listxattr(h.path(), nil)
		for err == nil && n > 0 {
			buf = make([]byte, n)
			if n, err = unix.Listxattr(h.path(), buf); err == unix.ERANGE {
				n, err = unix.Listxattr(h.path(), nil)
				continue
			}
			break
		}
		if err == nil {
			buf = buf[:n]
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(buf), "\x00") {
		if hidden, ok := strings.CutPrefix(name, hiddenPrefix); ok && in.sb.mapped {
			names = append(names, hidden)
		} else if _, err := in.hostXattr(name); err == nil && strings.HasPrefix(name, "user.") {
			names = append(names, name)
		}
	}
	return names, nil
}
