// Mkroot packs the built-in root file system: the userland's busybox with a link for each command, device nodes and the
// few files in /etc that programs look for, as a cpio archive (newc, not compressed: it is read at every start).
//
//	mkroot -busybox build/busybox -o cmd/linux/root/root.cpio
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// node is one entry of the archive.
type node struct {
	name string
	mode uint32
	dev  [2]uint32 // of device nodes
	data []byte    // contents or link target
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mkroot: ")
	busybox := flag.String("busybox", "", "the userland's executable")
	out := flag.String("o", "", "the archive to write")
	flag.Parse()
	if *busybox == "" || *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	program, err := os.ReadFile(*busybox)
	if err != nil {
		log.Fatal(err)
	}
	list, err := exec.Command(*busybox).Output()
	if err != nil {
		log.Fatalf("listing the commands: %v", err)
	}
	nodes := tree(program, strings.Fields(string(list)))

	// A half-written archive must never be taken for a whole one.
	tmp := *out + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		log.Fatal(err)
	}
	w := bufio.NewWriter(f)
	err = write(w, nodes)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(tmp, *out)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// files are the text files of the root.
var files = []struct{ name, text string }{
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
	{"etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\ndisk:x:6:\nusers:x:100:\nnogroup:x:65534:\n"},
	{"etc/shadow", "root::19000:0:99999:7:::\n"},
	{"etc/hostname", "uml\n"},
	{"etc/hosts", "127.0.0.1\tlocalhost uml\n::1\tlocalhost\n"},
	{"etc/fstab", "# device\tdirectory\ttype\toptions\n"},
	{"etc/profile", "export PATH=/sbin:/bin:/usr/sbin:/usr/bin\n"},
	{"etc/os-release", "ID=uml\nNAME=\"User Mode Linux built-in root\"\nPRETTY_NAME=\"User Mode Linux built-in root\"\n"},
	{"etc/shells", "/bin/sh\n"},
}

var devices = []struct {
	name         string
	mode         uint32
	major, minor uint32
}{
	{"console", 0o600, 5, 1}, {"tty", 0o666, 5, 0}, {"tty0", 0o620, 4, 0}, {"ttyS0", 0o620, 4, 64}, {"null", 0o666, 1, 3}, {"zero", 0o666, 1, 5},
	{"full", 0o666, 1, 7}, {"random", 0o666, 1, 8}, {"urandom", 0o666, 1, 9}, {"kmsg", 0o644, 1, 11}, {"ptmx", 0o666, 5, 2},
}

// tree is the root's contents. Directories come before what is in them.
func tree(program []byte, commands []string) []node {
	var t []node
	for _, d := range []string{".", "bin", "dev", "dev/pts", "dev/shm", "etc", "mnt", "proc", "run", "sbin", "sys", "usr", "var"} {
		t = append(t, node{name: d, mode: unix.S_IFDIR | 0o755})
	}
	t = append(t, node{name: "root", mode: unix.S_IFDIR | 0o700}, node{name: "tmp", mode: unix.S_IFDIR | 0o1777})
	for _, l := range [][2]string{{"init", "bin/busybox"}, {"usr/bin", "../bin"}, {"usr/sbin", "../sbin"}, {"var/run", "../run"}, {"var/tmp", "../tmp"}, {"etc/mtab", "/proc/self/mounts"}} {
		t = append(t, node{name: l[0], mode: unix.S_IFLNK | 0o777, data: []byte(l[1])})
	}
	t = append(t, node{name: "bin/busybox", mode: unix.S_IFREG | 0o755, data: program})
	system := map[string]bool{"init": true, "halt": true, "poweroff": true, "reboot": true}
	for _, c := range commands {
		n := node{name: "bin/" + c, mode: unix.S_IFLNK | 0o777, data: []byte("busybox")}
		if system[c] {
			n.name, n.data = "sbin/"+c, []byte("../bin/busybox")
		}
		t = append(t, n)
	}
	for _, f := range files {
		mode := uint32(0o644)
		if f.name == "etc/shadow" {
			mode = 0o600
		}
		t = append(t, node{name: f.name, mode: unix.S_IFREG | mode, data: []byte(f.text)})
	}
	for _, d := range devices {
		t = append(t, node{name: "dev/" + d.name, mode: unix.S_IFCHR | d.mode, dev: [2]uint32{d.major, d.minor}})
	}
	return t
}

// write writes the archive. Everything belongs to root and has time 0, so that the same input gives the same bytes.
func write(w io.Writer, nodes []node) error {
	off := 0
	put := func(p []byte) error {
		n, err := w.Write(p)
		off += n
		return err
	}
	pad := func() error { return put(make([]byte, -off&3)) }
	for i, n := range append(nodes, node{name: "TRAILER!!!"}) {
		nlink := 1
		if n.mode&unix.S_IFMT == unix.S_IFDIR {
			nlink = 2
		}
		ino := i + 1
		if n.name == "TRAILER!!!" {
			ino = 0
		}
		h := "070701"
		for _, v := range []uint32{uint32(ino), n.mode, 0, 0, uint32(nlink), 0, uint32(len(n.data)), 0, 0, n.dev[0], n.dev[1], uint32(len(n.name) + 1), 0} {
			h += fmt.Sprintf("%08X", v)
		}
		for _, step := range []func() error{
			func() error { return put([]byte(h + n.name + "\x00")) }, pad,
			func() error { return put(n.data) }, pad,
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}
