package socket

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// MaxAddr is the size of struct sockaddr_storage: no address is longer.
const MaxAddr = 128

// Socket is one socket of a family.
type Socket interface {
	wait.Pollable
	Bind(c vfs.Caller, addr []byte) error
	// Connect may return EINPROGRESS when nonblock.
	Connect(c vfs.Caller, addr []byte, nonblock bool) error
	Listen(c vfs.Caller, backlog int) error
	// Accept returns a connected socket that the caller must Close or put behind a file.
	Accept(c vfs.Caller, nonblock bool) (Socket, error)
	// Send sends what src has. m.Flags has MSG_DONTWAIT if the file is non-blocking.
	Send(c vfs.Caller, m *Msg, src *uio.Src) (int, error)
	// Recv receives into dst. With MSG_TRUNC it may return more than was copied.
	Recv(c vfs.Caller, m *Msg, dst *uio.Dst) (int, error)
	Shutdown(c vfs.Caller, how int) error
	// Option and SetOption are getsockopt and setsockopt. Option returns at most max bytes that matter; the handler cuts.
	Option(c vfs.Caller, level, name, max int) ([]byte, error)
	SetOption(c vfs.Caller, level, name int, val []byte) error
	// Name and PeerName are getsockname and getpeername.
	Name(c vfs.Caller) ([]byte, error)
	PeerName(c vfs.Caller) ([]byte, error)
	// Ioctl gives ENOTTY for commands that are not the family's.
	Ioctl(c vfs.Caller, cmd uint32, arg uint64) (uint64, error)
	// Close is called once, when the last descriptor is gone.
	Close()
}

// Msg is what goes with the data of a send or receive.
type Msg struct {
	Flags int // MSG_*

	// Addr is the destination of a send (nil for none), or the source that a receive found.
	Addr []byte
	// Control is the control messages of a send, as bytes.
	Control []byte
	// FDs translates descriptors in Control.
	FDs FDs

	// A receive fills in these. OutFlags are MSG_TRUNC, MSG_CTRUNC, MSG_EOR, MSG_OOB.
	OutFlags int
	Cmsgs    []Cmsg
	// Rights are files received with SCM_RIGHTS; the caller owns the references.
	Rights []*vfs.File
	// WantAddr says that the receiver wants the source address; without it a family need not give it.
	WantAddr bool
	// WantControl says that the receiver has a buffer for control messages.
	WantControl bool
}

// FDs gives the open file of a descriptor, with a reference; *vfs.FDTable is one.
type FDs interface {
	Get(fd int32) (*vfs.File, error)
}

// DropRights drops the references of received files that nobody wants.
func (m *Msg) DropRights() {
	for _, f := range m.Rights {
		f.DecRef()
	}
	m.Rights = nil
}

var msgs = sync.Pool{New: func() any { return new(Msg) }}

// NewMsg returns an empty message for a call on f, which adds MSG_DONTWAIT if it is non-blocking.
func NewMsg(f *vfs.File, flags int) *Msg {
	m := msgs.Get().(*Msg)
	if m.Flags = flags; f.Nonblock() {
		m.Flags |= unix.MSG_DONTWAIT
	}
	return m
}

// Free drops the rights that are left and gives the message back.
func (m *Msg) Free() {
	m.DropRights()
	*m = Msg{}
	msgs.Put(m)
}

// Family makes sockets of one address family.
type Family struct {
	Name string
	// New makes a socket: EPROTONOSUPPORT, ESOCKTNOSUPPORT, EACCES. typ has no flags.
	New func(c vfs.Caller, typ, protocol int) (Socket, error)
	// Pair makes two connected sockets; nil gives EOPNOTSUPP.
	Pair func(c vfs.Caller, typ, protocol int) (a, b Socket, err error)
}

var families struct {
	sync.RWMutex
	m map[int]*Family
}

// RegisterFamily adds address family af.
func RegisterFamily(af int, f *Family) {
	families.Lock()
	defer families.Unlock()
	if families.m == nil {
		families.m = map[int]*Family{}
	}
	families.m[af] = f
}

