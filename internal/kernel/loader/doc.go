// Package loader turns an executable file into a program in memory: ELF files for x86-64 (static, position independent,
// with an interpreter) and #! scripts (execve(2), elf(5)).
//
// Load reads and checks everything, and resolves which host pages the segments are, without touching a process: whatever
// is wrong with the file is an error of execve. Image.Install then fills a fresh process with one batch of memory calls
// and one write. Nothing here is shared between calls, so there are no locks.
//
// What Load trusts: nothing in the file. Sizes are bounded before anything is allocated, every address is checked against
// the end of user memory, and segments that overlap are mapped in the order of the program header, as Linux does.
//
// Not here: whose identity the program gets (the task looks at Image.File), the point of no return, closing of
// descriptors, signal handlers.
package loader
