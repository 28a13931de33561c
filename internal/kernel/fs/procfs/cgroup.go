package procfs

import (
	"bytes"
	"fmt"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// showCgroup tells in which control group the process is, or was when it ended (cgroups(7)).
func showCgroup(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	if _, err := p.task(); err != nil {
		return err
	}
	g := p.g.Cgroup()
	fmt.Fprintf(w, "0::%s", g.Path())
	if g.Removed() {
		w.WriteString(" (deleted)")
	}
	w.WriteByte('\n')
	return nil
}

// showCgroups lists the controllers; hierarchy 0 is that of version 2.
func showCgroups(k *task.Kernel, w *bytes.Buffer) {
	w.WriteString("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
	fmt.Fprintf(w, "%s\t0\t%d\t1\n", cgroup.All, k.Cgroups.Count())
}
