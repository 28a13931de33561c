package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/hostfs"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// registerHostfs makes hostfs known to the guest. It reaches what the command line names, and nothing else.
func registerHostfs(cfg *cmdline.Config) {
	if cfg.HostfsOff {
		return
	}
	if cfg.HostfsDir == "" {
		hostfs.RegisterClosed()
		return
	}
	s, err := hostfs.New(hostfs.Config{Dir: cfg.HostfsDir, Append: cfg.HostfsAppend, ReadOnly: cfg.HostfsReadOnly, Map: cfg.HostfsMap})
	if err != nil {
		klog.Errf("%v", err)
		warn(err.Error())
		return
	}
	s.Register()
}

// hostRoot prepares a root on hostfs. It has no device: root=/dev/root stands for that, and need not be given. A directory
// as the first disk is such a root. All of hostfs is confined to the root's directory if hostfs= gives no other.
func hostRoot(cfg *cmdline.Config) error {
	if cfg.RootFS == "hostfs" && cfg.Root == "" {
		cfg.Root = "/dev/root"
	}
	for i, word := range cfg.UBD {
		name, dir, _ := strings.Cut(word, "=")
		flags, first := strings.CutPrefix(name, "ubd0")
		if !first {
			flags, first = strings.CutPrefix(name, "ubda")
		}
		dir, options, _ := strings.Cut(dir, ",")
		if fi, err := os.Stat(dir); !first || err != nil || !fi.IsDir() {
			continue
		}
		if cfg.HostfsOff {
			return fmt.Errorf("%s: it is a directory, which needs hostfs", word)
		}
		switch cfg.Root {
		case "", "98:0", "6200", "/dev/ubd0", "/dev/ubda", "/dev/ubd/0", "/dev/root":
		default:
			return fmt.Errorf("%s: a directory can only be the root, and that is %s", word, cfg.Root)
		}
		cfg.UBD = slices.Delete(cfg.UBD, i, i+1)
		cfg.Root, cfg.RootFS = "/dev/root", "hostfs"
		for o := range strings.SplitSeq(options, ",") {
			switch o {
			case "":
			case "map":
				cfg.HostfsMap = true
			case "append":
				cfg.HostfsAppend = true
			default:
				return fmt.Errorf("%s: it is a directory: the options after it can only be map and append", word)
			}
		}
		if strings.Contains(flags, "r") {
			cfg.HostfsReadOnly = true
		}
		return confineRoot(cfg, dir)
	}
	if cfg.RootFS == "hostfs" && cfg.HostfsDir == "" {
		dir, options, _ := strings.Cut(strings.TrimPrefix(cfg.RootFlags, "hostfs="), ",")
		cfg.HostfsDir, cfg.RootFlags = cmp.Or(dir, "/"), ""
		if options != "" {
			cfg.RootFlags = "," + options
		}
	}
	return nil
}

// confineRoot makes dir the root: hostfs= is that too, if it is not given.
func confineRoot(cfg *cmdline.Config, dir string) error {
	if cfg.HostfsDir == "" {
		cfg.HostfsDir, cfg.RootFlags = dir, ""
		return nil
	}
	jail, err := filepath.Abs(cfg.HostfsDir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	rel, err := filepath.Rel(jail, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return fmt.Errorf("the root %s is not below hostfs=%s", dir, cfg.HostfsDir)
	}
	cfg.RootFlags = "/" + strings.TrimPrefix(rel, ".")
	return nil
}
