// Runner runs the programs of a list one after the other, on the host or in a guest, each in a session and an empty
// directory of its own, and writes what they print and how they end in a form that a test can read.
//
//	runner <list> <programs> <scratch directory>
//
// A line of the list is: name user seconds. The user is "self", or a number. The report of a program is a line
// "=== name length" followed by that many bytes.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const outputLimit = 1 << 18

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: runner <list> <programs> <scratch directory>")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	check(err)
	defer f.Close()
	syscall.Umask(0o022)
	for s := bufio.NewScanner(f); s.Scan(); {
		var name, user string
		var seconds int
		_, err := fmt.Sscan(s.Text(), &name, &user, &seconds)
		check(err)
		out := run(filepath.Join(os.Args[2], name), filepath.Join(os.Args[3], name), user, time.Duration(seconds)*time.Second)
		fmt.Printf("=== %s %d\n%s\n", name, len(out), out)
	}
	fmt.Println("=== end")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(2)
	}
}

// run runs one program and returns its output with its ending as the last line.
func run(path, dir, user string, limit time.Duration) []byte {
	check(os.MkdirAll(dir, 0o755))
	defer os.RemoveAll(dir)
	out, err := os.OpenFile(dir+".out", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o666)
	check(err)
	defer os.Remove(dir + ".out")
	defer out.Close()

	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if id, err := strconv.Atoi(user); err == nil {
		check(os.Chown(dir, id, id))
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
	}
	ending := ""
	if err := cmd.Start(); err != nil {
		ending = "cannot be started: " + err.Error()
	} else {
		timer := time.AfterFunc(limit, func() {
			ending = "time limit exceeded, "
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		})
		cmd.Wait()
		if timer.Stop() {
			ending = ""
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		ending += cmd.ProcessState.String()
	}
	text, _ := os.ReadFile(out.Name())
	if len(text) > outputLimit {
		text = text[:outputLimit]
	}
	return append(text, ending...)
}
