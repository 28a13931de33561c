package skas

import (
	"slices"
	"testing"
)

func TestNotifyCalls(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		if got := k.run(progCount, 1000); !slices.Equal(got, []int64{1000}) {
			t.Fatal(got)
		}
	})
}

func TestForks(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		if got := k.run(progForks, 50); !slices.Equal(got, []int64{50}) {
			t.Fatal(got)
		}
	})
}

func TestThreads(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		if got := k.run(progThreads, 50); !slices.Equal(got, []int64{50}) {
			t.Fatal(got)
		}
	})
}

func TestPrograms(t *testing.T) {
	forBackends(t, func(t *testing.T, cfg Config) {
		k := newKernel(t, cfg)
		t.Run("anonymous memory is native", func(t *testing.T) {
			if got := k.run(progAnon, 20); !slices.Equal(got, []int64{20}) {
				t.Fatal(got)
			}
		})
		t.Run("fault", func(t *testing.T) {
			if got := k.run(progSegv, 0x1234); !slices.Equal(got, []int64{-1011, 0x1234}) {
				t.Fatal(got)
			}
		})
		t.Run("int 0x80", func(t *testing.T) {
			if got := k.run(progInt80); len(got) != 2 || got[0] != -2031 {
				t.Fatal(got)
			}
		})
	})
}
