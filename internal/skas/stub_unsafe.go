package skas

import "unsafe"

// stubRoutines are the addresses of the routines of stub_amd64.s, which are never called here, only copied.
var stubRoutines [numRoutines]uintptr

// codeOf returns the first n bytes of a routine's code.
func codeOf(routine int) []byte {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&stubRoutines[routine]))
	return unsafe.Slice((*byte)(p), routineSize)
}
