// Package skas runs guest code in host processes: the separate kernel address space of User-Mode Linux. It implements
// platform.Platform for x86-64 with seccomp user notification and ptrace, or with ptrace alone where the host has no more.
// It knows nothing of Linux semantics beyond what the host does to a thread; the guest kernel is its Handler.
//
// # Concepts
//
// A stub is a host process that runs guest code. It has no privileges, no descriptors that it can use, and no memory but
// what Thread.Map gave it and the stub area (stub.go): a page of code for us, lists of calls, and the guests' vDSO
// with the host's, which it calls (vdso.go).
//
// A shard is one OS thread, the tracer, and the stubs that it traces. They descend from a family (family.go): the keeper,
// which owns the descriptor table that all of them share, and the zygote, which has the seccomp filter (filter.go) and
// is forked for each new stub.
//
// A system call of a guest takes a lane. Native: the filter lets it through. Notify: it is received from the filter's
// listener by the leader, a goroutine that runs the handler itself (notify.go); when a call sleeps another goroutine leads,
// and a call that sleeps long is moved out of the notification into a ptrace stop (park.go). Trace: the thread stops for
// the tracer (tracer.go), where the kernel may read and set its registers, and run host calls in it (mapops.go, clone.go).
//
// The tracer waits in wait4 for all its stubs. Other goroutines hand it work through a queue and wake it with a signal to
// the keeper.
//
// # Why the guest cannot do more than the kernel decided
//
// The number of a call is the low half of orig_rax; a call in the trace lane is always skipped unless this package wrote
// number and arguments itself. The filter compares whole pointers and lengths, and they cannot reach the stub area. The
// answer "continue" is only given to exit calls and to injected calls, whose arguments are all in registers. Files are
// mapped through a read-only descriptor unless the mapping is shared and may be written.
//
// # Lock order
//
//	Platform.fileMu
//	leadership.mu
//	Thread.mu
//	  shard.queue, addressSpace.mu
//
// Thread.mu and leadership.mu are never held together. The fields of a stopped thread that hold its registers belong to
// whoever the thread belongs to: the tracer, then the handler it was shown to, then who will call Resume.
//
// # What it does not do
//
// It keeps no books of mappings: the host's page tables are the truth. It does not know guest process ids, signals or
// files.
package skas
