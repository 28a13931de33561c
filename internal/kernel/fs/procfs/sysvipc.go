package procfs

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/ipc"
	"github.com/user-mode-linux/linux/internal/kernel/ipc/mqueue"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// addSysvipc fills /proc/sysvipc (sysvipc(7)). The caller sees what it may read.
func (fs *FS) addSysvipc(d *pseudo.Dir) {
	d.AddFile("msg", 0o444, func(c vfs.Caller, w *bytes.Buffer) error {
		w.WriteString("       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n")
		for _, s := range ipc.Init.Queues() {
			p := &s.Perm
			fmt.Fprintf(w, "%10d %10d  %4o  %10d %10d %5d %5d %5d %5d %5d %5d %10d %10d %10d\n", p.Key, p.ID(), p.Mode, s.CBytes, s.QNum,
				s.LastSendPID, s.LastRvPID, p.UID, p.GID, p.CUID, p.CGID, s.Stime, s.Rtime, s.Ctime)
		}
		return nil
	}, nil)
	d.AddFile("sem", 0o444, func(c vfs.Caller, w *bytes.Buffer) error {
		w.WriteString("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n")
		for _, s := range ipc.Init.Sets() {
			p := &s.Perm
			fmt.Fprintf(w, "%10d %10d  %4o %10d %5d %5d %5d %5d %10d %10d\n", p.Key, p.ID(), p.Mode, s.NSems, p.UID, p.GID, p.CUID,
				p.CGID, s.Otime, s.Ctime)
		}
		return nil
	}, nil)
	d.AddFile("shm", 0o444, func(c vfs.Caller, w *bytes.Buffer) error {
		w.WriteString("       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n")
		for _, s := range ipc.Init.Segments(fs.k.MM) {
			p := &s.Perm
			fmt.Fprintf(w, "%10d %10d  %4o %21d %5d %5d  %5d %5d %5d %5d %5d %10d %10d %10d %21d %21d\n", p.Key, p.ID(), p.Mode, s.Size,
				s.CPID, s.LPID, s.Attached, p.UID, p.GID, p.CUID, p.CGID, s.Atime, s.Dtime, s.Ctime, s.Resident*abi.PageSize, 0)
		}
		return nil
	}, nil)
}

// addSysIPC adds the limits of System V IPC to /proc/sys/kernel.
func addSysIPC(d *pseudo.Dir) {
	l := &ipc.Init.Limits
	for name, v := range map[string]*atomic.Uint64{"shmmax": &l.ShmMax, "shmall": &l.ShmAll} {
		addString(d, name, func() string { return strconv.FormatUint(v.Load(), 10) }, func(s string) error {
			n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
			if err != nil {
				return unix.EINVAL
			}
			v.Store(n)
			return nil
		})
	}
	limit := func(name string, v *atomic.Int64, hi int64) {
		addNumber(d, name, 0, hi, v.Load, func(n int64) error { v.Store(n); return nil })
	}
	limit("shmmni", &l.ShmMni, 32768)
	limit("shm_rmid_forced", &l.ShmRmidForced, 1)
	limit("msgmax", &l.MsgMax, math.MaxInt32)
	limit("msgmnb", &l.MsgMnb, math.MaxInt32)
	limit("msgmni", &l.MsgMni, 32768)
	sem := []*atomic.Int64{&l.SemMsl, &l.SemMns, &l.SemOpm, &l.SemMni}
	addString(d, "sem", func() string {
		return fmt.Sprintf("%d\t%d\t%d\t%d", sem[0].Load(), sem[1].Load(), sem[2].Load(), sem[3].Load())
	}, func(s string) error {
		v, err := numbers(s, len(sem))
		if err != nil {
			return err
		}
		for i, n := range v {
			if n < 0 || i == 3 && n > 32768 {
				return unix.ERANGE
			}
		}
		for i, n := range v {
			sem[i].Store(n)
		}
		return nil
	})
}

// addSysMqueue adds the limits of POSIX message queues.
func addSysMqueue(d *pseudo.Dir) {
	AddSetting(d, "queues_max", mqueue.QueuesMax)
	AddSetting(d, "msg_max", mqueue.MsgMax)
	AddSetting(d, "msgsize_max", mqueue.MsgSizeMax)
	AddSetting(d, "msg_default", mqueue.MsgDefault)
	AddSetting(d, "msgsize_default", mqueue.MsgSizeDefault)
}
