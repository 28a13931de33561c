// Package netlink has AF_NETLINK (netlink(7)): NETLINK_ROUTE, by which programs configure the network (rtnetlink(7)),
// NETLINK_SOCK_DIAG, by which ss(8) lists sockets (sock_diag(7)), and NETLINK_KOBJECT_UEVENT, by which udev hears of
// devices. The other protocols are those of a kernel built without them: EPROTONOSUPPORT.
//
// A message of a program is carried out by its send call, and the answers are in the socket's queue when it returns. What a
// program sends is not trusted: message.go checks every length.
//
// # Lock order
//
// table.mu < Socket.mu < wait.Queue, Base. Changes of the network are told with locks of package inet held, so nothing of
// inet is called with a lock of this package held.
package netlink
