package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SENDTO:   {Name: "sendto", Fn: sysSendto},
		unix.SYS_RECVFROM: {Name: "recvfrom", Fn: sysRecvfrom},
		unix.SYS_SENDMSG:  {Name: "sendmsg", Fn: sysSendmsg},
		unix.SYS_RECVMSG:  {Name: "recvmsg", Fn: sysRecvmsg},
		unix.SYS_SENDMMSG: {Name: "sendmmsg", Fn: sysSendmmsg},
		unix.SYS_RECVMMSG: {Name: "recvmmsg", Fn: sysRecvmmsg},
	})
}

const (
	msghdrSize  = 56 // struct msghdr
	mmsghdrSize = 64 // struct mmsghdr: a msghdr and what was moved

	msgCmsgCompat = 0x80000000 // MSG_CMSG_COMPAT, which only 32-bit calls have
)

// msghdr is struct user_msghdr.
type msghdr struct {
	name       uint64
	namelen    int32
	iov        uint64
	iovlen     uint64
	control    uint64
	controllen uint64
}

// readMsghdr copies a struct msghdr in and checks it as Linux does.
func readMsghdr(t *task.Task, addr uint64) (h msghdr, err error) {
	s := getScratch()
	defer s.put()
	b := s.buf[:msghdrSize]
	if err := uio.ReadFull(t.Mem(), b, addr); err != nil {
		return h, err
	}
	h = msghdr{le.Uint64(b), int32(le.Uint32(b[8:])), le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:]), le.Uint64(b[40:])}
	if h.name == 0 {
		h.namelen = 0
	}
	if h.namelen < 0 {
		return h, unix.EINVAL
	}
	h.namelen = min(h.namelen, socket.MaxAddr)
	if h.iovlen > iovMax {
		return h, unix.EMSGSIZE
	}
	return h, nil
}

