// Package inet has the guest's network interfaces, routes and neighbours, and the families AF_INET, AF_INET6 and AF_PACKET
// (ip(7), ipv6(7), tcp(7), udp(7), raw(7), packet(7)).
//
// The protocols are gVisor's stack as a library (gvisor.dev/gvisor/pkg/tcpip), and this is the only package of the guest
// kernel that knows it. Ours are the sockets as system calls see them, and the configuration: devices with flags and
// addresses, and routes with table, metric, protocol and scope. That is the truth, and is projected onto the stack, which
// knows less: an address is in the stack while its device is up, and a route if it is the best for its destination.
//
// A driver adds a device by Attach and implements Link, which carries Ethernet frames. The loopback device is always there;
// it is down until somebody sets it up, as on Linux.
//
// # What is not here
//
// Urgent data: the stack has none, so MSG_OOB gives EOPNOTSUPP. Address autoconfiguration by router advertisements and
// duplicate address detection. Policy routing beyond the main, local and default tables. Packet filters other than
// SO_ATTACH_FILTER. What sockets hold in their buffers is bounded by their SO_SNDBUF and SO_RCVBUF, and not charged to the
// guest's memory.
//
// # Lock order
//
//	config.mu (devices, addresses, routes)
//	  < locks of the stack (held while it calls Link.Send and Socket's event listener)
//	    < taps.mu < packetSocket.mu, Socket.mu, wait.Queue, Base
//
// Receivers of Change are called with config.mu held and must only queue.
package inet
