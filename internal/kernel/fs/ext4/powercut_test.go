package ext4

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// ledger is what several workers have made durable.
type ledger struct {
	mu sync.Mutex
	// +checklocks:mu
	files map[string][]byte // nil: there is no such file

	done chan struct{} // what was done, one at a time
}

// unsure says that a file is about to change, sure that it is durable as it is (nil: that it is gone).
func (l *ledger) unsure(p string) {
	l.mu.Lock()
	delete(l.files, p)
	l.mu.Unlock()
}

func (l *ledger) sure(p string, data []byte) {
	l.mu.Lock()
	l.files[p] = data
	l.mu.Unlock()
}

// TestPowerCut lets several workers change and sync files, and cuts the power meanwhile: of the writes since the last flush
// some, whole or in part, have reached the disk, or a prefix of them. POWERCUT_CUTS is how often (for each kind of disk).
func TestPowerCut(t *testing.T) {
	cuts := 4
	if s := os.Getenv("POWERCUT_CUTS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		cuts = n
	}
	for _, c := range []struct {
		name string
		typ  *vfs.FilesystemType
		opt  string
		args []string
	}{
		{"ext4", Ext4, "", []string{"-b", "1024", "-O", ext4Features}},
		{"ext4-4k", Ext4, "", []string{"-t", "ext4", "-b", "4096"}},
		{"journal", Ext4, "data=journal", []string{"-t", "ext4", "-b", "1024"}},
		{"writeback", Ext4, "data=writeback", []string{"-t", "ext4", "-b", "4096"}},
		{"ext3", Ext3, "", []string{"-t", "ext3", "-b", "1024"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDiskWith(t, c.typ, c.opt, "16M", c.args...)
			led := &ledger{files: map[string][]byte{}, done: make(chan struct{})}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for w := range 3 {
				k := &rwDisk{t: t, typ: d.typ, dev: d.dev, sb: d.sb, Caller: d.Fork()}
				wg.Go(func() {
					defer k.Ctx.Release()
					k.promise(led, w, stop)
				})
			}
			ended := make(chan struct{})
			go func() {
				wg.Wait()
				close(ended)
			}()
			rng := rand.New(rand.NewPCG(uint64(len(c.name)), 5))
			for i := range cuts {
				for range 3 + rng.IntN(40) {
					select {
					case <-led.done:
					case <-ended:
						t.FailNow()
					}
				}
				led.mu.Lock()
				var crash *bdev.Mem
				if pending, _ := d.dev.Pending(); i%3 == 0 {
					first := rng.IntN(len(pending) + 1)
					crash = d.dev.CrashSubset(func(w bdev.MemWrite) int {
						if first--; first < 0 {
							return 0
						}
						return len(w.Data)
					})
				} else {
					crash = d.dev.CrashClone(rng)
				}
				want := maps.Clone(led.files)
				led.mu.Unlock()
				what := fmt.Sprintf("cut %d, %d promises", i, len(want))
				replayed(t, content(t, crash), what)
				after := &rwDisk{t: t, typ: c.typ, opt: c.opt, dev: crash}
				after.mount()
				for p, data := range want {
					if data != nil {
						after.expect(p, data)
					} else if _, err := vfs.Stat(after, nil, p, 0); err != unix.ENOENT {
						t.Errorf("%s: %s was removed durably and is there (%v)", what, p, err)
					}
				}
				after.umount()
				check(t, content(t, crash), what+": own recovery")
			}
			close(stop)
			<-ended
			d.umount()
			check(t, content(t, d.dev), "at the end")
		})
	}
}

// promise changes files of its own, and now and then common ones, until stop.
func (d *rwDisk) promise(led *ledger, w int, stop chan struct{}) {
	t := d.t
	rng := rand.New(rand.NewPCG(uint64(w), 9))
	home := fmt.Sprintf("/home%d", w)
	must(t, vfs.Mkdir(d, nil, home, 0o755))
	fsync := func(p string) {
		f, err := vfs.Open(d, nil, p, vfs.OpenHow{Flags: unix.O_RDONLY})
		must(t, err)
		must(t, vfs.Fsync(d, f, rng.IntN(2) == 0))
		f.DecRef()
	}
	files := map[string][]byte{}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case led.done <- struct{}{}:
		default:
		}
		p := fmt.Sprintf("%s/f%d", home, rng.IntN(12))
		led.unsure(p)
		old, have := files[p]
		switch op := rng.IntN(8); {
		case op == 0 && have:
			must(t, vfs.Unlink(d, nil, p))
			delete(files, p)
			fsync(home)
			led.sure(p, nil)
			continue
		case op == 1 && have:
			n := rng.IntN(len(old) + 3000)
			must(t, vfs.Truncate(d, nil, p, int64(n)))
			files[p] = append(bytes.Clone(old), make([]byte, max(n-len(old), 0))...)[:n]
		case op == 2:
			tmp := home + "/tmp"
			data := pattern(1+rng.IntN(20000), i)
			if _, err := vfs.Stat(d, nil, tmp, 0); err == nil {
				must(t, vfs.Unlink(d, nil, tmp))
			}
			d.write(tmp, data, 0)
			must(t, vfs.Rename(d, nil, tmp, nil, p, 0))
			files[p] = data
		case op == 3 && have && len(old) > 0: // a hole
			f, err := vfs.Open(d, nil, p, vfs.OpenHow{Flags: unix.O_RDWR})
			must(t, err)
			off, n := rng.IntN(len(old)), 1+rng.IntN(9000)
			if err := vfs.Fallocate(d, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)); err == nil {
				old = bytes.Clone(old)
				clear(old[off:min(off+n, len(old))])
				files[p] = old
			} else if err != unix.EOPNOTSUPP {
				must(t, err)
			}
			f.DecRef()
		case op == 4 && len(old) > 2*d.sb.blockSize: // a piece less, or a hole more
			bs := d.sb.blockSize
			f, err := vfs.Open(d, nil, p, vfs.OpenHow{Flags: unix.O_RDWR})
			must(t, err)
			off := rng.IntN(len(old)/bs-1) * bs
			if rng.IntN(2) == 0 {
				if err = vfs.Fallocate(d, f, unix.FALLOC_FL_COLLAPSE_RANGE, int64(off), int64(bs)); err == nil {
					files[p] = slices.Delete(bytes.Clone(old), off, off+bs)
				}
			} else if err = vfs.Fallocate(d, f, unix.FALLOC_FL_INSERT_RANGE, int64(off), int64(3*bs)); err == nil {
				files[p] = slices.Insert(bytes.Clone(old), off, make([]byte, 3*bs)...)
			}
			if err != nil && err != unix.EOPNOTSUPP {
				must(t, err)
			}
			f.DecRef()
		default:
			off := rng.IntN(len(old) + 2000)
			data := pattern(1+rng.IntN(9000), i)
			d.write(p, data, int64(off))
			n := max(len(old), off+len(data))
			now := append(bytes.Clone(old), make([]byte, n-len(old))...)
			copy(now[off:], data)
			files[p] = now
		}
		if rng.IntN(3) > 0 {
			fsync(p)
			fsync(home)
			led.sure(p, files[p])
		}
	}
}
