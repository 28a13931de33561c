package cmdline

import (
	"strconv"
	"strings"
)

// UBDMajor is the major number of the disks; each has 16 minors.
const UBDMajor = 98

// RootDevice finds the device number in a root= value: 98:0, 6200 (hexadecimal), and the names /dev/ubda1, /dev/ubd0,
// /dev/ubd/0, /dev/ubd/disc0, with or without /dev/. Names of other devices, PARTUUID= and LABEL= are not numbers (false).
func RootDevice(spec string) (major, minor uint32, ok bool) {
	if a, b, found := strings.Cut(spec, ":"); found {
		ma, err1 := strconv.ParseUint(a, 10, 12)
		mi, err2 := strconv.ParseUint(b, 10, 20)
		return uint32(ma), uint32(mi), err1 == nil && err2 == nil
	}
	name := strings.TrimPrefix(spec, "/dev/")
	if unit, found := strings.CutPrefix(name, "ubd"); found {
		return ubdDevice(unit)
	}
	if name != spec {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(spec, 16, 32)
	if err != nil {
		return 0, 0, false
	}
	// The old 16-bit form, and the wide one of new_decode_dev.
	dev := uint32(n)
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00, true
}

// ubdDevice is the device of what follows "ubd" in a name: "a", "a1", "0", "/0", "/disc0".
func ubdDevice(s string) (major, minor uint32, ok bool) {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "/"), "disc")
	if s == "" {
		return 0, 0, false
	}
	if c := s[0]; 'a' <= c && c <= 'p' {
		part := uint64(0)
		if len(s) > 1 {
			var err error
			if part, err = strconv.ParseUint(s[1:], 10, 4); err != nil || part == 0 {
				return 0, 0, false
			}
		}
		return UBDMajor, uint32(c-'a')*16 + uint32(part), true
	}
	unit, err := strconv.ParseUint(s, 10, 4)
	if err != nil {
		return 0, 0, false
	}
	return UBDMajor, uint32(unit) * 16, true
}
