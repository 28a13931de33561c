package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
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

func sysStat(fi fs.FileInfo) *syscall.Stat_t { return fi.Sys().(*syscall.Stat_t) }

// modeString is a mode as ls -l shows it.
func modeString(m uint32) string {
	b := []byte("?rwxrwxrwx")
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
		b[0] = '-'
	case unix.S_IFDIR:
		b[0] = 'd'
	case unix.S_IFLNK:
		b[0] = 'l'
	case unix.S_IFCHR:
		b[0] = 'c'
	case unix.S_IFBLK:
		b[0] = 'b'
	case unix.S_IFIFO:
		b[0] = 'p'
	case unix.S_IFSOCK:
		b[0] = 's'
	}
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit     uint32
		at      int
		set, no byte
	}{{unix.S_ISUID, 3, 's', 'S'}, {unix.S_ISGID, 6, 's', 'S'}, {unix.S_ISVTX, 9, 't', 'T'}} {
		if m&s.bit != 0 {
			if b[s.at] == 'x' {
				b[s.at] = s.set
			} else {
				b[s.at] = s.no
			}
		}
	}
	return string(b)
}

func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return u.Username
	}
	return strconv.Itoa(int(uid))
}

func groupName(gid uint32) string {
	if g, err := user.LookupGroupId(strconv.Itoa(int(gid))); err == nil {
		return g.Name
	}
	return strconv.Itoa(int(gid))
}

// sizeString is a size in bytes, or with a suffix.
func sizeString(n int64, human bool) string {
	if !human || n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	f, i := float64(n), -1
	for f >= 1024 && i < 5 {
		f, i = f/1024, i+1
	}
	if f < 10 {
		return fmt.Sprintf("%.1f%c", f, "KMGTPE"[i])
	}
	return fmt.Sprintf("%.0f%c", f, "KMGTPE"[i])
}

type entry struct {
	name string
	fi   fs.FileInfo
	dir  string
}

func ls(args []string) int {
	o, names, err := getopt(args, "1AaCdFhilnRrSstL")
	if err != nil {
		return fail(err)
	}
	if len(names) == 0 {
		names = []string{"."}
	}
	status := 0
	var files []entry
	var dirs []string
	for _, n := range names {
		fi, err := os.Lstat(n)
		if err == nil && (o.has('L') || !o.has('l') && fi.Mode()&fs.ModeSymlink != 0) {
			if t, err2 := os.Stat(n); err2 == nil {
				fi = t
			}
		}
		switch {
		case err != nil:
			status = fail(err)
		case fi.IsDir() && !o.has('d'):
			dirs = append(dirs, n)
		default:
			files = append(files, entry{n, fi, ""})
		}
	}
	lsPrint(o, files)
	for i, d := range dirs {
		if len(names) > 1 || o.has('R') {
			if i > 0 || len(files) > 0 {
				stdout.WriteByte('\n')
			}
		}
		if !lsDir(o, d, len(names) > 1 || o.has('R')) {
			status = 1
		}
	}
	return status
}

func lsDir(o options, dir string, header bool) bool {
	if header {
		fmt.Fprintf(stdout, "%s:\n", dir)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		fail(err)
		return false
	}
	var entries []entry
	if o.has('a') {
		for _, n := range []string{".", ".."} {
			if fi, err := os.Lstat(filepath.Join(dir, n)); err == nil {
				entries = append(entries, entry{n, fi, dir})
			}
		}
	}
	ok := true
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") && !o.has('a') && !o.has('A') {
			continue
		}
		fi, err := e.Info()
		if err == nil && o.has('L') {
			fi, err = os.Stat(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			fail(err)
			ok = false
			continue
		}
		entries = append(entries, entry{e.Name(), fi, dir})
	}
	if o.has('l') || o.has('s') {
		var blocks int64
		for _, e := range entries {
			blocks += sysStat(e.fi).Blocks
		}
		fmt.Fprintf(stdout, "total %d\n", blocks/2)
	}
	lsPrint(o, entries)
	if o.has('R') {
		for _, e := range entries {
			if e.fi.IsDir() && e.name != "." && e.name != ".." {
				stdout.WriteByte('\n')
				ok = lsDir(o, filepath.Join(dir, e.name), true) && ok
			}
		}
	}
	return ok
}

