package skas

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Layout of the keeper's page, which stubKeeper knows too.
const (
	keeperIovec   = 64
	keeperBuf     = 96 // command, descriptor
	keeperControl = 128
	keeperSize    = 192

	keeperInstall = 0
	keeperClose   = 1
)

// keeperPage is struct msghdr with one iovec and a control message that carries fd.
func keeperPage(fd int32) []byte {
	p := make([]byte, keeperSize)
	le := binary.LittleEndian
	le.PutUint64(p[16:], stubScratch+keeperIovec)
	le.PutUint64(p[24:], 1)
	le.PutUint64(p[32:], stubScratch+keeperControl)
	le.PutUint64(p[40:], uint64(unix.CmsgSpace(4)))
	le.PutUint64(p[keeperIovec:], stubScratch+keeperBuf)
	le.PutUint64(p[keeperIovec+8:], 8)
	le.PutUint64(p[keeperControl:], uint64(unix.CmsgLen(4)))
	le.PutUint32(p[keeperControl+8:], unix.SOL_SOCKET)
	le.PutUint32(p[keeperControl+12:], unix.SCM_RIGHTS)
	le.PutUint32(p[keeperControl+16:], uint32(fd))
	return p
}

// startKeeper lets the keeper run.
func (f *family) startKeeper(in *injector) error {
	if err := in.poke(stubScratch, keeperPage(-1)); err != nil {
		return err
	}
	r := in.regs
	r.Rip, r.R12, r.Orig_rax = routine(routineKeeper), stubScratch, ^uint64(0)
	if err := ptraceSetRegs(f.keeper, &r); err != nil {
		return err
	}
	return ptrace(unix.PTRACE_CONT, f.keeper, 0, 0)
}

// installFd puts a descriptor of the kernel process into the stubs' table and returns its number there. The caller
// serializes calls.
func (f *family) installFd(fd int) (int32, error) {
	var b [8]byte
	if err := unix.Sendmsg(f.sock, b[:], unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return -1, err
	}
	for {
		n, err := unix.Read(f.sock, b[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		if n != 4 {
			return -1, unix.EPIPE
		}
		break
	}
	num := int32(binary.LittleEndian.Uint32(b[:]))
	if num < 0 {
		return -1, unix.EMFILE
	}
	return num, nil
}

// closeFd closes a number in the stubs' table.
func (f *family) closeFd(num int32) {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[0:], keeperClose)
	binary.LittleEndian.PutUint32(b[4:], uint32(num))
	if f.deaf {
		return
	}
	// A keeper that does not listen is being killed, or is stopped from outside: never wait for it with the kernel's locks
	// held. Its descriptors go with it.
	if unix.Sendmsg(f.sock, b[:], nil, nil, unix.MSG_NOSIGNAL) == unix.EAGAIN {
		f.deaf = true
	}
}

// keeperPatience is how long the keeper may leave a request unread, in seconds.
const keeperPatience = 2
