// Package umid keeps the directory by which a running guest is found: <uml_dir>/<umid>/ with its pid file and management
// socket. The rules are those of the C implementation, so that both kinds of guests can share ~/.uml:
//
//   - The directory belongs to the process whose number is in its file pid, which is created O_EXCL.
//   - A directory whose pid file names no live process, or cannot be read, is stale: its files are deleted and it is taken over.
//   - Without a name, or if the name is in use, it gets six random letters and digits.
package umid

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Dir is the directory of this process.
type Dir struct {
	name, path string
	pid        int
}

// DefaultParent is the directory that umid directories are in when uml_dir= is not given: ~/.uml.
func DefaultParent() (string, error) {
	home := os.Getenv("HOME")
	if home == "" {
		return "", errors.New("no value in environment for $HOME: give uml_dir=<directory>")
	}
	return filepath.Join(home, ".uml"), nil
}

// InUseError says that a name belongs to a live process.
type InUseError struct {
	Name string
	PID  int
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("umid \"%s\" is already in use by pid %d", e.Name, e.PID)
}

// Create makes the directory name in parent, which is made too if only its last element is missing. If it cannot be had,
// a random name is taken and warn is told why. An empty name asks for a random one.
func Create(parent, name string, warn func(string)) (*Dir, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(parent, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if name != "" {
		d, err := claim(parent, name)
		if err == nil {
			return d, nil
		}
		warn(err.Error())
		warn(fmt.Sprintf("Failed to initialize umid \"%s\", trying with a random umid", name))
	}
	return random(parent)
}

// claim takes the directory of a given name.
func claim(parent, name string) (*Dir, error) {
	d := &Dir{name: name, path: filepath.Join(parent, name), pid: os.Getpid()}
	err := os.Mkdir(d.path, 0o777)
	if errors.Is(err, fs.ErrExist) {
		if pid := owner(d.path); pid != 0 {
			return nil, &InUseError{name, pid}
		}
		err = empty(d.path)
	}
	if err != nil {
		return nil, err
	}
	return d, d.writePID()
}

// random takes a directory with a new random name.
func random(parent string) (*Dir, error) {
	for range 100 {
		name := rand.Text()[:6]
		path := filepath.Join(parent, name)
		err := os.Mkdir(path, 0o777)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := &Dir{name: name, path: path, pid: os.Getpid()}
		return d, d.writePID()
	}
	return nil, errors.New("no free random umid in " + parent)
}

func (d *Dir) writePID() error {
	f, err := os.OpenFile(d.File("pid"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &InUseError{d.name, owner(d.path)} // another process was faster
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", d.pid)
	return errors.Join(err, f.Close())
}

// owner is the live process that a directory belongs to, 0 if it is stale.
func owner(dir string) int {
	pid := readPID(dir)
	if pid <= 0 {
		return 0
	}
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return 0
	}
	return pid
}

// readPID is the number in a directory's pid file, 0 if there is none.
func readPID(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// empty deletes the files of a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Name is the umid.
func (d *Dir) Name() string { return d.name }

// Path is the directory's absolute name.
func (d *Dir) Path() string { return d.path }

// File is the path of a file in the directory.
func (d *Dir) File(name string) string { return filepath.Join(d.path, name) }

// Remove deletes the directory.
func (d *Dir) Remove() { RemoveOf(d.path, d.pid) }

// RemoveOf deletes a directory if it still belongs to the process pid, which may be dead.
func RemoveOf(path string, pid int) {
	if readPID(path) != pid {
		return
	}
	if empty(path) == nil {
		os.Remove(path)
	}
}
