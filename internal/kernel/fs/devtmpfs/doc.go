// Package devtmpfs is the file system with a node for every device (Documentation/filesystems/devtmpfs): one tmpfs, of
// which every mount shows the same tree. Drivers' nodes come and go with their devices, by AddNode and RemoveNode;
// everything else is as in any tmpfs.
//
// The tree is changed through package vfs, in a mount namespace of the kernel's own, so that all mounts and watches see
// the change; that mount also keeps the tree when nobody else has it mounted.
package devtmpfs
