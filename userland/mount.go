package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountFlags are the options of mount that are flags; those with a minus are taken off.
var mountFlags = map[string]int{
	"ro": unix.MS_RDONLY, "rw": -unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "suid": -unix.MS_NOSUID, "nodev": unix.MS_NODEV, "dev": -unix.MS_NODEV,
	"noexec": unix.MS_NOEXEC, "exec": -unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS, "remount": unix.MS_REMOUNT, "noatime": unix.MS_NOATIME,
	"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "bind": unix.MS_BIND,
	"rbind": unix.MS_BIND | unix.MS_REC, "move": unix.MS_MOVE, "defaults": 0, "private": unix.MS_PRIVATE, "shared": unix.MS_SHARED, "slave": unix.MS_SLAVE,
}

func mount(args []string) int {
	for i, a := range args {
		if rest, ok := strings.CutPrefix(a, "--"); ok && mountFlags[rest] != 0 {
			args = append(append(slices.Clone(args[:i]), "-o", rest), args[i+1:]...)
			break
		}
	}
	var opts []string
	for i := 0; i+1 < len(args); i++ {
		if args[i] == "-o" {
			opts = append(opts, args[i+1])
		}
	}
	o, names, err := getopt(args, "at:o:rwn")
	if err != nil {
		return fail(err)
	}
	if len(names) == 0 && !o.has('a') {
		f, err := os.Open("/proc/self/mounts")
		if err != nil {
			return fail(err)
		}
		defer f.Close()
		lines(f, func(s string) bool {
			if f := strings.Fields(s); len(f) >= 4 {
				fmt.Fprintf(stdout, "%s on %s type %s (%s)\n", f[0], f[1], f[2], f[3])
			}
			return true
		})
		return 0
	}
	if o.has('a') {
		return mountAll()
	}
	if o.has('r') {
		opts = append(opts, "ro")
	}
	all := strings.Join(opts, ",")
	switch {
	case len(names) == 1 && strings.Contains(all, "remount"):
		names = []string{"none", names[0]}
	case len(names) == 1:
		return mountFromTable(names[0])
	case len(names) != 2:
		return usage("[-t type] [-o options] device directory")
	}
	return each(names[1:], func(dir string) error { return mountOne(names[0], dir, o['t'], all) })
}

func mountOne(dev, dir, kind, opts string) error {
	flags := 0
	var data []string
	for opt := range strings.SplitSeq(opts, ",") {
		f, ok := mountFlags[opt]
		switch {
		case opt == "" || opt == "defaults" || opt == "auto" || opt == "noauto" || opt == "user" || opt == "nouser" || opt == "_netdev":
		case !ok:
			data = append(data, opt)
		case f < 0:
			flags &^= -f
		default:
			flags |= f
		}
	}
	const noType = unix.MS_BIND | unix.MS_MOVE | unix.MS_REMOUNT | unix.MS_PRIVATE | unix.MS_SHARED | unix.MS_SLAVE
	kinds := []string{kind}
	if (kind == "" || kind == "auto") && flags&noType == 0 {
		kinds = blockTypes()
	}
	var err error
	for _, k := range kinds {
		err = unix.Mount(dev, dir, k, uintptr(flags), strings.Join(data, ","))
		if err == unix.EROFS && flags&unix.MS_RDONLY == 0 {
			fmt.Fprintf(os.Stderr, "mount: %s is write-protected, mounting read-only\n", dev)
			err = unix.Mount(dev, dir, k, uintptr(flags)|unix.MS_RDONLY, strings.Join(data, ","))
		}
		if err != unix.EINVAL && err != unix.ENODEV {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %s", dev, dir, reason(err))
	}
	return nil
}

// blockTypes are the file systems that live on a device.
func blockTypes() []string {
	var kinds []string
	if f, err := os.Open("/proc/filesystems"); err == nil {
		defer f.Close()
		lines(f, func(s string) bool {
			if !strings.HasPrefix(s, "nodev") {
				kinds = append(kinds, strings.TrimSpace(s))
			}
			return true
		})
	}
	if len(kinds) == 0 {
		kinds = []string{"ext4"}
	}
	return kinds
}

// fstab calls f with the fields of each line of /etc/fstab.
func fstab(f func(fields []string) error) int {
	file, err := os.Open("/etc/fstab")
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	status := 0
	lines(file, func(s string) bool {
		if w := strings.Fields(s); len(w) >= 4 && !strings.HasPrefix(w[0], "#") {
			if err := f(w); err != nil {
				status = fail(err)
			}
		}
		return true
	})
	return status
}

func mountAll() int {
	return fstab(func(w []string) error {
		if slices.Contains(strings.Split(w[3], ","), "noauto") || w[2] == "swap" || w[1] == "/" {
			return nil
		}
		return mountOne(w[0], w[1], w[2], w[3])
	})
}

func mountFromTable(name string) int {
	found := false
	status := fstab(func(w []string) error {
		if found || w[0] != name && w[1] != name {
			return nil
		}
		found = true
		return mountOne(w[0], w[1], w[2], w[3])
	})
	if status == 0 && !found {
		return fail(fmt.Errorf("%s is not in /etc/fstab", name))
	}
	return status
}

func umount(args []string) int {
	o, names, err := getopt(args, "lfarn")
	if err != nil {
		return fail(err)
	}
	flags := 0
	if o.has('l') {
		flags |= unix.MNT_DETACH
	}
	if o.has('f') {
		flags |= unix.MNT_FORCE
	}
	if o.has('a') {
		names = nil
		f, err := os.Open("/proc/self/mounts")
		if err != nil {
			return fail(err)
		}
		lines(f, func(s string) bool {
			if w := strings.Fields(s); len(w) > 2 && w[1] != "/" && w[1] != "/proc" {
				names = append(names, w[1])
			}
			return true
		})
		f.Close()
		slices.Reverse(names)
	}
	return each(names, func(n string) error {
		err := unix.Unmount(n, flags)
		if err == unix.EINVAL || err == unix.ENOTDIR || err == unix.ENOENT {
			if dir := mountPoint(n); dir != "" {
				err = unix.Unmount(dir, flags)
			}
		}
		if err != nil {
			return &fs.PathError{Path: n, Err: err}
		}
		return nil
	})
}

// mountPoint is where a device is mounted.
func mountPoint(dev string) string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	dir := ""
	lines(f, func(s string) bool {
		if w := strings.Fields(s); len(w) > 2 && w[0] == dev {
			dir = w[1]
		}
		return true
	})
	return dir
}

