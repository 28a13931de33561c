package ext4

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// BenchmarkCreateWriteUnlink makes a small file, as a program does, and removes it again.
func BenchmarkCreateWriteUnlink(b *testing.B) {
	_, _, d := sliceDisk(b, "256M")
	must(b, vfs.Mkdir(d, nil, "/d", 0o755))
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("/d/ub.%d", i)
	}
	data := vfstest.Memory(pattern(1024, 1))
	var src uio.Src
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		name := names[i%len(names)]
		f, err := vfs.Open(d, nil, name, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
		src.Reset(data, 0, 1024)
		if _, err := vfs.Write(d, f, &src); err != nil {
			b.Fatal(err)
		}
		f.DecRef()
		if err := vfs.Unlink(d, nil, name); err != nil {
			b.Fatal(err)
		}
	}
}
