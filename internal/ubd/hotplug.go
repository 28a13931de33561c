package ubd

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// Driver is the set as the management console has it: config ubd3=file, config ubd3, remove ubd3.
func (s *Set) Driver() hotplug.Driver { return driver{s} }

type driver struct{ set *Set }

// Name is hotplug.Driver's, as are the others.
func (driver) Name() string { return "ubd" }

// Config adds a disk.
func (d driver) Config(arg string) error {
	spec, err := Parse(arg)
	if err == nil {
		err = d.set.Add(spec)
	}
	var file *FileError
	switch {
	case err == errReused:
		return &hotplug.Error{Errno: unix.EBUSY, Text: err.Error()}
	case errors.As(err, &file):
		return &hotplug.Error{Errno: hostErrno(err), Text: "Couldn't determine size of device's file: " + err.Error()}
	}
	return err
}

// hostErrno is the errno that an error wraps.
func hostErrno(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return unix.EINVAL
}

// Query is the configuration of a disk.
func (d driver) Query(id string) (string, error) {
	n, err := ParseUnit(id)
	if err != nil {
		return "", err
	}
	return d.set.Query(n), nil
}

// Remove takes a disk away.
func (d driver) Remove(id string) error {
	n, err := ParseUnit(id)
	if err != nil {
		return err
	}
	return d.set.Remove(n)
}
