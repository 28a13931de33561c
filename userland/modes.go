package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

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