func lsPrint(o options, entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int {
		switch {
		case o.has('t'):
			if c := b.fi.ModTime().Compare(a.fi.ModTime()); c != 0 {
				return c
			}
		case o.has('S'):
			if c := cmp.Compare(b.fi.Size(), a.fi.Size()); c != 0 {
				return c
			}
		}
		return strings.Compare(a.name, b.name)
	})
	if o.has('r') {
		slices.Reverse(entries)
	}
	if o.has('l') || o.has('n') {
		lsLong(o, entries)
		return
	}
	var cells []string
	for _, e := range entries {
		s := e.name
		if o.has('s') {
			s = fmt.Sprintf("%4d %s", sysStat(e.fi).Blocks/2, s)
		}
		if o.has('i') {
			s = fmt.Sprintf("%7d %s", sysStat(e.fi).Ino, s)
		}
		cells = append(cells, s+lsMark(o, e))
	}
	if o.has('1') || !o.has('C') && !term.IsTerminal(1) {
		for _, c := range cells {
			stdout.WriteString(c + "\n")
		}
		return
	}
	columns(cells)
}

func lsMark(o options, e entry) string {
	if !o.has('F') {
		return ""
	}
	switch m := e.fi.Mode(); {
	case m.IsDir():
		return "/"
	case m&fs.ModeSymlink != 0:
		return "@"
	case m&fs.ModeNamedPipe != 0:
		return "|"
	case m&fs.ModeSocket != 0:
		return "="
	case m.IsRegular() && m&0o111 != 0:
		return "*"
	}
	return ""
}

