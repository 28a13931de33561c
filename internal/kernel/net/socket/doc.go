// Package socket is what all socket families share: the Socket interface that they implement, the registry of families,
// the file that a socket is behind (sockfs), socket-level options and control messages.
//
// A system call handler finds the Socket of a file with Of and calls one method. Addresses are bytes as in memory, with
// the family in the first two; a family checks their length and contents. Files in flight (SCM_RIGHTS) are passed as
// open files: the handler translates descriptors.
//
// # Lock order
//
// Base.mu is a leaf. Families say what theirs are; methods are called without locks.
package socket
