package main

import (
	"cmp"
	"fmt"
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