func family(af, typ int) (*Family, error) {
	const afMax = 46 // AF_MAX, linux/socket.h
	if af < 0 || af >= afMax {
		return nil, unix.EAFNOSUPPORT
	}
	if typ < 0 || typ > unix.SOCK_PACKET {
		return nil, unix.EINVAL
	}
	families.RLock()
	defer families.RUnlock()
	if f := families.m[af]; f != nil {
		return f, nil
	}
	return nil, unix.EAFNOSUPPORT
}

// typeMask is the part of the type argument that is not flags.
const typeMask = 0xf

// splitType takes SOCK_NONBLOCK and SOCK_CLOEXEC off a type: EINVAL for unknown flags.
func splitType(typ int) (t int, flags uint32, err error) {
	if typ&^(typeMask|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return 0, 0, unix.EINVAL
	}
	return typ & typeMask, uint32(typ &^ typeMask), nil
}

// New is socket(2): it makes a socket behind a file. The caller sees to SOCK_CLOEXEC.
func New(c vfs.Caller, af, typ, protocol int) (*vfs.File, error) {
	t, flags, err := splitType(typ)
	if err != nil {
		return nil, err
	}
	f, err := family(af, t)
	if err != nil {
		return nil, err
	}
	if kmem.Full() {
		if af == unix.AF_UNIX || af == unix.AF_NETLINK {
			return nil, unix.ENOMEM
		}
		return nil, unix.ENOBUFS
	}
	s, err := f.New(c, t, protocol)
	if err != nil {
		return nil, err
	}
	return NewFile(c, s, flags), nil
}

// NewPair is socketpair(2).
func NewPair(c vfs.Caller, af, typ, protocol int) (a, b *vfs.File, err error) {
	t, flags, err := splitType(typ)
	if err != nil {
		return nil, nil, err
	}
	f, err := family(af, t)
	if err != nil {
		return nil, nil, err
	}
	if f.Pair == nil {
		return nil, nil, unix.EOPNOTSUPP
	}
	if kmem.Full() {
		return nil, nil, unix.ENOMEM
	}
	x, y, err := f.Pair(c, t, protocol)
	if err != nil {
		return nil, nil, err
	}
	return NewFile(c, x, flags), NewFile(c, y, flags), nil
}

// InodeSetter is a Socket that wants to know the number of its inode, for /proc/net.
type InodeSetter interface{ SetInode(ino uint64) }

// cost is about what a socket takes beside what is in its queues.
const cost = 4 << 10

// NewFile puts a socket behind a file; flags may have SOCK_NONBLOCK.
func NewFile(c vfs.Caller, s Socket, flags uint32) *vfs.File {
	in := vfs.NewAnonInode(c, unix.S_IFSOCK|0o777)
	if is, ok := s.(InodeSetter); ok {
		is.SetInode(in.Attr().Ino)
	}
	kmem.Add(cost)
	return vfs.NewAnonFileOn(in, "socket:", &file{s}, unix.O_RDWR|flags&unix.O_NONBLOCK)
}

// Of returns the socket behind a file: ENOTSOCK.
func Of(f *vfs.File) (Socket, error) {
	if s, ok := f.Ops.(*file); ok {
		return s.Socket, nil
	}
	return nil, unix.ENOTSOCK
}

// DeviceIoctl handles the ioctls of network interfaces (SIOCGIFCONF and the like), which work on sockets of every family.
// It is set by the network device layer before the first guest program runs; nil gives ENOTTY.
var DeviceIoctl func(c vfs.Caller, cmd uint32, arg uint64) (uint64, error)

// file is the FileOps of a socket.
type file struct{ Socket }

// Stream marks a file without a position.
func (s *file) Stream() {}

func (s *file) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	m := NewMsg(f, 0)
	defer m.Free()
	return s.Recv(c, m, dst)
}

func (s *file) Write(c vfs.Caller, f *vfs.File, src *uio.Src, _ int64) (int, error) {
	m := NewMsg(f, 0)
	defer m.Free()
	return s.Send(c, m, src)
}

func (s *file) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	v, err := s.Socket.Ioctl(c, cmd, arg)
	if err == unix.ENOTTY && DeviceIoctl != nil {
		return DeviceIoctl(c, cmd, arg)
	}
	return v, err
}

func (s *file) Release(*vfs.File) {
	s.Close()
	kmem.Add(-cost)
}

var (
	_ vfs.FileOps  = (*file)(nil)
	_ vfs.Streamer = (*file)(nil)
	_ vfs.Ioctler  = (*file)(nil)
)
