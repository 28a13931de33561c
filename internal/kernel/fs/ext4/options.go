package ext4

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// dataMode is how the content of files goes to the disk (data= in ext4(5)).
type dataMode uint8

const (
	// dataOrdered: before the metadata that refers to it. Writeback is the same here: it promises less.
	dataOrdered dataMode = iota
	dataWriteback
	dataJournal // through the journal, as metadata
)

// String is the mode as the log names it.
func (m dataMode) String() string { return [...]string{"ordered", "writeback", "journalled"}[m] }

// options are the mount options.
type options struct {
	noload, noACL, noUserXattr, minixdf, grpid, discard, noBarrier, abort bool

	data             dataMode
	commit           time.Duration // 0 is the default
	onError          uint16        // disk.ErrorsRO and so on; 0 is what the superblock says
	sbBlock          uint64
	resUID, resGID   *uint32 // nil is what the superblock says
	maxDirKB         uint32  // 0 is no limit
	prjquota         bool
	dax, delalloc    bool     // asked for
	journalOption    string   // one that makes no sense without a journal
	dioreadNolock    bool     // asked for
	asyncCommit      bool     // asked for
	shown            []string // as /proc/mounts shows them
	explicitDataMode bool
	quiet            bool // do not note anything
}

func (o *options) String() string {
	s := ""
	for _, x := range o.shown {
		s += "," + x
	}
	return s
}

// option is what is known of one.
type option struct {
	flag func(o *options)                // it may stand without a value; nil if not
	num  func(o *options, n uint32) bool // it may have a number; false if it is out of range
	word func(o *options, w string) bool // it may have a word
	note string                          // goes to the log when it is used
}

func accept(*options) {}

func acceptNumber(*options, uint32) bool { return true }

func acceptWord(*options, string) bool { return true }

// oneOf accepts words.
func oneOf(words ...string) func(*options, string) bool {
	return func(_ *options, w string) bool { return slices.Contains(words, w) }
}

var errorActions = map[string]uint16{"continue": disk.ErrorsContinue, "remount-ro": disk.ErrorsRO, "panic": disk.ErrorsPanic}

var dataModes = map[string]dataMode{"ordered": dataOrdered, "writeback": dataWriteback, "journal": dataJournal}

const noQuota = "quota options not supported"

