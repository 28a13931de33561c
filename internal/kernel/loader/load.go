package loader

import (
	"math/rand/v2"
	"path"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	// pieBase is where position independent programs begin, pieRandom how much that is varied, brkRandom how far the
	// heap begins behind the program.
	pieBase   = 0x5555_5555_4000
	pieRandom = 1 << 40
	brkRandom = 32 << 20
)

// Params is what execve gives.
type Params struct {
	Host *mm.Host
	// File is the file to execute, from vfs.OpenExec. Load takes over its write denial, even if it fails, and a reference
	// of its own.
	File *vfs.File
	// OpenExec opens interpreters; nil is vfs.OpenExec from the working directory.
	OpenExec func(c vfs.Caller, path string) (*vfs.File, error)
	// Name is the path as given, or "/dev/fd/N[/path]" for execveat(2). NoScript: scripts cannot be run (ENOENT), as their
	// interpreter could not open Name (a close-on-exec descriptor).
	Name     string
	NoScript bool
	Argv     []string
	Envv     []string
	// StackLimit is RLIMIT_STACK.
	StackLimit uint64
	Aux        arch.HostAux
	// NoRandom is ADDR_NO_RANDOMIZE of personality(2).
	NoRandom bool
}

// Image is a program that is ready to be installed.
type Image struct {
	// File is the ELF file that runs (a script's interpreter, not the script): whose setuid bits count, and /proc/self/exe.
	File *vfs.File
	// Comm is the name of the new program (at most 15 bytes).
	Comm string
	// Entry and SP are where the thread starts; SP is known after Install.
	Entry, SP uint64

	p      Params
	argv   []string
	maps   []*mm.FileMap
	ops    []platform.MapOp
	segs   []mm.Segment
	zeros  []uio.Range // rests of pages behind file data
	layout mm.Layout
	aux    []uint64
	top    uint64 // of file mappings
	brk    uint64
	xstack bool
}

// Creds is the identity of the new program as the auxiliary vector tells it.
type Creds struct {
	UID, EUID, GID, EGID uint32
	// Secure is set if the program has more rights than its caller (AT_SECURE).
	Secure bool
}

// ArgLimit is how many bytes the strings and pointers of argv and envp may take together.
func ArgLimit(stackLimit uint64) uint64 {
	return max(min(6<<20, stackLimit/4), 128<<10)
}

// Load reads an executable file. The Image must be released.
func Load(c vfs.Caller, p Params) (im *Image, err error) {
	im = &Image{p: p, argv: p.Argv, File: p.File.IncRef(), Comm: comm(p.Name)}
	defer func() {
		if err != nil {
			im.Release()
			im = nil
		}
	}()
	if len(im.argv) == 0 {
		im.argv = []string{""}
	}
	name := p.Name
	for depth := 0; ; depth++ {
		head, size, read, err := readHead(c, im.File)
		if err != nil {
			return im, err
		}
		if !isScript(head) {
			if err := im.checkArgs(); err != nil {
				return im, err
			}
			return im, im.load(c, head, size, read)
		}
		if depth >= maxScripts {
			return im, unix.ELOOP
		}
		interp, arg, hasArg, err := parseScript(head)
		if err != nil {
			return im, err
		}
		if p.NoScript {
			return im, unix.ENOENT
		}
		argv := []string{interp}
		if hasArg {
			argv = append(argv, arg)
		}
		im.argv = append(append(argv, name), im.argv[1:]...)
		name = interp
		f, err := im.openExec(c, interp)
		if err != nil {
			return im, err
		}
		closeExec(im.File)
		im.File = f
	}
}

// openExec opens an interpreter; closeExec undoes it.
func (im *Image) openExec(c vfs.Caller, name string) (*vfs.File, error) {
	if im.p.OpenExec != nil {
		return im.p.OpenExec(c, name)
	}
	return vfs.OpenExec(c, nil, name, 0)
}

func closeExec(f *vfs.File) {
	vfs.AllowWrite(f)
	f.DecRef()
}

// comm is the last component of a path, cut to what a task's name may have.
func comm(name string) string {
	b := path.Base(name)
	return b[:min(len(b), 15)]
}

// Release drops what the image holds. An installed program keeps its own references.
func (im *Image) Release() {
	for _, m := range im.maps {
		m.Put()
	}
	im.maps = nil
	if im.File != nil {
		closeExec(im.File)
		im.File = nil
	}
}

// readHead reads the beginning of a file and returns how to read more of it.
func readHead(c vfs.Caller, f *vfs.File) (head []byte, size uint64, read reader, err error) {
	a := f.Inode.Attr()
	if !a.IsRegular() || a.Size < 0 {
		return nil, 0, nil, unix.EACCES
	}
	size = uint64(a.Size)
	read = func(p []byte, off uint64) error {
		for len(p) > 0 {
			n, err := f.Ops.Read(c, f, uio.ToBytes(p), int64(off))
			if err != nil {
				return err
			}
			if n <= 0 {
				return unix.ENOEXEC
			}
			p, off = p[n:], off+uint64(n)
		}
		return nil
	}
	head = make([]byte, min(size, headSize))
	if err := read(head, 0); err != nil {
		return nil, 0, nil, err
	}
	return head, size, read, nil
}

// checkArgs checks that the arguments fit.
func (im *Image) checkArgs() error {
	left := ArgLimit(im.p.StackLimit)
	take := func(ss ...string) bool {
		for _, s := range ss {
			n := uint64(len(s)) + 1
			if n > mm.MaxArgString || n+8 > left {
				return false
			}
			left -= n + 8
		}
		return true
	}
	if !take(im.p.Name) || !take(im.argv...) || !take(im.p.Envv...) {
		return unix.E2BIG
	}
	return nil
}

