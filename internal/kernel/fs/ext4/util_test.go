package ext4

import (
	"os/exec"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

var execCommand = exec.Command

func readAt(ops vfs.FileOps, p []byte, off int64) (int, error) {
	return ops.Read(nil, nil, uio.ToBytes(p), off)
}