// knownOptions are those of Linux (ext4(5), fs/ext4's parameters). Those that only accept make no difference here: they tune
// allocation, writing in the background or checks that are always or never made here.
var knownOptions = map[string]option{
	"bsddf":                     {flag: func(o *options) { o.minixdf = false }},
	"minixdf":                   {flag: func(o *options) { o.minixdf = true }},
	"grpid":                     {flag: func(o *options) { o.grpid = true }},
	"bsdgroups":                 {flag: func(o *options) { o.grpid = true }},
	"nogrpid":                   {flag: func(o *options) { o.grpid = false }},
	"sysvgroups":                {flag: func(o *options) { o.grpid = false }},
	"resuid":                    {num: func(o *options, n uint32) bool { o.resUID = &n; return true }},
	"resgid":                    {num: func(o *options, n uint32) bool { o.resGID = &n; return true }},
	"sb":                        {num: func(o *options, n uint32) bool { o.sbBlock = uint64(n); return true }},
	"acl":                       {flag: func(o *options) { o.noACL = false }},
	"noacl":                     {flag: func(o *options) { o.noACL = true }},
	"user_xattr":                {flag: func(o *options) { o.noUserXattr = false }},
	"nouser_xattr":              {flag: func(o *options) { o.noUserXattr = true }},
	"noload":                    {flag: func(o *options) { o.noload = true }},
	"norecovery":                {flag: func(o *options) { o.noload = true }},
	"discard":                   {flag: func(o *options) { o.discard = true }},
	"nodiscard":                 {flag: func(o *options) { o.discard = false }},
	"abort":                     {flag: func(o *options) { o.abort = true }},
	"nobarrier":                 {flag: func(o *options) { o.noBarrier = true }},
	"prjquota":                  {flag: func(o *options) { o.prjquota = true }},
	"delalloc":                  {flag: func(o *options) { o.delalloc = true }},
	"nodelalloc":                {flag: func(o *options) { o.delalloc = false }},
	"dioread_nolock":            {flag: func(o *options) { o.dioreadNolock = true }},
	"dioread_lock":              {flag: func(o *options) { o.dioreadNolock = false }},
	"journal_checksum":          {flag: func(o *options) { o.journalOption = "journal_checksum" }},
	"nojournal_checksum":        {flag: accept},
	"journal_async_commit":      {flag: func(o *options) { o.asyncCommit, o.journalOption = true, "journal_async_commit" }},
	"max_dir_size_kb":           {num: func(o *options, n uint32) bool { o.maxDirKB = n; return true }},
	"barrier":                   {flag: func(o *options) { o.noBarrier = false }, num: func(o *options, n uint32) bool { o.noBarrier = n == 0; return true }},
	"inode_readahead_blks":      {num: func(_ *options, n uint32) bool { return n == 0 || n <= 1<<30 && bits.OnesCount32(n) == 1 }},
	"journal_ioprio":            {num: func(_ *options, n uint32) bool { return n <= 7 }},
	"dax":                       {flag: func(o *options) { o.dax = true }, word: func(o *options, w string) bool { o.dax = w == "always"; return oneOf("always", "inode", "never")(o, w) }},
	"data_err":                  {word: oneOf("abort", "ignore")},
	"jqfmt":                     {word: oneOf("vfsold", "vfsv0", "vfsv1"), note: noQuota},
	"usrjquota":                 {flag: accept, word: acceptWord, note: noQuota},
	"grpjquota":                 {flag: accept, word: acceptWord, note: noQuota},
	"usrquota":                  {flag: accept, note: noQuota},
	"grpquota":                  {flag: accept, note: noQuota},
	"quota":                     {flag: accept, note: noQuota},
	"noquota":                   {flag: accept},
	"auto_da_alloc":             {flag: accept, num: acceptNumber},
	"noauto_da_alloc":           {flag: accept},
	"init_itable":               {flag: accept, num: acceptNumber},
	"noinit_itable":             {flag: accept},
	"stripe":                    {num: acceptNumber},
	"min_batch_time":            {num: acceptNumber},
	"max_batch_time":            {num: acceptNumber},
	"journal_dev":               {num: acceptNumber},
	"journal_path":              {word: acceptWord},
	"mb_optimize_scan":          {num: acceptNumber},
	"debug_want_extra_isize":    {num: acceptNumber},
	"check":                     {flag: accept, word: acceptWord},
	"nocheck":                   {flag: accept},
	"debug":                     {flag: accept},
	"nouid32":                   {flag: accept},
	"orlov":                     {flag: accept},
	"oldalloc":                  {flag: accept},
	"bh":                        {flag: accept},
	"nobh":                      {flag: accept},
	"reservation":               {flag: accept},
	"noreservation":             {flag: accept},
	"block_validity":            {flag: accept},
	"noblock_validity":          {flag: accept},
	"i_version":                 {flag: accept},
	"lazytime":                  {flag: accept},
	"nolazytime":                {flag: accept},
	"nombcache":                 {flag: accept},
	"no_mbcache":                {flag: accept},
	"warn_on_error":             {flag: accept},
	"nowarn_on_error":           {flag: accept},
	"prefetch_block_bitmaps":    {flag: accept},
	"no_prefetch_block_bitmaps": {flag: accept},
	"inlinecrypt":               {flag: accept},
	"commit": {num: func(o *options, n uint32) bool {
		o.commit = time.Duration(n) * time.Second
		if n != 0 && n != uint32(commitInterval/time.Second) {
			o.journalOption = "commit=" + strconv.Itoa(int(n))
		}
		return n <= math.MaxInt32/100 // HZ
	}},
	"errors": {word: func(o *options, w string) bool { o.onError = errorActions[w]; return o.onError != 0 }},
	"data": {word: func(o *options, w string) bool {
		m, ok := dataModes[w]
		o.data, o.explicitDataMode = m, true
		return ok
	}},
}

