// Package hostfs shows directories of the host to the guest as a file system (vfs.FilesystemType "hostfs").
//
// # Confinement
//
// All mounts lie below one directory of the host, the jail, which is opened once. The path of a mount is resolved as if the
// jail were the root of the host (openat2 with RESOLVE_IN_ROOT). From there on every call names an open directory and one
// name in it, never a path, and follows no symbolic link: links are the guest's to resolve, ".." is never given to the host.
// Whatever is renamed on the host meanwhile, a guest gets no further than the directories that it is shown.
//
// A file is opened for its content only by way of a descriptor made with O_PATH, when that is known to be a regular file:
// devices and fifos of the host are never opened, in the guest they are the guest's. File systems that are interfaces of the
// host's kernel (proc, sysfs and their like) look like empty directories. Device nodes and set-user-id programs are never made
// on the host.
//
// # Identity and freshness
//
// An inode is a file of the host, known by device, number and time of birth; sb.table has those in use. Inodes are
// vfs.Volatile: each step of a path walk is one statx(2), which tells whether the name still is the same file, and brings its
// attributes up to date. So what others change on the host is seen by the next call. Content is never cached.
//
// # Descriptors
//
// An inode needs a descriptor only while something is done with it. Those made with O_PATH are kept in a ring of bounded
// size; one that has been closed is made again by way of the parent and checked to be the same file (ESTALE else). All guest
// descriptors of a file share one or two of the host's, which are closed with the last user.
//
// # Owners
//
// Normally the guest sees owners and modes as they are on the host, and the host decides what the guest's root may do: what
// the user may who runs the program. With the option map, owner, group, mode and device numbers of the guest are kept in the
// attribute user.containers.override_stat ("uid:gid:mode:type"), which container tools also use, and the host's own mode is
// only made to be sufficient; files of the user who runs the program belong to the guest's root. Fifos, sockets and devices
// are empty plain files then.
//
// Locks: none is held over another, but for superBlock.mu over nothing and inode.mapMu over the rings.
package hostfs
