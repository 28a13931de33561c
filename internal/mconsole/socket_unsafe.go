package mconsole

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// address is a socket address as the host has it, to the byte: the names of clients in the abstract space may end in NULs
// that count. It can be a key of a map.
type address struct {
	raw [unix.SizeofSockaddrUnix]byte
	n   uint32
}

// named reports whether answers can be sent there.
func (a *address) named() bool { return a.n > 2 }

// socket is the datagram socket of the server. Receiving waits in the runtime's poller; sending never waits.
type socket struct {
	f    *os.File
	conn syscall.RawConn
}

// listen makes a socket under a path that must not exist.
func listen(path string) (*socket, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// In this order: what was sent before would come without credentials.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &socket{f, conn}, nil
}

// datagram is one that was received. The files are the receiver's to close.
type datagram struct {
	data  []byte
	from  address
	cred  *unix.Ucred // nil if the sender hides
	files []*os.File
}

// maxFiles is how many descriptors a request may carry.
const maxFiles = 4

// receive waits for a datagram, of which it reads what fits into buf.
func (s *socket) receive(buf []byte) (d datagram, err error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxFiles))
	var hdr unix.Msghdr
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	var n uintptr
	var errno unix.Errno
	perr := s.conn.Read(func(fd uintptr) bool {
		hdr = unix.Msghdr{Name: &d.from.raw[0], Namelen: uint32(len(d.from.raw)), Iov: &iov, Iovlen: 1, Control: &oob[0], Controllen: uint64(len(oob))}
		n, _, errno = unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&hdr)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return errno != unix.EAGAIN
	})
	if perr != nil {
		return d, perr
	}
	if errno != 0 {
		return d, errno
	}
	d.data = buf[:n]
	d.from.n = min(hdr.Namelen, uint32(len(d.from.raw)))
	d.ancillary(oob[:hdr.Controllen])
	return d, nil
}

// ancillary takes credentials and descriptors out of control messages.
func (d *datagram) ancillary(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		if c, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			d.cred = c
		} else if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				d.files = append(d.files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
}

// send sends a datagram; EAGAIN if the receiver's queue is full, or there is too much that others have not read.
func (s *socket) send(b []byte, to *address) (err error) {
	if cerr := s.conn.Control(func(fd uintptr) { err = sendto(int(fd), b, to) }); cerr != nil {
		return cerr
	}
	return err
}

func sendto(fd int, b []byte, to *address) error {
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&to.raw[0])), uintptr(to.n))
	if errno != 0 {
		return errno
	}
	return nil
}

// close ends a receive that waits, with an error.
func (s *socket) close() error { return s.f.Close() }
