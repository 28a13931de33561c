package skas

import (
	"sync/atomic"
	"unsafe"
)

// vdsoFuncs are the addresses of the functions of vdso_amd64.s, which are never called here, only copied.
var vdsoFuncs [numVDSOFuncs]uintptr

// vdsoCode returns the code of a function.
func vdsoCode(fn int) []byte {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&vdsoFuncs[fn]))
	return unsafe.Slice((*byte)(p), vdsoFuncSize)
}

// setOffset stores the offset in a clock page, which stubs read at the same time.
func setOffset(page []byte, ns int64) {
	atomic.StoreInt64((*int64)(unsafe.Pointer(&page[clockOffset])), ns)
}
