package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// target is where a file goes that is copied or moved to dst.
func target(src, dst string) string {
	if fi, err := os.Stat(dst); err == nil && fi.IsDir() {
		return filepath.Join(dst, filepath.Base(src))
	}
	return dst
}

func cp(args []string) int {
	o, names, err := getopt(args, "afprRdLTv")
	if err != nil {
		return fail(err)
	}
	if len(names) < 2 {
		return usage("[-afprdv] source... target")
	}
	if o.has('a') {
		o['p'], o['r'], o['d'] = "", "", ""
	}
	dst := names[len(names)-1]
	if fi, err := os.Stat(dst); len(names) > 2 && (err != nil || !fi.IsDir()) {
		return fail(&fs.PathError{Path: dst, Err: syscall.ENOTDIR})
	}
	status := 0
	for _, src := range names[:len(names)-1] {
		if err := copyTree(o, src, target(src, dst)); err != nil {
			status = fail(err)
		}
	}
	return status
}

func copyTree(o options, src, dst string) error {
	stat := os.Stat
	if o.has('d') || (o.has('r') || o.has('R')) && !o.has('L') {
		stat = os.Lstat
	}
	fi, err := stat(src)
	if err != nil {
		return err
	}
	st := sysStat(fi)
	if t, err := os.Stat(dst); err == nil && os.SameFile(fi, t) {
		return fmt.Errorf("%s and %s are the same file", src, dst)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if !o.has('r') && !o.has('R') {
			return &fs.PathError{Path: src, Err: syscall.EISDIR}
		}
		if err := os.Mkdir(dst, 0o700|fi.Mode().Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		list, err := os.ReadDir(src)
		if err != nil {
			return err
		}
		for _, e := range list {
			err = errors.Join(err, copyTree(o, filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())))
		}
		if err != nil {
			return err
		}
		if !o.has('p') {
			os.Chmod(dst, fi.Mode().Perm())
		}
	case unix.S_IFLNK:
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		os.Remove(dst)
		if err := os.Symlink(to, dst); err != nil {
			return err
		}
	case unix.S_IFREG:
		if err := copyFile(src, dst, fi.Mode().Perm(), o.has('f')); err != nil {
			return err
		}
	default:
		if !o.has('r') && !o.has('R') {
			return copyFile(src, dst, 0o666, o.has('f'))
		}
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			return &fs.PathError{Path: dst, Err: err}
		}
	}
	if o.has('v') {
		fmt.Fprintf(stdout, "'%s' -> '%s'\n", src, dst)
	}
	if !o.has('p') {
		return nil
	}
	return preserve(st, dst)
}

func copyFile(src, dst string, perm fs.FileMode, force bool) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil && force {
		os.Remove(dst)
		out, err = os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// preserve gives dst the owner, mode and times of st. That the owner may not be kept is no error for a normal user.
func preserve(st *syscall.Stat_t, dst string) error {
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil && os.Getuid() == 0 {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return &fs.PathError{Path: dst, Err: err}
		}
	}
	ts := []unix.Timespec{unix.Timespec(st.Atim), unix.Timespec(st.Mtim)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dst, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Path: dst, Err: err}
	}
	return nil
}

func mv(args []string) int {
	o, names, err := getopt(args, "finv")
	if err != nil {
		return fail(err)
	}
	if len(names) < 2 {
		return usage("[-fnv] source... target")
	}
	dst := names[len(names)-1]
	if fi, err := os.Stat(dst); len(names) > 2 && (err != nil || !fi.IsDir()) {
		return fail(&fs.PathError{Path: dst, Err: syscall.ENOTDIR})
	}
	status := 0
	for _, src := range names[:len(names)-1] {
		to := target(src, dst)
		if _, err := os.Lstat(to); err == nil && o.has('n') {
			continue
		}
		err := os.Rename(src, to)
		if errors.Is(err, syscall.EXDEV) {
			if err = copyTree(options{'p': "", 'r': "", 'd': ""}, src, to); err == nil {
				err = os.RemoveAll(src)
			}
		}
		if err != nil {
			status = fail(err)
		} else if o.has('v') {
			fmt.Fprintf(stdout, "'%s' -> '%s'\n", src, to)
		}
	}
	return status
}
