package skas

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A family is what a shard's stubs descend from. Both processes are made from a fresh execution of our own binary that is
// stopped before its first instruction, emptied, and given the stub area: so no memory of the kernel is ever in them,
// and no file system has to allow execution of a second file.
//
// The keeper owns the descriptor table that all stubs of the shard share. It has no filter, and runs only routineKeeper.
// The zygote was cloned from it, has the filter, and is held at a clone for ever; stubs are its children.
type family struct {
	keeper, zygote int
	bell           int     // a thread of the keeper that sleeps
	listener       int     // of the filter, in the kernel process
	sock           int     // to the keeper
	vdso           uint64  // where the host's is, 0 if it could not be moved
	flags          uintptr // with which the filter was installed
	deaf           bool    // the keeper did not read its requests; guarded by Platform.fileMu
}

// vmArea is a line of /proc/pid/maps.
type vmArea struct {
	start, end uint64
	perms      string
	off        uint64
	dev, ino   uint64
	name       string
}

func readMaps(pid int) ([]vmArea, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []vmArea
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if a, ok := parseMapsLine(sc.Text()); ok {
			list = append(list, a)
		}
	}
	return list, sc.Err()
}

// parseMapsLine reads "start-end perms offset major:minor inode name", proc_pid_maps(5).
func parseMapsLine(line string) (a vmArea, ok bool) {
	field := func() string {
		line = strings.TrimLeft(line, " ")
		w, rest, _ := strings.Cut(line, " ")
		line = rest
		return w
	}
	from, to, _ := strings.Cut(field(), "-")
	a.perms = field()
	off, dev, ino := field(), field(), field()
	a.name = strings.TrimLeft(line, " ")
	major, minor, _ := strings.Cut(dev, ":")
	var errs [6]error
	var ma, mi uint64
	a.start, errs[0] = strconv.ParseUint(from, 16, 64)
	a.end, errs[1] = strconv.ParseUint(to, 16, 64)
	a.off, errs[2] = strconv.ParseUint(off, 16, 64)
	ma, errs[3] = strconv.ParseUint(major, 16, 32)
	mi, errs[4] = strconv.ParseUint(minor, 16, 32)
	a.ino, errs[5] = strconv.ParseUint(ino, 10, 64)
	a.dev = unix.Mkdev(uint32(ma), uint32(mi))
	for _, e := range errs {
		if e != nil {
			return a, false
		}
	}
	return a, true
}

// newFamily makes keeper and zygote. It runs on the locked tracer thread, whose children they are. Without a filter the
// zygote is unfiltered (the ptrace backend).
func newFamily(opsFd int, filter []unix.SockFilter) (*family, error) {
	const attempts = 16
	for i := 0; ; i++ {
		f, err := tryFamily(opsFd, filter)
		if err == errAreaTaken && i < attempts {
			continue // address randomization put something there
		}
		return f, err
	}
}

var errAreaTaken = fmt.Errorf("the stub area %#x is not free", uint64(stubBase))

func tryFamily(opsFd int, filter []unix.SockFilter) (*family, error) {
	sp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	fam := &family{sock: sp[0], listener: -1}
	_ = unix.SetsockoptTimeval(fam.sock, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: keeperPatience})
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"uml-stub"}, &syscall.ProcAttr{
		Files: []uintptr{uintptr(sp[1]), uintptr(opsFd)},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Setsid: true, Pdeathsig: unix.SIGKILL},
	})
	unix.Close(sp[1])
	if err != nil {
		unix.Close(sp[0])
		return nil, fmt.Errorf("starting a stub: %w", err)
	}
	fam.keeper = pid
	if err := fam.build(filter); err != nil {
		fam.destroy()
		return nil, err
	}
	return fam, nil
}

// build makes the family out of the keeper, which has just been executed.
func (f *family) build(filter []unix.SockFilter) error {
	if _, err := waitFor(f.keeper); err != nil {
		return err
	}
	in := &injector{pid: f.keeper}
	if err := f.empty(in); err != nil {
		return err
	}
	if err := f.disarm(in); err != nil {
		return err
	}
	if err := f.seize(in); err != nil {
		return err
	}
	if err := f.fork(in, filter); err != nil {
		return err
	}
	if err := f.hangBell(in); err != nil {
		return err
	}
	return f.startKeeper(in)
}

