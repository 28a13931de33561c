package main

import (
	"embed"
	"io"
)

//go:embed all:root
var rootDir embed.FS

// userland is the built-in root file system, a cpio archive (newc) that is not compressed, so that a start spends no time on
// it. It is nil if the program was built without it. Nothing is copied but what is read.
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
