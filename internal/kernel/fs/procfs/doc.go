// Package procfs is the proc file system (proc(5)): the guest's processes and its kernel's figures and settings as files.
//
// # Concepts
//
// There is one FS for the whole guest, however often it is mounted. Its fixed part (meminfo, sys, ...) is a tree of package
// pseudo; other subsystems add their files to it (FS.Dir, FS.Net). What belongs to processes is not a tree in memory: a
// node is a small comparable value (process, thread, table entry, descriptor) that is made by a look-up and forgotten, so a
// process costs nothing here until somebody looks at it, and the vfs does not cache the names.
//
// What a file shows is made by a function on a view of the process (pid_text.go, pid_mem.go); the text of each format is
// made by functions without side effects, which the tests hold against known text.
//
// # Access
//
// Files that tell secrets check at open and at every read that the caller may trace the process (Task.CanPtrace), as
// PTRACE_MODE_READ does. The option hidepid hides what the caller may not trace.
//
// # Lock order
//
// FS has no lock that is held over calls. Nothing here is called with locks of other packages held; it takes Kernel.mu and
// those below it, one call at a time.
//
// # Not here
//
// kcore, pagemap, per-process net name spaces, sysctls of subsystems that the guest does not have.
package procfs
