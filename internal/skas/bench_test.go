package skas

import (
	"testing"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

func BenchmarkGetppid(b *testing.B) {
	k := newKernel(b, Config{})
	b.ResetTimer()
	k.run(progCount, uint64(b.N))
}

func BenchmarkForkExitWait(b *testing.B) {
	k := newKernel(b, Config{})
	b.ResetTimer()
	k.run(progForks, uint64(b.N))
}

func BenchmarkThread(b *testing.B) {
	k := newKernel(b, Config{})
	b.ResetTimer()
	k.run(progThreads, uint64(b.N))
}

func BenchmarkNativeMmap(b *testing.B) {
	k := newKernel(b, Config{})
	b.ResetTimer()
	k.run(progAnon, uint64(b.N))
}

// BenchmarkExec makes a process with the mappings of a dynamic program, runs it to its end and waits.
func BenchmarkExec(b *testing.B) {
	k := newKernel(b, Config{})
	m, err := k.p.NewMemfile("image")
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	_ = m.Truncate(1 << 20)
	b.ResetTimer()
	for range b.N {
		tk := k.load(progPeek, imageBase)
		var ops []platform.MapOp
		for i := range uint64(10) {
			op := platform.MapOp{Kind: platform.MapFile, Addr: 0x10000000 + i<<20, Len: 0x10000, Prot: 5, File: m.Host()}
			if i%2 == 1 {
				op.Kind, op.File, op.Prot = platform.MapAnon, nil, 3
			}
			ops = append(ops, op)
		}
		if err := tk.th.Map(ops); err != nil {
			b.Fatal(err)
		}
		tk.th.Resume()
		tk.finish()
	}
}
