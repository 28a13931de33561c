package mm

import "sync/atomic"

// Memory that the kernel holds for guests outside of address spaces and file systems: the buffers of pipes and sockets. A
// process may have very many of them with little memory of its own, so there is a limit for all of them together.
var kernelBytes, kernelLimit atomic.Int64

// LimitKernel sets how much kernel memory guests may use; 0 is no limit.
func LimitKernel(n uint64) { kernelLimit.Store(int64(n)) }

// AddKernel counts n more bytes, or less if n is negative.
func AddKernel(n int) { kernelBytes.Add(int64(n)) }

// KernelBytes is what has been counted: a source of the Accountant.
func KernelBytes() uint64 { return uint64(max(kernelBytes.Load(), 0)) }

// KernelFull reports whether the limit has been reached: buffers must not grow then.
func KernelFull() bool {
	l := kernelLimit.Load()
	return l > 0 && kernelBytes.Load() >= l
}
