package cred

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseFileCaps(t *testing.T) {
	v := func(magic byte, flags byte, words ...byte) []byte {
		b := []byte{flags, 0, 0, magic}
		for _, w := range words {
			b = append(b, w, 0, 0, 0)
		}
		return b
	}
	for _, x := range []struct {
		name  string
		value []byte
		want  FileCaps
		err   error
	}{
		{"version 1", v(1, 1, 2, 4), FileCaps{Permitted: 2, Inheritable: 4, Effective: true}, nil},
		{"version 2", v(2, 0, 1, 2, 3, 4), FileCaps{Permitted: 3<<32 | 1, Inheritable: 4<<32 | 2}, nil},
		{"version 3", v(3, 1, 1, 2, 0, 0, 0), FileCaps{Permitted: 1, Inheritable: 2, Effective: true}, nil},
		{"unknown capabilities", v(2, 0, 0, 0, 0xff, 0), FileCaps{Permitted: AllCaps &^ (1<<32 - 1) & (0xff << 32)}, nil},
		{"another name space", v(3, 1, 1, 2, 0, 0, 9), FileCaps{}, unix.ENODATA},
		{"empty", nil, FileCaps{}, unix.EINVAL},
		{"short", v(2, 0, 1), FileCaps{}, unix.EINVAL},
		{"long", v(2, 0, 1, 2, 3, 4, 5), FileCaps{}, unix.EINVAL},
		{"unknown version", v(4, 0, 1, 2, 3, 4), FileCaps{}, unix.EINVAL},
	} {
		if got, err := ParseFileCaps(x.value); got != x.want || err != x.err {
			t.Errorf("%s: %+v, %v, want %+v, %v", x.name, got, err, x.want, x.err)
		}
	}
}
