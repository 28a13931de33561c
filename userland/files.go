package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func cat(args []string) int {
	_, names, err := getopt(args, "u")
	if err != nil {
		return fail(err)
	}
	return inputs(names, func(_ string, r io.Reader) error {
		_, err := io.Copy(os.Stdout, r)
		return err
	})
}

func rm(args []string) int {
	o, names, err := getopt(args, "firRdv")
	if err != nil {
		return fail(err)
	}
	if len(names) == 0 && !o.has('f') {
		return usage("[-frdv] file...")
	}
	status := 0
	for _, n := range names {
		fi, err := os.Lstat(n)
		switch {
		case err != nil && errors.Is(err, fs.ErrNotExist) && o.has('f'):
			continue
		case err != nil:
		case fi.IsDir() && (o.has('r') || o.has('R')):
			if b := filepath.Base(n); b == "." || b == ".." || filepath.Clean(n) == "/" {
				err = fmt.Errorf("will not remove %s", n)
			} else {
				err = os.RemoveAll(n)
			}
		case fi.IsDir() && !o.has('d'):
			err = &fs.PathError{Path: n, Err: syscall.EISDIR}
		default:
			err = os.Remove(n)
		}
		if err != nil {
			status = fail(err)
		} else if o.has('v') {
			fmt.Fprintf(stdout, "removed '%s'\n", n)
		}
	}
	return status
}

// each calls f for every operand and returns the exit status.
func each(names []string, f func(name string) error) int {
	status := 0
	for _, n := range names {
		if err := f(n); err != nil {
			status = fail(err)
		}
	}
	return status
}

func rmdir(args []string) int {
	o, names, err := getopt(args, "p")
	if err != nil {
		return fail(err)
	}
	return each(names, func(n string) error {
		for {
			if err := unix.Rmdir(n); err != nil {
				return &fs.PathError{Path: n, Err: err}
			}
			if n = filepath.Dir(n); !o.has('p') || n == "." || n == "/" {
				return nil
			}
		}
	})
}

func mkdir(args []string) int {
	o, names, err := getopt(args, "pm:v")
	if err != nil {
		return fail(err)
	}
	mode := uint64(0o777)
	if m, ok := o['m']; ok {
		if mode, err = strconv.ParseUint(m, 8, 12); err != nil {
			return fail(fmt.Errorf("invalid mode %q", m))
		}
	}
	return each(names, func(n string) error {
		if o.has('p') {
			err = os.MkdirAll(n, fs.FileMode(mode&0o777))
		} else {
			err = os.Mkdir(n, fs.FileMode(mode&0o777))
		}
		if err == nil && o.has('m') {
			err = unix.Chmod(n, uint32(mode))
		}
		return err
	})
}

func mkfifo(args []string) int {
	_, names, err := getopt(args, "")
	if err != nil {
		return fail(err)
	}
	return each(names, func(n string) error {
		if err := unix.Mkfifo(n, 0o666); err != nil {
			return &fs.PathError{Path: n, Err: err}
		}
		return nil
	})
}

func mknod(args []string) int {
	o, names, err := getopt(args, "m:")
	if err != nil {
		return fail(err)
	}
	if len(names) != 2 && len(names) != 4 {
		return usage("[-m mode] name b|c|p [major minor]")
	}
	mode := uint32(0o666)
	if m, ok := o['m']; ok {
		v, err := strconv.ParseUint(m, 8, 12)
		if err != nil {
			return fail(fmt.Errorf("invalid mode %q", m))
		}
		mode = uint32(v)
	}
	dev := uint64(0)
	switch names[1] {
	case "b":
		mode |= unix.S_IFBLK
	case "c", "u":
		mode |= unix.S_IFCHR
	case "p":
		mode |= unix.S_IFIFO
	default:
		return fail(fmt.Errorf("invalid type %q", names[1]))
	}
	if len(names) == 4 {
		major, err1 := strconv.ParseUint(names[2], 0, 12)
		minor, err2 := strconv.ParseUint(names[3], 0, 20)
		if err1 != nil || err2 != nil {
			return fail(errors.New("invalid device number"))
		}
		dev = unix.Mkdev(uint32(major), uint32(minor))
	}
	if err := unix.Mknod(names[0], mode, int(dev)); err != nil {
		return fail(&fs.PathError{Path: names[0], Err: err})
	}
	return 0
}

func ln(args []string) int {
	o, names, err := getopt(args, "sfnv")
	if err != nil {
		return fail(err)
	}
	if len(names) == 1 {
		names = append(names, ".")
	}
	if len(names) < 2 {
		return usage("[-sfn] target... link")
	}
	dst := names[len(names)-1]
	return each(names[:len(names)-1], func(src string) error {
		to := dst
		if fi, err := os.Lstat(dst); err != nil || !o.has('n') || fi.Mode()&fs.ModeSymlink == 0 {
			to = target(src, dst)
		}
		if o.has('f') {
			os.Remove(to)
		}
		if o.has('s') {
			return os.Symlink(src, to)
		}
		return os.Link(src, to)
	})
}

