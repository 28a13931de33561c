package pseudo

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// TestXattrMemory looks that attributes are charged for as long as they are there, and refused when there is no room.
func TestXattrMemory(t *testing.T) {
	var x Xattrs
	begin := kmem.Bytes()
	set := func(name string, n int) error { return x.Set(name, bytes.Repeat([]byte{1}, n), 0) }
	for _, n := range []int{1000, 3000, 500} {
		if err := set("user.a", n); err != nil || kmem.Bytes() != begin+uint64(n) {
			t.Errorf("%d bytes: %v, %d charged", n, err, kmem.Bytes()-begin)
		}
	}
	defer kmem.SetLimit(uint64(kmem.Limit()))
	kmem.SetLimit(kmem.Bytes())
	if err := set("user.b", 200); err != unix.ENOMEM {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := set("user.a", 400); err != nil {
		t.Error(err)
	}
	if err := x.Remove("user.a"); err != nil {
		t.Error(err)
	}
	if x.Clear(); kmem.Bytes() != begin {
		t.Errorf("%d bytes are left", kmem.Bytes()-begin)
	}
}
