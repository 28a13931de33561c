// Package task has the processes and threads of the guest: their tree, credentials, signals, files and memory, and the
// life of each from clone to wait.
//
// # Concepts
//
// A Task is one thread (Linux's task_struct); a ThreadGroup is one process; a Session and a ProcessGroup are what
// credentials(7) says. A Task runs guest code on a platform.Thread. The platform calls the Kernel (its Handler) when the
// thread makes a system call, stops or ends; those calls of one task never overlap, so fields marked "owned by the task"
// need no lock.
//
// # Work before user mode
//
// Whatever wants a task's attention (a signal, a stop, an exit of the group, a tracer) sets a flag under
// ThreadGroup.sigMu and calls Task.kick. A task sleeping in the kernel wakes with ERESTARTSYS; one in guest code is made to stop by
// platform.Thread.Kick. In both cases Kernel.Stop runs with the thread held and does the work (run.go).
//
// # Lock order
//
//	Kernel.mu (the tree: parents, children, groups, sessions, pid table)
//	  < ThreadGroup.sigMu (pending signals, actions, stop state, of all threads of a group)
//	    < Task.sleep (leaf), wait.Queue (leaf)
//
// Credentials, FS and FDTable pointers are atomics or owned by the task.
package task
