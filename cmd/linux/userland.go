package main

import (
	"embed"
	"io"
)

//go:embed all:root
var rootDir embed.FS

// userland is the built-in root file system, a plain cpio archive (newc) whose file contents begin at multiples of 4096.
// It is nil if the program was built without it. Reading it copies nothing but what is read.
func userland() *io.SectionReader {
	f, err := rootDir.Open("root/root.cpio")
	if err != nil {
		return nil
	}
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	return io.NewSectionReader(f.(io.ReaderAt), 0, fi.Size())
}
