package skas

// The routines of the stub's code page, each at routine*routineSize.
const (
	routineSyscall = iota
	routineSpin
	routineZygote
	routineBatch
	routineCAS
	routineKeeper
	routinePause
	routineWait
	numRoutines

	routineSize = 256
)

// The stub area: the same in every process of a platform, above everything that a guest may map. The native lane lets
// only addresses below userMax through, and lengths below 4 GiB, so that no native call can reach it.
const (
	userMax  = 0x7ffe_0000_0000
	stubBase = 0x7fff_1000_0000
	stubEnd  = stubBase + 0x100_0000

	stubCode    = stubBase              // code, read and execute, one page
	stubOps     = stubBase + 0x1_0000   // lists of calls for routineBatch: a shared memory object, here read-only
	stubOpsSize = 0x1_0000              //
	stubClock   = stubOps + stubOpsSize // the clock page of the vDSO (vdso.go), of the same object
	stubImage   = stubBase + 0x6_0000   // the guests' vDSO, read and execute, one page
	stubSlots   = stubClock + pageSize  // futexSlots, of the same object
	stubMemSize = stubOpsSize + pageSize + futexSlots*futexSlotSize
	stubScratch = stubBase + 0x8_0000  // keeper and zygote before it is filtered: arguments in memory
	stubVDSO    = stubBase + 0x10_0000 // the host's [vvar] and [vdso], moved here

	pageSize = 4096
)

// routine is the address of a routine in a stub.
func routine(n int) uint64 { return stubCode + uint64(n)*routineSize }

// stubCodePage is the content of the code page; int3 where there is no routine.
func stubCodePage() []byte {
	p := make([]byte, pageSize)
	for i := range p {
		p[i] = 0xcc
	}
	for i := range numRoutines {
		copy(p[i*routineSize:], codeOf(i))
	}
	return p
}
