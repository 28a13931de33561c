// Package sysfs is the sys file system (sysfs(5)): devices, their classes, and some settings of the kernel.
//
// # Concepts
//
// There is one tree, made at the first use and mounted any number of times. Drivers add their devices with AddDevice at any
// time, before or after it is mounted; a device appears under devices/, in its class and by its number under dev/. Block
// devices come from package bdev's registry by themselves. Others who need a directory (file systems, kernel/) make it with
// Dir.
//
// Whoever sends kernel events (netlink) installs OnEvent; it hears of devices that come and go and of what is written to
// their files "uevent".
//
// # Lock order
//
// The lock of the device table is a leaf, except that directories (package pseudo) are changed under it. OnEvent's function
// is called without it.
//
// # Not here
//
// Modules, drivers and buses: there are no modules, and drivers are not bound.
package sysfs
