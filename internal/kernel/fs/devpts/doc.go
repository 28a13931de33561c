// Package devpts is the file system of pseudo-terminals (pts(4), Documentation/filesystems/devpts.rst): a directory with
// one device for each open pty, and ptmx, which makes new ones.
//
// Each mount is an instance of its own. Files appear when a master is opened and vanish when it is closed; the vfs does
// not cache their names.
//
// Lock order: superBlock.mu is taken below the locks of package vfs and is a leaf; package tty calls in with none of its
// locks held.
package devpts
