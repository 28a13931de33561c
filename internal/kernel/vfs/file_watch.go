package vfs

import "sync"

// FileWatcher is told when the last reference to an open file description is gone, before FileOps.Release. epoll watches
// its files in this way, because it must not keep them open.
type FileWatcher interface {
	FileGone(f *File)
}

// fileWatch is the watchers of one open file description; a watcher is in it as often as it was added.
type fileWatch struct {
	mu   sync.Mutex
	list []FileWatcher
}

// AddWatcher adds w; the caller holds a reference to f.
func (f *File) AddWatcher(w FileWatcher) {
	f.watch.mu.Lock()
	f.watch.list = append(f.watch.list, w)
	f.watch.mu.Unlock()
}

// RemoveWatcher takes out what one AddWatcher added. It may be called without a reference.
func (f *File) RemoveWatcher(w FileWatcher) {
	f.watch.mu.Lock()
	defer f.watch.mu.Unlock()
	for i, x := range f.watch.list {
		if x == w {
			last := len(f.watch.list) - 1
			f.watch.list[i] = f.watch.list[last]
			f.watch.list[last] = nil
			f.watch.list = f.watch.list[:last]
			return
		}
	}
}

// tellWatchers is called by the last DecRef. It holds no lock while it calls.
func (f *File) tellWatchers() {
	for {
		f.watch.mu.Lock()
		n := len(f.watch.list)
		if n == 0 {
			f.watch.mu.Unlock()
			return
		}
		w := f.watch.list[n-1]
		f.watch.list = f.watch.list[:n-1]
		f.watch.mu.Unlock()
		w.FileGone(f)
	}
}

// Refs is the number of references now. It is for the collector of sockets that only sockets in flight refer to.
func (f *File) Refs() int32 { return f.refs.Load() }
