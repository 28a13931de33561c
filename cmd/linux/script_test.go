package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/user-mode-linux/linux/internal/console"
	"github.com/user-mode-linux/linux/internal/host"
)

// TestMain makes the test binary the command linux of the scripts, and the helpers that it starts of itself.
func TestMain(m *testing.M) {
	host.Janitor()
	console.PortHelper()
	testscript.Main(m, map[string]func(){"linux": main, "uml_mkcow": main, "uml_moo": main})
}

// TestScript runs the scripts of testdata/script. Each has a home directory of its own, which must not have any umid
// directory left at its end. The condition [root] is true if the built-in root was built (make).
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Defer(func() {
				left, _ := os.ReadDir(e.WorkDir + "/.uml")
				for _, d := range left {
					t.Errorf("left behind: .uml/%s", d.Name())
				}
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return userland() != nil, nil
			}
			return false, nil
		},
	})
}
