package arch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The XSAVE area (Intel SDM volume 1 chapter 13, standard format) and what the kernel adds to it in signal frames.
const (
	fxsaveSize   = 512
	xhdrOff      = 512 // XSTATE_BV, XCOMP_BV, reserved
	xhdrSize     = 64
	minXstate    = fxsaveSize + xhdrSize
	swBytesOff   = 464 // left to software by the FXSAVE layout: struct _fpx_sw_bytes
	swBytesSize  = 48
	mxcsrOff     = 24
	mxcsrMaskOff = 28
	magic1       = 0x46505853
	magic2       = 0x46505845
	magic2Size   = 4
	featFPSSE    = 3
	// featAMX are the tile registers. A program has them only after arch_prctl(ARCH_REQ_XCOMP_PERM), which guests do not
	// get; tilesOff is where they begin in every CPU that has them.
	featAMX  = 1<<17 | 1<<18
	tilesOff = 2752
	initCW   = 0x37f
	initCSR  = 0x1f80
)

// FPLayout is the shape of this machine's XSAVE area. It is the same for all threads: make it once, from the state of any.
type FPLayout struct {
	area     int    // length of what ptrace gives and takes
	frame    int    // length of what a signal frame holds
	features uint64 // state components that a program can have
	csrMask  uint32 // MXCSR bits that may be set
	init     []byte
}

// NewFPLayout reads the layout off an NT_X86_XSTATE register set. The area is at least FXSAVE's 512 bytes, else EINVAL.
func NewFPLayout(area []byte) (*FPLayout, error) {
	if len(area) < fxsaveSize || len(area) > 1<<20 {
		return nil, unix.EINVAL
	}
	le := binary.LittleEndian
	l := &FPLayout{area: len(area), frame: len(area), csrMask: le.Uint32(area[mxcsrMaskOff:]), init: make([]byte, len(area))}
	initLegacy(l.init)
	if l.csrMask == 0 {
		l.csrMask = 0xffff
	}
	if len(area) < minXstate {
		l.frame, l.features = fxsaveSize, featFPSSE
		return l, nil
	}
	l.features = le.Uint64(area[swBytesOff:]) | featFPSSE
	if l.features&featAMX != 0 {
		l.features &^= featAMX
		l.frame = min(l.frame, tilesOff)
	}
	return l, nil
}

// xsave reports whether there is more than FXSAVE.
func (l *FPLayout) xsave() bool { return l.area >= minXstate }

// FrameSize is how many bytes of a signal frame the state takes.
func (l *FPLayout) FrameSize() int {
	if l.xsave() {
		return l.frame + magic2Size
	}
	return l.frame
}

// MinSigStack is AT_MINSIGSTKSZ: the most that a signal frame needs.
func (l *FPLayout) MinSigStack() uint64 {
	return uint64(frameSize + l.FrameSize() + 64 + 16)
}

// Init is the state that a program starts with. It must not be written to.
func (l *FPLayout) Init() []byte { return l.init }

func initLegacy(p []byte) {
	binary.LittleEndian.PutUint16(p, initCW)
	binary.LittleEndian.PutUint32(p[mxcsrOff:], initCSR)
}

// put writes the state area (as ptrace gave it) into a signal frame.
func (l *FPLayout) put(frame, area []byte) error {
	if len(area) != l.area {
		return unix.EINVAL
	}
	le := binary.LittleEndian
	copy(frame, area[:l.frame])
	sw := frame[swBytesOff : swBytesOff+swBytesSize]
	clear(sw)
	if !l.xsave() {
		return nil
	}
	le.PutUint32(sw[0:], magic1)
	le.PutUint32(sw[4:], uint32(l.frame+magic2Size))
	le.PutUint64(sw[8:], l.features)
	le.PutUint32(sw[16:], uint32(l.frame))
	le.PutUint32(frame[l.frame:], magic2)
	// A handler that changes the legacy part only must not have to know about the header.
	bv := le.Uint64(frame[xhdrOff:])&l.features | featFPSSE
	le.PutUint64(frame[xhdrOff:], bv)
	return nil
}

// get makes the area for ptrace out of the state in a signal frame: read returns n bytes from its start. Without (valid)
// magic words the frame has only the legacy part. EINVAL is for state that the machine would refuse.
func (l *FPLayout) get(read func(off, n int) ([]byte, error)) ([]byte, error) {
	le := binary.LittleEndian
	legacy, err := read(0, fxsaveSize)
	if err != nil {
		return nil, err
	}
	area := make([]byte, l.area)
	copy(area, legacy[:swBytesOff])
	if le.Uint32(area[mxcsrOff:])&^l.csrMask != 0 {
		return nil, unix.EINVAL
	}
	if !l.xsave() {
		return area, nil
	}
	features := uint64(featFPSSE)
	sw := legacy[swBytesOff:]
	size := int(le.Uint32(sw[16:]))
	if le.Uint32(sw) == magic1 && size >= minXstate && size <= l.frame && uint32(size) <= le.Uint32(sw[4:]) {
		end, err := read(size, magic2Size)
		if err != nil {
			return nil, err
		}
		if le.Uint32(end) == magic2 {
			ext, err := read(fxsaveSize, size-fxsaveSize)
			if err != nil {
				return nil, err
			}
			for _, x := range ext[8:xhdrSize] { // XCOMP_BV and reserved
				if x != 0 {
					return nil, unix.EINVAL
				}
			}
			bv := le.Uint64(ext)
			if bv&^l.features != 0 {
				return nil, unix.EINVAL
			}
			copy(area[xhdrOff+xhdrSize:], ext[xhdrSize:])
			features = bv & le.Uint64(sw[8:])
		}
	}
	le.PutUint64(area[xhdrOff:], features)
	if features&1 == 0 {
		le.PutUint16(area, initCW)
	}
	return area, nil
}