// destroy ends what exists of the family.
func (f *family) destroy() {
	for _, pid := range []int{f.zygote, f.keeper} {
		if pid > 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, tid := range []int{f.zygote, f.bell, f.keeper} { // a leader ends after its threads
		if tid > 0 {
			reap(tid)
		}
	}
	unix.Close(f.sock)
	if f.listener >= 0 {
		unix.Close(f.listener)
	}
}

// empty replaces the memory of the fresh process by the stub area.
func (f *family) empty(in *injector) error {
	if err := ptraceGetRegs(in.pid, &in.regs); err != nil {
		return err
	}
	in.rip = in.regs.Rip
	if err := in.poke(in.rip, []byte{0x0f, 0x05, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc}); err != nil {
		return err
	}
	maps, err := readMaps(in.pid)
	if err != nil {
		return err
	}
	for _, a := range maps {
		if a.start < stubEnd && a.end > stubBase {
			return errAreaTaken
		}
	}
	const anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE
	const rw = unix.PROT_READ | unix.PROT_WRITE
	steps := [][]uint64{
		{unix.SYS_MMAP, stubCode, pageSize, rw, anon, ^uint64(0), 0},
		{unix.SYS_MMAP, stubScratch, 4 * pageSize, rw, anon, ^uint64(0), 0},
		{unix.SYS_MMAP, stubOps, stubMemSize, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_FIXED_NOREPLACE, 1, 0},
	}
	for _, c := range steps {
		if _, err := in.call(c[0], c[1:]...); err != nil {
			return fmt.Errorf("mapping the stub area: %w", err)
		}
	}
	if err := in.poke(stubCode, stubCodePage()); err != nil {
		return err
	}
	if _, err := in.call(unix.SYS_MPROTECT, stubCode, pageSize, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return err
	}
	if err := f.mapImage(in); err != nil {
		return fmt.Errorf("mapping the vDSO: %w", err)
	}
	in.rip = routine(routineSyscall)
	in.regs.Rsp, in.regs.Fs_base, in.regs.Gs_base = 0, 0, 0
	f.moveVDSO(in, maps)
	for _, a := range maps {
		switch a.name {
		case "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]":
			continue
		}
		if _, err := in.call(unix.SYS_MUNMAP, a.start, a.end-a.start); err != nil {
			return fmt.Errorf("emptying a stub: %w", err)
		}
	}
	return f.blockTop(in)
}

// moveVDSO moves the host's vDSO to an address that is the same in all shards. A host that seals it keeps it, and the
// guests get none, as theirs calls it (vdso.go).
func (f *family) moveVDSO(in *injector, maps []vmArea) {
	var first uint64
	for _, a := range maps {
		switch a.name {
		case "[vdso]", "[vvar]", "[vvar_vclock]":
			if first == 0 {
				first = a.start
			}
			to := stubVDSO + a.start - first
			const flags = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED
			if _, err := in.call(unix.SYS_MREMAP, a.start, a.end-a.start, a.end-a.start, flags, to); err != nil {
				f.vdso = 0
				return
			}
			if a.name == "[vdso]" {
				f.vdso = to
			}
		}
	}
}

// blockTop makes sure that the host chooses addresses below userMax for mmap without an address: without address space
// randomization it would begin above.
func (f *family) blockTop(in *injector) error {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	addr, err := in.call(unix.SYS_MMAP, 0, pageSize, unix.PROT_NONE, flags, ^uint64(0), 0)
	if err != nil {
		return err
	}
	if _, err := in.call(unix.SYS_MUNMAP, addr, pageSize); err != nil {
		return err
	}
	if addr+pageSize <= userMax {
		return nil
	}
	_, err = in.call(unix.SYS_MMAP, userMax, stubBase-userMax, unix.PROT_NONE, flags|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	return err
}

// disarm takes every privilege from the process.
func (f *family) disarm(in *injector) error {
	if _, err := in.call(unix.SYS_CLOSE_RANGE, 1, 0xffffffff, 0); err != nil {
		for fd := range uint64(1024) { // before Linux 5.9
			if fd > 0 {
				in.call(unix.SYS_CLOSE, fd)
			}
		}
	}
	if _, err := in.call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for c := range uint64(64) {
		if _, err := in.call(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			break // no such capability, or not allowed to (then there are none)
		}
	}
	in.call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	// capset(2): version 3 header and two empty data elements.
	caps := make([]byte, 64)
	binary.LittleEndian.PutUint32(caps, unix.LINUX_CAPABILITY_VERSION_3)
	copy(caps[48:], "uml-stub\x00")
	if err := in.poke(stubScratch, caps); err != nil {
		return err
	}
	if _, err := in.call(unix.SYS_CAPSET, stubScratch, stubScratch+8); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	in.call(unix.SYS_PRCTL, unix.PR_SET_NAME, stubScratch+48, 0, 0, 0)
	var lim unix.Rlimit
	if err := unix.Prlimit(in.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return fmt.Errorf("prlimit: %w", err)
	}
	if unix.Prlimit(in.pid, unix.RLIMIT_NOFILE, nil, &lim) == nil && lim.Cur < lim.Max {
		lim.Cur = lim.Max
		unix.Prlimit(in.pid, unix.RLIMIT_NOFILE, &lim, nil)
	}
	return nil
}

// seize exchanges PTRACE_TRACEME, which exec needed, for PTRACE_SEIZE.
func (f *family) seize(in *injector) error {
	r := in.regs
	r.Rip, r.Orig_rax = routine(routineSpin), noCall
	if err := ptraceSetRegs(in.pid, &r); err != nil {
		return err
	}
	if err := ptrace(unix.PTRACE_DETACH, in.pid, 0, 0); err != nil {
		return err
	}
	if err := ptrace(unix.PTRACE_SEIZE, in.pid, 0, ptraceOptions); err != nil {
		return fmt.Errorf("PTRACE_SEIZE: %w", err)
	}
	if err := ptrace(unix.PTRACE_INTERRUPT, in.pid, 0, 0); err != nil {
		return err
	}
	_, err := waitFor(in.pid)
	return err
}

// forkFlags make a stub: the kernel process is its parent, and it shares the descriptor table and the tracer.
// threadFlags make a thread.
const (
	forkFlags   = unix.CLONE_PARENT | unix.CLONE_FILES | unix.CLONE_PTRACE | uint64(unix.SIGCHLD)
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
		unix.CLONE_SYSVSEM | unix.CLONE_PTRACE
)

// fork makes the zygote and gets its listener.
func (f *family) fork(in *injector, filter []unix.SockFilter) error {
	z, err := in.call(unix.SYS_CLONE, forkFlags, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("forking a stub: %w", err)
	}
	f.zygote = int(z)
	if _, err := waitFor(f.zygote); err != nil {
		return err
	}
	zin := &injector{pid: f.zygote, rip: in.rip, regs: in.regs}
	for _, a := range [][2]uint64{{stubCode, pageSize}, {stubOps, stubMemSize}, {stubImage, pageSize}} {
		zin.call(unix.SYS_MSEAL, a[0], a[1], 0) // Linux 6.10
	}
	if filter != nil {
		if err := f.install(in, zin, filter); err != nil {
			return err
		}
	}
	if _, err := zin.call(unix.SYS_MUNMAP, stubScratch, 4*pageSize); err != nil {
		return err
	}
	// Hold the zygote at its first clone.
	r := in.regs
	r.Rip, r.Orig_rax = routine(routineZygote), noCall
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = forkFlags, 0, 0, 0, 0, 0
	if err := ptraceSetRegs(f.zygote, &r); err != nil {
		return err
	}
	cont := unix.PTRACE_CONT
	if filter == nil {
		cont = unix.PTRACE_SYSCALL
	}
	if err := ptrace(cont, f.zygote, 0, 0); err != nil {
		return err
	}
	_, err = waitFor(f.zygote)
	return err
}

// hangBell makes the thread whose stops wake the tracer. It must not be the keeper, for which the tracer may wait.
func (f *family) hangBell(in *injector) error {
	tid, err := in.call(unix.SYS_CLONE, threadFlags, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("making a thread: %w", err)
	}
	f.bell = int(tid)
	if _, err := waitFor(f.bell); err != nil {
		return err
	}
	r := in.regs
	r.Rip, r.Orig_rax = routine(routinePause), noCall
	if err := ptraceSetRegs(f.bell, &r); err != nil {
		return err
	}
	return ptrace(unix.PTRACE_CONT, f.bell, 0, 0)
}

// filterFlags are the flags of the filter that a host may know, the best first.
var filterFlags = []uintptr{
	unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
	unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
}

// killable reports whether a thread waits for the answer to a received call whatever signals come (Linux 5.19).
func (f *family) killable() bool { return f.flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 }

// install puts the filter on the zygote and fetches its listener through the common descriptor table: that needs no
// pidfd_getfd(2), which containers refuse.
func (f *family) install(in, zin *injector, filter []unix.SockFilter) error {
	prog := filterBytes(filter)
	if len(prog) > 3*pageSize {
		return unix.E2BIG
	}
	head := make([]byte, 16)
	binary.LittleEndian.PutUint16(head, uint16(len(filter)))
	binary.LittleEndian.PutUint64(head[8:], stubScratch+pageSize)
	if err := zin.poke(stubScratch, head); err != nil {
		return err
	}
	if err := zin.poke(stubScratch+pageSize, prog); err != nil {
		return err
	}
	var fd uint64
	var err error
	for _, flags := range filterFlags {
		f.flags = flags
		fd, err = zin.call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uint64(flags), stubScratch)
		if err != unix.EINVAL {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("installing a seccomp filter with a listener: %w", err)
	}
	// sendmsg(2) with SCM_RIGHTS, by the keeper.
	if err := in.poke(stubScratch, keeperPage(int32(fd))); err != nil {
		return err
	}
	if _, err := in.call(unix.SYS_SENDMSG, 0, stubScratch, 0); err != nil {
		return fmt.Errorf("fetching the seccomp listener: %w", err)
	}
	// The stubs keep theirs, which they cannot use. A dying kernel's descriptors are closed before its tracees are
	// killed: if the listener ended with them, the stubs' calls would return ENOSYS, and they would go on for a moment.
	f.listener, err = recvFd(f.sock)
	if err != nil {
		return err
	}
	_ = notifSyncWakeUp(f.listener) // an optimization of Linux 6.6
	return nil
}

// recvFd takes one descriptor from a socket.
func recvFd(sock int) (int, error) {
	var b [8]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, b[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, unix.EBADMSG
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, unix.EBADMSG
	}
	return fds[0], nil
}
