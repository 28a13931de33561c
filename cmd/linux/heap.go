package main

// ballast makes the garbage collector wait until the heap has grown by more than the few megabytes that are live in a
// small guest: it would otherwise run many times a second while programs start. It is never written to, so it takes
// address space but no memory.
//
//lint:ignore U1000 being there is its use
var ballast []byte

func init() { ballast = make([]byte, 16<<20) }
