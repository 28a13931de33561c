package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
)

// TestMain makes the test binary the command linux of the scripts, and the helpers that it starts of itself.
func TestMain(m *testing.M) {
	host.Janitor()
	if os.Getenv(runLinux) != "" {
		os.Unsetenv(runLinux)
		main()
		return
	}
	console.PortHelper()
	testscript.Main(m, map[string]func(){"linux": main, "uml_mkcow": main, "uml_moo": main, "uml_mconsole": main, "uml_watchdog": main})
}

// TestScript runs the scripts of testdata/script. Each has a home directory of its own, which must not have any umid
// directory left at its end. The condition [root] is true if the built-in root was built (make).
func TestScript(t *testing.T) { runScripts(t, "../../testdata/script", "") }

// TestMconsole runs the scripts of testdata/script/mconsole, in which $CLIENT is uml_mconsole: our own, and the unmodified one of
// uml-utilities if it is installed.
func TestMconsole(t *testing.T) {
	for name, client := range map[string]string{"ours": "uml_mconsole", "theirs": "/usr/bin/uml_mconsole"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(client); err != nil && name == "theirs" {
				t.Skip(err)
			}
			runScripts(t, "../../testdata/script/mconsole", client)
		})
	}
}

func runScripts(t *testing.T, dir, client string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("CLIENT", client)
			e.Defer(func() {
				left, _ := os.ReadDir(e.WorkDir + "/.uml")
				for _, d := range left {
					t.Errorf("left behind: .uml/%s", d.Name())
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"waitfor": waitFor},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return userland() != nil, nil
			}
			return false, nil
		},
	})
}

// waitFor is a command of scripts: it waits until a file is there, and has a text in it if one is given.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	for range 3000 {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if len(args) == 1 {
			_, err = os.Stat(ts.MkAbs(args[0]))
		}
		if err == nil && (len(args) == 1 || bytes.Contains(b, []byte(args[1]))) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s did not come", strings.Join(args, ": "))
}