// sysSendto implements sendto(2).
func sysSendto(t *task.Task, a *platform.Args) (uint64, error) {
	if err := checkBuffer(true, a[1], min(a[2], maxRW)); err != nil {
		return 0, err
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	m := socket.NewMsg(f, int(u32(a[3])))
	defer m.Free()
	if a[4] != 0 {
		if m.Addr, err = readSockaddr(t, a[4], i32(a[5])); err != nil {
			return 0, err
		}
	}
	sc := getScratch()
	defer sc.put()
	sc.src.Reset(t.Mem(), a[1], min(a[2], maxRW))
	return moved0(s.Send(t, m, &sc.src))
}

// moved0 is the result of a send or receive, where 0 bytes are a result too.
func moved0(n int, err error) (uint64, error) { return uint64(n), err }

// sysRecvfrom implements recvfrom(2).
func sysRecvfrom(t *task.Task, a *platform.Args) (uint64, error) {
	if err := checkBuffer(true, a[1], min(a[2], maxRW)); err != nil {
		return 0, err
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	m := socket.NewMsg(f, int(u32(a[3])))
	defer m.Free()
	m.WantAddr = a[4] != 0
	sc := getScratch()
	defer sc.put()
	sc.dst.Reset(t.Mem(), a[1], min(a[2], maxRW))
	n, err := s.Recv(t, m, &sc.dst)
	if err != nil {
		return 0, err
	}
	if a[4] != 0 {
		if err := writeSockaddr(t, m.Addr, a[4], a[5]); err != nil {
			return 0, err
		}
	}
	return uint64(n), nil
}

// sysSendmsg implements sendmsg(2).
func sysSendmsg(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[2])&msgCmsgCompat != 0 {
		return 0, unix.EINVAL
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	return sendMsg(t, s, f, a[1], int(u32(a[2])))
}

func sendMsg(t *task.Task, s socket.Socket, f *vfs.File, addr uint64, flags int) (uint64, error) {
	h, err := readMsghdr(t, addr)
	if err != nil {
		return 0, err
	}
	m := socket.NewMsg(f, flags)
	defer m.Free()
	m.FDs = t.Files()
	if h.namelen > 0 {
		if m.Addr, err = readSockaddr(t, h.name, h.namelen); err != nil {
			return 0, err
		}
	}
	sc := getScratch()
	defer sc.put()
	iov, err := sc.iovec(t.Mem(), h.iov, h.iovlen)
	if err != nil {
		return 0, err
	}
	if h.controllen > socket.MaxControl {
		return 0, unix.ENOBUFS
	}
	if h.controllen > 0 {
		m.Control = make([]byte, h.controllen)
		if err := uio.ReadFull(t.Mem(), m.Control, h.control); err != nil {
			return 0, err
		}
	}
	sc.src.ResetV(t.Mem(), iov)
	return moved0(s.Send(t, m, &sc.src))
}

// sysRecvmsg implements recvmsg(2).
func sysRecvmsg(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[2])&msgCmsgCompat != 0 {
		return 0, unix.EINVAL
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n, _, err := recvMsg(t, s, f, a[1], int(u32(a[2])))
	return n, err
}

// recvMsg receives into the struct msghdr at addr; it also returns the flags that it stored there.
func recvMsg(t *task.Task, s socket.Socket, f *vfs.File, addr uint64, flags int) (uint64, uint32, error) {
	h, err := readMsghdr(t, addr)
	if err != nil {
		return 0, 0, err
	}
	sc := getScratch()
	defer sc.put()
	iov, err := sc.iovec(t.Mem(), h.iov, h.iovlen)
	if err != nil {
		return 0, 0, err
	}
	sc.dst.ResetV(t.Mem(), iov)
	m := socket.NewMsg(f, flags)
	defer m.Free()
	m.WantControl, m.WantAddr = h.control != 0, h.name != 0
	n, err := s.Recv(t, m, &sc.dst)
	if err != nil {
		return 0, 0, err
	}
	used, err := writeControl(t, m, h, flags&unix.MSG_CMSG_CLOEXEC != 0)
	if err != nil {
		return 0, 0, err
	}
	if h.name != 0 {
		if k := min(len(m.Addr), int(h.namelen)); k > 0 {
			if err := uio.WriteFull(t.Mem(), m.Addr[:k], h.name); err != nil {
				return 0, 0, err
			}
		}
		if err := writeU32(t, addr+8, uint32(len(m.Addr))); err != nil {
			return 0, 0, err
		}
	}
	out := uint32(m.OutFlags | flags&unix.MSG_CMSG_CLOEXEC)
	if err := writeU64(t, addr+40, used); err != nil {
		return 0, 0, err
	}
	return uint64(n), out, writeU32(t, addr+48, out)
}

// writeControl stores the control messages of a receive, and installs the files that came. It returns how much of the
// buffer it used. What has no room is cut or dropped and sets MSG_CTRUNC.
func writeControl(t *task.Task, m *socket.Msg, h msghdr, cloexec bool) (uint64, error) {
	if len(m.Cmsgs) == 0 && len(m.Rights) == 0 {
		return 0, nil
	}
	room := int(min(h.controllen, socket.MaxControl))
	if h.control == 0 {
		room = 0
	}
	var buf []byte
	for _, cm := range m.Cmsgs {
		var ok bool
		if buf, ok = socket.AppendCmsg(buf, room, cm.Level, cm.Type, cm.Data); !ok {
			m.OutFlags |= unix.MSG_CTRUNC
		}
	}
	if len(m.Rights) > 0 {
		fds := installRights(t, m, socket.RightsRoom(len(buf), room), cloexec)
		if len(fds) > 0 {
			buf, _ = socket.AppendCmsg(buf, room, unix.SOL_SOCKET, unix.SCM_RIGHTS, fds)
		}
	}
	if len(buf) == 0 {
		return 0, nil
	}
	return uint64(len(buf)), uio.WriteFull(t.Mem(), buf, h.control)
}

// installRights installs at most max of the files that came and returns their descriptors as bytes.
func installRights(t *task.Task, m *socket.Msg, max int, cloexec bool) (fds []byte) {
	for len(m.Rights) > 0 && len(fds) < 4*max {
		fd, err := t.Files().Install(t, m.Rights[0], 0, cloexec)
		if err != nil {
			break
		}
		m.Rights = m.Rights[1:]
		fds = le.AppendUint32(fds, uint32(fd))
	}
	if len(m.Rights) > 0 {
		m.OutFlags |= unix.MSG_CTRUNC
	}
	return fds
}

// sysSendmmsg implements sendmmsg(2).
func sysSendmmsg(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[3])&msgCmsgCompat != 0 {
		return 0, unix.EINVAL
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	flags := int(u32(a[3]))
	count := min(u32(a[2]), iovMax)
	for i := range uint64(count) {
		addr := a[1] + i*mmsghdrSize
		n, err := sendMsg(t, s, f, addr, flags)
		if err == nil {
			err = writeU32(t, addr+msghdrSize, uint32(n))
		}
		if err != nil {
			return moved(int(i), err)
		}
	}
	return uint64(count), nil
}

// sysRecvmmsg implements recvmmsg(2).
func sysRecvmmsg(t *task.Task, a *platform.Args) (uint64, error) {
	if u32(a[3])&msgCmsgCompat != 0 {
		return 0, unix.EINVAL
	}
	deadline := ktime.Forever
	if a[4] != 0 {
		ns, err := readTimespec(t, a[4])
		if err != nil {
			return 0, err
		}
		deadline = ktime.Monotonic() + min(ns, ktime.Forever-ktime.Monotonic())
	}
	s, f, err := sock(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	flags := int(u32(a[3]) &^ unix.MSG_WAITFORONE)
	got := 0
	for count := int(min(u32(a[2]), iovMax)); got < count; {
		addr := a[1] + uint64(got)*mmsghdrSize
		var n uint64
		var out uint32
		if n, out, err = recvMsg(t, s, f, addr, flags); err == nil {
			err = writeU32(t, addr+msghdrSize, uint32(n))
		}
		if err != nil {
			break
		}
		got++
		if u32(a[3])&unix.MSG_WAITFORONE != 0 {
			flags |= unix.MSG_DONTWAIT
		}
		// The timeout is looked at only between messages, and urgent data ends the call.
		if ktime.Monotonic() >= deadline || out&unix.MSG_OOB != 0 {
			break
		}
	}
	if a[4] != 0 && got > 0 {
		if err := writeTimespec(t, a[4], remaining(deadline)); err != nil {
			return 0, err
		}
	}
	return moved(got, err)
}