// random is a random multiple of a page below n, 0 if addresses are not to be random.
func (im *Image) random(n uint64) uint64 {
	if im.p.NoRandom {
		return 0
	}
	return abi.PageDown(rand.Uint64N(n))
}

// load makes the image of an ELF file and its interpreter.
func (im *Image) load(c vfs.Caller, head []byte, size uint64, read reader) error {
	userMax := im.p.Host.UserMax
	e, err := parseELF(head, size, userMax, read)
	if err != nil {
		return err
	}
	im.xstack = e.execStack
	im.top = mm.FileTop(im.p.Host, !im.p.NoRandom)

	var bias uint64
	if e.typ == etDyn {
		var ok bool
		if bias, ok = e.place(pieBase + im.random(pieRandom)); !ok || bias+e.end > im.top {
			return unix.ENOMEM
		}
	}
	if err := im.addFile(c, im.File, e, bias); err != nil {
		return err
	}
	im.setLayout(e, bias)
	im.Entry = bias + e.entry
	base := uint64(0)
	if e.interp != "" {
		entry, b, err := im.loadInterp(c, e.interp)
		if err != nil {
			return err
		}
		im.Entry, base = entry, b
	}
	im.setAux(e, bias, base)
	return nil
}

// place returns the bias that puts e at addr or a little below.
func (e *elf) place(addr uint64) (uint64, bool) {
	align := max(e.align, abi.PageSize)
	if align > 1<<30 {
		return 0, false
	}
	addr &^= align - 1
	first := e.start &^ (align - 1)
	return addr - first, addr >= first
}

// loadInterp adds the interpreter and returns its entry point and its bias.
func (im *Image) loadInterp(c vfs.Caller, name string) (entry, base uint64, err error) {
	f, err := im.openExec(c, name)
	if err != nil {
		return 0, 0, err
	}
	defer closeExec(f)
	head, size, read, err := readHead(c, f)
	if err != nil {
		return 0, 0, err
	}
	e, err := parseELF(head, size, im.p.Host.UserMax, read)
	if err == unix.ENOEXEC {
		err = unix.ELIBBAD
	}
	if err != nil {
		return 0, 0, err
	}
	if e.typ == etDyn {
		var ok bool
		if span := e.end - e.start; span < im.top {
			base, ok = e.place(im.top - span)
		}
		if !ok {
			return 0, 0, unix.ENOMEM
		}
	}
	return base + e.entry, base, im.addFile(c, f, e, base)
}

// addFile adds the memory calls for the segments of e, in order.
func (im *Image) addFile(c vfs.Caller, f *vfs.File, e *elf, bias uint64) error {
	fm, err := mm.NewFileMap(c, f)
	if err != nil {
		if err == unix.ENODEV {
			err = unix.ENOEXEC
		}
		return err
	}
	im.maps = append(im.maps, fm)
	for _, s := range e.segs {
		addr := bias + s.vaddr
		start, fileEnd, end := abi.PageDown(addr), addr+s.filesz, abi.PageUp(addr+s.memsz)
		first := len(im.ops)
		anon := start
		if s.filesz > 0 {
			off, n := abi.PageDown(s.off), abi.PageUp(fileEnd)-start
			ext, err := fm.Extents(off, n)
			if err != nil {
				return err
			}
			anon = start + n
			im.unzero(start, end)
			im.ops = im.p.Host.FileOps(im.ops, start, off, n, s.prot(), ext)
			im.segs = append(im.segs, mm.Segment{Addr: start, Len: n, Off: off, Map: fm})
			if s.memsz > s.filesz && s.flags&pfW != 0 && fileEnd < anon {
				im.zeros = append(im.zeros, uio.Range{Addr: fileEnd, Len: anon - fileEnd})
			}
		} else {
			im.unzero(start, end)
		}
		if anon < end {
			im.ops = append(im.ops, platform.MapOp{Kind: platform.MapAnon, Addr: anon, Len: end - anon, Prot: s.prot()})
		}
		if len(im.ops) > maxMappings {
			return unix.ENOMEM
		}
		im.guardNew(first)
	}
	return nil
}

// unzero forgets ranges to zero in pages that a later segment maps over.
func (im *Image) unzero(start, end uint64) {
	keep := im.zeros[:0]
	for _, z := range im.zeros {
		if z.Addr >= end || z.Addr+z.Len <= start {
			keep = append(keep, z)
		}
	}
	im.zeros = keep
}

// guardNew lets the calls from im.ops[first] on fail rather than replace what is there, if the image itself has nothing
// there: the process is not quite empty (vDSO).
func (im *Image) guardNew(first int) {
	for i := first; i < len(im.ops); i++ {
		op := &im.ops[i]
		op.NoReplace = true
		for j := range im.ops[:first] {
			if o := &im.ops[j]; o.Addr < op.Addr+op.Len && op.Addr < o.Addr+o.Len {
				op.NoReplace = false
				break
			}
		}
	}
}

// setLayout notes where code and data are, and places the heap behind them.
func (im *Image) setLayout(e *elf, bias uint64) {
	l := &im.layout
	l.StartCode = ^uint64(0)
	for _, s := range e.segs {
		addr, end := bias+s.vaddr, bias+s.vaddr+s.filesz
		l.StartCode = min(l.StartCode, addr)
		l.StartData = max(l.StartData, addr)
		l.EndData = max(l.EndData, end)
		if s.flags&pfX != 0 {
			l.EndCode = max(l.EndCode, end)
		}
	}
	im.brk = bias + e.end
	if room := im.p.Host.UserMax - im.brk; room > brkRandom {
		im.brk += im.random(brkRandom)
	}
}
