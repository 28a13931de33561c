// Command ptsrun runs the programs of the Open POSIX Test Suite one by one, or a few at a time, and prints a line for each:
// name, result, seconds. It is built static, so that it needs nothing of the system that it tests.
//
//	ptsrun [-j n] [-t seconds] [-log dir] bindir [pattern]
//
// The directory has one program a test, named as its source with slashes made underscores (mq_open_1-1).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// results are the exit statuses that the suite defines (posixtest.h).
var results = map[int]string{0: "PASS", 1: "FAIL", 2: "UNRESOLVED", 4: "UNSUPPORTED", 5: "UNTESTED"}

var (
	jobs    = flag.Int("j", 1, "how many tests at a time")
	timeout = flag.Duration("t", 45*time.Second, "time limit of a test")
	logs    = flag.String("log", "", "directory for the output of tests that do not pass")
)

func main() {
	flag.Parse()
	if flag.NArg() < 1 {
		flag.Usage()
		os.Exit(2)
	}
	pattern := regexp.MustCompile(flag.Arg(1))
	names, err := os.ReadDir(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	todo := make(chan string)
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range *jobs {
		wg.Go(func() {
			for name := range todo {
				result, secs := run(filepath.Join(flag.Arg(0), name), name)
				i := strings.LastIndex(name, "_")
				mu.Lock()
				fmt.Printf("%s/%s %s secs=%.2f\n", name[:i], name[i+1:], result, secs)
				mu.Unlock()
			}
		})
	}
	for _, n := range names {
		if strings.Contains(n.Name(), "_") && pattern.MatchString(n.Name()) {
			todo <- n.Name()
		}
	}
	close(todo)
	wg.Wait()
}

// run runs one test in a session and a directory of its own.
func run(path, name string) (result string, secs float64) {
	dir, err := os.MkdirTemp("", "pts")
	if err != nil {
		return "NODIR", 0
	}
	defer os.RemoveAll(dir)
	out, err := os.Create(filepath.Join(dir, ".out"))
	if err != nil {
		return "NOFILE", 0
	}
	defer out.Close()
	c := exec.Command(path)
	c.Dir, c.Stdout, c.Stderr = dir, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	start := time.Now()
	if err := c.Start(); err != nil {
		return "NOSTART", 0
	}
	var late bool
	timer := time.AfterFunc(*timeout, func() {
		late = true
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	})
	err = c.Wait()
	timer.Stop()
	secs = time.Since(start).Seconds()
	syscall.Kill(-c.Process.Pid, syscall.SIGKILL)

	var exit *exec.ExitError
	switch {
	case late:
		result = "TIMEOUT"
	case err != nil && !errors.As(err, &exit):
		result = "LOST"
	case c.ProcessState.ExitCode() < 0:
		result = "KILLED"
	default:
		var ok bool
		if result, ok = results[c.ProcessState.ExitCode()]; !ok {
			result = "FAIL"
		}
	}
	if *logs != "" && result != "PASS" {
		if text, err := os.ReadFile(out.Name()); err == nil {
			os.WriteFile(filepath.Join(*logs, name), text, 0o644)
		}
	}
	return result, secs
}
