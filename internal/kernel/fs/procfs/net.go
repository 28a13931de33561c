package procfs

import (
	"bytes"
	"fmt"

	"github.com/user-mode-linux/linux/internal/kernel/net/unixsock"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// addNet fills the directory net/.
func (fs *FS) addNet() {
	fs.net.AddFile("unix", 0o444, func(_ vfs.Caller, w *bytes.Buffer) error {
		formatUnix(w, unixsock.List())
		return nil
	}, nil)
	addInet(fs.net)
}

// formatUnix writes /proc/net/unix. The numbers in the first column only have to differ.
func formatUnix(w *bytes.Buffer, socks []unixsock.Info) {
	w.WriteString("Num       RefCount Protocol Flags    Type St Inode Path\n")
	for i, s := range socks {
		fmt.Fprintf(w, "%016x: %08X %08X %08X %04X %02X %5d", i+1, 2, 0, s.Flags, s.Type, s.State, s.Inode)
		if s.Path != "" {
			w.WriteByte(' ')
			w.WriteString(s.Path)
		}
		w.WriteByte('\n')
	}
}
