// Basics exercises what Go's runtime asks of a kernel: goroutines over threads, timers, signals, preemption, child
// processes, pipes, files and the garbage collector.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		b, _ := io.ReadAll(os.Stdin)
		fmt.Printf("child read %d, env %q, args %q\n", len(b), os.Getenv("X"), os.Args[1:])
		os.Exit(7)
	}
	goroutines()
	faults()
	files()
	processes()
	signals()
	sockets()
}

func goroutines() {
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * time.Millisecond)
			n.Add(int64(i))
		})
	}
	wg.Wait()
	fmt.Println("sum", n.Load())
	// A goroutine that never calls anything is preempted by a signal.
	var stop atomic.Bool
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for x := 0; !stop.Load(); x++ {
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	runtime.GC()
	stop.Store(true)
	keep := make([][]byte, 0, 100)
	for i := range 2000 {
		b := make([]byte, 10000)
		b[i] = byte(i)
		if i%20 == 0 {
			keep = append(keep, b)
		}
	}
	debug.FreeOSMemory()
	sum := 0
	for i, b := range keep {
		sum += int(b[i*20])
	}
	fmt.Println("kept", sum, fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("guest"), 100000)))[:16])
	var locked sync.WaitGroup
	for range 50 {
		locked.Go(func() {
			runtime.LockOSThread()
			syscall.Getpid()
			time.Sleep(time.Millisecond)
		})
	}
	locked.Wait()
	fmt.Println("locked threads done")
}

func faults() {
	defer func() { fmt.Println("recovered:", recover()) }()
	var p *int
	fmt.Println(*p)
}

func files() {
	for i := range 100 {
		os.WriteFile(fmt.Sprintf("f%02d", i), bytes.Repeat([]byte{byte(i)}, i), 0o644)
	}
	os.MkdirAll("a/b/c", 0o755)
	os.Symlink("f01", "link")
	var names []string
	filepath.WalkDir(".", func(p string, d os.DirEntry, err error) error { names = append(names, p); return err })
	sort.Strings(names)
	fmt.Println(len(names), strings.Join(names[:6], " "))
	fmt.Println(os.Remove("a"), os.RemoveAll("a"), os.Rename("f00", "g"), os.Rename("none", "x"))
	_, err := os.ReadFile("/nonexistent")
	fmt.Println(err)
}

func processes() {
	for i := range 20 {
		cmd := exec.Command("/proc/self/exe", "child", fmt.Sprint(i))
		cmd.Env = []string{"X=y"}
		cmd.Stdin = bytes.NewReader(make([]byte, 100000))
		out, err := cmd.CombinedOutput()
		fmt.Printf("%s%v\n", out, err)
	}
	cmd := exec.Command("/proc/self/exe", "wait")
	r, w := io.Pipe()
	defer w.Close()
	cmd.Stdin = r
	fmt.Println(cmd.Start())
	cmd.Process.Kill()
	w.Close()
	fmt.Println(cmd.Wait())
}

func signals() {
	c := make(chan os.Signal, 10)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGTERM)
	for range 10 {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		fmt.Print(<-c, " ")
	}
	fmt.Println()
	timer := time.NewTicker(2 * time.Millisecond)
	for range 10 {
		<-timer.C
	}
	fmt.Println("ticked")
}

func sockets() {
	l, err := net.Listen("unix", "sock")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	var wg sync.WaitGroup
	var total atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			c, err := net.Dial("unix", "sock")
			if err != nil {
				return
			}
			defer c.Close()
			for j := range 50 {
				fmt.Fprintf(c, "%d\n", i*j)
				s, _ := bufio.NewReader(io.LimitReader(c, int64(len(fmt.Sprint(i*j))+1))).ReadString('\n')
				var v int64
				fmt.Sscan(s, &v)
				total.Add(v)
			}
		})
	}
	wg.Wait()
	fmt.Println("echoed", total.Load())
}
