package task

import (
	"fmt"
	"runtime"
	"strings"
)

// Stacks is what all goroutines of the kernel are doing, as text of the Go runtime.
type Stacks []string

// maxStacks bounds the text; what is beyond is not shown.
const maxStacks = 64 << 20

// AllStacks stops the kernel for a moment to look at its goroutines.
func AllStacks() Stacks {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || len(buf) >= maxStacks {
			return strings.Split(string(buf[:n]), "\n\n")
		}
		buf = make([]byte, 2*len(buf))
	}
}

// Of is where in the kernel a thread is: the functions of the handler that runs for it, innermost first; nothing while it runs
// guest code.
func (s Stacks) Of(t *Task) []string {
	// The runtime shows the arguments of calls: a handler is called with the thread.
	thread := fmt.Sprintf(", %p}", t.Thread())
	for _, g := range s {
		var calls []string
		for line := range strings.Lines(g) {
			if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "goroutine ") {
				continue
			}
			name, args, ok := cutArgs(line)
			if !ok {
				continue
			}
			calls = append(calls, name)
			if name == "task.(*Kernel).Syscall" || name == "task.(*Kernel).Stop" {
				if strings.Contains(args, thread) {
					return calls
				}
				break
			}
		}
	}
	return nil
}

// cutArgs splits a call into the function, without the directories of its package, and its arguments.
func cutArgs(line string) (name, args string, ok bool) {
	i := strings.LastIndexByte(line, '(')
	if i <= 0 {
		return "", "", false
	}
	name, args = line[:i], line[i:]
	return name[strings.LastIndexByte(name, '/')+1:], args, true
}
