// Package netdrv connects network interfaces of the guest with the host: eth<n>= and vec<n>:. A transport carries Ethernet
// frames over a descriptor, one frame a read and a write:
//
//   - tuntap and vec's tap: a TAP device of the host
//   - daemon: a port of uml_switch(1), asked for by version 3 of its control protocol
//   - mcast, ucast: UDP datagrams with a frame each
//   - user, slirp: no descriptor, but a network of package slirp
//   - vec's bess and fd: a socket of the host that keeps the bounds of messages
//
// Frames are only handed over: what is in them is for package inet to check. What the host cannot take at once is lost, as on a
// wire.
package netdrv
