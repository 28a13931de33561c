package kernel_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/user-mode-linux/linux/"

// layers is policy, not description: a package of the guest kernel may import what stands in a line above its own, and
// packages below or above it in the tree (fs/ext4 and fs/ext4/disk). A name stands for itself and for all packages below it
// that are not named themselves.
const layers = `
abi cred ktime uio kmem
arch wait ksync signal
klog platform
vfs
bdev mm system poll
loader tty chrdev loop futex seccomp cgroup coredump fs net/socket
net ipc
task
fs/procfs fs/sysfs fs/cgroupfs fs/devpts fs/devtmpfs net/netlink
syscalls
.
`

// hostRules says what of ours the host side may import: "P: A B" lets P and packages below it import A and B and what is
// below them. cmd, tools and helpers of tests may import everything.
const hostRules = `
internal/skas: internal/kernel/platform internal/kernel/arch internal/kernel/abi internal/kernel/klog internal/kernel/uio
internal/ubd: internal/kernel/bdev internal/kernel/klog internal/kernel/platform internal/kernel/uio internal/kernel/abi internal/mconsole/hotplug
internal/hostfs: internal/kernel/vfs internal/kernel/abi internal/kernel/cred internal/kernel/mm internal/kernel/wait internal/kernel/uio internal/kernel/klog internal/kernel/ktime internal/kernel/platform
internal/netdrv: internal/kernel/net internal/kernel/klog internal/kernel/wait internal/kernel/uio internal/mconsole/hotplug
internal/console: internal/kernel/tty internal/kernel/wait internal/kernel/klog internal/kernel/vfs internal/kernel/uio internal/kernel/ktime internal/kernel/abi internal/host internal/mconsole/hotplug
internal/mconsole: internal/kernel/klog internal/kernel/abi internal/cmdline
internal/watchdog: internal/mconsole internal/host internal/kernel/klog
internal/cmdline: internal/kernel/abi
internal/host: internal/mconsole/umid
internal/bench: internal/mconsole/client
`

// hostOnly are packages that the guest kernel must not know: whatever touches the host is a driver's.
var hostOnly = []string{"os", "net", "os/exec", "os/signal", "syscall", "golang.org/x/term"}

// unsafeFiles may import unsafe although their names do not end in _unsafe.go.
var unsafeFiles = map[string]string{
	"internal/kernel/ktime/ktime.go": "go:linkname of the runtime's clock needs the import",
	"internal/ubd/raw.go":            "ioctl on block devices",
}

type goPackage struct {
	path    string // below the module
	imports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []goPackage
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		list = append(list, goPackage{strings.TrimPrefix(f[0], module), f[1:]})
	}
	if len(list) < 20 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	return list
}

// below reports whether path is name or below it.
func below(path, name string) bool { return path == name || strings.HasPrefix(path, name+"/") }

// layer is the place of a package of the guest kernel, -1 if it has none.
func layer(pkg string) int {
	rel := strings.TrimPrefix(strings.TrimPrefix(pkg, "internal/kernel"), "/")
	best, length := -1, -1
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for name := range strings.FieldsSeq(line) {
			if name == "." && rel == "" {
				return i
			}
			if below(rel, name) && len(name) > length {
				best, length = i, len(name)
			}
		}
	}
	return best
}

// TestImports holds the direction of imports that ARCHITECTURE.md draws.
func TestImports(t *testing.T) {
	allowed := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(hostRules)) {
		name, list, _ := strings.Cut(line, ":")
		allowed[name] = strings.Fields(list)
	}
	for _, p := range packages(t) {
		switch {
		case below(p.path, "internal/kernel"):
			checkKernel(t, p)
		case below(p.path, "cmd") || below(p.path, "tools") || strings.HasSuffix(p.path, "test"):
		default:
			room := ""
			for name := range allowed {
				if below(p.path, name) {
					room = name
				}
			}
			if room == "" {
				t.Errorf("%s has no line in hostRules", p.path)
				continue
			}
			for _, imp := range p.imports {
				ours, ok := strings.CutPrefix(imp, module)
				if ok && !below(ours, room) && !slices.ContainsFunc(allowed[room], func(a string) bool { return below(ours, a) }) {
					t.Errorf("%s must not import %s", p.path, ours)
				}
			}
		}
		for _, imp := range p.imports {
			if strings.HasPrefix(imp, "gvisor.dev/gvisor/pkg/tcpip") && !below(p.path, "internal/kernel/net") && !below(p.path, "internal/netdrv") {
				t.Errorf("%s must not import %s: the stack's types stay in net and netdrv", p.path, imp)
			}
		}
	}
}

