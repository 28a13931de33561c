package procfs

import "golang.org/x/sys/unix"

const (
	dirMode  = unix.S_IFDIR
	fileMode = unix.S_IFREG
	linkMode = unix.S_IFLNK | 0o777
)

// The entries that code refers to by name.
var (
	pidEntry        = &entry{mode: dirMode | 0o555}
	threadEntry     = &entry{mode: dirMode | 0o555}
	taskDirEntry    = &entry{name: "task", mode: dirMode | 0o555, scope: processOnly, lookup: lookupThread, list: listThreads}
	fdDirEntry      = &entry{name: "fd", mode: dirMode | 0o500, lookup: lookupFd, list: listFds}
	fdInfoDirEntry  = &entry{name: "fdinfo", mode: dirMode | 0o555, access: tracer, lookup: lookupFdInfo, list: listFds}
	fdLinkEntry     = &entry{mode: linkMode, access: tracer, link: linkFd, follow: followFd}
	fdInfoFileEntry = &entry{mode: fileMode | 0o444, access: tracer, show: showFdInfo}
	nsDirEntry      = &entry{name: "ns", mode: dirMode | 0o511}
)

func init() {
	pidEntry.sub = []*entry{
		taskDirEntry, fdDirEntry, fdInfoDirEntry, nsDirEntry,
		{name: "environ", mode: fileMode | 0o400, access: tracer, show: showEnviron},
		{name: "auxv", mode: fileMode | 0o400, access: tracer, show: showAuxv},
		{name: "status", mode: fileMode | 0o444, show: showStatus},
		{name: "personality", mode: fileMode | 0o400, access: tracer, show: showPersonality},
		{name: "limits", mode: fileMode | 0o444, show: showLimits},
		{name: "comm", mode: fileMode | 0o644, show: showComm, store: storeComm},
		{name: "syscall", mode: fileMode | 0o400, access: tracer, show: showSyscall},
		{name: "cmdline", mode: fileMode | 0o444, show: showCmdline},
		{name: "stat", mode: fileMode | 0o444, show: showStat},
		{name: "statm", mode: fileMode | 0o444, show: showStatm},
		{name: "maps", mode: fileMode | 0o444, access: tracer, show: showMaps},
		{name: "mem", mode: fileMode | 0o600, access: tracer, open: openMem},
		{name: "cwd", mode: linkMode, access: tracer, link: linkCwd, follow: followCwd},
		{name: "root", mode: linkMode, access: tracer, link: linkRoot, follow: followRoot},
		{name: "exe", mode: linkMode, access: tracer, link: linkExe, follow: followExe},
		{name: "mounts", mode: fileMode | 0o444, open: openMounts(formatMounts)},
		{name: "mountinfo", mode: fileMode | 0o444, open: openMounts(formatMountinfo)},
		{name: "mountstats", mode: fileMode | 0o400, scope: processOnly, open: openMounts(formatMountstats)},
		{name: "clear_refs", mode: fileMode | 0o200, scope: processOnly, access: tracer, store: storeClearRefs},
		{name: "smaps", mode: fileMode | 0o444, access: tracer, show: showSmaps},
		{name: "smaps_rollup", mode: fileMode | 0o444, scope: processOnly, access: tracer, show: showSmapsRollup},
		{name: "wchan", mode: fileMode | 0o444, access: tracer, show: constant("0")},
		{name: "stack", mode: fileMode | 0o400, access: tracer, show: constant("")},
		{name: "cgroup", mode: fileMode | 0o444, show: showCgroup},
		{name: "children", mode: fileMode | 0o444, scope: threadOnly, show: showChildren},
		{name: "oom_score", mode: fileMode | 0o444, show: showOOMScore},
		{name: "oom_adj", mode: fileMode | 0o644, show: showOOMAdj, store: storeOOMAdj},
		{name: "oom_score_adj", mode: fileMode | 0o644, show: showOOMScoreAdj, store: storeOOMScoreAdj},
		{name: "io", mode: fileMode | 0o400, access: tracer, show: showIO},
		{name: "uid_map", mode: fileMode | 0o644, show: constant("         0          0 4294967295\n")},
		{name: "gid_map", mode: fileMode | 0o644, show: constant("         0          0 4294967295\n")},
		{name: "setgroups", mode: fileMode | 0o644, scope: processOnly, show: constant("allow\n")},
		{name: "timers", mode: fileMode | 0o444, scope: processOnly, show: showTimers},
		{name: "timerslack_ns", mode: fileMode | 0o666, scope: processOnly, show: showTimerSlack, store: storeTimerSlack},
		{name: "schedstat", mode: fileMode | 0o444, show: showSchedstat},
		{name: "loginuid", mode: fileMode | 0o644, show: showLoginUID, store: storeLoginUID},
		{name: "sessionid", mode: fileMode | 0o444, show: showSessionID},
		{name: "coredump_filter", mode: fileMode | 0o644, scope: processOnly, show: showCoreFilter, store: storeCoreFilter},
	}
	threadEntry.sub = pidEntry.sub
	for _, name := range nsNames {
		nsDirEntry.sub = append(nsDirEntry.sub, &entry{name: name, mode: linkMode, access: tracer, link: linkNs, follow: followNs})
	}
	number(pidEntry, threadEntry, fdLinkEntry, fdInfoFileEntry)
	number(pidEntry.sub...)
	number(nsDirEntry.sub...)
}

var lastIdx uint64

// number gives entries their part of the inode number.
func number(es ...*entry) {
	for _, e := range es {
		lastIdx++
		e.idx = lastIdx
	}
}
