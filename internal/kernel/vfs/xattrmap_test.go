package vfs_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// TestXattrMap looks that attributes are charged with all that they take, for as long as they are there, and refused when there
// is no room, or no inode any more.
func TestXattrMap(t *testing.T) {
	var x vfs.XattrMap
	used, limit := 0, 1<<30
	charge := func(n int) error {
		if n > 0 && used+n > limit {
			return unix.ENOMEM
		}
		used += n
		return nil
	}
	expect := func(what string, err, want error, bytes int) {
		t.Helper()
		if err != want || used != bytes {
			t.Errorf("%s: %v, want %v; %d bytes charged, want %d", what, err, want, used, bytes)
		}
	}
	set := func(name string, n, flags int) error { return x.Set(name, make([]byte, n), flags, charge) }
	const a = len("user.a") + vfs.XattrCost
	for _, n := range []int{1000, 3000, 500} {
		expect("set", set("user.a", n, 0), nil, n+a)
	}
	expect("again", set("user.a", 1, unix.XATTR_CREATE), unix.EEXIST, 500+a)
	expect("none", set("user.b", 1, unix.XATTR_REPLACE), unix.ENODATA, 500+a)
	expect("remove none", x.Remove("user.b", charge), unix.ENODATA, 500+a)
	limit = used
	expect("beyond the limit", set("user.b", 1, 0), unix.ENOMEM, 500+a)
	expect("less", set("user.a", 400, 0), nil, 400+a)
	limit = 1 << 30
	many := 0
	for set(fmt.Sprintf("user.%d", many), 0, 0) == nil {
		many++
	}
	if most := 128 << 10 / (vfs.XattrCost + len("user.")); many > most || used > 128<<10 {
		t.Errorf("%d empty attributes, %d bytes", many, used)
	}
	x.Clear(charge)
	expect("after the end", set("user.a", 1, 0), unix.ENODEV, 0)
	if l := x.List(); len(l) != 0 {
		t.Error(l)
	}
}
