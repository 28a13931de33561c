// Crash works on a directory from several processes until it is killed, and says on its standard output what must be
// found after that, one claim a line:
//
//	s PATH SIZE CRC             the file is durable with this content
//	o PATH SIZE CRC SIZE CRC    the file has one of these contents
//	d PATH                      there is no such file
//	m PATH                      anything, until the next claim
//
// A claim holds until the next one for the same path. Each process has files of its own, and one directory is common to all.
package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: crash <directory> <processes> <seed>")
		os.Exit(2)
	}
	dir, seed := os.Args[1], number(os.Args[3])
	if len(os.Args) == 5 {
		w := &worker{dir: fmt.Sprintf("%s/w%d", dir, number(os.Args[4])), common: dir + "/common", strip: len(dir) + 1,
			rng: rand.New(rand.NewPCG(uint64(seed), uint64(number(os.Args[4]))))}
		w.run()
	}
	var list []*exec.Cmd
	for i := range number(os.Args[2]) {
		cmd := exec.Command(os.Args[0], append(os.Args[1:], strconv.Itoa(i))...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		try(cmd.Start())
		list = append(list, cmd)
	}
	for _, cmd := range list {
		try(cmd.Wait())
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	try(err)
	return n
}

func try(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		fmt.Fprintf(os.Stderr, "crash: line %d: %v\n", line, err)
		os.Exit(1)
	}
}

type worker struct {
	dir, common string
	strip       int
	rng         *rand.Rand
	files       map[string][]byte
	next        int
}

func (w *worker) run() {
	try(os.MkdirAll(w.common, 0o777))
	if old, err := os.ReadDir(w.dir); err == nil { // of an earlier crash
		for _, e := range old {
			w.say("m", w.dir+"/"+e.Name())
		}
		try(os.RemoveAll(w.dir))
	}
	try(os.MkdirAll(w.dir, 0o755))
	syncDir(w.dir[:w.strip])
	w.files = map[string][]byte{}
	for {
		w.step()
	}
}

// say makes a claim.
func (w *worker) say(what, path string, contents ...[]byte) {
	line := what + " " + path[w.strip:]
	for _, p := range contents {
		line += fmt.Sprintf(" %d %08x", len(p), crc32.ChecksumIEEE(p))
	}
	_, err := io.WriteString(os.Stdout, line+"\n")
	try(err)
}