func checkKernel(t *testing.T, p goPackage) {
	place := layer(p.path)
	if place < 0 {
		t.Errorf("%s has no place in layers", p.path)
		return
	}
	// Helpers of tests run on the host's side too.
	testHelper := strings.HasSuffix(p.path, "test")
	for _, imp := range p.imports {
		if slices.Contains(hostOnly, imp) && !testHelper {
			t.Errorf("%s must not import %s: the guest kernel does not touch the host", p.path, imp)
		}
		ours, ok := strings.CutPrefix(imp, module)
		if !ok || below(ours, p.path) || below(p.path, ours) {
			continue
		}
		if family(ours) != "" && family(ours) == family(p.path) {
			continue
		}
		if !below(ours, "internal/kernel") || layer(ours) >= place {
			t.Errorf("%s must not import %s", p.path, ours)
		}
	}
}

// family is the file system or protocol that a package is a part of: ext4 for fs/ext4/disk and fs/ext4/jbd2.
func family(pkg string) string {
	for _, group := range []string{"internal/kernel/fs/", "internal/kernel/net/"} {
		if rest, ok := strings.CutPrefix(pkg, group); ok {
			name, _, nested := strings.Cut(rest, "/")
			if nested {
				return group + name
			}
		}
	}
	return ""
}

// TestRooms looks for packages that ARCHITECTURE.md does not name.
func TestRooms(t *testing.T) {
	doc, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.path, "internal/kernel/")
		if name == "internal/kernel" {
			name = "kernel"
		}
		if !strings.HasPrefix(name, "testdata/") && !strings.HasSuffix(name, "test") && !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md has no room for %s", p.path)
		}
	}
}

// TestUnsafe holds the rule that unsafe is only used in files whose names say so.
func TestUnsafe(t *testing.T) {
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || d.Name() == "build") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_unsafe.go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			if imp.Path.Value == `"unsafe"` && unsafeFiles[rel] == "" {
				t.Errorf("%s imports unsafe: move that to a file whose name ends in _unsafe.go", rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

// TestPointersInCalls holds the rule that a pointer becomes a number only in the argument list of a system call: on the way
// through another Go function the stack may be moved, and the host would write where a variable was.
func TestPointersInCalls(t *testing.T) {
	calls := map[string]bool{"Syscall": true, "Syscall6": true, "RawSyscall": true, "RawSyscall6": true}
	converts := func(n ast.Expr) bool { // uintptr(unsafe.Pointer(...))
		c, ok := n.(*ast.CallExpr)
		if !ok || len(c.Args) != 1 {
			return false
		}
		name, ok := c.Fun.(*ast.Ident)
		if !ok || name.Name != "uintptr" {
			return false
		}
		in, ok := c.Args[0].(*ast.CallExpr)
		if !ok {
			return false
		}
		sel, ok := in.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Pointer"
	}
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || d.Name() == "build") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(src), `"unsafe"`) {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		right := map[ast.Expr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := c.Fun.(*ast.SelectorExpr); ok && calls[sel.Sel.Name] {
				for _, a := range c.Args {
					right[a] = true
				}
			}
			if converts(c) {
				found++
				if !right[c] {
					t.Errorf("%s: a pointer becomes a number before the system call", fset.Position(c.Pos()))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("only %d conversions were looked at", found)
	}
}
