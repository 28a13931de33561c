package ubd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxUnits is how many disks a guest can have.
const MaxUnits = 16

// Syntax is the form of the option, for error messages and help.
const Syntax = "ubd<n><flags>=<file>[(,|:)<backing file>][(,|:)<serial>]"

// Spec is what an option says of one disk.
type Spec struct {
	Unit int
	// File is the image, or the COW file if Backing is given. Backing and Serial may be empty.
	File, Backing, Serial string
	ReadOnly              bool // r
	Sync                  bool // s: O_SYNC
	Data                  bool // d: do not look for a COW header
	Shared                bool // c: no locking
	NoTrim                bool // t: no discard
}

// The texts that the option's errors have always had.
var (
	errUnit     = errors.New("Couldn't parse device number")
	errInvalid  = fmt.Errorf("Invalid device number - must be between 0 and %d", MaxUnits-1)
	errRange    = errors.New("Device number out of range")
	errFlag     = errors.New("Expected '=' or flag letter (r, s, c, t or d)")
	errMany     = errors.New("Too many flags specified")
	errDataCow  = errors.New("Can't specify both 'd' and a cow file")
	errNoFile   = errors.New("No file name given")
	errReused   = errors.New("Device is already configured")
	errFakeUbd  = errors.New("fake major not supported any more")
	errNotAnUbd = errors.New("not an ubd option")
)

// Parse reads the part of the option after "ubd": "0r=file,backing".
func Parse(s string) (*Spec, error) {
	unit, rest, ok := parseUnit(s)
	if !ok {
		return nil, errUnit
	}
	if unit >= MaxUnits {
		return nil, errRange
	}
	sp := &Spec{Unit: unit}
	const maxFlags = len("rscdt=")
	for i := 0; ; i++ {
		if i == maxFlags {
			return nil, errMany
		}
		c := byte(0)
		if len(rest) > 0 {
			c, rest = rest[0], rest[1:]
		}
		switch c {
		case 'r':
			sp.ReadOnly = true
		case 's':
			sp.Sync = true
		case 'd':
			sp.Data = true
		case 'c':
			sp.Shared = true
		case 't':
			sp.NoTrim = true
		case '=':
			return sp, sp.parseFiles(rest)
		default:
			return nil, errFlag
		}
	}
}

// parseFiles reads what follows the equals sign.
func (sp *Spec) parseFiles(s string) error {
	sep := func() (field string) {
		i := strings.IndexAny(s, ",:")
		if i < 0 {
			field, s = s, ""
			return field
		}
		field, s = s[:i], s[i+1:]
		return field
	}
	sp.File, sp.Backing, sp.Serial = sep(), sep(), sep()
	if sp.File == "" {
		return errNoFile
	}
	if sp.Data && sp.Backing != "" {
		return errDataCow
	}
	return nil
}

// parseUnit reads a letter (a is 0) or a number as C's strtoul does with base 0.
func parseUnit(s string) (unit int, rest string, ok bool) {
	if s == "" {
		return 0, s, false
	}
	if c := s[0]; c >= 'a' && c <= 'z' {
		return int(c - 'a'), s[1:], true
	}
	if s[0] < '0' || s[0] > '9' {
		return 0, s, false
	}
	base, digits := 10, "0123456789"
	switch {
	case len(s) > 2 && (s[1] == 'x' || s[1] == 'X') && s[0] == '0' && strings.IndexByte("0123456789abcdefABCDEF", s[2]) >= 0:
		base, digits, s = 16, "0123456789abcdefABCDEF", s[2:]
	case s[0] == '0':
		base, digits = 8, "01234567"
	}
	n := 0
	for n < len(s) && strings.IndexByte(digits, s[n]) >= 0 {
		n++
	}
	v, err := strconv.ParseUint(s[:n], base, 31)
	if err != nil {
		return MaxUnits, s[n:], true // far out of range
	}
	return int(v), s[n:], true
}

// octal reports that a unit was written with a leading zero, which surprises people.
func octal(s string) bool { return len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' }

// String is the option's value as the management console shows it: file[,backing].
func (sp *Spec) String() string {
	if sp.Backing != "" {
		return sp.File + "," + sp.Backing
	}
	return sp.File
}

// initError is the line that a wrong option gives.
func initError(option string, err error) error {
	return fmt.Errorf("Failed to initialize device with %q : %w", option, err)
}

// Help is the option's text for --help.
const Help = Syntax + `
    Disk n (0 to 15, or a to p) is a file or block device of the host: /dev/ubda for n = 0.
    With a backing file, the file is a COW file: it takes what is written, the backing file stays as it is. It is made if
    it does not exist. A COW file alone finds its backing file by itself.
    Flags: r read-only; s write through (O_SYNC); d take the file as it is, even if it looks like a COW file;
    c share it with other guests (no locking); t no discard.
ubd=sync
    All disks write through.
`
