package cgroupfs

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// fileSystem is the file system of a kernel that has nothing else, made once as only one can be registered.
var fileSystem = sync.OnceValue(func() *FS { return Register(&task.Kernel{Cgroups: cgroup.NewTree()}) })

// TestMkdirControl makes groups while somebody changes the controllers that they have: each has the files of those.
func TestMkdirControl(t *testing.T) {
	c := vfstest.New(tmpfs.NewRoot())
	defer c.Ctx.Release()
	root := fileSystem().Root().(*dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 501 {
			if err := storeControl(root, c, []string{"+pids", "-pids"}[i%2]); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := 0; ; i++ {
		name := fmt.Sprint(i)
		in, err := root.Mkdir(c, name, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			// The last one enabled it.
			for k := 0; k <= i; k++ {
				k, err := root.Lookup(c, fmt.Sprint(k))
				if err != nil {
					continue
				}
				if _, err := k.Lookup(c, "pids.max"); err != nil {
					t.Errorf("%s has no pids.max: %v", k.(*dir).g.Path(), err)
				}
				if err := root.Rmdir(c, k.(*dir).g.Name(), k); err != nil {
					t.Error(err)
				}
			}
			return
		default:
			if i%16 != 0 {
				if err := root.Rmdir(c, name, in); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestRemovedXattr sets attributes of groups that have been removed and are still open: what they take must not stay counted.
func TestRemovedXattr(t *testing.T) {
	c := vfstest.New(tmpfs.NewRoot())
	defer c.Ctx.Release()
	root := fileSystem().Root().(*dir)
	begin := kmem.Bytes()
	in, err := root.Mkdir(c, "a", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Setxattr(c, "user.a", make([]byte, 1000), 0); err != nil {
		t.Error(err)
	}
	if n := kmem.Bytes(); n < begin+1000 {
		t.Errorf("%d bytes charged", n-begin)
	}
	if err := root.Rmdir(c, "a", in); err != nil {
		t.Fatal(err)
	}
	if err := in.Setxattr(c, "user.b", make([]byte, 1000), 0); err != unix.ENODEV {
		t.Error(err)
	}
	if n := kmem.Bytes(); n != begin {
		t.Errorf("%d bytes are left", n-begin)
	}
}