func df(args []string) int {
	o, names, err := getopt(args, "ahikmTP")
	if err != nil {
		return fail(err)
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	var mounts [][]string
	lines(f, func(s string) bool {
		if w := strings.Fields(s); len(w) > 2 {
			mounts = append(mounts, w)
		}
		return true
	})
	if len(names) > 0 {
		var wanted [][]string
		for _, n := range names {
			abs, err := filepath.Abs(n)
			if err != nil {
				return fail(err)
			}
			best := []string(nil)
			for _, m := range mounts {
				if (abs == m[1] || m[1] == "/" || strings.HasPrefix(abs, m[1]+"/") || abs == m[0]) && (best == nil || len(m[1]) >= len(best[1])) {
					best = m
				}
			}
			if best != nil {
				wanted = append(wanted, best)
			}
		}
		mounts = wanted
	}
	unit := "1K-blocks"
	if o.has('h') {
		unit = "Size"
	}
	if o.has('i') {
		unit = "Inodes"
	}
	fmt.Fprintf(stdout, "%-20s %10s %10s %10s %4s %s\n", "Filesystem", unit, "Used", "Available", "Use%", "Mounted on")
	for _, m := range mounts {
		var s unix.Statfs_t
		if unix.Statfs(m[1], &s) != nil || s.Blocks == 0 && !o.has('a') && len(names) == 0 {
			continue
		}
		bs := s.Frsize
		if bs == 0 {
			bs = s.Bsize
		}
		total, used, avail := int64(s.Blocks)*bs, int64(s.Blocks-s.Bfree)*bs, int64(s.Bavail)*bs
		if o.has('i') {
			total, used, avail = int64(s.Files)<<10, int64(s.Files-s.Ffree)<<10, int64(s.Ffree)<<10
		}
		percent := "-"
		if used+avail > 0 {
			percent = fmt.Sprintf("%d%%", (used*100+used+avail-1)/(used+avail))
		}
		show := func(n int64) string {
			if o.has('h') && !o.has('i') {
				return sizeString(n, true)
			}
			return strconv.FormatInt(n>>10, 10)
		}
		fmt.Fprintf(stdout, "%-20s %10s %10s %10s %4s %s\n", m[0], show(total), show(used), show(avail), percent, m[1])
	}
	return 0
}