// parse adds what the data argument of mount(2) says; typ is the name of the file system.
func (o *options) parse(typ, data string) error {
	for text := range strings.SplitSeq(data, ",") {
		if text == "" {
			continue
		}
		name, value, hasValue := strings.Cut(text, "=")
		opt, known := knownOptions[name]
		bad := ""
		switch {
		case !known:
			bad = "Unknown parameter"
		case !hasValue && opt.flag != nil:
			opt.flag(o)
		case opt.word != nil && value != "":
			if !opt.word(o, value) {
				bad = "Bad value for"
			}
		case opt.num != nil && value != "":
			n, err := strconv.ParseUint(value, 0, 32)
			if err != nil || !opt.num(o, uint32(n)) {
				bad = "Bad value for"
			}
		case opt.word == nil && opt.num == nil:
			bad = "Unexpected value for"
		case opt.flag == nil || opt.word == nil: // usrjquota= is none
			bad = "Bad value for"
		}
		if bad != "" {
			klog.Errf("%s: %s '%s'", typ, bad, name)
			return unix.EINVAL
		}
		if opt.note != "" && !o.quiet {
			klog.Warnf("EXT4-fs: %s: %s", name, opt.note)
		}
		if name == "noload" {
			text = "norecovery"
		}
		if name != "abort" {
			o.show(text)
		}
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

// defaults are the options that the superblock asks for (tune2fs -o and -E mount_opts).
func (o *options) defaults(s *disk.Super, typ string) {
	d := s.DefaultMountOpts
	o.grpid = d&disk.DefmBSDGroups != 0
	o.noBarrier = d&disk.DefmNoBarrier != 0
	o.discard = d&disk.DefmDiscard != 0
	switch d & disk.DefmJMode {
	case disk.DefmJModeData:
		o.data = dataJournal
	case disk.DefmJModeWback:
		o.data = dataWriteback
	}
	if text := s.MountOpts; text != "" {
		more := *o
		if more.parse(typ, text) != nil {
			klog.Warnf("EXT4-fs: failed to parse options in superblock: %s", text)
			return
		}
		*o = more
	}
}

// checkOptions refuses options that do not go together, or not with this file system.
func (sb *superBlock) checkOptions(o *options, refuse refusal) error {
	s := &sb.s
	journal := s.Compat&disk.CompatHasJournal != 0
	switch {
	case !journal && o.explicitDataMode:
		return refuse(unix.EINVAL, "can't mount with data=, fs mounted w/o journal")
	case !journal && o.journalOption != "":
		return refuse(unix.EINVAL, "can't mount with %s, fs mounted w/o journal", o.journalOption)
	case o.data == dataJournal && o.explicitDataMode && o.delalloc:
		return refuse(unix.EINVAL, "can't mount with both data=journal and delalloc")
	case o.data == dataJournal && o.explicitDataMode && o.dioreadNolock:
		return refuse(unix.EINVAL, "can't mount with both data=journal and dioread_nolock")
	case o.data == dataJournal && o.explicitDataMode && o.dax:
		return refuse(unix.EINVAL, "can't mount with both data=journal and dax")
	case o.dax:
		return refuse(unix.EINVAL, "DAX unsupported by block device.")
	case o.asyncCommit && journal && o.data == dataOrdered:
		return refuse(unix.EINVAL, "can't mount with journal_async_commit in data=ordered mode")
	case o.prjquota && s.ROCompat&disk.ROProject == 0:
		return refuse(unix.EINVAL, "Project quota feature not enabled. Cannot enable project quota enforcement.")
	}
	return nil
}
