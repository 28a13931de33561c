// Package umid keeps the directory by which a running guest is found: <uml_dir>/<umid>/ with its pid file and management
// socket. The rules are those of the C implementation, so that both kinds of guests can share ~/.uml:
//
//   - The directory belongs to the process whose number is in its file pid, which is created O_EXCL.
//   - A directory whose pid file names no live process, or cannot be read, is stale: its files are deleted and it is taken over.
//   - Without a name, or if the name is in use, it gets six random letters and digits.
//
// Only files that a guest makes there are ever deleted, and only in a directory of this user that is no symbolic link: with
// uml_dir=/tmp or a umid that is the name of something else, a stale directory is what somebody may have put there.
package umid

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	for {
		if err := os.Mkdir(d.path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// Whoever had it may remove it just now.
		if err := d.take(); !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
	}
}

// mode is that of directories: other users may look.
const mode = 0o755

// take makes the directory that of this process, if nobody has it.
func (d *Dir) take() error {
	dir, err := open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if pid := owner(dir); pid != 0 {
		return &InUseError{d.name, pid}
	}
	if err := empty(dir); err != nil {
		return err
	}
	return d.writePID(dir)
}

// random takes a directory with a new random name.
func random(parent string) (*Dir, error) {
	for range 100 {
		name := rand.Text()[:6]
		path := filepath.Join(parent, name)
		err := os.Mkdir(path, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := &Dir{name: name, path: path, pid: os.Getpid()}
		return d, d.take()
	}
	return nil, errors.New("no free random umid in " + parent)
}

// open opens a directory and locks it against other guests that take or remove it. Other users can lock it too: they are not
// waited for.
func open(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || int(st.Uid) != os.Geteuid() {
		dir.Close()
		return nil, fmt.Errorf("%s belongs to another user", path)
	}
	for range 100 {
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return dir, nil
}

func (d *Dir) writePID(dir *os.File) error {
	f, err := openAt(dir, "pid", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return &InUseError{d.name, owner(dir)} // another process was faster
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", d.pid)
	return errors.Join(err, f.Close())
}

// openAt opens a file of a directory, which is no symbolic link.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// owner is the live process that a directory belongs to, 0 if it is stale.
func owner(dir *os.File) int {
	pid := readPID(dir)
	if pid <= 0 {
		return 0
	}
	if err := unix.Kill(pid, 0); err != nil && err != unix.EPERM {
		return 0
	}
	return pid
}

// readPID is the number in a directory's pid file, 0 if there is none.
func readPID(dir *os.File) int {
	f, err := openAt(dir, "pid", unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// ours are the files that guests make: who they are, their management console, and where their consoles are.
var ours = regexp.MustCompile(`^(pid|mconsole|con[0-9]+|ssl[0-9]+)$`)

// empty deletes the files of a directory. If there is anything else, it deletes nothing.
func empty(dir *os.File) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !ours.MatchString(name) {
			return fmt.Errorf("%s is no directory of a guest: it has a file %q", dir.Name(), name)
		}
	}
	for _, name := range names {
		if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && err != unix.ENOENT {
			return &fs.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
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
	dir, err := open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	if readPID(dir) == pid && empty(dir) == nil {
		unix.Rmdir(path)
	}
}
