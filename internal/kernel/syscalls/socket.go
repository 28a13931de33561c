package syscalls

import (
	"golang.org/x/sys/unix"

	_ "github.com/user-mode-linux/linux/internal/kernel/net/inet"    // AF_INET, AF_INET6, AF_PACKET
	_ "github.com/user-mode-linux/linux/internal/kernel/net/netlink" // AF_NETLINK
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	_ "github.com/user-mode-linux/linux/internal/kernel/net/unixsock" // AF_UNIX
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SOCKET:      {Name: "socket", Fn: sysSocket},
		unix.SYS_SOCKETPAIR:  {Name: "socketpair", Fn: sysSocketpair},
		unix.SYS_BIND:        {Name: "bind", Fn: sysBind},
		unix.SYS_LISTEN:      {Name: "listen", Fn: sysListen},
		unix.SYS_ACCEPT:      {Name: "accept", Fn: sysAccept},
		unix.SYS_ACCEPT4:     {Name: "accept4", Fn: sysAccept4},
		unix.SYS_CONNECT:     {Name: "connect", Fn: sysConnect},
		unix.SYS_GETSOCKNAME: {Name: "getsockname", Fn: sysGetsockname},
		unix.SYS_GETPEERNAME: {Name: "getpeername", Fn: sysGetpeername},
		unix.SYS_SHUTDOWN:    {Name: "shutdown", Fn: sysShutdown},
		unix.SYS_SETSOCKOPT:  {Name: "setsockopt", Fn: sysSetsockopt},
		unix.SYS_GETSOCKOPT:  {Name: "getsockopt", Fn: sysGetsockopt},
	})
}

// maxOption is the longest value of a socket option that is looked at.
const maxOption = 64 << 10

// sockTypes are the bits of a socket's type without flags (SOCK_TYPE_MASK).
const sockTypes = 0xf

// sock returns the socket of a descriptor and its file, with a reference: EBADF, ENOTSOCK.
func sock(t *task.Task, fd uint64) (socket.Socket, *vfs.File, error) {
	f, err := openFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	s, err := socket.Of(f)
	if err != nil {
		f.DecRef()
		return nil, nil, err
	}
	return s, f, nil
}

// readSockaddr copies an address in, nil for one without bytes: EINVAL, EFAULT.
func readSockaddr(t *task.Task, addr uint64, n int32) ([]byte, error) {
	if n < 0 || n > socket.MaxAddr {
		return nil, unix.EINVAL
	}
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	return b, uio.ReadFull(t.Mem(), b, addr)
}

// writeSockaddr copies an address out, cut to the length at lenAddr, which becomes the true one.
func writeSockaddr(t *task.Task, sa []byte, addr, lenAddr uint64) error {
	room, err := readU32(t, lenAddr)
	if err != nil {
		return err
	}
	if int32(room) < 0 {
		return unix.EINVAL
	}
	if n := min(len(sa), int(room)); n > 0 {
		if err := uio.WriteFull(t.Mem(), sa[:n], addr); err != nil {
			return err
		}
	}
	return writeU32(t, lenAddr, uint32(len(sa)))
}

// sysSocket implements socket(2).
func sysSocket(t *task.Task, a *platform.Args) (uint64, error) {
	typ := int(i32(a[1]))
	f, err := socket.New(t, int(i32(a[0])), typ, int(i32(a[2])))
	if err != nil {
		return 0, err
	}
	return install(t, f, typ&unix.SOCK_CLOEXEC != 0)
}

// sysSocketpair implements socketpair(2).
func sysSocketpair(t *task.Task, a *platform.Args) (uint64, error) {
	typ := int(i32(a[1]))
	x, y, err := socket.NewPair(t, int(i32(a[0])), typ, int(i32(a[2])))
	if err != nil {
		// Linux stores the descriptors before it makes sockets.
		const none = ^uint64(0)
		if typ&^(sockTypes|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) == 0 && writeU64(t, a[3], none) != nil {
			err = unix.EFAULT
		}
		return 0, err
	}
	return 0, installPair(t, x, y, typ&unix.SOCK_CLOEXEC != 0, a[3])
}

