// Package posix runs the tests of go-fuse's posixtest, which any file system should pass. It is compiled as a module of its own by
// run.sh.
package posix

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// TestPosix runs every test of posixtest in a fresh directory below $POSIXTEST_DIR.
func TestPosix(t *testing.T) {
	for name, f := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp(os.Getenv("POSIXTEST_DIR"), "posix")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			f(t, dir)
		})
	}
}