func touch(args []string) int {
	o, names, err := getopt(args, "acmr:d:t:")
	if err != nil {
		return fail(err)
	}
	at, mt := time.Now(), time.Now()
	if ref, ok := o['r']; ok {
		fi, err := os.Stat(ref)
		if err != nil {
			return fail(err)
		}
		at, mt = fi.ModTime(), fi.ModTime()
	}
	if d, ok := o['d']; ok {
		if at, err = parseDate(d); err != nil {
			return fail(err)
		}
		mt = at
	}
	return each(names, func(n string) error {
		if !o.has('c') {
			f, err := os.OpenFile(n, os.O_WRONLY|os.O_CREATE|unix.O_NONBLOCK, 0o666)
			if err != nil && !errors.Is(err, syscall.EISDIR) {
				return err
			}
			if err == nil {
				f.Close()
			}
		}
		a, m := at, mt
		if o.has('a') && !o.has('m') {
			m = time.Time{} // os.Chtimes leaves a zero time alone
		}
		if o.has('m') && !o.has('a') {
			a = time.Time{}
		}
		err := os.Chtimes(n, a, m)
		if o.has('c') && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func readlink(args []string) int {
	o, names, err := getopt(args, "fn")
	if err != nil {
		return fail(err)
	}
	return each(names, func(n string) error {
		var s string
		var err error
		if o.has('f') {
			if s, err = filepath.Abs(n); err == nil {
				if r, e := filepath.EvalSymlinks(s); e == nil {
					s = r
				}
			}
		} else {
			s, err = os.Readlink(n)
		}
		if err != nil {
			return err
		}
		stdout.WriteString(s)
		if !o.has('n') {
			stdout.WriteByte('\n')
		}
		return nil
	})
}

func stat(args []string) int {
	o, names, err := getopt(args, "Lf")
	if err != nil {
		return fail(err)
	}
	return each(names, func(n string) error {
		if o.has('f') {
			var s unix.Statfs_t
			if err := unix.Statfs(n, &s); err != nil {
				return &fs.PathError{Path: n, Err: err}
			}
			fmt.Fprintf(stdout, "  File: %s\n  Type: %x  Block size: %d\n  Blocks: %d  Free: %d  Available: %d\n  Inodes: %d  Free: %d\n",
				n, s.Type, s.Bsize, s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree)
			return nil
		}
		fi, err := os.Lstat(n)
		if o.has('L') {
			fi, err = os.Stat(n)
		}
		if err != nil {
			return err
		}
		st := sysStat(fi)
		fmt.Fprintf(stdout, "  File: %s\n  Size: %d\tBlocks: %d\tIO Block: %d\nDevice: %d,%d\tInode: %d\tLinks: %d\tRdev: %d,%d\nAccess: (%04o/%s)  Uid: %d (%s)  Gid: %d (%s)\n",
			n, st.Size, st.Blocks, st.Blksize, unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino, st.Nlink, unix.Major(st.Rdev), unix.Minor(st.Rdev),
			st.Mode&0o7777, modeString(st.Mode), st.Uid, userName(st.Uid), st.Gid, groupName(st.Gid))
		const layout = "2006-01-02 15:04:05.000000000 -0700"
		for _, t := range []struct {
			name string
			ts   syscall.Timespec
		}{{"Access", st.Atim}, {"Modify", st.Mtim}, {"Change", st.Ctim}} {
			fmt.Fprintf(stdout, "%s: %s\n", t.name, time.Unix(t.ts.Unix()).Format(layout))
		}
		return nil
	})
}

func mktemp(args []string) int {
	o, names, err := getopt(args, "dp:t")
	if err != nil {
		return fail(err)
	}
	dir, pattern := os.TempDir(), "tmp.*"
	if d, ok := o['p']; ok {
		dir = d
	}
	if len(names) > 0 {
		if !o.has('t') && !o.has('p') {
			dir = filepath.Dir(names[0])
		}
		base := filepath.Base(names[0])
		trimmed := strings.TrimRight(base, "X")
		if len(base)-len(trimmed) < 3 {
			return fail(fmt.Errorf("too few X's in template %q", names[0]))
		}
		pattern = trimmed + "*"
	}
	var path string
	if o.has('d') {
		path, err = os.MkdirTemp(dir, pattern)
	} else {
		var f *os.File
		if f, err = os.CreateTemp(dir, pattern); err == nil {
			path = f.Name()
			f.Close()
		}
	}
	if err != nil {
		return fail(err)
	}
	stdout.WriteString(path + "\n")
	return 0
}

func du(args []string) int {
	o, names, err := getopt(args, "ahskx")
	if err != nil {
		return fail(err)
	}
	if len(names) == 0 {
		names = []string{"."}
	}
	show := func(blocks int64, name string) {
		if o.has('h') {
			fmt.Fprintf(stdout, "%s\t%s\n", sizeString(blocks*512, true), name)
		} else {
			fmt.Fprintf(stdout, "%d\t%s\n", (blocks+1)/2, name)
		}
	}
	seen := map[[2]uint64]bool{}
	var walk func(name string, top bool) (int64, error)
	walk = func(name string, top bool) (int64, error) {
		fi, err := os.Lstat(name)
		if err != nil {
			return 0, err
		}
		st := sysStat(fi)
		if st.Nlink > 1 && !fi.IsDir() {
			key := [2]uint64{st.Dev, st.Ino}
			if seen[key] {
				return 0, nil
			}
			seen[key] = true
		}
		total := st.Blocks
		if !fi.IsDir() {
			if o.has('a') || top {
				show(total, name)
			}
			return total, nil
		}
		list, err := os.ReadDir(name)
		for _, e := range list {
			n, e := walk(filepath.Join(name, e.Name()), false)
			total += n
			err = errors.Join(err, e)
		}
		if top || !o.has('s') {
			show(total, name)
		}
		return total, err
	}
	return each(names, func(n string) error {
		_, err := walk(n, true)
		return err
	})
}
