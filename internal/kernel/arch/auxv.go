package arch

// Entries of the auxiliary vector (getauxval(3), linux/auxvec.h, asm/auxvec.h).
const (
	AT_NULL         = 0
	AT_EXECFD       = 2
	AT_PHDR         = 3
	AT_PHENT        = 4
	AT_PHNUM        = 5
	AT_PAGESZ       = 6
	AT_BASE         = 7
	AT_FLAGS        = 8
	AT_ENTRY        = 9
	AT_UID          = 11
	AT_EUID         = 12
	AT_GID          = 13
	AT_EGID         = 14
	AT_PLATFORM     = 15
	AT_HWCAP        = 16
	AT_CLKTCK       = 17
	AT_SECURE       = 23
	AT_RANDOM       = 25
	AT_HWCAP2       = 26
	AT_EXECFN       = 31
	AT_SYSINFO_EHDR = 33
	AT_MINSIGSTKSZ  = 51
)

// Platform is AT_PLATFORM's string.
const Platform = "x86_64"

// ClockTicks is AT_CLKTCK: USER_HZ.
const ClockTicks = 100

// HostAux is what the auxiliary vector tells about the CPU; the host side reads it from the kernel process's own.
type HostAux struct{ HWCAP, HWCAP2, MinSigStack uint64 }
