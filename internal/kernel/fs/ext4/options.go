package ext4

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// options are the mount options. Those that make no difference here are accepted and shown: data is always written in
// order, which is more than data=writeback asks for; for data=journal see the comment of the package.
type options struct {
	noload, noACL, minixdf, grpid bool
	discard                       bool
	commit                        time.Duration // 0 is the default
	onError                       uint16        // disk.ErrorsRO and so on; 0 is what the superblock says
	sbBlock                       uint64
	shown                         []string
}

func (o *options) String() string {
	s := ""
	for _, x := range o.shown {
		s += "," + x
	}
	return s
}

// flagOptions have no argument, valueOptions have one (ext4(5)).
var (
	flagOptions = strings.Fields(`bsddf minixdf grpid bsdgroups nogrpid sysvgroups debug nouid32 orlov oldalloc acl noacl
		user_xattr nouser_xattr noload norecovery bh nobh discard nodiscard delalloc nodelalloc barrier nobarrier
		auto_da_alloc noauto_da_alloc block_validity noblock_validity dioread_lock dioread_nolock i_version quota noquota
		usrquota grpquota prjquota init_itable noinit_itable lazytime nolazytime nombcache no_mbcache dax abort
		journal_checksum nojournal_checksum journal_async_commit warn_on_error nowarn_on_error
		prefetch_block_bitmaps no_prefetch_block_bitmaps inlinecrypt check nocheck reservation noreservation`)
	valueOptions = strings.Fields(`errors data commit min_batch_time max_batch_time journal_dev journal_path journal_ioprio
		resuid resgid sb stripe inode_readahead_blks max_dir_size_kb init_itable barrier auto_da_alloc data_err jqfmt
		usrjquota grpjquota dax mb_optimize_scan test_dummy_encryption check`)
)

var errorActions = map[string]uint16{"continue": disk.ErrorsContinue, "remount-ro": disk.ErrorsRO, "panic": disk.ErrorsPanic}

// parse adds what the data argument of mount(2) says.
func (o *options) parse(data string) error {
	for opt := range strings.SplitSeq(data, ",") {
		if opt == "" {
			continue
		}
		name, value, hasValue := strings.Cut(opt, "=")
		known := flagOptions
		if hasValue {
			known = valueOptions
		}
		if !slices.Contains(known, name) {
			klog.Errf("EXT4-fs: Unknown parameter '%s'", name)
			return unix.EINVAL
		}
		switch name {
		case "noload", "norecovery":
			o.noload = true
			opt = "norecovery"
		case "grpid", "bsdgroups":
			o.grpid = true
		case "nogrpid", "sysvgroups":
			o.grpid = false
		case "acl":
			o.noACL = false
		case "noacl":
			o.noACL = true
		case "minixdf":
			o.minixdf = true
		case "bsddf":
			o.minixdf = false
		case "errors":
			o.onError = errorActions[value]
			if o.onError == 0 {
				klog.Errf("EXT4-fs: Bad value for 'errors'")
				return unix.EINVAL
			}
		case "discard":
			o.discard = true
		case "nodiscard":
			o.discard = false
		case "data":
			if value != "ordered" && value != "writeback" && value != "journal" {
				klog.Errf("EXT4-fs: Bad value for 'data'")
				return unix.EINVAL
			}
		case "commit":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n > math.MaxInt32/1000 {
				klog.Errf("EXT4-fs: Bad value for 'commit'")
				return unix.EINVAL
			}
			o.commit = time.Duration(n) * time.Second
		case "sb":
			if _, err := fmt.Sscan(value, &o.sbBlock); err != nil {
				klog.Errf("EXT4-fs: Bad value for 'sb'")
				return unix.EINVAL
			}
		}
		o.show(opt)
	}
	return nil
}

// show adds an option to those that are shown, in the place of what it overrides.
func (o *options) show(opt string) {
	name, _, _ := strings.Cut(opt, "=")
	o.shown = append(slices.DeleteFunc(slices.Clone(o.shown), func(s string) bool {
		n, _, _ := strings.Cut(s, "=")
		return n == name || n == "no"+name || name == "no"+n
	}), opt)
}
