package procfs

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// escape writes the bytes of set and the backslash as octal escapes, as mangle_path does.
func escape(s, set string) string {
	if !strings.ContainsAny(s, set) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			fmt.Fprintf(&b, "\\%03o", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

const (
	pathEscapes   = " \t\n\\"
	sourceEscapes = " \t\n\\#"
)

type mountFormat func(w *bytes.Buffer, m *vfs.MountInfo)

// formatMounts writes a line of /proc/<pid>/mounts (fstab(5)).
func formatMounts(w *bytes.Buffer, m *vfs.MountInfo) {
	fmt.Fprintf(w, "%s %s %s %s 0 0\n", escape(m.Source, sourceEscapes), escape(m.Point, pathEscapes),
		escape(m.Type, sourceEscapes), m.AllOptions())
}

// formatMountinfo writes a line of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)).
func formatMountinfo(w *bytes.Buffer, m *vfs.MountInfo) {
	tags := ""
	if m.Propagation != "" {
		tags = " " + m.Propagation
	}
	fmt.Fprintf(w, "%d %d %d:%d %s %s %s%s - %s %s %s\n", m.ID, m.ParentID, unix.Major(m.Dev), unix.Minor(m.Dev),
		escape(m.Root, pathEscapes), escape(m.Point, pathEscapes), m.Options, tags,
		escape(m.Type, sourceEscapes), escape(m.Source, sourceEscapes), m.SuperOptions)
}

// formatMountstats writes a line of /proc/<pid>/mountstats.
func formatMountstats(w *bytes.Buffer, m *vfs.MountInfo) {
	fmt.Fprintf(w, "device %s mounted on %s with fstype %s\n", escape(m.Source, sourceEscapes),
		escape(m.Point, pathEscapes), escape(m.Type, sourceEscapes))
}

// openMounts makes the open function of a list of mounts: those that the process sees. poll(2) tells of changes.
func openMounts(format mountFormat) func(*node, vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	return func(p *node, _ vfs.Caller, _ *vfs.File) (vfs.FileOps, error) {
		t, err := p.task()
		if err != nil {
			return nil, err
		}
		fs := t.FS()
		ns := fs.Namespace()
		if ns == nil {
			return nil, unix.EINVAL
		}
		var seen atomic.Uint64
		seen.Store(ns.Seq())
		return &pseudo.Text{
			Show: func(_ vfs.Caller, w *bytes.Buffer) error {
				root := fs.Root()
				if root.Dentry == nil {
					return unix.EINVAL
				}
				for _, m := range ns.Mounts(root) {
					format(w, &m)
				}
				return nil
			},
			Queue: &ns.Changed,
			Changed: func() bool {
				now := ns.Seq()
				return seen.Swap(now) != now
			},
		}, nil
	}
}
