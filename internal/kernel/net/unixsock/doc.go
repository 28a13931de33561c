// Package unixsock has the AF_UNIX family (unix(7)): stream, datagram and sequenced-packet sockets, path and abstract
// names, passing of open files and credentials.
//
// Each socket has a receive queue of packets; a sender appends to the queue of its peer. What a packet costs is charged to
// the sender until it is received, which bounds the sender by its SO_SNDBUF. Stream data of one sender without files is
// appended to the last packet as long as there is room in it.
//
// # Shutdown and close
//
// As in Linux the state of a direction is kept twice: RCV_SHUTDOWN of a connected socket is SEND_SHUTDOWN of its peer. The
// close of one end sets both on the other, and ECONNRESET there if it had not read everything.
//
// # Files in flight
//
// A socket in a queue (SCM_RIGHTS) may be what keeps that queue alive. gc.go collects such cycles.
//
// # Lock order
//
//	queue.readMu (receivers of one socket)
//	  < rightsMu (files put into and taken out of queues, collection)
//	    < Socket.mu of a connecting socket < Socket.mu of the listener or datagram receiver
//	      < queue.mu < guest memory, names.mu, wait.Queue, Base
//
// Files are released without any lock held.
package unixsock
