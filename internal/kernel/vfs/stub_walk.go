package vfs

// Path is a place in the tree: a dentry seen through a mount.
type Path struct {
	Mount  *Mount
	Dentry *Dentry
}

// Dentry is a name in the tree.
type Dentry struct{}

// Mount is a mounted file system.
type Mount struct{}

// FSContext is a task's root, working directory and umask.
type FSContext struct{}