// sysBind implements bind(2).
func sysBind(t *task.Task, a *platform.Args) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	sa, err := readSockaddr(t, a[1], i32(a[2]))
	if err != nil {
		return 0, err
	}
	return 0, s.Bind(t, sa)
}

// sysConnect implements connect(2).
func sysConnect(t *task.Task, a *platform.Args) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	sa, err := readSockaddr(t, a[1], i32(a[2]))
	if err != nil {
		return 0, err
	}
	s, err := socket.Of(f)
	if err != nil {
		return 0, err
	}
	return 0, s.Connect(t, sa, f.Nonblock())
}

// sysListen implements listen(2).
func sysListen(t *task.Task, a *platform.Args) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, s.Listen(t, int(i32(a[1])))
}

// sysAccept implements accept(2).
func sysAccept(t *task.Task, a *platform.Args) (uint64, error) { return accept(t, a, 0) }

// sysAccept4 implements accept4(2).
func sysAccept4(t *task.Task, a *platform.Args) (uint64, error) { return accept(t, a, u32(a[3])) }

func accept(t *task.Task, a *platform.Args, flags uint32) (uint64, error) {
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if flags&^(unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	s, err := socket.Of(f)
	if err != nil {
		return 0, err
	}
	x, err := s.Accept(t, f.Nonblock())
	if err != nil {
		return 0, err
	}
	nf := socket.NewFile(t, x, flags)
	if a[1] != 0 {
		sa, err := x.PeerName(t)
		if err != nil {
			nf.DecRef()
			return 0, unix.ECONNABORTED
		}
		if err := writeSockaddr(t, sa, a[1], a[2]); err != nil {
			nf.DecRef()
			return 0, err
		}
	}
	return install(t, nf, flags&unix.SOCK_CLOEXEC != 0)
}

// sysGetsockname implements getsockname(2).
func sysGetsockname(t *task.Task, a *platform.Args) (uint64, error) {
	return sockName(t, a, socket.Socket.Name)
}

// sysGetpeername implements getpeername(2).
func sysGetpeername(t *task.Task, a *platform.Args) (uint64, error) {
	return sockName(t, a, socket.Socket.PeerName)
}

func sockName(t *task.Task, a *platform.Args, name func(socket.Socket, vfs.Caller) ([]byte, error)) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	sa, err := name(s, t)
	if err != nil {
		return 0, err
	}
	return 0, writeSockaddr(t, sa, a[1], a[2])
}

// sysShutdown implements shutdown(2).
func sysShutdown(t *task.Task, a *platform.Args) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return 0, s.Shutdown(t, int(i32(a[1])))
}

// sysSetsockopt implements setsockopt(2).
func sysSetsockopt(t *task.Task, a *platform.Args) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n := i32(a[4])
	if n < 0 {
		return 0, unix.EINVAL
	}
	val := make([]byte, min(int(n), maxOption))
	if len(val) > 0 {
		if err := uio.ReadFull(t.Mem(), val, a[3]); err != nil {
			return 0, err
		}
	}
	return 0, s.SetOption(t, int(i32(a[1])), int(i32(a[2])), val)
}

// sysGetsockopt implements getsockopt(2).
func sysGetsockopt(t *task.Task, a *platform.Args) (uint64, error) {
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	room, err := readU32(t, a[4])
	if err != nil {
		return 0, err
	}
	if int32(room) < 0 {
		return 0, unix.EINVAL
	}
	val, err := s.Option(t, int(i32(a[1])), int(i32(a[2])), int(room))
	if err != nil {
		return 0, err
	}
	val = val[:min(len(val), int(room))]
	if len(val) > 0 {
		if err := uio.WriteFull(t.Mem(), val, a[3]); err != nil {
			return 0, err
		}
	}
	return 0, writeU32(t, a[4], uint32(len(val)))
}