// columns prints cells in columns, down first.
func columns(cells []string) {
	width, widest := 80, 0
	if w, _, err := term.GetSize(1); err == nil && w > 0 {
		width = w
	}
	for _, c := range cells {
		widest = max(widest, len(c)+2)
	}
	if len(cells) == 0 {
		return
	}
	cols := max(1, width/widest)
	rows := (len(cells) + cols - 1) / cols
	for r := range rows {
		var line strings.Builder
		for i := r; i < len(cells); i += rows {
			fmt.Fprintf(&line, "%-*s", widest, cells[i])
		}
		stdout.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

func lsLong(o options, entries []entry) {
	var rows [][]string
	width := make([]int, 4)
	for _, e := range entries {
		st := sysStat(e.fi)
		owner, group := strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
		if !o.has('n') {
			owner, group = userName(st.Uid), groupName(st.Gid)
		}
		size := sizeString(st.Size, o.has('h'))
		if t := st.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
			size = fmt.Sprintf("%d, %d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		row := []string{strconv.FormatUint(uint64(st.Nlink), 10), owner, group, size}
		for i, c := range row {
			width[i] = max(width[i], len(c))
		}
		rows = append(rows, row)
	}
	old := time.Now().AddDate(0, -6, 0)
	for i, e := range entries {
		st, r := sysStat(e.fi), rows[i]
		stamp := e.fi.ModTime().Format("Jan _2 15:04")
		if e.fi.ModTime().Before(old) || e.fi.ModTime().After(time.Now().Add(24*time.Hour)) {
			stamp = e.fi.ModTime().Format("Jan _2  2006")
		}
		if o.has('i') {
			fmt.Fprintf(stdout, "%7d ", st.Ino)
		}
		fmt.Fprintf(stdout, "%s %*s %-*s %-*s %*s %s %s", modeString(st.Mode), width[0], r[0], width[1], r[1], width[2], r[2], width[3], r[3], stamp, e.name)
		if e.fi.Mode()&fs.ModeSymlink != 0 {
			if t, err := os.Readlink(filepath.Join(e.dir, e.name)); err == nil {
				stdout.WriteString(" -> " + t)
			}
		} else {
			stdout.WriteString(lsMark(o, e))
		}
		stdout.WriteByte('\n')
	}
}

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

// recurse calls f for name and, with deep, for everything below it, without following symbolic links.
func recurse(name string, deep bool, f func(path string, fi fs.FileInfo) error) error {
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !deep || !fi.IsDir() {
		return f(name, fi)
	}
	return filepath.Walk(name, func(path string, fi fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return f(path, fi)
	})
}

func chmod(args []string) int {
	deep := false
	if len(args) > 0 && args[0] == "-R" {
		deep, args = true, args[1:]
	}
	if len(args) < 2 {
		return usage("[-R] mode file...")
	}
	return each(args[1:], func(n string) error {
		return recurse(n, deep, func(path string, fi fs.FileInfo) error {
			if deep && fi.Mode()&fs.ModeSymlink != 0 {
				return nil
			}
			fi, err := os.Stat(path)
			if err != nil {
				return err
			}
			mode, err := parseMode(args[0], sysStat(fi).Mode)
			if err != nil {
				return err
			}
			if err := unix.Chmod(path, mode); err != nil {
				return &fs.PathError{Path: path, Err: err}
			}
			return nil
		})
	})
}

// parseMode applies an octal or symbolic mode (u+rwx,go-w) to the mode old.
func parseMode(s string, old uint32) (uint32, error) {
	if n, err := strconv.ParseUint(s, 8, 12); err == nil {
		return uint32(n), nil
	}
	bad := fmt.Errorf("invalid mode %q", s)
	mode := old & 0o7777
	for clause := range strings.SplitSeq(s, ",") {
		i := strings.IndexAny(clause, "+-=")
		if i < 0 {
			return 0, bad
		}
		var who uint32
		for _, c := range clause[:i] {
			switch c {
			case 'u':
				who |= 0o4700
			case 'g':
				who |= 0o2070
			case 'o':
				who |= 0o1007
			case 'a':
				who |= 0o7777
			default:
				return 0, bad
			}
		}
		if who == 0 {
			old := unix.Umask(0)
			unix.Umask(old)
			who = 0o7777 &^ uint32(old)
		}
		var bits uint32
		for _, c := range clause[i+1:] {
			switch c {
			case 'r':
				bits |= 0o444
			case 'w':
				bits |= 0o222
			case 'x':
				bits |= 0o111
			case 'X':
				if old&unix.S_IFMT == unix.S_IFDIR || old&0o111 != 0 {
					bits |= 0o111
				}
			case 's':
				bits |= 0o6000
			case 't':
				bits |= 0o1000
				who |= 0o1000
			default:
				return 0, bad
			}
		}
		switch clause[i] {
		case '+':
			mode |= bits & who
		case '-':
			mode &^= bits & who
		case '=':
			mode = mode&^(who&0o777) | bits&who
		}
	}
	return mode, nil
}

func chown(args []string) int { return changeOwner(args, true) }
func chgrp(args []string) int { return changeOwner(args, false) }

func changeOwner(args []string, owner bool) int {
	o, names, err := getopt(args, "Rh")
	if err != nil {
		return fail(err)
	}
	if len(names) < 2 {
		return usage("[-Rh] owner[:group]|group file...")
	}
	uid, gid := -1, -1
	u, g, hasGroup := strings.Cut(names[0], ":")
	if !owner {
		u, g, hasGroup = "", names[0], true
	}
	if u != "" {
		if uid, err = lookupUser(u); err != nil {
			return fail(err)
		}
	}
	if hasGroup && g != "" {
		if gid, err = lookupGroup(g); err != nil {
			return fail(err)
		}
	}
	change := os.Chown
	if o.has('h') || o.has('R') {
		change = os.Lchown
	}
	return each(names[1:], func(n string) error {
		return recurse(n, o.has('R'), func(path string, _ fs.FileInfo) error { return change(path, uid, gid) })
	})
}

func lookupUser(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return n, nil
	}
	u, err := user.Lookup(s)
	if err != nil {
		return 0, fmt.Errorf("invalid user %q", s)
	}
	return strconv.Atoi(u.Uid)
}

func lookupGroup(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(s)
	if err != nil {
		return 0, fmt.Errorf("invalid group %q", s)
	}
	return strconv.Atoi(g.Gid)
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