func (w *worker) bytes(most int) []byte {
	p := make([]byte, 1+w.rng.IntN(most))
	x := w.rng.Uint32()
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

// fresh is a name that was not used yet.
func (w *worker) fresh() string {
	w.next++
	return fmt.Sprintf("%s/f%d%s", w.dir, w.next, strings.Repeat("x", w.rng.IntN(40)))
}

// any is one of the files, "" if there is none.
func (w *worker) any() string {
	n := len(w.files)
	if n == 0 {
		return ""
	}
	n = w.rng.IntN(n)
	for p := range w.files {
		if n--; n < 0 {
			return p
		}
	}
	return ""
}

func (w *worker) step() {
	p := w.any()
	if p == "" || w.rng.IntN(8) == 0 && len(w.files) < 60 {
		w.create()
		return
	}
	switch w.rng.IntN(11) {
	case 0:
		w.edit(p, func(f *os.File, old []byte) []byte { // append
			add := w.bytes(20_000)
			_, err := f.WriteAt(add, int64(len(old)))
			try(err)
			return append(old, add...)
		})
	case 1:
		w.edit(p, func(f *os.File, old []byte) []byte { // overwrite
			add := w.bytes(5000)
			off := w.rng.IntN(len(old) + 3000)
			_, err := f.WriteAt(add, int64(off))
			try(err)
			old = grow(old, off+len(add))
			copy(old[off:], add)
			return old
		})
	case 2:
		w.edit(p, func(f *os.File, old []byte) []byte {
			size := w.rng.IntN(len(old) + 5000)
			try(f.Truncate(int64(size)))
			return grow(old, size)[:size]
		})
	case 3:
		w.edit(p, func(f *os.File, old []byte) []byte {
			return w.mapped(f, old)
		})
	case 4:
		w.edit(p, func(f *os.File, old []byte) []byte {
			const punchHole, keepSize = 2, 1
			off := w.rng.IntN(len(old) + 1)
			n := 1 + w.rng.IntN(20_000)
			err := syscall.Fallocate(int(f.Fd()), punchHole|keepSize, int64(off), int64(n))
			if err == syscall.EOPNOTSUPP {
				return old
			}
			try(err)
			clear(old[off:min(off+n, len(old))])
			return old
		})
	case 5:
		w.replace(p)
	case 6:
		w.remove(p)
	case 7:
		w.move(p)
	case 8:
		w.churn()
	case 9:
		w.dirs()
	case 10:
		w.edit(p, w.shift)
	}
}

// shift takes a piece out of a file, or makes room in it.
func (w *worker) shift(f *os.File, old []byte) []byte {
	const collapse, insert = 8, 0x20
	var st syscall.Stat_t
	try(syscall.Fstat(int(f.Fd()), &st))
	bs := int(st.Blksize)
	if len(old) <= bs {
		return old
	}
	off, mode := w.rng.IntN((len(old)-1)/bs)*bs, uint32(collapse)
	if w.rng.IntN(2) == 0 {
		mode = insert
	}
	err := syscall.Fallocate(int(f.Fd()), mode, int64(off), int64(bs))
	if err == syscall.EOPNOTSUPP {
		return old
	}
	if mode == collapse && off+bs >= len(old) {
		if err != syscall.EINVAL {
			try(fmt.Errorf("collapse of the end: %v", err))
		}
		return old
	}
	try(err)
	if mode == collapse {
		return slices.Delete(old, off, off+bs)
	}
	return slices.Insert(old, off, make([]byte, bs)...)
}

func grow(p []byte, n int) []byte {
	if n > len(p) {
		p = append(p, make([]byte, n-len(p))...)
	}
	return p
}

func (w *worker) create() {
	p := w.fresh()
	data := w.bytes(30_000)
	w.say("m", p)
	f, err := os.Create(p)
	try(err)
	_, err = f.Write(data)
	try(err)
	w.sync(f)
	try(f.Close())
	syncDir(w.dir)
	w.files[p] = data
	w.say("s", p, data)
}

// edit changes a file and makes it durable.
func (w *worker) edit(p string, change func(f *os.File, old []byte) []byte) {
	w.say("m", p)
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	try(err)
	w.files[p] = change(f, append([]byte(nil), w.files[p]...))
	if w.rng.IntN(4) == 0 { // not durable yet: nothing is claimed
		try(f.Close())
		return
	}
	w.sync(f)
	try(f.Close())
	w.say("s", p, w.files[p])
}

// mapped changes a file through a shared mapping.
func (w *worker) mapped(f *os.File, old []byte) []byte {
	if len(old) == 0 {
		return old
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, len(old), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	try(err)
	add := w.bytes(len(old))
	off := w.rng.IntN(len(old))
	copy(m[off:], add)
	copy(old[off:], add)
	try(syscall.Munmap(m))
	return old
}

// sync makes a file durable in one of the ways there are.
func (w *worker) sync(f *os.File) {
	switch w.rng.IntN(8) {
	case 0:
		syscall.Sync()
	case 1, 2, 3:
		try(syscall.Fdatasync(int(f.Fd())))
	default:
		try(f.Sync())
	}
}

func syncDir(dir string) {
	d, err := os.Open(dir)
	try(err)
	try(d.Sync())
	try(d.Close())
}

// replace is how editors save: a new file is renamed over the old one. Either is found after a crash, and never half of one.
func (w *worker) replace(p string) {
	old := w.files[p]
	data := w.bytes(30_000)
	w.settle(p)
	tmp := p + ".new"
	w.say("m", tmp)
	f, err := os.Create(tmp)
	try(err)
	_, err = f.Write(data)
	try(err)
	w.sync(f)
	try(f.Close())
	w.say("o", p, old, data)
	try(os.Rename(tmp, p))
	w.files[p] = data
	if w.rng.IntN(3) == 0 {
		return
	}
	syncDir(w.dir)
	w.say("s", p, data)
	w.say("d", tmp)
}

// settle makes a file and its name durable if its last change was not.
func (w *worker) settle(p string) {
	f, err := os.Open(p)
	try(err)
	try(f.Sync())
	try(f.Close())
	syncDir(w.dir)
	w.say("s", p, w.files[p])
}

func (w *worker) remove(p string) {
	w.say("m", p)
	f, err := os.Open(p)
	try(err)
	try(os.Remove(p))
	delete(w.files, p)
	syncDir(w.dir)
	w.say("d", p)
	try(f.Close()) // until here the file was an orphan
}

// move gives a file another name: by rename, or by a second link and the removal of the first.
func (w *worker) move(p string) {
	q := w.fresh()
	w.settle(p)
	data := w.files[p]
	w.say("m", q)
	if w.rng.IntN(2) == 0 {
		try(os.Link(p, q))
		syncDir(w.dir)
		w.say("s", q, data)
		w.say("m", p)
		try(os.Remove(p))
	} else {
		w.say("m", p)
		try(os.Rename(p, q))
	}
	delete(w.files, p)
	w.files[q] = data
	syncDir(w.dir)
	w.say("s", q, data)
	w.say("d", p)
}

// churn works on common files without making anything durable.
func (w *worker) churn() {
	for range 1 + w.rng.IntN(10) {
		p := fmt.Sprintf("%s/c%d", w.common, w.rng.IntN(50))
		switch w.rng.IntN(6) {
		case 0:
			_ = os.WriteFile(p, w.bytes(50_000), 0o644)
		case 1:
			_ = os.Remove(p)
		case 2:
			_ = os.Rename(p, fmt.Sprintf("%s/c%d", w.common, w.rng.IntN(50)))
		case 3:
			_ = os.Link(p, fmt.Sprintf("%s/c%d", w.common, w.rng.IntN(50)))
		case 4:
			_ = os.Truncate(p, int64(w.rng.IntN(100_000)))
		case 5:
			_ = os.Symlink(strings.Repeat("target/", 1+w.rng.IntN(40)), p)
		}
	}
}

// dirs makes and removes a small tree.
func (w *worker) dirs() {
	d := fmt.Sprintf("%s/d%d", w.common, w.rng.IntN(20))
	if os.Mkdir(d, 0o755) == nil {
		for i := range w.rng.IntN(40) {
			_ = os.WriteFile(fmt.Sprintf("%s/%d", d, i), w.bytes(200), 0o600)
		}
		return
	}
	_ = os.RemoveAll(d)
}
